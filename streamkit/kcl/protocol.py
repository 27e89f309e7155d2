"""The multi-language protocol of the Kinesis Client Library 2 and 3: lines of JSON, and nothing else here. It is pure.

| the daemon says | this process answers |
|---|---|
| initialize, leaseLost                            | status |
| processRecords, shutdownRequested, shardEnded    | checkpoint, any number of times, and then status |
| checkpoint, with an ``error`` or without         | it is the answer to a checkpoint |

The daemon waits for each status, so it never says anything before the last thing is answered.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec

from ..errors import StreamkitError

__all__ = [
    "Checkpointed",
    "Initialize",
    "LeaseLost",
    "Message",
    "Position",
    "ProcessRecords",
    "ProtocolError",
    "Received",
    "ShardEnded",
    "ShutdownRequested",
    "checkpoint",
    "message",
    "status",
]


class ProtocolError(StreamkitError):
    """What the daemon said is not what it says here. The message holds nothing of a record."""


class Position(NamedTuple):
    """Where a record is in its shard. Positions compare as the daemon's do: as numbers."""

    sequence_number: int
    sub_sequence_number: int


_SequenceNumber = Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{1,128}\Z")]
_SubSequenceNumber = Annotated[int, msgspec.Meta(ge=0)]


class Received(msgspec.Struct, rename="camel"):
    """A record, with aggregates opened: the user records of one have its sequence number, and count up from 0."""

    sequence_number: _SequenceNumber
    #: Base64, as the daemon sends it.
    data: str | None = None
    partition_key: str | None = None
    #: Milliseconds since the epoch.
    approximate_arrival_timestamp: int | None = None
    sub_sequence_number: _SubSequenceNumber | None = None

    @property
    def position(self) -> Position:
        return Position(int(self.sequence_number), self.sub_sequence_number or 0)

    def __repr__(self) -> str:
        # Never the payload, nor the key, which can be somebody's.
        return f"<Received {self.sequence_number}:{self.sub_sequence_number or 0}>"


class _Said(msgspec.Struct, rename="camel", tag_field="action"):
    """Fields that are not known here are of a newer daemon, and left alone."""


class Initialize(_Said, tag="initialize"):
    """The first message: which shard this process is for. The position is the lease's, or a word such as ``TRIM_HORIZON``."""

    shard_id: Annotated[str, msgspec.Meta(min_length=1)]
    sequence_number: str | None = None
    sub_sequence_number: int | None = None


class ProcessRecords(_Said, tag="processRecords"):
    """The next records, in order: what one read of the shard brought, without what the lease's checkpoint has passed."""

    records: list[Received]
    millis_behind_latest: int | None = None


class LeaseLost(_Said, tag="leaseLost"):
    """Another worker has the shard, or may have it: nothing can be checkpointed any more."""


class ShardEnded(_Said, tag="shardEnded"):
    """There are no more records, and the end has to be checkpointed before the status: else the children never start."""


class ShutdownRequested(_Said, tag="shutdownRequested"):
    """The worker ends, or hands the shard over: the last moment for a checkpoint. ``leaseLost`` follows."""


class Checkpointed(_Said, tag="checkpoint"):
    """The answer to a checkpoint. ``error`` is the Java exception's name without its package; None where it was written."""

    sequence_number: str | None = None
    sub_sequence_number: int | None = None
    error: str | None = None


Message = Initialize | ProcessRecords | LeaseLost | ShardEnded | ShutdownRequested | Checkpointed


class _Action(msgspec.Struct):
    action: str


_ACTIONS = ("initialize", "processRecords", "leaseLost", "shardEnded", "shutdownRequested", "checkpoint")
_messages = msgspec.json.Decoder(Message)
_actions = msgspec.json.Decoder(_Action)


def message(line: bytes, number: int) -> Message:
    """What the daemon's line says; ``number`` is the line's, for an error. ProtocolError where it is no message."""
    try:
        return _messages.decode(line)
    except RecursionError:
        problem = "it is nested too deeply"
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        if not _is_utf8(line):
            problem = "it is not UTF-8: start the daemon's Java with -Dfile.encoding=UTF-8"
        elif _has_known_action(line):
            problem = str(error)
        else:
            # msgspec names places and types, but quotes an action that it does not know.
            problem = f"it has none of the actions {', '.join(_ACTIONS)}"
    raise ProtocolError(f"line {number} of the daemon ({len(line):,} bytes) is no message: {problem}")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _has_known_action(line: bytes) -> bool:
    """Whether it is JSON with an action that is known, or no JSON at all."""
    try:
        return _actions.decode(line).action in _ACTIONS
    except msgspec.ValidationError:
        return False
    except (msgspec.MsgspecError, RecursionError):
        return True


def status(said: Message) -> bytes:
    """The line that ends the answer to ``said``."""
    action = type(said).__struct_config__.tag
    return _line({"action": "status", "responseFor": action})


def checkpoint(position: Position | None) -> bytes:
    """The line that asks for a checkpoint at ``position``; None: at the end of the shard, once it has ended."""
    if position is None:
        return _line({"action": "checkpoint", "sequenceNumber": None, "subSequenceNumber": None})
    number, sub = position
    return _line({"action": "checkpoint", "sequenceNumber": str(number), "subSequenceNumber": sub})


def _line(said: dict[str, str | int | None]) -> bytes:
    # An empty line first, as the daemon expects: whatever else came to its pipe without an end of line is a line of its own.
    return b"\n" + msgspec.json.encode(said) + b"\n"

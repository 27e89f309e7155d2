"""One invocation of a chain, and the event that it comes as. ``encode`` and ``decode`` are pure.

    {"streamkit_hop": 1, "task": …, "chain": …, "hop": 7, "after": …, "copy": …, "started": …, "cursor": …}

``after`` is the ticket of the invocation before, by which the guard knows that this one follows it; ``copy`` tells the events of
two tries to invoke it. In the place of ``cursor`` stands ``claim`` where the cursor is in the claim store: a claim, as text.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ..errors import ConfigurationError, StreamkitError

__all__ = ["MARK", "Hop", "cursor_bytes", "decode", "encode", "is_hop"]

MARK = "streamkit_hop"
_VERSION = 1
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Hop(msgspec.Struct, frozen=True, kw_only=True):
    """See the module's docstring. ``number`` counts from 0; ``started`` is when the chain was, in seconds since the epoch."""

    task: _Name
    chain: _Name
    number: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = msgspec.field(name="hop")
    started: float
    after: Annotated[str, msgspec.Meta(max_length=300)] = ""
    copy: Annotated[str, msgspec.Meta(max_length=200)] = ""
    #: JSON.
    cursor: msgspec.Raw = msgspec.Raw(b"null")
    claim: str | None = None

    @property
    def key(self) -> str:
        """What the guard knows the chain by."""
        return msgspec.json.encode(["chain", self.task, self.chain]).decode()


_decode = msgspec.json.Decoder(Hop).decode


def is_hop(event: Any) -> bool:
    """Whether it is an event of a chain that is under way, and not one that starts a chain."""
    return isinstance(event, dict) and MARK in event


def cursor_bytes(cursor: Any, task: str) -> bytes:
    """The cursor's JSON. ConfigurationError where it has none."""
    try:
        encoded = msgspec.json.encode(cursor)
        # What can't be read back is no cursor: of a map with numbers for keys the next step would get texts.
        if msgspec.json.decode(encoded) is None and cursor is not None:
            raise TypeError("it reads back as null")
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise ConfigurationError(
            f"{task}: a cursor is JSON (objects, lists, texts, numbers, true, false, null), or Done(): "
            f"{type(cursor).__name__} is none ({type(error).__name__})"
        ) from None
    return encoded


def encode(hop: Hop) -> bytes:
    """The event, as Lambda is given it."""
    fields = msgspec.structs.asdict(hop)
    fields["hop"] = fields.pop("number")
    del fields["claim" if hop.claim is None else "cursor"]
    return msgspec.json.encode({MARK: _VERSION, **fields})


def decode(event: dict[str, Any], task: str) -> Hop:
    """The hop that an event is. StreamkitError, which never shows the cursor, where it is none of ``task``."""
    if event.get(MARK) != _VERSION or isinstance(event.get(MARK), bool):
        raise StreamkitError(f"{task}: the event is of another version of streamkit's hops; this one reads {_VERSION}")
    try:
        hop = _decode(msgspec.json.encode({key: value for key, value in event.items() if key != MARK}))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        raise StreamkitError(
            f"{task}: the event says that it is a hop of a chain, and is not one. Who starts a chain sends no {MARK}"
        ) from None
    if hop.task != task:
        raise StreamkitError(f"the event is a hop of the task {hop.task!r}, and this function runs {task!r}")
    return hop

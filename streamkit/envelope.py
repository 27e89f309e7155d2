"""What a retry queue and a dead-letter target hold: the record, whole, with where it came from and what happened to it.

Version 1 is JSON, ASCII only (SQS refuses some characters), and is marked by its first field:

    streamkit_envelope               1
    event_id                         of the record, the same through every retry and redrive
    source                           "kinesis", "sqs", "sns", "s3" or "logs": what first brought the record to streamkit
    processor                        the name of the processor that it failed in
    data                             the payload in base64; null where it could not be decoded
    undecoded                        what came in its place, as text; else null
    partition_key, explicit_hash_key, sequence_number, sub_sequence_number, shard_id, stream_arn
                                     its position in the stream; null where it never was in one
    approximate_arrival_timestamp    seconds since the epoch, or null
    attempts                         failed tries on the retry path so far; the stream's own try does not count
    failures                         the latest ten, oldest first: {attempt, type, message, time}, attempt as Record has it
    not_before                       seconds since the epoch before which it must not run, or null
    parked_at                        seconds since the epoch, where ``Park`` has sent it: when its id was added; else null
    redrives                         how often it was put back from the dead letters
    correlation                      ids to follow the event by: text to text

An event id has 1 to 1,024 characters and no control characters, attempts and redrives are from 0 to 2^53, and not_before and
parked_at lie before the year 10,000: any other envelope is at fault, and goes to the dead letters.

A message without the mark is a record whose data is its body. A version that this streamkit does not know is left where
it is. Fields may be added to version 1; a reader ignores those it does not know.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec

from .correlation.context import of
from .errors import DecodeError, Retry, UnknownVersion
from .reason import reason
from .record import Record, Source

__all__ = ["MARK", "VERSION", "Early", "Envelope", "Failure", "UnknownVersion", "open_envelope"]

MARK = "streamkit_envelope"
VERSION = 1
_MOST_FAILURES = 10

# Whoever may send to a queue can write anything into it. An event id goes into logs and write ids: one line, and not a long one.
_EventId = Annotated[str, msgspec.Meta(pattern=r"\A[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,1024}\Z")]
# A count from below zero, or a time that never comes, would go round in the retry queue for ever. One that no database takes
# would stop whoever puts letters back.
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_LATEST = 253_402_300_799  # The end of the year 9999, and of Python's own times.
_Time = Annotated[float, msgspec.Meta(le=_LATEST)]


class Early(Retry):
    """Received before its not-before time: it goes back for the rest of its delay, and this is no attempt."""


class Failure(msgspec.Struct, frozen=True):
    """One failed try: ``attempt`` as ``Record.attempt`` had it, ``time`` in ISO 8601, UTC."""

    attempt: int | None
    type: str
    message: str
    time: str


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """See the module's docstring for each field."""

    streamkit_envelope: int = VERSION
    event_id: _EventId
    source: Source
    processor: str
    data: bytes | None
    undecoded: str | None = None
    partition_key: str | None = None
    explicit_hash_key: str | None = None
    sequence_number: str | None = None
    sub_sequence_number: int | None = None
    shard_id: str | None = None
    stream_arn: str | None = None
    approximate_arrival_timestamp: float | None = None
    attempts: _Count = 0
    failures: tuple[Failure, ...] = ()
    not_before: _Time | None = None
    parked_at: _Time | None = None
    redrives: _Count = 0
    correlation: dict[str, str] = {}

    @classmethod
    def of(cls, record: Record, processor: str) -> Envelope:
        """The envelope of a record that nothing has happened to yet."""
        try:
            data, undecoded = record.data, None
        except DecodeError:
            data, undecoded = None, record.undecoded
        arrival = record.approximate_arrival_timestamp
        return cls(
            event_id=record.event_id,
            source=record.source,
            processor=processor,
            data=data,
            undecoded=undecoded,
            partition_key=record.partition_key,
            explicit_hash_key=record.explicit_hash_key,
            sequence_number=record.sequence_number,
            sub_sequence_number=record.sub_sequence_number,
            shard_id=record.shard_id,
            stream_arn=record.stream_arn,
            approximate_arrival_timestamp=None if arrival is None else arrival.timestamp(),
            correlation=_correlation_of(record),
        )

    def failed(self, record: Record, error: Exception, *, counts: bool) -> Envelope:
        """The envelope after one more failed try, which ``counts`` as an attempt on the retry path or does not."""
        failure = Failure(
            attempt=record.attempt,
            type=type(error).__name__,
            message=reason(error, record),
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        return msgspec.structs.replace(
            self,
            attempts=self.attempts + counts,
            failures=(*self.failures, failure)[-_MOST_FAILURES:],
            correlation=self.correlation | _correlation_of(record),
        )

    def delayed(self, seconds: float, longest: float) -> tuple[Envelope, float]:
        """The envelope that waits ``seconds``, and the delay to send it with: at most ``longest``, the queue's limit."""
        if seconds <= longest:
            return msgspec.structs.replace(self, not_before=None), seconds
        return msgspec.structs.replace(self, not_before=min(time.time() + seconds, _LATEST)), longest

    def put_back(self) -> Envelope:
        """The envelope that leaves the dead letters: with all its attempts before it again, and its failures kept."""
        return msgspec.structs.replace(self, attempts=0, not_before=None, parked_at=None, redrives=self.redrives + 1)

    def early_by(self) -> float:
        """Seconds until it may run; 0 when it may."""
        return max(0.0, self.not_before - time.time()) if self.not_before is not None else 0.0

    def encode(self) -> str:
        import json  # Only where a record failed: a good batch does not pay for it.

        fields = msgspec.to_builtins(self)
        body = json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
        if "\\ud" in body:
            # Perhaps a lone surrogate, which nobody can read back: better a "?" in a text than the record lost.
            readable = json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")
            body = json.dumps(json.loads(readable), ensure_ascii=True, separators=(",", ":"))
        return body


def _correlation_of(record: Record) -> dict[str, str]:
    """What a record is followed by, as far as it could not be told from the envelope again."""
    from .correlation.capture import captured  # Only where a record failed.

    return captured(of(record))


_read_mark = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read = msgspec.json.Decoder(Envelope).decode


def open_envelope(body: str) -> Envelope | None:
    """The envelope in a message's body; None where the body has no mark and is a record itself.

    Raises UnknownVersion, and DecodeError where the mark is there and the rest is not what version 1 says.
    """
    if MARK not in body:
        return None
    try:
        version: Any = msgspec.json.decode(_read_mark(body)[MARK])
    except RecursionError:
        raise DecodeError("the message is nested too deep to see whether it is an envelope") from None
    except (msgspec.MsgspecError, UnicodeError, KeyError):
        return None  # JSON of somebody's own, or none, that happens to hold the word.
    if version != VERSION or isinstance(version, bool):
        raise UnknownVersion(f"envelope version {str(version)[:20]}; this streamkit reads version {VERSION}: update it")
    try:
        return _read(body)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise DecodeError(f"an envelope of version {VERSION} with a fault: {error}") from None

"""The seam to a stream: its shards, and the records of each, a page at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

__all__ = ["Feed", "Page", "Position", "Shard", "Stream"]


class Shard(msgspec.Struct, frozen=True):
    """A shard of the stream. ``parents`` are those it came from: one after a split, two after a merge, as long as they
    are listed.
    """

    id: str
    parents: tuple[str, ...] = ()


class Position(msgspec.Struct, frozen=True):
    """Where to read from: a ``ShardIteratorType``, with the number that it is after or the time that it is at."""

    type: Literal["TRIM_HORIZON", "LATEST", "AT_TIMESTAMP", "AFTER_SEQUENCE_NUMBER"]
    sequence_number: int | None = None
    #: Seconds since the epoch.
    timestamp: float | None = None


class Page(msgspec.Struct, frozen=True):
    """What one read brought, in order.

    Each record is as Kinesis's JSON has it: ``SequenceNumber`` (decimal text), ``Data`` (base64 text),
    ``ApproximateArrivalTimestamp`` (seconds since the epoch, a number) and ``PartitionKey`` (text; empty or absent where
    the record was put without one).
    """

    records: Sequence[dict[str, Any]]
    #: Seconds between now and the newest record of the shard that was not read yet; 0 when all was read. None where the
    #: read brought no word of the stream, as that of a subscription does between two events.
    behind: float | None = 0.0
    #: The shard is closed, and this was the last of it.
    has_ended: bool = False
    #: When ``behind`` was so, in seconds since the epoch; None: when it was asked.
    as_of: float | None = None


class Feed(ABC):
    """The records of one shard, for one reader on one thread."""

    #: Seconds between two reads while it is behind, and after one that brought all there was. GetRecords is allowed 5 times a
    #: second a shard, over all consumers together: one that always polled so often would leave the others nothing. Lambda polls
    #: about once a second.
    between_reads: float = 0.2
    between_idle_reads: float = 1.0

    @abstractmethod
    def read(self, position: Position) -> Page:
        """The records from ``position`` on, as many as one read brings; none where there are none yet.

        ``position`` is where the reader has come to; a feed that knows its own way on (an iterator, a subscription) needs
        it only to begin and after an error. It returns at once or after a moment, never waiting for a record to arrive. After an
        error the next read begins at its ``position`` anew.
        """

    def close(self) -> None:
        """Release what the feed holds. A read that another thread is in ends soon."""
        return


class Stream(ABC):
    """A stream, as a runner sees it."""

    name: str

    @property
    @abstractmethod
    def arn(self) -> str:
        """The stream's ARN, asked for once."""

    @property
    @abstractmethod
    def event_source_arn(self) -> str:
        """What an event names: the stream's ARN, or its consumer's where the stream is read by enhanced fan-out."""

    @property
    @abstractmethod
    def retention(self) -> float:
        """Seconds for which the stream keeps a record, asked for once."""

    @abstractmethod
    def shards(self) -> list[Shard]:
        """The shards that hold records or may get some, closed ones included."""

    @abstractmethod
    def feed(self, shard_id: str) -> Feed:
        """A new feed of that shard."""

    @abstractmethod
    def may_pass(self, error: Exception) -> bool:
        """Whether waiting can mend what a read or ``shards`` has raised: a throttle, a time-out, an outage."""

    def is_throttle(self, error: Exception) -> bool:
        """Whether what a read has raised says that there are too many, and not that there is something wrong."""
        return False

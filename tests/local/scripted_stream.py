"""A stream whose reads are written down, and a clock that is moved by hand: for what no endpoint does on demand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pybase64

from streamkit.local.context import Clock
from streamkit.local.feed import Feed, Page, Position, Shard, Stream

__all__ = ["Hand", "ScriptedFeed", "ScriptedStream", "page"]

ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/s"

#: What a read does: brings a page, raises, or is called and then brings a page.
Read = Page | Exception | Callable[[], Page]


class Hand:
    """Both clocks of a reader, in seconds; they move when ``now`` is set."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.now)


def page(
    *numbers: int, at: float = 1_000_000_000.0, key: str = "key", data: bytes | None = None, **others: Any
) -> Page:
    """Records by their numbers, which are their data too where that is not given."""
    records = [
        {
            "SequenceNumber": str(number),
            "Data": pybase64.b64encode(str(number).encode() if data is None else data).decode(),
            "PartitionKey": key,
            "ApproximateArrivalTimestamp": at,
        }
        for number in numbers
    ]
    return Page(records, **others)


class ScriptedStream(Stream):
    """Each shard's reads in order; nothing comes after them. ``positions`` are those that a shard was read from."""

    name = "s"
    arn = event_source_arn = ARN
    retention = 86_400.0

    def __init__(self, reads_of: dict[str, list[Read]], parents: dict[str, tuple[str, ...]] | None = None) -> None:
        self.reads_of = reads_of
        self.parents = parents or {}
        self.positions: dict[str, list[Position]] = {shard_id: [] for shard_id in reads_of}

    def shards(self) -> list[Shard]:
        return [Shard(shard_id, self.parents.get(shard_id, ())) for shard_id in self.reads_of]

    def feed(self, shard_id: str) -> ScriptedFeed:
        return ScriptedFeed(self, shard_id)

    def may_pass(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError)


class ScriptedFeed(Feed):
    """The reads of one shard, which a new feed of it goes on with."""

    def __init__(self, stream: ScriptedStream, shard_id: str) -> None:
        self._stream = stream
        self._shard_id = shard_id

    def read(self, position: Position) -> Page:
        self._stream.positions.setdefault(self._shard_id, []).append(position)
        reads = self._stream.reads_of[self._shard_id]
        read: Read = reads.pop(0) if reads else Page([])
        if isinstance(read, Exception):
            raise read
        return read if isinstance(read, Page) else read()

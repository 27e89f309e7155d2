"""A stream's throughput from a short look at its end: pure arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

__all__ = ["Arrival", "Rate", "next_limit", "rate_of", "rest_after", "size_of"]

# What a look is to bring, and what it asks for before it knows how large records are: they have up to 10 MiB.
_WANTED_BYTES = 128 * 1024
_MOST_RECORDS = 200
_FIRST_LIMIT = 2
# What a shard takes of its writers, in bytes a second.
_MOST_WRITTEN = 1024 * 1024
# What reads may take of a shard's 2 MiB a second: a fiftieth, which is 10 MiB every 250 seconds.
_READ_SHARE = 2 * 1024 * 1024 / 50


class Arrival(msgspec.Struct, frozen=True):
    """A record: when Kinesis took it (seconds since the epoch), and the bytes of its data and its key."""

    at: float
    size: int


class Rate(msgspec.Struct, frozen=True):
    """Records and bytes a second. ``is_estimate``: the window held more than the look brought."""

    records: float
    bytes: float
    is_estimate: bool = False


def rate_of(arrivals: Sequence[Arrival], since: float, until: float, *, is_whole: bool) -> Rate:
    """The rate between two times, by the records that were read from the first on.

    ``is_whole``: there were no more of them. Otherwise the look ended with its last record, and so does the time that counts.
    """
    if not is_whole and arrivals:
        # Kinesis tells milliseconds.
        until = min(until, arrivals[-1].at)
    span = max(until - since, 0.001)
    if not is_whole and len(arrivals) == 1:
        # One alone may have come in the first moment: a shard takes no more than its limit.
        span = max(span, arrivals[0].size / _MOST_WRITTEN)
    return Rate(len(arrivals) / span, sum(one.size for one in arrivals) / span, not is_whole)


def next_limit(arrivals: Sequence[Arrival], before: int | None = None) -> int:
    """How many records the next look may ask for, after one that asked for ``before``; 2 at first.

    About 128 KiB of them, if they are as large as these; 200 at most, and 1 at least. It grows at most twofold, since a few small
    ones do not tell how large others are.
    """
    before = before or _FIRST_LIMIT
    if not arrivals:
        return before
    mean = max(1, sum(one.size for one in arrivals) // len(arrivals))
    return max(1, min(_MOST_RECORDS, before * 2, _WANTED_BYTES // mean))


def rest_after(size: int) -> float:
    """Seconds without a read after one of ``size`` bytes, so that reads take a fiftieth of what a shard gives its readers."""
    return size / _READ_SHARE


def size_of(record: Mapping[str, Any]) -> int:
    """The bytes of a record's data and key, which are what the shard's limits count."""
    return len(record["Data"]) + len(record["PartitionKey"].encode())

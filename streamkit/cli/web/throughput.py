"""A stream's throughput from a short look at its end: pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

__all__ = ["Arrival", "Rate", "next_limit", "rate_of"]

# What a look may bring, and what it asks for before it knows how large records are: they have up to 10 MiB.
_MOST_BYTES = 128 * 1024
_MOST_RECORDS = 200
_FIRST_LIMIT = 2
# Two records are the fewest that tell a rate when more are there.
_FEWEST_RECORDS = 2


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
    return Rate(len(arrivals) / span, sum(one.size for one in arrivals) / span, not is_whole)


def next_limit(arrivals: Sequence[Arrival], before: int | None = None) -> int:
    """How many records the next look may ask for, so that it brings about 128 KiB at most; 2 at first."""
    if not arrivals:
        return before or _FIRST_LIMIT
    mean = max(1, sum(one.size for one in arrivals) // len(arrivals))
    return max(_FEWEST_RECORDS, min(_MOST_RECORDS, _MOST_BYTES // mean))

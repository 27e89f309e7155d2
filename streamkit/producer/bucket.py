"""The write limits of a shard, kept by whoever writes."""

from __future__ import annotations

__all__ = ["BYTES_PER_SECOND", "RECORDS_PER_SECOND", "Bucket"]

BYTES_PER_SECOND = 1024 * 1024
"""What one shard takes in a second, partition keys included: 1 MiB (Kinesis Data Streams, Quotas and limits)."""

RECORDS_PER_SECOND = 1000
"""Kinesis records that one shard takes in a second; an aggregate is one (Kinesis Data Streams, Quotas and limits)."""

# Sums of fractions come out a little short of what was waited for.
_ROUNDING = 1e-3


class Bucket:
    """Two token buckets, of bytes and of records, each of which holds one second's worth and begins full.

    What is larger than a second's worth passes once the bucket is full, and leaves a debt. A rate of infinity is no limit.

    ``take`` belongs to the moment of the answer. When the shard took the records, between request and answer, nobody knows; its
    own bucket may have been full until the end, and then what would have come in meanwhile is lost to it. With one request at
    a time, counted at its answer, there is never more in this bucket than in that of the shard.
    """

    __slots__ = ("_at", "_bytes", "_bytes_per_second", "_records", "_records_per_second")

    def __init__(self, bytes_per_second: float, records_per_second: float, now: float) -> None:
        self._bytes_per_second, self._records_per_second = bytes_per_second, records_per_second
        self._bytes, self._records = bytes_per_second, records_per_second
        self._at = now

    def wait(self, size: int, count: int, now: float) -> float:
        """Seconds from ``now`` until ``count`` records of ``size`` bytes together may go; 0 where they may now."""
        self._fill(now)
        seconds = 0.0
        missing = min(size, self._bytes_per_second) - self._bytes
        if missing > _ROUNDING:
            seconds = missing / self._bytes_per_second
        missing = min(count, self._records_per_second) - self._records
        if missing > _ROUNDING:
            seconds = max(seconds, missing / self._records_per_second)
        return seconds

    def room(self, now: float) -> tuple[float, float]:
        """The bytes and the records that may go now."""
        self._fill(now)
        return self._bytes, self._records

    def take(self, size: int, count: int, now: float) -> None:
        self._fill(now)
        self._bytes -= size
        self._records -= count

    def _fill(self, now: float) -> None:
        seconds = now - self._at
        if seconds > 0:
            self._at = now
            self._bytes = min(self._bytes_per_second, self._bytes + seconds * self._bytes_per_second)
            self._records = min(self._records_per_second, self._records + seconds * self._records_per_second)

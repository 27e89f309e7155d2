"""What one Kinesis shard allows, as pure arithmetic over a clock that the caller reads (seconds, any beginning).

The figures are the service's (docs: "Quotas and limits" of Kinesis Data Streams). How it measures a second is not documented:
what stands here never allows more than the documented sentence does, but for the burst of one second's writes.
"""

from __future__ import annotations

from collections import deque

__all__ = [
    "ITERATORS_PER_SECOND",
    "READS_PER_SECOND",
    "READ_BYTES_PER_SECOND",
    "WRITE_BYTES_PER_SECOND",
    "WRITE_RECORDS_PER_SECOND",
    "CallLimit",
    "ReadLimit",
    "WriteLimit",
]

READS_PER_SECOND = 5
READ_BYTES_PER_SECOND = 2 * 1024 * 1024
WRITE_RECORDS_PER_SECOND = 1000
WRITE_BYTES_PER_SECOND = 1024 * 1024
ITERATORS_PER_SECOND = 5


class CallLimit:
    """At most ``most`` calls in any second. A call that was refused does not count."""

    def __init__(self, most: int) -> None:
        self._taken: deque[float] = deque(maxlen=most)
        self._most = most

    def is_open(self, now: float) -> bool:
        return len(self._taken) < self._most or now - self._taken[0] >= 1

    def take(self, now: float) -> bool:
        """Whether a call may go now; it is counted if it may."""
        if not self.is_open(now):
            return False
        self._taken.append(now)
        return True


class _Bucket:
    """``rate`` a second, saved up for a second at most; it can owe."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._left = rate
        self._at: float | None = None

    def left(self, now: float) -> float:
        if self._at is not None:
            self._left = min(self.rate, self._left + max(0.0, now - self._at) * self.rate)
        self._at = now
        return self._left

    def charge(self, now: float, amount: float) -> None:
        self._left = self.left(now) - amount


class ReadLimit:
    """Five GetRecords in any second and 2 MiB/s, over all readers.

    How many bytes a read brings is known afterwards only, so one always gets them, up to 10 MiB. When it took more than was
    left, nobody reads until all of it is made up for: after 10 MiB from a rested shard that is five seconds, as documented.
    """

    def __init__(self) -> None:
        self._calls = CallLimit(READS_PER_SECOND)
        self._bytes = _Bucket(READ_BYTES_PER_SECOND)
        self._closed_until = float("-inf")

    def take(self, now: float) -> bool:
        """Whether a read may go now; it is counted if it may."""
        return now >= self._closed_until and self._calls.take(now)

    def brought(self, now: float, size: int) -> None:
        """A read that had gone brought so many bytes."""
        self._bytes.charge(now, size)
        left = self._bytes.left(now)
        if left < 0:
            self._closed_until = now + (self._bytes.rate - left) / self._bytes.rate


class WriteLimit:
    """1,000 records/s and 1 MiB/s; what a shard did not use in the last second it still takes.

    A record of more than 1 MiB is taken by a shard that has rested for a second; the next ones wait till it is made up for.
    """

    def __init__(self) -> None:
        self._records = _Bucket(WRITE_RECORDS_PER_SECOND)
        self._bytes = _Bucket(WRITE_BYTES_PER_SECOND)

    def take(self, now: float, size: int) -> bool:
        """Whether a record of so many bytes (data and partition key) may be written now; it is counted if it may."""
        if self._records.left(now) < 1 or self._bytes.left(now) < min(size, self._bytes.rate):
            return False
        self.charge(now, size)
        return True

    def charge(self, now: float, size: int) -> None:
        """A record was written, whatever the limit says."""
        self._records.charge(now, 1)
        self._bytes.charge(now, size)

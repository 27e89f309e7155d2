"""What a limits proxy counts: for each shard, in all and second by second, and how long its endpoint took."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter, deque
from typing import Any

__all__ = ["Latencies", "ShardCounts", "ShardHistory"]

# Seconds and answers that are kept; what is older counts in the sums only.
_KEPT_SECONDS = 900
_KEPT_LATENCIES = 10_000


@dataclasses.dataclass
class ShardCounts:
    """``throttled_…`` are refused by the limits or by an injected throttle; bytes are of data and partition keys."""

    reads: int = 0
    throttled_reads: int = 0
    read_records: int = 0
    read_bytes: int = 0
    iterators: int = 0
    throttled_iterators: int = 0
    written_records: int = 0
    written_bytes: int = 0
    throttled_records: int = 0

    def add(self, other: ShardCounts) -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class ShardHistory:
    """One shard's counts, and those of each second in which something was asked of it."""

    def __init__(self) -> None:
        self.total = ShardCounts()
        self.seconds: dict[int, ShardCounts] = {}

    def count(self, second: int, **more: int) -> None:
        counts = ShardCounts(**more)
        self.total.add(counts)
        if second not in self.seconds:
            self.seconds[second] = ShardCounts()
            if len(self.seconds) > _KEPT_SECONDS:
                del self.seconds[next(iter(self.seconds))]
        self.seconds[second].add(counts)

    def report(self) -> dict[str, Any]:
        seconds = {str(second): _without_zeros(counts) for second, counts in self.seconds.items()}
        return {**dataclasses.asdict(self.total), "seconds": seconds}


class Latencies:
    """How long an endpoint took for each operation, in seconds."""

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()
        self._last: dict[str, deque[float]] = {}

    def add(self, operation: str, seconds: float) -> None:
        self._calls[operation] += 1
        self._last.setdefault(operation, deque(maxlen=_KEPT_LATENCIES)).append(seconds)

    def report(self) -> dict[str, Any]:
        """Calls of each operation, and p50, p99 and the longest of its last 10,000."""
        return {operation: {"calls": self._calls[operation], **_spread(last)} for operation, last in self._last.items()}


def _without_zeros(counts: ShardCounts) -> dict[str, int]:
    return {name: number for name, number in dataclasses.asdict(counts).items() if number}


def _spread(values: deque[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        name: round(ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)], 6)
        for name, part in (("p50", 0.5), ("p99", 0.99), ("longest", 1.0))
    }

"""Events into their streams, by a ``Producer`` each, and what each shard then holds."""

from __future__ import annotations

import contextlib
import math
import threading
from bisect import bisect_left, bisect_right
from functools import partial
from itertools import accumulate
from typing import Any, Self

from streamkit.errors import DeliveryError
from streamkit.producer import Producer, PutFuture

from .events import Put

__all__ = ["Publisher"]


class Publisher:
    """Publishes in the background, from the start of a ``with`` block; knows what each shard's records hold.

    The events are Kinesis records already, some of them aggregates, so the producers pack nothing; and the local Kinesis has no
    limits that they had to keep.
    """

    def __init__(self, kinesis: Any, puts: dict[str, list[Put]]) -> None:
        self._puts = puts
        unlimited = partial(
            Producer, client=kinesis, aggregate=False, bytes_per_second=math.inf, records_per_second=math.inf
        )
        self._producers = {stream: unlimited(stream) for stream in puts}
        self._lock = threading.Lock()
        self._left = sum(len(of_stream) for of_stream in puts.values())
        self._error: DeliveryError | None = None
        #: Shard → its records as (sequence number, events in it).
        self._records: dict[tuple[str, str], list[tuple[int, int]]] = {}
        self._last: dict[tuple[str, str], int] = {}
        self.published = 0

    def __enter__(self) -> Self:
        for stream, puts in self._puts.items():
            for put in puts:
                future = self._producers[stream].put(put.data, partition_key=put.key)
                future.add_done_callback(partial(self._landed, stream, put.events))
        return self

    def __exit__(self, *_: object) -> None:
        for producer in self._producers.values():
            # What is left when the block ends early is not wanted any more.
            with contextlib.suppress(DeliveryError):
                producer.close(0)

    def is_done(self) -> bool:
        """Whether all is published; raises what went wrong."""
        with self._lock:
            if self._error is not None:
                raise self._error
            return self._left == 0

    def last(self) -> dict[tuple[str, str], int]:
        """The last sequence number so far of each stream's shards."""
        with self._lock:
            return dict(self._last)

    def shards(self) -> dict[tuple[str, str], Shard]:
        """What was put, by stream and shard id."""
        with self._lock:
            return {shard: Shard(records) for shard, records in self._records.items()}

    def _landed(self, stream: str, events: int, future: PutFuture) -> None:
        with self._lock:
            try:
                receipt = future.result(0)
            except DeliveryError as error:
                self._error = error
                return
            shard, number = (stream, receipt.shard_id), int(receipt.sequence_number)
            self._records.setdefault(shard, []).append((number, events))
            self._last[shard] = max(number, self._last.get(shard, 0))
            self.published += events
            self._left -= 1


class Shard:
    """How many events the records of a shard hold, by their sequence numbers."""

    def __init__(self, records: list[tuple[int, int]]) -> None:
        records = sorted(records)
        self._numbers = [number for number, _ in records]
        self._events = [0, *accumulate(events for _, events in records)]

    def events(self, first: int, last: int) -> int:
        """How many events lie between two sequence numbers, both included."""
        return self._events[bisect_right(self._numbers, last)] - self._events[bisect_left(self._numbers, first)]

    def distinct(self, ranges: list[tuple[int, int]]) -> int:
        """How many events lie in any of the ranges."""
        total, reached = 0, -1
        for first, last in sorted(ranges):
            total += self.events(max(first, reached + 1), last) if last > reached else 0
            reached = max(reached, last)
        return total

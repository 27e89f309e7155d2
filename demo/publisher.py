"""Events into their streams: in the order of each key, five hundred records a request, a thread for each shard."""

from __future__ import annotations

import hashlib
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate
from typing import Any, Self

from .events import Put

__all__ = ["Publisher"]

# PutRecords' limits are 500 records and 5 MiB, partition keys included.
_REQUEST_RECORDS = 500
_REQUEST_BYTES = 4_500_000
_LONGEST_PAUSE = 2.0


class Publisher:
    """Publishes in the background, from the start of a ``with`` block; knows what each shard's records hold.

    A shard's records are put by one thread, a request after the other: that keeps the order of a key, and moto, when it is
    given two requests for one shard at once, loses records. Of a request that Kinesis takes in part, the rest is put again before
    anything that follows it. (Within such a request a later record of a key may then come before an earlier one: who can't
    have that puts one record of a key in a request.)
    """

    def __init__(self, kinesis: Any, puts: dict[str, list[Put]]) -> None:
        self._kinesis = kinesis
        self._stopped = threading.Event()
        self._lanes = [(stream, lane) for stream, all_ in puts.items() for lane in self._by_shard(stream, all_)]
        self._pool = ThreadPoolExecutor(len(self._lanes), "publisher")
        self._futures: list[Future[None]] = []
        self._lock = threading.Lock()
        #: Shard → its records as (sequence number, events in it).
        self._records: dict[tuple[str, str], list[tuple[int, int]]] = {}
        self.published = 0

    def __enter__(self) -> Self:
        self._futures = [self._pool.submit(self._publish, stream, lane) for stream, lane in self._lanes]
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def is_done(self) -> bool:
        """Whether all is published; raises what went wrong."""
        for future in self._futures:
            if future.done():
                future.result()
        return all(future.done() for future in self._futures)

    def last(self) -> dict[tuple[str, str], int]:
        """The last sequence number so far of each stream's shards."""
        with self._lock:
            return {shard: records[-1][0] for shard, records in self._records.items()}

    def shards(self) -> dict[tuple[str, str], Shard]:
        """What was put, by stream and shard id."""
        with self._lock:
            return {shard: Shard(records) for shard, records in self._records.items()}

    def _by_shard(self, stream: str, puts: Sequence[Put]) -> list[list[Put]]:
        shards = self._kinesis.list_shards(StreamName=stream)["Shards"]
        ends = sorted(int(shard["HashKeyRange"]["EndingHashKey"]) for shard in shards)
        lanes: list[list[Put]] = [[] for _ in ends]
        for put in puts:
            hash_key = int(hashlib.md5(put.key.encode(), usedforsecurity=False).hexdigest(), 16)
            lanes[bisect_left(ends, hash_key)].append(put)
        return [lane for lane in lanes if lane]

    def _publish(self, stream: str, lane: Sequence[Put]) -> None:
        for request in _requests(lane):
            left, pause = request, 0.05
            while left and not self._stopped.is_set():
                left = self._put(stream, left)
                if left:
                    self._stopped.wait(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)

    def _put(self, stream: str, request: list[Put]) -> list[Put]:
        """One request: what Kinesis did not take."""
        answer = self._kinesis.put_records(
            StreamName=stream, Records=[{"Data": put.data, "PartitionKey": put.key} for put in request]
        )
        refused = []
        with self._lock:
            for put, result in zip(request, answer["Records"], strict=True):
                if "ErrorCode" in result:
                    refused.append(put)
                else:
                    shard = self._records.setdefault((stream, result["ShardId"]), [])
                    shard.append((int(result["SequenceNumber"]), put.events))
                    self.published += put.events
        return refused


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


def _requests(puts: Sequence[Put]) -> Iterator[list[Put]]:
    request: list[Put] = []
    size = 0
    for put in puts:
        bytes_ = len(put.data) + len(put.key.encode())
        if request and (len(request) == _REQUEST_RECORDS or size + bytes_ > _REQUEST_BYTES):
            yield request
            request, size = [], 0
        request.append(put)
        size += bytes_
    if request:
        yield request

"""Puts Kinesis records, a request at a time, with the faults that a producer meets."""

from __future__ import annotations

from typing import Any

from .faults import Faults
from .plan import SHARDS, STREAMS, Put
from .worker import stream_name

__all__ = ["Producer"]

_REQUEST = 50


class Producer:
    """What was refused is put again, and so is all of a request whose answer was lost: its records are there twice then."""

    def __init__(self, kinesis: Any, faults: Faults) -> None:
        self._kinesis = kinesis
        self._faults = faults
        self._waiting: dict[str, list[Put]] = {stream: [] for stream in STREAMS}
        self._last: dict[str, dict[str, int]] = {stream: {} for stream in STREAMS}
        #: Records that were put, and are there.
        self.records = 0

    def last(self, stream: str) -> dict[str, int]:
        """The last sequence number of each shard of a stream."""
        return self._last[stream]

    def put(self, put: Put) -> None:
        waiting = self._waiting[put.stream]
        waiting.append(put)
        if len(waiting) >= _REQUEST:
            self._send(put.stream)

    def flush(self) -> None:
        for stream in STREAMS:
            self._send(stream)

    def _send(self, stream: str) -> None:
        puts, self._waiting[stream] = self._waiting[stream], []
        while puts:
            refused = [put for put in puts if self._faults.happens("a record is refused by PutRecords")]
            self._request(stream, [put for put in puts if put not in refused])
            puts = refused

    def _request(self, stream: str, puts: list[Put]) -> None:
        if not puts:
            return
        entries = [{"Data": put.data, "PartitionKey": put.key, "ExplicitHashKey": _hash_key(put.shard)} for put in puts]
        times = 2 if self._faults.happens("PutRecords' answer is lost, and it is put again") else 1
        for _ in range(times):
            answer = self._kinesis.put_records(StreamName=stream_name(stream), Records=entries)
            for result in answer["Records"]:
                self._last[stream][result["ShardId"]] = int(result["SequenceNumber"])
        self.records += sum(put.records for put in puts)


def _hash_key(shard: int) -> str:
    return str((2 * shard + 1) * 2**128 // (2 * SHARDS))

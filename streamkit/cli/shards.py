"""The shards of a stream, and one's records a read at a time, for commands that only look."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from .connection import error_code, is_passing

__all__ = ["ShardCursor", "StreamShard", "arrival_of", "shards_of"]

# GetRecords: 5 a second a shard, over all consumers together.
_BETWEEN_READS = 0.2
_BETWEEN_IDLE_READS = 1.0
_LONGEST_BACKOFF = 10.0


class StreamShard(msgspec.Struct, frozen=True):
    """``parents`` are those that the stream still lists. A closed shard takes no new records."""

    id: str
    parents: tuple[str, ...]
    is_closed: bool


def shards_of(client: Any, stream: str) -> dict[str, StreamShard]:
    """Every shard that holds records or may get some, by its id."""
    listed: list[dict[str, Any]] = []
    arguments: dict[str, Any] = {"StreamName": stream}
    while arguments:
        answer = client.list_shards(**arguments)
        listed += answer["Shards"]
        arguments = {"NextToken": answer["NextToken"]} if answer.get("NextToken") else {}
    ids = {shard["ShardId"] for shard in listed}
    return {
        shard["ShardId"]: StreamShard(
            shard["ShardId"],
            tuple(shard[parent] for parent in ("ParentShardId", "AdjacentParentShardId") if shard.get(parent) in ids),
            "EndingSequenceNumber" in shard["SequenceNumberRange"],
        )
        for shard in listed
    }


def arrival_of(record: Any) -> float:
    """When Kinesis took the record: seconds since the epoch."""
    arrival: float = record["ApproximateArrivalTimestamp"].timestamp()
    return arrival


class ShardCursor:
    """Reads a shard from ``start`` on: the arguments of GetShardIterator beside the stream's name and the shard's id."""

    def __init__(self, client: Any, stream: str, shard: StreamShard, start: dict[str, Any]) -> None:
        self.shard = shard
        #: The last read found nothing more to read, for now.
        self.is_caught_up = False
        #: The shard is closed, and all of it was read.
        self.has_ended = False
        #: When to read next, by ``time.monotonic()``.
        self.next_read = 0.0
        #: Seconds behind the newest record, as the last read told.
        self.behind = 0.0
        self._client = client
        self._where = {"StreamName": stream, "ShardId": shard.id}
        self._start = start
        self._iterator: str | None = None
        self._failures = 0

    def read(self, limit: int = 1000) -> list[Any]:
        """The next records; none where there are none yet, or where it has to wait for its turn."""
        try:
            if self._iterator is None:
                asked_at = time.time()
                self._iterator = self._client.get_shard_iterator(**self._where, **self._start)["ShardIterator"]
                if self._start["ShardIteratorType"] == "LATEST":
                    # An iterator lives for five minutes: the next one has to begin where this one does.
                    self._start = {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": asked_at}
            answer = self._client.get_records(ShardIterator=self._iterator, Limit=limit)
        except Exception as error:
            if error_code(error) == "ExpiredIteratorException":
                self._iterator = None
                return []
            if not is_passing(error):
                raise
            self._failures += 1
            backoff = min(_LONGEST_BACKOFF, _BETWEEN_READS * 2.0 ** min(self._failures, 20))
            self.next_read = time.monotonic() + backoff
            return []
        self._failures = 0
        records: list[Any] = answer["Records"]
        self._iterator = answer.get("NextShardIterator")
        self.behind = answer.get("MillisBehindLatest", 0) / 1000
        self.is_caught_up = not records and not self.behind
        self.has_ended = self._iterator is None or (self.shard.is_closed and self.is_caught_up)
        if records:
            self._start = {
                "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                "StartingSequenceNumber": records[-1]["SequenceNumber"],
            }
        self.next_read = time.monotonic() + (_BETWEEN_IDLE_READS if self.is_caught_up else _BETWEEN_READS)
        return records

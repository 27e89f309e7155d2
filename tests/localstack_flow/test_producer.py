"""A producer under load, while the shards of its stream are split and merged."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from streamkit.kpl import deaggregate
from streamkit.producer import Producer, PutFuture
from streamkit.producer.shards import HASH_KEYS, ShardMap, hash_of

from .reader import create_stream

KEYS = [f"key-{n}" for n in range(40)]


class Load(threading.Thread):
    """Puts a record of each key in turn, until it is told to stop."""

    def __init__(self, producer: Producer, pause: float) -> None:
        super().__init__(name="load")
        self._producer, self._pause = producer, pause
        self._stopping = threading.Event()
        self.futures: dict[tuple[str, int], PutFuture] = {}
        self.rounds = 0

    def run(self) -> None:
        while not self._stopping.wait(self._pause):
            for key in KEYS:
                self.futures[(key, self.rounds)] = self._producer.put(b"%d" % self.rounds, partition_key=key)
            self.rounds += 1

    def stop(self) -> None:
        self._stopping.set()
        self.join()


@pytest.fixture(params=[True, False], ids=["aggregates", "plain"])
def aggregate(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def stream(kinesis: Any) -> str:
    return create_stream(kinesis, shards=2)


def open_shards(kinesis: Any, stream: str) -> ShardMap:
    kinesis.get_waiter("stream_exists").wait(StreamName=stream, WaiterConfig={"Delay": 1})
    return ShardMap.of_answer(kinesis.list_shards(StreamName=stream)["Shards"])


def user_records(kinesis: Any, stream: str, shard_id: str) -> Iterator[tuple[str, int | None, str, bytes]]:
    """All of a closed or idle shard: (sequence number, sub-sequence number, key, data)."""
    iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON")
    iterator = iterator["ShardIterator"]
    empty = 0
    while iterator and empty < 3:
        answer = kinesis.get_records(ShardIterator=iterator, Limit=10_000)
        for record in answer["Records"]:
            users = deaggregate(record["Data"])
            if users is None:
                yield record["SequenceNumber"], None, record["PartitionKey"], record["Data"]
            for user in users or ():
                assert user.partition_key is not None
                yield record["SequenceNumber"], user.sub_sequence_number, user.partition_key, user.data
        empty = 0 if answer["Records"] else empty + 1
        iterator = answer.get("NextShardIterator")


def test_each_key_stays_in_order_in_the_shard_it_belongs_to(
    kinesis: Any, localstack: Any, stream: str, aggregate: bool
) -> None:
    with Producer(stream, aggregate=aggregate, linger=0.05) as producer:
        # LocalStack's Kinesis takes about a thousand Kinesis records a second.
        load = Load(producer, pause=0.005 if aggregate else 0.1)
        load.start()

        def some_more_is_put() -> None:
            futures = [*load.futures.values()]
            rounds = load.rounds + 5
            while load.rounds < rounds:
                time.sleep(0.02)
            for future in futures:
                future.result(60)

        some_more_is_put()
        first = open_shards(kinesis, stream).open[0]
        kinesis.split_shard(
            StreamName=stream, ShardToSplit=first.shard_id, NewStartingHashKey=str((first.first + first.last) // 2)
        )
        some_more_is_put()
        one, two = open_shards(kinesis, stream).open[1:3]
        kinesis.merge_shards(StreamName=stream, ShardToMerge=one.shard_id, AdjacentShardToMerge=two.shard_id)
        some_more_is_put()
        last = open_shards(kinesis, stream).open[-1]
        kinesis.split_shard(
            StreamName=stream, ShardToSplit=last.shard_id, NewStartingHashKey=str((last.first + HASH_KEYS) // 2)
        )
        some_more_is_put()
        load.stop()

    shards = ShardMap.of_answer(kinesis.list_shards(StreamName=stream)["Shards"])
    places: dict[tuple[str, int], set[tuple[str, str, int | None]]] = defaultdict(set)
    seen: dict[str, list[int]] = defaultdict(list)
    # Children have higher numbers than their parents.
    for described in sorted(kinesis.list_shards(StreamName=stream)["Shards"], key=lambda shard: str(shard["ShardId"])):
        shard = shards.get(described["ShardId"])
        assert shard is not None
        for number, sub, key, data in user_records(kinesis, stream, shard.shard_id):
            if shard.covers(hash_of(key)):  # As the Kinesis Client Library, which drops strangers.
                seen[key].append(int(data))
                places[(key, int(data))].add((shard.shard_id, number, sub))
    assert {key: list(dict.fromkeys(numbers)) for key, numbers in seen.items()} == {
        key: list(range(load.rounds)) for key in KEYS
    }
    for name, future in load.futures.items():
        receipt = future.result(0)
        assert (receipt.shard_id, receipt.sequence_number, receipt.sub_sequence_number) in places[name]
    assert len({shard_id for found in places.values() for shard_id, _, _ in found}) == 7

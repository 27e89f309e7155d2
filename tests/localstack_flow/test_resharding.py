"""A stream whose shards are split and merged while one writes to it and another reads it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamkit.kpl import UserRecord, aggregate

from .reader import create_stream, of_key, reader, starts, wait_until

KEYS = [f"key-{n}" for n in range(24)]
# Events of a key that one Kinesis record holds.
AGGREGATED = 5


class Writer(threading.Thread):
    """Writes to every key in turn, an aggregate each, until it is told to stop; a key's are never in two requests at once."""

    def __init__(self, kinesis: Any, stream: str) -> None:
        super().__init__(name="writer")
        self._kinesis, self._stream = kinesis, stream
        self._stopping = threading.Event()
        self.rounds = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self._stopping.wait(0.1):
                first = self.rounds * AGGREGATED
                left = [(key, _aggregate(key, range(first, first + AGGREGATED))) for key in KEYS]
                while left:
                    left = self._put(left)
                self.rounds += 1
        except Exception as error:
            self.error = error

    def _put(self, puts: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """What the stream has not taken."""
        records = [{"PartitionKey": key, "Data": data} for key, data in puts]
        answer = self._kinesis.put_records(StreamName=self._stream, Records=records)
        return [put for put, result in zip(puts, answer["Records"], strict=True) if "ErrorCode" in result]

    def stop(self) -> None:
        self._stopping.set()
        self.join()


@pytest.fixture
def stream(kinesis: Any) -> str:
    return create_stream(kinesis, shards=2)


@pytest.fixture
def writer(kinesis: Any, stream: str) -> Iterator[Writer]:
    writer = Writer(kinesis, stream)
    writer.start()
    yield writer
    writer.stop()


@pytest.fixture(params=["polled", "by enhanced fan-out"])
def way(request: pytest.FixtureRequest, kinesis: Any, stream: str) -> tuple[str, ...]:
    """How the stream is read, as options of the command."""
    if request.param == "polled":
        return ()
    arn = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]
    consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="reader")["Consumer"]["ConsumerARN"]
    while kinesis.describe_stream_consumer(ConsumerARN=consumer)["ConsumerDescription"]["ConsumerStatus"] != "ACTIVE":
        time.sleep(0.1)
    return ("--consumer", consumer)


def test_each_key_stays_in_order_and_nothing_is_lost_or_repeated(
    kinesis: Any, stream: str, way: tuple[str, ...], writer: Writer, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"

    def some_is_written_and_read() -> None:
        rounds = writer.rounds + 10
        wait_until(lambda: writer.error is not None or writer.rounds >= rounds, process)
        assert writer.error is None
        wait_until(lambda: len(starts(journal)) >= rounds * len(KEYS) * AGGREGATED, process)

    def open_shards(count: int) -> list[dict[str, Any]]:
        """By their hash keys, once there are so many of them."""
        kinesis.get_waiter("stream_exists").wait(StreamName=stream, WaiterConfig={"Delay": 1})
        shards = kinesis.list_shards(StreamName=stream)["Shards"]
        open_ = [shard for shard in shards if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
        assert len(open_) == count
        return sorted(open_, key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))

    options = ("--checkpoints", str(tmp_path / "checkpoints.sqlite"), "--batch-size", "50", *way)
    with reader("journal", stream, journal, *options) as process:
        # The writer never waits for any of this.
        some_is_written_and_read()
        split, _ = open_shards(2)
        middle = (int(split["HashKeyRange"]["StartingHashKey"]) + int(split["HashKeyRange"]["EndingHashKey"])) // 2
        kinesis.split_shard(StreamName=stream, ShardToSplit=split["ShardId"], NewStartingHashKey=str(middle))
        _, left, right = open_shards(3)
        some_is_written_and_read()
        kinesis.merge_shards(StreamName=stream, ShardToMerge=left["ShardId"], AdjacentShardToMerge=right["ShardId"])
        open_shards(2)
        some_is_written_and_read()
        kinesis.update_shard_count(StreamName=stream, TargetShardCount=4, ScalingType="UNIFORM_SCALING")
        open_shards(4)
        some_is_written_and_read()
        writer.stop()
        events = writer.rounds * AGGREGATED
        wait_until(lambda: len(starts(journal)) >= events * len(KEYS), process)

    all_ = starts(journal)
    assert of_key(all_) == {key: list(range(events)) for key in KEYS}
    places: dict[str, list[int]] = {}
    for place, start in enumerate(all_):
        places.setdefault(start.shard_id, []).append(place)
    shards = kinesis.list_shards(StreamName=stream)["Shards"]
    assert places.keys() == {shard["ShardId"] for shard in shards}
    for shard in shards:
        for parent in ("ParentShardId", "AdjacentParentShardId"):
            if parent in shard:
                assert max(places[shard[parent]]) < min(places[shard["ShardId"]])


def _aggregate(key: str, numbers: range) -> bytes:
    return aggregate([UserRecord(json.dumps({"n": n}).encode(), key) for n in numbers])

"""The function that puts heartbeats, on moto; and the way of one through a stream to whoever is outside."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from limits_proxy import Faults, LimitsProxy

from processors.heartbeat import Heartbeat
from processors.heartbeat import handler as deployed
from streamkit import Record, RecordProcessor, heartbeat, lambda_handler
from streamkit.errors import ConfigurationError, StreamkitError
from streamkit.heartbeat import is_heartbeat, payload
from streamkit.testing import kinesis_event

from ..outside_server import OutsideServer


def kinesis(endpoint: str) -> Any:
    return boto3.client(
        "kinesis",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )


@pytest.fixture
def client(moto_endpoint: str) -> Iterator[Any]:
    made = kinesis(moto_endpoint)
    yield made
    made.close()


@pytest.fixture
def stream(client: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"beats-{uuid.uuid4().hex}"
    client.create_stream(StreamName=name, ShardCount=4)
    monkeypatch.setenv("STREAM", name)
    return name


def held(client: Any, stream: str) -> dict[str, list[dict[str, Any]]]:
    """The records of each shard."""
    found = {}
    for shard in client.list_shards(StreamName=stream)["Shards"]:
        iterator = client.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )
        found[shard["ShardId"]] = client.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    return found


def test_each_shard_gets_one(client: Any, stream: str) -> None:
    answer = Heartbeat(client, clock=lambda: 1_764_432_000.5)({}, None)

    assert answer == {"shards": 4}
    for records in held(client, stream).values():
        assert [record["Data"] for record in records] == [payload(1_764_432_000.5)]


def test_a_stream_may_be_named_by_its_arn(client: Any, stream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = client.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    monkeypatch.setenv("STREAM", summary["StreamARN"])

    assert Heartbeat(client)({}, None) == {"shards": 4}

    assert [len(records) for records in held(client, stream).values()] == [1] * 4


def test_a_stream_of_more_shards_than_a_page_and_a_request_take(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"beats-{uuid.uuid4().hex}"
    client.create_stream(StreamName=name, ShardCount=7)
    monkeypatch.setenv("STREAM", name)
    monkeypatch.setattr("processors.heartbeat._MOST_RECORDS", 3)

    assert Heartbeat(client)({}, None) == {"shards": 7}

    assert [len(records) for records in held(client, name).values()] == [1] * 7


def test_a_shard_that_is_closed_gets_none(client: Any, stream: str) -> None:
    shards = client.list_shards(StreamName=stream)["Shards"]
    client.merge_shards(StreamName=stream, ShardToMerge=shards[0]["ShardId"], AdjacentShardToMerge=shards[1]["ShardId"])

    assert Heartbeat(client)({}, None) == {"shards": 3}

    counts = [len(records) for records in held(client, stream).values()]
    assert sorted(counts) == [0, 0, 1, 1, 1]


def test_a_shard_that_throttles_is_tried_again(moto_endpoint: str, client: Any, stream: str) -> None:
    with LimitsProxy(moto_endpoint) as proxy:
        proxy.inject(Faults(throttle=1.0, operations=frozenset(["PutRecords"]), times=3))
        through = kinesis(proxy.endpoint)

        assert Heartbeat(through)({}, None) == {"shards": 4}

        assert proxy.injected() == {"throttle": 3}
        through.close()
    assert [len(records) for records in held(client, stream).values()] == [1] * 4


def test_a_shard_that_goes_on_throttling_makes_the_function_raise_in_time(
    moto_endpoint: str, client: Any, stream: str
) -> None:
    class Context:
        ends_at = time.monotonic() + 2

        def get_remaining_time_in_millis(self) -> float:
            return max(0.0, (self.ends_at - time.monotonic()) * 1000)

    with LimitsProxy(moto_endpoint) as proxy:
        proxy.inject(Faults(throttle=1.0, operations=frozenset(["PutRecords"])))
        through = kinesis(proxy.endpoint)
        context = Context()

        with pytest.raises(StreamkitError, match=rf"no heartbeat could be put into 4 of 4 shards of {stream}: shardId"):
            Heartbeat(through)({}, context)

        assert context.get_remaining_time_in_millis() > 0
        through.close()


def test_a_stream_that_is_not_named_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STREAM", raising=False)

    with pytest.raises(
        ConfigurationError, match=r"STREAM is not set; processors\.heartbeat needs a stream's name or ARN"
    ):
        deployed({}, None)


def test_what_it_puts_goes_the_whole_way_and_is_told_of_outside(
    client: Any, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_pulse", heartbeat._Pulse())
    seen: list[bytes] = []

    class Orders(RecordProcessor):
        name = "orders"

        def process(self, record: Record) -> None:
            seen.append(record.data)

    handler = lambda_handler(Orders)
    client.put_record(StreamName=stream, Data=b"an order", PartitionKey="k", ExplicitHashKey="0")
    Heartbeat(client)({}, None)

    with OutsideServer().running() as server:
        monkeypatch.setenv("HEARTBEAT_URL", f"{server.url}/orders-{{shard}}")
        for shard_id, records in held(client, stream).items():
            assert is_heartbeat(records[-1]["Data"])
            event = kinesis_event([record["Data"] for record in records], shard_id=shard_id)
            for raw, record in zip(event["Records"], records, strict=True):
                raw["kinesis"]["approximateArrivalTimestamp"] = record["ApproximateArrivalTimestamp"].timestamp()
            assert handler(event, None) == {"batchItemFailures": []}

        assert sorted(request.path for request in server.requests) == [
            f"/orders-shardId-{number:012}" for number in range(4)
        ]
    assert seen == [b"an order"]

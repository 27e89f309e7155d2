"""Producers and the write limits of a shard: the proxy of the local cloud, with its real clock, in front of moto."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
from limits_proxy import Faults, LimitsProxy

from streamkit.producer import Producer
from tests.local.test_runner import connect
from tests.producer.test_producer import stored

KEYS = 50
SHARDS = 2
KINDS = ("throttle", "error", "drop", "lose")


@pytest.fixture
def proxy(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LimitsProxy]:
    with LimitsProxy(moto_endpoint) as proxy:
        for name, value in {
            "AWS_ENDPOINT_URL": proxy.endpoint,
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def kinesis(moto_endpoint: str) -> Iterator[Any]:
    """Past the proxy, so that what is looked at does not count."""
    client = connect(moto_endpoint)
    yield client
    client.close()


@pytest.fixture
def stream(kinesis: Any) -> str:
    name = f"write-limits-{uuid.uuid4().hex}"
    kinesis.create_stream(StreamName=name, ShardCount=SHARDS)
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    return name


def numbers(kinesis: Any, stream: str) -> dict[str, list[int]]:
    """By key, each number once, where it came first."""
    found: dict[str, dict[int, None]] = defaultdict(dict)
    for records in stored(kinesis, stream).values():
        for _, _, key, data in records:
            found[key].setdefault(int(data[:8]))
    return {key: list(of_key) for key, of_key in found.items()}


def put_all(producer: Producer, count: int, size: int = 100, first: int = 0, name: str = "k", keys: int = KEYS) -> None:
    for n in range(first, first + count):
        producer.put(f"{n:08}".ljust(size).encode(), partition_key=f"{name}{n % keys}")


def expected(count: int, name: str = "k", keys: int = KEYS) -> dict[str, list[int]]:
    return {f"{name}{key}": list(range(key, count, keys)) for key in range(keys)}


@pytest.mark.parametrize(
    ("aggregate", "count", "size", "keys"),
    # More than two shards take at once, by bytes and by records. Of plain records a request has one of each key, so that many
    # keys are needed to be fast enough.
    [(True, 6_000, 1_000, KEYS), (False, 5_000, 20, 5_000)],
)
def test_one_producer_keeps_under_the_limits_by_itself(
    proxy: LimitsProxy, kinesis: Any, stream: str, aggregate: bool, count: int, size: int, keys: int
) -> None:
    with Producer(stream, aggregate=aggregate) as producer:
        put_all(producer, count, size, keys=keys)

    assert numbers(kinesis, stream) == expected(count, keys=keys)
    counts = proxy.counts(stream)
    assert len(counts) == SHARDS
    assert sum(one.throttled_records for one in counts.values()) == 0
    assert producer.last_refusal == ""
    # The limits are there, and it was the producer that kept them: what is over a second's bytes in one request is throttled.
    unbridled = connect(proxy.endpoint)
    unbridled.put_records(StreamName=stream, Records=[{"Data": b"x" * 900_000, "PartitionKey": "k0"}] * 5)
    assert proxy.total(stream).throttled_records > 0
    unbridled.close()


def test_producers_that_share_shards_are_throttled_and_lose_nothing_and_keep_their_order(
    proxy: LimitsProxy, kinesis: Any, stream: str
) -> None:
    names = ["a", "b", "c"]
    producers = [Producer(stream) for _ in names]
    for producer, name in zip(producers, names, strict=True):
        put_all(producer, 3_000, 1_000, name=name)
    for producer in producers:
        producer.close()

    assert numbers(kinesis, stream) == {key: of_key for name in names for key, of_key in expected(3_000, name).items()}
    assert proxy.total(stream).throttled_records > 0
    assert any("ProvisionedThroughputExceededException" in producer.last_refusal for producer in producers)


@pytest.mark.parametrize("aggregate", [True, False])
def test_an_endpoint_that_throttles_fails_and_drops_answers_costs_no_record_and_no_order(
    proxy: LimitsProxy, kinesis: Any, stream: str, aggregate: bool
) -> None:
    operations = frozenset(["PutRecords", "ListShards"])
    with Producer(stream, aggregate=aggregate, linger=0.02) as producer:
        for first in range(0, 1_000, 50):
            kind = KINDS[first // 50 % len(KINDS)]
            proxy.inject(Faults(**{kind: 0.8}, seed=first, times=2, operations=operations))
            put_all(producer, 50, first=first)
            producer.flush()

    assert numbers(kinesis, stream) == expected(1_000)
    assert set(proxy.injected()) == set(KINDS)

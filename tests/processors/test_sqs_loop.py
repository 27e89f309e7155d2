"""processors.sqs_loop, set up by its environment: messages of a queue become records of a stream."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from processors.sqs_loop import QueueProcessor
from streamkit import lambda_handler
from streamkit.cells.dynamodb import DynamoDbCells
from streamkit.errors import ConfigurationError
from streamkit.loops.function import LoopFunction, SupervisorFunction
from tests.sinks.aws_proxy import client_of

from ..lambda_server import LambdaServer

_names = (f"sqs-loop-{n}" for n in itertools.count())


@pytest.fixture
def server(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[LambdaServer]:
    """With a queue, a table and a stream of one name, which LOOP_NAME is too."""
    name = next(_names)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "nobody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    url = client_of(moto_endpoint, "sqs").create_queue(QueueName=name)["QueueUrl"]
    client_of(moto_endpoint, "kinesis").create_stream(StreamName=name, ShardCount=1)
    DynamoDbCells(name, client=client_of(moto_endpoint, "dynamodb")).create_table()
    for variable, value in {
        "LOOP_NAME": name,
        "LOOP_QUEUE_URL": url,
        "LOOP_TABLE": name,
        "LOOP_FUNCTION": "loops",
        "LOOPS_MOST": "2",
        "LOOP_MESSAGES": "10",
        "LOOP_CALM": "0",
        "STREAM": name,
    }.items():
        monkeypatch.setenv(variable, value)
    made = LambdaServer(timeout=20)
    with made.running() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", endpoint)
        yield made


def records(endpoint: str, name: str) -> list[bytes]:
    kinesis = client_of(endpoint, "kinesis")
    (shard,) = kinesis.describe_stream(StreamName=name)["StreamDescription"]["Shards"]
    iterator = kinesis.get_shard_iterator(StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    return [record["Data"] for record in kinesis.get_records(ShardIterator=iterator["ShardIterator"])["Records"]]


def test_messages_become_records_and_the_loops_end_when_there_are_none(
    moto_endpoint: str, server: LambdaServer
) -> None:
    name, url = os.environ["LOOP_NAME"], os.environ["LOOP_QUEUE_URL"]
    sqs = client_of(moto_endpoint, "sqs")
    for n in range(25):
        sqs.send_message(QueueUrl=url, MessageBody=f"m{n}")
    server.functions["loops"] = LoopFunction(lambda_handler(QueueProcessor))
    supervisor = SupervisorFunction()

    assert supervisor()["started"] == 2
    end = time.monotonic() + 60
    while [one.answer["state"] for one in server.invocations if one.answer].count("retired") < 2:
        assert time.monotonic() < end
        time.sleep(1)
        supervisor()

    # Each at least once, as SQS brings them: of moto two receives at the same time can have one message both.
    assert set(records(moto_endpoint, name)) == {f"m{n}".encode() for n in range(25)}
    assert [one.error for one in server.invocations if one.error] == []


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        *(
            ("LOOPS_MOST", "many", "LOOPS_MOST is a whole number; got 'many'"),
            ("LOOP_CALM", "x", "LOOP_CALM is a number"),
        ),
        *(("LOOP_QUEUE_URL", "", "LOOP_QUEUE_URL is not set"), ("LOOP_FUNCTION", "", "LOOP_FUNCTION is not set")),
        *(("LOOP_TABLE", "", "LOOP_TABLE is not set"), ("LOOPS_LEAST", "7", "LOOPS_LEAST.*; got 7")),
        *(("LOOPS_MOST", "0", "LOOPS_MOST.*; got 0"), ("LOOP_MESSAGES", "0", "LOOP_MESSAGES.*; got 0")),
        *(("LOOP_CALM", "-1", "LOOP_CALM.*; got -1.0"), ("LOOP_OLDEST", "0", "LOOP_OLDEST.*; got 0.0")),
        ("LOOP_LEASE", "10", "LOOP_LEASE.*; got 10.0"),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    variable: str, value: str, said: str, server: LambdaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigurationError, match=said):
        SupervisorFunction()()


def test_nothing_is_read_at_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOP_QUEUE_URL", raising=False)

    handler: Any = LoopFunction(lambda_handler(QueueProcessor))

    with pytest.raises(ConfigurationError, match="LOOP_QUEUE_URL is not set; LoopFunction needs"):
        handler({}, None)

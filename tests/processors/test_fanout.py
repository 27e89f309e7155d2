"""processors.fanout: records go on to targets that the environment names."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from processors.fanout import RouteProcessor, fan_out, handler
from streamkit import Block, Divert, lambda_handler
from streamkit.errors import ConfigurationError
from streamkit.fanout import FanOut
from streamkit.progress.dynamodb import DynamoDbProgress
from streamkit.testing import kinesis_event

SUCCESS: dict[str, list[Any]] = {"batchItemFailures": []}
ACCOUNT = "123456789012"


@pytest.fixture(autouse=True)
def settings(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "ROUTES",
        "PROGRESS_TABLE",
        "RETRY_QUEUE_URL",
        "DEAD_LETTER_QUEUE_URL",
        "PROCESSOR_NAME",
        "CARRY_CORRELATION",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)


@pytest.fixture
def aws() -> Callable[[str], Any]:
    return lambda service: boto3.client(service)


@pytest.fixture
def routes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    return lambda *entries: monkeypatch.setenv("ROUTES", json.dumps(entries))


def queue(aws: Callable[[str], Any]) -> tuple[str, str]:
    """A new queue's URL and ARN."""
    name = uuid.uuid4().hex
    return aws("sqs").create_queue(QueueName=name)["QueueUrl"], f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"


def bodies(aws: Callable[[str], Any], url: str) -> list[str]:
    messages = aws("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [message["Body"] for message in messages]


def branches(made: FanOut) -> list[RouteProcessor]:
    return [branch.source for branch in made._branches]  # type: ignore[misc]  # They are instances.


def test_each_record_goes_to_the_targets_whose_patterns_match(
    aws: Callable[[str], Any], routes: Callable[..., None]
) -> None:
    (all_url, all_arn), (orders_url, orders_arn) = queue(aws), queue(aws)
    bucket, stream = uuid.uuid4().hex, uuid.uuid4().hex
    aws("s3").create_bucket(Bucket=bucket)
    aws("kinesis").create_stream(StreamName=stream, ShardCount=1)
    routes(
        {"name": "all", "to": all_arn},
        {"name": "orders", "to": orders_arn, "pattern": {"data": {"type": ["order"]}}},
        {"name": "by-url", "to": orders_url, "pattern": {"data": {"type": ["refund"]}}},
        {"name": "archive", "to": f"arn:aws:s3:::{bucket}", "prefix": "raw/"},
        {"name": "copy", "to": f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/{stream}"},
    )
    function = lambda_handler(fan_out)

    assert function(kinesis_event([{"type": "order"}, {"type": "refund"}, {"type": "visit"}])) == SUCCESS

    assert sorted(bodies(aws, all_url)) == ['{"type":"order"}', '{"type":"refund"}', '{"type":"visit"}']
    assert sorted(bodies(aws, orders_url)) == ['{"type":"order"}', '{"type":"refund"}']
    keys = [found["Key"] for found in aws("s3").list_objects_v2(Bucket=bucket)["Contents"]]
    assert len(keys) == 3
    assert all(key.startswith("raw/stream/shardId-000000000000:") and key.endswith("/archive/0") for key in keys)
    start = aws("kinesis").get_shard_iterator(
        StreamName=stream, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
    )
    assert len(aws("kinesis").get_records(ShardIterator=start["ShardIterator"])["Records"]) == 3
    function.close()


def test_a_target_that_is_not_there_keeps_no_other_from_its_records_nor_repeats_them(
    aws: Callable[[str], Any], routes: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, arn = queue(aws)
    table = uuid.uuid4().hex
    DynamoDbProgress(table, client=aws("dynamodb")).create_table()
    monkeypatch.setenv("PROGRESS_TABLE", table)
    routes({"name": "gone", "to": f"arn:aws:sns:us-east-1:{ACCOUNT}:gone"}, {"name": "work", "to": arn})
    function = lambda_handler(fan_out)

    for _ in range(2):
        assert function(kinesis_event(["a"])) != SUCCESS

    assert bodies(aws, url) == ["a"]
    function.close()


def test_a_record_that_failed_comes_back_to_its_own_route_alone(
    aws: Callable[[str], Any], routes: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    dead_url, _ = queue(aws)
    all_url, all_arn = queue(aws)
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", dead_url)
    bus = f"arn:aws:events:us-east-1:{ACCOUNT}:event-bus/default"
    routes({"name": "bus", "to": bus, "source": "shop"}, {"name": "all", "to": all_arn})
    function = lambda_handler(fan_out)

    assert function(kinesis_event(["no json"])) == SUCCESS

    (letter,) = map(json.loads, bodies(aws, dead_url))
    assert letter["processor"] == "bus"
    assert bodies(aws, all_url) == ["no json"]
    assert function({"Records": [_message(json.dumps(letter))]}) == SUCCESS, "to the dead letters again"
    assert bodies(aws, all_url) == []
    function.close()


def _message(body: str) -> dict[str, Any]:
    return {
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:::q",
        "messageId": "m",
        "body": body,
        "attributes": {},
    }


def test_the_queues_of_the_environment_are_those_of_every_route(
    routes: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    routes({"name": "a", "to": "arn:aws:sqs:::a"}, {"name": "b", "to": "arn:aws:sqs:::b"})
    assert [type(branch.on_failure) for branch in branches(fan_out())] == [Block, Block]

    monkeypatch.setenv("RETRY_QUEUE_URL", "https://sqs/1/retries")

    assert [(branch.name, type(branch.on_failure)) for branch in branches(fan_out())] == [("a", Divert), ("b", Divert)]
    assert fan_out().name == "fanout"


@pytest.mark.parametrize("carries", ["true", "false"])
def test_what_an_event_is_followed_by_goes_on_where_that_is_asked_for(
    aws: Callable[[str], Any], routes: Callable[..., None], monkeypatch: pytest.MonkeyPatch, carries: str
) -> None:
    monkeypatch.setenv("CARRY_CORRELATION", carries)
    url, arn = queue(aws)
    routes({"name": "all", "to": arn})
    sent = {"x-correlation-id": "c-17", "call-chain-length": 3}
    function = lambda_handler(fan_out)

    assert function(kinesis_event([{"__context__": sent, "n": 1}])) == SUCCESS
    # A chain that is too long ends here, whatever is carried on: it has nowhere to go, so it stays.
    long = {"x-correlation-id": "c-18", "call-chain-length": 9}
    assert function(kinesis_event([{"__context__": long, "n": 2}])) != SUCCESS
    function.close()

    (message,) = aws("sqs").receive_message(QueueUrl=url, MessageAttributeNames=["All"], MaxNumberOfMessages=10)[
        "Messages"
    ]
    assert json.loads(message["Body"]) == {"__context__": sent, "n": 1}
    attributes = {name: value["StringValue"] for name, value in message.get("MessageAttributes", {}).items()}
    assert attributes.get("x-correlation-id") == ("c-17" if carries == "true" else None)
    # It came from the third function, and this is the fourth.
    assert attributes.get("call-chain-length") == ("4" if carries == "true" else None)


def test_a_wrong_word_for_that_is_an_error(routes: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARRY_CORRELATION", "yes")
    routes({"name": "all", "to": "arn:aws:sqs:::a"})

    with pytest.raises(ConfigurationError, match='CARRY_CORRELATION is "true" or "false"; got \'yes\''):
        lambda_handler(fan_out)(kinesis_event(["a"]))


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ("", "ROUTES is not set"),
        ("{}", "no JSON list"),
        ("[", "no JSON list"),
        ("[]", "an empty list"),
        ('[{"to": "arn:aws:sqs:::a"}]', r"ROUTES, entry 1: .*missing required field `name`"),
        ('[{"name": "", "to": "arn:aws:sqs:::a"}]', "ROUTES, entry 1: "),
        ('[{"name": "a", "to": "arn:aws:sqs:::a"}, {"name": "b"}]', r"ROUTES, entry 2: .*`to`"),
        ('[{"name": "a", "to": "arn:aws:sqs:::a", "patern": {}}]', r"ROUTES, entry 1: .*`patern`"),
        ('[{"name": "a", "to": "audit"}]', r'ROUTES, entry 1 \(a\): "to" is the ARN of a target'),
        ('[{"name": "a", "to": "arn:aws:rds:::a"}]', r"ROUTES, entry 1 \(a\): no sink is for 'rds'"),
        ('[{"name": "a", "to": "arn:aws:kinesis:::a"}]', r"\(a\): .* is no target of kinesis: .* stream/"),
        ('[{"name": "a", "to": "arn:aws:events:::rule/a"}]', r"\(a\): .* is no target of events: .* event-bus/"),
        ('[{"name": "a", "to": "arn:aws:sqs:::a", "pattern": {"data": "x"}}]', r"\(a\): pattern, data: "),
        (
            '[{"name": "a", "to": "arn:aws:sqs:::a", "prefix": "x"}]',
            r'\(a\): "prefix" means nothing to a target of sqs',
        ),
        ('[{"name": "a", "to": "arn:aws:s3:::a", "source": "x"}]', r'\(a\): "source" means nothing to a target of s3'),
        ('[{"name": "a", "to": "arn:aws:events:::event-bus/a", "source": "aws.x"}]', r"\(a\): .* begin with aws"),
        ('[{"name": "a", "to": "arn:aws:sqs:::a"}, {"name": "a", "to": "arn:aws:sqs:::b"}]', "a: is the name of two"),
    ],
)
def test_a_wrong_setting_fails_the_invocation_with_an_error_that_names_the_entry(
    entries: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROUTES", entries)

    with pytest.raises(ConfigurationError, match=reason):
        lambda_handler(fan_out)(kinesis_event(["a"]))


def test_nothing_is_read_at_import_and_no_client_is_loaded() -> None:
    code = "import sys, processors.fanout; assert not {'boto3', 'streamkit.sinks.sqs'} & set(sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert handler is not None

"""An event followed from an HTTP request through a stream, a topic, queues, functions, retries and dead letters, on moto; and a
function that writes into its own stream, which ends.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from streamkit import Block, Divert, Record, RecordProcessor, cli, correlation, lambda_handler
from streamkit.cli import letters as letters_module
from streamkit.correlation.log import CorrelationFilter
from streamkit.local.documents import kinesis_record
from streamkit.local.queue_runner import QueueRunner
from streamkit.queues.sqs import SqsQueue
from streamkit.testing import MemoryQueue

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
log = logging.getLogger("tests.flow.correlation")


class Account:
    """Streams, topics and queues of names of their own, and clients of them that are instrumented."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._name = uuid.uuid4().hex
        self._environment = monkeypatch
        self.kinesis = correlation.instrument(boto3.client("kinesis"))
        self.sns = correlation.instrument(boto3.client("sns"))
        self.sqs = boto3.client("sqs")

    def queue(self, name: str) -> str:
        """The URL of a new queue, which the environment variable of its name has too."""
        url = str(self.sqs.create_queue(QueueName=f"{name}-{self._name}")["QueueUrl"])
        self._environment.setenv(name.upper(), url)
        return url

    def topic_to(self, queue: str) -> str:
        """The ARN of a new topic that the queue subscribes to."""
        topic = str(self.sns.create_topic(Name=f"topic-{self._name}")["TopicArn"])
        attributes = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
        self.sns.subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=attributes["QueueArn"], Attributes={"RawMessageDelivery": "true"}
        )
        return topic

    def stream(self) -> str:
        name = f"stream-{self._name}"
        self.kinesis.create_stream(StreamName=name, ShardCount=1)
        self.kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
        return name

    def read(self, stream: str, function: Callable[[Any, Any], Any]) -> int:
        """Invoke ``function`` with what is in the stream, and with what came meanwhile, until there is no more: how often."""
        (shard,) = self.kinesis.list_shards(StreamName=stream)["Shards"]
        where = self.kinesis.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        invocations = 0
        while True:
            answer = self.kinesis.get_records(ShardIterator=where)
            where = answer["NextShardIterator"]
            if not answer["Records"]:
                return invocations
            records = [
                kinesis_record(
                    stream_arn=f"arn:aws:kinesis:us-east-1:123456789012:stream/{stream}",
                    shard_id=shard["ShardId"],
                    sequence_number=record["SequenceNumber"],
                    data=record["Data"],
                    partition_key=record["PartitionKey"],
                    arrived_at=record["ApproximateArrivalTimestamp"].timestamp(),
                )
                for record in answer["Records"]
            ]
            assert function({"Records": records}, None) == {"batchItemFailures": []}
            invocations += 1
            assert invocations < 50, "it goes round for ever"

    def drain(self, queue: str, function: Callable[[Any, Any], Any]) -> None:
        runner = QueueRunner(function, queue, self.sqs, wait_time_in_seconds=0)
        while runner.poll():
            pass

    def close(self) -> None:
        for client in (self.kinesis, self.sns, self.sqs):
            client.close()


@pytest.fixture
def account(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    for variable, value in {
        "AWS_ENDPOINT_URL": moto_endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(letters_module, "_LONG_POLL", 0)
    account = Account(monkeypatch)
    yield account
    account.close()


@pytest.fixture
def lines() -> Iterator[list[tuple[str, str]]]:
    """What the functions and streamkit log about records: the id of each line, and the line."""
    lines: list[tuple[str, str]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append((record.__dict__["correlation_id"], record.getMessage()))

    keep = Keep()
    keep.addFilter(CorrelationFilter())
    loggers = (log, logging.getLogger("streamkit"))
    for one in loggers:
        one.addHandler(keep)
    log.setLevel(logging.INFO)
    yield lines
    for one in loggers:
        one.removeHandler(keep)


def test_from_a_request_to_the_dead_letters_and_back_every_line_has_its_id(
    account: Account, lines: list[tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    stream, mail, retries, dead = (
        account.stream(),
        account.queue("mail"),
        account.queue("retries"),
        account.queue("dead"),
    )
    topic = account.topic_to(mail)

    @correlation.captured
    def api(event: Any, context: Any) -> None:
        correlation.add("customer-id", event["customer"])
        log.info("request of %s", event["customer"])
        order = {"customer": event["customer"]}
        account.kinesis.put_record(StreamName=stream, Data=json.dumps(order).encode(), PartitionKey="k")

    class Orders(RecordProcessor):
        name = "orders"

        def process(self, record: Record) -> None:
            log.info("order of %s", record.json()["customer"])
            message = json.dumps({"customer": record.json()["customer"]})
            account.sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=[{"Id": "1", "Message": message}])

    class Mails(RecordProcessor):
        name = "mails"
        on_failure = Divert(SqsQueue.from_env("RETRIES"), SqsQueue.from_env("DEAD"), attempts=3, backoff=0)
        is_down = True
        followed: list[dict[str, str]] = []

        def process(self, record: Record) -> None:
            customer = record.json()["customer"]
            log.info("mail to %s, attempt %s", customer, record.attempt)
            self.followed.append(correlation.current().fields())
            if self.is_down:
                raise ConnectionError(f"no mail to {customer}")

    for customer in ("Ada", "Bob"):
        api(
            {
                "customer": customer,
                "headers": {"traceparent": TRACE},
                "requestContext": {"requestId": f"request-of-{customer}"},
            },
            SimpleNamespace(aws_request_id="invocation"),
        )
    account.read(stream, lambda_handler(Orders))
    handler = lambda_handler(Mails)
    account.drain(mail, handler)
    account.drain(retries, handler)
    capsys.readouterr()
    assert cli.main(["dead-letters", dead, "--json"]) == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    Mails.is_down = False
    assert cli.main(["redrive", dead, "--to-queue", retries, "--yes"]) == 0
    account.drain(retries, handler)

    for customer in ("Ada", "Bob"):
        told = [text for identity, text in lines if identity == f"request-of-{customer}"]
        assert told[:3] == [f"request of {customer}", f"order of {customer}", f"mail to {customer}, attempt 2"]
        assert sum(text.startswith(f"mail to {customer}") for text in told) == 4
        assert sum(f"no mail to {customer}" in text for text in told) == 3
        assert sum(customer in text for _, text in lines) == len(told)
        mine = [fields for fields in Mails.followed if fields["x-correlation-id"] == f"request-of-{customer}"]
        assert (
            mine
            == [
                {
                    "x-correlation-id": f"request-of-{customer}",
                    "call-chain-length": "3",
                    "traceparent": TRACE,
                    "debug-log-enabled": "false",
                    "x-correlation-customer-id": customer,
                }
            ]
            * 4
        )
    assert {identity for identity, _ in lines} == {"request-of-Ada", "request-of-Bob"}
    assert sorted(one["correlation"]["x-correlation-id"] for one in shown) == ["request-of-Ada", "request-of-Bob"]
    handler.close()


@pytest.mark.parametrize("data", [b'{"n":1}', b"\xff\x00"])
def test_a_function_that_writes_into_its_own_stream_ends_in_the_dead_letters(account: Account, data: bytes) -> None:
    stream, dead_letters = account.stream(), MemoryQueue()
    correlation.instrument(account.kinesis, envelope=True)

    class Echo(RecordProcessor):
        name = "echo"
        on_failure = Block(dead_letters)
        lengths: list[int] = []
        ids: set[str] = set()

        def process(self, record: Record) -> None:
            self.lengths.append(correlation.current().call_chain_length)
            self.ids.add(correlation.current().id)
            # As it came, and with what it came with.
            account.kinesis.put_records(StreamName=stream, Records=[{"Data": record.data, "PartitionKey": "k"}])

    account.kinesis.put_record(StreamName=stream, Data=data, PartitionKey="k")

    assert account.read(stream, lambda_handler(Echo)) == 10

    assert Echo.lengths == list(range(1, 11))
    assert len(Echo.ids) == 1
    (letter,) = dead_letters
    assert letter.failures[0].type == "EndlessChain"
    assert "gone through 10 functions one after another" in letter.failures[0].message
    assert letter.correlation["call-chain-length"] == "10"

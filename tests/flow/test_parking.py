"""``Park`` end to end on moto: a FIFO queue of its SQS, a ledger in its DynamoDB, and the queue's own runner."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from streamkit import Park, Record, RecordProcessor, lambda_handler
from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.local.queue_runner import QueueRunner
from streamkit.queues.sqs import SqsQueue
from streamkit.testing import EventSourceMapping


class Letters(RecordProcessor):
    name = "letters"
    on_failure = Park(
        SqsQueue.from_env("RETRIES"), DynamoDbLedger.from_env("PARKED"), dead_letters=SqsQueue.from_env("DEAD_LETTERS")
    )

    def __init__(self) -> None:
        self.bad = {"a2"}
        self.started: list[tuple[str, int | None]] = []

    def process(self, record: Record) -> None:
        text = record.data.decode()
        self.started.append((text, record.attempt))
        if text in self.bad:
            raise ValueError("bad")


@pytest.fixture
def account(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    name = uuid.uuid4().hex
    for variable, value in {
        "AWS_ENDPOINT_URL": moto_endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "PARKED": f"parked-{name}",
    }.items():
        monkeypatch.setenv(variable, value)
    sqs = boto3.client("sqs")
    fifo = {"FifoQueue": "true"}
    monkeypatch.setenv("RETRIES", sqs.create_queue(QueueName=f"retries-{name}.fifo", Attributes=fifo)["QueueUrl"])
    monkeypatch.setenv("DEAD_LETTERS", sqs.create_queue(QueueName=f"dead-letters-{name}")["QueueUrl"])
    ledger = DynamoDbLedger(f"parked-{name}")
    ledger.create_table()
    ledger.close()
    yield sqs
    sqs.close()


def test_a_key_goes_by_the_queue_and_comes_back_in_order(account: Any) -> None:
    letters = Letters()
    handler = lambda_handler(letters)
    mapping = EventSourceMapping(handler, batch_size=3, function_response_types=["ReportBatchItemFailures"])
    for text in ("a1", "b1", "a2", "a3", "b2", "a4"):
        mapping.put(text.encode(), text[0])
    mapping.run_until_idle()
    direct, letters.started = letters.started, []
    queue, ledger = letters.on_failure.queue, letters.on_failure.ledger
    assert isinstance(queue, SqsQueue)
    assert isinstance(ledger, DynamoDbLedger)
    assert [len(key.pending) for key in ledger.parked("letters", deadline=1e9).values()] == [3]

    letters.bad.clear()
    runner = QueueRunner(handler, queue.url, account, wait_time_in_seconds=0)
    while runner.poll():
        pass
    mapping.put(b"a5", "a")
    mapping.run_until_idle()

    assert direct == [("a1", 1), ("b1", 1), ("a2", 1), ("b2", 1)]
    assert letters.started == [("a2", 2), ("a3", 2), ("a4", 2), ("a5", 1)]
    assert ledger.parked("letters", deadline=1e9) == {}
    handler.close()

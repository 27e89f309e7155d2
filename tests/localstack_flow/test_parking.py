"""A key that is parked while its shard flows on: LocalStack's Kinesis, a FIFO queue of its SQS, a ledger in its DynamoDB."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streamkit.envelope import open_envelope
from streamkit.ledgers.dynamodb import DynamoDbLedger

from .conftest import Connect
from .reader import create_stream, of_key, put, reader, starts, wait_until

KEYS = [f"key-{n}" for n in range(6)]


def data(n: int, **others: Any) -> bytes:
    return json.dumps({"n": n, **others}).encode()


@pytest.fixture
def ledger(connect: Connect) -> DynamoDbLedger:
    ledger = DynamoDbLedger(f"parked-{uuid.uuid4().hex}", client=connect("dynamodb"))
    ledger.create_table()
    return ledger


@pytest.fixture
def environment(sqs: Any, ledger: DynamoDbLedger) -> dict[str, str]:
    name = uuid.uuid4().hex
    fifo = {"FifoQueue": "true", "VisibilityTimeout": "2"}
    return {
        "PARKED": ledger.table,
        "RETRIES": sqs.create_queue(QueueName=f"retries-{name}.fifo", Attributes=fifo)["QueueUrl"],
        "DEAD_LETTERS": sqs.create_queue(QueueName=f"dead-letters-{name}")["QueueUrl"],
    }


def parked(ledger: DynamoDbLedger) -> int:
    return len(ledger.parked("parking", deadline=time.monotonic() + 30))


def test_a_failed_record_holds_its_key_and_no_other_and_nothing_is_lost_or_out_of_order(
    kinesis: Any, sqs: Any, tmp_path: Path, ledger: DynamoDbLedger, environment: dict[str, str]
) -> None:
    stream = create_stream(kinesis, shards=2)
    journal = tmp_path / "journal"
    # Of key 0 one fails twice, of key 1 one for good, and two of key 2 one after another.
    fails = {6: 2, 13: 99, 14: 1, 20: 2}
    put(kinesis, stream, *((KEYS[n % 6], data(n, **({"fails": fails[n]} if n in fails else {}))) for n in range(60)))
    options = ("--checkpoints", ":memory:", "--retry-queue", environment["RETRIES"], "--batch-size", "10")

    with reader("parking", stream, journal, *options, **environment) as process:
        wait_until(lambda: {start.n for start in starts(journal)} == set(range(60)), process)
        wait_until(lambda: parked(ledger) == 0, process)
        # What comes later runs directly.
        put(kinesis, stream, *((KEYS[n % 6], data(n)) for n in range(60, 72)))
        wait_until(lambda: {start.n for start in starts(journal)} == set(range(72)), process)

    all_ = starts(journal)
    tries = {6: 3, 13: 4, 14: 2, 20: 3}
    assert Counter(start.n for start in all_) == {n: tries.get(n, 1) for n in range(72)}
    for key, numbers in of_key(all_).items():
        assert numbers == sorted(numbers), key
    attempts = {n: [start.attempt for start in all_ if start.n == n] for n in tries}
    # 20 comes by the queue where 14 is there still.
    assert attempts.pop(20) in ([1, 2, 3], [2, 3, 4])
    assert attempts == {6: [1, 2, 3], 13: [1, 2, 3, 4], 14: [1, 2]}
    # The other keys never went by the queue, and all came back from it.
    assert {start.attempt for start in all_ if start.n % 6 > 2} == {1}
    assert {start.attempt for start in all_ if start.n >= 60} == {1}
    (letter,) = sqs.receive_message(QueueUrl=environment["DEAD_LETTERS"], MaxNumberOfMessages=10)["Messages"]
    envelope = open_envelope(letter["Body"])
    assert envelope is not None
    assert (json.loads(envelope.data or b"")["n"], envelope.attempts, envelope.parked_at) == (13, 3, None)
    left = sqs.get_queue_attributes(QueueUrl=environment["RETRIES"], AttributeNames=["All"])["Attributes"]
    assert (left["ApproximateNumberOfMessages"], left["ApproximateNumberOfMessagesNotVisible"]) == ("0", "0")

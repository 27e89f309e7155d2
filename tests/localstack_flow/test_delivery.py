"""A reader that is killed, a function that fails, and what goes to a queue: on LocalStack's Kinesis and SQS."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from streamkit.envelope import Envelope, open_envelope
from streamkit.kpl import UserRecord, aggregate

from .reader import create_stream, kill, of_key, put, reader, starts, wait_until

KEYS = [f"key-{n}" for n in range(6)]
BATCH = 50


def data(n: int, **others: Any) -> bytes:
    return json.dumps({"n": n, **others}).encode()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def test_a_reader_that_is_killed_and_started_again_loses_nothing_and_repeats_a_batch_at_most(
    kinesis: Any, journal: Path, tmp_path: Path
) -> None:
    stream = create_stream(kinesis, shards=2)
    gates = {130: tmp_path / "first", 370: tmp_path / "second"}
    events = [(KEYS[n % 6], data(n, **({"wait": str(gates[n])} if n in gates else {}))) for n in range(600)]
    put(kinesis, stream, *events)
    options = (
        "--checkpoints",
        str(tmp_path / "checkpoints.sqlite"),
        "--lease-seconds",
        "5",
        "--batch-size",
        str(BATCH),
    )
    lives = []

    # Killed in the middle of a batch, twice: the function has started a record that it does not finish.
    for n, gate in gates.items():
        before = len(starts(journal))
        with reader("journal", stream, journal, *options) as process:
            wait_until(lambda n=n: n in {start.n for start in starts(journal)}, process)  # type: ignore[misc]  # No type for n.
            kill(process)
        lives.append(starts(journal)[before:])
        gate.touch()
    before = len(starts(journal))
    with reader("journal", stream, journal, *options) as process:
        wait_until(lambda: {start.n for start in starts(journal)} == set(range(600)), process)
    lives.append(starts(journal)[before:])

    assert [len(life) > 0 for life in lives] == [True] * 3
    for life in lives:  # Each in order, and nothing twice.
        for numbers in of_key(life).values():
            assert numbers == sorted(set(numbers))
    repeats = Counter(start.n for life in lives for start in life).total() - 600
    assert 2 <= repeats <= 2 * 2 * BATCH  # Two kills; two shards with a batch each.


def test_what_fails_is_delivered_again_before_what_follows_it(kinesis: Any, journal: Path) -> None:
    stream = create_stream(kinesis, shards=2)
    failing = {7, 20, 21, 55}
    events = [(KEYS[n % 6], data(n, fails=2) if n in failing else data(n)) for n in range(80)]
    put(kinesis, stream, *events)

    with reader("journal", stream, journal, "--checkpoints", ":memory:", "--batch-size", "10") as process:
        wait_until(lambda: {start.n for start in starts(journal)} == set(range(80)), process)

    for shard_id in ("shardId-000000000000", "shardId-000000000001"):
        numbers = [start.n for start in starts(journal) if start.shard_id == shard_id]
        expected = [n for n in sorted(set(numbers)) for _ in range(3 if n in failing else 1)]
        assert numbers == expected


@pytest.fixture
def queues(sqs: Any) -> dict[str, str]:
    """The URLs of a retry queue and a dead-letter queue, as the function's environment has them."""
    name = uuid.uuid4().hex
    return {
        variable: sqs.create_queue(QueueName=f"{variable}-{name}", Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
        for variable in ("RETRIES", "DEAD_LETTERS")
    }


def received(sqs: Any, url: str) -> list[Envelope]:
    messages: list[dict[str, Any]] = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [envelope for message in messages if (envelope := open_envelope(message["Body"])) is not None]


def test_what_fails_for_good_is_a_dead_letter_with_all_that_is_known_of_it(
    kinesis: Any, sqs: Any, journal: Path, queues: dict[str, str]
) -> None:
    stream = create_stream(kinesis, shards=1)
    users = [UserRecord(data(n, **({"fails": 99} if n == 11 else {})), "user") for n in (10, 11, 12)]
    plain = [data(0), data(1, fails=99), data(2, fails=2), data(3, reject="never"), b"no JSON", data(5)]
    put(kinesis, stream, *(("plain", one) for one in plain), ("user", aggregate(users)))
    dead: list[Envelope] = []

    def all_are_dead() -> bool:
        dead.extend(received(sqs, queues["DEAD_LETTERS"]))
        return len(dead) >= 4

    options = ("--checkpoints", ":memory:", "--retry-queue", queues["RETRIES"])
    with reader("diverting", stream, journal, *options, **queues) as process:
        wait_until(all_are_dead, process)
        wait_until(lambda: sum(start.n == 2 for start in starts(journal)) == 3, process)

    # Nobody waits for what failed: the records of the key go on, and it has its tries from the queue.
    direct = [start for start in starts(journal) if start.attempt == 1]
    assert [start.n for start in direct] == [0, 1, 2, 3, 5, 10, 11, 12]
    assert Counter(start.n for start in starts(journal)) == {0: 1, 1: 4, 2: 3, 3: 1, 5: 1, 10: 1, 11: 4, 12: 1}
    arn = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]
    by_data = {envelope.data: envelope for envelope in dead}
    assert by_data.keys() == {plain[1], plain[3], plain[4], users[1].data}
    for envelope in dead:
        number, sub = envelope.event_id.rpartition("/")[2].split(":")[1:]
        assert envelope.event_id == f"{stream}/shardId-000000000000:{number}:{sub}"
        assert (envelope.sequence_number, envelope.sub_sequence_number) == (number, int(sub))
        assert (envelope.shard_id, envelope.stream_arn) == ("shardId-000000000000", arn)
        assert (envelope.source, envelope.processor) == ("kinesis", "diverting")
        assert envelope.partition_key == ("user" if sub != "0" else "plain")
        assert envelope.approximate_arrival_timestamp is not None
    tried = [(failure.attempt, failure.type) for failure in by_data[plain[1]].failures]
    assert tried == [(attempt, "RuntimeError") for attempt in (1, 2, 3, 4)]
    assert {envelope.attempts for envelope in (by_data[plain[1]], by_data[users[1].data])} == {3}
    assert [failure.message.partition(" (")[0] for failure in by_data[plain[3]].failures] == ["Reject: never"]
    assert (by_data[plain[3]].attempts, by_data[plain[4]].attempts) == (0, 0)
    assert by_data[users[1].data].sub_sequence_number == 1

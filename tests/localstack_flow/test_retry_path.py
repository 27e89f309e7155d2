"""The retry path as it is deployed: functions in LocalStack's Lambda, triggered by its own mappings, invoked again by it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from setup_localstack import docker_answers

from streamkit.claims.base import open_claim
from streamkit.envelope import Envelope, open_envelope

from .conftest import Connect
from .deployment import Deployment
from .reader import create_stream, wait_until

pytestmark = pytest.mark.skipif(
    docker_answers(), reason="in a container LocalStack would have to start containers for functions"
)

ALWAYS, MENDED, REJECTED, LARGE, LATER = 3, 4, 5, 6, 7


def data(n: int, **others: Any) -> bytes:
    return json.dumps({"n": n, **others}).encode()


def put(deployment: Deployment, stream: str, *records: bytes) -> None:
    for record in records:  # Of one key, and in order.
        deployment.kinesis.put_record(StreamName=stream, PartitionKey="key", Data=record)


@pytest.fixture
def deployment(connect: Connect, tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(connect, tmp_path / "journal")
    yield deployment
    deployment.remove()


def stream_of(deployment: Deployment, function: str) -> str:
    """A stream that triggers the function."""
    stream = create_stream(deployment.kinesis, shards=1)
    summary = deployment.kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]
    deployment.trigger(function, summary["StreamARN"], StartingPosition="TRIM_HORIZON", BatchSize=20)
    return stream


def envelope_of(body: str) -> Envelope:
    envelope = open_envelope(body)
    assert envelope is not None
    return envelope


def test_a_record_fails_lambdas_three_invocations_by_the_topic_and_ends_in_the_functions_dead_letter_queue(
    deployment: Deployment,
) -> None:
    topic, given_up, dead_letters = deployment.topic(), deployment.queue("given-up"), deployment.queue("dead-letters")
    variables = {"RETRIES": topic, "DEAD_LETTERS": dead_letters}
    stream = stream_of(deployment, deployment.function("direct", "over_a_topic", variables))
    retry = deployment.function("retry", "over_a_topic", variables, dead_letters=deployment.arn(given_up))
    deployment.subscribe(retry, topic)
    large = data(LARGE, fails="in the stream", text="x" * 300_000)

    put(
        deployment,
        stream,
        *map(data, range(ALWAYS)),
        data(ALWAYS, fails="always"),
        data(MENDED, fails="in the stream"),
        data(REJECTED, reject="never"),
        large,
        data(LATER),
    )

    ended: list[str] = []

    def all_has_ended() -> bool:
        ended.extend(deployment.messages(given_up))
        return bool(ended) and bool(deployment.starts(MENDED, "retry")) and bool(deployment.starts(LARGE, "retry"))

    wait_until(all_has_ended)

    # In the stream each has its one try, in order, and nobody waits for what fails.
    direct = [line for line in deployment.lines() if "n" in line and line["function"].startswith("direct")]
    assert [line["n"] for line in direct] == list(range(LATER + 1))
    # Lambda's own three, all of one event.
    tries = deployment.starts(ALWAYS, "retry")
    assert [(line["source"], line["attempt"]) for line in tries] == [("sns", None)] * 3
    retried = [line for line in deployment.lines() if "request_id" in line and line["function"].startswith("retry")]
    assert sorted(Counter(line["request_id"] for line in retried).values()) == [1, 1, 3]
    # What succeeds there does so once; the rejected record was never there.
    others = [line["n"] for line in deployment.lines() if line["function"].startswith("retry") and "n" in line]
    assert Counter(others) == {ALWAYS: 3, MENDED: 1, LARGE: 1}
    # The function's own queue has the event that was given up, and in it the envelope.
    (body, *more) = ended + deployment.messages(given_up)
    assert more == []
    (notification,) = json.loads(body)["Records"]
    envelope = envelope_of(notification["Sns"]["Message"])
    assert envelope.event_id == tries[0]["event_id"] == direct[ALWAYS]["event_id"]
    assert json.loads(envelope.data or b"")["n"] == ALWAYS
    assert [failure.attempt for failure in envelope.failures] == [1]
    # streamkit's dead letters have the poison.
    (poison,) = map(envelope_of, deployment.messages(dead_letters))
    assert json.loads(poison.data or b"")["n"] == REJECTED
    # What was too large for the topic went through S3, and its event id is the same.
    (claimed,) = deployment.s3.list_objects_v2(Bucket=deployment.bucket)["Contents"]
    content = deployment.s3.get_object(Bucket=deployment.bucket, Key=claimed["Key"])["Body"].read().decode()
    assert envelope_of(content).data == large
    assert [line["event_id"] for line in deployment.starts(LARGE)] == [direct[LARGE]["event_id"]] * 2
    # It was the deployed code that ran.
    assert {Path(line["code"]).parts[-2:] for line in deployment.lines()} == {("streamkit", "__init__.py")}
    assert all("awslambda" in line["code"] for line in deployment.lines())


def test_a_record_has_its_three_tries_from_the_queue_by_its_own_count_and_ends_in_dead_letters(
    deployment: Deployment,
) -> None:
    retries, dead_letters = deployment.queue("retries"), deployment.queue("dead-letters")
    function = deployment.function("orders", "over_a_queue", {"RETRIES": retries, "DEAD_LETTERS": dead_letters})
    stream = stream_of(deployment, function)
    deployment.trigger(function, deployment.arn(retries), BatchSize=10)
    large = data(LARGE, fails="always", text="x" * 900_000)

    put(
        deployment,
        stream,
        *map(data, range(ALWAYS)),
        data(ALWAYS, fails="always"),
        data(MENDED, fails="in the stream"),
        data(REJECTED, reject="never"),
        large,
        data(LATER, retry=3),
    )

    ended: list[str] = []

    def all_has_ended() -> bool:
        ended.extend(deployment.messages(dead_letters))
        return len(ended) >= 3 and len(deployment.starts(LATER)) == 2 and len(deployment.starts(MENDED)) == 2

    wait_until(all_has_ended)

    starts = [line for line in deployment.lines() if "n" in line]
    assert [line["n"] for line in starts if line["source"] == "kinesis"] == list(range(LATER + 1))
    # The envelope's own count, and not the queue's.
    for n in (ALWAYS, LARGE):
        assert [(line["source"], line["attempt"]) for line in deployment.starts(n)] == [
            ("kinesis", 1),
            ("sqs", 2),
            ("sqs", 3),
            ("sqs", 4),
        ]
    for n in (MENDED, LATER):
        assert [line["attempt"] for line in deployment.starts(n)] == [1, 2]
    # No sooner than it asked for.
    first, second = deployment.starts(LATER)
    assert second["time"] - first["time"] >= 3
    # Each ends once: two given up after three tries, one rejected at once. The large one is in S3 there too.
    ended += deployment.messages(dead_letters)
    claims = [claim for body in ended if (claim := open_claim(body)) is not None]
    letters = [envelope for body in ended if (envelope := open_envelope(body)) is not None]
    assert (len(ended), len(claims), len(letters)) == (3, 1, 2)
    content = deployment.s3.get_object(Bucket=claims[0].bucket, Key=claims[0].key)["Body"].read().decode()
    assert (envelope_of(content).data, envelope_of(content).attempts) == (large, 3)
    assert {json.loads(letter.data or b"")["n"]: letter.attempts for letter in letters} == {ALWAYS: 3, REJECTED: 0}
    assert deployment.messages(retries) == []

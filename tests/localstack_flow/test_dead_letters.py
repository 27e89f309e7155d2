"""All the way round on LocalStack: Lambda gives up a batch, a function makes letters of its document, redrive puts them back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from setup_localstack import docker_answers

from streamkit import cli
from streamkit.envelope import open_envelope

from .conftest import Connect
from .deployment import Deployment
from .reader import create_stream, wait_until

pytestmark = pytest.mark.skipif(
    docker_answers(), reason="in a container LocalStack would have to start containers for functions"
)


@pytest.fixture
def deployment(connect: Connect, tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(connect, tmp_path / "journal")
    yield deployment
    deployment.remove()


def data(n: int, **others: Any) -> bytes:
    return json.dumps({"n": n, **others}).encode()


def test_what_lambda_gave_up_becomes_letters_and_is_put_back_to_the_retry_queue_under_its_ids(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    documents, letters, retries = (deployment.queue(name) for name in ("documents", "letters", "retries"))
    blocking = deployment.function("blocking", "blocking")
    maker = deployment.function(
        "letters", "dead_letters", {"DEAD_LETTER_QUEUE_URL": letters, "PROCESSOR_NAME": "orders"}
    )
    deployment.trigger(maker, deployment.arn(documents))
    stream = create_stream(deployment.kinesis, shards=1)
    for record in (data(0), data(1, fails="in the stream"), data(2), data(3, fails="in the stream")):
        deployment.kinesis.put_record(StreamName=stream, PartitionKey="key", Data=record)
    arn = deployment.kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]

    deployment.trigger(
        blocking,
        arn,
        StartingPosition="TRIM_HORIZON",
        BatchSize=4,
        MaximumRetryAttempts=1,
        DestinationConfig={"OnFailure": {"Destination": deployment.arn(documents)}},
    )
    wait_until(lambda: held(deployment, letters) >= 3)

    monkeypatch.chdir(tmp_path)
    assert cli.main(["dead-letters", letters, "--json", "--payload"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(json.loads(row["data"])["n"] for row in rows) == [1, 2, 3]
    assert {(row["processor"], row["error_type"]) for row in rows} == {("orders", "RetryAttemptsExhausted")}
    # Under the ids that the function saw.
    ids = {line["n"]: line["event_id"] for line in deployment.lines() if "n" in line}
    assert {json.loads(row["data"])["n"]: row["event_id"] for row in rows}[1] == ids[1]

    assert cli.main(["redrive", letters, "--to-queue", retries, "--yes"]) == 0
    assert held(deployment, letters) == 0
    again = deployment.function("again", "over_a_queue", {"RETRIES": retries, "DEAD_LETTERS": letters})
    deployment.trigger(again, deployment.arn(retries), BatchSize=10)
    wait_until(lambda: all(deployment.starts(n, "again") for n in (1, 2, 3)))

    assert deployment.starts(1, "again")[0]["event_id"] == ids[1]
    assert deployment.starts(1, "again")[0]["source"] == "sqs"


def test_a_message_that_a_queues_redrive_policy_has_moved_is_a_letter_though_it_is_no_envelope(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    last, retries = deployment.queue("last"), deployment.queue("retries")
    policy = json.dumps({"deadLetterTargetArn": deployment.arn(last), "maxReceiveCount": "1"})
    deployment.sqs.set_queue_attributes(QueueUrl=retries, Attributes={"RedrivePolicy": policy})
    sent = deployment.sqs.send_message(QueueUrl=retries, MessageBody="plain")

    def moved() -> bool:
        deployment.sqs.receive_message(QueueUrl=retries, VisibilityTimeout=0)
        return held(deployment, last) == 1

    wait_until(moved)
    monkeypatch.chdir(tmp_path)
    back = deployment.queue("back")

    assert cli.main(["dead-letters", last, "--json", "--payload"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["event_id"], row["data"], row["error_type"]) == (sent["MessageId"], "plain", "MovedByQueue")
    assert cli.main(["redrive", last, "--to-queue", back, "--yes"]) == 0

    (body,) = deployment.messages(back)
    envelope = open_envelope(body)
    assert envelope is not None
    assert (envelope.event_id, envelope.data, envelope.redrives) == (sent["MessageId"], b"plain", 1)


def held(deployment: Deployment, url: str) -> int:
    name = "ApproximateNumberOfMessages"
    return int(deployment.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[name])["Attributes"][name])

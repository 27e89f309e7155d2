"""``streamkit run``: filters, leases, checkpoints in DynamoDB, and where failure documents go."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamkit.checkpoints.dynamodb import DynamoDbCheckpoints

from .process import connect, ended, error_of, put, running

PROGRAM = """
from streamkit import RecordProcessor, lambda_handler

class Orders(RecordProcessor):
    name = "orders"

    def process(self, record):
        if record.data.startswith(b"bad"):
            raise ValueError("not this one")
        with open("done", "a") as done:
            done.write(record.data.decode() + "\\n")

handler = lambda_handler(Orders)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "orders.py").write_text(PROGRAM)
    return tmp_path


def wait_for(found: Callable[[], Any]) -> Any:
    until = time.monotonic() + 60
    while not (value := found()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return value


def done(folder: Path) -> list[str]:
    file = folder / "done"
    return sorted(file.read_text().splitlines()) if file.exists() else []


def test_what_the_filters_do_not_want_is_not_delivered(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    put(kinesis, stream, '{"type": "a"}', '{"type": "b"}', '{"type": "c"}', "bad")
    arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint, "--checkpoints", ":memory:"]
    filters = ["--filter", '{"data": {"type": ["a"]}}', "--filter", '{"data": {"type": [{"prefix": "c"}]}}']

    with running(folder, *arguments, *filters):
        wait_for(lambda: len(done(folder)) == 2)

    assert done(folder) == ['{"type": "a"}', '{"type": "c"}']


def test_a_filter_that_lambda_would_not_take_is_named(folder: Path, moto_endpoint: str) -> None:
    code, line = error_of(
        folder, "run", "orders:handler", "--stream", "s", "--filter", '{"data": ["a"]}', "--endpoint-url", moto_endpoint
    )

    assert code == 1
    assert "filter 1" in line


def test_failure_documents_go_to_the_destination(kinesis: Any, stream: str, folder: Path, moto_endpoint: str) -> None:
    sqs = connect("sqs", moto_endpoint)
    queue = sqs.create_queue(QueueName=f"failures-{uuid.uuid4().hex}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    put(kinesis, stream, "bad", "good")
    arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint, "--checkpoints", ":memory:"]

    with running(folder, *arguments, "--maximum-retry-attempts", "1", "--on-failure", arn):
        (message,) = wait_for(lambda: sqs.receive_message(QueueUrl=queue).get("Messages"))
        wait_for(lambda: done(folder) == ["good"])
    sqs.close()

    document = json.loads(message["Body"])
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert document["requestContext"]["approximateInvokeCount"] == 2
    assert document["KinesisBatchInfo"]["streamArn"].endswith(f"stream/{stream}")


def test_a_destination_that_is_none_is_named(folder: Path, moto_endpoint: str) -> None:
    code, line = error_of(
        folder, "run", "orders:handler", "--stream", "s", "--on-failure", "a-queue", "--endpoint-url", moto_endpoint
    )

    assert code == 1
    assert "'a-queue' is not the ARN of a queue, a topic or a bucket" in line


def test_checkpoints_can_be_in_dynamodb_and_the_next_run_begins_at_once(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    table = f"checkpoints-{uuid.uuid4().hex}"
    client = connect("dynamodb", moto_endpoint)
    arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint]
    arguments += ["--checkpoints", f"dynamodb:{table}", "--lease-seconds", "600"]

    put(kinesis, stream, *map(str, range(10)))
    with running(folder, *arguments, "--create-table") as process:
        wait_for(lambda: len(done(folder)) == 10)
        process.terminate()
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert {lease.owner for lease in DynamoDbCheckpoints(table, client=client).leases("orders", stream).values()} == {
        ""
    }

    put(kinesis, stream, "10")
    # The first has given its shards up: nothing is waited for.
    with running(folder, *arguments):
        wait_for(lambda: len(done(folder)) == 11)
    client.close()

    assert done(folder) == sorted(map(str, range(11)))


def test_a_table_that_is_not_there_is_named_with_how_to_make_it(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    code, line = error_of(
        folder,
        *("run", "orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint),
        *("--checkpoints", "dynamodb:nothing-here"),
    )

    assert code == 1
    assert "nothing-here does not exist" in line
    assert "--create-table" in line


@pytest.mark.parametrize("place", [":memory:", "file.sqlite"])
def test_only_a_dynamodb_table_is_made(kinesis: Any, stream: str, folder: Path, moto_endpoint: str, place: str) -> None:
    code, line = error_of(
        folder,
        *("run", "orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint),
        *("--checkpoints", place, "--create-table"),
    )

    assert code == 1
    assert f"--create-table goes with --checkpoints dynamodb:TABLE; {place} is none" in line


def test_lag_reads_the_table_too(kinesis: Any, stream: str, folder: Path, moto_endpoint: str) -> None:
    client = connect("dynamodb", moto_endpoint)
    table = f"checkpoints-{uuid.uuid4().hex}"
    store = DynamoDbCheckpoints(table, client=client)
    store.create_table()
    lease = store.take("orders", stream, "shardId-000000000000", "owner", None)
    assert lease is not None
    store.save(lease, 1)
    arguments = ["lag", stream, "--name", "orders", "--endpoint-url", moto_endpoint, "--json"]

    one = ended(folder, *arguments, "--checkpoints", f"dynamodb:{table}")
    client.close()

    assert one.returncode == 0, one.stderr
    assert [json.loads(line)["checkpoint"] for line in one.stdout.splitlines()] == ["1", None]

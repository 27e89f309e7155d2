"""Records of 10 MiB, the most that Kinesis takes, from a real endpoint (moto, over HTTP) to the real handler.

They go in by PutRecord: moto holds PutRecords to 1 MiB a record, and PutRecord to nothing. Its GetRecords has no limit of
bytes either, so what AWS sends in several reads comes in one here.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from typing import Any

import boto3
import pybase64
import pytest

from streamkit import Record, RecordProcessor, lambda_handler
from streamkit.checkpoints.memory import MemoryCheckpoints
from streamkit.handler import Handler
from streamkit.kpl import UserRecord, aggregate
from streamkit.local.destinations import destination
from tests.local.test_runner import FIRST, connect, create, make_runner, running

TEN_MIB = 10 * 1024 * 1024
# All byte values, and no two parts alike: a piece that is lost or in another's place shows.
BIG = random.Random(10).randbytes(TEN_MIB)


@pytest.fixture(scope="module")
def client(moto_endpoint: str) -> Iterator[Any]:
    client = connect(moto_endpoint)
    yield client
    client.close()


@pytest.fixture
def stream(client: Any) -> Iterator[str]:
    stream = create(client)
    yield stream
    # What it holds is this process's memory.
    client.delete_stream(StreamName=stream)


def put(client: Any, stream: str, *payloads: bytes) -> list[int]:
    """The sequence numbers."""
    answers = [client.put_record(StreamName=stream, Data=data, PartitionKey="key") for data in payloads]
    return [int(answer["SequenceNumber"]) for answer in answers]


def digest(data: bytes) -> tuple[int, str]:
    """Stands for data of which nobody wants to read the difference."""
    return len(data), hashlib.sha256(data).hexdigest()


class Digesting(RecordProcessor):
    """Keeps what it was given, each try of it; the first ``fails`` tries of a big record fail."""

    name = "digesting"

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.processed: list[tuple[int | None, tuple[int, str]]] = []

    def process(self, record: Record) -> None:
        self.processed.append((record.sub_sequence_number, digest(record.data)))
        if len(record.data) > 1_000_000 and self.fails > 0:
            self.fails -= 1
            raise RuntimeError("told to fail")


class Invocations:
    """The handler, and how many records each event for it has."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self.counts: list[int] = []

    def __call__(self, event: Any, context: Any) -> Any:
        self.counts.append(len(event["Records"]))
        return self._handler(event, context)


def run(client: Any, stream: str, processor: Digesting, last: int, **options: Any) -> Invocations:
    """Run until the checkpoint is at ``last``; how the function was called."""
    checkpoints = MemoryCheckpoints()
    invocations = Invocations(lambda_handler(processor))
    runner = make_runner(invocations, client, stream, checkpoints=checkpoints, **options)
    with running(runner) as thread:
        while checkpoints.leases("reader", stream).get(FIRST) is None or checkpoint_of(checkpoints, stream) != last:
            thread.join(0.02)
            assert thread.is_alive()
    return invocations


def checkpoint_of(checkpoints: MemoryCheckpoints, stream: str) -> int | None:
    return checkpoints.leases("reader", stream)[FIRST].checkpoint


def test_is_delivered_alone_and_whole_between_ordinary_ones(client: Any, stream: str) -> None:
    payloads = [b"a", b"b", BIG, b"c", BIG[::-1], b"d", b"e"]
    numbers = put(client, stream, *payloads)
    processor = Digesting()

    invocations = run(client, stream, processor, numbers[-1])

    assert processor.processed == [(0, digest(data)) for data in payloads]
    assert invocations.counts == [2, 1, 1, 1, 2]


def test_that_fails_comes_again_whole_and_before_what_follows_it(client: Any, stream: str) -> None:
    numbers = put(client, stream, b"a", BIG, b"b")
    processor = Digesting(fails=2)

    run(client, stream, processor, numbers[-1])

    assert processor.processed == [(0, digest(data)) for data in (b"a", BIG, BIG, BIG, b"b")]


def test_of_an_aggregate_is_opened(client: Any, stream: str) -> None:
    def packed(contents: list[bytes]) -> bytes:
        return aggregate(UserRecord(content, f"user-{n}") for n, content in enumerate(contents))

    contents = [BIG[n * 1_000_000 : (n + 1) * 1_000_000] for n in range(10)]
    rest = BIG[10_000_000:]
    contents.append(rest[: TEN_MIB - len(packed([*contents, rest]))])  # A negative number: without what is too much.
    data = packed(contents)
    assert len(data) == TEN_MIB
    numbers = put(client, stream, b"a", data, b"b")
    processor = Digesting()

    run(client, stream, processor, numbers[-1])

    inner = [(sub, digest(content)) for sub, content in enumerate(contents)]
    assert processor.processed == [(0, digest(b"a")), *inner, (0, digest(b"b"))]


def test_can_be_given_up_unseen_and_its_data_goes_to_the_bucket(client: Any, stream: str, moto_endpoint: str) -> None:
    s3 = boto3.client(
        "s3",
        endpoint_url=moto_endpoint,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
    )
    s3.create_bucket(Bucket=stream)
    numbers = put(client, stream, b"a", BIG, b"b")
    processor = Digesting()

    to_bucket = destination(f"arn:aws:s3:::{stream}", client=s3)
    invocations = run(client, stream, processor, numbers[-1], record_over_payload="discard", on_failure=to_bucket)

    assert processor.processed == [(0, digest(b"a")), (0, digest(b"b"))]
    assert invocations.counts == [1, 1]
    (listed,) = s3.list_objects_v2(Bucket=stream)["Contents"]
    document = json.loads(s3.get_object(Bucket=stream, Key=listed["Key"])["Body"].read())
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert document["requestContext"]["approximateInvokeCount"] == 0
    batch = document["KinesisBatchInfo"]
    assert (batch["batchSize"], batch["startSequenceNumber"], batch["endSequenceNumber"]) == (
        1,
        str(numbers[1]),
        str(numbers[1]),
    )
    (record,) = json.loads(document["payload"])["Records"]
    assert digest(pybase64.b64decode(record["kinesis"]["data"])) == digest(BIG)
    s3.delete_object(Bucket=stream, Key=listed["Key"])
    s3.close()

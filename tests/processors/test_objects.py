"""processors.objects: lines of objects become records of a stream."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from processors.objects import ObjectsProcessor, handler
from streamkit import lambda_handler
from streamkit.errors import BatchFailed, ConfigurationError
from streamkit.testing import s3_event
from tests.sinks.aws_proxy import client_of

_names = (f"lines-{n}" for n in itertools.count())


@pytest.fixture
def name(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a bucket, a stream and a queue of dead letters."""
    made = next(_names)
    for variable in (
        "LINE_KEY",
        "MOST_BYTES",
        "MOST_LINES",
        "RETRY_QUEUE_URL",
        "DEAD_LETTER_QUEUE_URL",
        "PROCESSOR_NAME",
    ):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "nobody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("STREAM", made)
    client_of(moto_endpoint, "s3").create_bucket(Bucket=made)
    client_of(moto_endpoint, "kinesis").create_stream(StreamName=made, ShardCount=1)
    return made


def put(endpoint: str, name: str, key: str, content: bytes) -> dict[str, Any]:
    """The event of the new object."""
    answer = client_of(endpoint, "s3").put_object(Bucket=name, Key=key, Body=content)
    return s3_event([key], bucket=name, size=len(content), etag=answer["ETag"])


def records(endpoint: str, name: str) -> list[tuple[str, bytes]]:
    kinesis = client_of(endpoint, "kinesis")
    (shard,) = kinesis.describe_stream(StreamName=name)["StreamDescription"]["Shards"]
    iterator = kinesis.get_shard_iterator(StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
    found = kinesis.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    return [(record["PartitionKey"], record["Data"]) for record in found]


def test_each_line_is_a_record(moto_endpoint: str, name: str) -> None:
    event = put(moto_endpoint, name, "a file.txt", b"one\ntwo\n")

    assert lambda_handler(ObjectsProcessor)(event) == {"batchItemFailures": []}

    assert records(moto_endpoint, name) == [("1", b"one"), ("2", b"two")]


def test_the_key_is_the_field_that_the_environment_names_and_its_order_is_kept(
    moto_endpoint: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINE_KEY", "airport.iata")
    lines = [{"airport": {"iata": "DEN"}, "n": n} for n in range(3)] + [{"airport": {"iata": 7}, "n": 3}]
    event = put(moto_endpoint, name, "lines", b"\n".join(json.dumps(line).encode() for line in lines))

    lambda_handler(ObjectsProcessor)(event)

    found = records(moto_endpoint, name)
    assert [json.loads(data)["n"] for key, data in found if key == "DEN"] == [0, 1, 2]
    assert [key for key, _ in found if key != "DEN"] == ["7"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"no json", "is no JSON"),
        (b'{"n": 1}', "the event has no field 'id'"),
        (b'{"id": null}', "has no text and no number in its field id"),
        (b'{"id": [1]}', "has no text and no number in its field id"),
    ],
)
def test_of_an_object_with_a_line_without_a_key_nothing_is_put(
    moto_endpoint: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    line: bytes,
    why: str,
) -> None:
    monkeypatch.setenv("LINE_KEY", "id")
    event = put(moto_endpoint, name, "lines", b'{"id": 1}\n' + line)

    with pytest.raises(BatchFailed):
        lambda_handler(ObjectsProcessor)(event)

    assert records(moto_endpoint, name) == []
    assert f"line 2 of s3://{name}/lines" in caplog.text
    assert why in caplog.text


@pytest.mark.parametrize(
    ("variable", "most", "why"),
    [("MOST_BYTES", "9", "has 10 bytes"), ("MOST_LINES", "4", r"has 5 lines: Objects(most_lines) is 4")],
)
def test_what_can_never_be_loaded_goes_to_dead_letters(
    moto_endpoint: str, name: str, monkeypatch: pytest.MonkeyPatch, variable: str, most: str, why: str
) -> None:
    sqs = client_of(moto_endpoint, "sqs")
    letters = sqs.create_queue(QueueName=name)["QueueUrl"]
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", letters)
    monkeypatch.setenv(variable, most)
    event = put(moto_endpoint, name, "lines", b"1\n2\n3\n4\n5\n")

    assert lambda_handler(ObjectsProcessor)(event) == {"batchItemFailures": []}

    (message,) = sqs.receive_message(QueueUrl=letters)["Messages"]
    assert why in message["Body"]
    assert records(moto_endpoint, name) == []


def test_one_that_is_gone_or_removed_is_passed_over(
    moto_endpoint: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    gone = put(moto_endpoint, name, "lines", b"one")
    client_of(moto_endpoint, "s3").delete_object(Bucket=name, Key="lines")
    removed = s3_event(["lines"], bucket=name, event_name="ObjectRemoved:Delete")

    function = lambda_handler(ObjectsProcessor)
    assert function(gone) == {"batchItemFailures": []}
    assert function(removed) == {"batchItemFailures": []}

    assert f"s3://{name}/lines is not there any more" in caplog.text
    assert records(moto_endpoint, name) == []


@pytest.mark.parametrize("variable", ["MOST_BYTES", "MOST_LINES"])
@pytest.mark.parametrize("value", ["many", "0", "-1", "1.5"])
def test_a_limit_that_is_none_is_named(name: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=f"^{variable} is a whole number, 1 or more; got '{value}'"):
        lambda_handler(ObjectsProcessor)(s3_event(["a"]))


def test_the_handler_is_there_to_deploy() -> None:
    assert handler({}) == {"batchItemFailures": []}

"""An answer that breaks off is no answer. By itself boto3 takes it for an empty one: nothing there, nothing refused."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections import Counter
from typing import Any

import pytest

from streamkit.aws import whole_answers
from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.local.feed import Position
from streamkit.local.kinesis import PollingFeed
from streamkit.sinks.events import EventBridgeSink
from streamkit.sinks.kinesis import KinesisSink
from streamkit.testing.contracts import stamp
from tests.sinks.aws_proxy import client_of

from .cloud import Cloud
from .dialects import AWS_SINKS
from .http_proxy import Answer, Cut, Request, cut


def soon(seconds: float) -> float:
    return time.monotonic() + seconds


def refuse_one_and_break_off(request: Request) -> Cut:
    answer = AWS_SINKS["kinesis"].in_part(request)
    assert isinstance(answer, tuple)
    return Cut(answer)


def test_boto3_takes_it_for_an_empty_answer(cloud: Cloud) -> None:
    stream = _stream(cloud)
    client = client_of(cloud.aws.endpoint, "kinesis")

    with cloud.aws.failing(cut):
        answer = client.put_records(StreamName=stream, Records=[{"Data": b'{"n":1}', "PartitionKey": "key"}])

    assert answer.keys() == {"ResponseMetadata"}


@pytest.mark.parametrize("is_given", [True, False])
def test_a_record_that_was_refused_is_not_lost_with_the_answer_that_told_so(cloud: Cloud, is_given: bool) -> None:
    stream, proxy = _stream(cloud), cloud.aws
    sink = KinesisSink(stream, client=client_of(proxy.endpoint, "kinesis") if is_given else None)
    writes = stamp([sink.record({"n": n}, f"key-{n}") for n in range(3)])

    with proxy.failing(refuse_one_and_break_off):
        refusals = sink.write(writes, deadline=soon(0.6))

    assert Counter(refusal.kind for refusal in refusals) == {"unavailable": 3}
    sink.close()


def test_a_key_that_is_parked_is_not_taken_for_one_that_is_not(cloud: Cloud) -> None:
    direct = DynamoDbLedger(f"ledger-{uuid.uuid4().hex}", client=cloud.client("dynamodb"))
    direct.create_table()
    direct.add("processor", "group", ["one"], 1000.0, deadline=soon(30))
    ledger = DynamoDbLedger(direct.table, client=client_of(cloud.aws.endpoint, "dynamodb"))

    with cloud.aws.failing(cut):
        with pytest.raises(Exception, match="ended after"):
            ledger.parked("processor", deadline=soon(5))
        with pytest.raises(Exception, match="ended after"):
            ledger.key("processor", "group", deadline=soon(5))


def test_an_answer_that_does_not_say_what_became_of_each_confirms_none(cloud: Cloud) -> None:
    """As of something between here and AWS that answers for it."""

    def say_nothing(request: Request) -> Answer:
        return 200, {"Content-Type": "application/x-amz-json-1.1"}, b"{}"

    sink = EventBridgeSink("default", client=client_of(cloud.aws.endpoint, "events"))
    writes = stamp([sink.event({"n": n}) for n in range(3)])

    with cloud.aws.failing(say_nothing):
        refusals = sink.write(writes, deadline=soon(0.3))

    assert [refusal.kind for refusal in refusals] == ["unavailable"] * 3


def test_answers_that_are_whole_pass(cloud: Cloud) -> None:
    """Those too whose body is a stream, or nothing, or was read by another handler of the client."""
    s3 = whole_answers(client_of(cloud.aws.endpoint, "s3"))
    bucket = uuid.uuid4().hex
    s3.create_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="key", Body=b"content")
    assert s3.head_object(Bucket=bucket, Key="key")["ContentLength"] == 7
    assert s3.get_object(Bucket=bucket, Key="key")["Body"].read() == b"content"

    stream = _stream(cloud)
    kinesis = whole_answers(client_of(cloud.aws.endpoint, "kinesis"))
    kinesis.put_record(StreamName=stream, Data=json.dumps({"n": 1}), PartitionKey="key")
    assert _read(kinesis, stream) == [b'{"n": 1}']


def test_what_is_no_client_of_boto3s_stays_as_it_is() -> None:
    something = object()

    assert whole_answers(something) is something
    assert whole_answers(None) is None


def _stream(cloud: Cloud) -> str:
    name = uuid.uuid4().hex
    cloud.client("kinesis").create_stream(StreamName=name, ShardCount=1)
    return name


def _read(client: Any, stream: str) -> list[bytes]:
    page = PollingFeed(client, stream, "shardId-000000000000").read(Position("TRIM_HORIZON"))
    return [base64.b64decode(record["Data"]) for record in page.records]

"""An event is followed through functions that LocalStack's Lambda runs: onward to a stream, a queue, a topic, a function and a
bucket, and through a retry. (EventBridge and Step Functions are not started in this LocalStack; tests/correlation has them.)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from setup_localstack import docker_answers

from streamkit import correlation
from streamkit.correlation import Correlation

from .conftest import Connect
from .deployment import Deployment
from .reader import create_stream, wait_until

pytestmark = pytest.mark.skipif(docker_answers(), reason="in a container functions are containers")

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SENT = {"x-correlation-id": "c-17", "x-correlation-customer": "42", "traceparent": TRACE}


@pytest.fixture
def deployment(connect: Connect, tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(connect, tmp_path / "journal")
    yield deployment
    deployment.remove()


def of(said: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """What was sent along, and the place in the chain."""
    return {name: said.get(name) for name in SENT}, int(said["call-chain-length"])


def attributes_of(deployment: Deployment, url: str) -> dict[str, Any]:
    """The attributes of the one message that a queue is to get."""
    received: list[dict[str, Any]] = []

    def has_come() -> bool:
        received.extend(deployment.sqs.receive_message(QueueUrl=url, MessageAttributeNames=["All"]).get("Messages", []))
        return bool(received)

    wait_until(has_come)
    assert json.loads(received[0]["Body"])["n"] == 1
    return {name: value["StringValue"] for name, value in received[0]["MessageAttributes"].items()}


def test_an_event_is_followed_to_wherever_it_is_sent_and_through_its_retry(
    deployment: Deployment, kinesis: Any
) -> None:
    streams = [create_stream(kinesis, shards=1) for _ in range(2)]
    arn_of = {
        name: kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
        for name in streams
    }
    retries, queue, behind_the_topic, topic = *map(deployment.queue, ("retries", "queue", "behind")), deployment.topic()
    deployment.sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=deployment.arn(behind_the_topic),
        Attributes={"RawMessageDelivery": "true"},
    )
    followed = deployment.function("followed", "followed")
    fan = deployment.function(
        "fan",
        "fanning_out",
        {
            "RETRIES": retries,
            "TO_STREAM": streams[1],
            "TO_QUEUE": queue,
            "TO_TOPIC": topic,
            "TO_FUNCTION": followed,
            "TO_BUCKET": deployment.bucket,
        },
    )
    deployment.trigger(fan, arn_of[streams[0]], StartingPosition="TRIM_HORIZON")
    deployment.trigger(fan, deployment.arn(retries))

    value = Correlation(ids={name: SENT[name] for name in SENT if name != "traceparent"}, traceparent=TRACE)
    with correlation.use(value):
        correlation.instrument(kinesis).put_record(StreamName=streams[0], Data=b'{"n": 1}', PartitionKey="a")

    wait_until(lambda: len(deployment.starts(1, "fan")) >= 2 and bool(deployment.starts(1, "followed")))
    first, again = deployment.starts(1, "fan")[:2]
    assert [first["attempt"], again["attempt"]] == [1, 2]
    sent, length = of(first)
    assert (sent, length) == (SENT, 1)
    assert of(again) == (SENT, 1)
    assert of(deployment.starts(1, "followed")[0]) == (SENT, 2)
    # On the way it has the place of whoever sent it.
    assert of(attributes_of(deployment, queue)) == (SENT, 1)
    assert of(attributes_of(deployment, behind_the_topic)) == (SENT, 1)
    assert of(json.loads(_record_of(kinesis, streams[1]))["__context__"]) == (SENT, 1)
    (stored,) = deployment.s3.list_objects_v2(Bucket=deployment.bucket)["Contents"]
    archived = json.loads(deployment.s3.get_object(Bucket=deployment.bucket, Key=stored["Key"])["Body"].read())
    # An object is kept as the record came.
    assert archived["n"] == 1
    assert {name: archived["__context__"][name] for name in SENT} == SENT


def _record_of(kinesis: Any, stream: str) -> bytes:
    (shard,) = kinesis.list_shards(StreamName=stream)["Shards"]
    iterator = kinesis.get_shard_iterator(
        StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    data: bytes = kinesis.get_records(ShardIterator=iterator)["Records"][0]["Data"]
    return data

"""The sinks to AWS's services keep the contract of every sink, on moto."""

from __future__ import annotations

import contextlib
import json
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from streamkit import Write
from streamkit.sinks.base import Sink
from streamkit.sinks.events import EventBridgeSink
from streamkit.sinks.functions import LambdaSink
from streamkit.sinks.kinesis import KinesisSink
from streamkit.sinks.messages import _Message
from streamkit.sinks.s3 import S3Sink
from streamkit.sinks.sns import SnsSink
from streamkit.sinks.sqs import SqsSink
from streamkit.testing.contracts import SinkContract

from ..sinks.aws_proxy import AwsProxy, Request, client_of, drop, refuse

MEBIBYTE = 1_048_576
#: More than moto takes of a topic's message, and less than a sink takes that is told of 1 MiB.
LARGE = "x" * 300_000


class OnMoto(SinkContract):
    """The parts that all have in common."""

    proxy: AwsProxy

    @pytest.fixture(autouse=True)
    def between(self, moto_endpoint: str) -> Iterator[None]:
        self.moto = moto_endpoint
        self.proxy = AwsProxy(moto_endpoint)
        yield
        self.proxy.close()

    def client(self, service: str) -> Any:
        """Straight to moto."""
        return client_of(self.moto, service)

    def between_client(self, service: str) -> Any:
        return client_of(self.proxy.endpoint, service)

    @contextlib.contextmanager
    def unreachable(self, sink: Any) -> Iterator[None]:
        self.proxy.always = drop
        yield
        self.proxy.always = Request.forward

    def refuse_where(self, when: Callable[[Request], bool], code: str) -> None:
        def act(request: Request) -> Any:
            return refuse(400, code)(request) if when(request) else request.forward()

        self.proxy.always = act

    def queue(self, **attributes: str) -> str:
        name = uuid.uuid4().hex + (".fifo" if attributes.get("FifoQueue") else "")
        url: str = self.client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    def received(self, url: str) -> list[str]:
        sqs, bodies = self.client("sqs"), []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(message["Body"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies


class TestKinesisSink(OnMoto):
    takes_effect_once = False

    @pytest.fixture
    def sink(self, between: None) -> Sink:
        self.stream = uuid.uuid4().hex
        self.client("kinesis").create_stream(StreamName=self.stream, ShardCount=1)
        return KinesisSink(self.stream, record_bytes=10 * MEBIBYTE, client=self.between_client("kinesis"))

    def write(self, sink: Any, n: int) -> Write:
        made: Write = sink.record({"n": n}, f"key-{n}")
        return made

    def delivered(self, sink: Any) -> list[int]:
        kinesis = self.client("kinesis")
        start = kinesis.get_shard_iterator(
            StreamName=self.stream, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
        )
        records = kinesis.get_records(ShardIterator=start["ShardIterator"], Limit=10_000)["Records"]
        return [json.loads(record["Data"])["n"] for record in records]

    def invalid_write(self, sink: Any) -> Write:
        made: Write = sink.record(bytes(MEBIBYTE + 1), "large")
        return made


class TestSqsSink(OnMoto):
    takes_effect_once = False
    attributes: dict[str, str] = {}

    @pytest.fixture
    def sink(self, between: None) -> Sink:
        self.url = self.queue(**self.attributes)
        return SqsSink(self.url, client=self.between_client("sqs"))

    def write(self, sink: Any, n: int) -> Write:
        made: Write = sink.message({"n": n})
        return made

    def delivered(self, sink: Any) -> list[int]:
        return [json.loads(body)["n"] for body in self.received(self.url)]

    def invalid_write(self, sink: Any) -> Write:
        # Behind the sink's back, which would not make it.
        return Write(sink, _Message("x" * (MEBIBYTE + 1), None, {}, {}), size=1)


class TestSqsSinkOfAFifoQueue(TestSqsSink):
    takes_effect_once = True
    attributes = {"FifoQueue": "true"}


class TestSnsSink(OnMoto):
    takes_effect_once = False
    attributes: dict[str, str] = {}

    @pytest.fixture
    def sink(self, between: None) -> Sink:
        self.url = self.queue(**self.attributes)
        sns = self.client("sns")
        name = uuid.uuid4().hex + (".fifo" if self.attributes else "")
        topic = {"FifoTopic": "true"} if self.attributes else {}
        arn = sns.create_topic(Name=name, Attributes=topic)["TopicArn"]
        queue = self.client("sqs").get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        sns.subscribe(
            TopicArn=arn,
            Protocol="sqs",
            Endpoint=queue["Attributes"]["QueueArn"],
            Attributes={"RawMessageDelivery": "true"},
        )
        return SnsSink(arn, message_bytes=MEBIBYTE, client=self.between_client("sns"))

    def write(self, sink: Any, n: int) -> Write:
        made: Write = sink.message({"n": n})
        return made

    def delivered(self, sink: Any) -> list[int]:
        return [json.loads(body)["n"] for body in self.received(self.url)]

    def invalid_write(self, sink: Any) -> Write:
        made: Write = sink.message(LARGE)
        return made


class TestSnsSinkOfAFifoTopic(TestSnsSink):
    takes_effect_once = True
    attributes = {"FifoQueue": "true"}


class TestEventBridgeSink(OnMoto):
    takes_effect_once = False

    @pytest.fixture
    def sink(self, between: None) -> Sink:
        bus, self.url, events = uuid.uuid4().hex, self.queue(), self.client("events")
        events.create_event_bus(Name=bus)
        events.put_rule(Name=bus, EventBusName=bus, EventPattern=json.dumps({"source": ["shop"]}))
        queue = self.client("sqs").get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])
        events.put_targets(
            Rule=bus, EventBusName=bus, Targets=[{"Id": "queue", "Arn": queue["Attributes"]["QueueArn"]}]
        )
        return EventBridgeSink(bus, source="shop", client=self.between_client("events"))

    def write(self, sink: Any, n: int) -> Write:
        made: Write = sink.event({"n": n})
        return made

    def delivered(self, sink: Any) -> list[int]:
        return [json.loads(body)["detail"]["n"] for body in self.received(self.url)]

    def invalid_write(self, sink: Any) -> Write:
        return Write(sink, {"Source": "shop", "DetailType": "record", "Detail": "{"}, size=1)


class TestLambdaSink(OnMoto):
    """moto takes an invocation, and keeps no account of it: what it was given is read on the way."""

    takes_effect_once = False

    @pytest.fixture
    def sink(self, between: None) -> Sink:
        without_docker = json.dumps({"lambda": {"use_docker": False}}).encode()
        urllib.request.urlopen(f"{self.moto}/moto-api/config", without_docker).close()
        name, iam = uuid.uuid4().hex, self.client("iam")
        role = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        self.client("lambda").create_function(
            FunctionName=name, Role=role, Runtime="python3.12", Handler="f.f", Code={"ZipFile": b"zip"}
        )
        return LambdaSink(name, client=self.between_client("lambda"))

    def write(self, sink: Any, n: int) -> Write:
        made: Write = sink.invocation({"n": n})
        return made

    def delivered(self, sink: Any) -> list[int]:
        taken = [request for request, status in self.proxy.statuses if status == 202]
        assert all(request.headers["X-Amz-Invocation-Type"] == "Event" for request in taken)
        return [request.json["n"] for request in taken]

    def invalid_write(self, sink: Any) -> Write:
        # moto reads no payload, so the service's own code for one that is not JSON is given on the way.
        self.refuse_where(lambda request: request.body == b"{", "InvalidRequestContentException")
        return Write(sink, b"{", size=1)


class TestS3Sink(OnMoto):
    @pytest.fixture
    def sink(self, between: None) -> Sink:
        self.bucket = uuid.uuid4().hex
        self.client("s3").create_bucket(Bucket=self.bucket)
        return S3Sink(self.bucket, prefix="items/", client=self.between_client("s3"))

    def write(self, sink: Any, n: int) -> Write:
        made: Write = sink.object({"n": n})
        return made

    def delivered(self, sink: Any) -> list[int]:
        s3 = self.client("s3")
        keys = [found["Key"] for found in s3.list_objects_v2(Bucket=self.bucket).get("Contents", ())]
        return [json.loads(s3.get_object(Bucket=self.bucket, Key=key)["Body"].read())["n"] for key in keys]

    def invalid_write(self, sink: Any) -> Write:
        # moto takes keys of any length.
        self.refuse_where(lambda request: len(request.path) > 1024, "KeyTooLongError")
        return Write(sink, (b"", "k" * 2000, "text/plain"), size=0)

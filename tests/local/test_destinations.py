"""Failure documents sent to real servers (moto) and read back from them, field by field."""

from __future__ import annotations

import http.server
import json
import logging
import re
import sys
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pybase64
import pytest
from botocore.config import Config
from local_moto import moto_server

from streamkit.errors import ConfigurationError, QueueError
from streamkit.local.destinations import destination
from streamkit.local.documents import event_of, failure_document, item_of, kinesis_record
from streamkit.local.mapping import Discard

STREAM_ARN = "arn:aws:kinesis:us-east-1:123456789012:stream/orders"
FUNCTION_ARN = "arn:aws:lambda:us-east-1:000000000000:function:function"
SHARD = "shardId-000000000001"
ARRIVED_AT = 1_767_225_600.5
MAPPING_ID = "11111111-2222-3333-4444-555555555555"

RECORDS = [
    kinesis_record(
        stream_arn=STREAM_ARN,
        shard_id=SHARD,
        sequence_number=str(10**55 + n),
        data=f'{{"id": {n}, "name": "Žofie"}}'.encode(),
        partition_key="ключ",
        arrived_at=ARRIVED_AT + n,
    )
    for n in range(3)
]
DOCUMENT = failure_document(
    Discard(
        tuple(item_of(record, ARRIVED_AT + n) for n, record in enumerate(RECORDS)), "RetryAttemptsExhausted", 4, True
    ),
    stream_arn=STREAM_ARN,
    shard_id=SHARD,
    function_arn=FUNCTION_ARN,
    now=1_767_225_661.25,
    request_id="c9b8fa9f-5a7f-4a00-af9c-0c604cde93a5",
)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class Cloud:
    """Makes a queue, a topic with a queue behind it, or a bucket, and reads what has come into it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.clients = {name: self._client(name) for name in ("sqs", "sns", "s3")}

    def _client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
            config=Config(proxies={}, s3={"addressing_style": "path"}),
        )

    def queue(self) -> tuple[str, str]:
        """Its URL and its ARN."""
        sqs = self.clients["sqs"]
        url = sqs.create_queue(QueueName=f"destination-{uuid.uuid4().hex}")["QueueUrl"]
        return url, sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def topic(self) -> tuple[str, str]:
        """The URL of a queue that gets its notifications, and its ARN."""
        url, queue_arn = self.queue()
        arn = self.clients["sns"].create_topic(Name=f"destination-{uuid.uuid4().hex}")["TopicArn"]
        self.clients["sns"].subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue_arn)
        return url, arn

    def bucket(self) -> tuple[str, str]:
        name = f"destination-{uuid.uuid4().hex}"
        self.clients["s3"].create_bucket(Bucket=name)
        return name, f"arn:aws:s3:::{name}"

    def bodies(self, url: str) -> list[str]:
        messages = self.clients["sqs"].receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return [message["Body"] for message in messages]

    def objects(self, bucket: str) -> dict[str, Any]:
        s3 = self.clients["s3"]
        keys = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
        return {key: json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys}

    def close(self) -> None:
        for client in self.clients.values():
            client.close()


@pytest.fixture(scope="module")
def cloud(moto_endpoint: str) -> Iterator[Cloud]:
    cloud = Cloud(moto_endpoint)
    yield cloud
    cloud.close()


class TestAQueue:
    def test_gets_the_document_as_its_message(self, cloud: Cloud) -> None:
        url, arn = cloud.queue()
        send = destination(arn, endpoint_url=cloud.endpoint)

        send(DOCUMENT, RECORDS)
        send.close()

        (body,) = cloud.bodies(url)
        assert json.loads(body) == {
            "requestContext": {
                "requestId": "c9b8fa9f-5a7f-4a00-af9c-0c604cde93a5",
                "functionArn": FUNCTION_ARN,
                "condition": "RetryAttemptsExhausted",
                "approximateInvokeCount": 4,
            },
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "version": "1.0",
            "timestamp": "2026-01-01T00:01:01.250Z",
            "KinesisBatchInfo": {
                "shardId": SHARD,
                "startSequenceNumber": str(10**55),
                "endSequenceNumber": str(10**55 + 2),
                "approximateArrivalOfFirstRecord": "2026-01-01T00:00:00.500Z",
                "approximateArrivalOfLastRecord": "2026-01-01T00:00:02.500Z",
                "batchSize": 3,
                "streamArn": STREAM_ARN,
            },
        }

    def test_gets_each_document_and_is_looked_up_once(self, cloud: Cloud) -> None:
        url, arn = cloud.queue()
        asked: list[str] = []
        client = cloud._client("sqs")
        client.meta.events.register("before-call.sqs", lambda model, **_: asked.append(model.name))
        send = destination(arn, client=client)

        send(DOCUMENT, RECORDS)
        send(DOCUMENT, RECORDS)

        assert [json.loads(body) for body in cloud.bodies(url)] == [DOCUMENT, DOCUMENT]
        assert asked == ["GetQueueUrl", "SendMessage", "SendMessage"]
        client.close()

    def test_that_is_not_there_raises_until_it_is(self, cloud: Cloud) -> None:
        name = f"destination-{uuid.uuid4().hex}"
        send = destination(f"arn:aws:sqs:us-east-1:123456789012:{name}", endpoint_url=cloud.endpoint)

        with pytest.raises(
            QueueError, match=rf"{name} did not take the failure document .*NonExistentQueue.*name another"
        ):
            send(DOCUMENT, RECORDS)
        url = cloud.clients["sqs"].create_queue(QueueName=name)["QueueUrl"]
        send(DOCUMENT, RECORDS)

        assert [json.loads(body) for body in cloud.bodies(url)] == [DOCUMENT]
        send.close()

    def test_that_is_deleted_meanwhile_raises(self, cloud: Cloud) -> None:
        url, arn = cloud.queue()
        send = destination(arn, endpoint_url=cloud.endpoint)
        send(DOCUMENT, RECORDS)

        cloud.clients["sqs"].delete_queue(QueueUrl=url)

        with pytest.raises(QueueError, match=arn):
            send(DOCUMENT, RECORDS)
        send.close()


class TestATopic:
    def test_gets_the_document_as_its_message(self, cloud: Cloud) -> None:
        url, arn = cloud.topic()
        send = destination(arn, endpoint_url=cloud.endpoint)

        send(DOCUMENT, RECORDS)
        send.close()

        (body,) = cloud.bodies(url)
        notification = json.loads(body)
        assert notification["TopicArn"] == arn
        assert json.loads(notification["Message"]) == DOCUMENT

    def test_that_is_not_there_raises(self, cloud: Cloud) -> None:
        arn = f"arn:aws:sns:us-east-1:123456789012:destination-{uuid.uuid4().hex}"
        send = destination(arn, endpoint_url=cloud.endpoint)

        with pytest.raises(QueueError, match=f"{arn} did not take the failure document .*NotFound"):
            send(DOCUMENT, RECORDS)
        send.close()


class TestABucket:
    def test_gets_the_document_with_the_event_as_a_text(self, cloud: Cloud) -> None:
        bucket, arn = cloud.bucket()
        send = destination(arn, endpoint_url=cloud.endpoint, mapping_id=MAPPING_ID)

        send(DOCUMENT, RECORDS)
        send.close()

        ((key, held),) = cloud.objects(bucket).items()
        payload = held.pop("payload")
        assert held == DOCUMENT
        assert isinstance(payload, str)
        assert json.loads(payload) == event_of(item_of(record, 0.0) for record in RECORDS)
        data = [pybase64.b64decode(record["kinesis"]["data"]) for record in json.loads(payload)["Records"]]
        assert [json.loads(one)["name"] for one in data] == ["Žofie"] * 3
        form = rf"aws/lambda/{MAPPING_ID}/{SHARD}/2026/01/01/2026-01-01T00\.01\.01-([0-9a-f-]{{36}})"
        name = re.fullmatch(form, key)
        assert name
        assert uuid.UUID(name[1])

    def test_holds_a_document_once_however_often_it_is_sent(self, cloud: Cloud) -> None:
        bucket, arn = cloud.bucket()
        send = destination(arn, endpoint_url=cloud.endpoint)

        send(DOCUMENT, RECORDS)
        send(DOCUMENT, RECORDS)
        send(DOCUMENT | {"timestamp": "2026-01-01T00:01:01.251Z"}, RECORDS)
        send.close()

        assert len(cloud.objects(bucket)) == 2

    def test_has_the_documents_of_a_mapping_under_one_id(self, cloud: Cloud) -> None:
        bucket, arn = cloud.bucket()

        for number in range(2):
            send = destination(arn, endpoint_url=cloud.endpoint)
            send(DOCUMENT | {"timestamp": f"2026-01-0{number + 1}T00:00:00.000Z"}, RECORDS)
            send.close()

        ids = {key.split("/")[2] for key in cloud.objects(bucket)}
        assert len(ids) == 1
        assert uuid.UUID(ids.pop())

    def test_that_is_not_there_raises(self, cloud: Cloud) -> None:
        arn = f"arn:aws:s3:::destination-{uuid.uuid4().hex}"
        send = destination(arn, endpoint_url=cloud.endpoint)

        with pytest.raises(QueueError, match=f"{arn} did not take the failure document .*NoSuchBucket"):
            send(DOCUMENT, RECORDS)
        send.close()


class TestTheCheckAtTheStart:
    @pytest.mark.parametrize("kind", ["queue", "topic", "bucket"])
    def test_of_what_is_there_says_nothing(self, cloud: Cloud, kind: str, caplog: pytest.LogCaptureFixture) -> None:
        _, arn = getattr(cloud, kind)()
        place = destination(arn, endpoint_url=cloud.endpoint)

        with caplog.at_level(logging.WARNING, "streamkit"):
            place.check()
        place.close()

        assert [entry.message for entry in caplog.records if entry.name == "streamkit"] == []

    @pytest.mark.parametrize(
        "form", ["arn:aws:sqs:us-east-1:123456789012:", "arn:aws:sns:us-east-1:123456789012:", "arn:aws:s3:::"]
    )
    def test_of_what_is_not_there_names_it_and_what_to_do(self, cloud: Cloud, form: str) -> None:
        arn = f"{form}destination-{uuid.uuid4().hex}"
        place = destination(arn, endpoint_url=cloud.endpoint)

        with pytest.raises(
            ConfigurationError, match=f"{arn} is not there .*: check its name, region and account, or make it"
        ):
            place.check()
        place.close()

    def test_of_a_service_that_is_away_is_no_word_on_the_destination(self) -> None:
        for arn in ARNS:
            place = destination(arn, endpoint_url="http://127.0.0.1:9")
            with pytest.raises(QueueError, match=f"{arn} can't be reached .*EndpointConnectionError"):
                place.check()
            place.close()

    def test_that_is_not_allowed_is_a_warning(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        # moto checks permissions after so many requests: three that make the destinations, two for the user.
        monkeypatch.setenv("INITIAL_NO_AUTH_ACTION_COUNT", "5")
        with moto_server() as moto:
            cloud = Cloud(moto.endpoint)
            _, queue_arn = cloud.queue()
            topic_arn = cloud.clients["sns"].create_topic(Name="failures")["TopicArn"]
            iam = cloud._client("iam")
            iam.create_user(UserName="writer")
            key = iam.create_access_key(UserName="writer")["AccessKey"]
            iam.close()
            cloud.close()
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
            needed = {
                queue_arn: "sqs:GetQueueUrl",
                topic_arn: "sns:GetTopicAttributes",
                "arn:aws:s3:::b": "s3:ListBucket",
            }
            with caplog.at_level(logging.WARNING, "streamkit"):
                for arn in needed:
                    place = destination(arn, endpoint_url=moto.endpoint)
                    place.check()
                    place.close()

        warnings = [entry.message for entry in caplog.records if entry.name == "streamkit"]
        for (arn, permission), warning in zip(needed.items(), warnings, strict=True):
            assert f"{arn} is there can't be told" in warning
            assert f"allow {permission}" in warning


class Refusing(http.server.BaseHTTPRequestHandler):
    """Answers whatever comes with an error of the service."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_PUT(self) -> None:
        self.do_POST()

    def log_message(self, *args: Any) -> None:
        return


ARNS = [
    "arn:aws:sqs:us-east-1:123456789012:failures",
    "arn:aws:sns:eu-west-1:123456789012:failures",
    "arn:aws:s3:::failures",
]


@pytest.mark.parametrize("arn", ARNS)
def test_a_service_that_is_down_raises_at_once_and_holds_nothing_up(arn: str) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        send = destination(arn, endpoint_url=f"http://127.0.0.1:{server.server_port}")
        try:
            with pytest.raises(QueueError, match=f"{arn} did not take the failure document"):
                send(DOCUMENT, RECORDS)
        finally:
            send.close()
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("arn", ARNS)
def test_nobody_there_raises(arn: str) -> None:
    send = destination(arn, endpoint_url="http://127.0.0.1:9")  # The discard port: nobody listens.

    with pytest.raises(QueueError, match=f"{arn} did not take the failure document .*EndpointConnectionError"):
        send(DOCUMENT, RECORDS)
    send.close()


@pytest.mark.parametrize(
    "arn",
    [
        "",
        "failures",
        "http://127.0.0.1/queue",
        "kafka://topic",
        "arn:aws:lambda:us-east-1:123456789012:function:other",
        "arn:aws:events:us-east-1:123456789012:event-bus/bus",
        "arn:aws:sqs:us-east-1:123456789012",
        "arn:aws:sqs:us-east-1:123456789012:",
        "arn:aws:sqs:us-east-1::failures",
        "arn:aws:sqs::123456789012:failures",
        "arn:aws:sns:us-east-1:123456789012:topic:subscription",
        "arn:aws:s3:::bucket/prefix",
        "arn:aws:s3:us-east-1:123456789012:accesspoint",
    ],
)
def test_what_is_no_destination_is_refused_at_once(arn: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(repr(arn))):
        destination(arn)


@pytest.mark.parametrize("service", ["sqs", "sns"])
def test_fifo_is_refused_at_once(service: str) -> None:
    with pytest.raises(ConfigurationError, match="is FIFO; an event source mapping takes a standard queue or topic"):
        destination(f"arn:aws:{service}:us-east-1:123456789012:failures.fifo")


def test_a_client_that_was_given_is_not_closed(cloud: Cloud) -> None:
    _, arn = cloud.queue()
    send = destination(arn, client=cloud.clients["sqs"])

    send.close()
    send(DOCUMENT, RECORDS)


def test_after_close_it_connects_again(cloud: Cloud) -> None:
    url, arn = cloud.queue()
    send = destination(arn, endpoint_url=cloud.endpoint)

    for _ in range(2):
        send(DOCUMENT, RECORDS)
        send.close()

    assert len(cloud.bodies(url)) == 2


def test_without_boto3_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    send = destination(ARNS[0])

    with pytest.raises(ConfigurationError, match=f"{ARNS[0]} needs boto3: pip install"):
        send(DOCUMENT, RECORDS)

"""An answer of AWS is all there within the time of its try, or there was none: not so many seconds for each packet of it."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError, HTTPClientError, ReadTimeoutError
from cloudsearch import CloudSearchServer

from streamkit import Refusal
from streamkit.aws import make_client
from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.queues.sqs import SqsQueue
from streamkit.sinks.cloudsearch import CloudSearchSink
from streamkit.sinks.sqs import SqsSink
from streamkit.testing.contracts import message, stamp

from .sinks.aws_proxy import Answer, AwsProxy, Request, Trickling, trickle

pytestmark = pytest.mark.usefixtures("aws_credentials")


@pytest.fixture
def proxy(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsProxy]:
    for name in [name for name in os.environ if name.startswith("AWS_ENDPOINT_URL")]:
        monkeypatch.delenv(name)
    proxy = AwsProxy(moto_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    yield proxy
    proxy.close()


def client_of(proxy: AwsProxy, service: str, answer_time: float | None, **config: Any) -> Any:
    return closing(
        make_client(
            service, "a test", 5.0, answer_time=answer_time, endpoint_url=proxy.endpoint, region="us-east-1", **config
        )
    )


def seconds_of(call: Callable[[], object]) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


def test_a_client_gives_up_an_answer_that_trickles_and_goes_on(proxy: AwsProxy) -> None:
    with client_of(proxy, "sqs", 0.5) as client:
        client.list_queues()
        proxy.script = [trickle]

        start = time.monotonic()
        with pytest.raises(ReadTimeoutError):
            client.list_queues()

        assert time.monotonic() - start < 2
        assert client.list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_without_a_time_it_waits_for_each_packet(proxy: AwsProxy) -> None:
    def a_second(request: Request) -> Answer:
        return 200, {"Content-Type": "application/x-amz-json-1.0"}, Trickling(b"{}        ")

    proxy.script = [a_second, a_second]
    with client_of(proxy, "sqs", None) as client:
        client.list_queues()
    with client_of(proxy, "sqs", 0.5) as client, pytest.raises(ReadTimeoutError):
        client.list_queues()


def in_drops(request: Request) -> Answer:
    status, headers, body = request.forward()
    return status, headers, Trickling(body)


def test_what_is_streamed_is_left_to_who_reads_it(proxy: AwsProxy) -> None:
    with client_of(proxy, "s3", 0.5, s3={"addressing_style": "path"}) as client:
        bucket = uuid.uuid4().hex
        client.create_bucket(Bucket=bucket)
        client.put_object(Bucket=bucket, Key="key", Body=b"0123456789")
        proxy.script = [in_drops]

        with client.get_object(Bucket=bucket, Key="key")["Body"] as body:
            assert body.read() == b"0123456789"


def test_a_large_answer_is_whole(proxy: AwsProxy) -> None:
    with client_of(proxy, "dynamodb", 5.0) as client:
        table = f"large-{uuid.uuid4().hex}"
        client.create_table(
            TableName=table,
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
        item = {"id": {"S": "1"}, "text": {"S": "é" * 150_000}}
        client.put_item(TableName=table, Item=item)

        assert client.get_item(TableName=table, Key={"id": item["id"]})["Item"] == item


def test_botocore_tells_what_went_wrong_as_ever(proxy: AwsProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    import urllib3

    with client_of(proxy, "sqs", 5.0) as client:
        for raised, told in [
            (urllib3.exceptions.ProtocolError("Connection broken"), ConnectionClosedError),
            (urllib3.exceptions.ReadTimeoutError(None, "/", "Read timed out."), ReadTimeoutError),  # type: ignore[arg-type]
            (urllib3.exceptions.SSLError("bad record"), HTTPClientError),
        ]:
            with monkeypatch.context() as patch:

                def fail(*_: object, raised: Exception = raised) -> bytes:
                    raise raised

                patch.setattr("streamkit.timely.read_by", fail)
                with pytest.raises(told):
                    client.list_queues()
        assert client.list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_a_sink_a_queue_and_a_store_end_with_their_deadline(proxy: AwsProxy) -> None:
    with client_of(proxy, "sqs", None) as client:
        url = client.create_queue(QueueName=f"timely-{uuid.uuid4().hex}")["QueueUrl"]
    sink, queue, ledger = SqsSink(url), SqsQueue(url), DynamoDbLedger(f"ledger-{uuid.uuid4().hex}")
    ledger.create_table()
    writes = stamp([sink.message({"n": 1})])
    proxy.always = trickle

    def write() -> None:
        assert [refusal.kind for refusal in sink.write(writes, deadline=time.monotonic() + 0.6)] == ["unavailable"]

    def send() -> None:
        (refusal,) = queue.send([message(1)], deadline=time.monotonic() + 0.6)
        assert isinstance(refusal.error, ReadTimeoutError)

    def ask() -> None:
        with pytest.raises(ReadTimeoutError):
            ledger.parked("processor", deadline=time.monotonic() + 0.6)

    assert max(map(seconds_of, (write, send, ask))) < 3
    for one in (sink, queue, ledger):
        one.close()


def test_cloudsearch_ends_with_its_deadline() -> None:
    with CloudSearchServer({"name": "text"}) as server:
        proxy = AwsProxy(server.endpoint)
        sink = CloudSearchSink(proxy.endpoint)
        writes = [sink.document(f"d{n}", {"name": "x" * 50_000}) for n in range(8)]
        proxy.script = [trickle]

        refusals: Sequence[Refusal] = []

        def write() -> None:
            nonlocal refusals
            refusals = sink.write(writes, deadline=time.monotonic() + 2)

        assert seconds_of(write) < 4
        assert {refusal.kind for refusal in refusals} == {"unavailable"}
        assert sink.write(writes, deadline=time.monotonic() + 30) == []
        sink.close()
        proxy.close()

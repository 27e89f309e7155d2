"""Clients of AWS, and their connections, are the container's: counted at a server that is really connected to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest

import streamkit
from streamkit import Block, Divert, Record, RecordProcessor, Reject, Write, lambda_handler, sharing
from streamkit.aws import Clients, borrow
from streamkit.claims.s3 import S3Claims
from streamkit.progress.dynamodb import DynamoDbProgress
from streamkit.queues.sqs import SqsQueue
from streamkit.sinks.cloudsearch import CloudSearchSink
from streamkit.sinks.sqs import SqsSink
from streamkit.testing import kinesis_event

from .faults.http_proxy import HttpProxy

ROOT = Path(streamkit.__file__).parent.parent


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As in a new container, and given back in the end."""
    monkeypatch.setattr(sharing, "_made", {})
    yield
    assert sharing._made == {}


@pytest.fixture
def proxy(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpProxy]:
    proxy = HttpProxy(moto_endpoint)
    for name in [name for name in os.environ if name.startswith("AWS_ENDPOINT_URL")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    yield proxy
    proxy.close()
    assert proxy.errors == []


def queue_at(moto: str, proxy: HttpProxy) -> str:
    sqs = boto3.client(
        "sqs", endpoint_url=moto, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="a"
    )
    url: str = sqs.create_queue(QueueName=f"shared-{uuid.uuid4().hex}")["QueueUrl"]
    sqs.close()
    return url.replace(moto, proxy.endpoint)


def test_sinks_queues_and_dead_letters_of_a_service_have_one_connection_over_all_invocations(
    proxy: HttpProxy, moto_endpoint: str
) -> None:
    urls = [queue_at(moto_endpoint, proxy) for _ in range(4)]

    class Orders(RecordProcessor):
        name = "orders"
        on_failure = Divert(SqsQueue(urls[0]), dead_letters=SqsQueue(urls[1]))
        one = SqsSink(urls[2])
        other = SqsSink(urls[3])

        def process(self, record: Record) -> Iterator[Write]:
            if record.data == b"fail":
                raise ValueError("told to")
            if record.data == b"reject":
                raise Reject("told to")
            yield self.one.message(record.data)
            yield self.other.message(record.data)

    handler = lambda_handler(Orders)
    for _ in range(5):
        assert handler(kinesis_event([b"a", b"fail", b"reject"])) == {"batchItemFailures": []}
    assert len(proxy.seen) == 20
    assert proxy.accepted == 1
    handler.close()


def test_a_connection_that_the_service_has_closed_is_made_anew(proxy: HttpProxy, moto_endpoint: str) -> None:
    queue = SqsQueue(queue_at(moto_endpoint, proxy))

    class Orders(RecordProcessor):
        name = "orders"
        on_failure = Block(queue)

        def process(self, record: Record) -> None:
            raise Reject("told to")

    handler = lambda_handler(Orders)
    assert handler(kinesis_event([b"a"])) == {"batchItemFailures": []}
    with proxy.gone():
        time.sleep(0.05)

    assert handler(kinesis_event([b"a"])) == {"batchItemFailures": []}

    assert proxy.accepted == 2
    handler.close()


def test_progress_of_several_processors_has_one_connection(proxy: HttpProxy) -> None:
    name = f"progress-{uuid.uuid4().hex}"
    stores = [DynamoDbProgress(name) for _ in range(3)]
    stores[0].create_table()
    before = proxy.accepted
    for n, store in enumerate(stores):
        store.save("orders", "s/shard", n, b"entry", deadline=time.monotonic() + 60)
        assert store.entries("orders", "s/shard", n, deadline=time.monotonic() + 60)

    assert proxy.accepted == before == 1
    for store in stores:
        store.close()


def test_it_stays_open_for_the_others_when_one_is_closed(proxy: HttpProxy, moto_endpoint: str) -> None:
    one, other = (SqsSink(queue_at(moto_endpoint, proxy)) for _ in range(2))
    deadline = time.monotonic() + 60
    assert list(one.write([one.message(b"a")], deadline=deadline)) == []
    assert list(other.write([other.message(b"a")], deadline=deadline)) == []

    one.close()
    one.close()
    assert list(other.write([other.message(b"b")], deadline=deadline)) == []

    assert proxy.accepted == 1
    other.close()
    assert list(other.write([other.message(b"c")], deadline=deadline)) == []
    assert proxy.accepted == 2
    other.close()


def test_what_differs_is_not_shared(proxy: HttpProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(client: Any) -> None:
        client.is_prepared = True

    borrowed = [
        borrow("sqs", "me", 1.0),
        borrow("sns", "me", 1.0),
        borrow("sqs", "me", 2.0),
        borrow("sqs", "me", 1.0, tries=2),
        borrow("sqs", "me", 1.0, region="eu-west-1"),
        borrow("sqs", "me", 1.0, endpoint_url=f"{proxy.endpoint}/x"),
        borrow("sqs", "me", 1.0, max_pool_connections=2),
        borrow("sqs", "me", 1.0, prepare=prepare),
    ]
    same = borrow("sqs", "somebody else", 1.0)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:9")
    borrowed.append(borrow("sqs", "me", 1.0))

    assert len({id(one.thing) for one in borrowed}) == len(borrowed)
    assert same.thing is borrowed[0].thing
    assert [hasattr(one.thing, "is_prepared") for one in borrowed].count(True) == 1
    for one in (*borrowed, same):
        one.give_back()


def test_threads_that_ask_at_the_same_time_get_the_same(proxy: HttpProxy) -> None:
    all_of_them = [Clients("sqs", "me") for _ in range(8)]
    gate = threading.Barrier(16)

    def ask(clients: Clients) -> Any:
        gate.wait()
        return clients.until(time.monotonic() + 60)

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(ask, all_of_them * 2))

    assert len({id(one) for one in made}) == 1
    (shared,) = sharing._made.values()
    assert shared.holders == 8
    for clients in all_of_them:
        clients.close()


def test_what_can_not_be_made_is_made_at_the_next_try() -> None:
    down = [ConnectionError("down")]

    class Thing:
        closed = 0

        def close(self) -> None:
            self.closed += 1

    def make() -> Thing:
        if down:
            raise down.pop()
        return Thing()

    with pytest.raises(ConnectionError):
        sharing.borrow("thing", make)
    first, second = sharing.borrow("thing", make), sharing.borrow("thing", make)
    thing = first.thing
    first.give_back()
    first.give_back()
    assert (thing.closed, second.thing) == (0, thing)
    second.give_back()

    assert thing.closed == 1


def test_two_sinks_of_one_cloudsearch_domain_have_one_connection(
    cloudsearch_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    proxy = HttpProxy(cloudsearch_endpoint)
    sinks = [CloudSearchSink(proxy.endpoint) for _ in range(2)]
    for n, sink in enumerate(sinks * 2):
        write = sink.document(f"shared{n}", {"name": "x"})
        # Of one step of time-outs.
        assert list(sink.write([write], deadline=time.monotonic() + 40)) == []

    assert proxy.accepted == 1
    for sink in sinks:
        sink.close()
    proxy.close()


CREDENTIALS = """
import os, sys, time
from streamkit.claims.s3 import S3Claims
from streamkit.progress.dynamodb import DynamoDbProgress
from streamkit.queues.sqs import SqsQueue
from streamkit.sinks.kinesis import KinesisSink
from streamkit.sinks.sns import SnsSink
from streamkit.sinks.sqs import SqsSink

deadline = time.monotonic() + 60
for make in (SqsSink, SqsQueue, SnsSink, KinesisSink, S3Claims):
    made = [make("https://sqs.us-east-1.amazonaws.com/1/q") for _ in range(2)]
    for one in made:
        one._clients.until(deadline)._request_signer._credentials.get_frozen_credentials()
for seconds in (60, 3, 1.5, 0.1):
    DynamoDbProgress("t")._table.clients.until(time.monotonic() + seconds)._request_signer._credentials.get_frozen_credentials()
"""


def test_credentials_are_got_once_for_all_services() -> None:
    from .outside_server import OutsideServer

    def give(handler: Any) -> None:
        body = json.dumps(
            {"AccessKeyId": "a", "SecretAccessKey": "s", "Token": "t", "Expiration": "2099-01-01T00:00:00Z"}
        ).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server = OutsideServer()
    server.answer = give
    with server.running():
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{server.url}/credentials",
            "AWS_CONFIG_FILE": "/nonexistent",
            "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
        }
        ran = subprocess.run(
            [sys.executable, "-c", CREDENTIALS],
            capture_output=True,
            text=True,
            env=environment,
            timeout=120,
            check=False,
        )

    assert ran.returncode == 0, ran.stderr
    assert [request.path for request in server.requests] == ["/credentials"]


def test_claims_of_two_queues_have_one_connection(proxy: HttpProxy, moto_endpoint: str) -> None:
    s3 = boto3.client(
        "s3", endpoint_url=moto_endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="a"
    )
    bucket = f"claims-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=bucket)
    s3.close()
    stores = [S3Claims(bucket) for _ in range(2)]
    for n, store in enumerate(stores * 2):
        assert store.put("x" * 100, f"event-{n}", deadline=time.monotonic() + 60)

    assert proxy.accepted == 1
    for store in stores:
        store.close()

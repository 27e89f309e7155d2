"""What S3 answers, and what follows: the objects themselves are the contract's, on moto."""

from __future__ import annotations

import http.server
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from streamkit import Divert, Record, RecordProcessor, lambda_handler
from streamkit.claims.base import Claim, open_claim
from streamkit.claims.s3 import S3Claims
from streamkit.errors import ConfigurationError, Unavailable
from streamkit.queues.sqs import SqsQueue
from streamkit.testing import kinesis_event

from ..contracts.test_claims import client_of as s3_client
from ..contracts.test_queues import client_of as sqs_client

CLAIM = Claim(bucket="bucket", key="key", event_id="event-1", bytes=4, sha256="00" * 32)
ABSENT = b"<Error><Code>NoSuchKey</Code><Message>gone</Message></Error>"


class Server:
    """Answers each request with the next of ``script``: a status, a body, and what Content-Length says."""

    def __init__(self) -> None:
        self.script: list[tuple[int, bytes, int]] = []
        self.requests: list[str] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.requests.append(f"{self.command} {self.path}")
                status, content, length = server.script.pop(0) if server.script else (404, ABSENT, len(ABSENT))
                self.send_response(status)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(content)
                self.close_connection = True

            do_GET = do_PUT = answer  # noqa: N815  # The names that http.server calls.

            def log_message(self, *args: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def store(server: Server) -> Iterator[S3Claims]:
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    yield S3Claims("bucket", client=client)
    client.close()


def soon() -> float:
    return time.monotonic() + 30


def error(status: int, code: str) -> tuple[int, bytes, int]:
    body = f"<Error><Code>{code}</Code><Message>because</Message></Error>".encode()
    return status, body, len(body)


class TestAFetch:
    @pytest.mark.parametrize(
        "answer",
        [error(403, "AccessDenied"), error(404, "NoSuchBucket"), error(400, "ExpiredToken")],
        ids=["access", "bucket", "token"],
    )
    def test_that_the_deployment_is_to_blame_for_is_unavailable_at_once(
        self, answer: tuple[int, bytes, int], server: Server, store: S3Claims
    ) -> None:
        server.script = [answer] * 3

        with pytest.raises(Unavailable, match="s3://bucket/key"):
            store.fetch(CLAIM, deadline=soon())

        assert server.requests == ["GET /bucket/key"]

    @pytest.mark.parametrize("answer", [error(503, "SlowDown"), error(500, "InternalError"), (200, b"bo", 4)])
    def test_that_fails_for_a_passing_reason_is_made_again(
        self, answer: tuple[int, bytes, int], server: Server, store: S3Claims
    ) -> None:
        body = "body"
        claim = open_claim(MemoryLike.claim(body))
        assert claim is not None
        server.script = [answer, (200, body.encode(), 4)]

        assert store.fetch(claim, deadline=soon()) == body

        assert len(server.requests) == 2

    def test_past_the_deadline_is_tried_once(self, server: Server, store: S3Claims) -> None:
        server.script = [error(503, "SlowDown")] * 5

        with pytest.raises(Unavailable):
            store.fetch(CLAIM, deadline=time.monotonic() - 1)

        assert len(server.requests) == 1


class TestAPut:
    def test_that_fails_for_a_passing_reason_is_made_again_under_the_same_key(
        self, server: Server, store: S3Claims
    ) -> None:
        server.script = [error(503, "SlowDown"), (200, b"", 0)]

        claim = open_claim(store.put("body", "event-1", deadline=soon()))

        assert claim is not None
        assert server.requests == [f"PUT /bucket/{claim.key}"] * 2
        assert claim.key.startswith("streamkit-claims/")


class MemoryLike:
    """A claim as S3Claims makes it, without an S3."""

    @staticmethod
    def claim(body: str) -> str:
        from streamkit.testing import MemoryClaims

        return MemoryClaims("bucket").put(body, "event-1", deadline=0.0)


class TestFromEnv:
    def test_reads_the_variable_on_first_use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CLAIMS", raising=False)
        store = S3Claims.from_env("CLAIMS")

        with pytest.raises(ConfigurationError, match="CLAIMS is not set"):
            store.put("body", "event-1", deadline=soon())
        monkeypatch.setenv("CLAIMS", "bucket")

        assert store.bucket == "bucket"

    def test_of_a_variable_that_is_not_set_leaves_a_message_where_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CLAIMS", raising=False)

        class Orders(RecordProcessor):
            on_failure = Divert(
                SqsQueue("https://sqs/retries", claims=S3Claims.from_env("CLAIMS")), SqsQueue("https://sqs/dead")
            )

            def process(self, record: Record) -> None:
                raise AssertionError("there is nothing to process")

        message = {"messageId": "m-1", "body": CLAIM.encode(), "eventSource": "aws:sqs"}

        answer = lambda_handler(Orders)({"Records": [message]}, None)

        assert answer == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}


def test_a_record_too_large_for_sqs_goes_through_s3_and_comes_back(moto_endpoint: str) -> None:
    """The whole way: the stream's record of 3 MB fails, is put and sent, is received, opened and processed."""
    s3, sqs = s3_client(moto_endpoint), sqs_client(moto_endpoint)
    name = uuid.uuid4().hex
    s3.create_bucket(Bucket=name)
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    seen: list[tuple[str, int]] = []

    class Large(RecordProcessor):
        on_failure = Divert(SqsQueue(url, claims=S3Claims(name, client=s3), client=sqs), backoff=0)

        def process(self, record: Record) -> None:
            seen.append((record.event_id, len(record.data)))
            if record.source == "kinesis":
                raise ValueError("not today")

    handler = lambda_handler(Large)

    assert handler(kinesis_event([bytes(3_000_000)]), None) == {"batchItemFailures": []}
    (received,) = sqs.receive_message(QueueUrl=url)["Messages"]
    assert len(received["Body"]) < 500
    message = {"messageId": received["MessageId"], "body": received["Body"], "eventSource": "aws:sqs"}
    assert handler({"Records": [message]}, None) == {"batchItemFailures": []}

    assert len(seen) == 2
    assert seen[0] == seen[1]
    # Nobody but the bucket's lifecycle rule deletes it: the message could come a second time.
    assert s3.list_objects_v2(Bucket=name)["KeyCount"] == 1
    s3.close()
    sqs.close()

"""A Kinesis endpoint that answers what a test tells it, over HTTP, in the encoding of event streams too."""

from __future__ import annotations

import json
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
from botocore.config import Config

__all__ = ["Dies", "Endpoint", "Refusal", "event", "refused_event"]


class Refusal(Exception):
    """The error of that code, as the whole answer."""

    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(code)
        self.code, self.status = code, status


class Dies(Exception):
    """The connection ends in the middle of an answer."""


#: What an operation answers: JSON, bytes as they are, or the frames of an event stream.
Answer = dict[str, Any] | bytes | Iterable[bytes]


class Endpoint:
    """``operations`` has, for each operation, what answers a request's arguments; an Exception that it raises is the answer."""

    def __init__(self, **operations: Callable[[dict[str, Any]], Answer]) -> None:
        self.operations = operations
        #: The operation and the arguments of each request.
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def asked(self, operation: str) -> list[dict[str, Any]]:
        """The arguments of each request of that operation."""
        return [arguments for name, arguments in self.requests if name == operation]

    @contextmanager
    def client(self) -> Iterator[Any]:
        """boto3's client of it, while it listens."""
        server = _Server(self)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        client = boto3.client(
            "kinesis",
            endpoint_url=f"http://127.0.0.1:{server.server_port}",
            region_name="us-east-1",
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
            config=Config(retries={"total_max_attempts": 1}, proxies={}, inject_host_prefix=False),
        )
        try:
            yield client
        finally:
            client.close()
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = endpoint


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        endpoint = self.server.endpoint
        operation = self.headers["X-Amz-Target"].partition(".")[2]
        arguments = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        endpoint.requests.append((operation, arguments))
        try:
            answer = endpoint.operations[operation](arguments)
        except Refusal as refusal:
            self._whole(json.dumps({"__type": refusal.code, "message": "told to"}).encode(), refusal.status)
            return
        if isinstance(answer, dict):
            answer = json.dumps(answer).encode()
        if isinstance(answer, bytes):
            self._whole(answer)
        else:
            self._stream(answer)

    def _whole(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, frames: Iterable[bytes]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.amazon.eventstream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self._chunk(_frame({":message-type": "event", ":event-type": "initial-response"}, b"{}"))
            for frame in frames:
                self._chunk(frame)
            self._chunk(b"")
        except (Dies, OSError):
            # Told to, or the reader has left.
            self.close_connection = True

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # The name is the base class's.
        """Say nothing: a test's output is its own."""


def event(records: Iterable[dict[str, Any]] = (), **rest: Any) -> bytes:
    """The frame of an event with ``records`` in Kinesis's JSON form."""
    headers = {":message-type": "event", ":event-type": "SubscribeToShardEvent", ":content-type": "application/json"}
    return _frame(headers, json.dumps({"Records": [*records], "MillisBehindLatest": 0, **rest}).encode())


def refused_event(code: str) -> bytes:
    """The frame that says that the stream ends for that reason."""
    return _frame({":message-type": "exception", ":exception-type": code}, b'{"message":"told to"}')


def _frame(headers: dict[str, str], payload: bytes) -> bytes:
    """A message as ``application/vnd.amazon.eventstream`` has it: lengths and their checksum, headers, payload, checksum."""
    encoded = b"".join(
        struct.pack("!B", len(name)) + name.encode() + b"\x07" + struct.pack("!H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack("!II", 12 + len(encoded) + len(payload) + 4, len(encoded))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + encoded + payload
    return message + struct.pack("!I", zlib.crc32(message))

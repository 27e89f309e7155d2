"""Lambda's Runtime API for one execution environment: what awslambdaric, AWS's own runtime client, gets events from.

    GET  /2018-06-01/runtime/invocation/next            waits for an event
    POST /2018-06-01/runtime/invocation/<id>/response   the function's answer
    POST /2018-06-01/runtime/invocation/<id>/error      what it raised
    POST /2018-06-01/runtime/init/error                 the handler could not be imported

On the loopback address, on any free port. It needs the standard library only, so that others can drive the client by it too.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Answer", "Invocation", "RuntimeApi"]

_VERSION = "/2018-06-01/runtime/"


@dataclass(frozen=True)
class Invocation:
    """An event for the function; ``ends_at`` is in seconds since the epoch."""

    id: str
    arn: str
    payload: bytes
    ends_at: float


@dataclass(frozen=True)
class Answer:
    """What the function has answered, as JSON; of the import that failed, where ``is_init``."""

    payload: bytes
    is_error: bool
    is_init: bool = False


class RuntimeApi:
    """The API's server, from its making to ``close``. One invocation at a time, as an environment of Lambda's has it."""

    def __init__(self) -> None:
        self._events: queue.Queue[Invocation] = queue.Queue()
        self._answers: queue.Queue[Answer] = queue.Queue()
        #: Set once the client asks for an event: the handler is imported.
        self.is_ready = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self._events, self._answers, self.is_ready))
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        """For the client's AWS_LAMBDA_RUNTIME_API."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def invoke(self, invocation: Invocation) -> None:
        self._events.put(invocation)

    def answer(self, within: float) -> Answer | None:
        """The next answer, or None where there is none within so many seconds."""
        try:
            return self._answers.get(timeout=within)
        except queue.Empty:
            return None

    def close(self) -> None:
        """Once is enough, and twice does no harm."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed ends its connection."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _handler(
    events: queue.Queue[Invocation], answers: queue.Queue[Answer], is_ready: threading.Event
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path != f"{_VERSION}invocation/next":
                self.send_error(404)
                return
            is_ready.set()
            one = events.get()
            self.send_response(200)
            for name, value in {
                "Content-Type": "application/json",
                "Content-Length": str(len(one.payload)),
                "Lambda-Runtime-Aws-Request-Id": one.id,
                "Lambda-Runtime-Deadline-Ms": str(int(one.ends_at * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": one.arn,
                "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{one.id.replace('-', '')[:24]};Sampled=0",
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(one.payload)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            what = self.path.removeprefix(_VERSION)
            # First, since the answer may end this process.
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()
            answers.put(Answer(body, not what.endswith("/response"), what == "init/error"))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # Its base names it.
            """What the function says is its log; what the client asks is not."""

    return Handler

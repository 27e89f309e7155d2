"""Lambda's Invoke, by HTTP, for functions that run in threads of this process: what boto3's own client speaks to.

As Lambda does with asynchronous events: it answers 202 before the function runs, tries an event that failed twice more with the
same request id, delivers some twice where it is told to, and gives up in the end (``given_up``). It knows no throttles.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import boto3
from botocore.config import Config

from streamkit.local.context import RealContext

__all__ = ["Crash", "Invocation", "LambdaServer", "lambda_client"]


class Crash(BaseException):
    """The end of a process: nothing in the function can act on it."""


@dataclass
class Invocation:
    """One try of an event, and what came of it."""

    function: str
    event: Any
    request: str
    answer: Any = None
    error: BaseException | None = None
    is_over: bool = field(default=False)


class LambdaServer:
    """``functions`` by name. ``copies(n)`` says how often the n-th event is delivered (once), ``timeout`` is in seconds."""

    def __init__(self, *, timeout: float = 30.0, retry_after: float = 0.05) -> None:
        self.functions: dict[str, Callable[[Any, Any], Any]] = {}
        self.copies: Callable[[int], int] = lambda n: 1
        self.invocations: list[Invocation] = []
        self.given_up: list[Any] = []
        #: Tries of an event that failed, beside the first.
        self.retries = 2
        self.timeout = timeout
        self.retry_after = retry_after
        self._changed = threading.Condition()
        self._under_way = 0
        self._events = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Its endpoint."""
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def accept(self, function: str, payload: bytes) -> None:
        event = json.loads(payload)
        with self._changed:
            copies = self.copies(self._events)
            self._events += 1
            self._under_way += copies
        # An event that is delivered twice has one id, as one that is tried again.
        request = str(uuid.uuid4())
        for _ in range(copies):
            threading.Thread(target=self._deliver, args=(function, event, request), daemon=True).start()

    def wait(self, seconds: float = 30.0) -> None:
        """Until no event is waiting or under way."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._under_way == 0, seconds), "it does not end"

    def _deliver(self, function: str, event: Any, request: str) -> None:
        try:
            for number in range(1 + self.retries):
                if number:
                    threading.Event().wait(self.retry_after)
                if self._run(function, event, request).error is None:
                    return
            self.given_up.append(event)
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _run(self, function: str, event: Any, request: str) -> Invocation:
        one = Invocation(function, event, request)
        with self._changed:
            self.invocations.append(one)
        context = RealContext(self.timeout, function_name=function)
        context.aws_request_id = request
        try:
            one.answer = json.loads(json.dumps(self.functions[function](json.loads(json.dumps(event)), context)))
        except (Exception, Crash) as error:
            one.error = error
        one.is_over = True
        return one

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        accept = self.accept

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:  # http.server's name.
                payload = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["X-Amz-Invocation-Type"] == "Event"
                function = unquote(self.path.split("/functions/")[1].removesuffix("/invocations"))
                accept(function.rpartition(":function:")[2], payload)
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                return

        return Handler


def lambda_client(endpoint: str) -> Any:
    """boto3's client, which retries nothing itself, as streamkit's own."""
    return boto3.client(
        "lambda",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1, "mode": "standard"}, connect_timeout=10, read_timeout=10),
    )

"""Stands between a client and any HTTP service, and harms requests as a test says; it keeps account of what it did."""

from __future__ import annotations

import contextlib
import http.server
import itertools
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.sinks import aws_proxy

from .proxy import Exchanged, Proxy, hold, pass_on

__all__ = ["Act", "Answer", "Cut", "HttpProxy", "Request", "cut", "hold", "lose_answers", "lose_the_answer", "pass_on"]

Answer = aws_proxy.Answer
Act = Callable[["Request"], "Answer | Cut | None"]


class Cut:
    """An answer of which half is sent before the connection ends."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


class Request(aws_proxy.Request, Exchanged):
    """One request, and what became of it."""

    def __init__(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, upstream: str, lifted: threading.Event
    ) -> None:
        aws_proxy.Request.__init__(self, method, path, headers, body, upstream)
        Exchanged.__init__(self, lifted)
        #: The status that was answered, None where there was no whole answer.
        self.status: int | None = None

    def forward(self, body: bytes | None = None) -> Answer:
        answer = super().forward(body)
        self.reached.append(self.body if body is None else body)
        return answer


def lose_the_answer(request: Request) -> None:
    """Let the service do it, and end the connection."""
    request.harmed = True
    request.forward()


def lose_answers() -> Act:
    """One answer breaks off, the next is lost whole, and so on."""
    turns = itertools.cycle((cut, lose_the_answer))
    return lambda request: next(turns)(request)


def cut(request: Request) -> Cut:
    """Let the service do it, and break its answer off half-way."""
    request.harmed = True
    return Cut(request.forward())


class HttpProxy(Proxy[Request]):
    """In front of ``upstream``, on a port of its own that stays its own while nobody listens on it."""

    def __init__(self, upstream: str) -> None:
        self._host = urlsplit(upstream).netloc
        super().__init__()
        self._connections: set[socket.socket] = set()
        #: Connections so far.
        self.accepted = 0
        self._lock = threading.Lock()
        self._listen()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _listen(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), self._handler(), self.errors)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        with self._lock:
            live = list(self._connections)
        for connection in live:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # Head and body in one packet.

            def setup(self) -> None:
                super().setup()
                with proxy._lock:
                    proxy._connections.add(self.connection)
                    proxy.accepted += 1

            def finish(self) -> None:
                with proxy._lock:
                    proxy._connections.discard(self.connection)
                super().finish()

            def handle_expect_100(self) -> bool:
                super().handle_expect_100()
                self.wfile.flush()  # S3's client waits a second for it.
                return True

            def _handle(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = dict(self.headers.items())
                request = Request(self.command, self.path, headers, body, proxy._host, proxy.lifted)
                with proxy.in_hand(request) as act:
                    answer = act(request)
                self._answer(request, answer)

            def _answer(self, request: Request, answer: Answer | Cut | None) -> None:
                if answer is None:
                    self.close_connection = True
                    return
                status, headers, content = answer.answer if isinstance(answer, Cut) else answer
                if isinstance(answer, Cut) and not content:
                    self.wfile.write(b"HTTP/1.")
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                told = {name.lower(): value for name, value in headers.items()}.get("content-length", "0")
                self.send_header("Content-Length", told if self.command == "HEAD" else str(len(content)))
                self.end_headers()
                if isinstance(answer, Cut):
                    self.wfile.write(content[: len(content) // 2])
                    self.close_connection = True
                elif self.command != "HEAD":
                    self.wfile.write(content)
                    request.status = status

            do_POST = do_PUT = do_GET = do_DELETE = do_HEAD = _handle  # noqa: N815  # http.server's names.

            def log_message(self, *args: Any) -> None:
                return

        return Handler


class _Server(http.server.ThreadingHTTPServer):
    allow_reuse_port = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: Any, errors: list[BaseException]) -> None:
        super().__init__(address, handler)
        self._errors = errors

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError):
            self._errors.append(error)

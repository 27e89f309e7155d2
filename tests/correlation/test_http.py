"""What requests and httpx send, to a server of this machine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
import requests

from streamkit import correlation

from .conftest import TRACE, XRAY

Follow = Callable[..., Any]


class Server:
    """Answers everything, and keeps the headers of each request, by lower-case names."""

    def __init__(self) -> None:
        self.requests: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  # The base's name.
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def with_requests(url: str, **headers: str) -> None:
    with correlation.instrument(correlation.instrument(requests.Session())) as session:
        session.get(url, headers=headers)


def with_httpx(url: str, **headers: str) -> None:
    with correlation.instrument(correlation.instrument(httpx.Client())) as client:
        client.get(url, headers=headers)


def with_async_httpx(url: str, **headers: str) -> None:
    async def get() -> None:
        async with correlation.instrument(httpx.AsyncClient()) as client:
            await client.get(url, headers=headers)

    asyncio.run(get())


@pytest.mark.parametrize("get", [with_requests, with_httpx, with_async_httpx])
class TestARequest:
    def test_has_it_in_its_headers(self, get: Callable[..., None], server: Server, follow: Follow) -> None:
        with follow(x_correlation_user_id="u-7", traceparent=TRACE, tracestate="a=1", x_amzn_trace_id=XRAY):
            get(server.url)

        (headers,) = server.requests
        assert {name: headers[name] for name in headers if name.startswith(("x-", "trace", "call", "debug"))} == {
            "x-correlation-id": "r-1",
            "x-correlation-user-id": "u-7",
            "call-chain-length": "1",
            "debug-log-enabled": "false",
            "traceparent": TRACE,
            "tracestate": "a=1",
            "x-amzn-trace-id": XRAY,
        }

    def test_keeps_what_its_sender_has_set(self, get: Callable[..., None], server: Server, follow: Follow) -> None:
        with follow():
            get(server.url, **{"X-Correlation-Id": "mine"})

        assert server.requests[0]["x-correlation-id"] == "mine"

    def test_outside_of_any_event_has_nothing(self, get: Callable[..., None], server: Server) -> None:
        get(server.url)

        assert not [name for name in server.requests[0] if name.startswith(("x-", "trace", "call", "debug"))]

    def test_is_not_refused_for_a_long_chain_but_its_receiver_is_told(
        self, get: Callable[..., None], server: Server, follow: Follow
    ) -> None:
        with follow(call_chain_length="9"):
            get(server.url)

        assert server.requests[0]["call-chain-length"] == "10"


def test_the_adapters_that_a_session_has_go_on_sending(server: Server, follow: Follow) -> None:
    sent: list[str] = []

    class Mine(requests.adapters.HTTPAdapter):
        def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
            sent.append(request.headers["x-correlation-id"])
            return super().send(request, *arguments, **options)

    with requests.Session() as session:
        session.mount(server.url, Mine())
        correlation.instrument(session)
        with follow():
            session.get(server.url)

    assert sent == ["r-1"]


def test_the_hooks_that_a_client_has_go_on(server: Server, follow: Follow) -> None:
    seen: list[str] = []
    with httpx.Client(event_hooks={"request": [lambda request: seen.append(request.url.path)]}) as client:
        correlation.instrument(client)
        with follow():
            client.get(server.url)

    assert seen == ["/"]
    assert server.requests[0]["x-correlation-id"] == "r-1"

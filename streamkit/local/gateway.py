"""API Gateway, on this machine: HTTP requests become its events, and a function's answers become HTTP again.

    python -m streamkit.local.gateway processors.search_api:handler --port 8080

What is imitated is the form of events (payload 2.0 of HTTP APIs, 1.0 of REST APIs) and of answers; no limits, no authorisers.
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from .context import RealContext

__all__ = ["Gateway", "http_api_event", "rest_api_event"]

_LOOPBACK = "127.0.0.1"
_MOST_BODY = 10 * 1024 * 1024
_BINARY = ("text/", "application/json", "application/xml", "application/javascript")

Headers = list[tuple[str, str]]


class Gateway:
    """A server on ``port`` (0 is a free one) until the block ends; its address is ``endpoint``.

    ``payload``: "2.0" or "1.0". ``stage`` is in the path of payload 2.0 where it is not ``$default``, as API Gateway has it.
    ``timeout``: the function's, in seconds. One request at a time reaches the function, as in one container.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], Any],
        *,
        payload: Literal["2.0", "1.0"] = "2.0",
        stage: str = "$default",
        port: int = 0,
        timeout: float = 10.0,
    ) -> None:
        self._function = function
        self._event = http_api_event if payload == "2.0" else rest_api_event
        self._stage = stage
        self._timeout = timeout
        self._one = threading.Lock()
        self._server = ThreadingHTTPServer((_LOOPBACK, port), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://{_LOOPBACK}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self) -> None:
        """Until the server ends."""
        self._thread.join()

    def answer(self, method: str, target: str, headers: Headers, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body; 502 where the function fails or its answer is none, as API Gateway has it."""
        event = self._event(method, target, headers, body, self._stage)
        with self._one:
            try:
                # As Lambda hands it over: what is no JSON could not come from there.
                answer = json.loads(
                    json.dumps(self._function(json.loads(json.dumps(event)), RealContext(self._timeout)))
                )
                content = answer.get("body") or ""
                sent = base64.b64decode(content) if answer.get("isBase64Encoded") else content.encode()
                return int(answer["statusCode"]), dict(answer.get("headers") or {}), sent
            except Exception as error:  # noqa: BLE001  # Whatever the function does, API Gateway answers.
                print(f"the function failed: {type(error).__name__}: {error}", file=sys.stderr)
                return 502, {"Content-Type": "application/json"}, b'{"message":"Internal Server Error"}'


def http_api_event(method: str, target: str, headers: Headers, body: bytes, stage: str = "$default") -> dict[str, Any]:
    """An HTTP API's event, payload 2.0. ``target`` is a path with its query string."""
    parts = urlsplit(target)
    path = unquote(parts.path) or "/"
    path = path if stage == "$default" else f"/{stage}{path}"
    text, is_base64 = _body(headers, body)
    joined: dict[str, str] = {}
    for name, value in headers:
        joined[name.lower()] = f"{joined[name.lower()]},{value}" if name.lower() in joined else value
    event = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": parts.query,
        "headers": joined,
        "requestContext": {
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": _LOOPBACK},
            "stage": stage,
            "requestId": "local",
        },
        "isBase64Encoded": is_base64,
    }
    query: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True, errors="replace"):
        query[name] = f"{query[name]},{value}" if name in query else value
    return event | ({"queryStringParameters": query} if query else {}) | ({"body": text} if body else {})


def rest_api_event(method: str, target: str, headers: Headers, body: bytes, stage: str = "prod") -> dict[str, Any]:
    """A REST API's event, payload 1.0: what there is none of is null."""
    parts = urlsplit(target)
    path = unquote(parts.path) or "/"
    text, is_base64 = _body(headers, body)
    several: dict[str, list[str]] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True, errors="replace"):
        several.setdefault(name, []).append(value)
    all_headers: dict[str, list[str]] = {}
    for name, value in headers:
        all_headers.setdefault(name, []).append(value)
    return {
        "resource": "/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": {name: values[-1] for name, values in all_headers.items()} or None,
        "multiValueHeaders": all_headers or None,
        "queryStringParameters": {name: values[-1] for name, values in several.items()} or None,
        "multiValueQueryStringParameters": several or None,
        "pathParameters": {"proxy": path.removeprefix("/")},
        "requestContext": {"stage": stage, "path": f"/{stage}{path}", "httpMethod": method, "requestId": "local"},
        "body": text if body else None,
        "isBase64Encoded": is_base64,
    }


def _body(headers: Headers, body: bytes) -> tuple[str, bool]:
    """As API Gateway hands it on: text where the type says so and it is, else Base64."""
    kind = next((value for name, value in headers if name.lower() == "content-type"), "").lower()
    try:
        if kind.startswith(_BINARY):
            return body.decode(), False
    except UnicodeDecodeError:
        pass  # What says that it is text and is not, is bytes.
    return base64.b64encode(body).decode(), True


def _handler(gateway: Gateway) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # One packet for an answer's head and body.
        timeout = 60

        def _answer(self) -> None:
            try:
                body = self._body()
            except ValueError:
                self.close_connection = True
                self.send_error(413)
                return
            status, headers, content = gateway.answer(self.command, self.path, list(self.headers.items()), body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            has_body = status not in (204, 304) and self.command != "HEAD"
            if has_body or content:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if has_body:
                self.wfile.write(content)

        def _body(self) -> bytes:
            """All of it; ValueError where it is too long, or can't be read."""
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self._read(int(self.headers.get("Content-Length") or 0))
            body = b""
            while length := int(self.rfile.readline(20).partition(b";")[0], 16):
                body += self._read(length, len(body))
                self.rfile.readline(2)
            while self.rfile.readline(1000).strip():
                pass  # Headers that come after the body.
            return body

        def _read(self, length: int, before: int = 0) -> bytes:
            if not 0 <= length <= _MOST_BODY - before:
                raise ValueError(length)
            return self.rfile.read(length)

        def __getattr__(self, name: str) -> Callable[[], None]:
            # Every method there is, and those that there are not: what is taken is for the function to say.
            if name.startswith("do_"):
                return self._answer
            raise AttributeError(name)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # Its base names it.
            """Nothing: what is asked may be nobody's business."""

    return Handler


def main(arguments: list[str] | None = None) -> int:
    import argparse

    parser = argparse.ArgumentParser(prog="python -m streamkit.local.gateway", description=__doc__.partition("\n")[0])
    parser.add_argument("function", metavar="MODULE:FUNCTION")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one")
    parser.add_argument(
        "--payload", choices=("2.0", "1.0"), default="2.0", help="2.0: an HTTP API's; 1.0: a REST API's"
    )
    options = parser.parse_args(arguments)
    module, _, name = options.function.partition(":")
    sys.path.insert(0, "")
    function = getattr(importlib.import_module(module), name or "handler")
    with Gateway(function, payload=options.payload, port=options.port) as gateway:
        print(f"{gateway.endpoint} answers by {options.function}; Ctrl-C ends it", flush=True)
        try:
            gateway.wait()
        except KeyboardInterrupt:
            return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())

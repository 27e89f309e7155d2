"""HTTP on the loopback address: the standard library's server, one thread a connection."""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

import msgspec

from ...errors import ConfigurationError
from ...reason import reason
from ..connection import masked
from ..terminal import printable, say
from .answers import HEADERS, MOST_BODY_BYTES, Answers, Reply, Request

__all__ = ["LOOPBACK", "ConsoleServer"]

#: There is no option for another: what it serves is for the person at this machine.
LOOPBACK = "127.0.0.1"
# Seconds without a byte until a connection is dropped.
_PATIENCE = 30.0
_MOST_HEADER_NAMES = 100


class ConsoleServer(ThreadingHTTPServer):
    """Bound to ``port`` of the loopback address, 0 for any that is free; ConfigurationError where another program has it."""

    daemon_threads = True
    # A console that has just ended must not keep its port.
    allow_reuse_address = True

    def __init__(self, port: int, answers: Answers) -> None:
        self.answers = answers
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise ConfigurationError(
                f"port {port} can't be had ({error.strerror}): choose another with --port, 0 for any"
            ) from error

    def server_bind(self) -> None:
        # HTTPServer's own asks the name service for this address's name, which takes seconds where there is none.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = LOOPBACK, self.server_address[1]

    @property
    def url(self) -> str:
        """The page, with the token in the part that browsers send to nobody."""
        return f"http://{LOOPBACK}:{self.server_address[1]}/#token={self.answers.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A browser that goes away breaks its connections off, which is no news to anybody.
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            say(f"streamkit: a request could not be read: {printable(masked(reason(error)))}")


class _Handler(BaseHTTPRequestHandler):
    server: ConsoleServer
    protocol_version = "HTTP/1.1"
    server_version = "streamkit"
    sys_version = ""
    timeout = _PATIENCE

    def do_GET(self) -> None:
        self._answer(b"")

    do_HEAD = do_GET  # noqa: N815  # The name that the server looks for.

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BODY_BYTES:
            self._refuse(
                413 if length.isdecimal() else 411, f"a body of up to {MOST_BODY_BYTES:,} bytes, with its length"
            )
            return
        self._answer(self.rfile.read(int(length)))

    def log_message(self, *arguments: Any) -> None:
        """Nothing: a line every two seconds helps nobody."""

    def _answer(self, body: bytes) -> None:
        if len(self.headers) > _MOST_HEADER_NAMES:
            self._refuse(431, "too many headers")
            return
        # What is there twice has no one meaning.
        if len(self.headers.get_all("Host", [])) != 1:
            self._refuse(400, "a request has one Host")
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self._send(self.server.answers.answer(Request(self.command, self.path, headers, body)))

    def _refuse(self, status: int, text: str) -> None:
        self.close_connection = True
        self._send(Reply(status, msgspec.json.encode({"error": text})))

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", reply.type)
        self.send_header("Content-Length", str(len(reply.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

"""A server of prepared answers in a process of its own: it tells its port on standard output, and ends with its input."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Prepared", "serve"]


class Prepared(BaseHTTPRequestHandler):
    """Gives answers of the type ``content``."""

    protocol_version = "HTTP/1.1"
    # Else the body waits for the acknowledgement of the headers.
    wbufsize = -1
    content = "application/json"

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", self.content)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # The name is the base class's.
        """Say nothing: there is one request for each ten thousand records."""


def serve(handler: type[Prepared]) -> None:
    """Serve until standard input ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    server.shutdown()
    server.server_close()

"""The HTTP server of the local cloud's own services: it ends at once, whatever connections its clients keep open."""

from __future__ import annotations

import contextlib
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Server(ThreadingHTTPServer):
    """Handlers add their connection to ``sockets`` for as long as it lasts."""

    # Threads are waited for at the end, so their connections, which clients keep open, have to be closed then.
    daemon_threads = False
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.sockets: set[socket.socket] = set()
        super().__init__(address, handler)

    def server_close(self) -> None:
        for one in list(self.sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that went away is no error of this server's.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

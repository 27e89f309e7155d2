"""Stands between a client and a server, whatever they speak, and resets a connection on which certain bytes go by.

with Cutter("127.0.0.1:9060", to_server=b"a row") as cutter:
    client of cutter.endpoint …
    cutter.cuts == 1
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

__all__ = ["Cutter"]


class Cutter:
    """Resets the first connection on which ``to_server`` or ``to_client`` goes by, unforwarded. Use it as a context."""

    def __init__(self, server: str, *, to_server: bytes = b"", to_client: bytes = b"") -> None:
        host, _, port = server.partition(":")
        self._server = host, int(port)
        self._marks = {"to_server": to_server, "to_client": to_client}
        self._open: list[socket.socket] = []
        #: How many connections were reset.
        self.cuts = 0

    def __enter__(self) -> Cutter:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        # Closing alone leaves who waits in accept() waiting.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._open += [client, server]
                for way in ((client, server, "to_server"), (server, client, "to_client")):
                    threading.Thread(target=self._hand_on, args=way, daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket, way: str) -> None:
        mark = self._marks[way]
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if mark and not self.cuts and mark in data:
                    self.cuts += 1
                    for each in (source, target):
                        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        each.shutdown(socket.SHUT_RD)
                        each.close()
                    return
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

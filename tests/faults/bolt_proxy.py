"""Stands between a client and a graph database, and harms transactions as a test says, when they are to be committed.

It knows of Bolt how messages are framed and which of them begin and commit, and reads none of the values in them.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import struct
import threading
from collections.abc import Callable, Iterator

from .proxy import Exchanged, Proxy, hold, pass_on

__all__ = ["Act", "BoltProxy", "Transaction", "cut", "fail_with", "hold", "lose_the_answer", "pass_on"]

_HANDSHAKE, _VERSION = 20, 4
_RUN, _BEGIN, _COMMIT = 0x10, 0x11, 0x12
_SUCCESS = 0x70

#: What to answer a commit with, as one message; None ends the connection.
Act = Callable[["Transaction"], "bytes | None"]


class Transaction(Exchanged):
    """What a client wants to commit. ``statements`` are its RUN messages, with their parameters."""

    def __init__(self, connection: _Connection, lifted: threading.Event) -> None:
        super().__init__(lifted)
        self.statements: list[bytes] = []
        self._connection = connection

    def forward(self) -> bytes:
        """The server's answer to the commit."""
        answer = self._connection.ask(bytes([0xB0, _COMMIT]))
        if answer[1] == _SUCCESS:
            self.reached += self.statements
        return answer

    def contains(self, text: str) -> bool:
        return any(text.encode() in statement for statement in self.statements)


def lose_the_answer(transaction: Transaction) -> None:
    """Let the server commit, and end the connection."""
    transaction.harmed = True
    transaction.forward()


def cut(transaction: Transaction) -> None:
    """End the connection before the server has the commit."""
    transaction.harmed = True


def fail_with(code: str, message: str = "told to") -> Act:
    """Answer with a failure before the server has the commit."""

    def act(transaction: Transaction) -> bytes:
        transaction.harmed = True
        return b"\xb1\x7f\xa2" + b"".join(map(_packed, ("code", code, "message", message)))

    return act


def _packed(text: str) -> bytes:
    content = text.encode()
    return b"\xd0" + bytes([len(content)]) + content


class BoltProxy(Proxy[Transaction]):
    """In front of the server at ``port``, on a port of its own that stays its own while nobody listens on it."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._upstream = port
        self._connections: set[_Connection] = set()
        self._lock = threading.Lock()
        self._listen()

    @property
    def url(self) -> str:
        return f"bolt://127.0.0.1:{self.port}"

    def _listen(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen()
        self._thread = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        with self._lock:
            live = list(self._connections)
        for connection in live:
            connection.end()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        connection = _Connection(client, socket.create_connection(("127.0.0.1", self._upstream)))
        with self._lock:
            self._connections.add(connection)
        try:
            self._exchange(connection)
        except (OSError, EOFError):
            pass  # Either of them has gone.
        except Exception as error:
            self.errors.append(error)
            raise
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.end()

    def _exchange(self, connection: _Connection) -> None:
        transaction: Transaction | None = None
        for message in connection.messages():
            kind = message[1]
            if kind == _BEGIN:
                transaction = Transaction(connection, self.lifted)
            elif kind == _RUN and transaction is not None:
                transaction.statements.append(message)
            if kind != _COMMIT or transaction is None:
                connection.tell_server(message)
                continue
            with self.in_hand(transaction) as act:
                answer = act(transaction)
            transaction = None
            if answer is None:
                return
            connection.tell_client(answer)


class _Connection:
    """A client, and the server that it speaks to."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._client, self._server = client, server
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._is_asking = False

    def messages(self) -> Iterator[bytes]:
        """The client's, as they come. The server's go to the client meanwhile, but for the answers of ``ask``."""
        self._server.sendall(_read(self._client, _HANDSHAKE))
        self._client.sendall(_read(self._server, _VERSION))
        threading.Thread(target=self._hand_back, daemon=True).start()
        while True:
            yield _read_message(self._client)

    def ask(self, message: bytes) -> bytes:
        self._is_asking = True
        self.tell_server(message)
        return self._answers.get(timeout=30)

    def tell_server(self, message: bytes) -> None:
        self._server.sendall(_framed(message))

    def tell_client(self, message: bytes) -> None:
        self._client.sendall(_framed(message))

    def end(self) -> None:
        for each in (self._client, self._server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _hand_back(self) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                message = _read_message(self._server)
                if self._is_asking:
                    self._is_asking = False
                    self._answers.put(message)
                else:
                    self.tell_client(message)


def _read_message(source: socket.socket) -> bytes:
    """One message, of the chunks that it comes in. Empty ones between messages say that somebody is still there."""
    message = b""
    while True:
        (size,) = struct.unpack(">H", _read(source, 2))
        if size:
            message += _read(source, size)
        elif message:
            return message


def _read(source: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        part = source.recv(size - len(content))
        if not part:
            raise EOFError
        content += part
    return content


def _framed(message: bytes) -> bytes:
    chunks = [message[n : n + 0xFFFF] for n in range(0, len(message), 0xFFFF)]
    return b"".join(struct.pack(">H", len(chunk)) + chunk for chunk in chunks) + b"\0\0"

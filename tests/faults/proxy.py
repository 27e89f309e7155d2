"""What the proxies of both protocols have in common: which act they do, to what, and a port that stays theirs."""

from __future__ import annotations

import contextlib
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

__all__ = ["Exchanged", "Proxy", "hold", "pass_on"]


class Exchanged:
    """A request or a call, and what became of it."""

    def __init__(self, lifted: threading.Event) -> None:
        #: Set when the fault is over.
        self.lifted = lifted
        #: Whether the act did anything to it.
        self.harmed = False
        #: What the service has seen of it.
        self.reached: list[bytes] = []


Exchange = TypeVar("Exchange")
#: The forms differ by protocol; what an act answers is its proxy's affair.
Act = Callable[[Any], Any]


def pass_on(exchange: Any) -> Any:
    return exchange.forward()


def hold(exchange: Any) -> Any:
    """Keep it until the fault is over: it takes effect, and nobody waits for the answer any more."""
    exchange.harmed = True
    exchange.lifted.wait(60)
    return exchange.forward()


class Proxy(ABC, Generic[Exchange]):
    """On a port of its own, that stays its own while nobody listens on it."""

    def __init__(self) -> None:
        #: Everything that came, in the order of arrival.
        self.seen: list[Exchange] = []
        #: What went wrong in here, but for callers that have gone.
        self.errors: list[BaseException] = []
        self.act: Act = pass_on
        self.lifted = threading.Event()
        self._idle = threading.Condition()
        self._in_hand = 0
        # Bound and never listened on: a connection is refused when the server is away, and nobody else gets the port.
        self._place = socket.socket()
        self._place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._place.bind(("127.0.0.1", 0))
        self.port: int = self._place.getsockname()[1]

    @abstractmethod
    def _listen(self) -> None: ...

    @abstractmethod
    def _stop(self) -> None: ...

    @contextlib.contextmanager
    def failing(self, act: Act) -> Iterator[None]:
        """Everything meets ``act``, until the context ends and what was held is done."""
        self.lifted = threading.Event()
        self.act = act
        try:
            yield
        finally:
            self.act = pass_on
            self.lifted.set()
            with self._idle:
                assert self._idle.wait_for(lambda: self._in_hand == 0, 30), "something was not done with"

    @contextlib.contextmanager
    def gone(self) -> Iterator[None]:
        """Nobody listens, and the connections that there are have ended."""
        self._stop()
        try:
            yield
        finally:
            self._listen()

    def refuses_connections(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except ConnectionRefusedError:
            return True
        return False

    def close(self) -> None:
        self._stop()
        self._place.close()

    @contextlib.contextmanager
    def in_hand(self, exchange: Exchange) -> Iterator[Act]:
        """Note what came, until the context ends; the act that is to be done to it."""
        with self._idle:
            act = self.act
            self.seen.append(exchange)
            self._in_hand += 1
        try:
            yield act
        finally:
            with self._idle:
                self._in_hand -= 1
                self._idle.notify_all()

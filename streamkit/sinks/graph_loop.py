"""The event loop that a driver lives on, in a thread of its own that holds nobody up: neither who asks, nor a process that ends.

Imported with the first request, since asyncio takes a while.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

__all__ = ["DriverLoop", "Stuck"]

P = ParamSpec("P")
T = TypeVar("T")

# Seconds. What a driver has to say good-bye in; and what is waited for beyond the time that something was given.
_CLOSE = 1.0
_GRACE = 1.0


class Stuck(Exception):
    """Something did not stop when its time was up, so the loop is of no use any more."""


class DriverLoop:
    """A driver, made by ``connect`` when it is first asked, and its loop, which runs only while something is asked.

    ``process`` is the one that has its thread: in another, forked from it, there is none, and it must not be touched.
    """

    def __init__(self, connect: Callable[[], Any]) -> None:
        self.process = os.getpid()
        self._connect = connect
        self._driver: Any = None
        self._runner: asyncio.Runner | None = None
        self._is_over = False
        self._jobs: queue.SimpleQueue[tuple[Callable[[asyncio.Runner], Any], Future[Any]]] = queue.SimpleQueue()
        # A daemon: what hangs would keep the process from its end.
        self._thread = threading.Thread(target=self._work, name="streamkit graph", daemon=True)
        self._thread.start()

    def run(self, ask: Callable[[Any], Awaitable[T]], timeout: float) -> T:
        """What ``ask`` answers, given the driver; TimeoutError, or Stuck, in about ``timeout`` seconds."""

        async def asked() -> T:
            if self._driver is None:
                until = time.monotonic() + timeout
                self._driver = self._connect()
                if time.monotonic() >= until:
                    # Nobody waits any more: let no connection be begun.
                    raise TimeoutError
            return await ask(self._driver)

        answer = self._put(lambda runner: runner.run(asyncio.wait_for(asked(), timeout)))
        return self._result(answer, timeout)

    def close(self) -> None:
        """Close the connections, and end the thread; Stuck where that takes more than two seconds: it goes on by itself."""
        answer = self._put(self._finish)
        self._result(answer, _CLOSE)
        self._thread.join(_GRACE)

    def abandon(self) -> None:
        """The same as soon as what it does is over. Nobody waits for it."""
        self._put(self._finish)

    def _put(self, job: Callable[[asyncio.Runner], T]) -> Future[T]:
        answer: Future[T] = Future()
        self._jobs.put((job, answer))
        return answer

    @staticmethod
    def _result(answer: Future[T], timeout: float) -> T:
        try:
            return answer.result(timeout + _GRACE)
        except TimeoutError:
            if answer.done():
                raise
            raise Stuck from None

    def _finish(self, runner: asyncio.Runner) -> None:
        self._is_over = True
        try:
            if self._driver is not None:
                runner.run(asyncio.wait_for(self._driver.close(), _CLOSE))
        except TimeoutError:
            return  # The sockets are closed; it was their good-bye that nobody heard.
        finally:
            runner.close()

    def _work(self) -> None:
        self._runner = asyncio.Runner()
        self._runner.get_loop().set_default_executor(_LookUps())
        while not self._is_over:
            job, answer = self._jobs.get()
            try:
                answer.set_result(job(self._runner))
            except BaseException as error:  # noqa: BLE001  # It is raised where it is waited for.
                answer.set_exception(error)
            # Not until the next: it has the request's rows.
            del job, answer


class _LookUps(ThreadPoolExecutor):
    """Where a loop looks up names of hosts, each in a thread of its own: one that hangs would keep the process from its end."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        answer: Future[T] = Future()

        def look_up() -> None:
            try:
                answer.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001  # As above.
                answer.set_exception(error)

        answer.set_running_or_notify_cancel()
        threading.Thread(target=look_up, name="streamkit graph look-up", daemon=True).start()
        return answer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """There is nothing to wait for: no thread is this pool's own."""

"""What is asked of the endpoint, when, and how often at most.

A console must not take from the readers what is theirs. So one thread asks for everything, one call after another, and pauses
after each task for as long as its requests may take at eight a second. It asks while somebody looks at the page, and not else;
and what was refused is asked for less and less often, down to once in two minutes.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from ...errors import StreamkitError
from ...reason import reason
from ..connection import masked

__all__ = ["Due", "Schedule", "Task", "Watch", "bound"]

_LONGEST_BACKOFF = 120.0
# Seconds of pause for a call, so that there are eight a second at most.
_BETWEEN_CALLS = 0.125
# Without a request for so long nobody looks any more.
_NOBODY_LOOKS_AFTER = 15.0
_RATE_WINDOW = 10.0


class Task(msgspec.Struct, frozen=True):
    """Something to ask for every ``every`` seconds; ``run`` can return how many there have to be before the next time."""

    name: str
    every: float
    run: Callable[[], float | None]


def bound(call: Callable[..., float | None], *arguments: Any) -> Callable[[], float | None]:
    """What a task runs: ``call`` with these arguments."""
    return lambda: call(*arguments)


class Due(msgspec.Struct):
    """When a task is due, by the monotonic clock, and how often it has failed one after another."""

    at: float = 0.0
    failures: int = 0
    error: str = ""


class Schedule:
    """Which task is next: pure, it is told the time."""

    def __init__(self) -> None:
        self._due: dict[str, Due] = {}

    def next(self, tasks: list[Task], now: float) -> Task | None:
        """The task that has waited longest; None where none is due."""
        for name in self._due.keys() - {task.name for task in tasks}:
            del self._due[name]
        waiting = [(self._due.setdefault(task.name, Due()).at, n) for n, task in enumerate(tasks)]
        at, n = min(waiting, default=(now + 1.0, 0))
        return tasks[n] if at <= now else None

    def went_well(self, task: Task, now: float, rest: float = 0.0) -> None:
        """It is due again after its time, or after ``rest`` seconds where that is longer."""
        self._due[task.name] = Due(now + max(task.every, rest))

    def failed(self, task: Task, now: float, error: str) -> None:
        """It is due again after a time that doubles with each failure, up to two minutes."""
        failures = self._due.get(task.name, Due()).failures + 1
        wait = min(max(_LONGEST_BACKOFF, task.every), task.every * 2.0 ** min(failures, 10))
        self._due[task.name] = Due(now + wait, failures, error)

    def error(self, name: str) -> str:
        """Why the task failed last; empty where it did not."""
        due = self._due.get(name)
        return due.error if due is not None else ""


class Watch:
    """Runs the tasks that ``tasks()`` gives, in a thread of its own, while somebody calls ``look`` now and then.

    ``sent()``: how many requests to AWS were sent so far. ``speed``: how many of its seconds go by in one; tests have no time.
    """

    def __init__(self, tasks: Callable[[], list[Task]], sent: Callable[[], int], *, speed: float = 1.0) -> None:
        self._tasks = tasks
        self._sent = sent
        self._speed = speed
        self._schedule = Schedule()
        self._looked_at = -_NOBODY_LOOKS_AFTER
        self._wake = threading.Condition()
        self._is_ending = False
        self._calls: deque[tuple[float, int]] = deque()
        self._thread = threading.Thread(target=self._go_on, name="streamkit console watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        with self._wake:
            self._is_ending = True
            self._wake.notify_all()
        self._thread.join(timeout=10.0)

    def look(self) -> None:
        """Somebody looks."""
        with self._wake:
            self._looked_at = self._now()
            self._wake.notify_all()

    def error(self, name: str) -> str:
        """Why a task failed last, and empty where it did not."""
        with self._wake:
            return self._schedule.error(name)

    def calls_a_second(self) -> float:
        """How many requests to AWS there were, over the last ten seconds."""
        with self._wake:
            since = self._now() - _RATE_WINDOW
            return sum(count for at, count in self._calls if at >= since) / _RATE_WINDOW

    def _now(self) -> float:
        return time.monotonic() * self._speed

    def _go_on(self) -> None:
        while True:
            # Outside of the lock: those that give tasks have locks of their own, in which they ask for errors.
            tasks = self._tasks()
            with self._wake:
                if self._is_ending:
                    return
                now = self._now()
                if now - self._looked_at > _NOBODY_LOOKS_AFTER:
                    self._wake.wait()
                    continue
                task = self._schedule.next(tasks, now)
                if task is None:
                    self._wake.wait(_BETWEEN_CALLS / self._speed)
                    continue
            before = self._sent()
            error, rest = _ran(task)
            calls = self._sent() - before
            with self._wake:
                now = self._now()
                if error:
                    self._schedule.failed(task, now, error)
                else:
                    self._schedule.went_well(task, now, rest)
                self._calls.append((now, calls))
                while self._calls and self._calls[0][0] < now - _RATE_WINDOW:
                    self._calls.popleft()
                if not self._is_ending and calls:
                    # Not woken by a look: it is a pause.
                    self._wake.wait_for(lambda: self._is_ending, _BETWEEN_CALLS * calls / self._speed)


def _ran(task: Task) -> tuple[str, float]:
    """Why it failed, or an empty text; and the seconds that it wants to rest."""
    try:
        return "", task.run() or 0.0
    except StreamkitError as error:
        return masked(str(error)), 0.0
    except Exception as error:  # noqa: BLE001  # Shown on the page; what is beside it goes on.
        return masked(reason(error)), 0.0

"""When an invocation has to have answered, and whether there is time for another record before that."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter
from typing import Any, TypeVar

__all__ = ["Deadline", "ruling"]

T = TypeVar("T")


class Deadline:
    """The end of one invocation, read from Lambda's context, so that a simulated clock rules as the real one does.

    Work starts only while ``remaining() >= reserve + longest_record``: the processor's ``deadline_margin``, the longest
    request so far to each sink and queue, and the longest record so far. All of it was measured in this invocation.
    """

    def __init__(self, context: Any, margin: float) -> None:
        self._context = context
        milliseconds: Callable[[], float] = getattr(context, "get_remaining_time_in_millis", None) or _for_ever
        #: Seconds on the clock that rules the invocation, which a context on a clock of its own tells; else ``time.monotonic()``.
        self.now: Callable[[], float] = getattr(context, "monotonic", None) or time.monotonic
        #: Seconds until the function is stopped; infinity where the context does not say.
        self.remaining: Callable[[], float] = lambda: milliseconds() / 1000
        self._margin = margin
        self._longest_request: dict[int, float] = {}
        #: Seconds that requests have taken so far, by the ``id()`` of what they were to, which stands beside them.
        self.spent: dict[int, tuple[object, float]] = {}
        self._kept = 0.0
        self.longest_record = 0.0
        self.reserve = margin

    @property
    def account(self) -> str:
        """The account that the function is in, by the ARN that it was invoked by; empty where the context tells none."""
        arn = getattr(self._context, "invoked_function_arn", None)
        parts = arn.split(":") if isinstance(arn, str) else []
        return parts[4] if len(parts) > 6 else ""

    def allows_another(self) -> bool:
        """Whether one more record, as long as the longest so far, would leave time to flush and answer."""
        return self.remaining() >= self.reserve + self.longest_record

    def keep_back(self, seconds: float) -> None:
        """Keep so much more than the margin for what follows when the records have run."""
        self._kept += seconds
        self.reserve += seconds

    def allows_request(self, to: object) -> bool:
        """Whether one more request, as long as the longest so far to it, would leave half the margin to answer."""
        return self.remaining() >= self._margin / 2 + self._longest_request.get(id(to), 0.0)

    def of_request(self) -> float:
        """The latest time, on ``time.monotonic()``'s clock, for a sink or queue to have answered.

        Half the margin is left to answer with; of less time than that, half goes to the request and half to the answer.
        """
        remaining = self.remaining()
        return time.monotonic() + max(remaining - self._margin / 2, remaining / 2)

    def request(self, to: object, call: Callable[[float], T]) -> T:
        """Make one request with its deadline, and remember how long such a one takes."""
        before, started = self.remaining(), perf_counter()
        try:
            return call(self.of_request())
        finally:
            # By a clock of its own: Lambda's tells whole milliseconds, and a simulated one rules what may start.
            spent = self.spent.get(id(to), (to, 0.0))[1]
            self.spent[id(to)] = to, spent + perf_counter() - started
            took = before - self.remaining()
            if took > self._longest_request.get(id(to), 0.0):
                self._longest_request[id(to)] = took
                self.reserve = self._margin + self._kept + sum(self._longest_request.values())


#: That of the invocation that runs here and now, for what a processor's methods call and are given none; of a branch of a
#: ``FanOut``, while its records run, the branch's own. None: there is no invocation.
ruling: ContextVar[Deadline | None] = ContextVar("streamkit.deadline.ruling", default=None)


def _for_ever() -> float:
    return float("inf")

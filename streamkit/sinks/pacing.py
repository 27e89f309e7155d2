"""How fast, and in what sizes, a service is asked: less when it has too much, more again as it answers.

Both are what is known of the *service*, not of an invocation: they live with the sink, as long as the container does, so that
what one invocation was told the next one keeps to. Additive increase and multiplicative decrease, so that many senders that
know nothing of each other come to share what the service can take.
"""

from __future__ import annotations

import time

__all__ = ["Pace", "RequestSize"]

# Seconds between two requests: after the first refusal, and at most.
_FIRST = 0.25
_SLOWEST = 10.0
# What a success adds to the rate, in requests a second. From the slowest it is twenty successes until nothing is waited for.
_FASTER = 0.2
# After so many seconds without a request the last refusal says nothing any more.
_STALE = 300.0


class Pace:
    """The wait before the next request to a service.

    Each refusal doubles the gap between requests, from 0.25 s to 10 s; each success adds 0.2 requests a second, until no gap
    is left. The gap begins where the last request ended, so time between two invocations counts. Half of it is random:
    senders that were refused together don't come back together. It never waits by itself, and never asks for more than 10 s.
    """

    def __init__(self) -> None:
        self._gap = 0.0
        self._not_before = 0.0
        self._heard = float("-inf")

    @property
    def gap(self) -> float:
        """Seconds between requests, on average a quarter less; 0 while all is well."""
        return self._gap

    def wait(self) -> float:
        """Seconds until the next request may go out."""
        return max(0.0, self._not_before - time.monotonic())

    def slow_down(self) -> None:
        """The service has refused, failed, or not answered a request that has just ended."""
        gap = 0.0 if time.monotonic() - self._heard > _STALE else self._gap
        self._follow(min(max(2 * gap, _FIRST), _SLOWEST))

    def went_well(self) -> None:
        """The service has taken a request that has just ended."""
        gap = 1 / (1 / self._gap + _FASTER) if self._gap else 0.0
        self._follow(0.0 if gap < _FIRST else gap)

    def _follow(self, gap: float) -> None:
        from random import uniform

        self._gap = gap
        self._heard = time.monotonic()
        self._not_before = self._heard + uniform(gap / 2, gap)  # noqa: S311 (spreads senders; nothing secret)


class RequestSize:
    """The most bytes of one request, between ``least`` and ``most``; ``step`` is what a success adds to it.

    A single item that is larger goes out alone.
    """

    def __init__(self, most: int, *, least: int, step: int) -> None:
        self._most, self._least, self._step = most, least, step
        self.bytes = most

    def too_large(self, size: int) -> None:
        """A request of ``size`` bytes was too much. One smaller than the least says nothing: its size was not why."""
        if size > self._least:
            self.bytes = max(self._least, min(self.bytes, size) // 2)

    def went_well(self, size: int) -> None:
        """A request of ``size`` bytes was taken. Only one of more than half of what is allowed shows that more may be tried."""
        if 2 * size > self.bytes:
            self.bytes = min(self._most, self.bytes + self._step)

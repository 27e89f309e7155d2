"""A circuit breaker: what a container knows of a service that does not answer, so that it is not asked in vain.

A circuit is *closed* as long as there are answers. After ``FAILURES`` requests in a row without one it *opens*: for a pause
nothing is asked, and what would have been is unavailable at once. The first request after the pause is a *probe*, which has
``PROBE_TIME`` and no more, so that a service that hangs costs seconds and not the invocation. With an answer the circuit is
closed; without, the next pause and the next probe's time are twice as long, up to ``LONGEST_PAUSE`` and ``LONGEST_PROBE``.

It only decides whether to ask. What is unavailable stays in its stream or queue, as without a breaker: docs/backpressure.md.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from .errors import SinkError

__all__ = ["FAILURES", "LONGEST_PAUSE", "LONGEST_PROBE", "PROBE_TIME", "Breaker", "CircuitOpen"]

log = logging.getLogger("streamkit")

#: Requests in a row without an answer after which nothing is asked. One can be bad luck; each costs up to an invocation's time.
FAILURES = 3
#: The first pause and the longest, in seconds. Records wait so much longer than the outage at most, and a quarter more.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
#: What the first probe is given, in seconds, and the longest: several calls of a service that is slow, not a whole invocation.
PROBE_TIME = 10.0
LONGEST_PROBE = 60.0

# A pause is so much longer at most, by chance, lest all containers ask in one moment.
_JITTER = 0.25


class CircuitOpen(SinkError):
    """Nothing was asked: the last requests had no answer, and the next is made later."""


class Breaker:
    """The circuit to one service. It lives as long as its container, and holds nothing of any invocation.

    ``name`` is what the service is called in errors and in the log; ``chance`` a number from 0 to 1 for each pause. ``now`` is
    seconds on the clock of ``time.monotonic()``, or on a test's own. Threads that share one may make a probe each.
    """

    __slots__ = ("_asked_at", "_chance", "_failures", "_name", "_reason")

    def __init__(self, name: str, chance: Callable[[], float] | None = None) -> None:
        self._name = name
        self._chance = chance or _chance
        self._failures = 0
        self._asked_at = 0.0
        self._reason = ""

    @property
    def is_open(self) -> bool:
        """Whether the last requests had no answer, so that the next is a probe."""
        return self._failures >= FAILURES

    @property
    def probe_time(self) -> float:
        """What the next probe is given, in seconds: twice as much as the last one, for a service that is back may be slow."""
        return min(LONGEST_PROBE, PROBE_TIME * 2.0 ** min(max(self._failures - FAILURES, 0), 60))

    def refusal(self, now: float) -> CircuitOpen | None:
        """Why nothing is to be asked now; None where it is."""
        if self._failures < FAILURES or now >= self._asked_at:
            return None
        return CircuitOpen(
            f"not asked, after {self._failures} requests in a row without an answer, for {self._asked_at - now:.0f} s more; "
            f"the last: {self._reason}"
        )

    def answered(self) -> None:
        """There was an answer, be it a refusal: the service is there."""
        if self.is_open:
            log.warning("%s answers again, after %d requests in a row without an answer", self._name, self._failures)
        self._failures = 0

    def failed(self, reason: str, now: float) -> None:
        """There was no answer to a request that ended at ``now``; ``reason`` may be logged."""
        was_open = self.is_open
        self._failures += 1
        self._reason = reason
        if not self.is_open:
            return
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - FAILURES, 60))
        self._asked_at = now + pause * (1 + _JITTER * self._chance())
        if not was_open:
            text = (
                "%s has not answered %d requests in a row, and is asked again in %.0f s, then less and less often: %s"
            )
            log.error(text, self._name, self._failures, pause, self._reason)


def _chance() -> float:
    """From 0 to 1. The module ``random`` is not worth its import for this."""
    return int.from_bytes(os.urandom(2), "big") / 65536

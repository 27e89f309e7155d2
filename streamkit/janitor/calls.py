"""Calls to Lambda's control plane: no faster than is allowed, slower where it throttles, and none past the deadline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from ..aws import Clients, is_throttle, may_pass
from ..errors import StreamkitError

__all__ = ["Calls", "OutOfTime", "Pace"]

# Seconds between two calls at most; how much longer a throttle makes them, and how much shorter each answer.
_SLOWEST = 10.0
_SLOWER, _FASTER = 2.0, 0.9
# What Lambda says itself of how long to wait is believed up to so many seconds.
_LONGEST_ASKED = 60.0
# Times that one call is made without an answer, or with one of a server at fault. Throttles do not count.
_TRIES = 4


class OutOfTime(StreamkitError):
    """The next call would begin past the deadline: what is left is for the next run."""


class Pace:
    """When the next call may be made. Pure: ``now`` is seconds on any clock, and never goes back."""

    def __init__(self, rate: float) -> None:
        self._least = self._gap = 1 / rate
        self._next = float("-inf")

    @property
    def gap(self) -> float:
        """Seconds between two calls."""
        return self._gap

    def wait(self, now: float) -> float:
        return max(self._next - now, 0.0)

    def began(self, now: float) -> None:
        self._next = now + self._gap

    def throttled(self, now: float, asked: float = 0.0) -> None:
        """Lambda has too many calls, of whomever; ``asked``: the seconds that it asks to wait for."""
        self._gap = min(self._gap * _SLOWER, _SLOWEST)
        self._next = now + max(self._gap, min(asked, _LONGEST_ASKED))

    def answered(self) -> None:
        self._gap = max(self._gap * _FASTER, self._least)


class Calls:
    """``calls("list_functions", MaxItems=50)``, with the names of boto3.

    ``deadline`` is on ``time.monotonic()``'s clock, and may be set anew. OutOfTime where a call can't begin before it; else
    what the client raises: refusals at once, and what may pass after four tries. Throttles are waited for.
    """

    def __init__(self, clients: Clients, deadline: float, rate: float) -> None:
        self._clients = clients
        self.deadline = deadline
        self._pace = Pace(rate)
        #: How often the last call was made, but for what was throttled, which Lambda has not done. Of one that was made again
        #: nobody knows what the first has done.
        self.tries = 0
        #: Throttles so far.
        self.throttles = 0

    def __call__(self, operation: str, **arguments: Any) -> Any:
        self.tries = 0
        left = _TRIES
        while True:
            self._wait()
            self.tries += 1
            try:
                answer = getattr(self._clients.until(self.deadline), operation)(**arguments)
            except Exception as error:
                if is_throttle(error):
                    self.tries -= 1
                    self.throttles += 1
                    self._pace.throttled(time.monotonic(), _asked_to_wait(error))
                    continue
                left -= 1
                if not left or not may_pass(error):
                    raise
                self._pace.throttled(time.monotonic())
            else:
                self._pace.answered()
                return answer

    def pages(self, operation: str, of: str, **arguments: Any) -> Iterator[Any]:
        """All of a list. StreamkitError where an answer has no list, or no end: what is not told is not to be taken for empty."""
        marker = None
        while True:
            answer = self(operation, **arguments, **({} if marker is None else {"Marker": marker}))
            if not isinstance(found := answer.get(of), list):
                raise StreamkitError(f"{operation}: the answer has no {of}")
            yield from found
            following = answer.get("NextMarker") or None
            if following is None:
                return
            if following == marker:
                raise StreamkitError(f"{operation}: a page is followed by itself")
            marker = following

    def _wait(self) -> None:
        wait = self._pace.wait(time.monotonic())
        if time.monotonic() + wait >= self.deadline:
            raise OutOfTime("the time is up")
        if wait:
            time.sleep(wait)
        self._pace.began(time.monotonic())


def _asked_to_wait(error: Any) -> float:
    """Seconds; 0 where it does not say."""
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    text = str(headers.get("retry-after") or error.response.get("retryAfterSeconds") or "")
    return float(text) if text.isascii() and text.isdecimal() else 0.0

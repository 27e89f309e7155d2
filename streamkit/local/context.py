"""What a function on this machine gets as Lambda's context, and the clocks behind it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import cached_property
from time import monotonic, time
from typing import NamedTuple

__all__ = ["CalledOff", "Clock", "RealContext", "function_arn"]


def function_arn(name: str) -> str:
    """The ARN of a function that runs on this machine. What follows a colon would be its version: of ``orders:handler`` it
    has ``orders.handler``.
    """
    return f"arn:aws:lambda:us-east-1:000000000000:function:{name.replace(':', '.')}"


class Clock(NamedTuple):
    """The time of day in seconds since the epoch, and the clock that durations are taken on."""

    time: Callable[[], float] = time
    monotonic: Callable[[], float] = monotonic


class CalledOff(Exception):
    """The invocation was to wait for its turn, and nobody wants it any more: it was none."""


class RealContext:
    """Lambda's context. A running Python function can't be stopped from outside, so its time-out is what this tells it.

    ``function_name`` is what metrics and failure documents call it. ``is_called_off`` is for whoever lets invocations wait:
    whether this one is not to begin any more.
    """

    function_version = "$LATEST"
    memory_limit_in_mb = "128"
    log_stream_name = "local"

    def __init__(
        self,
        timeout: float,
        clock: Callable[[], float] = monotonic,
        *,
        function_name: str = "function",
        is_called_off: Callable[[], bool] = lambda: False,
    ) -> None:
        self.function_name = function_name
        self.is_called_off = is_called_off
        self._clock = clock
        self._ends_at = clock() + timeout

    @property
    def invoked_function_arn(self) -> str:
        return function_arn(self.function_name)

    @property
    def log_group_name(self) -> str:
        return f"/aws/lambda/{self.function_name}"

    @cached_property
    def aws_request_id(self) -> str:
        """The invocation's id, made when somebody asks: randomness of the system lets go of the interpreter's lock, and threads
        that take turns at every batch on several cores cost as much again as their work.
        """
        return str(uuid.uuid4())

    def monotonic(self) -> float:
        """Seconds on the clock of the invocation: what streamkit measures a circuit breaker's pauses by."""
        return self._clock()

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the answer would come too late."""
        return max(0, int((self._ends_at - self._clock()) * 1000))

"""What a function on this machine gets as Lambda's context, and the clocks behind it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["FUNCTION_ARN", "Clock", "RealContext"]

FUNCTION_ARN = "arn:aws:lambda:us-east-1:000000000000:function:function"


class Clock(NamedTuple):
    """The time of day in seconds since the epoch, and the clock that durations are taken on."""

    time: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


class RealContext:
    """Lambda's context. A running Python function can't be stopped from outside, so its time-out is what this tells it."""

    function_name = "function"
    function_version = "$LATEST"
    invoked_function_arn = FUNCTION_ARN
    memory_limit_in_mb = "128"
    log_group_name = "/aws/lambda/function"
    log_stream_name = "local"

    def __init__(self, timeout: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self._monotonic = monotonic
        self._ends_at = monotonic() + timeout

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the answer would come too late."""
        return max(0, int((self._ends_at - self._monotonic()) * 1000))

"""One question to BigQuery, by either of its APIs, asked again while that may help."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .bigquery_errors import may_pass, told_wait

__all__ = ["ask"]

T = TypeVar("T")

# All of one question's tries, in seconds. Who waits longer pays for a function that does nothing.
_RETRY_TIME = 60.0
_INSTALL = "BigQuery's sinks need tenacity: pip install 'kinesis-streamkit[bigquery]'"


def ask(question: Callable[[], T], *, deadline: float) -> T:
    """The answer to a question that can be repeated: again until the deadline, for 60 seconds at most, with growing pauses and no
    sooner than ``Retry-After`` says, while what it raises ``may_pass``. It is asked once whatever the time is.
    """
    try:
        return question()
    except Exception as error:
        if not may_pass(error):
            raise
        first = [error]
    # Most calls need none of this, which takes a while to import.
    try:
        from tenacity import Retrying, retry_if_exception, wait_random_exponential
    except ImportError as error:
        raise ImportError(_INSTALL) from error
    grows = wait_random_exponential(multiplier=0.2, max=10)
    until = min(deadline, time.monotonic() + _RETRY_TIME)

    def again() -> T:
        if first:
            raise first.pop()
        return question()

    retrying = Retrying(
        retry=retry_if_exception(may_pass),
        wait=lambda state: max(grows(state), told_wait(state.outcome.exception() if state.outcome else None)),
        stop=lambda state: time.monotonic() + state.upcoming_sleep >= until,
        reraise=True,
    )
    answer: T = retrying(again)
    return answer

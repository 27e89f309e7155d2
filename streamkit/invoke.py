"""Asynchronous invocations of a function: how one that can't go on for longer hands over to the next.

Lambda takes such an event into a queue of its own and answers at once. It delivers it **at least once**; and where its answer is
lost the event may be in that queue, so that a second try makes two of it. Needs boto3, which Lambda's runtime carries.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from .aws import Clients, code_of, may_pass
from .cells.change import Clock
from .errors import StreamkitError

__all__ = ["Invoker"]

_LONGEST_WAIT = 5.0
_ACCEPTED = 202


class Invoker:
    """Invokes functions. ``client`` is boto3's of Lambda; by default one is made on first use.

    The function's role needs ``lambda:InvokeFunction`` on what is invoked.
    """

    def __init__(self, owner: str, client: Any = None, clock: Clock = Clock()) -> None:  # noqa: B008  # A tuple of functions.
        self._clients = Clients("lambda", owner, client)
        self._clock = clock

    def __call__(self, function: str, payload: Callable[[], bytes], *, deadline: float) -> None:
        """Hand ``payload()``, JSON, to ``function``, a name or an ARN. It returns when Lambda has confirmed that it holds it.

        It is asked for once a try, so that events of two tries can differ, as those of Lambda's own tries do not.

        Throttles, errors of Lambda's own and lost answers are tried again until the deadline, a time on the clock's
        ``monotonic``; once in any case. StreamkitError where it was not confirmed: it may have been taken nevertheless.
        """
        wait = 0.1
        while True:
            try:
                answer = self._clients.until(deadline).invoke(
                    FunctionName=function, InvocationType="Event", Payload=payload()
                )
                if answer.get("StatusCode") != _ACCEPTED:
                    raise ConnectionError(f"Lambda answered {answer.get('StatusCode')} and not 202")
                return
            except Exception as error:
                pause = wait * random.uniform(0.5, 1)  # noqa: S311  # No secret.
                if not may_pass(error) or self._clock.monotonic() + pause >= deadline:
                    raise StreamkitError(
                        f"{_name(function)} could not be invoked: {code_of(error) or type(error).__name__}{_hint(error)}"
                    ) from error
                self._clock.sleep(pause)
                wait = min(2 * wait, _LONGEST_WAIT)

    def close(self) -> None:
        """Close the clients that were made here, and not one that was given."""
        self._clients.close()


def _name(function: str) -> str:
    """Without the account."""
    return function.partition(":function:")[2] or function


def _hint(error: Exception) -> str:
    code = code_of(error)
    if "AccessDenied" in code:
        return ": its role needs lambda:InvokeFunction on itself"
    if code == "TooManyRequestsException":
        return ": Lambda takes no more events for now (concurrency, or the account's limit of requests)"
    if code == "RequestTooLargeException":
        return ": the payload is over Lambda's limit for events; set payload_bytes lower"
    return ""

"""The two functions of loops, set up by their environment, which is read at the first invocation.

====================  ===========================================================================================
``LOOP_NAME``         both: the loops' name, which is persistent; default "loops"
``LOOP_QUEUE_URL``    both: the SQS queue
``LOOP_TABLE``        both: the DynamoDB table of the tokens
``LOOP_LEASE``        both: seconds in which a receive (20 s) and a batch are done; default 120
``LOOP_BATCH_SIZE``   the loop: messages of one receive, 10 at most and by default
``LOOP_FUNCTION``     the supervisor: the loops' function, its name or ARN
``LOOPS_LEAST``       the supervisor: loops that there always are; default 0
``LOOPS_MOST``        the supervisor: loops that there may be; default 10
``LOOP_MESSAGES``     the supervisor: messages, waiting and in flight, for which there is one loop; default 100
``LOOP_CALM``         the supervisor: seconds for which one loop less has to do, before there is one less; default 300
``LOOP_OLDEST``       the supervisor: seconds after which a message that was received adds a loop; default: none
====================  ===========================================================================================
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from ..aws import from_environment
from ..cells.dynamodb import DynamoDbCells
from ..errors import ConfigurationError
from ..health import answer_to
from ..warm import Container
from .inbox import SqsInbox
from .loop import Loop, LoopAnswer
from .plan import Limits
from .supervisor import Supervisor

__all__ = ["LoopFunction", "SupervisorFunction"]

Number = TypeVar("Number", int, float)


class LoopFunction:
    """``handler = LoopFunction(lambda_handler(Orders))``: a loop over the queue, whose messages the handler gets."""

    def __init__(self, function: Callable[[Any, Any], Any]) -> None:
        #: What gets the messages, as it was given.
        self.function = function
        self._loop: Loop | None = None
        self._container = Container()

    def __call__(self, event: Any, context: Any = None) -> LoopAnswer | dict[str, Any]:
        """A ``LoopAnswer``; to a ping of streamkit's own what that asks for."""
        if (answer := answer_to(event, self._container)) is not None:
            return answer
        if self._loop is None:
            self._loop = Loop(
                self.function,
                name=_name(),
                inbox=_inbox("LoopFunction"),
                cells=DynamoDbCells.from_env("LOOP_TABLE"),
                lease=_number("LOOP_LEASE", 120.0),
                batch_size=_number("LOOP_BATCH_SIZE", 10),
            )
        return self._loop(event, context)


class SupervisorFunction:
    """``supervisor = SupervisorFunction()``: behind a schedule, each minute."""

    def __init__(self) -> None:
        self._supervisor: Supervisor | None = None
        self._container = Container()

    def __call__(self, event: Any = None, context: Any = None) -> dict[str, Any]:
        """As ``Supervisor``; to a ping of streamkit's own what that asks for."""
        if (answer := answer_to(event, self._container)) is not None:
            return answer
        if self._supervisor is None:
            self._supervisor = Supervisor(
                name=_name(),
                function=from_environment("LOOP_FUNCTION", "SupervisorFunction", "the name of the loops' function"),
                gauge=_inbox("SupervisorFunction"),
                cells=DynamoDbCells.from_env("LOOP_TABLE"),
                limits=Limits(
                    least=_number("LOOPS_LEAST", 0),
                    most=_number("LOOPS_MOST", 10),
                    per_loop=_number("LOOP_MESSAGES", 100),
                    calm=_number("LOOP_CALM", 300.0),
                    oldest=_number("LOOP_OLDEST", float("inf")),
                ),
                lease=_number("LOOP_LEASE", 120.0),
            )
        return self._supervisor(event, context)


def _name() -> str:
    return os.environ.get("LOOP_NAME") or "loops"


def _inbox(owner: str) -> SqsInbox:
    return SqsInbox(from_environment("LOOP_QUEUE_URL", owner, "the URL of an SQS queue"))


def _number(variable: str, default: Number) -> Number:
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        return type(default)(text)
    except ValueError:
        wanted = "a whole number" if isinstance(default, int) else "a number"
        raise ConfigurationError(f"{variable} is {wanted}; got {text[:80]!r}") from None

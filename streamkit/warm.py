"""Pings: events that have no records, and that a container answers before anything is made or imported for records.

    {"streamkit": "warm", "hold": 75}        holds the container for 75 ms, so that the next ping meets another one; the answer
                                             says which container it is
    {"streamkit": "health"}                  the answer says how the container is (``health``)
    what others send (``is_warm_up``)        the answer is success

``"build": true`` in either of the first two makes the processor first, as the first batch would.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any, Literal

from .errors import StreamkitError

__all__ = ["LONGEST_HOLD", "Container", "Ping", "ping_of"]

#: Milliseconds that a ping may hold a container. Whoever sends one pays for them.
LONGEST_HOLD = 1000
_FIELDS = {"streamkit", "hold", "build"}


class Container:
    """What is known of this container: it lives as long as the module of the handler does."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        #: So far, this one among them.
        self.invocations = 0
        self._id = ""

    @property
    def id(self) -> str:
        """Random: two containers never have the same."""
        self._id = self._id or os.urandom(8).hex()
        return self._id

    @property
    def age(self) -> float:
        """Seconds since the handler was made."""
        return time.monotonic() - self._began

    @property
    def is_cold(self) -> bool:
        """Whether this invocation is its first. With provisioned concurrency a container is ready before anyone waits for it."""
        return self.invocations <= 1 and self.initialization != "provisioned-concurrency"

    @property
    def initialization(self) -> str:
        """``on-demand``, ``provisioned-concurrency`` or ``snap-start``, as Lambda says it."""
        return os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") or "on-demand"


class Ping:
    """A ping of streamkit's own. ``hold`` is in milliseconds."""

    __slots__ = ("build", "hold", "kind")

    def __init__(self, kind: Literal["warm", "health"], hold: int, build: bool) -> None:
        self.kind = kind
        self.hold = hold
        self.build = build

    def wait(self) -> None:
        """Keep the container from the next ping."""
        if self.hold:
            time.sleep(self.hold / 1000)

    def answer(self, container: Container) -> dict[str, Any]:
        """What a ``warm`` one is answered; ``batchItemFailures`` is for those who take any answer for that of a batch."""
        return {"batchItemFailures": [], "container": container.id, "cold": container.is_cold}


def ping_of(event: Any) -> Ping | None:
    """The ping that an event is; None where it is none of streamkit's own. StreamkitError where it is a wrong one."""
    if not isinstance(event, Mapping) or "streamkit" not in event or "Records" in event:
        return None
    kind, hold, build = event["streamkit"], event.get("hold", 0), event.get("build", False)
    if kind not in ("warm", "health") or event.keys() - _FIELDS:
        raise StreamkitError(
            'a ping is {"streamkit": "warm"} or {"streamkit": "health"}, with "hold" and "build" at most'
        )
    if type(hold) is not int or not 0 <= hold <= LONGEST_HOLD:
        raise StreamkitError(f'"hold" of a ping is in milliseconds, a whole number from 0 to {LONGEST_HOLD}')
    if type(build) is not bool:
        raise StreamkitError('"build" of a ping is true or false')
    return Ping(kind, hold, build)

"""One container of a function on this machine, which a stream's shards and a queue may share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from .context import CalledOff, RealContext

__all__ = ["LONGEST_TIMEOUT", "Container"]

#: Lambda's limit for a function, in seconds.
LONGEST_TIMEOUT = 900.0


class Container:
    """Runs one invocation at a time, in the order of the calls, as a container of Lambda's does: a processor's sinks belong to
    its class and are called by one thread at a time.

    The time-out, in seconds, begins with the invocation and not while it waits for its turn, so callers give it
    ``LONGEST_TIMEOUT``. An answer that comes later raises TimeoutError, and CalledOff what a caller does not want any more when
    its turn comes. ``announce(event)`` is called before each invocation. ``name`` is what the context calls the function.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], Any],
        timeout: float,
        announce: Callable[[Any], None] = lambda event: None,
        *,
        name: str = "function",
    ) -> None:
        self._function = function
        self._timeout = timeout
        self._announce = announce
        self._name = name
        # In turn, for a lock is not fair: four busy shards would keep a retry queue waiting.
        self._turn = threading.Condition()
        self._calls = self._ended = 0

    def __call__(self, event: Any, context: Any = None) -> Any:
        with self._turn:
            place = self._calls
            self._calls += 1
            self._turn.wait_for(lambda: self._ended == place)
        try:
            if isinstance(context, RealContext) and context.is_called_off():
                raise CalledOff
            self._announce(event)
            context = RealContext(self._timeout, function_name=self._name)
            answer = self._function(event, context)
        finally:
            with self._turn:
                self._ended += 1
                self._turn.notify_all()
        if context.get_remaining_time_in_millis() == 0:
            raise TimeoutError(f"the function answered after its time-out of {self._timeout:g} s")
        return answer

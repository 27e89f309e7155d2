"""Metrics without effort, and users' own: docs/monitoring.md.

    from streamkit import metrics

    metrics.count("orders.paid")                    one more, in this invocation
    with metrics.latency("payments.call"): …        how long it took
    metrics.latency("payments.call", 12.5)          or what somebody else has measured, in milliseconds

``STREAMKIT_METRICS`` is the one setting: ``emf`` (the default on Lambda), ``monitoring``, ``otlp`` (no lines, only what
``STREAMKIT_OTLP_ENDPOINT`` gets in any case), or ``off`` (the default elsewhere).
Nothing here raises, and nothing changes what becomes of a record: what can't be counted is in the log, once for each name.

What a cold start imports is this module. The rest is imported by a handler whose metrics are on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import wraps
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from .values import Values

__all__ = ["Timer", "count", "current", "latency", "setting"]

Function = TypeVar("Function", bound=Callable[..., Any])

# Not None, which is a value that can't be noted.
_NONE_GIVEN: Any = object()
_SETTINGS = ("emf", "monitoring", "otlp", "off")


class _Current(threading.local):
    """Where users' own figures of this invocation go, on this thread; None: there is no invocation, or metrics are off.

    No context variable: the more of them a context holds, the longer it takes to set any, and a batch sets one for each record.
    """

    values: Values | None = None

    def set(self, values: Values | None) -> Values | None:
        """From now on these, and what was set before."""
        before, self.values = self.values, values
        return before


current = _Current()


def setting() -> tuple[str, str]:
    """What ``STREAMKIT_METRICS`` says, or its default, and what is wrong with it; empty where nothing is."""
    default = "emf" if os.environ.get("AWS_LAMBDA_FUNCTION_NAME") else "off"
    text = os.environ.get("STREAMKIT_METRICS") or default
    if text in _SETTINGS:
        return text, ""
    return default, f"STREAMKIT_METRICS is one of {', '.join(_SETTINGS)}; got {text[:80]!r}, and {default} is used"


def count(name: str, value: float = 1) -> None:
    """Count ``value`` more of ``name`` in this invocation. Any thread of ``concurrency`` may call it.

    A name has up to 200 letters, digits, ``_`` and ``.``, and begins with a letter; what else is in it becomes ``_``. ``value``
    is an int or a float, 0 or more. Outside of an invocation, and where metrics are off, it does nothing. A thread of your own
    is outside.
    """
    values = current.values
    if values is not None:
        values.count(name, value)


@overload
def latency(name: str) -> Timer: ...
@overload
def latency(name: str, milliseconds: float) -> None: ...
@overload
def latency(name: Function) -> Function: ...
def latency(name: str | Function, milliseconds: float = _NONE_GIVEN) -> Timer | Function | None:
    """With ``milliseconds``, note a time that was measured elsewhere. Without, what measures a ``with`` block, or each call of a
    function that it decorates; a block that raises is measured too. Names and where it may be called are as with ``count``.
    ``@metrics.latency`` without a name measures by the function's own, with its class: ``Orders.price``.

    A generator function that is decorated is measured without what it yields: put a ``with`` into it.
    """
    if milliseconds is _NONE_GIVEN:
        if callable(name):
            own = getattr(name, "__qualname__", type(name).__name__)
            return Timer(own.rpartition("<locals>.")[2])(name)
        return Timer(name)
    values = current.values
    if values is not None:
        values.latency(name, milliseconds)  # type: ignore[arg-type]  # What is no name is told of there.
    return None


class Timer:
    """What ``latency(name)`` makes: one for each ``with``. As a decorator it makes its own for each call."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._started = 0.0

    def __enter__(self) -> None:
        self._started = perf_counter()

    def __exit__(self, *raised: object) -> None:
        latency(self._name, (perf_counter() - self._started) * 1000)

    def __call__(self, function: Function) -> Function:
        @wraps(function)
        def timed(*arguments: Any, **named: Any) -> Any:
            with Timer(self._name):
                return function(*arguments, **named)

        return timed  # type: ignore[return-value]  # It is called as the function is.

"""Measures an invocation that has no records: what is counted in it, by streamkit or by its user, is in its line."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from . import current
from .metering import Metering, metering
from .report import Report
from .values import Values

__all__ = ["Counting"]


class Counting:
    """What outlives an invocation. ``with counting.invocation(context):`` is one, with the name's own dimension."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._metering = metering()

    def invocation(self, context: Any) -> _Invocation:
        return _Invocation(self._metering, self.name, context)


class _Invocation:
    def __init__(self, metering: Metering | None, name: str, context: Any) -> None:
        self._metering = metering
        self._name = name
        self._context = context
        self._values = None if metering is None else Values(metering.complain)

    def __enter__(self) -> None:
        self._time = time.time()
        self._outer = current.set(self._values)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        current.set(self._outer)
        if self._metering is None or self._values is None:
            return
        facts: dict[str, Any] = {} if error is None else {"Error": type(error).__name__}
        figures: dict[str, float] = {"Errors": 0 if error is None else 1}
        milliseconds: Callable[[], float] | None = getattr(self._context, "get_remaining_time_in_millis", None)
        left = float("inf") if milliseconds is None else milliseconds() / 1000
        try:
            self._metering.write(Report(self._name, self._context, self._time, figures, facts, {}, self._values), left)
        except Exception as fault:  # noqa: BLE001  # What measures must not change the answer, nor hide an error.
            self._metering.failed(fault)

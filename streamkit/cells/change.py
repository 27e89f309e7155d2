"""A change of a cell: read it, decide, write over what was read; and all of that again where somebody else was faster.

What decides is a function of the value alone. It is called as often as it takes, so it has no effect of its own, and it knows
its own change when it meets it: an answer that was lost may belong to a write that took effect.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable
from time import monotonic, sleep, time
from typing import Any, NamedTuple

from ..errors import StreamkitError
from .base import Cell, CellStore

__all__ = ["Clock", "change", "read"]

_LONGEST_WAIT = 2.0
# Two or three know of a cell: hardly ever more than once.
_MOST_TRIES = 50

Transition = Callable[[dict[str, Any] | None], dict[str, Any] | None]


class Clock(NamedTuple):
    """The time of day in seconds since the epoch, the clock that durations are taken on, and how to wait."""

    time: Callable[[], float] = time
    monotonic: Callable[[], float] = monotonic
    sleep: Callable[[float], None] = sleep


def read(
    store: CellStore,
    key: str,
    *,
    deadline: float,
    clock: Clock = Clock(),  # noqa: B008  # A tuple of functions.
) -> Cell | None:
    """The cell; None where there is none. ``deadline``, and what becomes of errors until then, is as ``change`` has it."""
    waits = _Waits(store, deadline, clock)
    while True:
        try:
            return store.get(key)
        except Exception as error:
            if not waits.after(error):
                raise


def change(
    store: CellStore,
    key: str,
    transition: Transition,
    *,
    deadline: float,
    clock: Clock = Clock(),  # noqa: B008  # A tuple of functions.
) -> Cell | None:
    """Put what ``transition`` makes of the value in its place: the new cell. None where that is None: nothing is changed.

    ``deadline`` is a time on the clock's ``monotonic``. Until then an error that may pass is tried again; the last one is
    raised, and then nobody knows whether the change was made.
    """
    tried: set[str] = set()
    waits = _Waits(store, deadline, clock)
    while True:
        try:
            cell = store.get(key)
            if cell is not None and cell.version in tried:
                return cell
            value = transition(None if cell is None else cell.value)
            if value is None:
                return None
            version = secrets.token_urlsafe(12)
            tried.add(version)
            if store.put(key, value, version, seen=cell):
                return Cell(value, version)
            if len(tried) >= _MOST_TRIES:
                raise StreamkitError(f"a cell was changed by others {_MOST_TRIES} times while it was read")
        except Exception as error:
            if not waits.after(error):
                raise


class _Waits:
    """The pauses behind errors that may pass, each longer than the one before."""

    def __init__(self, store: CellStore, deadline: float, clock: Clock) -> None:
        self._store = store
        self._deadline = deadline
        self._clock = clock
        self._wait = 0.05

    def after(self, error: Exception) -> bool:
        """Wait. False where it would be of no use, or too late."""
        if not self._store.may_pass(error) or self._clock.monotonic() + self._wait >= self._deadline:
            return False
        self._clock.sleep(self._wait * random.uniform(0.5, 1))  # noqa: S311  # No secret.
        self._wait = min(2 * self._wait, _LONGEST_WAIT)
        return True

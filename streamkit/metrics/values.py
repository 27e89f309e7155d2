"""What users have counted and measured in one invocation."""

from __future__ import annotations

import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Container
from typing import Any

from .names import is_reserved

__all__ = ["BOUNDS", "MOST_NAMES", "MOST_VALUES", "Latencies", "Values"]

#: Values that CloudWatch takes for one metric of a line (the embedded metric format's limit).
MOST_VALUES = 100
#: Names of users' own in one invocation. A name for each customer would cost a metric for each customer.
MOST_NAMES = 500
#: Upper bounds of a histogram's buckets, in milliseconds, as OpenTelemetry has them by default, from 1 ms on; the last has none.
BOUNDS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0)

_LONGEST_NAME = 200
# CloudWatch takes up to 2**360, which a sum of these does not come to.
_LARGEST = 1e100
_is_name = re.compile(rf"[A-Za-z][A-Za-z0-9_.]{{0,{_LONGEST_NAME - 1}}}").fullmatch
_not_in_names = re.compile(r"[^A-Za-z0-9_.]")


class Latencies:
    """The times of one name, in milliseconds: all of them up to ``MOST_VALUES``, and what they come to."""

    __slots__ = ("buckets", "count", "least", "most", "total", "values")

    def __init__(self) -> None:
        self.values: list[float] = []
        self.count = 0
        self.total = 0.0
        self.least = float("inf")
        self.most = 0.0
        self.buckets = [0] * (len(BOUNDS) + 1)

    def add(self, milliseconds: float) -> None:
        self.count += 1
        self.total += milliseconds
        self.least = min(self.least, milliseconds)
        self.most = max(self.most, milliseconds)
        self.buckets[bisect_left(BOUNDS, milliseconds)] += 1
        if self.count <= MOST_VALUES:
            self.values.append(round(milliseconds, 3))

    def merge(self, other: Latencies) -> None:
        """Add all that ``other`` has, but for its single values."""
        self.count += other.count
        self.total += other.total
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]


class Values:
    """The values of one invocation. Several threads may add to them.

    ``complain`` is called with a fault, and what it is a fault of: whoever logs it does so once for each of these.
    """

    def __init__(self, complain: Callable[[str, str], None]) -> None:
        self.counts: dict[str, float] = {}
        self.latencies: dict[str, Latencies] = {}
        self._complain = complain
        self._lock = threading.Lock()

    def count(self, name: str, value: float) -> None:
        known = name if type(name) is str and name in self.counts else self._known(name)
        number = None if known is None else self._number(known, value)
        if known is None or number is None:
            return
        with self._lock:
            fault = self._no_room(known, self.counts, self.latencies)
            if fault is None:
                self.counts[known] = self.counts.get(known, 0) + number
        if fault is not None:
            self._complain(*fault)

    def latency(self, name: str, milliseconds: float) -> None:
        known = name if type(name) is str and name in self.latencies else self._known(name)
        number = None if known is None else self._number(known, milliseconds)
        if known is None or number is None:
            return
        with self._lock:
            fault = self._no_room(known, self.latencies, self.counts)
            if fault is None:
                if known not in self.latencies:
                    self.latencies[known] = Latencies()
                self.latencies[known].add(float(number))
        if fault is not None:
            self._complain(*fault)

    # Complaints are made without the lock: a handler of the log may count them, in this thread or in another.

    def _known(self, name: Any) -> str | None:
        """The name as it can stand in a line; None where it is none. Its type is looked at, for an object may say that its class
        is another, as a mock does; and of a subclass nothing is called.
        """
        text = str.__str__(name)[: _LONGEST_NAME + 1] if issubclass(type(name), str) else ""
        if not text:
            self._complain("", f"the name of a metric is a text that is not empty; got {type(name).__name__}")
            return None
        if _is_name(text) and not is_reserved(text):
            return text
        known = _not_in_names.sub("_", text)
        if not known[0].isalpha() or is_reserved(known):
            known = f"user.{known}"
        known = known[:_LONGEST_NAME]
        self._complain(text, f"{text[:_LONGEST_NAME]!r} can't be the name of a metric, which is called {known}")
        return known

    def _no_room(self, known: str, own: Container[str], others: Container[str]) -> tuple[str, str] | None:
        """Why there is no place for the name, and what that is a fault of; None where there is one."""
        if known in own:
            return None
        if known in others:
            return known, f"{known} is a count and a latency: what came second is left out"
        if len(self.counts) + len(self.latencies) >= MOST_NAMES:
            return "most", f"an invocation has at most {MOST_NAMES} metrics of its own; {known} is left out"
        return None

    def _number(self, name: str, value: Any) -> float | None:
        """The value as an int or a float and nothing else, which is all that can be encoded; None where it is no sound one."""
        kind = type(value)
        number: float | None = None
        if issubclass(kind, int):
            number = int.__int__(value)
        elif issubclass(kind, float):
            number = float.__float__(value)
        # NaN is none of these, and an int of any size can be compared.
        if number is not None and 0 <= number <= _LARGEST:
            # Without the sign of -0.0.
            return number + 0
        shown = f"{number!r}" if type(number) is float else f"a value of type {kind.__name__}"
        self._complain(name, f"a value of the metric {name} is a number from 0 to {_LARGEST:g}; left out: {shown}")
        return None

"""What a limits proxy makes go wrong when it is told to: drawn from a seed, or the next few requests for certain."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

__all__ = ["Fault", "Faults", "Injector"]

Fault = Literal["throttle", "error", "drop", "lose"]
_KINDS: tuple[Fault, ...] = ("throttle", "error", "drop", "lose")


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The part of requests, 0 to 1, that go wrong in each way, 1 at most together. ValueError for what makes no sense.

    Which request gets which depends on the order in which they come: with one client at a time a seed repeats all of it.
    """

    #: Refused, as for too many. Of PutRecords so many of its *records*, each by itself.
    throttle: float = 0.0
    #: 500 InternalFailure; nothing has reached the endpoint.
    error: float = 0.0
    #: The connection ends without an answer; nothing has reached the endpoint.
    drop: float = 0.0
    #: The same, but the endpoint has done it: whether it has, the client can't tell.
    lose: float = 0.0
    #: Every request waits for up to so many seconds before it goes to the endpoint.
    latency: float = 0.0
    seed: int = 0
    #: Names of operations, as PutRecords; none: all of Kinesis.
    operations: frozenset[str] = frozenset()
    #: After so many faults there are no more.
    times: int | None = None

    def __post_init__(self) -> None:
        parts = [getattr(self, kind) for kind in _KINDS]
        if not all(0 <= part <= 1 for part in parts) or sum(parts) > 1:
            raise ValueError(f"{', '.join(_KINDS)} are parts of all requests, from 0 to 1 and 1 at most together")
        if not 0 <= self.latency <= 3600:
            raise ValueError("latency is in seconds, from 0 to 3600")
        if self.times is not None and self.times < 1:
            raise ValueError("times is 1 or more; leave it out for no end")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Faults:
        """From JSON. ValueError where it is none of these."""
        return msgspec.convert(values, cls)


class Injector:
    """Draws faults. Its caller sees to it that one thread at a time does."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._random = random.Random(faults.seed)  # noqa: S311 (no secret depends on it)
        self._left = float("inf") if faults.times is None else faults.times

    def latency(self, operation: str) -> float:
        """Seconds that the next request waits."""
        return self._random.uniform(0, self._faults.latency) if self._concerns(operation) else 0.0

    def fault(self, operation: str) -> Fault | None:
        """What becomes of the next request. Throttles of PutRecords are drawn by ``throttles``."""
        if not self._concerns(operation):
            return None
        drawn = self._random.random()
        for kind in _KINDS:
            part = getattr(self._faults, kind)
            if drawn < part:
                return None if kind == "throttle" and operation == "PutRecords" else self._taken(kind)
            drawn -= part
        return None

    def throttles(self, operation: str) -> bool:
        """Whether the next record of a PutRecords is refused."""
        return (
            self._concerns(operation)
            and self._random.random() < self._faults.throttle
            and self._taken("throttle") is not None
        )

    def _concerns(self, operation: str) -> bool:
        return self._left > 0 and (not self._faults.operations or operation in self._faults.operations)

    def _taken(self, kind: Fault) -> Fault:
        self._left -= 1
        return kind

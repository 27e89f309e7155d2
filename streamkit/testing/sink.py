"""A sink in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..errors import SinkError
from ..sinks.base import Refusal, RefusalKind, Sink, Write

__all__ = ["MemorySink"]

_NEVER_CHANGE = frozenset((str, bytes, int, float, bool, type(None)))


class MemorySink(Sink):
    """Keeps the items that it is written, once for each write id, in order: iterate it, or read ``items``.

    ``refuse(kind)`` makes it refuse everything in that way (``"invalid"``, ``"failed"``, ``"unavailable"``),
    ``refuse(lambda item: kind_or_None)`` what the function says, ``refuse(None)`` nothing again; ``fail(error)`` makes
    ``write`` raise, ``fail(None)`` mends it.
    """

    request_writes = 500
    # A test that mends it means it to be mended at once. A subclass may turn the breaker on.
    has_breaker = False

    def __init__(self) -> None:
        self._items: dict[str, Any] = {}
        self._refuses: Callable[[Any], RefusalKind | None] | None = None
        self._error: Exception | None = None
        #: How often each write id came again.
        self.repeats: dict[str, int] = {}
        #: How many writes each request brought.
        self.requests: list[int] = []

    def item(self, value: Any) -> Write:
        """A write of any value, of which a copy is kept."""
        return Write(self, value if type(value) in _NEVER_CHANGE else copy.deepcopy(value))

    @property
    def items(self) -> list[Any]:
        """What was written, in the order of the first delivery."""
        return list(self._items.values())

    @property
    def write_ids(self) -> list[str]:
        """The ids of what was written, likewise."""
        return list(self._items)

    def refuse(self, kind: RefusalKind | Callable[[Any], RefusalKind | None] | None) -> None:
        """Refuse writes from now on, in the way of ``kind``."""
        self._refuses = kind if kind is None or callable(kind) else lambda item: kind

    def fail(self, error: Exception | None) -> None:
        """Raise ``error`` out of every ``write`` from now on; None mends it."""
        self._error = error

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        self.requests.append(len(writes))
        if self._error is not None:
            # Without where it was raised before, which would grow with each time.
            raise self._error.with_traceback(None)
        refusals: list[Refusal] = []
        for write in writes:
            if self._refuses is not None and (kind := self._refuses(write.payload)):
                refusals.append(Refusal(write, SinkError(f"the sink was told to refuse: {kind}"), kind))
                continue
            write_id = write.write_id
            if write_id in self._items:
                self.repeats[write_id] = self.repeats.get(write_id, 0) + 1
            else:
                self._items[write_id] = write.payload
        return refusals

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items.values())

    def __len__(self) -> int:
        return len(self._items)

    def __bool__(self) -> bool:
        return True

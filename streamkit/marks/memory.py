"""Marks that last as long as the process."""

from __future__ import annotations

import threading

from .base import Found, MarkStore

__all__ = ["MemoryMarks"]


class MemoryMarks(MarkStore):
    """For tests, and for a runner in one process. It forgets nothing."""

    def __init__(self) -> None:
        # By key: the owner and until when; None where it is done.
        self._marks: dict[str, tuple[str, float] | None] = {}
        self._done_by: dict[str, str] = {}
        self._lock = threading.Lock()

    def start(self, key: str, owner: str, *, now: float, until: float) -> Found:
        with self._lock:
            mark = self._marks.get(key, ("", 0.0))
            if mark is None:
                return "done"
            if mark[0] not in ("", owner) and mark[1] > now:
                return "held"
            self._marks[key] = owner, until
            return "started"

    def finish(self, key: str, owner: str, *, now: float) -> bool:
        with self._lock:
            mark = self._marks.get(key, ("", 0.0))
            if mark is None:
                return self._done_by[key] == owner
            if mark[0] != owner:
                return False
            self._marks[key] = None
            self._done_by[key] = owner
            return True

    def release(self, key: str, owner: str) -> None:
        with self._lock:
            mark = self._marks.get(key)
            if mark is not None and mark[0] == owner:
                del self._marks[key]

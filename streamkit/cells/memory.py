"""Cells that last as long as the process."""

from __future__ import annotations

import threading
from typing import Any

import msgspec

from .base import Cell, CellStore

__all__ = ["MemoryCells"]


class MemoryCells(CellStore):
    """For tests, and for a runner in one process. It forgets nothing."""

    def __init__(self) -> None:
        # As text, so that nobody changes a value that somebody else has read.
        self._cells: dict[str, tuple[bytes, str]] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> Cell | None:
        with self._lock:
            found = self._cells.get(key)
        return None if found is None else Cell(msgspec.json.decode(found[0]), found[1])

    def put(self, key: str, value: dict[str, Any], version: str, *, seen: Cell | None) -> bool:
        text = msgspec.json.encode(value)
        with self._lock:
            found = self._cells.get(key)
            if (None if found is None else found[1]) != (None if seen is None else seen.version):
                return False
            self._cells[key] = text, version
            return True

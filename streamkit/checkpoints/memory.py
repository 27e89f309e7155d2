"""Checkpoints that last as long as the process."""

from __future__ import annotations

import threading
from collections.abc import Callable

from .base import Entry, Lease, TransactionalCheckpoints

__all__ = ["MemoryCheckpoints"]


class MemoryCheckpoints(TransactionalCheckpoints):
    """For tests, and for readers that are to begin anew each time. Several runners of one process can share one."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str, str], Lease] = {}
        self._lock = threading.Lock()

    def leases(self, reader: str, stream: str) -> dict[str, Lease]:
        with self._lock:
            entries = list(self._entries.values())
        return {entry.shard_id: entry for entry in entries if (entry.reader, entry.stream) == (reader, stream)}

    def _change(self, reader: str, stream: str, shard_id: str, changed: Callable[[Lease | None], Entry]) -> Entry:
        with self._lock:
            entry = changed(self._entries.get((reader, stream, shard_id)))
            if entry is not None:
                self._entries[reader, stream, shard_id] = entry
            return entry

"""Progress that lasts as long as the process."""

from __future__ import annotations

import threading

from .base import ProgressStore

__all__ = ["MemoryProgress"]

# What a shard's later batches look up is under its highest numbers.
_MOST_KEPT = 100


class MemoryProgress(ProgressStore):
    """For tests, and for a runner in one process. It keeps the 100 entries of a shard with the highest numbers."""

    def __init__(self, *, generation: str = "") -> None:
        #: Change it for a deliberate replay: what another generation has done is then run again.
        self.generation = generation
        self._shards: dict[tuple[str, str, str], dict[int, bytes]] = {}
        self._lock = threading.Lock()

    def entries(self, processor: str, shard: str, up_to: int, *, deadline: float) -> list[bytes]:
        with self._lock:
            entries = self._shards.get((self.generation, processor, shard), {})
            numbers = sorted((number for number in entries if number <= up_to), reverse=True)
            return [entries[number] for number in numbers[: self.most_entries]]

    def save(self, processor: str, shard: str, number: int, entry: bytes, *, deadline: float) -> None:
        with self._lock:
            entries = self._shards.setdefault((self.generation, processor, shard), {})
            entries[number] = entry
            if len(entries) > _MOST_KEPT:
                del entries[min(entries)]

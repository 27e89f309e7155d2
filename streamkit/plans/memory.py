"""Plans that last as long as the process: exactly once does not outlive it."""

from __future__ import annotations

import threading

from .base import Entry, PlanStore

__all__ = ["MemoryPlans"]


class MemoryPlans(PlanStore):
    """For tests. A function that ends takes its plans with it, and what it had in hand is then written again."""

    def __init__(self, *, generation: str = "") -> None:
        #: Change it for a deliberate replay: what was written under another generation is then written again.
        self.generation = generation
        self._entries: dict[tuple[str, str, str, str], Entry] = {}
        self._lock = threading.Lock()

    def read(self, processor: str, target: str, shard: str, *, deadline: float) -> Entry | None:
        with self._lock:
            return self._entries.get((self.generation, processor, target, shard))

    def save(self, processor: str, target: str, shard: str, entry: Entry, *, deadline: float) -> bool:
        key = (self.generation, processor, target, shard)
        with self._lock:
            stands = self._entries.get(key)
            if stands == entry:
                return True
            if entry.version != (stands.version if stands else 0) + 1:
                return False
            self._entries[key] = entry
            return True

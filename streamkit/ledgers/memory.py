"""A ledger that lasts as long as the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping

import msgspec

from .base import Ledger, ParkedKey, Pending

__all__ = ["MemoryLedger"]


class MemoryLedger(Ledger):
    """For tests, and for a runner in one process: what it held is forgotten with it, and the messages that are still in the
    queue then count as done.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self._keys: dict[tuple[str, str], ParkedKey] = {}
        self._lock = threading.Lock()

    def parked(self, processor: str, *, deadline: float) -> dict[str, ParkedKey]:
        with self._lock:
            return {group: key for (owner, group), key in self._keys.items() if owner == processor}

    def key(self, processor: str, group: str, *, deadline: float) -> ParkedKey | None:
        with self._lock:
            return self._keys.get((processor, group))

    def add(self, processor: str, group: str, ids: Collection[str], added: float, *, deadline: float) -> float:
        added = round(added, 3)
        with self._lock:
            key = self._keys.get((processor, group)) or ParkedKey({}, added)
            pending = dict(key.pending)
            added = max([added, *(round(one.added + 0.001, 3) for one in pending.values())])
            for record_id in ids:
                old = pending.get(record_id)
                pending[record_id] = Pending(added) if old is None else msgspec.structs.replace(old, added=added)
            self._set(processor, group, pending, key.since)
        return added

    def count(
        self, processor: str, group: str, record_id: str, attempts: int, not_before: float | None, *, deadline: float
    ) -> None:
        with self._lock:
            key = self._keys.get((processor, group))
            if key is not None and record_id in key.pending:
                pending = {**key.pending, record_id: Pending(key.pending[record_id].added, attempts, not_before)}
                self._set(processor, group, pending, key.since)

    def remove(self, processor: str, group: str, ids: Mapping[str, float], before: float, *, deadline: float) -> None:
        with self._lock:
            key = self._keys.get((processor, group))
            if key is not None:
                pending = {
                    record_id: one
                    for record_id, one in key.pending.items()
                    if one.added != ids.get(record_id) and one.added >= before
                }
                self._set(processor, group, pending, key.since)

    def _set(self, processor: str, group: str, pending: dict[str, Pending], since: float) -> None:
        if pending:
            self._keys[processor, group] = ParkedKey(pending, since)
        else:
            self._keys.pop((processor, group), None)

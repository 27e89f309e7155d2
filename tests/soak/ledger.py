"""Park's ledger in a SQLite file, for several processes: what ``MemoryLedger`` does, in transactions.

moto's DynamoDB takes 130 ms of a processor to tell a hundred parked keys, and each batch asks. ``DynamoDbLedger`` passes the same
suite of contracts as this one.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from streamkit.ledgers.base import Ledger, ParkedKey
from streamkit.ledgers.memory import MemoryLedger

__all__ = ["SqliteLedger"]

_TABLE = "CREATE TABLE IF NOT EXISTS keys (processor TEXT, grp TEXT, parked BLOB, PRIMARY KEY (processor, grp)) WITHOUT ROWID"
T = TypeVar("T")
_decode = msgspec.json.Decoder(ParkedKey).decode


class SqliteLedger(Ledger):
    """The file at ``path``. A change of a key is one transaction, in which ``MemoryLedger`` says what becomes of it."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute(_TABLE)
        self._lock = threading.Lock()

    def parked(self, processor: str, *, deadline: float) -> dict[str, ParkedKey]:
        with self._lock:
            rows = self._connection.execute("SELECT grp, parked FROM keys WHERE processor = ?", (processor,)).fetchall()
        return {group: _decode(parked) for group, parked in rows}

    def key(self, processor: str, group: str, *, deadline: float) -> ParkedKey | None:
        with self._lock:
            return self._read(processor, group)

    def add(self, processor: str, group: str, ids: Collection[str], added: float, *, deadline: float) -> float:
        return self._change(processor, group, lambda one: one.add(processor, group, ids, added, deadline=deadline))

    def count(
        self, processor: str, group: str, record_id: str, attempts: int, not_before: float | None, *, deadline: float
    ) -> None:
        self._change(
            processor,
            group,
            lambda one: one.count(processor, group, record_id, attempts, not_before, deadline=deadline),
        )

    def remove(self, processor: str, group: str, ids: Mapping[str, float], before: float, *, deadline: float) -> None:
        self._change(processor, group, lambda one: one.remove(processor, group, ids, before, deadline=deadline))

    def _change(self, processor: str, group: str, change: Callable[[MemoryLedger], T]) -> T:
        with self._lock, self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            memory = MemoryLedger(clock=self.clock)
            before = self._read(processor, group)
            if before is not None:
                memory._set(processor, group, dict(before.pending), before.since)
            result = change(memory)
            after = memory.key(processor, group, deadline=0.0)
            if after is None:
                self._connection.execute("DELETE FROM keys WHERE processor = ? AND grp = ?", (processor, group))
            else:
                row = (processor, group, msgspec.json.encode(after))
                self._connection.execute("INSERT OR REPLACE INTO keys VALUES (?, ?, ?)", row)
            return result

    def _read(self, processor: str, group: str) -> ParkedKey | None:
        row = self._connection.execute(
            "SELECT parked FROM keys WHERE processor = ? AND grp = ?", (processor, group)
        ).fetchone()
        return None if row is None else _decode(row[0])

    def close(self) -> None:
        self._connection.close()

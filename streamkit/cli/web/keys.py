"""The keys that ``Park`` holds aside, from the ledger's table.

The functions need that table most when many keys are parked, and then it is largest. So a look is one query, of up to a megabyte,
which need not be consistent; and the more it has brought, the later comes the next.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec

from ...ledgers.dynamodb import DynamoDbLedger
from ..parked import ParkedRow, known_ledger, parked_rows
from .clients import Clients
from .watch import Task, bound

__all__ = ["LedgerView", "ParkedKeys"]

_BETWEEN_LOOKS = 10.0
_PATIENCE = 10.0
_MOST_SHOWN = 200
# Two read units a second: half a unit is 4 KB of a read that is not consistent. A megabyte is a minute's.
_BYTES_A_SECOND = 2 * 2 * 4096


class LedgerView(msgspec.Struct):
    """A processor's parked keys, those with the oldest records first; ``keys`` has the first 200 of ``count``.

    ``is_cut``: they are more than a look brings, so there are others, and perhaps older ones.
    """

    table: str
    processor: str
    count: int | None = None
    records: int = 0
    is_cut: bool = False
    keys: list[ParkedRow] = []
    error: str = ""


class ParkedKeys:
    """Of each of the processors ``names`` in each of the ``tables``: one query every ten seconds, or less often."""

    def __init__(self, clients: Clients, tables: list[str], names: list[str]) -> None:
        self._clients = clients
        self._lock = threading.Lock()
        self._seen = {(table, name): LedgerView(table, name) for table in tables for name in names}

    def tasks(self) -> list[Task]:
        return [
            Task(f"parked {table} {name}", _BETWEEN_LOOKS, bound(self._look, table, name)) for table, name in self._seen
        ]

    def view(self, error: Callable[[str], str]) -> list[LedgerView]:
        with self._lock:
            return [
                msgspec.structs.replace(one, error=error(f"parked {table} {name}"))
                for (table, name), one in self._seen.items()
            ]

    def _look(self, table: str, name: str) -> float:
        """The seconds until the next one at least."""
        with self._clients.using("dynamodb", table, "table") as client, known_ledger(table):
            seen = DynamoDbLedger(table, client=client).glance(name, deadline=time.monotonic() + _PATIENCE)
        rows = parked_rows(seen.keys, time.time())
        with self._lock:
            self._seen[table, name] = LedgerView(
                table, name, len(rows), sum(row.records for row in rows), seen.is_cut, rows[:_MOST_SHOWN]
            )
        return seen.size / _BYTES_A_SECOND

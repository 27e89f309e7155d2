"""The keys that ``Park`` holds aside, from the ledger's table."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec

from ...errors import ConfigurationError, StreamkitError
from ...ledgers.dynamodb import DynamoDbLedger
from ..parked import ParkedRow, parked_rows
from .clients import Clients
from .watch import Task, bound

__all__ = ["LedgerView", "ParkedKeys"]

_BETWEEN_LOOKS = 10.0
_PATIENCE = 10.0
_MOST_SHOWN = 200


class LedgerView(msgspec.Struct):
    """A processor's parked keys, those with the oldest records first; ``keys`` has the first 200 of ``count``."""

    table: str
    processor: str
    count: int | None = None
    records: int = 0
    keys: list[ParkedRow] = []
    error: str = ""


class ParkedKeys:
    """Of each of the processors ``names`` in each of the ``tables``: one consistent query every ten seconds."""

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

    def _look(self, table: str, name: str) -> None:
        with self._clients.using("dynamodb", table, "table") as client:
            try:
                keys = DynamoDbLedger(table, client=client).parked(name, deadline=time.monotonic() + _PATIENCE)
            except ConfigurationError as error:
                raise StreamkitError(
                    f"table {table}: there is no such table here: check --ledger, --region, --profile and --endpoint-url"
                ) from error
        rows = parked_rows(keys, time.time())
        with self._lock:
            self._seen[table, name] = LedgerView(
                table, name, len(rows), sum(row.records for row in rows), rows[:_MOST_SHOWN]
            )

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.ledgers.memory import MemoryLedger
from streamkit.testing.contracts import LedgerContract

from .test_progress import client_of, closed_port


class TestMemoryLedger(LedgerContract):
    @pytest.fixture
    def ledger(self) -> MemoryLedger:
        return MemoryLedger()

    def unreachable(self, ledger: MemoryLedger) -> AbstractContextManager[object]:
        return self._down(ledger)

    @contextmanager
    def _down(self, ledger: MemoryLedger) -> Iterator[None]:
        keys = ledger._keys
        ledger._keys = None  # type: ignore[assignment]  # Memory can't be out of reach; this is the nearest to it.
        yield
        ledger._keys = keys


class TestDynamoDbLedger(LedgerContract):
    @pytest.fixture
    def ledger(self, moto_endpoint: str) -> Iterator[DynamoDbLedger]:
        client = client_of(moto_endpoint)
        ledger = DynamoDbLedger(f"ledger-{uuid.uuid4().hex}", client=client)
        ledger.create_table()
        yield ledger
        client.delete_table(TableName=ledger.table)
        client.close()

    def unreachable(self, ledger: DynamoDbLedger) -> AbstractContextManager[object]:
        return self._down(ledger)

    @contextmanager
    def _down(self, ledger: DynamoDbLedger) -> Iterator[None]:
        client, ledger._table.clients.given = (
            ledger._table.clients.given,
            client_of(f"http://127.0.0.1:{closed_port()}"),
        )
        try:
            yield
        finally:
            ledger._table.clients.given.close()
            ledger._table.clients.given = client

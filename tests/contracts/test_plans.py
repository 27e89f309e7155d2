from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from streamkit.errors import ConfigurationError
from streamkit.plans.base import Entry
from streamkit.plans.dynamodb import DynamoDbPlans
from streamkit.plans.memory import MemoryPlans
from streamkit.testing.contracts import PlanContract

from .test_progress import client_of, closed_port


class TestMemoryPlans(PlanContract):
    @pytest.fixture
    def store(self) -> MemoryPlans:
        return MemoryPlans()

    def another_generation(self, store: MemoryPlans) -> MemoryPlans:
        other = MemoryPlans(generation="other")
        other._entries = store._entries
        return other

    def unreachable(self, store: MemoryPlans) -> AbstractContextManager[object]:
        return self._down(store)

    @contextmanager
    def _down(self, store: MemoryPlans) -> Iterator[None]:
        entries = store._entries
        store._entries = None  # type: ignore[assignment]  # Memory can't be out of reach; this is the nearest to it.
        yield
        store._entries = entries


class TestDynamoDbPlans(PlanContract):
    @pytest.fixture
    def store(self, moto_endpoint: str) -> Iterator[DynamoDbPlans]:
        client = client_of(moto_endpoint)
        store = DynamoDbPlans(f"plans-{uuid.uuid4().hex}", client=client)
        store.create_table()
        yield store
        client.delete_table(TableName=store.table)
        client.close()

    def another_generation(self, store: DynamoDbPlans) -> DynamoDbPlans:
        return DynamoDbPlans(store.table, generation="other", client=store._table.clients.given)

    def unreachable(self, store: DynamoDbPlans) -> AbstractContextManager[object]:
        return self._down(store)

    @contextmanager
    def _down(self, store: DynamoDbPlans) -> Iterator[None]:
        client, store._table.clients.given = store._table.clients.given, client_of(f"http://127.0.0.1:{closed_port()}")
        try:
            yield
        finally:
            store._table.clients.given.close()
            store._table.clients.given = client

    def test_a_read_is_strongly_consistent(self, store: DynamoDbPlans) -> None:
        # An older plan would be taken for the last. moto reads consistently either way.
        asked: list[dict[str, Any]] = []

        def note(params: dict[str, Any], **_: Any) -> None:
            asked.append(params)

        store._table.clients.given.meta.events.register("provide-client-params.dynamodb.GetItem", note)

        store.read("orders", "table", "stream/x", deadline=float("inf"))

        assert [one["ConsistentRead"] for one in asked] == [True]

    def test_a_table_that_is_not_there_is_named_with_the_way_to_make_it(self, store: DynamoDbPlans) -> None:
        missing = DynamoDbPlans("missing", client=store._table.clients.given)

        with pytest.raises(ConfigurationError, match=r"DynamoDbPlans\('missing'\)\.create_table"):
            missing.save("orders", "table", "stream/x", Entry(1, b""), deadline=0)

    def test_a_table_by_the_environment_is_named_when_it_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("PLANS", raising=False)

        with pytest.raises(ConfigurationError, match="PLANS is not set"):
            _ = DynamoDbPlans.from_env("PLANS").table

        monkeypatch.setenv("PLANS", "plans")
        assert DynamoDbPlans.from_env("PLANS").table == "plans"

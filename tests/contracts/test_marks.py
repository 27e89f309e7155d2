from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from streamkit.errors import ConfigurationError
from streamkit.marks.dynamodb import DynamoDbMarks
from streamkit.marks.memory import MemoryMarks
from streamkit.testing.contracts import MarkContract

from .test_progress import client_of, closed_port


class TestMemoryMarks(MarkContract):
    @pytest.fixture
    def store(self) -> MemoryMarks:
        return MemoryMarks()

    def unreachable(self, store: MemoryMarks) -> AbstractContextManager[object]:
        return self._down(store)

    @contextmanager
    def _down(self, store: MemoryMarks) -> Iterator[None]:
        marks = store._marks
        store._marks = None  # type: ignore[assignment]  # Memory can't be out of reach; this is the nearest to it.
        yield
        store._marks = marks


class TestDynamoDbMarks(MarkContract):
    @pytest.fixture
    def store(self, moto_endpoint: str) -> Iterator[DynamoDbMarks]:
        client = client_of(moto_endpoint)
        store = DynamoDbMarks(f"marks-{uuid.uuid4().hex}", client=client)
        store.create_table()
        yield store
        client.delete_table(TableName=store.table)
        client.close()

    def unreachable(self, store: DynamoDbMarks) -> AbstractContextManager[object]:
        return self._down(store)

    @contextmanager
    def _down(self, store: DynamoDbMarks) -> Iterator[None]:
        client, store._table.clients.given = store._table.clients.given, client_of(f"http://127.0.0.1:{closed_port()}")
        try:
            yield
        finally:
            store._table.clients.given.close()
            store._table.clients.given = client

    def test_a_mark_is_kept_for_its_retention_from_when_it_is_done(self, store: DynamoDbMarks) -> None:
        now = time.time()
        store.start("key", "a", now=now - 500, until=now)
        store.finish("key", "a", now=now)

        item = store._table.clients.given.get_item(TableName=store.table, Key={"key": {"S": "key"}})["Item"]
        assert int(item["expires_at"]["N"]) - now == pytest.approx(30 * 86_400, abs=2)
        ttl = store._table.clients.given.describe_time_to_live(TableName=store.table)["TimeToLiveDescription"]
        assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expires_at")

    def test_a_table_that_is_not_there_is_named_with_the_way_to_make_it(self, store: DynamoDbMarks) -> None:
        missing = DynamoDbMarks("missing", client=store._table.clients.given)

        with pytest.raises(ConfigurationError, match=r"DynamoDbMarks\('missing'\)\.create_table"):
            missing.start("key", "a", now=0, until=1)

    def test_a_table_by_the_environment_is_named_when_it_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MARKS", raising=False)

        with pytest.raises(ConfigurationError, match="MARKS is not set"):
            _ = DynamoDbMarks.from_env("MARKS").table

        monkeypatch.setenv("MARKS", "marks")
        assert DynamoDbMarks.from_env("MARKS").table == "marks"

    @pytest.mark.parametrize("retention", [0, -1, float("inf")])
    def test_a_retention_that_is_none_is_refused(self, retention: float) -> None:
        with pytest.raises(ConfigurationError, match="retention"):
            DynamoDbMarks("marks", retention=retention)

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from streamkit.cells.base import CellStore
from streamkit.cells.change import Clock, change
from streamkit.cells.dynamodb import DynamoDbCells
from streamkit.cells.memory import MemoryCells
from streamkit.errors import ConfigurationError, StreamkitError
from streamkit.testing.contracts import CellContract

from ..faults.http_proxy import HttpProxy, lose_the_answer
from .test_progress import client_of, closed_port


class TestMemoryCells(CellContract):
    @pytest.fixture
    def store(self) -> MemoryCells:
        return MemoryCells()

    def unreachable(self, store: MemoryCells) -> AbstractContextManager[object]:
        return self._down(store)

    @contextmanager
    def _down(self, store: MemoryCells) -> Iterator[None]:
        cells = store._cells
        store._cells = None  # type: ignore[assignment]  # Memory can't be out of reach; this is the nearest to it.
        yield
        store._cells = cells


class TestDynamoDbCells(CellContract):
    @pytest.fixture
    def store(self, moto_endpoint: str) -> Iterator[DynamoDbCells]:
        client = client_of(moto_endpoint)
        store = DynamoDbCells(f"cells-{uuid.uuid4().hex}", client=client)
        store.create_table()
        yield store
        client.delete_table(TableName=store.table)
        client.close()

    def unreachable(self, store: DynamoDbCells) -> AbstractContextManager[object]:
        return self._down(store)

    @contextmanager
    def _down(self, store: DynamoDbCells) -> Iterator[None]:
        client, store._table.clients.given = store._table.clients.given, client_of(f"http://127.0.0.1:{closed_port()}")
        try:
            yield
        finally:
            store._table.clients.given.close()
            store._table.clients.given = client

    def test_a_cell_is_kept_for_its_retention_from_its_last_change(self, store: DynamoDbCells) -> None:
        store.put("key", {}, "v", seen=None)

        item = store._table.clients.given.get_item(TableName=store.table, Key={"key": {"S": "key"}})["Item"]
        assert int(item["expires_at"]["N"]) - time.time() == pytest.approx(30 * 86_400, abs=2)
        ttl = store._table.clients.given.describe_time_to_live(TableName=store.table)["TimeToLiveDescription"]
        assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expires_at")

    def test_a_table_that_is_not_there_is_named_with_the_way_to_make_it(self, store: DynamoDbCells) -> None:
        missing = DynamoDbCells("missing", client=store._table.clients.given)

        with pytest.raises(ConfigurationError, match=r"DynamoDbCells\('missing'\)\.create_table"):
            missing.get("key")

    @pytest.mark.parametrize("item", [{}, {"value": {"S": "{"}, "version": {"S": "v"}}, {"value": {"S": "[]"}}])
    def test_an_item_that_is_no_cell_is_named(self, item: dict[str, Any], store: DynamoDbCells) -> None:
        store._table.clients.given.put_item(TableName=store.table, Item={"key": {"S": "odd"}, **item})

        with pytest.raises(StreamkitError, match=r"'odd' of the table .* is no cell"):
            store.get("odd")

    def test_a_table_by_the_environment_is_named_when_it_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("CELLS", raising=False)

        with pytest.raises(ConfigurationError, match="CELLS is not set"):
            _ = DynamoDbCells.from_env("CELLS").table

    @pytest.mark.parametrize("retention", [0, -1, float("inf")])
    def test_a_retention_that_is_none_is_refused(self, retention: float) -> None:
        with pytest.raises(ConfigurationError, match="retention"):
            DynamoDbCells("cells", retention=retention)

    def test_a_change_whose_answer_is_lost_is_made_once(self, store: DynamoDbCells, moto_endpoint: str) -> None:
        proxy = HttpProxy(moto_endpoint)
        through = client_of(proxy.endpoint)
        losses = [1, 2]

        def act(request: Any) -> Any:
            if "PutItem" in request.headers.get("X-Amz-Target", "") and losses:
                losses.pop()
                return lose_the_answer(request)
            return request.forward()

        try:
            with proxy.failing(act):
                cell = change(
                    DynamoDbCells(store.table, client=through), "key", one_more, deadline=time.monotonic() + 20
                )
        finally:
            through.close()
            proxy.close()

        assert cell is not None
        assert cell.value == {"n": 1}
        assert len(losses) == 1

    def test_a_throttle_is_waited_for_until_the_deadline(self, store: DynamoDbCells, moto_endpoint: str) -> None:
        proxy = HttpProxy(moto_endpoint)
        through = client_of(proxy.endpoint)
        body = b'{"__type": "ProvisionedThroughputExceededException", "message": "slow down"}'
        try:
            with proxy.failing(lambda request: (400, {"Content-Type": "application/x-amz-json-1.0"}, body)):
                cells = DynamoDbCells(store.table, client=through)
                started = time.monotonic()
                with pytest.raises(Exception, match="ProvisionedThroughputExceeded"):
                    change(cells, "key", one_more, deadline=started + 0.5)
                assert time.monotonic() - started < 5
            assert len(proxy.seen) > 1
        finally:
            through.close()
            proxy.close()


def one_more(value: dict[str, Any] | None) -> dict[str, Any]:
    return {"n": 1 if value is None else value["n"] + 1}


class Meddled(MemoryCells):
    """Somebody else changes a cell each time that it was read, so often."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def put(self, key: str, value: dict[str, Any], version: str, *, seen: Any) -> bool:
        if self.times:
            self.times -= 1
            found = self.get(key)
            super().put(key, one_more(None if found is None else found.value), f"meddler-{self.times}", seen=found)
        return super().put(key, value, version, seen=seen)


def test_a_change_is_made_to_what_others_have_made_of_it() -> None:
    cell = change(Meddled(3), "key", one_more, deadline=0)

    assert cell is not None
    assert cell.value == {"n": 4}


def test_a_cell_that_never_rests_is_an_error() -> None:
    with pytest.raises(StreamkitError, match="changed by others 50 times"):
        change(Meddled(1000), "key", one_more, deadline=0)


def test_nothing_is_written_where_there_is_nothing_to_change() -> None:
    cells = MemoryCells()

    assert change(cells, "key", lambda value: None, deadline=0) is None
    assert cells.get("key") is None


def test_an_error_of_which_nothing_is_known_is_raised_at_once() -> None:
    class Away(MemoryCells):
        def get(self, key: str) -> Any:
            raise ConnectionError("away")

    def wait(seconds: float) -> None:
        raise AssertionError("it waits")

    store: CellStore = Away()
    with pytest.raises(ConnectionError):
        change(store, "key", one_more, deadline=1e9, clock=Clock(sleep=wait))

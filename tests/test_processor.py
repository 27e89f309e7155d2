from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from streamkit import Block, RecordProcessor, Write, lambda_handler
from streamkit.errors import ConfigurationError
from streamkit.processor import check_options
from streamkit.progress.memory import MemoryProgress
from streamkit.record import Record
from streamkit.testing import MemoryQueue, MemorySink, kinesis_event


class TestDefaults:
    def test_are_the_strictest_order_and_no_concurrency(self) -> None:
        class Orders(RecordProcessor):
            pass

        orders = Orders()

        assert orders.ordering == "key"
        assert isinstance(orders.on_failure, Block)
        assert orders.on_failure.dead_letters is None
        assert orders.progress is None
        assert orders.concurrency == 1
        assert orders.deadline_margin == 1.0
        assert orders.aggregates == "strict"


class TestTheName:
    def test_is_by_default_the_module_and_the_class(self) -> None:
        class Orders(RecordProcessor):
            pass

        assert Orders.name == f"{__name__}.{Orders.__qualname__}"

    def test_that_is_given_is_kept_and_inherited(self) -> None:
        class Orders(RecordProcessor):
            name = "orders"

        class BigOrders(Orders):
            pass

        class OtherOrders(Orders):
            name = "others"

        class OtherBigOrders(OtherOrders):
            pass

        assert [cls.name for cls in (Orders, BigOrders, OtherOrders, OtherBigOrders)] == ["orders"] * 2 + ["others"] * 2

    def test_that_is_defaulted_is_not_inherited(self) -> None:
        class Orders(RecordProcessor):
            pass

        class BigOrders(Orders):
            pass

        assert BigOrders.name == f"{__name__}.{BigOrders.__qualname__}"
        assert BigOrders.name != Orders.name

    def test_may_be_given_by_a_class_mixed_in(self) -> None:
        class Named:
            name = "orders"

        class Orders(Named, RecordProcessor):
            pass

        assert Orders.name == "orders"


class TestOptions:
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("name", ""),
            ("name", 7),
            ("ordering", "partition"),
            ("ordering", None),
            ("on_failure", None),
            ("on_failure", Block),
            ("on_failure", MemoryQueue()),
            ("progress", object()),
            ("concurrency", 0),
            ("concurrency", -1),
            ("concurrency", 2.0),
            ("concurrency", True),
            ("concurrency", "4"),
            ("deadline_margin", -0.1),
            ("deadline_margin", 901),
            ("deadline_margin", float("nan")),
            ("deadline_margin", float("inf")),
            ("deadline_margin", "1"),
            ("deadline_margin", True),
            ("aggregates", "loose"),
        ],
    )
    def test_that_are_wrong_are_refused_when_the_class_is_made(self, option: str, value: Any) -> None:
        with pytest.raises(ConfigurationError, match=rf"Orders\.{option} = "):
            type("Orders", (RecordProcessor,), {option: value})

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("ordering", "none"),
            ("concurrency", 64),
            ("deadline_margin", 0),
            ("deadline_margin", 900),
            ("aggregates", "lenient"),
        ],
    )
    def test_that_are_right_are_taken(self, option: str, value: Any) -> None:
        cls: Any = type("Orders", (RecordProcessor,), {option: value})

        assert getattr(cls(), option) == value

    def test_concurrency_and_shard_order_do_not_go_together(self) -> None:
        with pytest.raises(ConfigurationError, match="one record at a time"):
            type("Orders", (RecordProcessor,), {"ordering": "shard", "concurrency": 2})

    def test_nor_where_one_of_them_is_inherited(self) -> None:
        class Orders(RecordProcessor):
            ordering = "shard"

        with pytest.raises(ConfigurationError, match="one record at a time"):
            type("FastOrders", (Orders,), {"concurrency": 2})

    def test_of_an_instance_are_checked_when_the_handler_takes_it(self) -> None:
        class Orders(RecordProcessor):
            def __init__(self) -> None:
                self.concurrency = 0

        handler = lambda_handler(Orders)

        with pytest.raises(ConfigurationError, match="concurrency"):
            handler({"streamkit": "warm", "build": True}, None)

    def test_a_progress_store_is_taken(self) -> None:
        class Orders(RecordProcessor):
            progress = MemoryProgress()

        assert Orders.progress.owner == "Orders.progress"

    def test_what_is_no_progress_store_is_refused_clearly(self) -> None:
        class Orders(RecordProcessor):
            pass

        orders = Orders()
        orders.progress = "table"  # type: ignore[assignment]  # What it must not be.

        with pytest.raises(ConfigurationError, match=r"Orders\.progress = 'table'.*DynamoDbProgress"):
            check_options(orders)


class TestAsync:
    def test_process_is_refused_when_the_class_is_made(self) -> None:
        with pytest.raises(TypeError, match="async, which streamkit does not support yet"):

            class Orders(RecordProcessor):
                async def process(self, record: Record) -> None:  # type: ignore[override]
                    return None

    def test_a_generator_is_refused_too(self) -> None:
        with pytest.raises(TypeError, match="async"):

            class Orders(RecordProcessor):
                async def process(self, record: Record) -> AsyncIterator[Write]:  # type: ignore[override]
                    yield MemorySink().item(1)

    def test_one_that_is_inherited_from_a_class_mixed_in_is_refused_too(self) -> None:
        class Mixed:
            async def process(self, record: Record) -> None:
                return None

        with pytest.raises(TypeError, match="async"):
            type("Orders", (Mixed, RecordProcessor), {})

    def test_prepare_is_refused_too_for_nobody_would_await_it(self) -> None:
        with pytest.raises(TypeError, match=r"Orders\.prepare is async"):

            class Orders(RecordProcessor):
                async def prepare(self, records: Any) -> None:  # type: ignore[override]
                    return None


class TestAnInit:
    def test_needs_no_super(self) -> None:
        class Orders(RecordProcessor):
            def __init__(self, sink: MemorySink) -> None:
                self.sink = sink

            def process(self, record: Record) -> Iterator[Write]:
                yield self.sink.item(record.data)

        sink = MemorySink()

        answer = lambda_handler(lambda: Orders(sink))(kinesis_event([b"a"]), None)

        assert answer == {"batchItemFailures": []}
        assert sink.items == [b"a"]


class TestProcess:
    def test_that_is_missing_is_a_failure_that_names_it(self, caplog: pytest.LogCaptureFixture) -> None:
        class Orders(RecordProcessor):
            pass

        answer = lambda_handler(Orders)(event := kinesis_event([b"a"]), None)

        assert answer["batchItemFailures"] == [{"itemIdentifier": event["Records"][0]["kinesis"]["sequenceNumber"]}]
        assert "Orders needs a `process(self, record)`" in caplog.text


class TestSinksAsAttributes:
    def test_know_who_holds_them(self) -> None:
        class Orders(RecordProcessor):
            search = MemorySink()

        assert Orders.search.owner == "Orders.search"

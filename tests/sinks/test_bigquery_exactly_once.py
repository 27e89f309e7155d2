"""BigQueryExactlyOnceSink: what it asks of its processor, and what it makes of each answer of the Storage Write API."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import grpc
import msgspec
import pytest
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import types

from streamkit import Block, Divert, Record, RecordProcessor, Write, lambda_handler
from streamkit.errors import ConfigurationError, StreamkitError
from streamkit.handler import Handler
from streamkit.plans.base import Entry
from streamkit.plans.memory import MemoryPlans
from streamkit.sinks.bigquery_exactly_once import BigQueryExactlyOnceSink
from streamkit.sinks.bigquery_plan import Plan, decode_plan, encode_plan
from streamkit.sinks.bigquery_proto import RowFormat
from streamkit.testing import MemoryQueue, MemorySink, kinesis_event, window_event
from streamkit.window import WindowProcessor
from tests.exactly_once.server import client_of, new_table, write_client_of
from tests.exactly_once.world import FIRST, SCHEMA, MemoryStreams, table_of

from .write_api import Abort, Answer, Silence, WriteApi

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer

SHARD = "stream/shardId-000000000000"
NAME = "projects/local/datasets/shop/tables/orders"


@pytest.fixture
def plans() -> MemoryPlans:
    return MemoryPlans()


def handler_of(sink: BigQueryExactlyOnceSink, **options: Any) -> Handler:
    """A row of each number but the negative ones, which fail."""

    class Orders(RecordProcessor):
        name = "orders"
        ordering = "shard"
        warehouse = sink
        on_failure = options.get("on_failure", Block())
        also = options.get("also")

        def process(self, record: Record) -> Iterator[Write]:
            number = record.json()
            if isinstance(number, int) and number < 0:
                raise RuntimeError("negative")
            yield self.warehouse.row(number if isinstance(number, dict) else {"id": str(number), "run": 1})
            if self.also is not None:
                yield self.also.item(number)

    return lambda_handler(Orders)


def a_container(plans: MemoryPlans, write_client: Any = None, **options: Any) -> Handler:
    """A function that has just started."""
    sink_options = {key: options.pop(key) for key in ("client", "streams") if key in options}
    sink_options.setdefault("client", table_of())
    return handler_of(
        BigQueryExactlyOnceSink("shop.orders", plans, write_client=write_client, **sink_options), **options
    )


def batch(*numbers: Any, at: int = 0) -> dict[str, Any]:
    return kinesis_event(numbers, start=FIRST + at)


def failed_at(answer: dict[str, Any]) -> int | None:
    """Which record the answer names, None where all went well."""
    failures = answer["batchItemFailures"]
    return int(failures[0]["itemIdentifier"]) - FIRST if failures else None


def ids(api: Any) -> list[str]:
    message = RowFormat(SCHEMA)._message
    return [message.FromString(row).id for row in api.rows]


def plan_of(plans: MemoryPlans) -> Plan:
    entry = plans.read("orders", NAME, SHARD, deadline=0)
    assert entry is not None
    return decode_plan(entry.data)


class TestWhatItAsksOfItsProcessor:
    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"ordering": "key"}, r'Orders\.ordering: Orders\.warehouse .* ordering = "shard"'),
            ({"ordering": "none"}, 'ordering = "shard"'),
            ({"ordering": "shard", "on_failure": Divert(MemoryQueue())}, r"Orders\.on_failure: .* use Block\(\)"),
        ],
    )
    def test_a_processor_that_can_not_have_it_is_refused_when_it_is_made(
        self, options: dict[str, Any], reason: str
    ) -> None:
        warehouse = BigQueryExactlyOnceSink("shop.orders", MemoryPlans())

        with pytest.raises(ConfigurationError, match=reason):
            type("Orders", (RecordProcessor,), {"warehouse": warehouse, **options})

    def test_a_window_is_refused(self) -> None:
        warehouse = BigQueryExactlyOnceSink("shop.orders", MemoryPlans())

        with pytest.raises(ConfigurationError, match="a window comes to is of no record"):
            type("Totals", (WindowProcessor,), {"warehouse": warehouse, "ordering": "shard"})

    def test_options_that_are_changed_later_are_refused_at_the_first_event(self, plans: MemoryPlans) -> None:
        handler = a_container(plans)
        handler._source.on_failure = Divert(MemoryQueue())  # type: ignore[union-attr]  # It is a class.

        with pytest.raises(ConfigurationError, match=r"use Block\(\)"):
            handler(batch(1))

    def test_a_sink_of_the_instance_is_checked_too(self, plans: MemoryPlans) -> None:
        class Orders(RecordProcessor):
            def __init__(self) -> None:
                self.warehouse = BigQueryExactlyOnceSink("shop.orders", plans)

        with pytest.raises(ConfigurationError, match='ordering = "shard"'):
            lambda_handler(Orders)(batch(1))

    def test_a_sink_that_nobody_holds_writes_nothing(
        self, plans: MemoryPlans, caplog: pytest.LogCaptureFixture
    ) -> None:
        streams = MemoryStreams()
        everywhere = BigQueryExactlyOnceSink("shop.orders", plans, client=table_of(), streams=streams)

        class Orders(RecordProcessor):
            def process(self, record: Record) -> Write:
                return everywhere.row({"id": "1"})

        assert failed_at(lambda_handler(Orders)(batch(1))) == 0
        assert "has to be an attribute of its processor" in caplog.text
        assert streams.rows == []

    def test_it_has_to_have_a_plan_store(self) -> None:
        with pytest.raises(ConfigurationError, match="takes a plan store"):
            BigQueryExactlyOnceSink("shop.orders", "plans")  # type: ignore[arg-type]  # That is the point.

    def test_a_row_nested_more_than_a_hundred_deep_is_an_error(self, plans: MemoryPlans) -> None:
        value: list[Any] = [1]
        for _ in range(98):
            value = [value]
        sink = BigQueryExactlyOnceSink("shop.orders", plans)

        assert sink.row({"n": value}).payload == {"n": value}
        with pytest.raises(ValueError, match="nested too deeply"):
            sink.row({"n": [value]})

    def test_an_id_column_is_the_name_of_one(self) -> None:
        with pytest.raises(ConfigurationError, match="id_column"):
            BigQueryExactlyOnceSink("shop.orders", MemoryPlans(), id_column="a` OR")

    def test_without_its_batch_it_does_not_write(self, plans: MemoryPlans) -> None:
        with pytest.raises(StreamkitError, match="write_from"):
            BigQueryExactlyOnceSink("shop.orders", plans).write([], deadline=0)

    def test_a_record_that_a_queue_brought_is_left_to_the_queue(
        self, plans: MemoryPlans, caplog: pytest.LogCaptureFixture
    ) -> None:
        streams = MemoryStreams()
        handler = a_container(plans, streams=streams)
        message = {"eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:us-east-1:0:retries", "messageId": "m"}

        answer = handler({"Records": [{**message, "body": "1"}]})

        assert answer == {"batchItemFailures": [{"itemIdentifier": "m"}]}
        assert "put the record back into its stream" in caplog.text
        assert streams.rows == []


class TestARow:
    def test_is_planned_before_it_is_sent(self, api: WriteApi, write_client: Any, plans: MemoryPlans) -> None:
        a_container(plans, write_client)(batch(1, 2))

        assert ids(api) == ["1", "2"]
        plan = plan_of(plans)
        assert (plan.stream, plan.base) == (f"{NAME}/streams/0", 0)
        assert plan.rows == ((FIRST, 0, 0), (FIRST + 1, 0, 0))

    def test_goes_behind_those_before_it_on_one_stream(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans
    ) -> None:
        handler = a_container(plans, write_client)
        for n in range(3):
            handler(batch(2 * n, 2 * n + 1, at=2 * n))

        assert ids(api) == [str(n) for n in range(6)]
        assert [request.offset for request in api.requests] == [0, 2, 4]
        assert api.calls == ["CreateWriteStream", *["AppendRows"] * 3]

    def test_of_a_batch_that_comes_again_is_left_out(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans
    ) -> None:
        handler = a_container(plans, write_client)
        handler(batch(1, 2))
        handler(batch(1, 2))
        a_container(plans, write_client)(batch(1, 2))

        assert ids(api) == ["1", "2"]

    def test_of_more_than_a_request_goes_by_several_plans(self, plans: MemoryPlans) -> None:
        class Streams(MemoryStreams):
            def append(self, stream: str, offset: int, descriptor: Any, rows: Any, *, timeout: float) -> None:
                sizes.append(sum(map(len, rows)))
                super().append(stream, offset, descriptor, rows, timeout=timeout)

        sizes: list[int] = []
        streams = Streams()
        client = table_of([*SCHEMA, bigquery.SchemaField("n", "FLOAT", mode="REPEATED")])
        # A number takes three bytes in JSON, by which requests are cut first, and nine here.
        rows = [{"id": str(n), "n": [1] * 300_000} for n in range(4)]

        assert failed_at(a_container(plans, streams=streams, client=client)(batch(*rows))) is None

        assert ids(streams) == ["0", "1", "2", "3"]
        assert len(sizes) == 2
        assert max(sizes) < 10_000_000
        assert streams.ends == {f"{NAME}/streams/0": 4}

    def test_that_does_not_fit_the_table_is_refused_alone(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans
    ) -> None:
        dead_letters = MemoryQueue()
        handler = a_container(plans, write_client, on_failure=Block(dead_letters))

        answer = handler(batch(1, {"id": 7}, {"id": "x" * 9_500_000}, {"id": "a", "other": 1}, 3))

        assert failed_at(answer) is None
        assert ids(api) == ["1", "3"]
        reasons = [letter.failures[0].message for letter in dead_letters]
        assert ["text" in reasons[0], "9,500," in reasons[1], "no such column" in reasons[2]] == [True] * 3

    def test_that_bigquery_refuses_is_refused_alone_and_its_offset_is_not_used_again(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans
    ) -> None:
        row_error = types.RowError(index=1, code=types.RowError.RowErrorCode.FIELDS_ERROR, message="too long: 'secret'")
        refused = types.AppendRowsResponse(error={"code": 3, "message": "rows"}, row_errors=[row_error])
        dead_letters = MemoryQueue()
        api.script("AppendRows", Answer(refused))

        answer = a_container(plans, write_client, on_failure=Block(dead_letters))(batch(1, 2, 3))

        assert failed_at(answer) is None
        assert ids(api) == ["1", "3"]
        assert "BigQuery refused the row: too long" in next(iter(dead_letters)).failures[0].message
        assert "secret" not in next(iter(dead_letters)).failures[0].message
        assert api.finalized == {f"{NAME}/streams/0"}
        assert plan_of(plans).stream == f"{NAME}/streams/1"

    def test_that_an_outcome_held_back_is_written_behind_those_that_are_in(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans
    ) -> None:
        other = MemorySink()
        other.refuse(lambda number: "failed" if number == 2 else None)
        handler = a_container(plans, write_client, also=other)

        assert failed_at(handler(batch(1, 2, 3))) == 1
        other.refuse(None)
        assert failed_at(a_container(plans, write_client, also=other)(batch(2, 3, 4, at=1))) is None

        assert sorted(ids(api)) == ["1", "2", "3", "4"]


class TestAfterACrash:
    """A plan was recorded, and nobody knows what became of it."""

    @pytest.fixture(autouse=True)
    def _crash(self, api: WriteApi, write_client: Any, plans: MemoryPlans) -> None:
        """The rows of 1, 2 and 3 are planned, and the append has no answer."""
        api.script("AppendRows", Abort(grpc.StatusCode.PERMISSION_DENIED))
        assert failed_at(a_container(plans, write_client)(batch(1, 2, 3))) == 0
        assert ids(api) == []
        api.calls.clear()

    def test_rows_that_were_not_taken_are_sent_again(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans
    ) -> None:
        assert failed_at(a_container(plans, write_client)(batch(1, 2, 3, 4))) is None

        assert ids(api) == ["1", "2", "3", "4"]
        assert api.calls == ["AppendRows", "AppendRows"]

    def test_rows_that_were_taken_are_not(self, api: WriteApi, write_client: Any, plans: MemoryPlans) -> None:
        api.script("AppendRows", Abort(grpc.StatusCode.PERMISSION_DENIED, takes_effect=True))
        assert failed_at(a_container(plans, write_client)(batch(1, 2, 3))) == 0

        assert failed_at(a_container(plans, write_client)(batch(1, 2, 3))) is None

        assert ids(api) == ["1", "2", "3"]

    def test_rows_that_can_not_be_made_again_are_counted(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans
    ) -> None:
        assert failed_at(a_container(plans, write_client)(batch(2, 3, 4, at=1))) is None

        assert ids(api) == ["2", "3", "4"]
        assert api.calls == ["FinalizeWriteStream", "CreateWriteStream", "AppendRows"]

    def test_another_outcome_is_no_repeat_though_it_has_as_many_rows(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans
    ) -> None:
        event = batch(1, 2, 3, 4)
        del event["Records"][1]

        assert failed_at(a_container(plans, write_client)(event)) is None

        assert ids(api) == ["1", "3", "4"]
        assert "FinalizeWriteStream" in api.calls

    def test_a_batch_behind_them_takes_them_for_in_and_finds_out_that_they_are_not(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans
    ) -> None:
        assert failed_at(a_container(plans, write_client)(batch(4, at=3))) is None

        assert ids(api) == ["4"]
        assert api.calls == ["AppendRows", "FinalizeWriteStream", "CreateWriteStream", "AppendRows"]

    def test_a_stream_that_somebody_finalized_is_counted(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans
    ) -> None:
        api.finalized.add(f"{NAME}/streams/0")

        assert failed_at(a_container(plans, write_client)(batch(1, 2, 3))) is None

        assert ids(api) == ["1", "2", "3"]

    def test_a_finalize_that_fails_the_second_time_leaves_it_to_somebody_who_looks(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans, caplog: pytest.LogCaptureFixture
    ) -> None:
        api.finalized.add(f"{NAME}/streams/0")
        api.script("FinalizeWriteStream", Abort(grpc.StatusCode.INVALID_ARGUMENT, "already finalized", 6))

        assert failed_at(a_container(plans, write_client)(batch(1, 2, 3))) == 0

        assert ids(api) == []
        assert "resolve('orders'" in caplog.text

    def test_a_stream_that_is_gone_leaves_it_to_somebody_who_looks(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans, caplog: pytest.LogCaptureFixture
    ) -> None:
        del api.ends[f"{NAME}/streams/0"]

        assert failed_at(a_container(plans, write_client)(batch(1, 2, 3))) == 0
        assert failed_at(a_container(plans, write_client)(batch(2, 3, at=1))) == 1
        assert ids(api) == []
        assert "resolve('orders', 'stream/shardId-000000000000', rows_are_in=…)" in caplog.text

    @pytest.mark.parametrize(("are_in", "written"), [(True, ["4"]), (False, ["1", "2", "3", "4"])])
    def test_what_somebody_says_is_believed(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans, are_in: bool, written: list[str]
    ) -> None:
        del api.ends[f"{NAME}/streams/0"]
        BigQueryExactlyOnceSink("shop.orders", plans, client=table_of()).resolve("orders", SHARD, rows_are_in=are_in)

        assert failed_at(a_container(plans, write_client)(batch(1, 2, 3, 4))) is None

        assert ids(api) == written

    def test_who_holds_the_plan_still_can_not_write_when_another_has_closed_its_stream(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans
    ) -> None:
        zombie = a_container(plans, write_client)
        sink: Any = zombie.processor.warehouse  # type: ignore[attr-defined]  # The test's own attribute.
        read, entry = plans.read, plans.read("orders", NAME, SHARD, deadline=0)
        assert failed_at(a_container(plans, write_client)(batch(2, 3, at=1))) is None

        plans.read = lambda *of, **by: entry  # type: ignore[method-assign]  # What it had read before it was paused.
        assert failed_at(zombie(batch(1, 2, 3))) == 0
        plans.read = read  # type: ignore[method-assign]

        assert ids(api) == ["2", "3"]
        assert sink is not None


class TestAnAnswer:
    @pytest.mark.parametrize("takes_effect", [True, False])
    @pytest.mark.parametrize("code", ["UNAVAILABLE", "INTERNAL", "ABORTED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"])
    def test_that_is_lost_or_passes_is_asked_for_again(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans, code: str, takes_effect: bool
    ) -> None:
        api.script("AppendRows", Abort(grpc.StatusCode[code], takes_effect=takes_effect))

        assert failed_at(a_container(plans, write_client)(batch(1, 2))) is None

        assert ids(api) == ["1", "2"]

    def test_that_never_comes_is_asked_for_again(self, api: WriteApi, write_client: Any, plans: MemoryPlans) -> None:
        api.script("AppendRows", Silence())

        assert failed_at(a_container(plans, write_client)(batch(1))) is None

        assert ids(api) == ["1"]

    @pytest.mark.parametrize(
        ("method", "abort", "told"),
        [
            ("AppendRows", Abort(grpc.StatusCode.PERMISSION_DENIED, "secret"), "bigquery.tables.updateData"),
            (
                "AppendRows",
                Abort(grpc.StatusCode.INVALID_ARGUMENT, "secret"),
                "INVALID_ARGUMENT for table local.shop.orders",
            ),
            ("CreateWriteStream", Abort(grpc.StatusCode.NOT_FOUND, "secret"), "create it, or correct its name"),
        ],
    )
    def test_that_time_does_not_mend_leaves_the_rows_where_they_are_and_says_why(
        self,
        api: WriteApi,
        write_client: Any,
        plans: MemoryPlans,
        caplog: pytest.LogCaptureFixture,
        method: str,
        abort: Abort,
        told: str,
    ) -> None:
        api.script(method, abort)

        assert failed_at(a_container(plans, write_client)(batch(1))) == 0

        assert told in caplog.text
        assert "secret" not in caplog.text

    def test_that_the_stream_of_a_new_plan_is_gone_takes_a_new_stream(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans
    ) -> None:
        handler = a_container(plans, write_client)
        handler(batch(1))
        api.ends.clear()

        assert failed_at(handler(batch(2, at=1))) is None

        assert ids(api) == ["1", "2"]

    def test_that_the_table_is_gone_with_its_streams_leaves_nothing_in_doubt(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans
    ) -> None:
        handler = a_container(plans, write_client)
        handler(batch(1))
        api.ends.clear()
        api.script("CreateWriteStream", Abort(grpc.StatusCode.NOT_FOUND, storage_code=1))
        assert failed_at(handler(batch(2, at=1))) == 1

        assert failed_at(a_container(plans, write_client)(batch(2, at=1))) is None

        assert ids(api) == ["1", "2"]

    def test_that_each_new_stream_is_closed_ends_after_some(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans, caplog: pytest.LogCaptureFixture
    ) -> None:
        api.script("AppendRows", *[Abort(grpc.StatusCode.INVALID_ARGUMENT, storage_code=6)] * 5)

        assert failed_at(a_container(plans, write_client)(batch(1))) == 0

        assert api.calls.count("CreateWriteStream") == 5
        assert "somebody else finalizes them" in caplog.text

    def test_that_rows_of_somebody_else_are_in_the_stream_stops_it(
        self, api: WriteApi, write_client: Any, plans: MemoryPlans, caplog: pytest.LogCaptureFixture
    ) -> None:
        api.script("AppendRows", Abort(grpc.StatusCode.PERMISSION_DENIED))
        a_container(plans, write_client)(batch(1, 2, 3))
        api.ends[f"{NAME}/streams/0"] = 2

        assert failed_at(a_container(plans, write_client)(batch(2, 3, at=1))) == 1

        assert "somebody else writes to it" in caplog.text


def test_a_plan_of_somebody_else_ends_it(plans: MemoryPlans, caplog: pytest.LogCaptureFixture) -> None:
    streams = MemoryStreams()
    handler = a_container(plans, streams=streams)
    stale = plans.read
    handler(batch(1))
    plans.read = lambda *of, **by: None  # type: ignore[method-assign]  # As it was read before the other one's plan.

    assert failed_at(a_container(plans, streams=streams)(batch(1))) == 0

    plans.read = stale  # type: ignore[method-assign]
    assert ids(streams) == ["1"]
    assert "another invocation of orders writes the rows" in caplog.text


def test_a_batch_from_before_what_was_settled_is_left_out_and_told(
    plans: MemoryPlans, caplog: pytest.LogCaptureFixture
) -> None:
    streams = MemoryStreams()
    handler = a_container(plans, streams=streams)
    handler(batch(1, 2))
    handler(batch(3, at=2))

    assert failed_at(handler(batch(1, 2))) is None

    assert ids(streams) == ["1", "2", "3"]
    assert "an old delivery, or more than one lane" in caplog.text


def test_another_generation_writes_everything_again(plans: MemoryPlans) -> None:
    streams = MemoryStreams()
    a_container(plans, streams=streams)(batch(1))
    plans.generation = "replay"
    a_container(plans, streams=streams)(batch(1))

    assert ids(streams) == ["1", "1"]


def test_a_column_that_the_table_got_meanwhile_is_found(plans: MemoryPlans, monkeypatch: pytest.MonkeyPatch) -> None:
    streams, schema = MemoryStreams(), [bigquery.SchemaField("id", "STRING")]
    client = table_of(schema)
    handler = a_container(plans, streams=streams, client=client)
    handler(batch({"id": "1"}))
    wider = table_of([*schema, bigquery.SchemaField("run", "INTEGER")])
    monkeypatch.setattr(client, "get_table", wider.get_table)
    later = time.monotonic() + 60
    monkeypatch.setattr("streamkit.sinks.bigquery_exactly_once.time.monotonic", lambda: later)

    assert failed_at(handler(batch({"id": "2", "run": 7}, at=1))) is None
    assert ids(streams) == ["1", "2"]


def test_a_column_that_the_table_has_lost_has_the_schema_read_anew(
    api: WriteApi, write_client: Any, plans: MemoryPlans, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = table_of()
    read = client.get_table
    reads: list[Any] = []

    def reading(*name: Any, **options: Any) -> Any:
        reads.append(name)
        return read(*name, **options)

    monkeypatch.setattr(client, "get_table", reading)
    handler = a_container(plans, write_client, client=client)
    api.script("AppendRows", Abort(grpc.StatusCode.INVALID_ARGUMENT, storage_code=7))

    assert failed_at(handler(batch(1))) == 0
    assert failed_at(handler(batch(1))) is None

    assert len(reads) == 2
    assert ids(api) == ["1"]


def test_all_rows_of_a_request_are_read_by_the_format_that_they_were_written_by(
    plans: MemoryPlans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The schema is read anew in the middle, and its columns have other numbers then."""

    class Streams(MemoryStreams):
        def append(self, stream: str, offset: int, descriptor: Any, rows: Any, *, timeout: float) -> None:
            taken.append(rows_of(descriptor, rows))

    taken: list[Any] = []
    first, second, third = (bigquery.SchemaField(name, "STRING") for name in ("first", "second", "third"))
    client = table_of([first, second])
    handler = a_container(plans, streams=Streams(), client=client)
    handler(batch({"first": "1"}))
    monkeypatch.setattr(client, "get_table", table_of([second, third]).get_table)
    later = time.monotonic() + 60
    monkeypatch.setattr("streamkit.sinks.bigquery_exactly_once.time.monotonic", lambda: later)

    assert failed_at(handler(batch({"second": "2"}, {"second": "3", "third": "4"}, at=1))) is None

    assert taken == [[{"first": "1"}], [{"second": "2"}, {"second": "3", "third": "4"}]]


def rows_of(descriptor: Any, rows: Any) -> list[dict[str, Any]]:
    """Serialized rows, as a server reads them."""
    from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="rows.proto", message_type=[descriptor])
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    message: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName(descriptor.name))
    return [json_format.MessageToDict(message.FromString(row)) for row in rows]


def test_a_plan_that_its_store_can_not_hold_stops_before_anything_is_written(
    plans: MemoryPlans, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryPlans, "most_bytes", 50)
    streams = MemoryStreams()

    assert failed_at(a_container(plans, streams=streams)(batch(1))) == 0

    assert streams.rows == []
    assert "make batches smaller" in caplog.text


def test_what_can_not_be_reached_leaves_the_rows_where_they_are(plans: MemoryPlans) -> None:
    with WriteApi() as gone:
        endpoint = gone.endpoint
    with write_client_of(endpoint) as write_client:
        handler = a_container(plans, write_client)
        handler.processor.deadline_margin = 0.2

        class Context:
            @staticmethod
            def get_remaining_time_in_millis() -> int:
                return 600

        assert failed_at(handler(batch(1), Context())) == 0


def test_two_tables_of_one_processor_have_an_account_each(plans: MemoryPlans) -> None:
    streams = MemoryStreams()

    class Orders(RecordProcessor):
        ordering = "shard"
        warehouse = BigQueryExactlyOnceSink("shop.orders", plans, client=table_of(), streams=streams)
        audit = BigQueryExactlyOnceSink("shop.audit", plans, client=table_of(), streams=streams)

        def process(self, record: Record) -> Iterator[Write]:
            yield self.warehouse.row({"id": f"order {record.json()}"})
            yield self.audit.row({"id": f"audit {record.json()}"})

    for _ in range(2):
        assert failed_at(lambda_handler(Orders)(batch(1, 2))) is None

    assert ids(streams) == ["order 1", "order 2", "audit 1", "audit 2"]
    assert [name.split("/")[5] for name in streams.ends] == ["orders", "audit"]


class TestAPlan:
    def test_is_read_as_it_was_written(self) -> None:
        rows = (
            (FIRST, 0, 0),
            (FIRST, 0, 1),
            (FIRST, 7, 0),
            (FIRST, 8, 2),
            (FIRST + 2**70, 0, 0),
            (FIRST + 2**71, 3, 0),
        )
        plan = Plan("streams/ü", 7, (FIRST, 3), frozenset(rows[1:4]), rows, "token")

        assert decode_plan(encode_plan(plan)) == plan
        assert decode_plan(encode_plan(Plan())) == Plan()

    def test_of_a_full_batch_fits_its_store(self) -> None:
        import random

        drawn = random.Random(7)
        numbers = sorted(FIRST + drawn.getrandbits(90) for _ in range(10_000))
        plain = Plan(
            "s", 0, (0, 0), frozenset((n, 0, 0) for n in numbers[:5000]), tuple((n, 0, 0) for n in numbers[5000:])
        )
        aggregates = Plan(rows=tuple((n, sub, 0) for n in numbers[:100] for sub in range(2000)))

        assert len(encode_plan(plain)) < MemoryPlans.most_bytes
        assert len(encode_plan(aggregates)) < 20_000

    @pytest.mark.parametrize("data", [b"", b"no plan", encode_plan(Plan())[:-3]])
    def test_that_is_damaged_is_not_guessed(self, data: bytes) -> None:
        with pytest.raises(StreamkitError, match="damaged"):
            decode_plan(data)

    def test_of_another_version_is_not_guessed(self) -> None:
        import zlib

        data = zlib.compress(zlib.decompress(encode_plan(Plan())).replace(b'"v":1', b'"v":2'))

        with pytest.raises(StreamkitError, match="version"):
            decode_plan(data)


def test_every_type_arrives_at_a_real_server_as_it_was(bigquery_server: BigQueryServer, plans: MemoryPlans) -> None:
    schema = [
        *(
            bigquery.SchemaField(kind.lower(), kind)
            for kind in ("STRING", "INTEGER", "FLOAT", "NUMERIC", "BOOLEAN", "BYTES")
        ),
        *(bigquery.SchemaField(kind.lower() + "_", kind) for kind in ("TIMESTAMP", "DATE", "DATETIME", "TIME", "JSON")),
        bigquery.SchemaField("nested", "RECORD", fields=[bigquery.SchemaField("tags", "STRING", mode="REPEATED")]),
    ]
    from datetime import UTC, date, datetime
    from datetime import time as clock
    from decimal import Decimal

    row: dict[str, Any] = {
        "string": "ü",
        "integer": 2**60 + 1,
        "float": 0.1,
        "numeric": Decimal("0.10"),
        "boolean": False,
        "bytes": b"\x00\xff",
        "timestamp_": datetime(2026, 1, 31, 12, 0, 0, 123456, UTC),
        "date_": date(1969, 12, 31),
        "datetime_": datetime(2026, 1, 31, 12, 0, 0, 5),
        "time_": clock(12, 30),
        "json_": '{"a":1}',
        "nested": {"tags": ["a", "b"]},
    }
    with client_of(bigquery_server) as client, write_client_of(bigquery_server.grpc_endpoint) as write_client:
        table = new_table(client, schema)
        sink = BigQueryExactlyOnceSink(table, plans, client=client, write_client=write_client)

        class Orders(RecordProcessor):
            ordering = "shard"
            warehouse = sink

            def process(self, record: Record) -> Write:
                return self.warehouse.row(row)

        assert failed_at(lambda_handler(Orders)(batch(1))) is None
        found = [dict(each) for each in client.query_and_wait(f"SELECT * FROM {table}")]

    assert found == [row | {"json_": {"a": 1}}]


def test_what_a_real_server_refuses_is_refused_alone(bigquery_server: BigQueryServer, plans: MemoryPlans) -> None:
    schema = [bigquery.SchemaField("id", "STRING"), bigquery.SchemaField("at", "TIME")]
    with client_of(bigquery_server) as client, write_client_of(bigquery_server.grpc_endpoint) as write_client:
        table = new_table(client, schema)
        dead_letters = MemoryQueue()
        sink = BigQueryExactlyOnceSink(table, plans, client=client, write_client=write_client)
        handler = handler_of(sink, on_failure=Block(dead_letters))

        assert failed_at(handler(batch({"id": "1"}, {"id": "2", "at": "never"}, {"id": "3", "at": "12:00:00"}))) is None

        found = [each.id for each in client.query_and_wait(f"SELECT id FROM {table} ORDER BY id")]
    assert found == ["1", "3"]
    assert len(dead_letters) == 1


@pytest.mark.parametrize("are_in", [True, False])
@pytest.mark.parametrize("again", [("1", "2", "3"), ("2", "3")])
def test_rows_of_a_stream_that_is_gone_are_looked_for_by_their_ids(
    bigquery_server: BigQueryServer, plans: MemoryPlans, are_in: bool, again: tuple[str, ...]
) -> None:
    schema = [bigquery.SchemaField("id", "STRING"), bigquery.SchemaField("write_id", "STRING")]
    with client_of(bigquery_server) as client, write_client_of(bigquery_server.grpc_endpoint) as write_client:
        table = new_table(client, schema)

        def container() -> Handler:
            sink = BigQueryExactlyOnceSink(table, plans, id_column="write_id", client=client, write_client=write_client)
            return handler_of(sink)

        assert failed_at(container()(batch({"id": "1"}, {"id": "2"}, {"id": "3"}))) is None
        if not are_in:
            client.query_and_wait(f"DELETE FROM {table} WHERE TRUE")
        name = "projects/local/datasets/{}/tables/{}".format(*table.split("."))
        entry = plans.read("orders", name, SHARD, deadline=0)
        assert entry is not None
        plan = msgspec.structs.replace(decode_plan(entry.data), stream=f"{name}/streams/expired")
        plans.save("orders", name, SHARD, Entry(2, encode_plan(plan)), deadline=0)

        answer = container()(batch(*({"id": n} for n in again), at=3 - len(again)))

        assert failed_at(answer) is None
        found = [
            (row.id, row.write_id) for row in client.query_and_wait(f"SELECT id, write_id FROM {table} ORDER BY id")
        ]
    expected = ["1", "2", "3"] if are_in else again
    assert found == [(n, f"{SHARD}:{FIRST + int(n) - 1}:0/orders/0") for n in expected]


def test_a_plan_of_which_the_table_has_a_part_is_somebody_elses_doing_and_nothing_is_guessed(
    bigquery_server: BigQueryServer, plans: MemoryPlans, caplog: pytest.LogCaptureFixture
) -> None:
    schema = [bigquery.SchemaField("id", "STRING"), bigquery.SchemaField("write_id", "STRING")]
    with client_of(bigquery_server) as client, write_client_of(bigquery_server.grpc_endpoint) as write_client:
        table = new_table(client, schema)

        def container() -> Handler:
            sink = BigQueryExactlyOnceSink(table, plans, id_column="write_id", client=client, write_client=write_client)
            return handler_of(sink)

        rows = batch({"id": "1"}, {"id": "2"}, {"id": "3"})
        assert failed_at(container()(rows)) is None
        client.query_and_wait(f"DELETE FROM {table} WHERE id = '2'")
        name = "projects/local/datasets/{}/tables/{}".format(*table.split("."))
        entry = plans.read("orders", name, SHARD, deadline=0)
        assert entry is not None
        plan = msgspec.structs.replace(decode_plan(entry.data), stream=f"{name}/streams/expired")
        plans.save("orders", name, SHARD, Entry(2, encode_plan(plan)), deadline=0)

        assert failed_at(container()(rows)) == 0

        found = [row.id for row in client.query_and_wait(f"SELECT id FROM {table} ORDER BY id")]
    assert "the table has 2 of 3 rows of a plan: somebody else has changed it" in caplog.text
    assert found == ["1", "3"]


def test_a_table_that_is_not_there_is_told(
    bigquery_server: BigQueryServer, plans: MemoryPlans, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(bigquery_server) as client:
        sink = BigQueryExactlyOnceSink("nowhere.orders", plans, client=client, streams=MemoryStreams())

        assert failed_at(handler_of(sink)(batch(1))) == 0

    assert "for table nowhere.orders: create it, or correct its name" in caplog.text


def test_settings_of_the_environment_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("ROWS", raising=False)
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")
    caplog.set_level(logging.ERROR)

    assert failed_at(handler_of(BigQueryExactlyOnceSink.from_env("ROWS", MemoryPlans()))(batch(1))) == 0

    assert (
        "Orders.warehouse needs the name of a BigQuery table, dataset.table, in the environment variable ROWS"
        in caplog.text
    )


def test_the_window_event_is_no_way_around_it(plans: MemoryPlans) -> None:
    """A function for records answers a call for a window as any other batch: its rows are of records."""
    streams = MemoryStreams()

    answer = a_container(plans, streams=streams)(window_event(batch(1)))

    assert answer["batchItemFailures"] == []
    assert ids(streams) == ["1"]

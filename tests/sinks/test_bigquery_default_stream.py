"""BigQuerySink(method="storage-write"): what it makes of each answer of a default stream, scripted and of local-bigquery."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import local_bigquery
import pytest
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import types
from grpc import StatusCode

from streamkit import Record, RecordProcessor, Write, lambda_handler
from streamkit.errors import ConfigurationError
from streamkit.sinks.bigquery import BigQuerySink, TableOptions
from streamkit.sinks.bigquery_format import read_format
from streamkit.sinks.bigquery_proto import RowFormat
from streamkit.testing import kinesis_event
from streamkit.testing.contracts import stamp
from tests.exactly_once.server import client_of, new_table, write_client_of

from . import bigquery_tables
from .aws_proxy import AwsProxy, Request, drop
from .bigquery_proxy import refuse
from .bigquery_tables import kinds, rows_in, soon
from .cutter import Cutter
from .write_api import Abort, Answer, Hang, Silence, WriteApi

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer

field = bigquery.SchemaField
SCHEMA = [field("id", "INTEGER", mode="REQUIRED"), field("name", "STRING")]
STREAM = "projects/local/datasets/shop/tables/orders/streams/_default"
TAKEN: dict[str, Any] = {"append_result": {}}


class Table:
    """A client that tells the schema of a table which is nowhere but in memory, and counts how often it is asked."""

    def __init__(self, schema: Sequence[Any] = SCHEMA) -> None:
        self.schema = list(schema)
        self.reads = 0

    def get_table(self, name: str, **_: Any) -> Any:
        self.reads += 1
        return bigquery.Table(f"local.{name}", schema=self.schema)


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def sink(table: Table, write_client: Any) -> BigQuerySink:
    return BigQuerySink("shop.orders", method="storage-write", client=table, write_client=write_client)


def rows(sink: BigQuerySink, *given: Any) -> list[Write]:
    return stamp(sink.row(row if isinstance(row, dict) else {"id": row}) for row in given)


def sent(api: WriteApi) -> list[list[int]]:
    """The ids in each request that came."""
    message = RowFormat(SCHEMA)._message
    return [[message.FromString(row).id for row in request.proto_rows.rows.serialized_rows] for request in api.requests]


def ids(api: WriteApi) -> list[int]:
    """The ids of what was taken."""
    return [RowFormat(SCHEMA)._message.FromString(row).id for row in api.rows]


def refusal_of(indexes: dict[int, str]) -> Answer:
    errors = [
        types.RowError(index=index, code=types.RowError.RowErrorCode.FIELDS_ERROR, message=message)
        for index, message in indexes.items()
    ]
    return Answer(types.AppendRowsResponse(error={"code": 3, "message": "Errors found"}, row_errors=errors))


class TestRows:
    def test_go_to_the_tables_default_stream_without_an_offset(self, api: WriteApi, sink: BigQuerySink) -> None:
        assert sink.write(rows(sink, 1, 2), deadline=soon()) == []

        assert ids(api) == [1, 2]
        assert api.calls == ["AppendRows"]
        assert api.requests[0].write_stream == STREAM
        assert "offset" not in api.requests[0]

    def test_that_lack_a_column_get_the_tables_default_for_it(self, api: WriteApi, sink: BigQuerySink) -> None:
        sink.write(rows(sink, 1), deadline=soon())

        missing = types.AppendRowsRequest.MissingValueInterpretation
        assert api.requests[0].default_missing_value_interpretation == missing.DEFAULT_VALUE

    def test_have_the_schema_read_once_for_all_calls(self, table: Table, sink: BigQuerySink) -> None:
        for n in range(3):
            sink.write(rows(sink, n), deadline=soon())

        assert table.reads == 1

    def test_are_packed_by_their_bytes(self, api: WriteApi, sink: BigQuerySink) -> None:
        writes = rows(sink, *({"id": n, "name": "ü" * 1_500_000} for n in range(7)))

        assert sink.write(writes, deadline=soon(120)) == []

        assert sent(api) == [[0, 1], [2, 3], [4, 5], [6]]
        sizes = [len(types.AppendRowsRequest.serialize(request)) for request in api.requests]
        assert max(sizes) < 10_000_000

    def test_that_no_request_can_hold_are_invalid_and_their_neighbours_land(
        self, api: WriteApi, sink: BigQuerySink
    ) -> None:
        writes = rows(sink, 1, {"id": 2, "name": "x" * 10_000_000}, 3)

        refusals = sink.write(writes, deadline=soon())

        assert kinds(refusals, writes) == [(1, "invalid")]
        assert "BigQuery takes 10,000,000 in a request" in str(refusals[0].error)
        assert ids(api) == [1, 3]

    def test_that_do_not_fit_the_table_are_invalid_and_their_neighbours_land(
        self, api: WriteApi, sink: BigQuerySink
    ) -> None:
        writes = rows(sink, 1, {"id": "secret"}, {"id": 3, "colour": "secret"}, {"name": "secret"}, 5)

        refusals = sink.write(writes, deadline=soon())

        assert kinds(refusals, writes) == [(1, "invalid"), (2, "invalid"), (3, "invalid")]
        assert [str(refusal.error) for refusal in refusals] == [
            "id: an integer of 64 bits is what it takes",
            "colour: no such column",
            "id: required, and not in the row",
        ]
        assert sent(api) == [[1, 5]]

    def test_that_are_nested_more_than_a_hundred_deep_are_invalid(self, api: WriteApi, sink: BigQuerySink) -> None:
        value: Any = 1
        for _ in range(200):
            value = [value]
        writes = rows(sink, 1, {"id": 2, "tags": value}, 3)

        refusals = sink.write(writes, deadline=soon())

        assert kinds(refusals, writes) == [(1, "invalid")]
        assert str(refusals[0].error) == "the row is nested too deeply"
        assert ids(api) == [1, 3]

    def test_that_all_do_not_fit_send_nothing(self, api: WriteApi, sink: BigQuerySink) -> None:
        writes = rows(sink, {"id": "x"})

        assert kinds(sink.write(writes, deadline=soon()), writes) == [(0, "invalid")]
        assert api.requests == []

    def test_that_the_schema_given_refuses_are_invalid(self, table: Table, write_client: Any, api: WriteApi) -> None:
        schema = [*SCHEMA, field("tags", "STRING", mode="REPEATED")]
        table.schema = schema
        sink = BigQuerySink(
            "shop.orders", schema=schema, method="storage-write", client=table, write_client=write_client
        )
        writes = rows(sink, 1, {"id": 2, "tags": "secret"}, 3)

        refusals = sink.write(writes, deadline=soon())

        assert kinds(refusals, writes) == [(1, "invalid")]
        assert str(refusals[0].error) == "tags: an array is what a REPEATED field takes"
        assert ids(api) == [1, 3]


class TestAnAnswer:
    def test_that_refuses_rows_has_taken_none_and_the_others_go_again(self, api: WriteApi, sink: BigQuerySink) -> None:
        api.script("AppendRows", refusal_of({1: "Field name: 'secret' is bad", 3: "too long: secret"}))
        writes = rows(sink, 1, 2, 3, 4, 5)

        refusals = sink.write(writes, deadline=soon())

        assert kinds(refusals, writes) == [(1, "invalid"), (3, "invalid")]
        assert sent(api) == [[1, 2, 3, 4, 5], [1, 3, 5]]
        assert ids(api) == [1, 3, 5]
        assert str(refusals[1].error) == "BigQuery refused the row: too long"
        assert not any("secret" in str(refusal.error) for refusal in refusals)

    def test_that_refuses_one_row_after_another_is_heard_to_its_end(self, api: WriteApi, sink: BigQuerySink) -> None:
        api.script("AppendRows", refusal_of({0: "bad"}), Abort(StatusCode.UNAVAILABLE), refusal_of({1: "bad"}))
        writes = rows(sink, 1, 2, 3)

        assert kinds(sink.write(writes, deadline=soon()), writes) == [(0, "invalid"), (2, "invalid")]

        assert sent(api) == [[1, 2, 3], [2, 3], [2, 3], [2]]
        assert ids(api) == [2]

    def test_that_refuses_all_rows_ends_it(self, api: WriteApi, sink: BigQuerySink) -> None:
        api.script("AppendRows", refusal_of({0: "bad", 1: "bad"}))
        writes = rows(sink, 1, 2)

        assert kinds(sink.write(writes, deadline=soon()), writes) == [(0, "invalid"), (1, "invalid")]
        assert len(api.requests) == 1

    def test_that_refuses_rows_that_were_not_sent_leaves_all_in_the_stream(
        self, api: WriteApi, sink: BigQuerySink
    ) -> None:
        api.script("AppendRows", refusal_of({7: "bad"}))
        writes = rows(sink, 1)

        assert kinds(sink.write(writes, deadline=soon()), writes) == [(0, "unavailable")]
        assert len(api.requests) == 1

    def test_that_refuses_rows_when_the_time_is_up_leaves_the_others_in_the_stream(
        self, api: WriteApi, sink: BigQuerySink
    ) -> None:
        api.script("AppendRows", refusal_of({1: "bad"}))
        writes = rows(sink, 1, 2)

        refusals = sink.write(writes, deadline=time.monotonic() - 1)

        assert kinds(refusals, writes) == [(0, "unavailable"), (1, "invalid")]
        assert len(api.requests) == 1

    @pytest.mark.parametrize(
        "code",
        ["UNAVAILABLE", "INTERNAL", "ABORTED", "CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"],
    )
    def test_that_passes_is_asked_for_again(self, api: WriteApi, sink: BigQuerySink, code: str) -> None:
        api.script("AppendRows", *[Abort(StatusCode[code])] * 2)

        assert sink.write(rows(sink, 1, 2), deadline=soon()) == []

        assert sent(api) == [[1, 2]] * 3
        assert ids(api) == [1, 2]

    def test_that_passes_may_be_within_the_stream(self, api: WriteApi, sink: BigQuerySink) -> None:
        api.script("AppendRows", Answer(types.AppendRowsResponse(error={"code": 8, "message": "throttled"})))

        assert sink.write(rows(sink, 1), deadline=soon()) == []
        assert sent(api) == [[1], [1]]

    def test_that_is_lost_has_rows_in_twice(self, api: WriteApi, sink: BigQuerySink) -> None:
        api.script("AppendRows", Abort(StatusCode.UNAVAILABLE, takes_effect=True))

        assert sink.write(rows(sink, 1), deadline=soon()) == []
        assert ids(api) == [1, 1]

    def test_that_never_comes_though_the_call_ends_is_asked_for_again(self, api: WriteApi, sink: BigQuerySink) -> None:
        api.script("AppendRows", Silence())

        assert sink.write(rows(sink, 1), deadline=soon()) == []
        assert len(api.requests) == 2

    def test_that_never_comes_leaves_the_rows_in_the_stream_at_the_deadline(
        self, api: WriteApi, sink: BigQuerySink
    ) -> None:
        api.script("AppendRows", *[Hang()] * 100)
        writes = rows(sink, 1, 2)
        began = time.monotonic()

        refusals = sink.write(writes, deadline=soon(1))

        assert kinds(refusals, writes) == [(0, "unavailable"), (1, "unavailable")]
        assert str(refusals[0].error) == "BigQuery answered DEADLINE_EXCEEDED for table local.shop.orders"
        assert api.requests
        assert time.monotonic() - began < 5

    def test_that_throttles_beyond_the_deadline_leaves_the_rows_in_the_stream(
        self, api: WriteApi, sink: BigQuerySink
    ) -> None:
        api.script("AppendRows", *[Abort(StatusCode.RESOURCE_EXHAUSTED, "secret")] * 1000)
        writes = rows(sink, *({"id": n, "name": "x" * 4_000_000} for n in range(4)))

        refusals = sink.write(writes, deadline=soon(1))

        assert kinds(refusals, writes) == [(n, "unavailable") for n in range(4)]
        assert str(refusals[0].error) == "BigQuery answered RESOURCE_EXHAUSTED for table local.shop.orders"
        assert set(map(tuple, sent(api))) == {(0, 1)}, "the later request would have met the same"

    def test_past_the_deadline_is_asked_for_once(self, api: WriteApi, sink: BigQuerySink) -> None:
        api.script("AppendRows", Abort(StatusCode.UNAVAILABLE))
        writes = rows(sink, 1)

        assert kinds(sink.write(writes, deadline=time.monotonic() - 1), writes) == [(0, "unavailable")]
        assert len(api.requests) == 1

        assert sink.write(writes, deadline=time.monotonic() - 1) == []
        assert ids(api) == [1]

    @pytest.mark.parametrize(
        ("abort", "told", "tries"),
        [
            (Abort(StatusCode.PERMISSION_DENIED, "secret"), "the permission bigquery.tables.updateData", 1),
            (Abort(StatusCode.UNAUTHENTICATED, "secret"), "valid credentials", 1),
            (Abort(StatusCode.NOT_FOUND, "secret"), "create it, or correct its name", 1),
            (Abort(StatusCode.NOT_FOUND, "secret", 1), "create it, or correct its name", 1),
            (Abort(StatusCode.UNIMPLEMENTED, "secret"), "UNIMPLEMENTED for table local.shop.orders", 1),
            # The first time, the table may have another schema by now.
            (Abort(StatusCode.INVALID_ARGUMENT, "secret"), "INVALID_ARGUMENT for table local.shop.orders", 2),
        ],
        ids=str,
    )
    def test_that_refuses_all_of_a_request_is_no_records_fault_and_says_what_to_do(
        self, api: WriteApi, sink: BigQuerySink, abort: Abort, told: str, tries: int
    ) -> None:
        assert sink.write(rows(sink, 0), deadline=soon()) == []
        api.requests.clear()
        api.script("AppendRows", *[abort] * 10)
        writes = rows(sink, 1, 2)

        refusals = sink.write(writes, deadline=soon())

        assert kinds(refusals, writes) == [(0, "unavailable"), (1, "unavailable")]
        assert told in str(refusals[0].error)
        assert "secret" not in str(refusals[0].error)
        assert sent(api) == [[1, 2]] * tries

    @pytest.mark.parametrize(
        ("code", "text"),
        [
            ("INVALID_ARGUMENT", "AppendRows request too large: 11854265 limit 10485760 Entity: secret"),
            ("INVALID_ARGUMENT", "MessageSize is too large. Max allow: 10000000 Actual: 13136478"),
        ],
    )
    def test_that_a_request_is_too_large_has_it_halved_down_to_the_row_that_is(
        self, api: WriteApi, sink: BigQuerySink, code: str, text: str
    ) -> None:
        api.script("AppendRows", *[Abort(StatusCode[code], text)] * 3)
        writes = rows(sink, 0, 1, 2, 3)

        refusals = sink.write(writes, deadline=soon())

        assert kinds(refusals, writes) == [(0, "invalid")]
        assert str(refusals[0].error) == "BigQuery answered that the row is too large"
        assert sent(api) == [[0, 1, 2, 3], [0, 1], [0], [1], [2, 3]]
        assert ids(api) == [1, 2, 3]

    def test_of_grpc_that_a_request_is_too_large_has_it_halved(self, table: Table) -> None:
        with WriteApi(most_bytes=4_000_000) as api, write_client_of(api.endpoint) as write_client:
            sink = BigQuerySink("shop.orders", method="storage-write", client=table, write_client=write_client)
            sizes = [2_500_000, 2_500_000, 4_500_000, 1]
            writes = rows(sink, *({"id": n, "name": "x" * size} for n, size in enumerate(sizes)))

            refusals = sink.write(writes, deadline=soon())

        assert kinds(refusals, writes) == [(2, "invalid")]
        assert ids(api) == [0, 1, 3]


class TestAChangedSchema:
    def test_that_an_answer_tells_is_read_before_the_next_call(
        self, api: WriteApi, table: Table, sink: BigQuerySink
    ) -> None:
        updated = types.TableSchema(fields=[{"name": "id"}, {"name": "name"}, {"name": "colour"}])
        api.script("AppendRows", Answer(types.AppendRowsResponse(updated_schema=updated, **TAKEN), takes_effect=True))
        assert sink.write(rows(sink, 1), deadline=soon()) == []
        assert table.reads == 1

        table.schema.append(field("colour", "STRING"))
        for n in (2, 3):
            assert sink.write(rows(sink, n), deadline=soon()) == []

        assert ids(api) == [1, 2, 3]
        assert table.reads == 2
        columns = [field.name for field in api.requests[-1].proto_rows.writer_schema.proto_descriptor.field]
        assert columns == ["id", "name", "colour"]

    def test_is_read_when_a_row_has_a_column_that_the_table_lacked(
        self, api: WriteApi, table: Table, sink: BigQuerySink
    ) -> None:
        sink.write(rows(sink, 1), deadline=soon())
        table.schema.append(field("colour", "STRING"))

        assert sink.write(rows(sink, 2, {"id": 3, "colour": "red"}, 4), deadline=soon()) == []

        assert sent(api) == [[1], [2, 3, 4]]
        assert table.reads == 2

    def test_is_looked_for_once_in_a_call_and_the_row_is_invalid_then(
        self, api: WriteApi, table: Table, sink: BigQuerySink
    ) -> None:
        sink.write(rows(sink, 1), deadline=soon())
        writes = rows(sink, {"id": 2, "colour": "red"}, 3, {"id": 4, "size": 7})

        refusals = sink.write(writes, deadline=soon())

        assert kinds(refusals, writes) == [(0, "invalid"), (2, "invalid")]
        assert ids(api) == [1, 3]
        assert table.reads == 2

    def test_is_not_looked_for_again_in_the_call_that_has_read_it(self, table: Table, sink: BigQuerySink) -> None:
        writes = rows(sink, {"id": 1, "colour": "red"})

        assert kinds(sink.write(writes, deadline=soon()), writes) == [(0, "invalid")]
        assert table.reads == 1

    def test_that_lost_a_column_is_read_and_rows_that_have_it_are_invalid(
        self, api: WriteApi, table: Table, sink: BigQuerySink
    ) -> None:
        sink.write(rows(sink, 1), deadline=soon())
        table.schema = [field("id", "INTEGER", mode="REQUIRED")]
        api.unknown_columns.add("name")
        writes = rows(sink, 2, {"id": 3, "name": "x"})

        refusals = sink.write(writes, deadline=soon())

        assert kinds(refusals, writes) == [(1, "invalid")]
        assert ids(api) == [1, 2]
        assert sent(api) == [[1], [2, 3], [2]]

    def test_of_which_bigquery_knows_nothing_yet_makes_only_rows_wait_that_need_it(
        self, api: WriteApi, table: Table, sink: BigQuerySink
    ) -> None:
        table.schema.append(field("colour", "STRING"))
        api.unknown_columns.add("colour")

        assert sink.write(rows(sink, 1, 2), deadline=soon()) == []
        writes = rows(sink, {"id": 3, "colour": "red"})
        refusals = sink.write(writes, deadline=soon(1))

        assert ids(api) == [1, 2]
        assert kinds(refusals, writes) == [(0, "unavailable")]
        assert str(refusals[0].error) == (
            "BigQuery does not know new columns of table shop.orders yet, for which rows wait"
        )
        api.unknown_columns.clear()
        assert sink.write(writes, deadline=soon()) == []
        assert ids(api) == [1, 2, 3]

    def test_of_which_bigquery_knows_nothing_yet_has_rows_wait_from_the_first_that_needs_it(
        self, api: WriteApi, table: Table, sink: BigQuerySink
    ) -> None:
        table.schema.append(field("colour", "STRING"))
        api.unknown_columns.add("colour")
        writes = rows(sink, 1, {"id": 2, "name": "x"}, {"id": 3, "colour": "red"}, 4)

        refusals = sink.write(writes, deadline=soon(1))

        assert ids(api) == [1, 2]
        assert kinds(refusals, writes) == [(2, "unavailable"), (3, "unavailable")]
        assert str(refusals[0].error) == (
            "BigQuery does not know new columns of table shop.orders yet, for which rows wait"
        )
        api.unknown_columns.clear()
        assert sink.write(writes[2:], deadline=soon()) == []
        assert ids(api) == [1, 2, 3, 4]

    def test_of_which_bigquery_knows_nothing_yet_is_waited_for_within_the_call(
        self, api: WriteApi, table: Table, sink: BigQuerySink
    ) -> None:
        table.schema.append(field("colour", "STRING"))
        api.unknown_columns.add("colour")
        learns = threading.Timer(1, api.unknown_columns.clear)
        learns.start()

        assert sink.write(rows(sink, 1, {"id": 2, "colour": "red"}, 3), deadline=soon()) == []

        learns.join()
        assert ids(api) == [1, 2, 3]
        assert sent(api)[-1] == [2, 3]

    @pytest.mark.parametrize("unknown", [{"c0"}, {"c6"}, {"c11"}, {"c3", "c9"}], ids=sorted)
    def test_of_which_bigquery_does_not_say_what_it_lacks_is_looked_for_by_halves(
        self, api: WriteApi, table: Table, sink: BigQuerySink, unknown: set[str]
    ) -> None:
        table.schema += [field(f"c{n}", "STRING") for n in range(12)]
        api.unknown_columns |= unknown
        waits = min(int(name[1:]) for name in unknown)
        # Each column comes in two rows, and a third has none.
        given = [{"id": n} if n % 3 == 2 else {"id": n, f"c{n // 3}": "x"} for n in range(36)]
        writes = rows(sink, *given)

        refusals = sink.write(writes, deadline=soon(1))

        assert ids(api) == list(range(waits * 3))
        assert kinds(refusals, writes) == [(n, "unavailable") for n in range(waits * 3, 36)]
        looked = [request for n, request in enumerate(sent(api)) if request not in sent(api)[:n]]
        assert len(looked) <= 2 * 4 + 2, "the whole of it once and by halves, not row by row"

    def test_of_which_bigquery_does_not_say_what_it_lacks_is_not_looked_for_among_columns_that_it_took(
        self, api: WriteApi, table: Table, sink: BigQuerySink
    ) -> None:
        table.schema += [*(field(f"c{n}", "STRING") for n in range(6)), field("colour", "STRING")]
        api.unknown_columns.add("colour")
        writes = rows(sink, *({"id": n, f"c{n % 6}": "x"} for n in range(60)), {"id": 60, "colour": "red"})

        refusals = sink.write(writes, deadline=soon(1))

        assert ids(api) == list(range(60))
        assert kinds(refusals, writes) == [(60, "unavailable")]
        looked = [request for n, request in enumerate(sent(api)) if request not in sent(api)[:n]]
        assert len(looked) <= 6

    def test_of_which_bigquery_knows_nothing_for_several_deliveries_has_no_row_in_twice(
        self, api: WriteApi, table: Table, sink: BigQuerySink
    ) -> None:
        class Orders(RecordProcessor):
            name = "orders"
            warehouse = sink

            def process(self, record: Record) -> Iterator[Write]:
                yield self.warehouse.row(record.json())

        class Context:
            def get_remaining_time_in_millis(self) -> int:
                return 1500

        handler = lambda_handler(Orders)
        table.schema.append(field("colour", "STRING"))
        api.unknown_columns.add("colour")
        event = kinesis_event([{"id": n, "colour": "red"} if n == 3 else {"id": n} for n in range(1, 7)])
        records = event["Records"]
        for _ in range(3):
            (failure,) = handler({"Records": records}, Context())["batchItemFailures"]
            numbers = [record["kinesis"]["sequenceNumber"] for record in records]
            records = records[numbers.index(failure["itemIdentifier"]) :]
            assert ids(api) == [1, 2], "what comes before is in, and the checkpoint passes it"
            assert len(records) == 4

        api.unknown_columns.clear()
        assert handler({"Records": records}, None)["batchItemFailures"] == []
        assert ids(api) == [1, 2, 3, 4, 5, 6]

    def test_that_can_not_be_read_leaves_the_rows_in_the_stream(
        self, api: WriteApi, table: Table, sink: BigQuerySink, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from google.api_core.exceptions import Forbidden, ServiceUnavailable

        def refused(name: str, **_: Any) -> Any:
            raise cast(Any, Forbidden)("secret")

        def passes(name: str, **_: Any) -> Any:
            monkeypatch.undo()
            raise cast(Any, ServiceUnavailable)("secret")

        monkeypatch.setattr(table, "get_table", refused)
        writes = rows(sink, 1)
        refusals = sink.write(writes, deadline=soon())
        assert kinds(refusals, writes) == [(0, "unavailable")]
        assert str(refusals[0].error).endswith("the permission bigquery.tables.get")

        monkeypatch.setattr(table, "get_table", passes)
        assert sink.write(writes, deadline=soon()) == []
        assert ids(api) == [1]


class TestSettings:
    def test_a_way_that_there_is_not_is_an_error(self) -> None:
        with pytest.raises(ConfigurationError, match='"insert-all", or "storage-write"'):
            BigQuerySink("shop.orders", method="load")  # type: ignore[arg-type]  # That is the point.

    def test_a_write_client_is_for_the_way_that_takes_one(self, write_client: Any) -> None:
        with pytest.raises(ConfigurationError, match="takes a write_client"):
            BigQuerySink("shop.orders", write_client=write_client)

    def test_a_missing_package_names_the_extra_to_install(self, monkeypatch: pytest.MonkeyPatch, table: Table) -> None:
        sink = BigQuerySink("shop.orders", method="storage-write", client=table)
        monkeypatch.setitem(sys.modules, "google.cloud.bigquery_storage_v1", None)

        with pytest.raises(ImportError, match=r"kinesis-streamkit\[bigquery-storage\]"):
            sink.write(rows(sink, 1), deadline=soon())

    def test_making_rows_imports_neither_google_nor_grpc_nor_tenacity(self) -> None:
        program = (
            "import sys\n"
            "from streamkit.sinks.bigquery import BigQuerySink\n"
            "sink = BigQuerySink.from_env('T', method='storage-write')\n"
            "sink.row({'id': 1})\n"
            "sink.write([], deadline=0)\n"
            "heavy = ('google', 'grpc', 'tenacity', 'requests', 'asyncio')\n"
            "print([name for name in sys.modules if name.partition('.')[0] in heavy])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout == "[]\n"

    def test_a_client_that_was_given_stays_open_when_the_sink_is_closed(
        self, table: Table, sink: BigQuerySink, write_client: Any, api: WriteApi
    ) -> None:
        sink.close()
        again = BigQuerySink("shop.orders", method="storage-write", client=table, write_client=write_client)

        assert again.write(rows(again, 1), deadline=soon()) == []
        assert ids(api) == [1]

    def test_more_rows_are_held_for_a_request_than_of_the_other_way(self, sink: BigQuerySink) -> None:
        assert sink.request_writes > BigQuerySink("shop.orders").request_writes == 500


# Against local-bigquery


@pytest.fixture
def real(bigquery_server: BigQueryServer, bigquery_client: Any) -> Iterator[Any]:
    """Makes a sink of a table there."""
    with write_client_of(bigquery_server.grpc_endpoint) as write_client:
        yield lambda table, **options: BigQuerySink(
            table, method="storage-write", client=bigquery_client, write_client=write_client, **options
        )


def test_every_type_arrives_as_it_was(bigquery_client: Any, real: Any) -> None:
    row: dict[str, Any] = {
        "id": 2**60 + 1,
        "string": "Ålesund \U0001f6eb",
        "float": 0.1,
        "numeric": Decimal("12345678901234567.123456789"),
        "boolean": False,
        "bytes": b"\x00\xff",
        "timestamp": datetime(2026, 1, 31, 12, 0, 0, 123456, UTC),
        "date": date(1969, 12, 31),
        "datetime": datetime(2026, 1, 31, 12, 0, 0, 5),
        "time": time_of_day(23, 59, 59, 999999),
        "json": {"a": [1, None]},
        "nested": {"tags": ["a", "b"]},
    }
    kinds = ("STRING", "FLOAT", "NUMERIC", "BOOLEAN", "BYTES", "TIMESTAMP", "DATE", "DATETIME", "TIME", "JSON")
    nested = field("nested", "RECORD", fields=[field("tags", "STRING", mode="REPEATED")])
    schema = [field("id", "INTEGER"), *(field(kind.lower(), kind) for kind in kinds), nested]
    table = new_table(bigquery_client, schema)
    sink = real(table, schema=schema)

    assert sink.write(rows(sink, row), deadline=soon()) == []

    assert rows_in(bigquery_client, table) == [row]


def test_what_the_server_refuses_is_refused_alone(bigquery_client: Any, real: Any) -> None:
    table = new_table(bigquery_client, [field("id", "INTEGER"), field("at", "TIME")])
    sink = real(table)
    writes = rows(sink, 1, {"id": 2, "at": "never"}, {"id": 3, "at": "12:00:00"})

    refusals = sink.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(1, "invalid")]
    assert str(refusals[0].error).startswith("BigQuery refused the row: ")
    assert [row["id"] for row in rows_in(bigquery_client, table)] == [1, 3]


def test_a_request_that_the_server_finds_too_large_is_halved(
    bigquery_client: Any, real: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It takes 4 MB, by gRPC's own limit.
    table = new_table(bigquery_client, SCHEMA)
    sink = real(table)
    streams = sink._default_stream.streams
    append, counts = streams.append, []

    def counting(stream: str, offset: int | None, descriptor: Any, given: Sequence[bytes], **options: Any) -> Any:
        counts.append(len(given))
        return append(stream, offset, descriptor, given, **options)

    monkeypatch.setattr(streams, "append", counting)

    assert sink.write(rows(sink, *({"id": n, "name": "x" * 2_500_000} for n in range(3))), deadline=soon(60)) == []

    assert counts == [3, 1, 2, 1, 1]
    assert [row["id"] for row in rows_in(bigquery_client, table)] == [0, 1, 2]


def test_a_table_that_is_not_there_is_told_and_rows_go_in_once_it_is(bigquery_client: Any, real: Any) -> None:
    dataset = new_table(bigquery_client).partition(".")[0]
    sink = real(f"{dataset}.absent")
    writes = rows(sink, 1, 2)

    refusals = sink.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(0, "unavailable"), (1, "unavailable")]
    assert str(refusals[0].error).endswith(f"for table {dataset}.absent: create it, or correct its name")
    bigquery_client.create_table(bigquery.Table(f"local.{dataset}.absent", schema=SCHEMA))
    assert sink.write(writes, deadline=soon()) == []
    assert [row["id"] for row in rows_in(bigquery_client, f"{dataset}.absent")] == [1, 2]


def test_a_table_that_is_dropped_meanwhile_is_told(bigquery_client: Any, real: Any) -> None:
    table = new_table(bigquery_client, SCHEMA)
    sink = real(table)
    assert sink.write(rows(sink, 1), deadline=soon()) == []
    bigquery_client.delete_table(table)
    writes = rows(sink, 2)

    refusals = sink.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(0, "unavailable")]
    assert str(refusals[0].error).endswith(f"for table local.{table}: create it, or correct its name")


def test_a_table_is_made_by_the_schema_where_there_is_none(bigquery_client: Any, real: Any) -> None:
    dataset = new_table(bigquery_client).partition(".")[0]
    sink = real(f"{dataset}.made", schema=SCHEMA, create=TableOptions(labels={"team": "shop"}))

    assert sink.write(rows(sink, 1), deadline=soon()) == []
    bigquery_client.delete_table(f"{dataset}.made")
    assert sink.write(rows(sink, 2), deadline=soon()) == []

    assert [row["id"] for row in rows_in(bigquery_client, f"{dataset}.made")] == [2]
    assert bigquery_client.get_table(f"{dataset}.made").labels == {"team": "shop"}


def test_unknown_fields_are_left_out_where_they_are_to_be_ignored(bigquery_client: Any, real: Any) -> None:
    table = new_table(bigquery_client, SCHEMA)
    sink = real(table, unknown="ignore")

    assert sink.write(rows(sink, {"id": 1, "name": "a", "colour": "red"}), deadline=soon()) == []

    assert rows_in(bigquery_client, table) == [{"id": 1, "name": "a"}]


def test_a_column_that_is_new_is_found_within_a_minute_where_what_is_unknown_is_ignored(
    bigquery_client: Any, real: Any
) -> None:
    table = new_table(bigquery_client, SCHEMA)
    sink = real(table, unknown="ignore")
    assert sink.write(rows(sink, {"id": 1, "colour": "red"}), deadline=soon()) == []
    widened = bigquery_client.get_table(table)
    widened.schema = [*widened.schema, bigquery.SchemaField("colour", "STRING")]
    bigquery_client.update_table(widened, ["schema"])

    # As if the minute were over.
    sink._default_stream.read_again_at = time.monotonic()
    assert sink.write(rows(sink, {"id": 2, "colour": "blue"}), deadline=soon()) == []

    assert {row["id"]: row["colour"] for row in rows_in(bigquery_client, table)} == {1: None, 2: "blue"}
    assert sink._default_stream.read_again_at > time.monotonic() + 30


def test_the_value_of_a_new_column_waits_where_the_schema_that_is_read_does_not_show_it_yet(
    bigquery_client: Any, real: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = new_table(bigquery_client, SCHEMA)
    sink = real(table, unknown="add")
    assert sink.write(rows(sink, 1), deadline=soon()) == []
    stream = sink._default_stream
    stale, reads = (stream.name.removesuffix("/streams/_default"), stream.format), []

    def late(*arguments: Any, **options: Any) -> Any:
        reads.append(arguments)
        return stale if len(reads) <= 2 else read_format(*arguments, **options)

    monkeypatch.setattr("streamkit.sinks.bigquery_default_stream.read_format", late)
    assert sink.write(rows(sink, {"id": 2, "colour": "red"}), deadline=soon()) == []

    assert len(reads) == 3
    assert {row["id"]: row["colour"] for row in rows_in(bigquery_client, table)} == {1: None, 2: "red"}


def test_rows_before_one_whose_column_is_not_shown_yet_do_not_wait_and_what_is_wrong_stays_wrong(
    bigquery_client: Any, real: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = new_table(bigquery_client, SCHEMA)
    sink = real(table, unknown="add")
    assert sink.write(rows(sink, 1), deadline=soon()) == []
    stream = sink._default_stream
    stale = stream.name.removesuffix("/streams/_default"), stream.format

    def late(*arguments: Any, **options: Any) -> Any:
        """Not shown before the rows that need not wait are in."""
        is_in = [row["id"] for row in rows_in(bigquery_client, table)] == [1, 2, 4]
        return read_format(*arguments, **options) if is_in else stale

    monkeypatch.setattr("streamkit.sinks.bigquery_default_stream.read_format", late)
    writes = rows(sink, 2, {"id": 3, "x": [[1]]}, 4, {"id": 5, "colour": "red"}, 6, {"id": 7, "x": [[1]]})

    assert kinds(sink.write(writes, deadline=soon(60)), writes) == [(1, "invalid"), (5, "invalid")]

    assert {row["id"]: row["colour"] for row in rows_in(bigquery_client, table)} == {
        **dict.fromkeys((1, 2, 4, 6)),
        5: "red",
    }


@pytest.mark.parametrize("at", ["GET", "PATCH"])
def test_no_value_is_left_out_where_a_change_of_the_table_has_no_answer_at_first(
    bigquery_server: BigQueryServer, bigquery_client: Any, proxy: AwsProxy, at: str
) -> None:
    table = new_table(bigquery_client, SCHEMA)
    faults = iter([refuse(503, "backendError"), drop])

    def fails_twice(request: Request) -> Any:
        is_asked = request.method == at and len(proxy.requests) > 1
        return (next(faults, Request.forward) if is_asked else Request.forward)(request)

    proxy.always = fails_twice
    with (
        contextlib.closing(bigquery_tables.client_of(proxy.endpoint)) as client,
        write_client_of(bigquery_server.grpc_endpoint) as write_client,
    ):
        sink = BigQuerySink(table, method="storage-write", unknown="add", client=client, write_client=write_client)
        writes = rows(sink, 1, {"id": 2, "colour": "red"}, {"id": 3, "x": [[1]]})

        assert kinds(sink.write(writes, deadline=soon()), writes) == [(2, "invalid")]

    assert next(faults, None) is None
    assert {row["id"]: row["colour"] for row in rows_in(bigquery_client, table)} == {1: None, 2: "red"}


def test_unknown_fields_become_columns_where_they_are_to_be_added(bigquery_client: Any, real: Any) -> None:
    table = new_table(bigquery_client, SCHEMA)
    sink = real(table, unknown="add")
    assert sink.write(rows(sink, 1), deadline=soon()) == []
    writes = rows(
        sink,
        {"id": 2, "colour": "red", "at": date(2026, 1, 31)},
        {"id": 3, "nothing": None},
        {"id": 4, "x": [[1]]},
        {"size": 7, "id": "of another fault"},
    )

    refusals = sink.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(2, "invalid"), (3, "invalid")]
    assert [str(refusal.error) for refusal in refusals] == [
        "the row has an array of arrays, which BigQuery has no column for",
        "id: an integer of 64 bits is what it takes",
    ]
    nulls = {"name": None, "colour": None, "at": None}
    assert rows_in(bigquery_client, table) == [
        {"id": 1, **nulls},
        {"id": 2, **nulls, "colour": "red", "at": date(2026, 1, 31)},
        {"id": 3, **nulls},
    ]


@pytest.mark.parametrize(
    ("mark", "found"),
    [({"to_server": b"a row to look for"}, [1]), ({"to_client": b"/streams/_default"}, [1, 1])],
    ids=["before the rows are taken", "after that"],
)
def test_a_connection_that_is_reset_is_made_again(
    bigquery_server: BigQueryServer, bigquery_client: Any, mark: dict[str, bytes], found: list[int]
) -> None:
    table = new_table(bigquery_client, SCHEMA)
    with (
        Cutter(bigquery_server.grpc_endpoint, **mark) as cutter,
        write_client_of(cutter.endpoint) as write_client,
    ):
        sink = BigQuerySink(table, method="storage-write", client=bigquery_client, write_client=write_client)

        assert sink.write(rows(sink, {"id": 1, "name": "a row to look for"}), deadline=soon()) == []

    assert cutter.cuts == 1
    assert [row["id"] for row in rows_in(bigquery_client, table)] == found


def test_a_server_that_dies_makes_rows_unavailable_and_one_that_comes_back_takes_them(tmp_path: Path) -> None:
    with local_bigquery.bigquery_server(data=tmp_path / "data") as server, client_of(server) as client:
        table = new_table(client, SCHEMA)
        with write_client_of(server.grpc_endpoint) as write_client:
            sink = BigQuerySink(table, method="storage-write", client=client, write_client=write_client)
            assert sink.write(rows(sink, 1), deadline=soon()) == []
            os.killpg(server.pid, signal.SIGKILL)
            second = rows(sink, 2)
            refusals = sink.write(second, deadline=soon(1))
            assert kinds(refusals, second) == [(0, "unavailable")]
            assert "UNAVAILABLE" in str(refusals[0].error)

            ports = [int(endpoint.rpartition(":")[2]) for endpoint in (server.endpoint, server.grpc_endpoint)]
            stop = threading.Event()

            def come_back() -> None:
                with local_bigquery.bigquery_server(data=tmp_path / "data", ports=ports):
                    stop.wait()

            comes_back = threading.Thread(target=come_back)
            comes_back.start()
            try:
                assert sink.write(second, deadline=soon(60)) == []  # It was down when this began.
                assert [row["id"] for row in rows_in(client, table)] == [1, 2]
            finally:
                stop.set()
                comes_back.join()


def test_the_sink_makes_its_own_clients_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, bigquery_client: Any, bigquery_server: BigQueryServer
) -> None:
    class Orders:
        warehouse = BigQuerySink.from_env("ORDERS_TABLE", method="storage-write")

    table = new_table(bigquery_client, SCHEMA)
    monkeypatch.setenv("ORDERS_TABLE", f"{bigquery_server.project}.{table}")
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", bigquery_server.endpoint)
    monkeypatch.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", bigquery_server.grpc_endpoint)

    assert Orders.warehouse.write(rows(Orders.warehouse, 1), deadline=soon()) == []
    Orders.warehouse.close()

    assert [row["id"] for row in rows_in(bigquery_client, table)] == [1]

"""Tables that BigQuerySink makes, and columns that it adds, on local-bigquery behind a proxy that is slow to learn of them."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.cloud import bigquery

from streamkit import Refusal
from streamkit.errors import ConfigurationError
from streamkit.sinks.bigquery import BigQuerySink, TableOptions
from streamkit.testing.contracts import stamp

from .aws_proxy import Act, Answer, AwsProxy, Request, lose_the_answer, trickle
from .bigquery_proxy import inserts, no_such_field, one_at_a_time, refuse, statuses
from .bigquery_tables import client_of, kinds, rows_in, soon

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer

SCHEMA: list[dict[str, Any]] = [
    {"name": "id", "type": "INTEGER", "mode": "REQUIRED"},
    {"name": "at", "type": "TIMESTAMP"},
    {"name": "country", "type": "STRING", "description": "Two letters."},
]


@pytest.fixture
def name(dataset: str) -> str:
    """The name of a table that is not there yet."""
    return f"{dataset}.t_{uuid.uuid4().hex}"


@pytest.fixture
def table(bigquery_client: Any, name: str) -> str:
    """A table of one column."""
    bigquery_client.create_table(
        bigquery.Table(f"{bigquery_client.project}.{name}", schema=[bigquery.SchemaField("id", "INTEGER")])
    )
    return name


@pytest.fixture
def client(proxy: AwsProxy, bigquery_client: Any) -> Iterator[Any]:
    client = client_of(proxy.endpoint, bigquery_client.project)
    yield client
    client.close()


def asked(proxy: AwsProxy) -> list[str]:
    """What was asked of BigQuery, in order: the method, and what of."""
    return [
        f"{request.method} {'insertAll' if '/insertAll' in request.path else 'table'}" for request in proxy.requests
    ]


# Making a table


def test_a_table_that_is_not_there_is_made_as_its_options_say(
    bigquery_client: Any, proxy: AwsProxy, client: Any, name: str
) -> None:
    options = TableOptions(
        partition_field="at",
        partition_type="DAY",
        partition_expiration_days=90,
        require_partition_filter=True,
        clustering=["country", "id"],
        labels={"team": "shop"},
        description="Orders.",
    )
    sink = BigQuerySink(name, schema=SCHEMA, create=options, client=client)
    writes = stamp([sink.row({"id": 1, "at": "2026-01-31T12:00:00Z", "country": "ES"}), sink.row({"id": 2})])

    assert sink.write(writes, deadline=soon()) == []

    made = bigquery_client.get_table(name)
    assert [(field.name, field.field_type, field.mode) for field in made.schema] == [
        ("id", "INTEGER", "REQUIRED"),
        ("at", "TIMESTAMP", "NULLABLE"),
        ("country", "STRING", "NULLABLE"),
    ]
    assert (made.time_partitioning.type_, made.time_partitioning.field) == ("DAY", "at")
    assert made.time_partitioning.expiration_ms == 90 * 86_400_000
    assert made.require_partition_filter is True
    assert (made.clustering_fields, made.labels, made.description) == (["country", "id"], {"team": "shop"}, "Orders.")
    # Not by a query, which would need a filter.
    assert sorted(row.id for row in bigquery_client.list_rows(made)) == [1, 2]
    assert asked(proxy) == ["POST insertAll", "POST table", "POST insertAll"]


def test_a_table_that_is_there_costs_no_request_more(proxy: AwsProxy, client: Any, table: str) -> None:
    sink = BigQuerySink(table, schema=SCHEMA, create=TableOptions(), unknown="add", client=client)

    assert sink.write(stamp([sink.row({"id": 1})]), deadline=soon()) == []

    assert asked(proxy) == ["POST insertAll"]


def test_a_table_is_made_by_arrival_where_only_a_type_of_partition_is_given(
    bigquery_client: Any, client: Any, name: str
) -> None:
    sink = BigQuerySink(name, schema=SCHEMA, create=TableOptions(partition_type="HOUR"), client=client)

    assert sink.write(stamp([sink.row({"id": 1})]), deadline=soon()) == []

    partitioning = bigquery_client.get_table(name).time_partitioning
    assert (partitioning.type_, partitioning.field) == ("HOUR", None)


def test_rows_wait_while_bigquery_remembers_that_there_was_no_table(
    bigquery_client: Any, proxy: AwsProxy, client: Any, name: str
) -> None:
    absent = refuse(404, "notFound")
    proxy.script += [absent, Request.forward, absent, absent]
    sink = BigQuerySink(name, schema=SCHEMA, create=TableOptions(), client=client)

    assert sink.write(stamp([sink.row({"id": n}) for n in range(3)]), deadline=soon()) == []

    assert asked(proxy) == ["POST insertAll", "POST table", *["POST insertAll"] * 3]
    assert [row["id"] for row in rows_in(bigquery_client, name)] == [0, 1, 2]


def test_rows_are_unavailable_where_it_remembers_that_for_longer(
    bigquery_client: Any, proxy: AwsProxy, client: Any, name: str
) -> None:
    absent = refuse(404, "notFound")

    def never_there(request: Request) -> Answer | None:
        return absent(request) if "/insertAll" in request.path else request.forward()

    proxy.always = never_there
    sink = BigQuerySink(name, schema=SCHEMA, create=TableOptions(), client=client)
    writes = stamp([sink.row({"id": 1})])

    refusals = sink.write(writes, deadline=soon(2))

    assert kinds(refusals, writes) == [(0, "unavailable")]
    assert asked(proxy).count("POST table") == 1
    proxy.always = Request.forward
    assert sink.write(stamp([sink.row({"id": 1})]), deadline=soon()) == []
    assert [row["id"] for row in rows_in(bigquery_client, name)] == [1]


def test_two_functions_that_make_the_same_table_both_have_their_rows_in(
    bigquery_client: Any, proxy: AwsProxy, bigquery_server: BigQueryServer, name: str
) -> None:
    both, forward = threading.Barrier(2), one_at_a_time()

    def together(request: Request) -> Answer | None:
        if "/insertAll" not in request.path:
            both.wait(20)
        return forward(request)

    proxy.always = together
    refused: list[list[Refusal]] = []

    def function(n: int) -> None:
        client = client_of(proxy.endpoint, bigquery_client.project)
        sink = BigQuerySink(name, schema=SCHEMA, create=TableOptions(), client=client)
        refused.append(sink.write(stamp([sink.row({"id": n})], event=f"of-{n}"), deadline=soon()))
        client.close()

    in_threads(function, 2)

    assert refused == [[], []]
    assert [row["id"] for row in rows_in(bigquery_client, name)] == [0, 1]
    made = [status for request, status in proxy.statuses if "/insertAll" not in request.path]
    assert sorted(status or 0 for status in made) == [200, 409]


CANT = {
    "a role that may not": (refuse(403, "accessDenied", "secret"), "the permission bigquery.tables.create"),
    "a schema that it does not take": (refuse(400, "invalid", "secret"), "wrong with the schema or the options"),
    "a dataset that is not there": (refuse(404, "notFound", "secret"), "there is no dataset"),
}


@pytest.mark.parametrize(("fault", "text"), CANT.values(), ids=CANT)
def test_a_table_that_cant_be_made_leaves_rows_in_the_stream(
    fault: Act, text: str, proxy: AwsProxy, client: Any, name: str
) -> None:
    proxy.script += [Request.forward, fault]
    sink = BigQuerySink(name, schema=SCHEMA, create=TableOptions(), client=client)
    writes = stamp([sink.row({"id": 1})])

    refusals = sink.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(0, "unavailable")]
    assert text in str(refusals[0].error)
    assert "secret" not in str(refusals[0].error)
    assert asked(proxy) == ["POST insertAll", "POST table"]


@pytest.mark.parametrize("fault", [refuse(503, "backendError"), lose_the_answer], ids=["503", "lost"])
def test_a_fault_while_a_table_is_made_passes(
    fault: Act, bigquery_client: Any, proxy: AwsProxy, client: Any, name: str
) -> None:
    proxy.script += [Request.forward, fault]
    sink = BigQuerySink(name, schema=SCHEMA, create=TableOptions(), client=client)

    assert sink.write(stamp([sink.row({"id": 1})]), deadline=soon()) == []

    assert [row["id"] for row in rows_in(bigquery_client, name)] == [1]
    assert statuses(proxy)[1] != 200


# Fields that the table lacks


def test_by_default_a_row_with_a_field_that_the_table_lacks_is_invalid_and_the_field_named(
    bigquery_client: Any, client: Any, table: str
) -> None:
    sink = BigQuerySink(table, client=client)
    writes = stamp([sink.row({"id": 1, "colour": "red"}), sink.row({"id": 2})])

    refusals = sink.write(writes, deadline=soon())

    assert kinds(refusals, writes) == [(0, "invalid")]
    assert "colour (no such field)" in str(refusals[0].error)
    assert rows_in(bigquery_client, table) == [{"id": 2}]


def test_fields_that_the_table_lacks_are_ignored_where_that_is_wanted(
    bigquery_client: Any, client: Any, table: str
) -> None:
    sink = BigQuerySink(table, unknown="ignore", client=client)

    assert sink.write(stamp([sink.row({"id": 1, "colour": "red"}), sink.row({"id": 2})]), deadline=soon()) == []

    assert rows_in(bigquery_client, table) == [{"id": 1}, {"id": 2}]


def test_the_table_gets_a_column_by_what_the_value_is(
    bigquery_client: Any, proxy: AwsProxy, client: Any, table: str
) -> None:
    sink = BigQuerySink(table, unknown="add", client=client)
    row = {
        "id": 1,
        "text": "a",
        "whole": 2**60,
        "part": 0.5,
        "yes": True,
        "list": ["a", "b"],
        "object": {"x": 1, "inner": {"y": "z"}},
        "objects": [{"a": 1}, {"b": 2.5}],
    }
    writes = stamp([sink.row({"id": 0}), sink.row(row), sink.row({"id": 2})])

    assert sink.write(writes, deadline=soon()) == []

    fields = {field.name: field for field in bigquery_client.get_table(table).schema}
    assert {name: (field.field_type, field.mode) for name, field in fields.items()} == {
        "id": ("INTEGER", "NULLABLE"),
        "text": ("STRING", "NULLABLE"),
        "whole": ("INTEGER", "NULLABLE"),
        "part": ("FLOAT", "NULLABLE"),
        "yes": ("BOOLEAN", "NULLABLE"),
        "list": ("STRING", "REPEATED"),
        "object": ("RECORD", "NULLABLE"),
        "objects": ("RECORD", "REPEATED"),
    }
    landed = rows_in(bigquery_client, table)
    assert [one["id"] for one in landed] == [0, 1, 2]
    assert landed[1] == {**row, "objects": [{"a": 1, "b": None}, {"a": None, "b": 2.5}]}
    assert asked(proxy) == ["POST insertAll", "GET table", "PATCH table", "POST insertAll"]
    assert inserts(proxy) == [[0, 1, 2], [1]]


def test_a_column_is_added_as_the_given_schema_has_it_and_may_be_null(
    bigquery_client: Any, client: Any, table: str
) -> None:
    schema = [*SCHEMA, {"name": "price", "type": "NUMERIC", "mode": "REQUIRED", "description": "In euros."}]
    sink = BigQuerySink(table, schema=schema, unknown="add", client=client)

    assert sink.write(stamp([sink.row({"id": 1, "PRICE": "1.5", "country": "ES"})]), deadline=soon()) == []

    assert [(f.name, f.field_type, f.mode, f.description) for f in bigquery_client.get_table(table).schema[1:]] == [
        ("price", "NUMERIC", "NULLABLE", "In euros."),
        ("country", "STRING", "NULLABLE", "Two letters."),
    ]


def test_what_tells_nothing_of_its_column_is_left_out_until_another_row_tells(
    bigquery_client: Any, proxy: AwsProxy, client: Any, table: str
) -> None:
    sink = BigQuerySink(table, unknown="add", client=client)
    tells_nothing: dict[str, Any] = {"colour": None, "sizes": [], "extra": {}, "deep": {"x": None}}

    assert sink.write(stamp([sink.row({"id": 1, **tells_nothing})]), deadline=soon()) == []
    assert [field.name for field in bigquery_client.get_table(table).schema] == ["id"]
    assert asked(proxy) == ["POST insertAll", "GET table", "POST insertAll"]
    later = stamp([sink.row({"id": 2, "colour": "red"}), sink.row({"id": 3, **tells_nothing})], event="later")
    assert sink.write(later, deadline=soon()) == []

    assert rows_in(bigquery_client, table) == [
        {"id": 1, "colour": None},
        {"id": 2, "colour": "red"},
        {"id": 3, "colour": None},
    ]


def test_a_row_that_can_be_in_no_column_is_invalid_and_adds_none(bigquery_client: Any, client: Any, table: str) -> None:
    sink = BigQuerySink(table, unknown="add", client=client)
    writes = stamp(
        [
            sink.row({"id": 1, "secret name!": 1}),
            sink.row({"id": 2, "grid": [[1], [2]]}),
            sink.row({"id": 3, "mixed": [1, "a"]}),
            sink.row({"id": 4, "_PARTITIONTIME": 1}),
            sink.row({"id": 5, "good": 1}),
            sink.row({"id": "wrong", "bad": 1}),
        ]
    )

    refusals = sink.write(writes, deadline=soon())

    assert sorted(kinds(refusals, writes)) == [(n, "invalid") for n in (0, 1, 2, 3, 5)]
    assert not any("secret" in str(refusal.error) for refusal in refusals)
    assert rows_in(bigquery_client, table) == [{"id": 5, "good": 1}]


def test_a_value_that_does_not_fit_its_column_stays_invalid(bigquery_client: Any, client: Any, table: str) -> None:
    sink = BigQuerySink(table, unknown="add", client=client)
    first = stamp([sink.row({"id": 1, "size": 7})])
    second = stamp([sink.row({"id": 2, "size": "large"})], event="second")

    assert sink.write(first, deadline=soon()) == []

    assert kinds(sink.write(second, deadline=soon()), second) == [(0, "invalid")]
    assert rows_in(bigquery_client, table) == [{"id": 1, "size": 7}]


def test_a_table_has_no_more_than_ten_thousand_columns(
    bigquery_client: Any, proxy: AwsProxy, client: Any, table: str
) -> None:
    many = [{"name": f"c{n}", "type": "INTEGER", "mode": "NULLABLE"} for n in range(9_998)]

    def wide(request: Request) -> Answer:
        status, headers, body = request.forward()
        if request.method != "GET":
            return status, headers, body
        described = json.loads(body)
        described["schema"]["fields"] += many
        return status, headers, json.dumps(described).encode()

    def stops_at_the_patch(request: Request) -> Answer | None:
        return refuse(403, "accessDenied")(request) if request.method == "PATCH" else wide(request)

    proxy.always = stops_at_the_patch
    sink = BigQuerySink(table, unknown="add", client=client)
    writes = stamp([sink.row({"id": 1, "one": {"two": 2}}), sink.row({"id": 2, "last": 1})])

    refusals = sink.write(writes, deadline=soon())

    assert sorted(kinds(refusals, writes)) == [(0, "unavailable"), (1, "unavailable")], "nothing was added"
    patched = [request.json for request in proxy.requests if request.method == "PATCH"]
    assert [field["name"] for field in patched[0]["schema"]["fields"][-2:]] == ["c9997", "last"]
    proxy.always = wide
    many.append({"name": "last", "type": "INTEGER", "mode": "NULLABLE"})
    refusals = sink.write(writes[:1], deadline=soon())
    assert kinds(refusals, writes) == [(0, "invalid")]
    assert "10,000 columns" in str(refusals[0].error)


# BigQuery takes a while to know


def test_rows_wait_while_bigquery_does_not_know_their_new_column_and_others_do_not(
    bigquery_client: Any, proxy: AwsProxy, client: Any, table: str
) -> None:
    slow = no_such_field("colour")
    proxy.script += [Request.forward, Request.forward, Request.forward, slow, Request.forward, slow]
    sink = BigQuerySink(table, unknown="add", client=client)
    writes = stamp([sink.row({"id": 1}), sink.row({"id": 2, "colour": "red"}), sink.row({"id": 3, "colour": "blue"})])

    assert sink.write(writes, deadline=soon()) == []

    assert rows_in(bigquery_client, table) == [
        {"id": 1, "colour": None},
        {"id": 2, "colour": "red"},
        {"id": 3, "colour": "blue"},
    ]
    assert inserts(proxy) == [[1, 2, 3], [2, 3], [2, 3], [2, 3]]
    assert asked(proxy).count("PATCH table") == 1


def test_rows_are_unavailable_and_never_invalid_where_that_takes_longer(
    bigquery_client: Any, proxy: AwsProxy, client: Any, table: str
) -> None:
    slow = no_such_field("colour")

    def never_knows(request: Request) -> Answer | None:
        return slow(request) if "/insertAll" in request.path else request.forward()

    proxy.always = never_knows
    sink = BigQuerySink(table, unknown="add", client=client)
    writes = stamp([sink.row({"id": 1}), sink.row({"id": 2, "colour": "red"})])

    refusals = sink.write(writes, deadline=soon(2))

    assert kinds(refusals, writes) == [(1, "unavailable")]
    assert asked(proxy).count("PATCH table") == 1
    assert [row["id"] for row in rows_in(bigquery_client, table)] == [1]
    proxy.always = Request.forward
    assert sink.write(stamp([sink.row({"id": 1}), sink.row({"id": 2, "colour": "red"})]), deadline=soon()) == []
    assert rows_in(bigquery_client, table) == [{"id": 1, "colour": None}, {"id": 2, "colour": "red"}]


def test_a_field_within_a_record_is_added_within_it(
    bigquery_client: Any, proxy: AwsProxy, client: Any, name: str
) -> None:
    record = bigquery.SchemaField("item", "RECORD", fields=[bigquery.SchemaField("sku", "STRING", description="Ours.")])
    bigquery_client.create_table(
        bigquery.Table(f"{bigquery_client.project}.{name}", schema=[bigquery.SchemaField("id", "INTEGER"), record])
    )
    # The server takes what it does not know within a RECORD; BigQuery does not.
    proxy.script += [no_such_field("item")]
    sink = BigQuerySink(name, unknown="add", client=client)

    assert sink.write(stamp([sink.row({"id": 1, "item": {"sku": "a", "price": 1.5}})]), deadline=soon()) == []

    (patched,) = (request.json for request in proxy.requests if request.method == "PATCH")
    assert [field["name"] for field in patched["schema"]["fields"]] == ["id", "item"]
    sku, price = patched["schema"]["fields"][1]["fields"]
    assert (sku["name"], sku["description"]) == ("sku", "Ours.")
    assert price == {"name": "price", "type": "FLOAT", "mode": "NULLABLE"}


# Two at once


def in_threads(function: Any, count: int) -> None:
    threads = [threading.Thread(target=function, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_two_functions_that_add_columns_at_once_lose_neither_a_column_nor_a_row(
    bigquery_client: Any, proxy: AwsProxy, table: str
) -> None:
    both, forward = threading.Barrier(2), one_at_a_time()
    first: set[str] = set()

    def together(request: Request) -> Answer | None:
        # Both have read the table before either changes it.
        key = json.dumps(request.json["schema"]["fields"][-1]["name"]) if request.method == "PATCH" else ""
        if key and key not in first:
            first.add(key)
            both.wait(20)
        return forward(request)

    proxy.always = together
    refused: list[list[Refusal]] = []

    def function(n: int) -> None:
        client = client_of(proxy.endpoint, bigquery_client.project)
        sink = BigQuerySink(table, unknown="add", client=client)
        made = [sink.row({"id": n * 100 + m, f"of_{n}": m}) for m in range(50)]
        refused.append(sink.write(stamp(made, event=f"of-{n}"), deadline=soon()))
        client.close()

    in_threads(function, 2)

    assert refused == [[], []]
    assert sorted(status or 0 for status in statuses(proxy, "PATCH")) == [200, 200, 412]
    assert sorted(field.name for field in bigquery_client.get_table(table).schema) == ["id", "of_0", "of_1"]
    landed = rows_in(bigquery_client, table)
    assert [row["id"] for row in landed] == [*range(50), *range(100, 150)]
    assert all(row[f"of_{row['id'] // 100}"] == row["id"] % 100 for row in landed)


def test_six_functions_that_add_a_column_each_to_a_slow_table_lose_nothing(
    bigquery_client: Any, proxy: AwsProxy, table: str
) -> None:
    forward = one_at_a_time()

    def slow_to_change(request: Request) -> Answer | None:
        if "/insertAll" not in request.path:
            time.sleep(0.1)
        return forward(request)

    proxy.always = slow_to_change
    refused: list[list[Refusal]] = []

    def function(n: int) -> None:
        client = client_of(proxy.endpoint, bigquery_client.project)
        sink = BigQuerySink(table, unknown="add", client=client)
        made = [sink.row({"id": n * 100 + m, f"of_{n}": m, "of_all": "a"}) for m in range(20)]
        refused.append(sink.write(stamp(made, event=f"of-{n}"), deadline=soon(60)))
        client.close()

    in_threads(function, 6)

    assert refused == [[]] * 6
    assert sorted(field.name for field in bigquery_client.get_table(table).schema) == [
        "id",
        "of_0",
        "of_1",
        "of_2",
        "of_3",
        "of_4",
        "of_5",
        "of_all",
    ]
    landed = rows_in(bigquery_client, table)
    assert [row["id"] for row in landed] == [n * 100 + m for n in range(6) for m in range(20)]
    assert all(row[f"of_{row['id'] // 100}"] == row["id"] % 100 for row in landed)


FAULTS = {
    "a role that may not read it": ("GET", refuse(403, "accessDenied", "secret"), "the permission bigquery.tables.get"),
    "a role that may not change it": ("PATCH", refuse(403, "accessDenied", "secret"), "bigquery.tables.update"),
    "a change that it does not take": ("PATCH", refuse(400, "invalid", "secret"), "wrong with the schema"),
    "others who never stop": ("PATCH", refuse(412, "conditionNotMet", "secret"), "others add columns"),
    "a limit of changes": ("PATCH", refuse(403, "rateLimitExceeded", "secret"), "403 rateLimitExceeded"),
}


@pytest.mark.parametrize(("method", "fault", "text"), FAULTS.values(), ids=FAULTS)
def test_a_column_that_cant_be_added_leaves_rows_in_the_stream(
    method: str, fault: Act, text: str, bigquery_client: Any, proxy: AwsProxy, client: Any, table: str
) -> None:
    def act(request: Request) -> Answer | None:
        return fault(request) if request.method == method else request.forward()

    proxy.always = act
    sink = BigQuerySink(table, unknown="add", client=client)
    writes = stamp([sink.row({"id": 1}), sink.row({"id": 2, "colour": "red"})])

    refusals = sink.write(writes, deadline=soon(5))

    assert kinds(refusals, writes) == [(1, "unavailable")]
    assert text in str(refusals[0].error)
    assert "secret" not in str(refusals[0].error)
    assert [row["id"] for row in rows_in(bigquery_client, table)] == [1]


@pytest.mark.parametrize("fault", [refuse(503, "backendError"), lose_the_answer], ids=["503", "lost"])
@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_a_fault_while_a_column_is_added_passes(
    method: str, fault: Act, bigquery_client: Any, proxy: AwsProxy, client: Any, table: str
) -> None:
    faults = [fault]

    def once(request: Request) -> Answer | None:
        return faults.pop()(request) if faults and request.method == method else request.forward()

    proxy.always = once
    sink = BigQuerySink(table, unknown="add", client=client)

    assert sink.write(stamp([sink.row({"id": 1}), sink.row({"id": 2, "colour": "red"})]), deadline=soon()) == []

    assert statuses(proxy, method)[0] != 200
    assert rows_in(bigquery_client, table) == [{"id": 1, "colour": None}, {"id": 2, "colour": "red"}]


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_an_answer_about_the_table_that_trickles_is_not_read_beyond_the_deadline(
    method: str, bigquery_client: Any, proxy: AwsProxy, client: Any, table: str
) -> None:
    proxy.always = lambda request: trickle(request) if request.method == method else request.forward()
    sink = BigQuerySink(table, unknown="add", client=client)
    writes = stamp([sink.row({"id": 1}), sink.row({"id": 2, "colour": "red"})])

    began = time.monotonic()
    refusals = sink.write(writes, deadline=began + 1.5)

    assert time.monotonic() - began < 3
    assert kinds(refusals, writes) == [(1, "unavailable")]
    assert "Timeout" in str(refusals[0].error)
    proxy.always = Request.forward
    assert sink.write([refusal.write for refusal in refusals], deadline=soon()) == []
    assert rows_in(bigquery_client, table) == [{"id": 1, "colour": None}, {"id": 2, "colour": "red"}]


def test_the_answer_that_a_table_was_made_is_not_read_beyond_the_deadline(
    bigquery_client: Any, proxy: AwsProxy, client: Any, name: str
) -> None:
    proxy.always = lambda request: request.forward() if "/insertAll" in request.path else trickle(request)
    sink = BigQuerySink(name, schema=SCHEMA, create=TableOptions(), client=client)
    writes = stamp([sink.row({"id": 1})])

    began = time.monotonic()
    refusals = sink.write(writes, deadline=began + 1.5)

    assert time.monotonic() - began < 3
    assert kinds(refusals, writes) == [(0, "unavailable")]
    assert asked(proxy) == ["POST insertAll", "POST table"]
    proxy.always = Request.forward
    assert sink.write(writes, deadline=soon()) == []
    assert [row["id"] for row in rows_in(bigquery_client, name)] == [1]


# Settings


def test_a_schema_may_be_a_file_or_googles_own_objects(
    client: Any, bigquery_client: Any, dataset: str, tmp_path: Path
) -> None:
    file = tmp_path / "orders.json"
    file.write_text(json.dumps(SCHEMA))
    objects = [bigquery.SchemaField.from_api_repr(field) for field in SCHEMA]
    made = []
    for schema in (str(file), file, objects, {"fields": SCHEMA}):
        name = f"{dataset}.t_{uuid.uuid4().hex}"
        sink = BigQuerySink(name, schema=schema, create=TableOptions(), client=client)
        assert sink.write(stamp([sink.row({"id": 1})]), deadline=soon()) == []
        made.append([(f.name, f.field_type, f.mode, f.description) for f in bigquery_client.get_table(name).schema])

    assert made[0] == made[1] == made[2] == made[3]
    assert made[0][0] == ("id", "INTEGER", "REQUIRED", None)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"create": TableOptions()}, "give schema"),
        ({"create": True, "schema": SCHEMA}, "takes TableOptions"),
        ({"unknown": "guess"}, '"strict", "ignore" or "add"'),
        ({"schema": "absent.json"}, "can't be read"),
        ({"schema": []}, "a list of fields"),
        ({"schema": [{"type": "STRING"}]}, "a name and a type"),
        ({"schema": [{"name": "a", "type": "TEXT"}]}, "a: BigQuery has no type 'TEXT'"),
        ({"schema": [{"name": "a", "type": "STRING", "mode": "MANY"}]}, "NULLABLE, REQUIRED or REPEATED"),
        ({"schema": [{"name": "a", "type": "STRING"}, {"name": "A", "type": "STRING"}]}, "A: twice"),
        ({"schema": [{"name": "a", "type": "RECORD"}]}, "a RECORD has fields"),
        ({"schema": [{"name": "a", "type": "RECORD", "fields": [{"name": "b", "type": "?"}]}]}, r"a\.b: "),
        ({"schema": SCHEMA, "create": TableOptions(partition_field="on")}, "the column on"),
        ({"schema": SCHEMA, "create": TableOptions(partition_field="country")}, "no DATE"),
        ({"schema": SCHEMA, "create": TableOptions(partition_type="WEEK")}, "HOUR, DAY, MONTH or YEAR"),
        ({"schema": SCHEMA, "create": TableOptions(require_partition_filter=True)}, "no partition_field"),
        ({"schema": SCHEMA, "create": TableOptions(partition_type="DAY", partition_expiration_days=0)}, "days"),
        ({"schema": SCHEMA, "create": TableOptions(clustering=["colour"])}, "the column colour"),
        ({"schema": SCHEMA, "create": TableOptions(clustering="id")}, "up to four columns"),
    ],
)
def test_options_that_cant_be_are_an_error_where_the_sink_is_made(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        BigQuerySink("shop.orders", **options)
    with pytest.raises(ConfigurationError, match=text):
        BigQuerySink.from_env("ORDERS_TABLE", **options)

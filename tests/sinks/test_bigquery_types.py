"""Each of BigQuery's types, by the rules of docs/bigquery.md, on local-bigquery; and the columns that rows tell of."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any

import pytest

from streamkit.sinks.bigquery import BigQuerySink, TableOptions
from streamkit.sinks.bigquery_columns import columns_in, unified, unknown_fields, widened, without_unknown
from streamkit.sinks.bigquery_schema import Field, Misfit
from streamkit.testing.contracts import stamp

from .bigquery_tables import new_dataset, soon


def field(name: str, kind: str, mode: str = "NULLABLE", fields: list[Field] | None = None) -> Field:
    return {"name": name, "type": kind, "mode": mode, **({"fields": fields} if fields else {})}


def landed(
    bigquery_client: Any, dataset: str, schema: list[Field], rows: list[dict[str, Any]], **options: Any
) -> list[Any]:
    """The column ``x`` of the rows, as BigQuery gives it back; a refusal in place of a row that was refused."""
    name = f"{dataset}.t_{uuid.uuid4().hex}"
    sink = BigQuerySink(
        name, schema=[field("n", "INTEGER"), *schema], create=TableOptions(), client=bigquery_client, **options
    )
    writes = stamp(sink.row({"n": n, **row}) for n, row in enumerate(rows))
    refused = {writes.index(refusal.write): refusal for refusal in sink.write(writes, deadline=soon())}
    there = {row.n: row.x for row in bigquery_client.query_and_wait(f"SELECT n, x FROM {name}")}
    assert sorted([*refused, *there]) == list(range(len(rows))), "each row is in or refused"
    return [refused.get(n, there.get(n)) for n in range(len(rows))]


MADRID = timezone(timedelta(hours=2))
MOMENT = datetime(2026, 1, 31, 10, 0, 0, 1, tzinfo=UTC)
#: A type, what is given, and what is in the table.
TYPES: list[tuple[str, Any, Any]] = [
    ("STRING", "Gijón \x00 \U0001f6eb", "Gijón \x00 \U0001f6eb"),
    ("STRING", uuid.UUID(int=7), str(uuid.UUID(int=7))),
    ("INTEGER", 2**53 + 1, 2**53 + 1),
    ("INTEGER", -(2**63), -(2**63)),
    ("INTEGER", "9223372036854775807", 2**63 - 1),
    ("FLOAT", 0.1, 0.1),
    ("FLOAT", 7, 7.0),
    ("BOOLEAN", True, True),
    ("BYTES", b"\x00\xff", b"\x00\xff"),
    ("BYTES", "AP8=", b"\x00\xff"),
    ("NUMERIC", Decimal("12345678901234567.123456789"), Decimal("12345678901234567.123456789")),
    ("NUMERIC", "-0.000000001", Decimal("-0.000000001")),
    (
        "BIGNUMERIC",
        Decimal("12345678901234567890.123456789012345678"),
        Decimal("12345678901234567890.123456789012345678"),
    ),
    ("TIMESTAMP", MOMENT, MOMENT),
    ("TIMESTAMP", MOMENT.astimezone(MADRID), MOMENT),
    ("TIMESTAMP", "2026-01-31T12:00:00.000001+02:00", MOMENT),
    ("DATETIME", datetime(2026, 1, 31, 12, 0, 0, 1), datetime(2026, 1, 31, 12, 0, 0, 1)),
    ("DATE", date(2024, 2, 29), date(2024, 2, 29)),
    ("DATE", "2024-02-29", date(2024, 2, 29)),
    ("TIME", time_of_day(23, 59, 59, 999999), time_of_day(23, 59, 59, 999999)),
    ("JSON", {"a": [1, None, {"b": "ü"}]}, {"a": [1, None, {"b": "ü"}]}),
    ("JSON", [1, "a"], [1, "a"]),
    ("JSON", '{"a": 1}', {"a": 1}),
    ("GEOGRAPHY", "POINT(-5.66 43.53)", "POINT(-5.66 43.53)"),
    *[(kind, None, None) for kind in ("STRING", "INTEGER", "NUMERIC", "TIMESTAMP", "BYTES", "JSON", "DATE")],
]


@pytest.fixture(scope="module")
def landed_of_types(bigquery_client: Any) -> list[Any]:
    """What became of each of ``TYPES``, in one table with a column for each: to make a table takes longer than all the rest."""
    schema = [field(f"x{n}", kind) for n, (kind, _, _) in enumerate(TYPES)]
    with new_dataset(bigquery_client) as dataset:
        name = f"{dataset}.types"
        sink = BigQuerySink(
            name, schema=[field("n", "INTEGER"), *schema], create=TableOptions(), client=bigquery_client
        )
        writes = stamp(sink.row({"n": n, f"x{n}": given}) for n, (_, given, _) in enumerate(TYPES))
        refused = {writes.index(refusal.write): refusal for refusal in sink.write(writes, deadline=soon())}
        there = {row.n: row[f"x{row.n}"] for row in bigquery_client.query_and_wait(f"SELECT * FROM {name}")}
    assert sorted([*refused, *there]) == list(range(len(TYPES))), "each row is in or refused"
    return [refused.get(n, there.get(n)) for n in range(len(TYPES))]


@pytest.mark.parametrize("place", range(len(TYPES)), ids=[f"{kind} {type(given).__name__}" for kind, given, _ in TYPES])
def test_a_value_is_in_the_table_as_it_was_given(landed_of_types: list[Any], place: int) -> None:
    assert landed_of_types[place] == TYPES[place][2]


def test_records_and_arrays_are_in_the_table_as_they_were_given(bigquery_client: Any, dataset: str) -> None:
    item = [field("sku", "STRING"), field("price", "NUMERIC"), field("sizes", "INTEGER", "REPEATED")]
    given = {"sku": "a", "price": Decimal("1.50"), "sizes": [1, 2**60]}

    assert landed(bigquery_client, dataset, [field("x", "RECORD", fields=item)], [{"x": given}]) == [given]
    assert landed(bigquery_client, dataset, [field("x", "RECORD", "REPEATED", item)], [{"x": [given, given]}, {}]) == [
        [given, given],
        [],
    ]
    assert landed(bigquery_client, dataset, [field("x", "STRING", "REPEATED")], [{"x": ["a"]}, {"x": []}]) == [
        ["a"],
        [],
    ]


def test_null_for_an_array_is_left_out_where_the_schema_is_given(bigquery_client: Any, dataset: str) -> None:
    assert landed(bigquery_client, dataset, [field("x", "STRING", "REPEATED")], [{"x": None}, {"X": None}]) == [[], []]


@pytest.mark.parametrize("unknown", ["strict", "ignore", "add"])
def test_what_is_no_array_is_invalid_for_a_repeated_field_where_the_schema_is_given(
    bigquery_client: Any, dataset: str, unknown: str
) -> None:
    schema = [field("x", "STRING", "REPEATED")]

    first, second, third = landed(
        bigquery_client, dataset, schema, [{"x": "secret"}, {"x": ["a"]}, {"x": {}}], unknown=unknown
    )

    assert (first.kind, str(first.error)) == ("invalid", "x: an array is what a REPEATED field takes")
    assert (second, third.kind) == (["a"], "invalid")


def test_what_is_no_array_within_a_record_is_named_by_its_path(bigquery_client: Any, dataset: str) -> None:
    inner = [field("y", "RECORD", "REPEATED", [field("z", "INTEGER", "REPEATED")])]

    refusal, fits = landed(
        bigquery_client, dataset, [field("x", "RECORD", fields=inner)], [{"x": {"y": [{"z": 1}]}}, {}]
    )

    assert fits is None
    assert str(refusal.error) == "x.y.z: an array is what a REPEATED field takes"


def test_json_within_records_and_arrays_is_text_too(bigquery_client: Any, dataset: str) -> None:
    inner = [field("j", "JSON")]

    assert landed(bigquery_client, dataset, [field("x", "RECORD", fields=inner)], [{"x": {"j": {"a": 1}}}]) == [
        {"j": '{"a":1}'}
    ]


def test_the_columns_of_python_values_are_of_their_types(bigquery_client: Any, dataset: str) -> None:
    name = f"{dataset}.t_{uuid.uuid4().hex}"
    sink = BigQuerySink(
        name, schema=[field("n", "INTEGER")], create=TableOptions(), unknown="add", client=bigquery_client
    )
    row = {
        "n": 1,
        "moment": MOMENT,
        "local": datetime(2026, 1, 31, 12),
        "day": date(2026, 1, 31),
        "hour": time_of_day(12),
        "price": Decimal("1.50"),
        "raw": b"\x00",
        "whole": 2**62,
        "part": 1.5,
    }

    assert sink.write(stamp([sink.row(row)]), deadline=soon()) == []

    assert [f.field_type for f in bigquery_client.get_table(name).schema] == [
        *("INTEGER", "TIMESTAMP", "DATETIME", "DATE", "TIME", "NUMERIC", "BYTES", "INTEGER", "FLOAT"),
    ]
    assert [dict(one) for one in bigquery_client.query_and_wait(f"SELECT * FROM {name}")] == [row]


# The columns that rows tell of, without a server


def told(value: Any) -> Field | None:
    return next(iter(unknown_fields({"x": value}, [])), None)


@pytest.mark.parametrize(
    ("value", "kind", "mode"),
    [
        ("a", "STRING", "NULLABLE"),
        (1, "INTEGER", "NULLABLE"),
        (2**63 - 1, "INTEGER", "NULLABLE"),
        (2**63, "NUMERIC", "NULLABLE"),
        (-(2**63), "INTEGER", "NULLABLE"),
        (1.0, "FLOAT", "NULLABLE"),
        (True, "BOOLEAN", "NULLABLE"),
        ([1, None, 2.5], "FLOAT", "REPEATED"),
        ([1, Decimal(1)], "NUMERIC", "REPEATED"),
        ([None, "a"], "STRING", "REPEATED"),
        ([{"a": 1}, {}], "RECORD", "REPEATED"),
        ({"a": {"b": [1]}}, "RECORD", "NULLABLE"),
    ],
)
def test_a_value_tells_of_its_column(value: Any, kind: str, mode: str) -> None:
    column = told(value)
    assert column is not None
    assert (column["type"], column["mode"]) == (kind, mode)


@pytest.mark.parametrize("value", [None, [], {}, [None], [[]], [{}], {"a": None}, {"a": [{"b": None}]}], ids=str)
def test_what_tells_nothing_makes_no_column(value: Any) -> None:
    assert told(value) is None


@pytest.mark.parametrize("value", [[[1]], [1, "a"], [{"a": 1}, 1], [True, 1], [{"a": [[1]]}]], ids=str)
def test_what_can_be_in_no_column_is_a_misfit(value: Any) -> None:
    with pytest.raises(Misfit, match="array"):
        told(value)


@pytest.mark.parametrize("name", ["", "a b", "ñ", "1a", "a.b", "_TABLE_x", "_partitiondate", "x" * 301])
def test_a_name_that_bigquery_takes_for_no_column_is_a_misfit(name: str) -> None:
    with pytest.raises(Misfit, match="name"):
        unknown_fields({name: 1}, [])
    with pytest.raises(Misfit, match="name"):
        unknown_fields({"x": {name: 1}}, [])


def test_records_are_in_one_another_no_deeper_than_bigquery_takes() -> None:
    value: Any = 1
    for _ in range(15):
        value = {"a": value}
    assert told(value) is not None
    with pytest.raises(Misfit, match="15"):
        told({"a": value})


def test_names_are_the_same_in_upper_and_lower_case() -> None:
    known = [field("Id", "INTEGER"), field("Item", "RECORD", fields=[field("Sku", "STRING")])]

    assert unknown_fields({"ID": 1, "item": {"SKU": "a"}}, known) == []
    assert without_unknown({"ID": 1, "x": 2, "item": {"SKU": "a", "y": 1}}, known) == {"ID": 1, "item": {"SKU": "a"}}
    assert unified([], [field("a", "STRING"), field("A", "STRING")]) == [field("a", "STRING")]


def test_several_rows_of_numbers_make_a_column_for_all_of_them() -> None:
    rows: list[dict[str, Any]] = [{"x": 1}, {"x": 2.5}, {"x": 3}]
    columns: list[Field] = []
    for row in rows:
        columns = unified(columns, unknown_fields(row, []))

    assert columns == [field("x", "FLOAT")]


def test_a_columns_type_in_the_table_stays_as_it_is() -> None:
    table = [field("x", "INTEGER"), field("r", "RECORD", fields=[field("a", "INTEGER")])]

    wider = widened(
        table, [field("x", "FLOAT"), field("r", "RECORD", fields=[field("a", "STRING"), field("b", "STRING")])]
    )

    assert wider == [table[0], field("r", "RECORD", fields=[field("a", "INTEGER"), field("b", "STRING")])]
    assert table[1]["fields"] == [field("a", "INTEGER")], "what was read is not changed"
    assert columns_in(wider) == 4


def test_a_record_is_as_the_schema_has_it_and_gets_what_the_row_has_beside_it() -> None:
    given = [field("r", "RECORD", "REQUIRED", [field("a", "NUMERIC")])]

    (column,) = unknown_fields({"r": {"a": 1, "b": "x"}}, [], given)

    assert column == field("r", "RECORD", fields=[field("a", "NUMERIC"), field("b", "STRING")])


def test_nan_in_what_is_for_a_json_column_is_an_error_where_the_row_is_made() -> None:
    sink = BigQuerySink("shop.orders", schema=[{"name": "j", "type": "JSON"}])

    with pytest.raises(ValueError, match="it holds the number nan"):
        sink.row({"j": {"x": float("nan")}})

"""Rows in a table's format: every type by its rule, on BigQuery's own client classes."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.bigquery import SchemaField

from streamkit.sinks import bigquery_proto
from streamkit.sinks.bigquery_proto import NoSuchColumn, RowFormat


def message_of(form: RowFormat, row: dict[str, Any]) -> Any:
    return form._message.FromString(form.encode(row))


VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**63,
        2**70,
        0.5,
        1e300,
        "",
        "text",
        "7",
        "0.10",
        "NaN",
        "true",
        "AP8=",
        "AP8",
        "2026-01-31",
    ),
    *("2026-01-31T12:00:00Z", "2026-02-30", "12:00:00", [], [1], ["a"], [None], [[1]], [{}], {}, {"n": 1}, {"n": "x"}),
    *({"other": 1}, {"N": 2, "n": 1}, {"N": None, "n": 1}, {"n": None, "N": 1}, [{"n": 1}, {"n": None}]),
]
KINDS = ["STRING", "JSON", "INTEGER", "FLOAT", "NUMERIC", "BOOLEAN", "BYTES", "TIMESTAMP", "DATE", "RANGE"]


@pytest.mark.parametrize("ignore_unknown", [False, True])
@pytest.mark.parametrize("mode", ["NULLABLE", "REQUIRED", "REPEATED"])
@pytest.mark.parametrize("kind", [*KINDS, "RECORD"])
def test_the_quick_way_makes_what_the_slow_way_makes_or_leaves_it_to_that(
    kind: str, mode: str, ignore_unknown: bool
) -> None:
    fields = [SchemaField("n", "INTEGER")] if kind == "RECORD" else ()
    form = RowFormat([SchemaField("self", kind, mode=mode, fields=fields), SchemaField("class", "STRING")])
    quick = form._quick_ignoring if ignore_unknown else form._quick
    taken = 0
    for value in VALUES:
        for row in ({"self": value}, {"SELF": value, "class": "x"}, {"self": value, "Self": value}, {"unknown": value}):
            try:
                made = form._message(**quick(row))
            except Exception:
                continue
            slow = form._message()
            bigquery_proto._fill(slow, form._columns, row, "", ignore_unknown)
            assert made == slow
            assert made.SerializeToString(deterministic=True) == slow.SerializeToString(deterministic=True)
            taken += 1
    assert taken > 0 or kind == "RANGE"


def one(kind: str, value: Any, mode: str = "NULLABLE") -> Any:
    return message_of(RowFormat([SchemaField("c", kind, mode=mode)]), {"c": value}).c


@pytest.mark.parametrize(
    ("kind", "value", "stored"),
    [
        ("STRING", "ü", "ü"),
        ("JSON", '{"a": 1}', '{"a": 1}'),
        ("GEOGRAPHY", "POINT(1 2)", "POINT(1 2)"),
        ("INTEGER", 9_007_199_254_740_993, 9_007_199_254_740_993),
        ("INTEGER", "-9223372036854775808", -(2**63)),
        ("FLOAT", 1, 1.0),
        ("FLOAT", "Infinity", float("inf")),
        ("NUMERIC", "0.10", "0.10"),
        ("NUMERIC", 1e-7, "0.0000001"),
        ("BIGNUMERIC", 10**30, "1" + "0" * 30),
        ("BOOLEAN", True, True),
        ("BYTES", "AP8=", b"\x00\xff"),
        ("TIMESTAMP", "1970-01-01T00:00:01.000001Z", 1_000_001),
        ("TIMESTAMP", "1970-01-01T02:00:00+02:00", 0),
        ("TIMESTAMP", "1969-12-31 23:59:59 UTC", -1_000_000),
        ("TIMESTAMP", "1970-01-01", 0),
        ("TIMESTAMP", 1_767_225_600.123457, 1_767_225_600_123_457),
        ("TIMESTAMP", 1, 1_000_000),
        ("DATE", "1969-12-31", -1),
        ("DATETIME", "2026-01-31T12:00:00.5", "2026-01-31T12:00:00.5"),
        ("TIME", "12:00:00", "12:00:00"),
    ],
)
def test_a_value_is_stored_by_the_rule_of_its_type(kind: str, value: Any, stored: Any) -> None:
    assert one(kind, value) == stored


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        ("STRING", 7, "text"),
        ("INTEGER", True, "integer"),
        ("INTEGER", 1.5, "integer"),
        ("INTEGER", 2**63, "integer of 64 bits"),
        ("INTEGER", "many", "integer"),
        ("FLOAT", "much", "number"),
        ("NUMERIC", "NaN", "decimal"),
        ("NUMERIC", "x", "decimal"),
        ("BOOLEAN", "true", "true or false"),
        ("BYTES", "not base64!", "base64"),
        ("TIMESTAMP", "yesterday", "a time as"),
        ("TIMESTAMP", True, "a time as"),
        ("TIMESTAMP", 1e300, "a time as"),
        ("DATE", "2026-02-30", "a date as"),
        ("RANGE", "[a, b)", "RANGE is not supported"),
        ("RECORD", "text", "an object"),
    ],
)
def test_a_value_that_does_not_fit_is_told_by_its_column_and_never_quoted(kind: str, value: Any, wanted: str) -> None:
    with pytest.raises(ValueError, match=wanted) as caught:
        one(kind, value)

    assert str(caught.value).startswith("c: ")
    assert str(value) not in str(caught.value).removeprefix("c: ").replace("true or false", "")


def test_records_and_arrays_are_nested_to_any_depth() -> None:
    inner = SchemaField("inner", "RECORD", mode="REPEATED", fields=[SchemaField("n", "INTEGER", mode="REPEATED")])
    form = RowFormat([SchemaField("outer", "RECORD", fields=[inner, SchemaField("s", "STRING")])])

    message = message_of(form, {"outer": {"inner": [{"n": [1, 2]}, {}], "s": None}})

    assert [list(each.n) for each in message.outer.inner] == [[1, 2], []]
    assert not message.outer.HasField("s")
    assert message_of(form, {"outer": {}}).HasField("outer")
    assert not message_of(form, {}).HasField("outer")
    with pytest.raises(ValueError, match=r"outer\.inner\.n: an integer"):
        form.encode({"outer": {"inner": [{"n": ["x"]}]}})


def test_an_array_takes_no_null_and_nothing_else_is_one() -> None:
    form = RowFormat([SchemaField("c", "INTEGER", mode="REPEATED")])

    assert list(message_of(form, {"c": []}).c) == list(message_of(form, {"c": None}).c) == []
    with pytest.raises(ValueError, match="c: an array"):
        form.encode({"c": 1})
    with pytest.raises(ValueError, match="c: an integer"):
        form.encode({"c": [None]})


def test_columns_are_found_whatever_their_case_and_only_once() -> None:
    form = RowFormat([SchemaField("Total", "INTEGER")])

    assert message_of(form, {"tOTAL": 7}).Total == 7
    with pytest.raises(ValueError, match="twice"):
        form.encode({"total": 1, "TOTAL": 2})


def test_a_required_column_has_to_be_there() -> None:
    form = RowFormat([SchemaField("id", "STRING", mode="REQUIRED")])

    for row in ({}, {"id": None}):
        with pytest.raises(ValueError, match="id: required"):
            form.encode(row)


def test_a_column_that_the_table_lacks_is_told_apart() -> None:
    with pytest.raises(NoSuchColumn, match="other: no such column"):
        RowFormat([SchemaField("id", "STRING")]).encode({"other": 1})


def test_a_column_whose_name_can_not_be_had_costs_only_the_rows_that_have_it() -> None:
    form = RowFormat([SchemaField("id", "STRING"), SchemaField("a b", "STRING")])

    assert message_of(form, {"id": "x", "a b": None}).id == "x"
    with pytest.raises(ValueError, match="a b: a name"):
        form.encode({"a b": "x"})


def test_what_the_table_lacks_can_be_left_out_at_any_depth() -> None:
    nested = SchemaField("nested", "RECORD", mode="REPEATED", fields=[SchemaField("n", "INTEGER")])
    form = RowFormat([SchemaField("id", "STRING"), nested])

    data = form.encode({"id": "1", "x": 1, "nested": [{"n": 1, "y": 2}, {"z": 3}]}, ignore_unknown=True)

    message = form._message.FromString(data)
    assert (message.id, [each.HasField("n") for each in message.nested]) == ("1", [True, False])


def test_a_row_may_lack_a_required_column_with_a_default_where_that_is_told() -> None:
    schema = [SchemaField("id", "STRING"), SchemaField("at", "STRING", mode="REQUIRED", default_value_expression="'x'")]

    assert RowFormat(schema, has_defaults=True).encode({"id": "1"})
    with pytest.raises(ValueError, match="at: required"):
        RowFormat(schema).encode({"id": "1"})


def test_rows_are_read_by_a_format_of_their_own_columns_as_by_the_whole() -> None:
    form = RowFormat([SchemaField("a", "STRING"), SchemaField("b", "STRING"), SchemaField("c", "INTEGER", "REQUIRED")])

    narrow = form.descriptor_of([{"B": "x", "c": 7}])

    assert [(field.name, field.number) for field in narrow.field] == [("b", 2), ("c", 3)]


def test_a_row_that_no_request_can_hold_does_not_fit() -> None:
    with pytest.raises(ValueError, match="BigQuery takes 10,000,000 in a request"):
        RowFormat([SchemaField("id", "STRING")]).encode({"id": "x" * 9_000_000})


@pytest.mark.parametrize("text", ["1e999999999999999999", "1e200000000", "-1e-200000000"])
def test_a_few_characters_do_not_become_millions_of_digits(text: str) -> None:
    form = RowFormat([SchemaField("n", "NUMERIC")])

    with pytest.raises(ValueError, match="n: a decimal number is what it takes"):
        form.encode({"n": text})
    assert message_of(form, {"n": "0e5"}).n == "0"


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        *(("TIMESTAMP", "1712121512030"), ("TIMESTAMP", "2026-W05-1"), ("DATE", "2026-W05-1"), ("DATE", "20260131")),
        *(("INTEGER", "1_000"), ("NUMERIC", "1_000"), ("FLOAT", "1_000.5")),
    ],
)
def test_what_python_alone_reads_is_refused_and_not_taken_for_something_else(kind: str, text: str) -> None:
    with pytest.raises(ValueError, match="is what it takes"):
        RowFormat([SchemaField("v", kind)]).encode({"v": text})


def test_columns_may_differ_in_an_underscore_alone() -> None:
    form = RowFormat([SchemaField("order_id", "STRING"), SchemaField("orderId", "STRING")])

    made = message_of(form, {"order_id": "a", "orderId": "b"})

    assert (made.order_id, made.orderId) == ("a", "b")

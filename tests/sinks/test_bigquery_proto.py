"""Rows in a table's format: every type by its rule, on BigQuery's own client classes."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.bigquery import SchemaField

from streamkit.sinks.bigquery_proto import NoSuchColumn, RowFormat


def message_of(form: RowFormat, row: dict[str, Any]) -> Any:
    return form._message.FromString(form.encode(row))


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

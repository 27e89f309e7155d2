"""Filter criteria, row by row of the table in AWS's guide, and what Lambda would not take."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from streamkit.errors import ConfigurationError
from streamkit.kpl import UserRecord, aggregate
from streamkit.local.filters import Filters

BUYS = {"data": {"order": {"type": ["buy"]}}}
A_BUY, A_SALE = b'{"order": {"type": "buy"}}', b'{"order": {"type": "sell"}}'


@pytest.mark.parametrize(
    "criteria",
    [
        {"Filters": [{"Pattern": json.dumps(BUYS)}]},
        {"Filters": ({"Pattern": BUYS},)},
        [BUYS],
        (json.dumps(BUYS),),
    ],
)
def test_criteria_are_as_aws_has_them_or_a_list_of_patterns(criteria: Any) -> None:
    filters = Filters(criteria)

    assert filters.wants(A_BUY)
    assert not filters.wants(A_SALE)
    assert filters


@pytest.mark.parametrize("criteria", [None, {}, [], (), {"Filters": []}])
def test_without_a_filter_every_record_is_wanted(criteria: Any) -> None:
    filters = Filters(criteria)

    assert not filters
    assert filters.wants(b"\xff")


def test_one_filter_of_several_is_enough() -> None:
    filters = Filters([BUYS, {"data": {"urgent": [True]}}])

    assert filters.wants(A_BUY)
    assert filters.wants(b'{"urgent": true}')
    assert not filters.wants(A_SALE)


def test_or_holds_between_patterns_for_the_data() -> None:
    filters = Filters([{"$or": [BUYS, {"data": {"urgent": [True]}}]}])

    assert filters.wants(b'{"urgent": true}')
    assert not filters.wants(A_SALE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"buy",
        b"\xff\xfe",
        b'{"order": {"type": "buy"}',
        b'{"order": {"type": "buy"}, "total": NaN}',
        aggregate([UserRecord(A_BUY, "key")]),
        b'{"a":' * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
    ],
    ids=lambda data: repr(data[:20]),
)
def test_data_that_is_no_json_is_dropped_whatever_the_pattern(data: bytes) -> None:
    assert not Filters([BUYS]).wants(data)
    assert not Filters([{"data": {"order": [{"exists": False}]}}]).wants(data)


@pytest.mark.parametrize("data", [b"5", b'"buy"', b"null", b"[]", b"{}"])
def test_json_without_the_field_is_filtered_as_such(data: bytes) -> None:
    assert not Filters([BUYS]).wants(data)
    assert Filters([{"data": {"order": [{"exists": False}]}}]).wants(data)


def test_each_of_the_records_in_an_array_can_match() -> None:
    assert Filters([BUYS]).wants(b"[" + A_SALE + b"," + A_BUY + b"]")


@pytest.mark.parametrize(
    ("criteria", "message"),
    [
        ("{}", "filter_criteria is"),
        (5, "filter_criteria is"),
        (False, "filter_criteria is"),
        ("", "filter_criteria is"),
        ({"filters": []}, "filter_criteria is"),
        ({"Filters": {}}, "filter_criteria is"),
        ({"Filters": [{}]}, "filter_criteria is"),
        ({"Filters": [{"Pattern": "{}", "Name": "buys"}]}, "filter_criteria is"),
        ({"Filters": [BUYS]}, "filter_criteria is"),
        ([BUYS, "{"], "filter 2: the pattern is not JSON"),
        ([None], "filter 1: pattern: a pattern is an object"),
        ([{"data": {"a": [object()]}}], "filter 1: .*not JSON serializable"),
        ([{"data": {"a": [{"wildcard": "x*"}]}}], 'filter 1: pattern, data.a: "wildcard" is of EventBridge'),
        ([{"partitionKey": ["1"]}], 'filter 1: Kinesis has only the key "data" to filter by, not "partitionKey"'),
        ([BUYS | {"eventName": ["x"]}], 'only the key "data" to filter by, not "eventName"'),
        ([{"$or": [BUYS, {"partitionKey": ["1"]}]}], 'only the key "data"'),
        ([{"order": {"type": ["buy"]}}], r'not "order"; write \{"data": \{"field": \[rules\]\}\}'),
        ([{"data": ["buy"]}], 'filter 1: "data" with a list of rules is for plain texts'),
        ([BUYS] * 6, "has 6 filters; a mapping takes 5"),
        ([{"data": {"a": ["x" * 4096]}}], "its pattern has 4115 characters; Lambda takes 4096"),
    ],
)
def test_what_lambda_would_not_take_is_an_error_that_names_it(criteria: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Filters(criteria)


def test_the_limits_themselves_are_taken() -> None:
    longest = json.dumps({"data": {"a": ["x" * 4075]}})

    assert len(longest) == 4096
    assert Filters([longest] * 5)


def test_the_table_of_the_page_is_true() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "engine.md").read_text()
    rows = re.findall(r"^\|[^|]*\| `(\{.*\})` \| `(\{.*\})` \| `(\{.*\})` \|$", page, re.MULTILINE)

    assert len(rows) == 16
    for pattern, delivered, left_out in rows:
        filters = Filters([f'{{"data": {pattern}}}'])
        assert filters.wants(delivered.encode()), pattern
        assert not filters.wants(left_out.encode()), pattern

"""The columns that rows have and their table lacks, as fields that it can be widened by."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from .bigquery_schema import RECORDS, Field, Misfit

__all__ = ["MOST_COLUMNS", "columns_in", "unified", "unknown_fields", "widened", "without_unknown"]

#: Of BigQuery's quotas for tables, in which RECORDs and what is in them count too.
MOST_COLUMNS = 10_000
# How deep BigQuery lets RECORDs be in one another.
_MOST_DEPTH = 15
# BigQuery takes more in some places, and this in all.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,299}")
_RESERVED = ("_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER", "_CHANGE_")
# Of two kinds of number, the one that holds both.
_NUMBERS = ("INTEGER", "FLOAT", "NUMERIC")


def unknown_fields(row: Mapping[str, Any], known: Sequence[Field], given: Sequence[Field] = ()) -> list[Field]:
    """The fields that ``row`` has beyond those ``known``; one within a RECORD stands within a field of the RECORD's name.

    Each is as ``given`` has it, but never REQUIRED, for the table's older rows lack it; or else by what its value is:

        text → STRING, an integer → INTEGER (NUMERIC beyond 64 bits), another number → FLOAT, a bool → BOOLEAN, Decimal → NUMERIC,
        bytes → BYTES, a date → DATE, a time → TIME, a datetime → TIMESTAMP with an offset and DATETIME without,
        an object → RECORD, an array → REPEATED of what its items are

    What tells nothing (null, an empty object or array, an array of those) makes no field. Raises Misfit for what can be in no
    column: an array of arrays or of things of several types, RECORDs in more than 15 others, a name that BigQuery does not take.
    """
    return _unknown(row, known, given, 0)


def _unknown(row: Mapping[str, Any], known: Sequence[Field], given: Sequence[Field], depth: int) -> list[Field]:
    known_fields, given_fields = _by_name(known), _by_name(given)
    found: list[Field] = []
    for name, value in row.items():
        key = str(name).lower()
        field, wanted = known_fields.get(key), given_fields.get(key)
        if field is None and wanted is None:
            made = _made(str(name), value, depth)
            found += [made] if made else []
            continue
        if field is None and wanted is not None:
            field = wanted if wanted["mode"] != "REQUIRED" else {**wanted, "mode": "NULLABLE"}
            found.append(field)
        if field is not None and field["type"] in RECORDS:
            within: list[Field] = []
            for item in value if isinstance(value, list | tuple) else (value,):
                if isinstance(item, Mapping):
                    more = _unknown(item, field["fields"], wanted["fields"] if wanted else (), depth + 1)
                    within = unified(within, more)
            if within:
                found.append({**field, "fields": within})
    return unified((), found)


def _made(name: str, value: Any, depth: int) -> Field | None:
    """The field that ``value`` tells of, or None where it tells nothing."""
    told = _told(value, depth)
    if told is None:
        return None
    if not _NAME.fullmatch(name) or name.upper().startswith(_RESERVED):
        raise Misfit("a field of the row has a name that BigQuery takes for no column")
    return {"name": name, "mode": "NULLABLE", **told}


def _told(value: Any, depth: int) -> Field | None:
    if isinstance(value, Mapping):
        if depth == _MOST_DEPTH:
            raise Misfit(f"the row has objects in one another beyond the {_MOST_DEPTH} that BigQuery takes")
        fields = [made for made in (_made(str(name), item, depth + 1) for name, item in value.items()) if made]
        return {"type": "RECORD", "fields": unified((), fields)} if fields else None
    if isinstance(value, list | tuple):
        told: Field | None = None
        for item in value:
            one = _told(item, depth)
            if one is not None and one.get("mode") == "REPEATED":
                raise Misfit("the row has an array of arrays, which BigQuery has no column for")
            told = _both(told, one) if told and one else told or one
            if told is None and one is not None:
                raise Misfit("the row has an array of things of several types, which BigQuery has no column for")
        return {**told, "mode": "REPEATED"} if told else None
    kind = _kind(value)
    return {"type": kind} if kind else None


def _kind(value: Any) -> str:
    """The type of a scalar; empty for null."""
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, int):
        return "INTEGER" if -(2**63) <= value < 2**63 else "NUMERIC"
    if isinstance(value, datetime):
        return "TIMESTAMP" if value.tzinfo else "DATETIME"
    for of, kind in _KINDS:
        if isinstance(value, of):
            return kind
    return "" if value is None else "STRING"


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (float, "FLOAT"),
    (Decimal, "NUMERIC"),
    ((bytes, bytearray, memoryview), "BYTES"),
    (date, "DATE"),
    (time, "TIME"),
)


def _both(one: Field, other: Field) -> Field | None:
    """A field for both, of two that no table has yet; None where nothing is."""
    kinds = one["type"], other["type"]
    if one.get("mode", "NULLABLE") != other.get("mode", "NULLABLE"):
        return None
    if kinds[0] == kinds[1] == "RECORD":
        return {**one, "fields": unified(one["fields"], other["fields"])}
    if kinds[0] in _NUMBERS and kinds[1] in _NUMBERS:
        return {**one, "type": max(kinds, key=_NUMBERS.index)}
    return one if kinds[0] == kinds[1] else None


def unified(fields: Sequence[Field], more: Iterable[Field]) -> list[Field]:
    """The fields of both, of which no table has any yet: INTEGER and FLOAT make a FLOAT. Of two that contradict, the first."""
    return _merged(fields, more, lambda one, other: _both(one, other) or one)


def widened(fields: Sequence[Field], more: Iterable[Field]) -> list[Field]:
    """A table's ``fields``, as they are, with those of ``more`` that they lack at their end, and so within RECORDs."""
    return _merged(fields, more, _widened)


def _widened(one: Field, other: Field) -> Field:
    if one["type"] in RECORDS and other["type"] in RECORDS:
        return {**one, "fields": widened(one.get("fields") or (), other["fields"])}
    return one


def _merged(fields: Sequence[Field], more: Iterable[Field], both: Callable[[Field, Field], Field]) -> list[Field]:
    """The ``fields``, and behind them those of ``more`` that they lack; ``both`` makes one of two with the same name."""
    merged = list(fields)
    places = {field["name"].lower(): n for n, field in enumerate(merged)}
    for field in more:
        place = places.setdefault(field["name"].lower(), len(merged))
        if place == len(merged):
            merged.append(field)
        else:
            merged[place] = both(merged[place], field)
    return merged


def columns_in(fields: Iterable[Field]) -> int:
    """How many columns BigQuery counts: those of RECORDs, too."""
    return sum(1 + columns_in(field.get("fields") or ()) for field in fields)


def without_unknown(row: Mapping[str, Any], known: Sequence[Field]) -> dict[str, Any]:
    """The row without the fields that are not ``known``, for a row in which they tell nothing."""
    fields = _by_name(known)
    kept: dict[str, Any] = {}
    for name, value in row.items():
        field = fields.get(str(name).lower())
        if field is not None:
            kept[name] = _within(value, field["fields"]) if field["type"] in RECORDS else value
    return kept


def _within(value: Any, fields: Sequence[Field]) -> Any:
    if isinstance(value, Mapping):
        return without_unknown(value, fields)
    return [_within(item, fields) for item in value] if isinstance(value, list | tuple) else value


def _by_name(fields: Sequence[Field]) -> dict[str, Field]:
    return {field["name"].lower(): field for field in fields}

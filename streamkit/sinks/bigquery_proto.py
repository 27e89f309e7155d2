"""Rows as protocol buffers, by the schema of their table: what the Storage Write API takes.

A value of the row, in the forms that ``BigQuerySink.row`` makes, by the type of its column:

| column | value |
|---|---|
| STRING, JSON, GEOGRAPHY, INTERVAL | text |
| INTEGER | an integer of 64 bits, or its decimal text |
| FLOAT | a number, or its text: "NaN" and "Infinity" too |
| NUMERIC, BIGNUMERIC | a number, or its decimal text |
| BOOLEAN | true or false |
| BYTES | base64 |
| TIMESTAMP | ISO 8601, of UTC where it has no offset; or seconds since 1970. To the microsecond |
| DATE | ``2026-01-31`` |
| DATETIME, TIME | ISO 8601, without an offset |
| RECORD | an object |
| of mode REPEATED | an array of those, without nulls |

null is as good as left out. Columns of another type (RANGE, ...) and columns with names that protocol buffers can't have can't be
written: a row that has them is refused, as is one with a column that the table lacks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import pybase64

__all__ = ["NoSuchColumn", "RowFormat"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BEGINS_WITH_A_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?![0-9])").match
_MOST_DIGITS = 400
_MICROSECOND = timedelta(microseconds=1)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Of google.protobuf.FieldDescriptorProto.
_DOUBLE, _INT64, _INT32, _BOOL, _STRING, _MESSAGE, _BYTES = 1, 3, 5, 8, 9, 11, 12
_OPTIONAL, _REQUIRED, _REPEATED = 1, 2, 3
# With what is around it, a full request of its own (``bigquery_streams``).
_MOST_BYTES = 8_999_992


class NoSuchColumn(ValueError):
    """The row has a column that the schema lacks. The table may have got it since the schema was read."""


class RowFormat:
    """The format of one table's rows. ``schema`` is a sequence of ``google.cloud.bigquery.SchemaField``.

    With ``has_defaults``, a row may lack a REQUIRED column that the table has a default for.
    """

    def __init__(self, schema: Sequence[Any], *, has_defaults: bool = False) -> None:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

        self._columns = _columns(schema, has_defaults)
        #: What goes with the rows into a request: a ``DescriptorProto`` that holds all that it refers to.
        self.descriptor = _describe(descriptor_pb2, "Row", self._columns)
        file = descriptor_pb2.FileDescriptorProto(name="streamkit/row.proto", package="streamkit", syntax="proto2")
        file.message_type.add().CopyFrom(self.descriptor)
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self._message = message_factory.GetMessageClass(pool.FindMessageTypeByName("streamkit.Row"))
        self._quick = _Quick(self._columns, ignore_unknown=False)
        self._quick_ignoring = _Quick(self._columns, ignore_unknown=True)

    def encode(self, row: Mapping[str, Any], *, ignore_unknown: bool = False) -> bytes:
        """The row's bytes, where that is told without the columns that the schema lacks.

        ValueError where it does not fit, or no request could hold it; it names the column and quotes nothing of the row.
        """
        try:
            message = self._message(**(self._quick_ignoring if ignore_unknown else self._quick)(row))
        except Exception:  # noqa: BLE001  # The other way knows why, and what to make of it.
            message = self._message()
            _fill(message, self._columns, row, "", ignore_unknown)
        encoded: bytes = message.SerializeToString()
        if len(encoded) > _MOST_BYTES:
            raise ValueError(f"the row has {len(encoded):,} bytes; BigQuery takes 10,000,000 in a request")
        return encoded

    def descriptor_of(self, rows: Iterable[Mapping[str, Any]]) -> Any:
        """``descriptor`` without the columns that none of these rows has. They are read by it as by the whole."""
        from google.protobuf import descriptor_pb2

        names = {name.lower() for row in rows for name, value in row.items() if value is not None}
        used = {name: column for name, column in self._columns.items() if name in names or column.is_required}
        return _describe(descriptor_pb2, "Row", used)


class _Column:
    """One column of a table or of a RECORD."""

    def __init__(self, field: Any, number: int, has_defaults: bool) -> None:
        self.name: str = field.name
        self.number = number
        self.is_required = field.mode == "REQUIRED" and not (has_defaults and field.default_value_expression)
        self.is_repeated = field.mode == "REPEATED"
        self.columns = _columns(field.fields, has_defaults) if field.field_type in ("RECORD", "STRUCT") else {}
        self.type, self.convert = _TYPES.get(field.field_type, (0, _unknown(field.field_type)))
        if not _NAME.fullmatch(self.name):
            self.type, self.convert = 0, _unknown("a name that protocol buffers can't have")


class _Quick:
    """Rows that fit, as what their message is made of at once: a fraction of the time that it takes to fill it in.

    It raises anything for a row that may not fit, or that it does not know: then ``_fill`` has the last word.
    """

    def __init__(self, columns: Mapping[str, _Column], *, ignore_unknown: bool) -> None:
        self._known = _Names(columns, ignore_unknown)
        self._required = [column.name for column in columns.values() if column.is_required]

    def __call__(self, row: Any) -> dict[str, Any]:
        if type(row) is not dict:
            raise TypeError
        known, made = self._known, {}
        for name, value in row.items():
            told = known[name]
            if told is None:
                continue
            column, convert = told
            if column in made:
                raise KeyError
            if value is not None:
                made[column] = value if convert is None else convert(value)
        for column in self._required:
            if column not in made:
                raise KeyError
        return made


_Convert = Callable[[Any], Any]


class _Names(dict[str, tuple[str, _Convert | None] | None]):
    """By the names that rows have: the column's own name and what makes its value. None for what is left out of a row."""

    def __init__(self, columns: Mapping[str, _Column], ignore_unknown: bool) -> None:
        self._columns = {name: (column.name, _quick_value(column, ignore_unknown)) for name, column in columns.items()}
        self._ignore_unknown = ignore_unknown
        super().__init__({found[0]: found for found in self._columns.values()})

    def __missing__(self, name: str) -> tuple[str, _Convert | None] | None:
        if self._ignore_unknown:
            return self._columns.get(name.lower())
        return self._columns[name.lower()]


def _quick_value(column: _Column, ignore_unknown: bool) -> _Convert | None:
    """What makes the value; None where a message takes the same as the column."""
    one: _Convert | None = column.convert
    if column.type == _MESSAGE:
        one = _Quick(column.columns, ignore_unknown=ignore_unknown)
    elif column.type == _STRING and column.convert is _text:
        one = None
    if not column.is_repeated:
        return one

    def each(value: Any) -> list[Any]:
        # Anything that can be iterated makes an array of a message: text too.
        if type(value) is not list:
            raise TypeError
        return value if one is None else [one(item) for item in value]

    return each


def _columns(schema: Sequence[Any], has_defaults: bool) -> dict[str, _Column]:
    """By the names in lower case, which BigQuery does not tell apart."""
    return {field.name.lower(): _Column(field, number, has_defaults) for number, field in enumerate(schema, 1)}


def _describe(descriptor_pb2: Any, name: str, columns: Mapping[str, _Column]) -> Any:
    described = descriptor_pb2.DescriptorProto(name=name)
    for column in columns.values():
        if not column.type:
            continue
        label = _REPEATED if column.is_repeated else _REQUIRED if column.is_required else _OPTIONAL
        # Its name in JSON would else be that of its neighbour, where one is order_id and the other orderId.
        field = described.field.add(
            name=column.name, json_name=column.name, number=column.number, type=column.type, label=label
        )
        if column.type == _MESSAGE:
            nested = f"{name}_{column.number}"
            described.nested_type.add().CopyFrom(_describe(descriptor_pb2, nested, column.columns))
            field.type_name = nested
    return described


def _fill(
    message: Any, columns: Mapping[str, _Column], row: Mapping[str, Any], path: str, ignore_unknown: bool
) -> None:
    given = set()
    for name, value in row.items():
        column = columns.get(name.lower())
        where = f"{path}{name}"[:100]
        if column is None:
            if ignore_unknown:
                continue
            raise NoSuchColumn(f"{where}: no such column")
        if name.lower() in given:
            raise ValueError(f"{where}: twice in the row, in upper and lower case")
        given.add(name.lower())
        if value is None:
            given.discard(name.lower())
        elif column.is_repeated:
            if not isinstance(value, list | tuple):
                raise ValueError(f"{where}: an array is what a repeated column takes")
            for item in value:
                _set(message, column, item, where, ignore_unknown, is_item=True)
        else:
            _set(message, column, value, where, ignore_unknown, is_item=False)
    for name, column in columns.items():
        if column.is_required and name not in given:
            raise ValueError(f"{path}{column.name}: required, and not in the row")


def _set(message: Any, column: _Column, value: Any, where: str, ignore_unknown: bool, *, is_item: bool) -> None:
    if column.type == _MESSAGE:
        if not isinstance(value, Mapping):
            raise ValueError(f"{where}: an object is what a record takes")
        field = getattr(message, column.name)
        nested = field.add() if is_item else field
        nested.SetInParent()
        _fill(nested, column.columns, value, f"{where}.", ignore_unknown)
        return
    try:
        converted = column.convert(value)
        if is_item:
            getattr(message, column.name).append(converted)
        else:
            setattr(message, column.name, converted)
    except _Unfit as error:
        raise ValueError(f"{where}: {error}") from None
    except (ValueError, TypeError, OverflowError, InvalidOperation):
        raise ValueError(f"{where}: {_WANTED.get(column.convert, 'a value of another type')}") from None


class _Unfit(Exception):
    """Why a value can't be in its column."""


def _unknown(kind: str) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        raise _Unfit(f"{kind} is not supported in a column here")

    return convert


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError
    return int(_without_underscores(value) if isinstance(value, str) else value)


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(_without_underscores(value) if isinstance(value, str) else value)


def _without_underscores(text: str) -> str:
    """Python reads digits in groups, which BigQuery does not."""
    if "_" in text:
        raise ValueError
    return text


def _decimal(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    number = Decimal(_without_underscores(value) if isinstance(value, str) else str(value))
    # No column holds more digits, and one text of a few would else become one of millions.
    if not number.is_finite() or abs(number.adjusted()) > _MOST_DIGITS:
        raise ValueError
    return f"{number:f}"


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _bytes(value: Any) -> bytes:
    return pybase64.b64decode(_text(value), validate=True)


def _timestamp(value: Any) -> int:
    """Microseconds since 1970."""
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, int | float):
        moment = _EPOCH + timedelta(microseconds=round(Decimal(str(value)) * 1_000_000))
    else:
        moment = datetime.fromisoformat(_dated(value).removesuffix(" UTC"))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND


def _date(value: Any) -> int:
    """Days since 1970."""
    return (date.fromisoformat(_dated(value)) - _EPOCH.date()).days


def _dated(value: Any) -> str:
    """A text that begins as 2026-01-31 does. Python reads weeks and digits alone too: milliseconds as a day of the year 1712."""
    if not _BEGINS_WITH_A_DATE(_text(value)):
        raise ValueError
    return str(value)


_TYPES: dict[str, tuple[int, Callable[[Any], Any]]] = {
    **dict.fromkeys(("STRING", "JSON", "GEOGRAPHY", "INTERVAL", "DATETIME", "TIME"), (_STRING, _text)),
    **dict.fromkeys(("INTEGER", "INT64"), (_INT64, _integer)),
    **dict.fromkeys(("FLOAT", "FLOAT64"), (_DOUBLE, _float)),
    **dict.fromkeys(("NUMERIC", "BIGNUMERIC"), (_STRING, _decimal)),
    **dict.fromkeys(("BOOLEAN", "BOOL"), (_BOOL, _boolean)),
    "BYTES": (_BYTES, _bytes),
    "TIMESTAMP": (_INT64, _timestamp),
    "DATE": (_INT32, _date),
    **dict.fromkeys(("RECORD", "STRUCT"), (_MESSAGE, _text)),
}
_WANTED: dict[Callable[[Any], Any], str] = {
    _text: "text is what it takes",
    _integer: "an integer of 64 bits is what it takes",
    _float: "a number is what it takes",
    _decimal: "a decimal number is what it takes",
    _boolean: "true or false is what it takes",
    _bytes: "base64 is what it takes",
    _timestamp: "a time as 2026-01-31T12:00:00Z, or seconds since 1970, is what it takes",
    _date: "a date as 2026-01-31 is what it takes",
}

"""Rows of BigQuery's in JSON, in the forms from which it makes its own types exactly."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import msgspec

__all__ = ["TOO_DEEP", "copy_row", "encode_row", "exact", "json_text", "too_deep"]

#: What is said of a row that is.
TOO_DEEP = "the row is nested too deeply"

_EXACT_IN_A_DOUBLE = 2**53
# BigQuery's RECORDs are nested fifteen deep at most. What is deeper could end a request of its neighbours too.
_MOST_DEPTH = 100
_ANY_DEPTH = sys.maxsize
# Rows that are looked at as one: so many rarely have more brackets than one may be deep.
_TOGETHER = 10
# A number that a double may not hold has sixteen digits.
_DIGITS_AS_ZEROS = bytes(ord("0") if chr(byte) in "0123456789" else byte for byte in range(256))
_FOUR_DIGITS, _SIXTEEN_DIGITS = b"0" * 4, b"0" * 16
# What tells more of a column than the text in which it is sent.
_TELLING = (bytes, bytearray, datetime, date, time, Decimal)
_encode = msgspec.json.Encoder().encode


def encode_row(row: Any) -> bytes:
    """``row``, a mapping or what msgspec makes an object of, as JSON, in which ``exact`` has to make long integers text.

    It may be ``too_deep``. A Decimal, a UUID, a date, a time and a datetime are text, and bytes are base64.

    Raises TypeError for what has no such form, ValueError for NaN and Infinity, for text that is not Unicode, and for nesting
    without end.
    """
    try:
        if type(row) is dict:
            text = _encode(row)
            # One that is not of a None may be what has become of NaN.
            nulls = text.count(b"null")
            if nulls:
                # To ask whether None is among them takes longer: that compares, and this looks.
                for value in row.values():
                    if value is None:
                        nulls -= 1
            if not nulls:
                return text
        return _encode(_sendable(_plain(row), _ANY_DEPTH))
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    except UnicodeEncodeError:
        raise ValueError("the row holds a text with half a surrogate pair, which is not Unicode") from None


def too_deep(rows: list[bytes]) -> set[int]:
    """The places of the rows that are nested more than a hundred deep; and of what a ``Raw`` of many brackets made no JSON."""
    return {
        place
        for first in range(0, len(rows), _TOGETHER)
        # No row is deeper than all of them have brackets.
        if _brackets(b"".join(rows[first : first + _TOGETHER])) > _MOST_DEPTH
        for place in range(first, min(first + _TOGETHER, len(rows)))
        if _brackets(rows[place]) > _MOST_DEPTH and _is_too_deep(rows[place])
    }


def _brackets(text: bytes) -> int:
    # Before Python 3.13 a byte is found by replace in a third of the time that count takes.
    return 2 * len(text) - len(text.replace(b"{", b"")) - len(text.replace(b"[", b""))


def _is_too_deep(text: bytes) -> bool:
    try:
        _sendable(msgspec.json.decode(text))
    except (RecursionError, msgspec.DecodeError, UnicodeDecodeError):
        # Refused alone: raised, it would hold up its neighbours.
        return True
    return False


def exact(rows: list[bytes]) -> list[bytes]:
    """The rows with integers beyond 53 bits as decimal text, for BigQuery reads numbers in JSON as doubles."""
    # Of sixteen digits in a row four are among every fourth byte. To look for them so takes a tenth of an expression's time.
    if _FOUR_DIGITS not in b"".join(rows)[::4].translate(_DIGITS_AS_ZEROS):
        return rows
    return [
        _encode(_sendable(msgspec.json.decode(text))) if _SIXTEEN_DIGITS in text.translate(_DIGITS_AS_ZEROS) else text
        for text in rows
    ]


def copy_row(row: Any) -> dict[str, Any]:
    """A copy that keeps apart what JSON does not: bytes, dates, times and Decimals from text. Raises what ``encode_row`` does."""
    try:
        return _plain(row, keeping=_TELLING)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None


def json_text(value: Any) -> str:
    """JSON as the text that a JSON column takes. ValueError for NaN and Infinity, and for nesting without end."""
    try:
        _sendable(value)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    return _encode(value).decode()


def _plain(row: Any, keeping: tuple[type, ...] = ()) -> dict[str, Any]:
    given = dict(row) if isinstance(row, Mapping) else row
    plain = msgspec.to_builtins(given, str_keys=True, builtin_types=keeping)
    if not isinstance(plain, dict):
        raise TypeError(f"row() takes a mapping of column names to values; got {type(row).__name__}")
    return plain


def _sendable(value: Any, room: int = _MOST_DEPTH) -> Any:
    """The value with integers beyond 53 bits as text. ValueError for NaN and Infinity; RecursionError where it is too deep."""
    if room < 0:
        raise RecursionError
    if isinstance(value, dict):
        return {key: _sendable(item, room - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_sendable(item, room - 1) for item in value]
    if isinstance(value, int) and abs(value) > _EXACT_IN_A_DOUBLE:
        return str(value)
    if isinstance(value, float) and value - value != 0:
        raise ValueError(f"the row is not JSON: it holds the number {value}")
    return value

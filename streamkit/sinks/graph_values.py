"""What a graph can hold: names that are safe in Cypher's text, keys, and properties, checked and copied when a write is made.

Labels, relationship types and the names of keys can't be parameters in Cypher, so they stand in its text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from ..errors import Reject

__all__ = ["indexed_key_of", "key_of", "name_of", "properties_of", "quoted", "version_of"]

_NAME = 255
_INTEGER = 2**63
# Bytes of a key in an index of Neo4j's, and what a value in it takes: a text's sign of its type and its length, and a number.
_INDEX_KEY = 8_167
_INDEX_TEXT, _INDEX_NUMBER = 3, 10
# What ends a quoted name, and what stands for it: some servers take \u0060 for a backtick before they look for names.
_FORBIDDEN = frozenset("`\\")


def name_of(name: Any, what: str) -> str:
    """A label, a type or a property's name; Reject where it is none. ``what`` is which of them.

    1 to 255 signs that print, without a backtick, a backslash, or a space at either end: none that could end its quotes.
    """
    if not isinstance(name, str):
        raise Reject(f"{what} is text, not {type(name).__name__}")
    if not 1 <= len(name) <= _NAME or not name.isprintable() or name.strip() != name or not _FORBIDDEN.isdisjoint(name):
        raise Reject(
            f"{what} is 1 to {_NAME} signs that print, without a backtick, a backslash, or a space at either end"
        )
    # A sign of a subclass's own would be one more way out.
    return "".join(name)


def quoted(name: str) -> str:
    """The name as it stands in Cypher's text. It has been through ``name_of``."""
    return f"`{name}`"


def key_of(key: Any, what: str, *, may_be_empty: bool = False) -> dict[str, str | int]:
    """Name → value, in the order of the names; Reject where a value is neither text nor a whole number of 64 bits."""
    if not isinstance(key, Mapping):
        raise Reject(f"{what} is a mapping of names to values, not {type(key).__name__}")
    if not key and not may_be_empty:
        raise Reject(f"{what} is empty")
    checked: dict[str, str | int] = {}
    for name, value in key.items():
        name = name_of(name, f"the name of a value in {what}")
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise Reject(f"{name!r} in {what} is text or a whole number, not {type(value).__name__}")
        checked[name] = _text(value, name) if isinstance(value, str) else _whole(value, name)
    return dict(sorted(checked.items()))


def indexed_key_of(key: Any, what: str) -> dict[str, str | int]:
    """A key as ``key_of`` has it, for an index: Reject too where it is more than Neo4j's holds, 8,164 bytes of text."""
    checked = key_of(key, what)
    size = sum(
        _INDEX_TEXT + len(value.encode()) if isinstance(value, str) else _INDEX_NUMBER for value in checked.values()
    )
    if size > _INDEX_KEY:
        raise Reject(f"{what} is {size:,} bytes in an index, which holds {_INDEX_KEY:,}: make a hash of it the key")
    return checked


def properties_of(properties: Any, kept: Iterable[str]) -> tuple[dict[str, Any], int]:
    """A copy of the properties, as Bolt carries them, and about how many bytes they are.

    ``kept`` are names that are not theirs to set: the key's, and the version's. Reject, which never quotes a value, for
    another thing than a property can be.
    """
    if not isinstance(properties, Mapping):
        raise Reject(f"properties are a mapping of names to values, not {type(properties).__name__}")
    copied: dict[str, Any] = {}
    size = 0
    for name, value in properties.items():
        name = name_of(name, "a property's name")
        copied[name] = value = _property(value, name)
        size += len(name) + 9 + (len(value) if isinstance(value, str | bytes) else 9 * len(_listed(value)))
    for name in kept:
        if name in copied:
            raise Reject(f"the property {name!r} is the key's or the version's, and is not set by the properties")
    return copied, size


def version_of(version: Any) -> int | None:
    """A whole number from 0 to 2**63 - 1, or None; Reject for another thing."""
    if version is None:
        return None
    if isinstance(version, bool) or not isinstance(version, int):
        raise Reject(f"a version is a whole number, not {type(version).__name__}")
    if not 0 <= version < _INTEGER:
        raise Reject(
            "a version is 0 to 2**63 - 1; a Kinesis sequence number is more: take the time of the change, or a counter of the "
            "source's"
        )
    return int(version)


def _property(value: Any, name: str) -> Any:
    if not isinstance(value, list | tuple | set | frozenset):
        return None if value is None else _single(value, name)
    items = [_single(item, name) for item in value]
    kinds = {type(item) for item in items}
    if kinds == {int, float}:
        # As the database makes it of them; but what a float can't be, it would change.
        if any(float(item) != item for item in items):
            raise Reject(
                f"the property {name!r} is a list of numbers, of which some are too large to stand beside fractions"
            )
        return [float(item) for item in items]
    if len(kinds) > 1:
        raise Reject(f"the property {name!r} is a list of several types; a graph's list has one")
    return items


def _single(value: Any, name: str) -> Any:
    """A value that a property can be, or an item of its list."""
    if isinstance(value, str):
        return _text(value, name)
    if isinstance(value, bool | bytes):
        return value
    if isinstance(value, int):
        return _whole(value, name)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Reject(f"the property {name!r} is not a finite number")
        return float(value)
    if isinstance(value, datetime):
        return _time(value, name)
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, date | timedelta) or (isinstance(value, time) and value.tzinfo is None):
        return value
    if isinstance(value, Mapping):
        raise Reject(
            f"the property {name!r} is a mapping; a graph's property is a single value or a list: make it a node"
        )
    raise Reject(f"the property {name!r} is of a type that Bolt does not carry: {type(value).__name__}")


def _text(value: str, name: str) -> str:
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Reject(f"{name!r} has half of a surrogate pair, which UTF-8 can't say") from None
    return text


def _whole(value: int, name: str) -> int:
    if not -_INTEGER <= value < _INTEGER:
        raise Reject(f"{name!r} is a whole number of more than 64 bits, which Bolt does not carry: make it text")
    return int(value)


def _time(value: datetime, name: str) -> datetime:
    """In UTC where it has a zone: the driver carries not every one, and the moment is the same."""
    try:
        return value if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise Reject(f"the property {name!r} is a moment that UTC has no year for") from None


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else ()

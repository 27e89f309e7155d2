"""What an index has found, in the one shape that answers have, whichever index it is."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ..errors import StreamkitError
from .cursor import Position
from .fields import Fields
from .values import shown

__all__ = [
    "POST_TAG",
    "PRE_TAG",
    "Bucket",
    "Found",
    "Hit",
    "IndexBroken",
    "IndexBusy",
    "Misfits",
    "Suggested",
    "fields_of",
    "fitting_of",
    "highlights_of",
]

#: What marks a word that was found on its way here: signs that mean nothing in HTML.
PRE_TAG, POST_TAG = "[[em]]", "[[/em]]"


class IndexBusy(StreamkitError):
    """The index does not answer now, and may soon: a throttle, an error of its own, no answer in time.

    ``is_silent``: there was no answer at all, or one that says that nobody is there.
    """

    def __init__(self, message: str, *, is_silent: bool) -> None:
        super().__init__(message)
        self.is_silent = is_silent


class IndexBroken(StreamkitError):
    """The index does not take what was asked, and won't take it later: who set this up has to change something."""


class Hit(msgspec.Struct):
    id: str
    fields: dict[str, Any]
    highlights: dict[str, str] = {}


class Bucket(msgspec.Struct):
    value: Any
    count: int


class Misfits(msgspec.Struct):
    """Values of one field that are not of its type: in how many documents, and of the first its id and why."""

    first: str
    why: str
    count: int = 1


class Found(msgspec.Struct):
    """``found``: how many there are, of which ``hits`` are this page. ``position``: where the next one begins. ``misfits``: by
    field, what was left out of some hits, and why.
    """

    found: int = 0
    hits: list[Hit] = []
    facets: dict[str, list[Bucket]] = {}
    position: Position | None = None
    milliseconds: int = 0
    misfits: dict[str, Misfits] = {}


class Suggested(msgspec.Struct):
    text: str
    id: str


def fields_of(raw: Mapping[str, Any], names: Iterable[str], fields: Fields) -> dict[str, Any]:
    """The fields of one document, by their types, of an index that holds no value of another type than its own.

    IndexBroken, naming the field, where the index has others than were declared.
    """
    found, misfits = fitting_of(raw, names, fields)
    for misfit in misfits.values():
        raise IndexBroken(misfit)
    return found


def fitting_of(raw: Mapping[str, Any], names: Iterable[str], fields: Fields) -> tuple[dict[str, Any], dict[str, str]]:
    """The same, of an index that gives back what a document was sent with: what is of its type, and, by field, why the rest is
    not. That says nothing of the value.
    """
    found: dict[str, Any] = {}
    misfits: dict[str, str] = {}
    for name in names:
        field = fields[name]
        values = _values(raw.get(name), is_place=field.kind == "latlon")
        if not values:
            continue
        if len(values) > 1 and not field.is_array:
            misfits[name] = f"the field {name} has several values: declare it as {field.kind}-array"
            continue
        try:
            typed = [shown(field.kind, one) for one in values]
        except ValueError as error:
            misfits[name] = f"the field {name} is declared as {field.kind}, and has a value that is not: {error}"
            continue
        found[name] = typed if field.is_array else typed[0]
    return found, misfits


def _values(value: Any, *, is_place: bool) -> list[Any]:
    if not isinstance(value, list):
        value = [value]
    elif is_place and len(value) in (2, 3) and all(isinstance(one, int | float) for one in value):
        # A place, and not two values.
        value = [value]
    return [one for one in value if one is not None]


def buckets_of(name: str, counts: Iterable[tuple[Any, int]], fields: Fields) -> list[Bucket]:
    """The values of a facet, most frequent first, those of one count by value."""
    try:
        buckets = [Bucket(shown(fields[name].kind, value), count) for value, count in counts]
    except ValueError as error:
        raise IndexBroken(
            f"the field {name} is declared as {fields[name].kind}, and has a value that is not: {error}"
        ) from None
    return sorted(buckets, key=lambda bucket: (-bucket.count, bucket.value))


def highlights_of(raw: Mapping[str, str]) -> dict[str, str]:
    """Texts as HTML, in which the only tags are ``<em>`` around what was found; those without any are left out."""
    return {
        name: html.escape(text).replace(PRE_TAG, "<em>").replace(POST_TAG, "</em>")
        for name, text in raw.items()
        if PRE_TAG in text
    }

"""The parameters of a request, held against the fields: a query that any index can be asked, or why it is none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import msgspec

from ..errors import ConfigurationError
from .clauses import MOST_CLAUSES, clauses_of
from .cursor import Position, position_of
from .fields import Field, Fields
from .filters import AnyOf, Box, Filter, Range
from .refused import Refused
from .values import box_of, is_sendable, value_of
from .words import Word, words_of

__all__ = [
    "DEEPEST",
    "RELEVANCE",
    "Limits",
    "Prefix",
    "Query",
    "prefix_of",
    "query_of",
]

T = TypeVar("T")

#: Hits that can be reached by ``start`` and ``size``: CloudSearch's limit, and OpenSearch's ``index.max_result_window``.
DEEPEST = 10_000
#: What sorts by how well a document fits; always the best first.
RELEVANCE = "relevance"
# CloudSearch sorts by ten, and the document's id is the last.
_MOST_SORTS = 9
_MOST_VALUES = 50

#: Parameters by name, each with all its values.
Parameters = Mapping[str, Sequence[str]]


class Limits(msgspec.Struct, frozen=True):
    """What a request may ask for; each is one more thing that a stranger can make an index do."""

    hits: int = 100
    default_hits: int = 10
    buckets: int = 100
    text: int = 200

    def __post_init__(self) -> None:
        if not 1 <= self.default_hits <= self.hits <= 1000:
            raise ConfigurationError(
                f"a page has 1 to 1,000 hits; got {self.default_hits} by default and {self.hits} at most"
            )


class Query(msgspec.Struct, frozen=True):
    """What is searched: of documents with all ``words`` and all ``filters``, the page that begins at ``start``; or, where
    ``is_paged`` (by a cursor), at ``position``.

    ``is_empty``: nothing can be found, so that nobody need be asked. ``search`` is a digest of what is the same on every page.
    """

    words: tuple[Word, ...]
    filters: tuple[Filter, ...]
    facets: tuple[str, ...]
    buckets: int
    sort: tuple[tuple[str, bool], ...]
    start: int
    size: int
    is_paged: bool
    position: Position | None
    highlight: tuple[str, ...]
    returned: tuple[str, ...]
    is_empty: bool
    search: str


class Prefix(msgspec.Struct, frozen=True):
    """What suggestions begin with."""

    text: str
    size: int
    is_empty: bool


def query_of(parameters: Parameters, fields: Fields, limits: Limits) -> Query:
    """The query of a request for ``/search``; Refused where it is none."""
    given = _Given(parameters, _names(fields))
    text = given.text("q", limits.text)
    words = words_of(text)
    filters, can_match = _filters(given, fields, limits)
    _check_clauses(clauses_of(words, filters, len(fields.of("search"))))
    sort = _sort(given, fields)
    size = given.number("size", limits.default_hits, 0, limits.hits)
    start = given.number("start", 0, 0, DEEPEST - limits.hits)
    search = _digest((words, filters, sort))
    cursor = given.one("cursor")
    if cursor is not None and (start or not size):
        raise Refused(400, "a cursor goes with a size of 1 or more, and without start", "cursor")
    return Query(
        words=words,
        filters=filters,
        facets=given.listed("facet", fields.of("facet")),
        buckets=given.number("facet_size", min(10, limits.buckets), 1, limits.buckets),
        sort=sort,
        start=start,
        size=size,
        is_paged=cursor is not None,
        position=None if cursor is None else position_of(cursor, search),
        highlight=given.listed("highlight", fields.of("highlight")),
        returned=given.listed("fields", fields.of("returned")) or tuple(fields.of("returned")),
        is_empty=not can_match or (bool(text.strip()) and not words),
        search=search,
    )


def prefix_of(parameters: Parameters, limits: Limits) -> Prefix:
    """What a request for ``/suggest`` asks for; Refused where it is none."""
    given = _Given(parameters, ["q", "size"])
    if given.one("q") is None:
        raise Refused(400, "q is missing: what the suggestions begin with", "q")
    text = given.text("q", limits.text)
    can_match = is_sendable(text) and any(map(str.isalnum, text))
    return Prefix(text.strip(), given.number("size", limits.default_hits, 1, limits.hits), not can_match)


def _names(fields: Fields) -> list[str]:
    """The parameters that there are, for an error to list."""
    return [
        *(["q"] if fields.of("search") else []),
        *(f"filter.{name}" for name in fields.of("has_value")),
        *(f"{end}.{name}" for name in fields.of("has_range") for end in ("min", "max")),
        *(f"box.{name}" for name in fields.of("has_box")),
        *(["facet", "facet_size"] if fields.of("facet") else []),
        *("sort", "start", "size", "cursor"),
        *(["highlight"] if fields.of("highlight") else []),
        *(["fields"] if fields.of("returned") else []),
    ]


class _Given:
    """The parameters of one request; every look at them may be what refuses it."""

    def __init__(self, parameters: Parameters, names: Sequence[str]) -> None:
        unknown = [name for name in parameters if name not in names]
        if unknown:
            # What it is called is the caller's, and may be long.
            raise Refused(400, f"there is no parameter of this name; there are {', '.join(names)}", unknown[0][:100])
        self._parameters = parameters

    def all(self, name: str) -> Sequence[str]:
        return self._parameters.get(name, ())

    def one(self, name: str) -> str | None:
        values = self.all(name)
        if len(values) > 1:
            raise Refused(400, f"{name} is given {len(values)} times, and taken once", name)
        return values[0] if values else None

    def text(self, name: str, longest: int) -> str:
        text = self.one(name) or ""
        if len(text) > longest:
            raise Refused(400, f"{name} has {len(text):,} characters, and may have {longest}", name)
        return text

    def number(self, name: str, default: int, lowest: int, highest: int) -> int:
        text = self.one(name)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
            raise Refused(400, f"{name} takes a whole number from {lowest} to {highest}", name)
        return int(text)

    def listed(self, name: str, known: Sequence[str]) -> tuple[str, ...]:
        """Names with commas between, each once, in their order."""
        text = self.one(name)
        if text is None:
            return ()
        names = text.split(",")
        if any(one not in known for one in names):
            raise Refused(400, f"{name} takes fields with commas between: {', '.join(known)}", name)
        return tuple(dict.fromkeys(names))


def _filters(given: _Given, fields: Fields, limits: Limits) -> tuple[tuple[Filter, ...], bool]:
    """All filters, and whether anything can pass them all."""
    filters: list[Filter] = []
    can_match = True
    for name, field in fields.items():
        if texts := given.all(f"filter.{name}"):
            values = _values(f"filter.{name}", texts, field, limits)
            can_match &= bool(values)
            filters.append(AnyOf(name, values))
        low, high = (_end(given, f"{end}.{name}", field) for end in ("min", "max"))
        if low is not None or high is not None:
            can_match &= low is None or high is None or _in_order(low, high)
            filters.append(Range(name, low, high))
        if (text := given.one(f"box.{name}")) is not None:
            north, west, south, east = _read(f"box.{name}", text, box_of)
            can_match &= north > south and west != east
            filters.append(Box(name, north, west, south, east))
    return tuple(filters), can_match


def _check_clauses(clauses: Mapping[str, int]) -> None:
    total = sum(clauses.values())
    if total > MOST_CLAUSES:
        raise Refused(
            400,
            f"the search has {total:,} clauses, and may have {MOST_CLAUSES:,}: each word in each field, and each value of a "
            "filter is one",
            max(clauses, key=clauses.__getitem__),
        )


def _values(name: str, texts: Sequence[str], field: Field, limits: Limits) -> tuple[str | int | float, ...]:
    """Those of a filter, without such as no document can have."""
    if len(texts) > _MOST_VALUES:
        raise Refused(400, f"{name} is given {len(texts)} times, and may be {_MOST_VALUES} times", name)
    values: dict[str | int | float, None] = {}
    for text in texts:
        if len(text) > limits.text:
            raise Refused(400, f"{name} has a value of {len(text):,} characters, and may have {limits.text}", name)
        value = _read(name, text, partial(value_of, field.kind))
        if isinstance(value, str) and not _can_be(value, field):
            continue
        values[value] = None
    return tuple(values)


def _can_be(text: str, field: Field) -> bool:
    if field.kind == "text":
        return is_sendable(text) and any(map(str.isalnum, text))
    return is_sendable(text) and text != ""


def _end(given: _Given, name: str, field: Field) -> str | int | float | None:
    text = given.one(name)
    return None if text is None else _read(name, text, partial(value_of, field.kind))


def _read(name: str, text: str, read: Callable[[str], T]) -> T:
    try:
        return read(text)
    except ValueError as error:
        raise Refused(400, f"{name} {error}", name) from None


def _in_order(low: str | int | float, high: str | int | float) -> bool:
    if isinstance(low, str) and isinstance(high, str):
        # 04:05:06Z is before 04:05:06.5Z, though Z comes after a dot.
        return low.rstrip("Z") <= high.rstrip("Z")
    return low <= high  # type: ignore[operator]  # Both are numbers: they are of one field.


def _sort(given: _Given, fields: Fields) -> tuple[tuple[str, bool], ...]:
    """Field and whether it descends, each field once; the best first where nothing is said."""
    text = given.one("sort")
    if text is None:
        return ((RELEVANCE, True),)
    known = fields.of("sort")
    sort: dict[str, bool] = {}
    names = text.split(",")
    if len(names) > _MOST_SORTS:
        raise Refused(400, f"sort takes {_MOST_SORTS} fields at most", "sort")
    for one in names:
        name = one.removeprefix("-")
        if one != RELEVANCE and name not in known:
            raise Refused(
                400, f"sort takes {RELEVANCE}, and fields with a - before what descends: {', '.join(known)}", "sort"
            )
        sort.setdefault(name, one == RELEVANCE or one.startswith("-"))
    return tuple(sort.items())


def _digest(parts: Iterable[object]) -> str:
    import hashlib

    return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:12]

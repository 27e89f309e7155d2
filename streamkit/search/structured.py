"""A query in CloudSearch's words: its structured syntax, in which nothing of a caller's is anything but a quoted literal."""

from __future__ import annotations

from typing import Any

import msgspec

from .cursor import INITIAL
from .fields import Fields
from .filters import AnyOf, Box, Filter, Range
from .found import POST_TAG, PRE_TAG
from .query import RELEVANCE, Query
from .words import Word

__all__ = ["literal", "parameters_of"]

# Occurrences of a word that a highlight marks.
_PHRASES = 10


def parameters_of(query: Query, fields: Fields) -> dict[str, Any]:
    """What boto3's ``cloudsearchdomain.search`` takes."""
    wanted = [_word(word) for word in query.words if not word.excluded]
    unwanted = [f"(not {_word(word)})" for word in query.words if word.excluded]
    asked = [*wanted, *unwanted] if wanted else []
    # A query of exclusions alone finds nothing; as filters of everything they exclude.
    filters = [*(_filter(one, fields) for one in query.filters), *([] if wanted else unwanted)]
    made: dict[str, Any] = {
        "query": _all(asked) if asked else "matchall",
        "queryParser": "structured",
        "size": query.size,
        "sort": ",".join([*(_sort(name, descends) for name, descends in query.sort), "_id asc"]),
        "return": ",".join(query.returned) or "_no_fields",
    }
    if searched := fields.of("search"):
        made["queryOptions"] = _json({"fields": searched})
    if filters:
        made["filterQuery"] = _all(filters)
    if query.is_paged:
        made["cursor"] = INITIAL if query.position is None else query.position
    else:
        made["start"] = query.start
    if query.facets:
        made["facet"] = _json({name: {"sort": "count", "size": query.buckets} for name in query.facets})
    if query.highlight:
        options = {"format": "text", "max_phrases": _PHRASES, "pre_tag": PRE_TAG, "post_tag": POST_TAG}
        made["highlight"] = _json(dict.fromkeys(query.highlight, options))
    return made


def literal(text: str) -> str:
    """A text as the structured syntax has it: in quotes, which only a quote without a backslash ends."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _word(word: Word) -> str:
    operator = {"word": "term", "phrase": "phrase", "prefix": "prefix"}[word.kind]
    return f"({operator} {literal(word.text)})"


def _filter(one: Filter, fields: Fields) -> str:
    match one:
        case AnyOf(field, values):
            # Of text a phrase: its words, beside each other.
            operator = "phrase" if fields[field].kind == "text" else "term"
            return _any([f"({operator} field={field} {_plain(value)})" for value in values])
        case Range(field, low, high):
            begin = "{" if low is None else f"[{_plain(low)}"
            end = "}" if high is None else f"{_plain(high)}]"
            return f"(range field={field} {begin},{end})"
        case Box(field, north, west, south, east) if west > east:
            return _any([_box(field, north, west, south, 180.0), _box(field, north, -180.0, south, east)])
        case Box(field, north, west, south, east):
            return _box(field, north, west, south, east)
    raise TypeError(type(one))


def _plain(value: str | int | float) -> str:
    return literal(value) if isinstance(value, str) else repr(value)


def _box(field: str, north: float, west: float, south: float, east: float) -> str:
    corners = ",".join(f"'{_degrees(lat)},{_degrees(lon)}'" for lat, lon in ((north, west), (south, east)))
    return f"{field}:[{corners}]"


def _degrees(value: float) -> str:
    """In decimal degrees, as CloudSearch's documentation has places, and not as 1e-05."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _all(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"(and {' '.join(parts)})"


def _any(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"(or {' '.join(parts)})"


def _sort(name: str, descends: bool) -> str:
    return f"{'_score' if name == RELEVANCE else name} {'desc' if descends else 'asc'}"


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()

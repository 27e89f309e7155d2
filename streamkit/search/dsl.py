"""A query in OpenSearch's words: a body of JSON, in which nothing of a caller's is anything but a value."""

from __future__ import annotations

from typing import Any

from .fields import Fields
from .filters import AnyOf, Box, Filter, Range
from .found import POST_TAG, PRE_TAG
from .query import RELEVANCE, Prefix, Query
from .words import Word

__all__ = ["body_of", "body_of_suggestions"]


def body_of(query: Query, fields: Fields, tie_break: str) -> dict[str, Any]:
    """What ``_search`` takes. ``tie_break``: the field that no two documents have the same of, ``_id`` or a keyword."""
    searched = fields.of("search")
    body: dict[str, Any] = {
        "query": {
            "bool": {
                "must": [_word(word, searched) for word in query.words if not word.excluded],
                "must_not": [_word(word, searched) for word in query.words if word.excluded],
                "filter": [_filter(one, fields) for one in query.filters],
            }
        },
        "size": query.size,
        "sort": [*(_sort(name, descends) for name, descends in query.sort), {tie_break: "asc"}],
        # Without it scores are left out where something else sorts first.
        "track_scores": any(name == RELEVANCE for name, _ in query.sort),
        "track_total_hits": True,
        "_source": list(query.returned) or False,
    }
    if not body["query"]["bool"]["must"]:
        # Else it would be the filters alone that match, with no score at all.
        body["query"]["bool"]["must"] = [{"match_all": {}}]
    if not query.is_paged:
        body["from"] = query.start
    elif query.position is not None:
        body["search_after"] = query.position
    if query.facets:
        order = [{"_count": "desc"}, {"_key": "asc"}]
        body["aggs"] = {
            name: {"terms": {"field": name, "size": query.buckets, "order": order}} for name in query.facets
        }
    if query.highlight:
        # All of the text, as it is: it is made HTML of here.
        body["highlight"] = {
            "fields": {name: {"number_of_fragments": 0} for name in query.highlight},
            "pre_tags": [PRE_TAG],
            "post_tags": [POST_TAG],
        }
    return body


def body_of_suggestions(prefix: Prefix, field: str, source: str) -> dict[str, Any]:
    """Documents of which the whole of ``field``, a keyword, begins so. ``source`` is where its value is."""
    return {
        "query": {"prefix": {field: {"value": prefix.text, "case_insensitive": True}}},
        "sort": [{field: "asc"}],
        "size": prefix.size,
        "_source": [source],
    }


def _word(word: Word, searched: list[str]) -> dict[str, Any]:
    """The word in any of the fields."""
    if word.kind == "prefix":
        any_of = [{"prefix": {name: {"value": word.text}}} for name in searched]
        return {"bool": {"should": any_of, "minimum_should_match": 1}}
    kind = "phrase" if word.kind == "phrase" else "best_fields"
    return {"multi_match": {"query": word.text, "fields": searched, "type": kind, "operator": "and"}}


def _filter(one: Filter, fields: Fields) -> dict[str, Any]:
    match one:
        case AnyOf(field, values) if fields[field].kind == "text":
            return {
                "bool": {"should": [{"match_phrase": {field: value}} for value in values], "minimum_should_match": 1}
            }
        case AnyOf(field, values):
            return {"terms": {field: list(values)}}
        case Range(field, low, high):
            ends = {"gte": low, "lte": high}
            return {"range": {field: {end: value for end, value in ends.items() if value is not None}}}
        case Box(field, north, west, south, east):
            return {"geo_bounding_box": {field: {"top": north, "left": west, "bottom": south, "right": east}}}
    raise TypeError(type(one))


def _sort(name: str, descends: bool) -> dict[str, Any]:
    direction = "desc" if descends else "asc"
    return {"_score": direction} if name == RELEVANCE else {name: {"order": direction, "missing": "_last"}}

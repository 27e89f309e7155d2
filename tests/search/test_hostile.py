"""Requests that nobody would write by mistake: whatever comes, an answer, and nothing of it but values for an index."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import urlencode

from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamkit.errors import StreamkitError
from streamkit.local.gateway import http_api_event, rest_api_event
from streamkit.search.api import SearchApi
from streamkit.search.dsl import body_of
from streamkit.search.query import Limits, query_of
from streamkit.search.refused import Refused
from streamkit.search.structured import literal, parameters_of

from .airports import FIELDS
from .test_http import Answering

STATUSES = {200, 204, 304, 400, 404, 405, 413, 414, 415}
NAMES = [
    *(
        "q",
        "filter.name",
        "filter.state",
        "filter.tags",
        "filter.elevation",
        "min.elevation",
        "max.opened",
        "box.place",
    ),
    *("facet", "facet_size", "sort", "start", "size", "cursor", "highlight", "fields", "min.state", "_id", ""),
]
WORDS = st.sampled_from(
    [
        "'",
        "\\",
        "''",
        "\\'",
        ")",
        "(",
        "(and",
        "matchall",
        "[",
        "]",
        "{",
        "}",
        ",",
        "field=name",
        "_id:",
        '"',
        "*",
        "-",
        "\x00",
    ]
)
TEXTS = st.text(max_size=30) | st.lists(WORDS, max_size=8).map(" ".join) | st.lists(WORDS, max_size=8).map("".join)
# A text in quotes, of which only a backslash frees the next sign; or what is a number or a bound.
_LITERAL = re.compile(r"'(?:[^'\\]|\\.)*'", re.DOTALL)
_SYNTAX = re.compile(
    r"matchall|[()\[\]{},: ]|and|or|not|term|phrase|prefix|range|field=|-?[0-9.]+(?:e[+-]?[0-9]+)?|L|"
    + "|".join(FIELDS)
)


def test_a_box_near_the_equator_has_plain_degrees() -> None:
    query = query_of({"box.place": ["0.00001,-0.00002,-1e-5,104.5"]}, FIELDS, Limits())

    assert parameters_of(query, FIELDS)["filterQuery"] == "place:['0.00001,-0.00002','-0.00001,104.5']"
    assert query_of({"box.place": ["1e-10,0,0,1"]}, FIELDS, Limits()).is_empty, (
        "and none that is thinner than they tell"
    )


@given(TEXTS)
@example("\\")
@example("\\'")
@example("'\\")
@settings(max_examples=500)
def test_a_literal_is_one_and_is_the_text(text: str) -> None:
    from cloudsearch_query import _Structured

    written = literal(text)

    assert _LITERAL.fullmatch(written)
    assert re.sub(r"\\(.)", r"\1", written[1:-1], flags=re.DOTALL) == text
    # As the stand-in reads it, in the middle of a query.
    read = _Structured(f"(and (term field=state {written}) matchall)", {"state": "literal"}).query()
    assert read == {"bool": {"must": [{"term": {"state": text}}, {"match_all": {}}]}}


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(TEXTS, min_size=1, max_size=3), max_size=6))
@settings(max_examples=500)
def test_without_its_literals_a_query_is_of_our_own_words_alone(parameters: dict[str, list[str]]) -> None:
    try:
        query = query_of(parameters, FIELDS, Limits())
    except Refused:
        return
    made = parameters_of(query, FIELDS)
    for text in (made["query"], made.get("filterQuery", "")):
        assert _SYNTAX.sub("", _LITERAL.sub("L", text)) == "", text
    assert re.fullmatch(r"[a-z_,]+", made["return"])
    assert re.fullmatch(r"[a-z_]+ (asc|desc)(,[a-z_]+ (asc|desc))*", made["sort"])
    # All of what OpenSearch is asked has keys that were written here.
    keys = {key for key, _ in _pairs(body_of(query, FIELDS, "_id"))}
    assert keys <= KEYS | set(FIELDS)


KEYS = {
    *(
        "query",
        "bool",
        "must",
        "must_not",
        "filter",
        "should",
        "minimum_should_match",
        "match_all",
        "multi_match",
        "fields",
    ),
    *("type", "operator", "prefix", "value", "match_phrase", "terms", "range", "gte", "lte", "geo_bounding_box", "top"),
    *(
        "left",
        "bottom",
        "right",
        "size",
        "sort",
        "order",
        "missing",
        "_score",
        "_id",
        "track_scores",
        "track_total_hits",
    ),
    *("_source", "from", "search_after", "aggs", "field", "_count", "_key", "highlight", "number_of_fragments"),
    *("pre_tags", "post_tags"),
}


def _pairs(node: Any) -> list[tuple[str, Any]]:
    if isinstance(node, dict):
        return [pair for key, value in node.items() for pair in ((key, value), *_pairs(value))]
    return [pair for one in node for pair in _pairs(one)] if isinstance(node, list) else []


@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "PUT", "TRACE", "get", "X"]),
    path=st.sampled_from(["/search", "/suggest", "/health", "/openapi.json", "/", "/search/..", "//"])
    | st.text(max_size=10),
    parameters=st.lists(st.tuples(st.sampled_from(NAMES) | st.text(max_size=5), TEXTS), max_size=6),
    headers=st.dictionaries(
        st.sampled_from(["Origin", "If-None-Match", "Content-Type", "Access-Control-Request-Method"]), TEXTS
    ),
    body=st.binary(max_size=50),
    is_rest=st.booleans(),
)
@settings(max_examples=500)
def test_every_request_has_an_answer(
    method: str, path: str, parameters: Any, headers: dict[str, str], body: bytes, is_rest: bool
) -> None:
    event_of = rest_api_event if is_rest else http_api_event
    query = urlencode(parameters, errors="replace")
    event = event_of(method, "/", list(headers.items()), body)
    event |= {"path": path} if is_rest else {"rawPath": path, "rawQueryString": query}
    if is_rest:
        event["multiValueQueryStringParameters"] = {name: [value] for name, value in parameters} or None

    answer = SearchApi(FIELDS, Answering())(event)

    assert answer["statusCode"] in STATUSES, answer
    json.dumps(answer).encode()
    if answer["statusCode"] >= 400 and method != "HEAD":
        assert json.loads(answer["body"])["error"]


JSON = st.recursive(
    # With halves of surrogate pairs, as JSON can have them.
    st.none() | st.booleans() | st.integers() | st.text(st.characters(), max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PARTS = [
    *(
        "version",
        "rawPath",
        "rawQueryString",
        "headers",
        "requestContext",
        "body",
        "isBase64Encoded",
        "httpMethod",
        "path",
    ),
    *("multiValueHeaders", "queryStringParameters", "multiValueQueryStringParameters"),
]


@given(st.booleans(), st.dictionaries(st.sampled_from(PARTS), JSON, max_size=4))
@example(True, {"multiValueQueryStringParameters": {"\ud800": ["a"]}})
@example(True, {"queryStringParameters": {"q": "\ud800"}, "multiValueQueryStringParameters": None})
@example(False, {"rawQueryString": True})
@example(False, {"rawQueryString": "q=\ud800"})
@example(False, {"rawPath": "\ud800"})
@settings(max_examples=500)
def test_an_event_that_is_damaged_has_an_answer_or_is_an_error_that_says_so(
    is_rest: bool, damage: dict[str, Any]
) -> None:
    event = (rest_api_event if is_rest else http_api_event)("POST", "/search?q=a", [("Accept", "*/*")], b"q=a")
    try:
        answer = SearchApi(FIELDS, Answering())({**event, **damage})
    except StreamkitError:
        return
    assert answer["statusCode"] in STATUSES, answer

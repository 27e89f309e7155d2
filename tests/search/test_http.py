"""The edges of the API: API Gateway's events, statuses, headers of caches and of CORS. No index is asked here."""

from __future__ import annotations

import base64
import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

import pytest

from streamkit.errors import ConfigurationError, StreamkitError
from streamkit.local.gateway import http_api_event, rest_api_event
from streamkit.search.api import SearchApi
from streamkit.search.cors import Cors
from streamkit.search.fields import Fields
from streamkit.search.found import Found, Hit, Suggested
from streamkit.search.query import Limits, Prefix, Query

from .airports import Asked, ask

FIELDS = Fields({"iata": "literal", "name": "text", "elevation": "int"})
FORM = "application/x-www-form-urlencoded"


class Answering:
    """An index that finds what it is told to, and keeps what it was asked."""

    suggests = True

    def __init__(self, found: Found | Exception | None = None) -> None:
        self.found = found or Found(1, [Hit("DEN", {"iata": "DEN"})])
        self.asked: list[Query] = []

    def search(self, query: Query, deadline: float) -> Found:
        self.asked.append(query)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def suggest(self, prefix: Prefix, deadline: float) -> list[Suggested]:
        return [Suggested("Denver", "DEN")]

    def close(self) -> None: ...


def api_of(found: Found | Exception | None = None, **options: Any) -> SearchApi:
    return SearchApi(FIELDS, Answering(found), **options)


# Events


@pytest.mark.parametrize("event_of", [http_api_event, rest_api_event])
def test_both_kinds_of_events_ask_the_same(event_of: Any) -> None:
    index = Answering()
    target = "/search?q=a+b%26c&filter.iata=D%2CE&filter.iata=F&sort=iata&min.elevation=5"

    answer = Asked(SearchApi(FIELDS, index)(event_of("GET", target, [], b"")))

    assert answer.status == 200
    (query,) = index.asked
    assert [word.text for word in query.words] == ["a", "b&c"]
    assert query.filters[0].values == ("D,E", "F")  # type: ignore[union-attr]
    assert query.sort == (("iata", False),)


def test_a_stage_and_a_base_path_are_no_part_of_the_path() -> None:
    staged = http_api_event("GET", "/search", [], b"", stage="prod")
    assert staged["rawPath"] == "/prod/search"
    assert api_of()(staged)["statusCode"] == 200

    assert ask(api_of(base_path="/airports"), "/airports/search").status == 200
    assert ask(api_of(base_path="/airports/"), "/airports/health").status == 200
    assert ask(api_of(base_path="/airports"), "/airportsearch").status == 404
    assert ask(api_of(), "/prod/search").status == 404


@pytest.mark.parametrize("kind", ["http", "rest"])
def test_a_form_comes_as_text_or_in_base64(kind: str) -> None:
    event_of = http_api_event if kind == "http" else rest_api_event
    event = event_of("POST", "/search", [("Content-Type", f"{FORM}; charset=utf-8")], b"filter.iata=D%C3%A9")
    assert event["isBase64Encoded"] is True
    plain = event | {"isBase64Encoded": False, "body": base64.b64decode(event["body"]).decode()}
    for one in (event, plain):
        index = Answering()
        assert SearchApi(FIELDS, index)(one)["statusCode"] == 200
        assert index.asked[0].filters[0].values == ("Dé",)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "event",
    [
        {"httpMethod": "GET", "path": "/search"},
        {"httpMethod": "GET", "path": "/search", "headers": None, "queryStringParameters": None, "body": None},
        {
            "httpMethod": "get",
            "path": "/search",
            "multiValueQueryStringParameters": {"q": ["a"]},
            "requestContext": None,
        },
        {"httpMethod": "GET", "path": "/search", "queryStringParameters": {"q": "a"}},
        {"version": "2.0", "rawPath": "/search", "requestContext": {"http": {"method": "GET"}}},
    ],
)
def test_what_an_event_lacks_is_not_there(event: dict[str, Any]) -> None:
    assert api_of()(event)["statusCode"] == 200


@pytest.mark.parametrize(
    "event",
    [
        *({"Records": []}, {"httpMethod": "GET"}, {"path": "/search"}, [], "x", 7, {"a": 1}),
        {"version": "2.0", "requestContext": {"http": {"method": 7}}, "rawPath": "/search"},
        {"httpMethod": "GET", "path": "/search", "body": {"q": "a"}},
    ],
)
def test_any_other_event_is_an_error(event: Any) -> None:
    with pytest.raises(StreamkitError, match="API Gateway"):
        api_of()(event)


@pytest.mark.parametrize("ping", [None, {}, {"source": "serverless-plugin-warmup"}, {"warmer": True}])
def test_a_ping_is_answered_and_nothing_is_asked(ping: Any) -> None:
    assert api_of(RuntimeError())(ping) == {}


def test_a_ping_of_streamkits_own_is_answered_as_every_function_answers_it() -> None:
    api = api_of(RuntimeError())

    assert api({"streamkit": "warm"})["cold"]
    assert api({"streamkit": "health"})["invocations"] == 2


# Statuses


@pytest.mark.parametrize(
    ("parameters", "parameter", "says"),
    [
        ({"colour": "red"}, "colour", "there are q, filter.iata, filter.name, filter.elevation, min.elevation"),
        ({"x" * 500: ""}, "x" * 100, "no parameter"),
        ({"filter__colour": "red"}, "filter.colour", "no parameter"),
        ({"q": ["a", "b"]}, "q", "given 2 times"),
        ({"q": "a" * 201}, "q", "201 characters, and may have 200"),
        ({"filter__iata": "a" * 201}, "filter.iata", "201 characters"),
        ({"filter__iata": ["a"] * 51}, "filter.iata", "51 times"),
        ({"filter__elevation": "high"}, "filter.elevation", "whole number of 64 bits"),
        ({"filter__elevation": "1.0"}, "filter.elevation", "whole number"),
        ({"filter__elevation": "9223372036854775808"}, "filter.elevation", "64 bits"),
        ({"filter__elevation": "９"}, "filter.elevation", "whole number"),
        ({"min__elevation": ""}, "min.elevation", "whole number"),
        ({"min__iata": "a"}, "min.iata", "no parameter"),
        ({"facet": "name"}, "facet", "fields with commas between: iata"),
        ({"facet": ""}, "facet", "iata"),
        ({"facet_size": "0"}, "facet_size", "from 1 to 100"),
        ({"sort": "name"}, "sort", "relevance"),
        ({"sort": "-relevance"}, "sort", "relevance"),
        ({"sort": "iata desc"}, "sort", "relevance"),
        ({"size": "101"}, "size", "from 0 to 100"),
        ({"size": "-1"}, "size", "from 0 to 100"),
        ({"size": "1e1"}, "size", "from 0 to 100"),
        ({"start": "9901"}, "start", "from 0 to 9900"),
        ({"highlight": "iata"}, "highlight", "name"),
        ({"fields": "iata,secret"}, "fields", "iata, name, elevation"),
    ],
)
def test_a_parameter_that_is_wrong_is_named_with_what_it_takes(
    parameters: Mapping[str, Any], parameter: str, says: str
) -> None:
    index = Answering()

    answer = ask(SearchApi(FIELDS, index), **parameters)

    assert (answer.status, answer.json["parameter"]) == (400, parameter)
    assert says in answer.json["error"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert index.asked == []


def test_suggestions_need_a_text() -> None:
    assert ask(api_of(), "/suggest").json["parameter"] == "q"
    assert ask(api_of(), "/suggest", q="d", sort="iata").json["parameter"] == "sort"


def test_what_is_not_there_is_404_and_what_is_there_is_told() -> None:
    for path in ("/", "/searches", "/search/", "//search", "/../search"):
        answer = ask(api_of(), path)
        assert answer.status == 404
        assert "/search, /health, /openapi.json, /suggest" in answer.json["error"]


def test_a_method_that_a_path_does_not_take_is_405_with_those_that_it_takes() -> None:
    answer = ask(api_of(), method="DELETE")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, POST, HEAD, OPTIONS")
    assert ask(api_of(), "/suggest", method="POST").headers["Allow"] == "GET, HEAD, OPTIONS"


def test_requests_that_are_too_long_or_can_not_be_read() -> None:
    def status(event: dict[str, Any]) -> int:
        code: int = api_of()(event)["statusCode"]
        return code

    typed = [("Content-Type", FORM)]
    assert status(http_api_event("GET", "/search?q=" + "a" * 9000, [], b"")) == 414
    assert status(rest_api_event("GET", "/search?q=" + "a" * 9000, [], b"")) == 414
    assert status(http_api_event("GET", "/search?" + "q=&" * 300, [], b"")) == 400
    assert status(http_api_event("GET", "/search?q=%ff", [], b"")) == 400
    assert status(http_api_event("POST", "/search", typed, b"q=" + b"a" * 20_000)) == 413
    assert status(http_api_event("POST", "/search", typed, b"q=" + b"a" * 200_000)) == 413
    assert status(http_api_event("POST", "/search", typed, b"q=%ff")) == 400
    assert status(http_api_event("POST", "/search", typed, b"\xff")) == 400
    assert status(http_api_event("POST", "/search", [], b"q=a")) == 415
    assert status(http_api_event("POST", "/search", [("Content-Type", "application/json")], b'{"q": "a"}')) == 415
    assert status(http_api_event("POST", "/search", [], b"")) == 200
    assert status(http_api_event("POST", "/search", typed, b"") | {"body": "*", "isBase64Encoded": True}) == 400


@pytest.mark.parametrize(
    "text", ["x" * 6_000_001, '"' * 1_600_000, "\\" * 1_600_000, "\n" * 2_000_001, "x" * 1_000_000 + '"' * 1_300_000]
)
def test_an_answer_that_lambda_could_not_send_is_refused(text: str) -> None:
    answer = ask(api_of(Found(1, [Hit("DEN", {"name": text})])))

    assert (answer.status, answer.json["parameter"]) == (400, "size")


@pytest.mark.parametrize("text", ["x" * 5_900_000, '"' * 1_400_000, "\n" * 1_900_000, "\N{SNOWMAN}" * 900_000])
def test_an_answer_that_is_sent_is_one_that_lambda_can_send(text: str) -> None:
    answer = api_of(Found(1, [Hit("DEN", {"name": text})]))(http_api_event("GET", "/search", [], b""))

    assert answer["statusCode"] == 200
    # As Lambda's runtimes write it: the old ones in ASCII.
    assert len(json.dumps(answer, ensure_ascii=sys.version_info < (3, 12)).encode()) <= 6 * 1024 * 1024


@pytest.mark.parametrize(
    ("left", "seconds"),
    # Half a second is kept to answer with, and half a second the index has in any case.
    [(None, 5.0), (60.0, 5.0), (3.0, 2.5), (0.75, 0.5), (0.0, 0.5)],
)
def test_the_index_has_until_the_functions_own_time_out_less_what_an_answer_takes(
    left: float | None, seconds: float
) -> None:
    class Context:
        def get_remaining_time_in_millis(self) -> float:
            assert left is not None
            return left * 1000

    class Timed(Answering):
        def search(self, query: Query, deadline: float) -> Found:
            self.given = deadline, time.monotonic()
            return super().search(query, deadline)

    index, began = Timed(), time.monotonic()
    ask(SearchApi(FIELDS, index, timeout=5.0), context=None if left is None else Context())

    deadline, asked = index.given
    assert began + seconds <= deadline <= asked + seconds


def test_an_error_of_the_code_is_a_500_that_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "streamkit"):
        answer = ask(api_of(RuntimeError("the password is swordfish")), q="secret")

    assert (answer.status, answer.json) == (500, {"error": "an error of this service's own"})
    assert "RuntimeError" in caplog.text
    assert "secret" not in caplog.text.replace("swordfish", "")


# Caches


def test_an_answer_that_is_the_same_is_304() -> None:
    first = ask(api_of(), q="a")
    tag = first.headers["ETag"]

    for given in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = ask(api_of(), q="a", headers={"If-None-Match": given})
        assert (again.status, again.body, again.headers["ETag"]) == (304, "", tag)
        assert again.headers["Cache-Control"] == "no-cache"
    assert ask(api_of(), headers={"If-None-Match": '"x"'}).status == 200
    other = ask(api_of(Found(2, [Hit("DEN", {}), Hit("APA", {})])), headers={"If-None-Match": tag})
    assert other.status == 200


def test_what_changes_with_each_request_is_in_no_body() -> None:
    slow, fast = ask(api_of(Found(milliseconds=12))), ask(api_of(Found(milliseconds=3)))

    assert slow.headers["ETag"] == fast.headers["ETag"]
    assert slow.headers["Server-Timing"] == "index;dur=12"


def test_answers_may_be_kept_so_long_and_errors_never() -> None:
    api = api_of(cache_seconds=60)

    assert ask(api).headers["Cache-Control"] == "max-age=60"
    assert ask(api, "/openapi.json").headers["Cache-Control"] == "max-age=60"
    assert ask(api, "/health").headers["Cache-Control"] == "no-store"
    assert ask(api, x="y").headers["Cache-Control"] == "no-store"


def test_head_has_the_headers_alone() -> None:
    get, head = ask(api_of()), ask(api_of(), method="HEAD")

    assert (head.status, head.body) == (200, "")
    assert head.headers == get.headers


# CORS

PAGE = "https://www.example.com"


@pytest.mark.parametrize("origins", [["*"], [PAGE, "http://localhost:3000"]])
def test_pages_that_may_read_are_told_so_of_errors_too(origins: list[str]) -> None:
    api = api_of(cors=Cors(origins))
    for parameters in ({}, {"x": "y"}):
        headers = ask(api, headers={"Origin": PAGE}, **parameters).headers
        assert headers["Access-Control-Allow-Origin"] == ("*" if origins == ["*"] else PAGE)
        assert headers.get("Vary") == (None if origins == ["*"] else "Origin")


def test_pages_that_may_not_read_are_told_nothing() -> None:
    for cors in (Cors(), Cors([PAGE])):
        for origin in (f"{PAGE}.evil.com", "https://example.com", "null", PAGE.upper(), f"{PAGE}:444"):
            headers = ask(api_of(cors=cors), headers={"Origin": origin}).headers
            assert not [name for name in headers if name.startswith("Access-Control")]
    assert ask(api_of(cors=Cors([PAGE]))).headers["Vary"] == "Origin", "for a cache that has it already"


def test_a_preflight_is_answered_with_what_may_be_asked() -> None:
    api = api_of(cors=Cors([PAGE], max_age=60))
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}

    answer = ask(api, method="OPTIONS", headers=asked)

    assert (answer.status, answer.body) == (204, "")
    assert answer.headers["Access-Control-Allow-Methods"] == "GET, POST, HEAD, OPTIONS"
    allowed = answer.headers["Access-Control-Allow-Headers"].split(", ")
    assert {"Content-Type", "If-None-Match"} < set(allowed)
    assert {"Authorization", "X-Amz-Date", "X-Amz-Security-Token"} < set(allowed), "who signs has these"
    assert answer.headers["Access-Control-Max-Age"] == "60"
    other = ask(api, method="OPTIONS", headers=asked | {"Origin": "https://evil.com"})
    assert "Access-Control-Allow-Methods" not in other.headers
    plain = ask(api, method="OPTIONS")
    assert (plain.status, plain.headers["Allow"]) == (204, "GET, POST, HEAD, OPTIONS")


@pytest.mark.parametrize(
    "origins",
    [["example.com"], ["https://example.com/"], ["https://Example.com"], ["*", PAGE], ["https://*.example.com"]],
)
def test_an_origin_that_no_browser_sends_is_an_error(origins: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="origin"):
        Cors(origins)


# What is declared


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({}, "there are no fields"),
        ({"Iata!": "literal"}, "Iata!"),
        ({"score": "int"}, "score"),
        ({"a": "string"}, "'string'"),
        ({"a": "latlon-array"}, "latlon-array"),
        ({"a": {"kind": "text"}}, "needs a type"),
        ({"a": {"type": "text", "facets": True}}, "'facets'"),
        ({"a": {"type": "text", "facet": True}}, "has no facet"),
        ({"a": {"type": "int-array", "sort": True}}, "has no sort"),
        ({"a": {"type": "int", "facet": "yes"}}, "true or false"),
        ({f"t{n}": "text" for n in range(11)}, "at most 10"),
    ],
)
def test_fields_that_can_not_be_are_errors_that_name_them(declared: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Fields(declared)


def test_an_api_of_few_options_takes_few_parameters() -> None:
    fields = Fields({"n": {"type": "int", "filter": False, "sort": False, "return": False}})
    api = SearchApi(fields, Answering(), limits=Limits(hits=1, default_hits=1))

    assert ask(api, x="y").json["error"].endswith("there are sort, start, size, cursor")
    assert json.loads(ask(api, "/openapi.json").body)["openapi"] == "3.0.3"

"""The same requests, the same answers, whichever index is behind the API: CloudSearch's stand-in and OpenSearch's."""

from __future__ import annotations

from typing import Any

import pytest

from streamkit.search.api import SearchApi

from .airports import AIRPORTS, ask

EVERY = sorted(one["iata"] for one in AIRPORTS)


def found(api: SearchApi, **parameters: Any) -> set[str]:
    return set(ask(api, **parameters).ids)


def test_without_a_question_everything_is_found_in_the_order_of_ids(api: SearchApi) -> None:
    answer = ask(api)

    assert answer.ids == EVERY
    assert answer.json["found"] == len(EVERY)
    assert answer.json["facets"] == {}
    assert answer.json["cursor"] is None


@pytest.mark.parametrize(
    ("q", "wanted"),
    [
        ("denver", {"DEN", "APA"}),
        ("DENVER", {"DEN", "APA"}),
        # Each word in any field.
        ("centennial englewood", {"APA"}),
        ("denver chicago", set()),
        ('"near denver"', {"APA"}),
        ('"denver near"', set()),
        ('"near denver', {"APA"}),
        ("intl -denver", {"ORD", "JFK", "NAN", "APW"}),
        ("-intl", {"APA", "DWH"}),
        ('-"denver intl" -"o\'hare"', set(EVERY) - {"DEN", "ORD"}),
        ("ken*", {"JFK"}),
        ("KEN* john", {"JFK"}),
        ("-den*", set(EVERY) - {"DEN", "APA"}),
        ("o'hare", {"ORD"}),
        ("nothing", set()),
        ("!!! ???", set()),
        ("denver !!!", {"DEN", "APA"}),
        ("  ", set(EVERY)),
        ("\x00denver\x07", {"DEN", "APA"}),
    ],
)
def test_words_phrases_beginnings_and_exclusions(api: SearchApi, q: str, wanted: set[str]) -> None:
    assert found(api, q=q) == wanted


@pytest.mark.parametrize(
    "q",
    [
        "x') (or matchall",
        "' matchall '",
        "\\') matchall (or '",
        "\\\\' matchall",
        "(matchall)",
        "matchall",
        "name:denver",
        "name:'denver'",
        "_id:DEN",
        '{"match_all":{}}',
        "* OR *:*",
        "[* TO *]",
        "denver\\",
        "a~1 b^2 c?",
        "' OR 1=1 --",
        ") (not (term field=iata 'DEN'))",
    ],
)
def test_nothing_of_a_question_is_syntax(api: SearchApi, q: str) -> None:
    for name in ("q", "filter__state", "filter__name"):
        parameters: dict[str, Any] = {name: q}
        answer = ask(api, **parameters)
        assert answer.status == 200, answer.body
        assert answer.json["found"] in (0, *([2] if q == "denver\\" else []))


def test_a_literal_with_signs_of_the_syntax_is_found_by_itself(api: SearchApi) -> None:
    assert found(api, filter__name="Memorial \\ field") == {"DWH"}
    assert found(api, q="o'hare chicago") == {"ORD"}


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({"filter__state": "CO"}, {"DEN", "APA"}),
        ({"filter__state": ["CO", "NY"]}, {"DEN", "APA", "JFK"}),
        ({"filter__state": "co"}, set()),
        ({"filter__state": ""}, set()),
        ({"filter__state": "C\x00"}, set()),
        ({"filter__tags": ["east", "west"]}, {"DEN", "APA", "JFK"}),
        ({"filter__city": "new york"}, {"JFK"}),
        ({"filter__city": "york new"}, set()),
        ({"filter__elevation": "13"}, {"JFK"}),
        ({"filter__score_of_five": "4.5"}, {"DEN"}),
        ({"filter__opened": "1995-02-28T13:00:00+01:00"}, {"DEN"}),
        ({"min__elevation": "5885"}, {"APA"}),
        ({"max__elevation": "13"}, {"JFK"}),
        ({"min__elevation": "59", "max__elevation": "668"}, {"NAN", "DWH", "ORD"}),
        ({"min__elevation": "-9223372036854775808"}, set(EVERY)),
        ({"min__elevation": "600", "max__elevation": "500"}, set()),
        ({"max__score_of_five": "3.25"}, {"APA", "ORD"}),
        ({"min__score_of_five": "-1e300"}, {"DEN", "APA", "ORD"}),
        ({"max__opened": "1950-01-01T00:00:00Z"}, {"ORD"}),
        ({"min__opened": "1968-05-12T00:00:00.250Z", "max__opened": "1968-05-12T00:00:00.250Z"}, {"APA"}),
        ({"box__place": "41,-106,39,-104"}, {"DEN", "APA"}),
        ({"box__place": "0,170,-20,-170"}, {"NAN", "APW"}),
        ({"box__place": "39,-106,41,-104"}, set()),
        ({"box__place": "90,180,90,180"}, set()),
        ({"box__place": "90,-180,-90,180"}, {"DEN", "APA", "ORD", "JFK", "NAN", "APW"}),
        ({"filter__state": "CO", "filter__tags": "hub", "q": "denver"}, {"DEN"}),
    ],
)
def test_filters(api: SearchApi, parameters: dict[str, Any], wanted: set[str]) -> None:
    assert found(api, **parameters) == wanted


def test_facets_count_what_is_found(api: SearchApi) -> None:
    answer = ask(api, q="intl", facet="state,tags,elevation,opened", facet_size=2, size=0).json

    assert answer["hits"] == []
    assert answer["facets"]["state"] == [{"value": "CO", "count": 1}, {"value": "FJ", "count": 1}]
    assert answer["facets"]["tags"] == [{"value": "hub", "count": 3}, {"value": "east", "count": 1}]
    assert answer["facets"]["elevation"] == [{"value": 13, "count": 1}, {"value": 58, "count": 1}]
    assert {"value": "1995-02-28T12:00:00Z", "count": 1} in answer["facets"]["opened"]


def test_facets_of_nothing_are_empty(api: SearchApi) -> None:
    assert ask(api, q="!", facet="state").json["facets"] == {"state": []}
    assert ask(api, q="nothing", facet="state").json["facets"] == {"state": []}


@pytest.mark.parametrize(
    ("sort", "wanted"),
    [
        ("elevation", ["JFK", "APW", "NAN", "DWH", "ORD", "DEN", "APA"]),
        ("-elevation", ["APA", "DEN", "ORD", "DWH", "NAN", "APW", "JFK"]),
        ("state,-elevation", ["APA", "DEN", "NAN", "ORD", "JFK", "DWH", "APW"]),
        ("iata,-iata", EVERY),
    ],
)
def test_sorts(api: SearchApi, sort: str, wanted: list[str]) -> None:
    assert ask(api, sort=sort).ids == wanted


def test_the_best_come_first(api: SearchApi) -> None:
    assert ask(api, q="denver", sort="relevance").ids == ask(api, q="denver").ids
    assert ask(api, q="denver").ids[0] == "DEN", "it has the word twice, and is short"


def test_pages_by_start_and_size(api: SearchApi) -> None:
    pages = [ask(api, sort="iata", start=start, size=3) for start in (0, 3, 6, 9)]

    assert [one for page in pages for one in page.ids] == EVERY
    assert {page.json["found"] for page in pages} == {len(EVERY)}


@pytest.mark.parametrize("sort", ["iata", "-elevation", "opened", "relevance", "-opened,iata"])
def test_pages_by_cursor_show_each_once(api: SearchApi, sort: str) -> None:
    cursor: str | None = "initial"
    seen: list[str] = []
    while cursor is not None:
        page = ask(api, sort=sort, size=2, cursor=cursor)
        seen += page.ids
        cursor = page.json["cursor"]

    assert sorted(seen) == EVERY
    assert seen == ask(api, sort=sort).ids


def test_a_cursor_of_another_search_or_of_nobody_is_refused(api: SearchApi) -> None:
    cursor = ask(api, q="intl", sort="iata", size=1, cursor="initial").json["cursor"]

    assert ask(api, q="intl", sort="iata", size=2, cursor=cursor).ids == ["DEN", "JFK"]
    for parameters in (
        {"q": "denver", "sort": "iata", "cursor": cursor},
        {"q": "intl", "sort": "-iata", "cursor": cursor},
        {"q": "intl", "sort": "iata", "cursor": cursor[:-8]},
        {"cursor": "bm9uZQ"},
        {"cursor": ""},
        {"cursor": "initial", "start": 1},
        {"cursor": "initial", "size": 0},
        {"cursor": "é"},
        {"cursor": "A" * 5000},
    ):
        answer = ask(api, **parameters)
        assert (answer.status, answer.json["parameter"]) == (400, "cursor"), parameters


def test_a_cursor_that_is_made_up_is_refused_and_says_nothing_of_the_index(api: SearchApi) -> None:
    from streamkit.search.cursor import cursor_of
    from streamkit.search.query import Limits, query_of

    from .airports import FIELDS

    search = query_of({}, FIELDS, Limits()).search
    for position in ("no cursor", [], [1, 2, 3], ["a", "b"], [{"a": 1}], [10**30, "x"]):
        answer = ask(api, cursor=cursor_of(search, position))  # type: ignore[arg-type]  # A stranger's.
        assert answer.status == 400 or answer.ids is not None
        assert "reason" not in answer.body


def test_highlights_are_html_in_which_only_what_was_found_is_marked(api: SearchApi) -> None:
    (hit,) = ask(api, q="kennedy", highlight="name,city").json["hits"]
    assert hit["highlights"] == {"name": "John F <em>Kennedy</em> &lt;Intl&gt; &amp; co"}

    hits = ask(api, q="denver", highlight="name,city", sort="iata").json["hits"]
    assert [hit["highlights"] for hit in hits] == [
        {"name": "Centennial, near <em>Denver</em>"},
        {"name": "<em>Denver</em> Intl", "city": "<em>Denver</em>"},
    ]


def test_values_have_the_types_that_were_declared(api: SearchApi) -> None:
    (hit,) = ask(api, filter__iata="DEN").json["hits"]

    assert hit == {
        "id": "DEN",
        "fields": {
            "iata": "DEN",
            "name": "Denver Intl",
            "city": "Denver",
            "state": "CO",
            "tags": ["hub", "west"],
            "elevation": 5431,
            "score_of_five": 4.5,
            "opened": "1995-02-28T12:00:00Z",
            "place": {"lat": 39.86, "lon": -104.67},
        },
        "highlights": {},
    }
    (hit,) = ask(api, filter__iata="APA", fields="opened,iata").json["hits"]
    assert hit["fields"] == {"iata": "APA", "opened": "1968-05-12T00:00:00.250Z"}


def test_suggestions_begin_as_the_text_does(api: SearchApi) -> None:
    assert ask(api, "/suggest", q="DEN").json == {"suggestions": [{"text": "Denver Intl", "id": "DEN"}]}
    assert ask(api, "/suggest", q="john f").json["suggestions"][0]["id"] == "JFK"
    assert [one["id"] for one in ask(api, "/suggest", q="d").json["suggestions"]] == ["DWH", "DEN"]
    assert [one["id"] for one in ask(api, "/suggest", q="d", size=1).json["suggestions"]] == ["DWH"]
    for q in ("intl", "*", "' matchall", "\x00", ""):
        assert ask(api, "/suggest", q=q).json == {"suggestions": []}


def test_a_form_asks_the_same_as_a_query_string(api: SearchApi) -> None:
    asked: dict[str, Any] = {"q": "denver", "filter.state": ["CO", "NY"], "facet": "state", "sort": "iata"}

    by_form = ask(api, method="POST", form=asked)

    assert by_form.json == ask(api, **asked).json
    assert by_form.ids == ["APA", "DEN"]

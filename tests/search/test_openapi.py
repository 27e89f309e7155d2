"""The API's description, and what a fuzzer that works by it finds: on real HTTP, in both forms of API Gateway's events."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from openapi_spec_validator import validate

from streamkit.local.gateway import Gateway
from streamkit.search.api import SearchApi
from streamkit.search.cloudsearch import CloudSearchIndex
from streamkit.search.opensearch import OpenSearchIndex

from .airports import FIELDS, ask
from .fuzzing import fuzz, without_cursor

if TYPE_CHECKING:
    from cloudsearch import CloudSearchServer


def test_the_description_is_openapi_and_is_served(api: SearchApi) -> None:
    validate(api.description())

    assert ask(api, "/openapi.json").json == api.description()
    assert sorted(api.description()["paths"]) == ["/health", "/openapi.json", "/search", "/suggest"]


def test_every_parameter_that_is_described_is_taken_and_every_one_that_is_taken_is_described(api: SearchApi) -> None:
    described = [one["name"] for one in api.description()["paths"]["/search"]["get"]["parameters"]]

    taken = ask(api, nobody="x").json["error"].partition("there are ")[2].split(", ")

    assert sorted(described) == sorted(taken)


def test_a_fuzzer_finds_nothing_over_cloudsearch(domain: CloudSearchServer) -> None:
    index = CloudSearchIndex(domain.endpoint, FIELDS, suggester="names")
    api = SearchApi(FIELDS, index)
    with Gateway(api, payload="2.0") as gateway:
        found, said = fuzz(gateway.endpoint, without_cursor(api.description()), examples=10)
    index.close()

    assert found == 0, said


def test_a_fuzzer_finds_nothing_over_opensearch_with_cursors_too(opensearch: str) -> None:
    index = OpenSearchIndex(opensearch, "airports", FIELDS, suggests_by="name.keyword")
    api = SearchApi(FIELDS, index)
    with Gateway(api, payload="1.0") as gateway:
        # A cursor that is made up is right by the description, and refused.
        found, said = fuzz(gateway.endpoint, api.description(), examples=5, exclude="positive_data_acceptance")
    index.close()

    assert found == 0, said


def _fails(event: Any, answer: dict[str, Any]) -> dict[str, Any]:
    """An error of the code, for one field."""
    return {**answer, "statusCode": 500} if "filter.state" in str(event) else answer


def _takes_anything(event: Any, answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "statusCode": 200, "body": '{"found":0,"hits":[],"facets":{},"cursor":null}'}


def _has_another_shape(event: Any, answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "body": answer["body"].replace('"found"', '"count"')}


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (_fails, "Server error"),
        (_takes_anything, "Schema-violating request accepted"),
        (_has_another_shape, "Response violates schema"),
    ],
)
def test_a_fuzzer_finds_a_fault_that_is_planted(
    opensearch: str, fault: Callable[[Any, dict[str, Any]], dict[str, Any]], says: str
) -> None:
    index = OpenSearchIndex(opensearch, "airports", FIELDS)
    api = SearchApi(FIELDS, index)
    only = without_cursor(api.description())
    only["paths"] = {"/search": {"get": only["paths"]["/search"]["get"]}}
    with Gateway(lambda event, context: fault(event, api(event, context))) as gateway:
        found, said = fuzz(gateway.endpoint, only, examples=5, phases="fuzzing")
    index.close()

    assert found == 1
    assert says in said


# The server that it is run against


@pytest.mark.parametrize("payload", ["2.0", "1.0"])
def test_over_http_headers_and_statuses_are_those_of_the_function(opensearch: str, payload: Any) -> None:
    index = OpenSearchIndex(opensearch, "airports", FIELDS)
    with Gateway(SearchApi(FIELDS, index), payload=payload) as gateway:
        with urllib.request.urlopen(
            f"{gateway.endpoint}/search?q=denver&filter.state=CO&filter.state=NY&sort=iata"
        ) as answer:
            tag, hits = answer.headers["ETag"], json.load(answer)["hits"]
        again = urllib.request.Request(
            f"{gateway.endpoint}/search?q=denver&filter.state=CO&filter.state=NY&sort=iata",
            headers={"If-None-Match": tag},
        )
        with pytest.raises(urllib.error.HTTPError, match="304"):
            urllib.request.urlopen(again)
    index.close()

    assert [hit["id"] for hit in hits] == ["APA", "DEN"]


def test_a_function_that_fails_is_a_502_as_api_gateway_has_it() -> None:
    def fails(event: Any, context: Any) -> Any:
        raise RuntimeError("no")

    with Gateway(fails) as gateway, pytest.raises(urllib.error.HTTPError, match="502"):
        urllib.request.urlopen(gateway.endpoint)

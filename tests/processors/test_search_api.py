"""processors.search_api: an API that the environment sets up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from processors.search_api import _Handler
from streamkit.errors import ConfigurationError
from tests.search.airports import AIRPORTS, DECLARED, ask, fill_opensearch

ROOT = Path(__file__).resolve().parents[2]
VARIABLES = (
    *("SEARCH_ENDPOINT", "FIELDS", "BACKEND", "SEARCH_INDEX", "SUGGEST", "TIE_BREAK", "CORS_ORIGINS", "CACHE_SECONDS"),
    *("MOST_HITS", "TIMEOUT_SECONDS", "BASE_PATH", "TITLE"),
)


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "nobody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture
def handler() -> Iterator[_Handler]:
    made = _Handler()
    yield made
    made.close()


@pytest.fixture(scope="module")
def opensearch() -> Iterator[str]:
    from local_opensearch import opensearch_server

    with opensearch_server() as server:
        fill_opensearch(server.endpoint)
        yield server.endpoint


def set_up(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_cloudsearch_is_asked_by_default(
    handler: _Handler, cloudsearch_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, SEARCH_ENDPOINT=cloudsearch_endpoint, FIELDS='{"iata": "literal", "name": "text"}')

    answer = ask(handler, q="nobody-has-this-name")

    assert (answer.status, answer.json["hits"]) == (200, [])
    assert ask(handler, "/suggest", q="a").status == 404


def test_every_variable_is_read(handler: _Handler, opensearch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(
        monkeypatch,
        SEARCH_ENDPOINT=opensearch,
        FIELDS=json.dumps(DECLARED),
        BACKEND="opensearch",
        SEARCH_INDEX="airports",
        SUGGEST="name.keyword",
        TIE_BREAK="iata",
        CORS_ORIGINS="https://a.example, https://b.example",
        CACHE_SECONDS="30",
        MOST_HITS="2",
        BASE_PATH="/airports",
        TITLE="Airports",
    )

    answer = ask(handler, "/airports/search", headers={"Origin": "https://b.example"}, sort="-iata", cursor="initial")

    assert answer.ids == ["ORD", "NAN"]
    assert answer.headers["Cache-Control"] == "max-age=30"
    assert answer.headers["Access-Control-Allow-Origin"] == "https://b.example"
    assert ask(handler, "/airports/search", size=3).status == 400
    assert ask(handler, "/airports/suggest", q="denv").json["suggestions"][0]["id"] == "DEN"
    assert ask(handler, "/airports/openapi.json").json["info"]["title"] == "Airports"
    assert len(AIRPORTS) > 2


GOOD = {"SEARCH_ENDPOINT": "https://search-a-b.us-east-1.cloudsearch.amazonaws.com", "FIELDS": '{"name": "text"}'}


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"FIELDS": ""}, "FIELDS is not set"),
        ({"FIELDS": "name"}, "FIELDS holds fields in JSON"),
        ({"FIELDS": '{"name": "txt"}'}, "FIELDS: the field name has the type 'txt'"),
        ({"SEARCH_ENDPOINT": ""}, "SEARCH_ENDPOINT is not set"),
        (
            {"SEARCH_ENDPOINT": "doc-a-b.us-east-1.cloudsearch.amazonaws.com"},
            "SEARCH_ENDPOINT, FIELDS or SUGGEST: .* the one for documents",
        ),
        ({"SEARCH_ENDPOINT": "https://user:pw@host/"}, "SEARCH_ENDPOINT, .* without credentials"),
        ({"BACKEND": "solr"}, "BACKEND is cloudsearch or opensearch"),
        ({"BACKEND": "opensearch"}, "SEARCH_INDEX is not set"),
        ({"BACKEND": "opensearch", "SEARCH_INDEX": "a/_all"}, "SEARCH_INDEX, .* an index's name"),
        (
            {"BACKEND": "opensearch", "SEARCH_INDEX": "a", "SUGGEST": "a b"},
            "SUGGEST or TIE_BREAK: .* no field of the name 'a b'",
        ),
        ({"SUGGEST": "Names!"}, "SUGGEST: .* no suggester of the name 'Names!'"),
        ({"FIELDS": '{"Name": "text"}'}, "FIELDS or SUGGEST: .* no field of the name 'Name'"),
        ({"CACHE_SECONDS": "soon"}, "CACHE_SECONDS is a whole number, 0 or more; got 'soon'"),
        ({"MOST_HITS": "0"}, "MOST_HITS is a whole number, from 1 to 1,000; got '0'"),
        ({"MOST_HITS": "1001"}, "MOST_HITS is a whole number, from 1 to 1,000; got '1001'"),
        ({"TIMEOUT_SECONDS": "0"}, "TIMEOUT_SECONDS is a whole number, 1 or more; got '0'"),
        ({"BASE_PATH": "airports"}, "BASE_PATH='airports': base_path begins with a slash"),
        ({"CORS_ORIGINS": "example.com"}, "CORS_ORIGINS='example.com': an origin is"),
    ],
)
def test_a_variable_that_is_wrong_is_named(
    handler: _Handler, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], says: str
) -> None:
    set_up(monkeypatch, **(GOOD | variables))

    with pytest.raises(ConfigurationError, match=says) as caught:
        ask(handler)
    assert "user:pw" not in str(caught.value)


def test_pings_need_no_settings(handler: _Handler) -> None:
    assert handler({}) == {}
    assert handler({"streamkit": "warm"})["cold"] is False
    assert handler({"streamkit": "health"})["invocations"] == 3


def test_the_description_is_printed() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "processors.search_api"],
        env={**os.environ, **GOOD},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    assert json.loads(ran.stdout)["paths"].keys() == {"/search", "/health", "/openapi.json"}


def test_a_ping_imports_nothing_that_asks_an_index() -> None:
    code = """
import sys
import processors.search_api
processors.search_api.handler({})
print([one for one in ("boto3", "botocore", "urllib3", "http", "ssl", "urllib", "json") if one in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"


def test_it_is_set_up_by_the_variables_of_its_template() -> None:
    text = (ROOT / "deploy" / "search-api.yaml").read_text()
    variables = set(re.findall(r"^          ([A-Z_]+): ", text, re.MULTILINE))

    assert {"FIELDS", "BACKEND", "CORS_ORIGINS"} <= variables <= set(VARIABLES)

"""Airports in both indexes, and an API over each: what the tests of the search API share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import httpx

from streamkit.local.gateway import http_api_event
from streamkit.search.fields import Fields

__all__ = ["AIRPORTS", "DECLARED", "FIELDS", "KINDS", "MAPPINGS", "Asked", "ask", "fill_opensearch"]

DECLARED: dict[str, Any] = {
    "iata": "literal",
    "name": "text",
    "city": {"type": "text", "filter": True},
    "state": "literal",
    "tags": "literal-array",
    "elevation": {"type": "int", "facet": True},
    "score_of_five": "double",
    "opened": {"type": "date", "facet": True},
    "place": "latlon",
}
FIELDS = Fields(DECLARED)
#: The same, as the stand-in of CloudSearch is told; and as an OpenSearch index has them.
KINDS = {name: given if isinstance(given, str) else given["type"] for name, given in DECLARED.items()}
_TYPES = {"literal": "keyword", "int": "long", "latlon": "geo_point"}
MAPPINGS: dict[str, Any] = {
    name: {"type": _TYPES.get(kind.removesuffix("-array"), kind.removesuffix("-array"))} for name, kind in KINDS.items()
}
MAPPINGS["name"]["fields"] = {"keyword": {"type": "keyword"}}


def _airport(iata: str, name: str, city: str, state: str, elevation: int, **more: Any) -> dict[str, Any]:
    return {"iata": iata, "name": name, "city": city, "state": state, "elevation": elevation, **more}


AIRPORTS = [
    _airport(
        *("DEN", "Denver Intl", "Denver", "CO", 5431),
        tags=["hub", "west"],
        score_of_five=4.5,
        opened="1995-02-28T12:00:00Z",
        place="39.86,-104.67",
    ),
    _airport(
        *("APA", "Centennial, near Denver", "Englewood", "CO", 5885),
        tags=["west"],
        score_of_five=3.25,
        opened="1968-05-12T00:00:00.250Z",
        place="39.57,-104.85",
    ),
    _airport(
        *("ORD", "Chicago O'Hare Intl", "Chicago", "IL", 668),
        tags=["hub"],
        score_of_five=3.0,
        opened="1944-02-01T00:00:00Z",
        place="41.98,-87.9",
    ),
    _airport("JFK", "John F Kennedy <Intl> & co", "New York", "NY", 13, tags=["hub", "east"], place="40.64,-73.78"),
    _airport("NAN", "Nadi Intl", "Nadi", "FJ", 59, place="-17.75,177.44"),
    _airport("APW", "Faleolo Intl", "Apia", "WS", 58, place="-13.83,-172.01"),
    _airport("DWH", "David Wayne Hooks Memorial \\ field", "Houston", "TX", 152),
]


def fill_opensearch(endpoint: str, index: str = "airports", documents: Any = None) -> None:
    """Make the index, and put the documents into it."""
    with httpx.Client(base_url=endpoint) as client:
        client.put(f"/{index}", json={"mappings": {"dynamic": "strict", "properties": MAPPINGS}}).raise_for_status()
        for one in AIRPORTS if documents is None else documents:
            client.put(f"/{index}/_doc/{one['iata']}", json=one).raise_for_status()
        client.post(f"/{index}/_refresh").raise_for_status()


class Asked:
    """What an API has answered."""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.status: int = answer["statusCode"]
        self.headers: dict[str, str] = answer["headers"]
        self.body: str = answer["body"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def ids(self) -> list[str]:
        assert self.status == 200, self.body
        return [hit["id"] for hit in self.json["hits"]]


def ask(
    api: Any,
    path: str = "/search",
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    form: Any = None,
    context: Any = None,
    **parameters: Any,
) -> Asked:
    """Ask by an HTTP API's event. Of ``parameters`` two underscores are a dot."""
    query = urlencode({name.replace("__", "."): value for name, value in parameters.items()}, doseq=True)
    target = f"{path}?{query}" if query else path
    given = list((headers or {}).items())
    body = b""
    if form is not None:
        given.append(("Content-Type", "application/x-www-form-urlencoded"))
        body = urlencode(form, doseq=True).encode()
    return Asked(api(http_api_event(method, target, given, body), context))

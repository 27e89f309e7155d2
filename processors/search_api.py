"""Searches of an index, for web pages and programs: a function behind API Gateway. Deploy it with the handler
``processors.search_api.handler`` and ``deploy/search-api.yaml``. Set up by

    SEARCH_ENDPOINT    required: the domain's search endpoint (CloudSearch), or that of the domain or collection (OpenSearch)
    FIELDS             required, JSON: field → type, or an object: {"name": "text", "elevation": {"type": "int", "facet": true}}
    BACKEND            cloudsearch (the default) or opensearch
    SEARCH_INDEX       required with opensearch: the index
    SUGGEST            CloudSearch: a suggester; OpenSearch: a keyword field, such as name.keyword. Default: no /suggest
    TIE_BREAK          OpenSearch: a keyword that no two documents have the same of; default _id
    CORS_ORIGINS       origins with commas between, or *: the web pages that may read answers; default none
    CACHE_SECONDS      how long an answer may be kept without asking again; default 0
    MOST_HITS          hits of a page at most, 1 to 1000; default 100
    TIMEOUT_SECONDS    of the index, 1 or more; default 5
    BASE_PATH          what a domain of your own maps to the API, such as /airports; default none
    TITLE              the name in the description; default Search

They are read at the first request. ``python -m processors.search_api`` prints the API's description, OpenAPI 3.0, by the same
variables.
"""

from __future__ import annotations

import os
from typing import Any

from streamkit.aws import from_environment
from streamkit.errors import ConfigurationError
from streamkit.event import is_warm_up
from streamkit.health import health
from streamkit.search.api import Index, SearchApi
from streamkit.search.cors import Cors
from streamkit.search.fields import Fields
from streamkit.search.query import Limits
from streamkit.warm import Container, ping_of

from .settings import named, whole_number

__all__ = ["api_from_env", "handler"]

_OWNER = "processors.search_api"


def api_from_env() -> SearchApi:
    """The API that the environment describes; ConfigurationError names the variable that is wrong."""
    fields = Fields.of_json(from_environment("FIELDS", _OWNER, "the fields of the index, in JSON"), "FIELDS")
    index, most = _index(fields), whole_number("MOST_HITS", 100, least=1, most=1000)
    with named("CORS_ORIGINS"):
        cors = Cors([origin.strip() for origin in os.environ.get("CORS_ORIGINS", "").split(",") if origin.strip()])
    cache, timeout = whole_number("CACHE_SECONDS", 0, least=0), whole_number("TIMEOUT_SECONDS", 5, least=1)
    # All else that it is made of is sound by now.
    with named("BASE_PATH"):
        return SearchApi(
            fields,
            index,
            limits=Limits(hits=most, default_hits=min(10, most)),
            cors=cors,
            cache_seconds=cache,
            timeout=timeout,
            base_path=os.environ.get("BASE_PATH", ""),
            title=os.environ.get("TITLE") or "Search",
        )


def _index(fields: Fields) -> Index:
    endpoint = from_environment("SEARCH_ENDPOINT", _OWNER, "the endpoint that is searched")
    suggest = os.environ.get("SUGGEST") or None
    match os.environ.get("BACKEND") or "cloudsearch":
        case "cloudsearch":
            from streamkit.search.cloudsearch import CloudSearchIndex

            with named("SEARCH_ENDPOINT", "FIELDS", "SUGGEST"):
                return CloudSearchIndex(endpoint, fields, suggester=suggest)
        case "opensearch":
            from streamkit.search.opensearch import OpenSearchIndex

            index = from_environment("SEARCH_INDEX", _OWNER, "the index that is searched")
            tie_break = os.environ.get("TIE_BREAK") or "_id"
            with named("SEARCH_ENDPOINT", "SEARCH_INDEX", "SUGGEST", "TIE_BREAK"):
                return OpenSearchIndex(endpoint, index, fields, suggests_by=suggest, tie_break=tie_break)
        case other:
            raise ConfigurationError(f"the environment variable BACKEND is cloudsearch or opensearch; got {other!r}")


class _Handler:
    """Made when it is first asked: a warm-up ping, and an import, need no settings."""

    def __init__(self) -> None:
        self._api: SearchApi | None = None
        self._container = Container()

    def __call__(self, event: Any, context: Any = None) -> dict[str, Any]:
        self._container.invocations += 1
        if is_warm_up(event):
            return {}
        if (ping := ping_of(event)) is not None:
            if ping.build:
                self._api = self._api or api_from_env()
            ping.wait()
            return ping.answer(self._container) if ping.kind == "warm" else health(self._container, [])
        self._api = self._api or api_from_env()
        return self._api(event, context)

    def close(self) -> None:
        if self._api is not None:
            self._api.close()
            self._api = None


handler = _Handler()

if __name__ == "__main__":
    import json

    print(json.dumps(api_from_env().description(), indent=2))

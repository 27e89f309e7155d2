"""CloudSearch asked: one request a search, signed by boto3 with the credentials of the function's role.

The role needs ``cloudsearch:search`` on the domain, and ``cloudsearch:suggest`` for suggestions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import ConfigurationError, SinkError
from ..sinks.cloudsearch_domain import Endpoint, Passing, SearchRefused
from ..sinks.endpoint import url_of
from .cursor import bad_cursor
from .fields import Fields
from .found import Found, Hit, IndexBroken, IndexBusy, Suggested, buckets_of, fields_of, highlights_of
from .query import Prefix, Query
from .structured import parameters_of

__all__ = ["CloudSearchIndex"]

T = TypeVar("T")

_OWNER = "the search API"
_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SUGGESTER = re.compile(r"[a-z][a-z0-9_]{2,63}")


class CloudSearchIndex:
    """The domain whose search endpoint is ``endpoint``: a URL, or a host name as the console shows it.

    ``suggester`` is the name of the suggester that completes, None for none. ``client`` is a boto3 ``cloudsearchdomain`` client
    in place of the one that is made on first use.
    """

    def __init__(self, endpoint: str, fields: Fields, *, suggester: str | None = None, client: Any = None) -> None:
        for name in fields:
            if not _FIELD.fullmatch(name):
                raise ConfigurationError(f"CloudSearch has no field of the name {name!r}: a-z 0-9 _ only")
        if suggester is not None and not _SUGGESTER.fullmatch(suggester):
            raise ConfigurationError(f"CloudSearch has no suggester of the name {suggester!r}: 3 to 64 of a-z 0-9 _")
        example = "https://search-shop-abc123.us-east-1.cloudsearch.amazonaws.com"
        url = url_of(endpoint, _OWNER, f"a CloudSearch domain's search endpoint, such as {example}")
        if url.partition("://")[2].startswith("doc-"):
            raise ConfigurationError(f"{_OWNER} needs the domain's search endpoint: this is the one for documents")
        self._fields = fields
        self._suggester = suggester
        self._endpoint = Endpoint(lambda: url, client, owner=_OWNER)

    @property
    def suggests(self) -> bool:
        return self._suggester is not None

    def search(self, query: Query, deadline: float) -> Found:
        """Ask once. IndexBusy, IndexBroken; Refused for a cursor that the domain does not know."""
        if isinstance(query.position, list):
            raise bad_cursor()
        parameters = parameters_of(query, self._fields)
        try:
            answer = _asked(lambda: self._endpoint.search(deadline, **parameters), self._search_advice)
        except _NotTaken:
            if query.position is not None:
                raise bad_cursor() from None
            raise
        hits = _part(answer, "hits", "found")
        found = [
            Hit(
                hit["id"],
                fields_of(hit.get("fields", {}), query.returned, self._fields),
                highlights_of(hit.get("highlights", {})),
            )
            for hit in hits.get("hit", ())
        ]
        facets = {
            name: buckets_of(name, ((one["value"], one["count"]) for one in facet.get("buckets", ())), self._fields)
            for name, facet in answer.get("facets", {}).items()
        }
        position = hits.get("cursor") if query.is_paged and len(found) == query.size else None
        return Found(hits["found"], found, facets, position, answer.get("status", {}).get("timems", 0))

    def suggest(self, prefix: Prefix, deadline: float) -> list[Suggested]:
        """Ask once, as ``search``."""
        assert self._suggester is not None
        parameters = {"query": prefix.text, "suggester": self._suggester, "size": prefix.size}
        advice = f"has the domain a suggester {self._suggester!r}, which is what SUGGEST names?"
        answer = _asked(lambda: self._endpoint.suggest(deadline, **parameters), lambda refused: advice)
        return [
            Suggested(one["suggestion"], one["id"]) for one in _part(answer, "suggest", "found").get("suggestions", ())
        ]

    def close(self) -> None:
        self._endpoint.close()

    def _search_advice(self, refused: SearchRefused) -> str:
        named = refused.over(self._fields)
        if not named:
            return "has the domain the fields in FIELDS, of these types and options?"
        return f"it names {', '.join(map(repr, named))}: has the domain each as FIELDS has it, of its type and options?"


def _part(answer: dict[str, Any], name: str, needed: str) -> dict[str, Any]:
    """A part of an answer. IndexBusy where it is not there: boto3 takes JSON that broke off for an empty answer."""
    part = answer.get(name)
    if not isinstance(part, dict) or needed not in part:
        raise IndexBusy(f"CloudSearch's answer has no {name}", is_silent=False)
    return part


class _NotTaken(IndexBroken):
    """What was asked is not what the domain takes."""


def _asked(call: Callable[[], T], advice: Callable[[SearchRefused], str]) -> T:
    """What ``call`` returns; ``advice`` says what to look at where the domain does not take it."""
    try:
        return call()
    except Passing as error:
        raise IndexBusy(str(error), is_silent=error.is_silent) from error
    except SearchRefused as error:
        raise _NotTaken(f"{error}: {advice(error)}") from error
    except SinkError as error:
        raise IndexBroken(str(error)) from error

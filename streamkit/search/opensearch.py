"""OpenSearch asked: one request a search, signed for Amazon's hosts with the credentials of the function's role.

The role needs ``es:ESHttpPost`` on ``<domain>/<index>/_search``; of a Serverless collection, to read the index. The index
has a ``keyword`` for each literal, ``long``, ``double``, ``date``, ``geo_point`` and ``text`` for the others.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from ..errors import ConfigurationError, SinkError
from ..sinks.endpoint import url_of
from ..sinks.opensearch_http import Asking, Http, NoAnswer
from .cursor import bad_cursor, is_position
from .dsl import body_of, body_of_suggestions
from .fields import Fields
from .found import Found, Hit, IndexBroken, IndexBusy, Misfits, Suggested, buckets_of, fitting_of, highlights_of
from .query import Prefix, Query
from .values import shown

__all__ = ["OpenSearchIndex"]

_OWNER = "the search API"
_INDEX = re.compile(r'[^A-Z\s\\/*?"<>|,#:_+-][^A-Z\s\\/*?"<>|,#:]{0,254}')
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,127}")
_SHORTEST = 0.1


class OpenSearchIndex:
    """The index, or alias, ``index`` behind ``endpoint``, a URL or a host name.

    ``suggests_by`` is the keyword that is completed, such as ``name.keyword``; None for none. ``tie_break`` is what no two
    documents have the same of: ``_id``, or a keyword where the server does not sort by that. ``authorization``, ``service`` and
    ``region`` are as ``OpenSearchSink`` has them.
    """

    def __init__(
        self,
        endpoint: str,
        index: str,
        fields: Fields,
        *,
        suggests_by: str | None = None,
        tie_break: str = "_id",
        authorization: str | Callable[[], str] | None = None,
        service: Literal["es", "aoss"] | None = None,
        region: str | None = None,
    ) -> None:
        if not _INDEX.fullmatch(index):
            raise ConfigurationError(f"{_OWNER} needs an index's name, in lower case; got {index!r}")
        for name in (tie_break, *([suggests_by] if suggests_by else ())):
            if not _FIELD.fullmatch(name):
                raise ConfigurationError(f"an index has no field of the name {name!r}")
        self._fields = fields
        self._suggests_by = suggests_by
        self._tie_break = tie_break
        self._path = f"/{index}/_search"
        self._http: Asking = Http(
            url_of(endpoint, _OWNER, "OpenSearch's endpoint"),
            authorization=authorization,
            service=service,
            region=region,
            owner=_OWNER,
        )

    @property
    def suggests(self) -> bool:
        return self._suggests_by is not None

    def search(self, query: Query, deadline: float) -> Found:
        """Ask once. IndexBusy, IndexBroken; Refused for a cursor that is none of this search's."""
        body = body_of(query, self._fields, self._tie_break)
        if query.position is not None and not is_position(query.position, len(body["sort"])):
            raise bad_cursor()
        content = self._ask(body, deadline, is_cursor=query.position is not None)
        hits = content["hits"]
        found, misfits = self._hits(hits["hits"], query)
        facets = {
            name: buckets_of(
                name,
                ((one.get("key_as_string", one["key"]), one["doc_count"]) for one in facet["buckets"]),
                self._fields,
            )
            for name, facet in content.get("aggregations", {}).items()
        }
        position = hits["hits"][-1]["sort"] if query.is_paged and len(found) == query.size else None
        return Found(hits["total"]["value"], found, facets, position, content.get("took", 0), misfits)

    def suggest(self, prefix: Prefix, deadline: float) -> list[Suggested]:
        """Ask once, as ``search``."""
        assert self._suggests_by is not None
        # A keyword within a text field has its value from there.
        source = self._suggests_by.partition(".")[0]
        body = body_of_suggestions(prefix, self._suggests_by, source)
        content = self._ask(body, deadline, needed=f"{self._suggests_by!r}, which SUGGEST names, as a keyword")
        texts = [(_text(hit.get("_source", {}).get(source)), hit["_id"]) for hit in content["hits"]["hits"]]
        return [Suggested(text, doc_id) for text, doc_id in texts if text]

    def close(self) -> None:
        self._http.close()

    def _hits(self, raw: list[dict[str, Any]], query: Query) -> tuple[list[Hit], dict[str, Misfits]]:
        """The hits, and what is left out of them: OpenSearch gives back what a document was sent with, and its mapping may take
        several values of any field, and forms that are not read here. One document is not to cost all others on its page.
        """
        hits: list[Hit] = []
        misfits: dict[str, Misfits] = {}
        for one in raw:
            fields, wrong = fitting_of(one.get("_source", {}), query.returned, self._fields)
            highlights = {name: texts[0] for name, texts in one.get("highlight", {}).items()}
            hits.append(Hit(one["_id"], fields, highlights_of(highlights)))
            for name, why in wrong.items():
                if name in misfits:
                    misfits[name].count += 1
                else:
                    misfits[name] = Misfits(one["_id"], why)
        return hits, misfits

    def _ask(
        self,
        body: dict[str, Any],
        deadline: float,
        *,
        is_cursor: bool = False,
        needed: str = "the fields in FIELDS, of these types",
    ) -> dict[str, Any]:
        """The answer. ``needed`` is what the index has to have for it."""
        timeout = max(deadline - time.monotonic(), _SHORTEST)
        # Half an answer would be a wrong one: a shard that is missing is an error.
        parameters = {"allow_partial_search_results": "false"}
        try:
            answer = self._http.ask("POST", self._path, parameters, msgspec.json.encode(body), timeout)
        except NoAnswer as error:
            raise IndexBusy(str(error), is_silent=True) from error
        except SinkError as error:
            raise IndexBroken(str(error)) from error
        status, content = answer.status, answer.content
        if status == 200 and isinstance(content, dict) and "hits" in content:
            if content.get("timed_out") or content.get("_shards", {}).get("failed"):
                raise IndexBusy("OpenSearch answered with a part of the hits", is_silent=False)
            return content
        if status == 200:
            raise IndexBusy("OpenSearch's answer broke off, or is another server's", is_silent=False)
        if status in (408, 429) or status >= 500:
            raise IndexBusy(
                f"OpenSearch has too much to do, or is out of order (HTTP {status})", is_silent=status >= 502
            )
        if status == 400 and is_cursor:
            raise bad_cursor()
        said = f"HTTP {status}{_type_of(content)}"
        raise IndexBroken(f"OpenSearch did not take the search ({said}): {_advice(status, needed)}")


def _text(value: Any) -> str:
    """What a keyword was made of: of several the first. Empty where it is none."""
    values = value if isinstance(value, list) else [value]
    try:
        return str(shown("literal", values[0])) if values else ""
    except ValueError:
        return ""


def _type_of(content: Any) -> str:
    """The error's type, and nothing of what it says, which may quote the search."""
    error = content.get("error") if isinstance(content, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    return f", {kind}" if isinstance(kind, str) and re.fullmatch(r"[a-z_]{1,80}", kind) else ""


def _advice(status: int, needed: str) -> str:
    match status:
        case 401 | 403:
            return "allow its role es:ESHttpPost on the index's _search"
        case 404:
            return "is there an index of the name in SEARCH_INDEX?"
    return f"has the index {needed}?"

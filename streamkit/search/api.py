"""The function behind API Gateway: a request in, its query asked, an answer out.

    GET /search?q=denver&filter.state=CO&facet=state&sort=-elevation
    GET /suggest?q=den
    GET /health, GET /openapi.json

It answers in the time that it has. What the index or the code has to say goes into the log, and never into an answer.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import msgspec

from ..breaker import Breaker
from ..errors import ConfigurationError
from ..event import is_warm_up
from ..health import answer_to
from ..warm import Container
from .cors import Cors
from .cursor import cursor_of
from .fields import Fields
from .found import Found, IndexBroken, IndexBusy, Suggested
from .http import Request, Response, request_of
from .misfits import MisfitLog
from .openapi import described
from .query import Limits, Prefix, Query, prefix_of, query_of
from .refused import Refused

__all__ = ["Index", "SearchApi"]

log = logging.getLogger("streamkit")

T = TypeVar("T")

# Lambda's answers have 6 MB; some are left for headers.
_MOST_BYTES = 6_000_000
# Seconds: kept to answer with; the least that an index is given; how long a caller is to wait.
_MARGIN = 0.5
_SHORTEST = 0.5
_RETRY_AFTER = 2
_BREAK = 5
_JSON = "application/json; charset=utf-8"


class Index(Protocol):
    """What is searched: ``CloudSearchIndex``, ``OpenSearchIndex``, or one of your own."""

    @property
    def suggests(self) -> bool:
        """Whether there is a ``/suggest``."""

    def search(self, query: Query, deadline: float) -> Found:
        """Ask once, until ``deadline`` on ``time.monotonic()``'s clock. IndexBusy, IndexBroken, Refused."""

    def suggest(self, prefix: Prefix, deadline: float) -> list[Suggested]:
        """As ``search``."""

    def close(self) -> None:
        """Release what was made."""


class SearchApi:
    """A Lambda handler for API Gateway's HTTP APIs and function URLs (payload 2.0), and REST APIs (1.0).

        handler = SearchApi(fields, CloudSearchIndex("search-…", fields), cors=Cors(["https://www.example.com"]))

    ``cache_seconds``: how long browsers and proxies may keep an answer without asking again. 0: they keep it and ask each time,
    and an answer that is the same is a 304. ``timeout``: seconds that the index has for an answer, of which some are kept for a
    second try where the first one fails early. ``base_path`` is what a domain of your own maps to the API.
    """

    def __init__(
        self,
        fields: Fields,
        index: Index,
        *,
        limits: Limits | None = None,
        cors: Cors | None = None,
        cache_seconds: int = 0,
        timeout: float = 5.0,
        base_path: str = "",
        title: str = "Search",
    ) -> None:
        if cache_seconds < 0 or timeout <= 0:
            raise ConfigurationError(
                f"cache_seconds are 0 or more, and timeout is more than 0; got {cache_seconds!r} and {timeout!r}"
            )
        if base_path and not base_path.startswith("/"):
            raise ConfigurationError(f"base_path begins with a slash, such as /airports; got {base_path!r}")
        self._fields = fields
        self._index = index
        self._limits = limits or Limits()
        self._cors = cors or Cors()
        self._cache = f"max-age={cache_seconds}" if cache_seconds else "no-cache"
        self._timeout = timeout
        self._base_path = base_path
        self._title = title
        self._breaker = Breaker("the search index")
        self._misfits = MisfitLog()
        self._container = Container()
        # API Gateway asks for HEAD as for GET; what has no body is taken off below.
        self._routes: dict[str, dict[str, Callable[[Request, float, Any], Response]]] = {
            "/search": {"GET": self._search, "POST": self._search},
            "/health": {"GET": self._health},
            "/openapi.json": {"GET": self._describe},
        }
        if index.suggests:
            self._routes["/suggest"] = {"GET": self._suggest}

    def __call__(self, event: Any, context: Any = None) -> dict[str, Any]:
        """The answer to one event; to a warm-up ping an empty one, and to streamkit's own what that asks for. StreamkitError for
        what is neither.
        """
        if is_warm_up(event):
            return {}
        if (answer := answer_to(event, self._container)) is not None:
            return answer
        request = request_of(event, self._base_path)
        remaining: Callable[[], float] | None = getattr(context, "get_remaining_time_in_millis", None)
        seconds = self._timeout if remaining is None else min(self._timeout, remaining() / 1000 - _MARGIN)
        return self.respond(request, time.monotonic() + max(seconds, _SHORTEST), context).event()

    def respond(self, request: Request, deadline: float, context: Any = None) -> Response:
        """The answer to one request, whatever it is and whatever happens. ``context`` is Lambda's."""
        try:
            response = self._routed(request, deadline, context)
        except Refused as refused:
            response = _error(refused)
        except IndexBusy as error:
            log.warning("the search index does not answer: %s", error)
            response = _error(_later(_RETRY_AFTER))
        except IndexBroken as error:
            log.error("the search index can't be asked: %s", error)
            response = _error(Refused(502, "the index can't be searched as it is set up; its owner has to look"))
        except Exception as error:  # A caller gets an answer that says nothing, and the log the rest.
            log.exception("a request failed by an error of the function: %s", type(error).__name__)
            response = _error(Refused(500, "an error of this service's own"))
        response.headers |= self._cors.headers(request.headers.get("origin"))
        response.headers |= {"X-Content-Type-Options": "nosniff"}
        if request.method == "HEAD":
            response.body = b""
        return response

    def description(self) -> dict[str, Any]:
        """OpenAPI's document of this API."""
        return described(self._fields, self._limits, title=self._title, suggests=self._index.suggests)

    def close(self) -> None:
        self._index.close()

    def _routed(self, request: Request, deadline: float, context: Any) -> Response:
        methods = self._routes.get(request.path)
        if methods is None:
            raise Refused(404, f"there is nothing here; there are {', '.join(self._routes)}")
        allowed = ", ".join([*methods, "HEAD", "OPTIONS"])
        if request.method == "OPTIONS":
            return Response(204, {"Allow": allowed, **self._preflight(request, allowed)})
        answer = methods.get("GET" if request.method == "HEAD" else request.method)
        if answer is None:
            raise Refused(405, f"{request.path} takes {allowed}", headers={"Allow": allowed})
        return answer(request, deadline, context)

    def _preflight(self, request: Request, allowed: str) -> dict[str, str]:
        if "access-control-request-method" not in request.headers:
            return {}
        return self._cors.preflight(request.headers.get("origin"), allowed)

    def _search(self, request: Request, deadline: float, context: Any) -> Response:
        query = query_of(request.parameters(), self._fields, self._limits)
        found = Found() if query.is_empty else self._asked(lambda: self._index.search(query, deadline), deadline)
        if found.misfits:
            self._misfits.tell(found.misfits, context)
        cursor = None if found.position is None else cursor_of(query.search, found.position)
        shown = {
            "found": found.found,
            "hits": found.hits,
            "facets": {name: found.facets.get(name, []) for name in query.facets},
            "cursor": cursor,
        }
        return self._answer(request, shown, found.milliseconds)

    def _suggest(self, request: Request, deadline: float, context: Any) -> Response:
        prefix = prefix_of(request.parameters(), self._limits)
        found = [] if prefix.is_empty else self._asked(lambda: self._index.suggest(prefix, deadline), deadline)
        return self._answer(request, {"suggestions": found})

    def _health(self, request: Request, deadline: float, context: Any) -> Response:
        _no_parameters(request)
        return Response(200, {"Content-Type": _JSON, "Cache-Control": "no-store"}, b'{"status":"ok"}')

    def _describe(self, request: Request, deadline: float, context: Any) -> Response:
        _no_parameters(request)
        return self._answer(request, self.description())

    def _asked(self, ask: Callable[[], T], deadline: float) -> T:
        """What the index answers, at the first try or the second. IndexBusy where it has not answered lately, too."""
        refusal = self._breaker.refusal(time.monotonic())
        if refusal is not None:
            raise _later(_BREAK) from refusal
        try:
            answer = self._once(ask)
        except IndexBusy:
            if deadline - time.monotonic() < _SHORTEST or self._breaker.is_open:
                raise
            # A connection that was lost while the container slept, or a server that was just leaving: reading twice harms nobody.
            answer = self._once(ask)
        return answer

    def _once(self, ask: Callable[[], T]) -> T:
        try:
            answer = ask()
        except IndexBusy as error:
            if error.is_silent:
                self._breaker.failed(str(error), time.monotonic())
            else:
                self._breaker.answered()
            raise
        self._breaker.answered()
        return answer

    def _answer(self, request: Request, content: Mapping[str, Any], milliseconds: int | None = None) -> Response:
        """The content, with what caches need; 304 without it where the caller has it already."""
        import hashlib

        body = msgspec.json.encode(content)
        if _sent_bytes(body) > _MOST_BYTES:
            raise Refused(
                400, "the answer would be larger than an answer may be: ask for fewer hits, or fewer fields", "size"
            )
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": self._cache}
        if milliseconds is not None:
            headers["Server-Timing"] = f"index;dur={milliseconds}"
        if request.method in ("GET", "HEAD") and _has(tag, request.headers.get("if-none-match", "")):
            return Response(304, headers)
        return Response(200, {"Content-Type": _JSON, **headers}, body)


def _sent_bytes(body: bytes) -> int:
    """How many bytes Lambda makes of a body, which it sends as a text in JSON; of a small one, its own."""
    # A quote or a backslash becomes two bytes. Before Python 3.12, Lambda's runtime writes ASCII, six bytes for two of UTF-8.
    if 3 * len(body) <= _MOST_BYTES:
        return len(body)
    # Rare: no cold start pays for it.
    import json

    return len(json.dumps(body.decode(), ensure_ascii=sys.version_info < (3, 12)).encode())


def _no_parameters(request: Request) -> None:
    for name in request.parameters():
        raise Refused(400, "this path takes no parameters", name[:100])


def _later(seconds: int) -> Refused:
    return Refused(503, "the index does not answer now; ask again later", headers={"Retry-After": str(seconds)})


def _has(tag: str, given: str) -> bool:
    """Whether If-None-Match has it; a cache may have made it a weak one."""
    tags = [one.strip().removeprefix("W/") for one in given.split(",")]
    return tag in tags or "*" in tags


def _error(refused: Refused) -> Response:
    content = {"error": str(refused)} | ({} if refused.parameter is None else {"parameter": refused.parameter})
    headers = {"Content-Type": _JSON, "Cache-Control": "no-store", **refused.headers}
    return Response(refused.status, headers, msgspec.json.encode(content))

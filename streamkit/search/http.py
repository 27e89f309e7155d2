"""API Gateway's events and answers: of HTTP APIs and function URLs (payload 2.0), and of REST APIs (1.0)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import msgspec

from ..errors import StreamkitError
from .refused import Refused

__all__ = ["MOST_BODY", "MOST_QUERY", "Request", "Response", "request_of"]

#: Bytes of a query string, and of a form. API Gateway takes 10,240 of all headers and the request line together.
MOST_QUERY = 8_192
MOST_BODY = 16_384
_MOST_PARAMETERS = 200
_FORM = "application/x-www-form-urlencoded"


class Request(msgspec.Struct):
    """``path`` is without the stage; ``headers`` have names in lower case. ``query`` is a query string as it came, or, of a REST
    API, its parameters as API Gateway has read them.
    """

    version: str
    method: str
    path: str
    query: str | list[tuple[str, str]]
    headers: dict[str, str]
    body: str
    is_base64: bool

    def parameters(self) -> dict[str, list[str]]:
        """The parameters of the query string; of a POST those of its form too. Refused where they can't be read."""
        if isinstance(self.query, str):
            pairs = _pairs(self.query, MOST_QUERY, 414, "the query string")
        else:
            pairs = self.query
            if sum(len(name) + len(value) for name, value in pairs) > MOST_QUERY or len(pairs) > _MOST_PARAMETERS:
                raise Refused(414, f"the query string may have {MOST_QUERY:,} bytes and {_MOST_PARAMETERS} parameters")
        if self.method == "POST":
            pairs = [*pairs, *_pairs(self._form(), MOST_BODY, 413, "the body")]
        found: dict[str, list[str]] = {}
        for name, value in pairs:
            if not _is_utf8(name + value):
                raise Refused(400, "a parameter is no UTF-8")
            found.setdefault(name, []).append(value)
        return found

    def _form(self) -> str:
        if not self.body:
            return ""
        if len(self.body) > MOST_BODY * 4 // 3 + 4:
            raise Refused(413, f"the body may have {MOST_BODY:,} bytes")
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != _FORM:
            raise Refused(415, f"the body is a form, as {_FORM}: the same parameters as in a query string")
        if not self.is_base64:
            return self.body
        try:
            return base64.b64decode(self.body, validate=True).decode()
        except (binascii.Error, ValueError):
            raise Refused(400, "the body can't be read") from None


class Response(msgspec.Struct):
    status: int
    headers: dict[str, str] = {}
    body: bytes = b""

    def event(self) -> dict[str, Any]:
        """What API Gateway takes for an answer, of either kind of API."""
        answer = {"statusCode": self.status, "headers": self.headers, "isBase64Encoded": False}
        return {**answer, "body": self.body.decode()}


def request_of(event: Any, base_path: str = "") -> Request:
    """The request in an event. StreamkitError for any other event.

    ``base_path`` is what a domain of one's own maps to the API, such as ``/airports``: it is cut off.
    """
    if not isinstance(event, Mapping):
        raise _no_request()
    context = event.get("requestContext")
    context = context if isinstance(context, Mapping) else {}
    http = context.get("http")
    if event.get("version") == "2.0" and isinstance(http, Mapping):
        version, method, path = "2.0", http.get("method"), event.get("rawPath")
        stage = context.get("stage")
        # An HTTP API's path has its stage, but for the one that has no name.
        if isinstance(path, str) and isinstance(stage, str) and stage != "$default":
            path = _without(path, f"/{stage}")
        query: str | list[tuple[str, str]] = event.get("rawQueryString") or ""
        if not isinstance(query, str):
            raise _no_request()
    else:
        version, method, path = "1.0", event.get("httpMethod"), event.get("path")
        query = _several(event.get("multiValueQueryStringParameters")) or _single(event.get("queryStringParameters"))
    body = event.get("body") or ""
    if not isinstance(method, str) or not isinstance(path, str) or not isinstance(body, str):
        raise _no_request()
    headers = {
        name.lower(): value for name, value in (*_last(event.get("multiValueHeaders")), *_single(event.get("headers")))
    }
    path = _without(path, base_path.rstrip("/")) if base_path else path
    return Request(version, method.upper(), path, query, headers, body, event.get("isBase64Encoded") is True)


def _no_request() -> StreamkitError:
    return StreamkitError("this function answers requests of API Gateway (payload 1.0 or 2.0), and the event is none")


def _without(path: str, prefix: str) -> str:
    return path[len(prefix) :] or "/" if path == prefix or path.startswith(f"{prefix}/") else path


def _single(given: Any) -> list[tuple[str, str]]:
    given = given if isinstance(given, Mapping) else {}
    return [(name, value) for name, value in given.items() if isinstance(value, str)]


def _several(given: Any) -> list[tuple[str, str]]:
    given = given if isinstance(given, Mapping) else {}
    lists = [(name, values) for name, values in given.items() if isinstance(values, list)]
    return [(name, value) for name, values in lists for value in values if isinstance(value, str)]


def _last(given: Any) -> list[tuple[str, str]]:
    """Of each header that came several times, the last."""
    return list(dict(_several(given)).items())


def _is_utf8(text: str) -> bool:
    """Whether it has no half of a surrogate pair, which JSON can hold and no index takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pairs(text: str, most: int, status: int, what: str) -> list[tuple[str, str]]:
    from urllib.parse import parse_qsl

    if len(text.encode("utf-8", "surrogatepass")) > most:
        raise Refused(status, f"{what} may have {most:,} bytes")
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except UnicodeDecodeError:
        raise Refused(400, f"{what} is no UTF-8") from None
    except ValueError:
        raise Refused(400, f"{what} may have {_MOST_PARAMETERS} parameters") from None

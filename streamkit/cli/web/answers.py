"""What is answered to whom. It knows no sockets: a request in, a reply out.

Everything but the page's own files wants the token of this start, which only the URL has that the console printed: other people
of this machine can reach the port, and other sites' pages can make a browser ask it.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any, TypeVar
from urllib.parse import SplitResult, parse_qs, urlsplit

import msgspec

from ...errors import StreamkitError
from ...reason import reason
from ..connection import masked
from ..terminal import printable, say
from .looks import Looks
from .overview import Overview
from .redrives import Redrives

__all__ = ["HEADERS", "MOST_BODY_BYTES", "TOKEN_HEADER", "Answers", "Reply", "Request"]

T = TypeVar("T")

TOKEN_HEADER = "X-Streamkit-Token"  # noqa: S105  # A header's name.
MOST_BODY_BYTES = 256 * 1024
_FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/console.js": ("console.js", "text/javascript; charset=utf-8"),
    "/parts.js": ("parts.js", "text/javascript; charset=utf-8"),
    "/console.css": ("console.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_JSON = "application/json"
#: Nothing from elsewhere, nothing inline, no frame around it, and no string that becomes markup.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
#: What every reply has.
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
#: Different failures that are said on the terminal.
_MOST_SAID = 100
_HOSTS = ("127.0.0.1", "localhost")


class Request(msgspec.Struct, frozen=True):
    """``target`` is the path with its query; headers are asked for by any case of their names."""

    method: str
    target: str
    headers: Mapping[str, str] = {}
    body: bytes = b""


class Reply(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    type: str = _JSON


class _Look(msgspec.Struct, forbid_unknown_fields=True):
    source: str


class _Begin(msgspec.Struct, forbid_unknown_fields=True):
    """``look`` and ``letters`` say which, where some were chosen one by one; else all that the filters want."""

    source: str
    kind: str
    target: str
    filters: dict[str, str] = {}
    look: str = ""
    letters: list[int] = []
    rate: float | None = None


class _Answer(msgspec.Struct, forbid_unknown_fields=True):
    job: str
    yes: bool


class _Stop(msgspec.Struct, forbid_unknown_fields=True):
    job: str


class _Refused(Exception):
    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class _NotUnderstood(_Refused):
    """Raised where a request is read, and nowhere else: an error of the same type further on is a mistake of the console's."""

    def __init__(self, why: object) -> None:
        super().__init__(400, f"this request can't be understood: {why}")


class Answers:
    """``sources``: where dead letters may be looked for beside the queues that are shown."""

    def __init__(
        self, overview: Overview, looks: Looks, redrives: Redrives, sources: list[str], token: str | None = None
    ) -> None:
        self._overview = overview
        self._looks = looks
        self._redrives = redrives
        self._sources = sources
        self._said: set[str] = set()
        #: What a request has to bring.
        self.token = token or secrets.token_urlsafe(24)
        self._routes: dict[tuple[str, str], Callable[[Request], Any]] = {
            ("GET", "/api/overview"): lambda request: self._overview.view() | {"sources": self._sources},
            ("GET", "/api/letters"): self._page,
            ("GET", "/api/letter"): self._letter,
            ("GET", "/api/redrive"): lambda request: self._redrives.view(),
            ("POST", "/api/look"): self._look,
            ("POST", "/api/redrive"): self._begin,
            ("POST", "/api/redrive/answer"): self._answer,
            ("POST", "/api/redrive/stop"): self._stop,
        }

    def answer(self, request: Request) -> Reply:
        """The reply to a request; what is wrong with it is said in JSON, as ``error``."""
        try:
            _check_host(request)
            path = _parts(request).path
            if request.method in ("GET", "HEAD") and path in _FILES:
                name, kind = _FILES[path]
                return Reply(200, files(__package__).joinpath("page", name).read_bytes(), kind)
            self._check_token(request)
            route = self._routes.get((request.method, path))
            if route is None:
                raise _Refused(404, f"there is no {request.method} {path} here")
            if request.method == "POST" and request.headers.get("content-type", "").partition(";")[0].strip() != _JSON:
                raise _Refused(415, f"the body has to be {_JSON}")
            return Reply(200, msgspec.json.encode(route(request)))
        except _Refused as error:
            return _error(error.status, str(error))
        except StreamkitError as error:
            return _error(409, str(error))
        except Exception as error:  # noqa: BLE001  # One of ours: whoever asked is told, and so is the terminal.
            return self._unforeseen(request, error)

    def _unforeseen(self, request: Request, error: Exception) -> Reply:
        why = masked(reason(error))
        line = printable(f"streamkit: {request.method} {urlsplit(request.target).path} failed: {why}")
        # A page asks every two seconds.
        if line not in self._said and len(self._said) < _MOST_SAID:
            self._said.add(line)
            say(line)
        return _error(500, f"the console failed, which is a mistake in it: {why}")

    def _check_token(self, request: Request) -> None:
        given = request.headers.get(TOKEN_HEADER.lower(), "")
        # Bytes, since texts have to be ASCII.
        if not secrets.compare_digest(given.encode("utf-8", "replace"), self.token.encode()):
            raise _Refused(
                403, "this is no page of the console that runs now: open the URL that `streamkit console` has printed"
            )

    def _look(self, request: Request) -> Any:
        source = self._checked(_decoded(request, _Look).source)
        self._looks.look(source)
        return self._looks.page(source, 0, {})

    def _page(self, request: Request) -> Any:
        query = _query(request)
        source, number = self._checked(query.pop("source", "")), _number(query.pop("page", "0"))
        return self._looks.page(source, number, query)

    def _letter(self, request: Request) -> Any:
        query = _query(request)
        return self._looks.letter(query.get("look", ""), _number(query.get("number", "-1")))

    def _begin(self, request: Request) -> Any:
        asked = _decoded(request, _Begin)
        if asked.rate is not None and not 0 < asked.rate < 1e6:
            raise _Refused(400, "rate: letters a second, more than 0")
        chosen = self._looks.chosen(asked.look, asked.letters) if asked.letters else []
        return self._redrives.begin(
            self._checked(asked.source), asked.kind, self._checked_target(asked), asked.filters, chosen, asked.rate
        )

    def _answer(self, request: Request) -> Any:
        asked = _decoded(request, _Answer)
        return self._redrives.answer(asked.job, is_agreed=asked.yes)

    def _stop(self, request: Request) -> Any:
        return self._redrives.stop(_decoded(request, _Stop).job)

    def _checked(self, source: str) -> str:
        """A source that the command has named, or a queue that is shown: a page is no way to every file."""
        if source in self._sources or self._overview.queues.has(source):
            return source
        raise StreamkitError(f"{source or 'nothing'} is no source of this console: name it with --dead-letters")

    def _checked_target(self, asked: _Begin) -> str:
        is_shown = asked.target in self._overview.streams.names if asked.kind == "stream" else False
        if asked.kind == "queue":
            is_shown = self._overview.queues.has(asked.target)
        if asked.kind == "topic":
            is_shown = asked.target.startswith("arn:")
        if not is_shown:
            raise StreamkitError(
                f"{asked.target or 'nothing'} is no {asked.kind} of this console: name it on the command line, "
                "or put the letters back with `streamkit redrive`"
            )
        return asked.target


def _check_host(request: Request) -> None:
    """A page of another name that leads to this address (DNS rebinding) says that name; so does one of another origin."""
    host = request.headers.get("host", "")
    if _name_of(host) not in _HOSTS or "@" in host:
        raise _Refused(403, "this console answers to 127.0.0.1 and localhost only")
    origin = request.headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        raise _Refused(403, "this console answers to its own page only")
    if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and request.target.startswith(
        "/api/"
    ):
        raise _Refused(403, "this console answers to its own page only")


def _name_of(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _parts(request: Request) -> SplitResult:
    try:
        return urlsplit(request.target)
    except ValueError as error:
        raise _NotUnderstood(error) from error


def _query(request: Request) -> dict[str, str]:
    try:
        found = parse_qs(_parts(request).query, max_num_fields=20, errors="strict")
    except ValueError as error:
        raise _NotUnderstood(error) from error
    return {name: values[-1] for name, values in found.items()}


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise _NotUnderstood(error) from error


def _decoded(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(request.body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise _NotUnderstood(error) from error


def _error(status: int, text: str) -> Reply:
    return Reply(status, msgspec.json.encode({"error": masked(text)}))

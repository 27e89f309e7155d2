"""A CloudSearch domain's endpoints: clients whose requests end in time, and what an error of theirs means."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ..aws import borrow, code_of, whole_answers
from ..errors import SinkError

__all__ = ["SHORTEST", "BatchRefused", "Endpoint", "Passing", "SearchRefused", "domain_of", "region_of"]

# Seconds. A request's time-out is what is left, in steps, so that a client can be kept from one request to the next.
SHORTEST = 1.0
_LONGEST = 64.0

# doc-<domain>-<id>.<region>.cloudsearch.amazonaws.com
_HOST = re.compile(r"//(?:doc|search)-([a-z0-9-]+)-[a-z0-9]+\.[a-z0-9-]+\.cloudsearch\.")
_REGION = re.compile(r"\.([a-z0-9-]+)\.cloudsearch\.amazonaws\.com")
# The answers by which a smaller request may pass: it took too long, or there is no room for it.
_OF_SIZE = (408, 413, 504, 507, 509)


def region_of(url: str) -> str | None:
    """The region that an endpoint's name tells."""
    found = _REGION.search(url)
    return found[1] if found else None


def domain_of(url: str) -> str | None:
    """The domain's name, where an endpoint's name has the form that the service gives it."""
    found = _HOST.match(url[url.find("//") :])
    return found[1] if found else None


class Passing(SinkError):
    """It may be gone at the next try: throttling, a server's error, a connection that could not be used.

    ``of_size``: a smaller request may pass sooner. ``is_silent``: there was no answer, or one that says that nobody is there.
    """

    def __init__(self, message: str, *, of_size: bool = False, is_silent: bool = False) -> None:
        super().__init__(message)
        self.of_size = of_size
        self.is_silent = is_silent


class BatchRefused(SinkError):
    """The service does not take a batch because of what is in it, or because of how much: ``too_large``."""

    def __init__(self, error: Any) -> None:
        super().__init__(f"HTTP {_status(error)}, {code_of(error)}")
        self.too_large = _status(error) == 413
        self.message = str(error.response.get("Error", {}).get("Message", ""))

    def of(self, operation: bytes) -> SinkError:
        """Why the one document of a batch was refused: of the service's message only the fields that it names."""
        message = self.message.partition("(near operation")[0]
        try:
            fields = msgspec.json.decode(operation).get("fields", {})
        except (ValueError, RecursionError):
            # What can't be read back, as 1E+400, may be the reason itself.
            fields = {}
        named = _named(fields, message)
        if not named:
            return SinkError(f"CloudSearch refused the document ({self})")
        return SinkError(
            f"CloudSearch refused the document over its field {', '.join(map(repr, named))} ({self}): is it configured, "
            "with a type that takes this value?"
        )


class SearchRefused(SinkError):
    """The service does not take a search, or a suggestion, because of what is in it."""

    def __init__(self, message: str, said: str) -> None:
        super().__init__(message)
        self._said = said

    def over(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that the service names; the rest of what it says may quote the search, and is shown nowhere."""
        return _named(names, self._said)


class Endpoint:
    """One of a domain's endpoints. ``url`` is asked for on first use; ``given`` is a client to use instead of own ones, which
    need boto3 for ``owner``.
    """

    def __init__(self, url: Callable[[], str], given: Any = None, *, owner: str = "CloudSearchSink") -> None:
        self._url = url
        self._owner = owner
        self._given = whole_answers(given)
        # By their time-out.
        self._borrowed: dict[float, Any] = {}

    def upload(self, body: bytes, deadline: float) -> dict[str, Any]:
        """Send a batch once: the service's answer, BatchRefused, Passing, or SinkError where something else is in the way."""
        return _answered(
            lambda: self._connected(deadline - time.monotonic()).upload_documents(
                documents=body, contentType="application/json"
            )
        )

    def search(self, deadline: float, **parameters: Any) -> dict[str, Any]:
        """Search once: the service's answer, SearchRefused, Passing, or SinkError where something else is in the way."""
        return _answered(
            lambda: self._connected(deadline - time.monotonic()).search(**parameters), "search", self._owner
        )

    def suggest(self, deadline: float, **parameters: Any) -> dict[str, Any]:
        """Ask a suggester once, as ``search``."""
        return _answered(
            lambda: self._connected(deadline - time.monotonic()).suggest(**parameters), "suggest", self._owner
        )

    def close(self) -> None:
        """Give back the clients that were made here, and not one that was given."""
        borrowed, self._borrowed = self._borrowed, {}
        for one in borrowed.values():
            one.give_back()

    def _connected(self, remaining: float) -> Any:
        """A client whose requests end within ``remaining`` seconds. boto3 has a time-out for each client only: seven at most."""
        if self._given is not None:
            return self._given
        timeout = 2.0 ** math.floor(math.log2(min(max(remaining, SHORTEST), _LONGEST)))
        if timeout not in self._borrowed:
            url = self._url()
            self._borrowed[timeout] = borrow(
                "cloudsearchdomain",
                self._owner,
                (timeout / 4, timeout * 3 / 4),
                answer_time=timeout,
                region=region_of(url),
                endpoint_url=url,
            )
        return self._borrowed[timeout].thing


def _answered(call: Callable[[], Any], action: str = "document", owner: str = "CloudSearchSink") -> dict[str, Any]:
    try:
        import boto3  # noqa: F401 (only to say what to install)
    except ImportError as error:
        raise ImportError(f"{owner} needs boto3: pip install kinesis-streamkit[cloudsearch]") from error
    from botocore import exceptions

    try:
        answer: dict[str, Any] = call()
        return answer
    except exceptions.ClientError as error:
        # Without the cause: its message may quote a document, and a traceback would show it.
        raise _meaning(error, action) from None
    except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:
        of_size = isinstance(error, exceptions.ReadTimeoutError)
        # Of a question the URL is a part, and the message quotes the URL.
        said = error if action == "document" else type(error).__name__
        raise Passing(f"CloudSearch can't be asked: {said}", of_size=of_size, is_silent=True) from error
    except exceptions.BotoCoreError as error:
        raise SinkError(f"CloudSearch can't be asked: {error}") from error


def _meaning(error: Any, action: str) -> SinkError:
    status, code = _status(error), code_of(error)
    said = f"HTTP {status}, {code}"
    if action == "document" and (status == 413 or (status == 400 and code == "DocumentServiceException")):
        return BatchRefused(error)
    if status in (408, 429) or status >= 500 or "Throttl" in code:
        return Passing(
            f"CloudSearch has too much to do, or is out of order ({said})",
            of_size=status in _OF_SIZE,
            is_silent=status in (502, 503, 504),
        )
    if status in (401, 403):
        return SinkError(
            f"CloudSearch does not let this function in ({said}): allow its role cloudsearch:{action} on the domain"
        )
    if status == 404:
        return SinkError(f"no {action} service answers there ({said}): is the endpoint the domain's {action} endpoint?")
    if action != "document" and status == 400 and code == "SearchException":
        message = str(error.response.get("Error", {}).get("Message", ""))
        return SearchRefused(f"CloudSearch did not take the {action} ({said})", message)
    return SinkError(f"CloudSearch did not take the {'batch' if action == 'document' else action} ({said})")


def _named(names: Iterable[str], message: str) -> list[str]:
    """Those that a message has in quotes; where there are none, those that it has as words."""
    names = list(names)
    quoted = [name for name in names if re.search(rf"['\"]{name}['\"]", message)]
    return quoted or [name for name in names if re.search(rf"\b{name}\b", message)]


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))

"""How OpenSearch is asked: over urllib3, signed for Amazon where it is Amazon's, or through a client that was given.

None of what it needs is imported before the first request. Nothing here asks twice: who asks knows the deadline.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from ..errors import ConfigurationError, SinkError
from ..http_body import read_by

__all__ = ["Answer", "Asking", "GivenClient", "Http", "NoAnswer", "TimedOut"]

# The hosts of Amazon's domains (es) and of OpenSearch Serverless's collections (aoss), China's among them; with the region.
_AMAZON = re.compile(r"\.([a-z0-9-]+)\.(es|aoss)\.amazonaws\.com(?:\.cn)?$|\.(aos|aoss)\.([a-z0-9-]+)\.on\.aws$")
_CONNECT = 5.0


class Answer(msgspec.Struct, frozen=True):
    """What came back: ``content`` is the decoded JSON, None where it is none."""

    status: int
    content: Any = None


class NoAnswer(SinkError):
    """The request may have arrived or not: the connection could not be made, was lost, or the time was up."""


class TimedOut(NoAnswer):
    """The time was up: of a smaller request there may be an answer in it."""


class Asking(Protocol):
    def ask(self, method: str, path: str, query: dict[str, str], body: bytes, timeout: float) -> Answer:
        """One request, once, within about ``timeout`` seconds. NoAnswer, or SinkError for what will not pass."""

    def close(self) -> None:
        """Release what was made here."""


class Http:
    """Requests to ``url``. ``service`` is "es" or "aoss" where they are signed with AWS's signature; None: as the host tells.

    ``owner`` is who was given what is wrong, in errors.
    """

    def __init__(
        self,
        url: str,
        *,
        authorization: str | Callable[[], str] | None,
        service: str | None,
        region: str | None,
        owner: str = "OpenSearchSink",
    ) -> None:
        self._owner = owner
        self._url = url.rstrip("/")
        self._given = authorization
        self._header: str | None = None
        host = re.sub(r"^https?://|:\d+$", "", self._url)
        amazon = _AMAZON.search(host)
        self._region = region
        self._service = service
        if amazon:
            self._region = region or amazon[1] or amazon[4]
            self._service = service or ("aoss" if "aoss" in (amazon[2], amazon[3]) else "es")
        if authorization is not None:
            self._service = None
        self._session: Any = None
        self._pool: Any = None

    def ask(self, method: str, path: str, query: dict[str, str], body: bytes, timeout: float) -> Answer:
        from urllib.parse import quote

        import urllib3

        # As AWS's signature has it, so that what is sent is what is signed.
        path = quote(path, safe="/-_.~")
        asked = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
        url = f"{self._url}{path}?{asked}" if asked else f"{self._url}{path}"
        headers = self._headers(method, url, body, _kind(path))
        if self._pool is None:
            self._pool = urllib3.PoolManager(num_pools=1, maxsize=1, retries=False)
        until = time.monotonic() + timeout
        try:
            answer = self._pool.request(
                method,
                url,
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(total=timeout, connect=min(timeout, _CONNECT), read=timeout),
                retries=False,
                redirect=False,
                preload_content=False,
            )
            content = read_by(answer, until)
        except TimeoutError as error:
            raise TimedOut(f"OpenSearch did not answer in time: {error}") from error
        except urllib3.exceptions.HTTPError as error:
            is_slow = isinstance(error, urllib3.exceptions.ReadTimeoutError)
            raise (TimedOut if is_slow else NoAnswer)(f"OpenSearch did not answer: {error}") from error
        if answer.status == 401:
            self._header = None  # It may have been changed; who is asked for it next time knows.
        try:
            return Answer(answer.status, msgspec.json.decode(content))
        except msgspec.MsgspecError:
            return Answer(answer.status)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.clear()
            self._pool = None

    def _headers(self, method: str, url: str, body: bytes, kind: str) -> dict[str, str]:
        headers = {"Content-Type": kind}
        if self._given is not None:
            if self._header is None:
                header = self._given() if callable(self._given) else self._given
                if not re.fullmatch(r"[\x20-\x7e]+", header):
                    # http.client would say so too, and quote it.
                    raise ConfigurationError(
                        f"{self._owner}: authorization has a line break, or another sign that no header can have"
                    )
                self._header = header
            headers["Authorization"] = self._header
        if self._service is None:
            return headers
        import hashlib

        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        # Serverless asks for this header; what is in it is not hashed again.
        headers["X-Amz-Content-SHA256"] = hashlib.sha256(body).hexdigest()
        request = AWSRequest(method=method, url=url, data=body, headers=headers)
        SigV4Auth(self._credentials(), self._service, self._signing_region()).add_auth(request)
        return dict(request.headers.items())

    def _credentials(self) -> Any:
        from botocore.exceptions import BotoCoreError
        from botocore.session import get_session

        self._session = self._session or get_session()
        try:
            found = self._session.get_credentials()
            # Both halves of one pair, even where they are renewed meanwhile.
            credentials = found and found.get_frozen_credentials()
        except BotoCoreError as error:
            raise SinkError(f"OpenSearch can't be asked: {error}") from error
        if not credentials:
            raise SinkError("OpenSearch can't be asked: there are no AWS credentials to sign the request with")
        return credentials

    def _signing_region(self) -> str:
        region = self._region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if not region:
            raise ConfigurationError(f"{self._owner} needs region=, for the endpoint's name does not tell it")
        return region


class GivenClient:
    """Asks through an ``opensearchpy.OpenSearch``, whose connections, certificates and credentials are its owner's."""

    def __init__(self, client: Any) -> None:
        self._client = client
        if getattr(client.transport, "max_retries", 0):
            raise ConfigurationError("give OpenSearchSink a client with max_retries=0: the sink has tries of its own")

    def ask(self, method: str, path: str, query: dict[str, str], body: bytes, timeout: float) -> Answer:
        from urllib.parse import quote

        # The name in lower case, as the client has it: under another it would be sent twice.
        kind = _kind(path)
        try:
            content = self._client.transport.perform_request(
                method,
                quote(path, safe="/-_.~"),
                params=dict(query),
                body=body,
                timeout=timeout,
                headers={"content-type": kind},
            )
        except Exception as error:
            # The client's errors are known by what they carry, so that its library need not be imported here.
            status = getattr(error, "status_code", None)
            if isinstance(status, int):
                # Without the cause: its message may quote a document, and a traceback would show it.
                return Answer(status, getattr(error, "info", None))
            if type(error).__name__ == "SerializationError":
                raise NoAnswer("OpenSearch's answer is no JSON") from None  # Its message is the answer.
            if status is None:
                raise
            raise (TimedOut if status == "TIMEOUT" else NoAnswer)(f"OpenSearch did not answer: {error}") from error
        return Answer(200, content)

    def close(self) -> None:
        """Nothing: the client is its owner's."""


def _kind(path: str) -> str:
    return "application/x-ndjson" if path.endswith("/_bulk") else "application/json"

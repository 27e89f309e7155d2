"""POSTs by a BigQuery client's own session, without what requests does anew for each one.

For every request it reads the environment's proxies, looks for a ``.netrc``, chooses an adapter and a pool and merges cookies:
more than it takes to encode five hundred rows and send them. Here the pool of connections is chosen once.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import msgspec

from ..http_body import read_by
from .bigquery_errors import SendAgain

__all__ = ["Poster"]

# Seconds that a request has at least, or an answer could never come.
_LEAST_TIME = 0.5
_decode_answer = msgspec.json.Decoder(dict[str, Any]).decode


class Poster:
    """Sends JSON to ``path`` of BigQuery's REST API by ``client``: its credentials, connections, certificates and proxies.

    The environment's settings are those of the time when it was made.
    """

    def __init__(self, client: Any, path: str) -> None:
        self.client = client
        self._path = path
        self._pool: Any = None
        session, connection = client._http, client._connection
        self._url: str = connection.build_api_url(path)
        adapter: Any = session.get_adapter(self._url) if hasattr(session, "get_adapter") else None
        # What another session or an older requests does is not known here: they are left to do it.
        if type(session).__name__ != "AuthorizedSession" or not hasattr(adapter, "get_connection_with_tls_context"):
            return
        from requests import Request

        settings = session.merge_environment_settings(self._url, {}, False, None, None)
        headers = {
            **connection.extra_headers,
            "Accept-Encoding": "gzip",
            "Content-Type": "application/json",
            "X-Goog-API-Client": connection.user_agent,
            "User-Agent": connection.user_agent,
        }
        self._session, self._adapter = session, adapter
        self._prepared = session.prepare_request(Request("POST", self._url, headers=headers, data=b"{}"))
        self._headers = {name: value for name, value in self._prepared.headers.items() if name != "Content-Length"}
        self._target = adapter.request_url(self._prepared, settings["proxies"])
        self._pool = adapter.get_connection_with_tls_context(
            self._prepared, settings["verify"], proxies=settings["proxies"], cert=settings["cert"]
        )

    def post(self, body: bytes, *, timeout: float) -> dict[str, Any]:
        """The answer; raises as the client does, and SendAgain for an answer that is no JSON."""
        if self._pool is None:
            return self._post_by_client(body, timeout)
        until = time.monotonic() + timeout
        from requests import exceptions
        from urllib3 import Timeout
        from urllib3 import exceptions as urllib3

        headers = {**self._headers, "X-Server-Timeout": f"{timeout:.3f}"}
        ask = partial(self._session._auth_request, timeout=timeout)
        self._session.credentials.before_request(ask, "POST", self._url, headers)
        # New credentials may have taken a while.
        timeout = max(until - time.monotonic(), _LEAST_TIME)
        until = max(until, time.monotonic() + _LEAST_TIME)
        try:
            response = self._pool.urlopen(
                "POST",
                self._target,
                body,
                headers,
                retries=False,
                redirect=False,
                assert_same_host=False,
                # To connect and to be answered, together.
                timeout=Timeout(total=timeout),
                preload_content=False,
            )
            content = read_by(response, until)
        except TimeoutError as error:
            raise exceptions.Timeout(error) from error
        except urllib3.TimeoutError as error:
            # One that is refused at once is a kind of time-out to urllib3.
            refused = isinstance(error, urllib3.NewConnectionError)
            raise (exceptions.ConnectionError if refused else exceptions.Timeout)(error) from error
        except urllib3.SSLError as error:
            raise exceptions.SSLError(error) from error
        except urllib3.HTTPError as error:
            raise exceptions.ConnectionError(error) from error
        if response.status == 401:
            # The client knows when to ask for new credentials.
            return self._post_by_client(body, max(until - time.monotonic(), _LEAST_TIME))
        if response.status != 200:
            from google.api_core.exceptions import from_http_response

            answer = self._adapter.build_response(self._prepared, response)
            answer._content = content
            raise from_http_response(answer)  # type: ignore[no-untyped-call]
        try:
            return _decode_answer(content)
        except msgspec.DecodeError as error:
            raise SendAgain("BigQuery's answer was no JSON object, so it is not known what it took") from error

    def _post_by_client(self, body: bytes, timeout: float) -> dict[str, Any]:
        answer: dict[str, Any] = self.client._connection.api_request(
            method="POST",
            path=self._path,
            data=body,
            content_type="application/json",
            headers={"X-Server-Timeout": f"{timeout:.3f}"},
            timeout=timeout,
        )
        return answer

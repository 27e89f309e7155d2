"""Requests by a BigQuery client's own session, without what requests does anew for each one, and answers within a time.

For every request it reads the environment's proxies, looks for a ``.netrc``, chooses an adapter and a pool and merges cookies:
more than it takes to encode five hundred rows and send them. Here the pool of connections is chosen once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from ..http_body import read_by
from .bigquery_errors import SendAgain

__all__ = ["BigQueryHttp"]

# Seconds that a request has at least, or an answer could never come.
_LEAST_TIME = 0.5
_decode_answer = msgspec.json.Decoder(dict[str, Any]).decode


class BigQueryHttp:
    """Sends JSON to BigQuery's REST API by ``client``: its credentials, connections, certificates and proxies.

    The environment's settings are those of the time when it was made.
    """

    def __init__(self, client: Any) -> None:
        self.client = client
        self._pool: Any = None
        session, connection = client._http, client._connection
        url: str = connection.build_api_url("")
        adapter: Any = session.get_adapter(url) if hasattr(session, "get_adapter") else None
        # What another session or an older requests does is not known here: they are left to do it.
        if type(session).__name__ != "AuthorizedSession" or not hasattr(adapter, "get_connection_with_tls_context"):
            return
        from requests import Request

        settings = session.merge_environment_settings(url, {}, False, None, None)
        headers = {
            **connection.extra_headers,
            "Accept-Encoding": "gzip",
            "Content-Type": "application/json",
            "X-Goog-API-Client": connection.user_agent,
            "User-Agent": connection.user_agent,
        }
        self._session, self._adapter, self._proxies = session, adapter, settings["proxies"]
        prepared = session.prepare_request(Request("POST", url, headers=headers, data=b"{}"))
        self._headers = {name: value for name, value in prepared.headers.items() if name != "Content-Length"}
        self._pool = adapter.get_connection_with_tls_context(
            prepared, settings["verify"], proxies=settings["proxies"], cert=settings["cert"]
        )
        self._targets: dict[tuple[str, str], tuple[Any, str]] = {}

    def _target(self, method: str, path: str) -> tuple[Any, str]:
        """What requests makes of it, and what is asked of the connection."""
        if (method, path) not in self._targets:
            from requests import Request

            prepared = Request(method, self.client._connection.build_api_url(path)).prepare()
            self._targets[method, path] = prepared, self._adapter.request_url(prepared, self._proxies)
        return self._targets[method, path]

    def request(
        self, method: str, path: str, body: bytes | None, *, timeout: float, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The answer; raises as the client does, and SendAgain for an answer that is no JSON."""
        if self._pool is None:
            return self._by_client(method, path, body, timeout, headers)
        until = time.monotonic() + timeout
        prepared, target = self._target(method, path)
        from requests import exceptions
        from urllib3 import Timeout
        from urllib3 import exceptions as urllib3

        sent = {**self._headers, "X-Server-Timeout": f"{timeout:.3f}", **(headers or {})}
        ask = partial(self._session._auth_request, timeout=timeout)
        self._session.credentials.before_request(ask, method, prepared.url, sent)
        # New credentials may have taken a while.
        timeout = max(until - time.monotonic(), _LEAST_TIME)
        until = max(until, time.monotonic() + _LEAST_TIME)
        try:
            response = self._pool.urlopen(
                method,
                target,
                body,
                sent,
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
            return self._by_client(method, path, body, max(until - time.monotonic(), _LEAST_TIME), headers)
        if not 200 <= response.status < 300:
            from google.api_core.exceptions import from_http_response

            answer = self._adapter.build_response(prepared, response)
            answer._content = content
            raise from_http_response(answer)  # type: ignore[no-untyped-call]
        try:
            return _decode_answer(content)
        except msgspec.DecodeError as error:
            raise SendAgain("BigQuery's answer was no JSON object, so it is not known what it did") from error

    def _by_client(
        self, method: str, path: str, body: bytes | None, timeout: float, headers: Mapping[str, str] | None
    ) -> dict[str, Any]:
        answer: dict[str, Any] = self.client._connection.api_request(
            method=method,
            path=path,
            data=body,
            content_type="application/json",
            headers={"X-Server-Timeout": f"{timeout:.3f}", **(headers or {})},
            timeout=timeout,
        )
        return answer

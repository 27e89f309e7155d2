"""Short calls to what lies outside the account, and must not slow down who calls it: monitoring, and nothing else."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from .errors import ConfigurationError
from .reason import reason

__all__ = ["Caller", "check_url"]

log = logging.getLogger("streamkit")

# Seconds between two lines in the log about one place that can't be reached.
_LOG_INTERVAL = 60.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_url(url: str, *, has_secrets: bool) -> str:
    """What is to be known of a URL before it is used; empty where nothing is.

    ConfigurationError where it is none, and where secrets would go over the network as they are. None of its path is in either.
    """
    from urllib.parse import urlsplit

    if not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigurationError("it is no URL: it has characters that none has")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError("it is no URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigurationError("it is no URL that begins with https:// and has a host")
    if parts.username or parts.password:
        raise ConfigurationError("its URL has a password in it: give it in a header")
    if parts.scheme == "https" or host in _LOOPBACK:
        return ""
    if has_secrets:
        raise ConfigurationError(f"http://{host} would get its headers in plain text: use https")
    return f"http://{host} is not encrypted: anybody on the way can read, and answer"


class Caller:
    """Calls one place, within a time that nothing of it can exceed: not its name server, nor an answer that trickles.

    ``what`` is what the log calls it. A failure is an answer of False and a line in the log, once a minute at most. Nothing
    raises.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._running: threading.Thread | None = None
        self._logged_at = float("-inf")

    def call(self, url: str, body: bytes | None, headers: Mapping[str, str], seconds: float) -> bool:
        """POST ``body``, or GET where there is none. Whether it was answered by a status of 200 to 299 within ``seconds``.

        A redirection is not followed.
        """
        fault = self._call(url, body, headers, seconds)
        if fault is None:
            return True
        now = time.monotonic()
        if now - self._logged_at >= _LOG_INTERVAL:
            self._logged_at = now
            log.error("%s could not be reached, which changes nothing else: %s", self._what, fault)
        return False

    def _call(self, url: str, body: bytes | None, headers: Mapping[str, str], seconds: float) -> str | None:
        """Why it failed."""
        if self._running is not None and self._running.is_alive():
            return "the call before this one has not ended"
        attempt = _Attempt(url, body, headers, seconds)
        self._running = threading.Thread(target=attempt.run, name="streamkit-outside", daemon=True)
        try:
            self._running.start()
        except RuntimeError as error:
            self._running = None
            return reason(error)
        self._running.join(seconds)
        if self._running.is_alive():
            attempt.give_up()
            return f"no answer within {seconds:.1f} s"
        self._running = None
        return attempt.fault


class _Attempt:
    """One call, on a thread of its own: no time-out of a socket bounds the whole of it."""

    def __init__(self, url: str, body: bytes | None, headers: Mapping[str, str], seconds: float) -> None:
        self._url = url
        self._body = body
        self._headers = headers
        self._seconds = seconds
        self._connection: Any = None
        self.fault: str | None = "it did not run"

    def run(self) -> None:
        try:
            self.fault = self._run()
        except Exception as error:  # noqa: BLE001  # Whatever went wrong is the answer of this call.
            self.fault = reason(error)

    def _run(self) -> str | None:
        # Nobody pays for these who has nothing outside to call.
        from http.client import HTTPConnection, HTTPSConnection
        from urllib.parse import urlsplit

        parts = urlsplit(self._url)
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        assert parts.hostname is not None  # check_url has seen to it.
        connection = self._connection = kind(parts.hostname, parts.port, timeout=self._seconds)
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET" if self._body is None else "POST", target, self._body, dict(self._headers))
            status = connection.getresponse().status
        finally:
            connection.close()
        return None if 200 <= status < 300 else f"it answered {status}"

    def give_up(self) -> None:
        """End a call that nobody waits for any more."""
        sock = getattr(self._connection, "sock", None)
        if sock is not None:
            from socket import SHUT_RDWR

            try:
                sock.shutdown(SHUT_RDWR)
            except OSError:
                return  # It has ended by itself.

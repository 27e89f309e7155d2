"""AppConfig's Data API, as its service model and its documentation have it: there is no stand-in for it.

    POST /configurationsessions                        201 {"InitialConfigurationToken": …}
    GET  /configuration?configuration_token=…          200, the content, or nothing where this session has it already

A token is good once, and for a day; the next one is in the answer. Who polls sooner than was agreed is refused.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

__all__ = ["AppConfigServer"]

_DAY = 86_400


class _Token(NamedTuple):
    profile: tuple[str, str, str]
    seen: int
    made_at: float
    poll_from: float
    interval: int


class AppConfigServer:
    """``clock`` is the service's own. ``interval`` makes it ask for longer between polls than a session did."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._deployed: dict[tuple[str, str, str], tuple[bytes, str, str, int]] = {}
        self._tokens: dict[str, _Token] = {}
        self._lock = threading.Lock()
        self.interval = 0
        #: ``start`` for each session, ``poll`` for each request that was answered, ``refused`` for others.
        self.log: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    self._answer(*outer._start(asked))

            def do_GET(self) -> None:
                token = parse_qs(urlsplit(self.path).query).get("configuration_token", [""])[0]
                with outer._lock:
                    self._answer(*outer._latest(token))

            def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[AppConfigServer]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def deploy(
        self, content: bytes, *, kind: str = "application/json", profile: tuple[str, str, str] = ("a", "e", "p")
    ) -> None:
        with self._lock:
            number = self._deployed[profile][3] + 1 if profile in self._deployed else 1
            self._deployed[profile] = content, kind, f"v{number}", number

    def forget_sessions(self) -> None:
        with self._lock:
            self._tokens.clear()

    def _start(self, asked: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        profile = (
            asked["ApplicationIdentifier"],
            asked["EnvironmentIdentifier"],
            asked["ConfigurationProfileIdentifier"],
        )
        if profile not in self._deployed:
            return self._refusal(404, "ResourceNotFoundException")
        self.log.append("start")
        interval = asked.get("RequiredMinimumPollIntervalInSeconds", 60)
        token = self._token(_Token(profile, 0, self._clock(), self._clock(), interval))
        return 201, {"Content-Type": "application/json"}, json.dumps({"InitialConfigurationToken": token}).encode()

    def _latest(self, text: str) -> tuple[int, dict[str, str], bytes]:
        token, now = self._tokens.pop(text, None), self._clock()
        if token is None or now - token.made_at > _DAY or now < token.poll_from:
            return self._refusal(400, "BadRequestException")
        self.log.append("poll")
        content, kind, label, number = self._deployed[token.profile]
        interval = max(token.interval, self.interval)
        following = self._token(_Token(token.profile, number, now, now + interval, token.interval))
        headers = {"Next-Poll-Configuration-Token": following, "Next-Poll-Interval-In-Seconds": str(interval)}
        if token.seen == number:
            return 200, headers, b""
        return 200, headers | {"Content-Type": kind, "Version-Label": label}, content

    def _token(self, token: _Token) -> str:
        text = f"{uuid.uuid4()}=="
        self._tokens[text] = token
        return text

    def _refusal(self, status: int, kind: str) -> tuple[int, dict[str, str], bytes]:
        self.log.append("refused")
        return status, {"Content-Type": "application/json", "x-amzn-ErrorType": kind}, b'{"Message": "no"}'

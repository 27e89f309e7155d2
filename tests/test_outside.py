from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from streamkit.errors import ConfigurationError
from streamkit.outside import Caller, check_url

from .outside_server import OutsideServer, certificate


@pytest.fixture
def server() -> Iterator[OutsideServer]:
    with OutsideServer().running() as running:
        yield running


class TestACall:
    def test_posts_a_body_or_gets(self, server: OutsideServer) -> None:
        caller = Caller("it")

        assert caller.call(f"{server.url}/a?b=c", b"body", {"X-Key": "k"}, 5)
        assert caller.call(server.url, None, {}, 5)

        first, second = server.requests
        assert (first.method, first.path, first.body, first.headers["x-key"]) == ("POST", "/a?b=c", b"body", "k")
        assert (second.method, second.path) == ("GET", "/")

    @pytest.mark.parametrize("status", [200, 202, 204])
    def test_has_gone_well_where_the_answer_says_so(self, status: int, server: OutsideServer) -> None:
        server.answer = status

        assert Caller("it").call(server.url, None, {}, 5)

    @pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 429, 500, 503])
    def test_has_failed_for_any_other_answer_and_follows_none_elsewhere(
        self, status: int, server: OutsideServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.answer = status

        assert not Caller("the endpoint").call(f"{server.url}/secret-path", b"x", {}, 5)

        assert len(server.requests) == 1
        assert f"the endpoint could not be reached, which changes nothing else: it answered {status}" in caplog.text
        assert "secret" not in caplog.text

    def test_has_failed_where_nobody_listens(self, caplog: pytest.LogCaptureFixture) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/secret"

            assert not Caller("it").call(url, None, {}, 5)

        assert "ConnectionRefusedError" in caplog.text
        assert "secret" not in caplog.text

    def test_is_logged_once_a_minute_at_most(
        self, server: OutsideServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.answer = 500
        caller = Caller("it")
        now = time.monotonic()
        for seconds in (0, 1, 30, 59, 61, 62, 130):
            monkeypatch.setattr("streamkit.outside.time.monotonic", lambda seconds=seconds: now + seconds)
            caller.call(server.url, None, {}, 5)

        assert len(server.requests) == 7
        assert len(caplog.records) == 3

    def test_does_not_raise_for_a_header_that_can_not_be_sent(self, server: OutsideServer) -> None:
        assert not Caller("it").call(server.url, None, {"X": "a\r\nY: b"}, 5)

        assert server.requests == []


class TestTheTimeOfACall:
    def test_is_bounded_where_no_answer_comes(self, server: OutsideServer) -> None:
        release = threading.Event()
        server.answer = lambda _: release.wait(10)
        started = time.monotonic()

        assert not Caller("it").call(server.url, None, {}, 0.2)

        assert 0.2 <= time.monotonic() - started < 1
        release.set()

    def test_is_bounded_where_an_answer_trickles(self, server: OutsideServer) -> None:
        ended = threading.Event()

        def trickle(handler: BaseHTTPRequestHandler) -> None:
            try:
                for _ in range(200):
                    handler.wfile.write(b"H")
                    handler.wfile.flush()
                    time.sleep(0.05)
            except OSError:
                ended.set()

        server.answer = trickle
        caller = Caller("it")
        started = time.monotonic()

        assert not caller.call(server.url, None, {}, 0.3)

        assert 0.3 <= time.monotonic() - started < 1
        assert ended.wait(5), "the connection is given up"

    def test_is_that_of_one_call_at_once(self, server: OutsideServer, caplog: pytest.LogCaptureFixture) -> None:
        release = threading.Event()
        caller = Caller("it")
        hanging = threading.Thread(target=release.wait, args=(20,))
        hanging.start()
        caller._running = hanging
        started = time.monotonic()

        assert not caller.call(server.url, None, {}, 5)
        assert time.monotonic() - started < 1
        assert "the call before this one has not ended" in caplog.text

        release.set()
        hanging.join()
        assert caller.call(server.url, None, {}, 5)


class TestHttps:
    def test_is_spoken_where_the_certificate_is_trusted(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        context, authority = certificate(tmp_path)
        with OutsideServer(context).running() as server:
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))

            assert Caller("it").call(f"{server.url}/x", b"body", {}, 5)

            assert server.requests[0].body == b"body"

    def test_is_not_spoken_where_it_is_not(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        context, _ = certificate(tmp_path)
        with OutsideServer(context).running() as server:
            assert not Caller("it").call(f"{server.url}/x", b"body", {}, 5)

            assert server.requests == []
            assert "SSLCertVerificationError" in caplog.text


class TestAUrl:
    @pytest.mark.parametrize(
        "url", ["https://otlp.example/v1", "http://localhost:4318", "http://127.0.0.1", "http://[::1]:4318"]
    )
    @pytest.mark.parametrize("has_secrets", [True, False])
    def test_is_used_where_it_is_encrypted_or_of_this_machine(self, url: str, has_secrets: bool) -> None:
        assert check_url(url, has_secrets=has_secrets) == ""

    def test_is_warned_of_where_it_is_not_encrypted(self) -> None:
        assert "http://collector is not encrypted" in check_url("http://collector:4318/secret", has_secrets=False)

    def test_gets_no_secrets_in_plain_text(self) -> None:
        with pytest.raises(ConfigurationError, match="http://collector would get its headers in plain text") as raised:
            check_url("http://collector:4318/secret", has_secrets=True)

        assert "/secret" not in str(raised.value)

    @pytest.mark.parametrize(
        "url",
        [
            *("", "otlp.example", "ftp://otlp.example", "https://", "https:///x", "file:///etc/passwd"),
            *("https://[", "https://x:99999", "https://x:y", "https://a b", "https://a/\n", "https://é"),
            "https://user:password@otlp.example",
        ],
    )
    def test_is_refused_where_it_is_none_and_is_not_repeated(self, url: str) -> None:
        with pytest.raises(ConfigurationError) as raised:
            check_url(url, has_secrets=False)

        assert "password@" not in str(raised.value)

"""Parameters of AppConfig, by its Data API."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from streamkit.config import Config
from streamkit.config.appconfig import AppConfig
from streamkit.errors import ConfigurationError, ConfigurationMissing

from ..faults.http_proxy import HttpProxy, Request, cut, hold, lose_the_answer
from .app_config_server import AppConfigServer
from .sources import Clock, client_for, settle

HIDDEN = "hunter2-and-more"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[AppConfigServer]:
    with AppConfigServer(clock).running() as made:
        made.deploy(b'{"limit": 10, "db": {"host": "there"}}')
        yield made


@pytest.fixture
def proxy(server: AppConfigServer) -> Iterator[HttpProxy]:
    made = HttpProxy(server.endpoint)
    yield made
    made.close()
    assert made.errors == []


@pytest.fixture
def client(proxy: HttpProxy) -> Iterator[Any]:
    made = client_for("appconfigdata", proxy.endpoint, 2.0)
    yield made
    made.close()


@pytest.fixture
def config(client: Any, clock: Clock) -> Config:
    source = AppConfig("a", "e", "p", client=client, clock=clock)
    return Config(source, clock=clock, life=60, patience=30, wait=30, chance=lambda: 0.5)


def test_the_members_of_its_document_are_parameters(config: Config, server: AppConfigServer) -> None:
    limit, host, db = config.integer("limit"), config.text("db/host"), config.hierarchy("db")

    assert (limit.value, host.value, db.value) == (10, "there", {"host": "there"})
    assert server.log == ["start", "poll"]


def test_feature_flags_are_parameters(config: Config, server: AppConfigServer) -> None:
    server.deploy(b'{"fast-path": {"enabled": true, "share": 0.25}}')

    assert config.boolean("fast-path/enabled").value is True
    assert config.number("fast-path/share").value == 0.25


def test_a_deployment_is_followed_by_the_same_session_and_what_has_not_changed_stays(
    config: Config, server: AppConfigServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    limit = config.integer("limit")
    assert limit.value == 10
    for _ in range(3):
        clock.advance(60)
        assert limit.value == 10
    server.deploy(b'{"limit": 20}')
    clock.advance(60)

    assert limit.value == 20
    assert server.log == ["start", *["poll"] * 5]
    assert "the parameter limit has changed: version v2" in caplog.text


def test_it_is_not_polled_sooner_than_it_asks_for(config: Config, server: AppConfigServer, clock: Clock) -> None:
    server.interval = 300
    limit = config.integer("limit")
    for _ in range(10):
        assert limit.value == 10
        settle()
        clock.advance(60)

    assert server.log == ["start", "poll", "poll"]


def test_a_token_that_is_over_a_day_old_begins_a_new_session(
    config: Config, server: AppConfigServer, clock: Clock
) -> None:
    limit = config.integer("limit")
    assert limit.value == 10
    server.deploy(b'{"limit": 20}')
    clock.advance(90_000)

    assert limit.value == 20
    assert server.log == ["start", "poll", "refused", "start", "poll"]


@pytest.mark.parametrize("act", [cut, lose_the_answer], ids=["cut", "lost"])
def test_after_an_answer_that_never_came_whole_a_token_is_not_used_twice(
    act: Any, config: Config, server: AppConfigServer, proxy: HttpProxy, clock: Clock
) -> None:
    limit = config.integer("limit")
    assert limit.value == 10
    server.deploy(b'{"limit": 20, "more": "' + b"x" * 1000 + b'"}')
    clock.advance(60)
    harmed = 0

    def once(request: Request) -> Any:
        nonlocal harmed
        harmed += 1
        return act(request) if harmed == 1 else request.forward()

    with proxy.failing(once):
        assert limit.value == 20

    assert server.log == ["start", "poll", "poll", "start", "poll"]


@pytest.mark.parametrize(
    "act",
    [
        lambda request: (429, {"x-amzn-ErrorType": "ThrottlingException"}, b"{}"),
        lambda request: (500, {}, b"oh"),
        lambda request: (403, {"x-amzn-ErrorType": "AccessDeniedException"}, b'{"Message": "no"}'),
        *(cut, lose_the_answer, hold),
    ],
    ids=["throttled", "5xx", "forbidden", "cut", "lost", "held"],
)
def test_while_it_gives_no_answer_stale_values_stay(
    act: Any,
    config: Config,
    server: AppConfigServer,
    proxy: HttpProxy,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limit = config.integer("limit")
    assert limit.value == 10
    server.deploy(b'{"limit": 20}')

    with proxy.failing(act), monkeypatch.context() as patch:
        # Which each attempt uses up.
        patch.setattr("streamkit.config.config.ATTEMPT_TIME", 1.0)
        clock.advance(3600)
        assert limit.value == 10
        settle()
        assert limit.value == 10
    clock.advance(3600)

    assert limit.value == 20


@pytest.mark.parametrize("content", [b"limit: 10", b"[1]", b"\xff", b"[" * 100_000, b'{"limit": 20'])
def test_a_document_that_is_no_json_object_changes_nothing(
    content: bytes, config: Config, server: AppConfigServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    limit = config.integer("limit")
    assert limit.value == 10
    server.deploy(content, kind="text/plain")
    clock.advance(60)
    assert limit.value == 10
    assert "AppConfig a/e/p is no JSON object: parameters are the members of one" in caplog.text

    server.deploy(b'{"limit": 20}')
    clock.advance(60)
    assert limit.value == 20


def test_a_profile_that_is_not_there_or_is_empty_is_told(server: AppConfigServer, client: Any, clock: Clock) -> None:
    def limit_of(profile: str) -> Any:
        return Config(AppConfig("a", "e", profile, client=client, clock=clock), patience=30).integer("limit")

    with pytest.raises(ConfigurationMissing, match="AppConfig a/e/none could not be asked: ResourceNotFoundException"):
        _ = limit_of("none").value
    server.deploy(b"", profile=("a", "e", "empty"))
    with pytest.raises(ConfigurationMissing, match="AppConfig a/e/empty has nothing deployed, or its content is empty"):
        _ = limit_of("empty").value


def test_its_secrets_are_read_as_such_and_never_logged(
    server: AppConfigServer, client: Any, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.deploy(json.dumps({"password": HIDDEN}).encode())
    config = Config(AppConfig("a", "e", "p", secrets=True, client=client, clock=clock), patience=30)

    assert config.secret("password").value.reveal() == HIDDEN
    with pytest.raises(ConfigurationMissing, match="it is a secret"):
        _ = config.text("password").value
    assert HIDDEN not in caplog.text
    assert "configuration_token" not in caplog.text, "a token lets others read it"


def test_what_a_session_is_to_wait_is_within_what_appconfig_takes() -> None:
    with pytest.raises(ConfigurationError, match="poll is 15 to 86,400 seconds"):
        AppConfig("a", "e", "p", poll=5)

"""What is told of values that are not of their field's type: to metrics, to their endpoint outside, and to the log."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator

import pytest

from streamkit.local.context import RealContext
from streamkit.search.api import SearchApi
from streamkit.search.found import Found, Hit, Misfits
from streamkit.search.misfits import MisfitLog

from ..outside_server import OutsideServer
from .airports import FIELDS, ask
from .test_http import Answering

WRONG = {"name": Misfits("DEN", "the field name has several values: declare it as text-array", 2)}


def api_with(misfits: dict[str, Misfits]) -> SearchApi:
    """Over an index that leaves this out of what it finds, each time."""
    return SearchApi(FIELDS, Answering(Found(1, [Hit("DEN", {})], misfits=misfits)))


@pytest.fixture
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[OutsideServer]:
    with OutsideServer().running() as server:
        monkeypatch.setenv("STREAMKIT_METRICS", "otlp")
        monkeypatch.setenv("STREAMKIT_OTLP_ENDPOINT", server.url)
        yield server


def left_out(body: bytes) -> tuple[str, int]:
    """The container whose sum it is, and the sum."""
    (of_resource,) = json.loads(body)["resourceMetrics"]
    attributes = {one["key"]: one["value"]["stringValue"] for one in of_resource["resource"]["attributes"]}
    found = {one["name"]: one for one in of_resource["scopeMetrics"][0]["metrics"]}
    (point,) = found["search.left_out"]["sum"]["dataPoints"]
    return attributes["service.instance.id"], int(point["asInt"])


class TestAnEndpointOutside:
    def test_is_not_waited_for_by_each_search(self, outside: OutsideServer) -> None:
        api = api_with(WRONG)
        for _ in range(3):
            assert ask(api, q="denver").status == 200

        (request,) = outside.requests
        assert left_out(request.body)[1] == 2

    def test_gets_the_sum_of_one_container(self, outside: OutsideServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("streamkit.metrics.otlp.INTERVAL", 0.0)
        api = api_with(WRONG)
        for _ in range(3):
            ask(api, q="denver")

        told = [left_out(request.body) for request in outside.requests]
        assert [count for _, count in told] == [2, 4, 6]
        assert len({instance for instance, _ in told}) == 1

    def test_is_not_called_where_the_request_has_no_time_for_it(self, outside: OutsideServer) -> None:
        assert ask(api_with(WRONG), q="denver", context=RealContext(0.2)).status == 200
        assert outside.requests == []


class TestTheLog:
    def test_has_a_line_for_each_field_and_minute(self, caplog: pytest.LogCaptureFixture) -> None:
        now = 1000.0
        misfits = MisfitLog(clock=lambda: now)
        other = {"city": Misfits("ORD", "the field city is wrong")}

        def lines() -> list[str]:
            found = [one.getMessage() for one in caplog.records if one.levelno == logging.ERROR]
            caplog.clear()
            return found

        def line(why: str, hits: str, first: str) -> str:
            digest = hashlib.sha256(first.encode()).hexdigest()[:12]
            return f"{why}. It is left out of {hits}: the first has an id of which the SHA-256 begins with {digest}"

        of_name = WRONG["name"].why
        misfits.tell(WRONG, None)
        assert lines() == [line(of_name, "2 hits", "DEN")]
        for _ in range(10):
            now += 5
            misfits.tell({**WRONG, **other}, None)
        assert lines() == [line("the field city is wrong", "1 hit", "ORD")]
        now += 10
        misfits.tell(WRONG, None)
        assert lines() == [line(of_name, "22 hits", "DEN")], "those since the last line, too"
        now += 59
        misfits.tell(WRONG, None)
        assert lines() == []

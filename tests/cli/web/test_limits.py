"""What the console takes of a shard's reads, counted in front of the endpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from limits_proxy import Faults, LimitsProxy

from .conftest import Start
from .shop import Console, Shop


@pytest.fixture
def proxy(moto_endpoint: str) -> Iterator[LimitsProxy]:
    with LimitsProxy(moto_endpoint) as proxy:
        yield proxy


def watched(console: Console, shop: Shop, seconds: float) -> str:
    """Look as a page does, while records come; what is said to be wrong with the stream at the end."""
    ends_at = time.monotonic() + seconds
    said = ""
    while time.monotonic() < ends_at:
        said = console.get("/api/overview")["streams"][0]["error"]
        shop.put(20)
        time.sleep(0.5)
    return said


def reads(proxy: LimitsProxy, stream: str) -> list[int]:
    """How many reads each shard was asked for, refused ones too."""
    return [one.reads + one.throttled_reads for one in proxy.counts(stream).values()]


def test_a_page_that_is_open_takes_a_fiftieth_of_a_shards_reads_and_nobody_nothing(
    proxy: LimitsProxy, start: Start, shop: Shop
) -> None:
    console = start(*shop.arguments(), endpoint=proxy.endpoint)

    said = watched(console, shop, 25.0)
    taken = reads(proxy, shop.stream)
    # Fifteen seconds after the last look, and what was due then.
    time.sleep(18.0)
    before = reads(proxy, shop.stream)
    time.sleep(12.0)

    assert said == ""
    assert len(taken) == 2
    # One in ten seconds: of the five a second that there are, 125 in this time.
    assert all(2 <= count <= 4 for count in taken), taken
    assert reads(proxy, shop.stream) == before


def test_a_look_that_is_throttled_comes_again_less_often_and_is_said(
    proxy: LimitsProxy, start: Start, shop: Shop
) -> None:
    console = start(*shop.arguments(), "--sample", "1", endpoint=proxy.endpoint)
    watched(console, shop, 8.0)
    before = reads(proxy, shop.stream)

    proxy.inject(Faults(throttle=1.0, operations=frozenset(["GetRecords"])))
    said = watched(console, shop, 30.0)

    asked = [later - one for one, later in zip(before, reads(proxy, shop.stream), strict=True)]
    assert said.endswith("try again in a moment")
    # After 2, 4, 8 and 16 s, each with one try more of the client's own; every second it would be 60.
    assert all(2 <= count <= 12 for count in asked), asked

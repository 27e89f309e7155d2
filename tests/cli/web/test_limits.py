"""What the console takes of a shard's reads, and of a ledger's, counted in front of the endpoint.

The watch's time goes ten times as fast as ours, so what it does in a minute is seen in six seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from limits_proxy import Faults, LimitsProxy, ShardCounts

from streamkit.checkpoints.sqlite import SqliteCheckpoints
from streamkit.cli import console
from streamkit.cli.web.clients import Clients
from streamkit.cli.web.overview import Overview

from ..process import ENVIRONMENT
from .shop import Shop

SPEED = 10.0
#: What a shard gives its readers: bytes a second.
SHARD = 2 * 1024 * 1024

Open = Callable[..., Overview]


@pytest.fixture
def proxy(moto_endpoint: str) -> Iterator[LimitsProxy]:
    with LimitsProxy(moto_endpoint) as proxy:
        yield proxy


@pytest.fixture
def overview(proxy: LimitsProxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """What the command makes of these arguments, without its server."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, ENVIRONMENT[name])
    with ExitStack() as stack:

        def opened(*arguments: str) -> Overview:
            parser = argparse.ArgumentParser()
            console.add_options(parser)
            options = parser.parse_args(["--endpoint-url", proxy.endpoint, *arguments])
            # One try, so that what is counted is what the watch has asked for.
            clients = Clients(options, tries=1)
            stack.callback(clients.close)
            made = Overview(options, clients, speed=SPEED)
            made.watch.start()
            stack.callback(made.watch.end)
            return made

        yield opened


def watched(overview: Overview, seconds: float, between: Callable[[], object] = lambda: None) -> str:
    """Look as a page does, for so many of the watch's seconds; what is said to be wrong with the stream at the end."""
    ends_at = time.monotonic() + seconds / SPEED
    said = ""
    while time.monotonic() < ends_at:
        view = overview.view()
        said = view["streams"][0].error
        between()
        time.sleep(0.1)
    return said


def until_read(overview: Overview, proxy: LimitsProxy, stream: str) -> None:
    """Look until each shard was read: a client takes long to make, in the watch's time."""
    give_up_at = time.monotonic() + 30.0
    while len(proxy.counts(stream)) < 2 or not all(reads(proxy, stream)):
        assert time.monotonic() < give_up_at
        watched(overview, 1.0)


def counts(proxy: LimitsProxy, stream: str) -> list[ShardCounts]:
    return list(proxy.counts(stream).values())


def reads(proxy: LimitsProxy, stream: str) -> list[int]:
    """How many reads each shard was asked for, refused ones too."""
    return [one.reads + one.throttled_reads for one in counts(proxy, stream)]


def test_a_page_that_is_open_takes_a_fiftieth_of_a_shards_reads_and_nobody_nothing(
    proxy: LimitsProxy, overview: Open, shop: Shop
) -> None:
    open_page = overview(*shop.arguments())

    until_read(open_page, proxy, shop.stream)
    proxy.reset()

    said = watched(open_page, 25.0, lambda: shop.put(20))
    taken = reads(proxy, shop.stream)
    # Fifteen seconds after the last look, and what was due then.
    time.sleep(18.0 / SPEED)
    before = reads(proxy, shop.stream)
    time.sleep(12.0 / SPEED)

    assert said == ""
    assert len(taken) == 2
    # One in ten seconds: of the five a second that there are, 125 in this time.
    assert all(1 <= count <= 3 for count in taken), taken
    assert reads(proxy, shop.stream) == before


def test_after_a_burst_of_large_records_it_takes_no_more_of_a_shards_bytes_than_of_its_reads(
    proxy: LimitsProxy, overview: Open, shop: Shop
) -> None:
    keys = shop.keys()
    # Small ones come first, so that it asks for many.
    open_page = overview(*shop.arguments(), "--sample", "1")
    until_read(open_page, proxy, shop.stream)
    watched(open_page, 12.0, lambda: shop.put(200))
    before = counts(proxy, shop.stream)

    def burst() -> None:
        for key in keys:
            shop.kinesis.put_record(StreamName=shop.stream, Data=b"x" * 900_000, PartitionKey=key)

    for _ in range(3):
        burst()
    seconds = 60.0
    watched(open_page, seconds, burst)

    for one, later in zip(before, counts(proxy, shop.stream), strict=True):
        # What one read can bring, at once; and a fiftieth of what there is, after it.
        assert later.read_bytes - one.read_bytes > 900_000
        assert later.read_bytes - one.read_bytes <= 10 * 1024 * 1024 + seconds * SHARD / 50
        assert later.reads - one.reads <= seconds / 10 + 1


def test_a_reader_that_moves_all_the_time_costs_a_read_in_ten_seconds(
    proxy: LimitsProxy, overview: Open, shop: Shop, tmp_path: Path
) -> None:
    key = shop.keys()[0]
    shard = shop.kinesis.put_record(StreamName=shop.stream, Data=b"{}", PartitionKey=key)["ShardId"]
    store = SqliteCheckpoints(tmp_path / "checkpoints.sqlite")
    lease = store.take("orders", shop.stream, shard, "owner", None)
    assert lease is not None

    def move() -> None:
        answer = shop.kinesis.put_record(StreamName=shop.stream, Data=b"{}", PartitionKey=key)
        store.save(lease, int(answer["SequenceNumber"]) - 1)

    move()
    place = str(tmp_path / "checkpoints.sqlite")
    open_page = overview(*shop.arguments(), "--name", "orders", "--checkpoints", place, "--sample", "0")
    give_up_at = time.monotonic() + 30.0
    while not any(reads(proxy, shop.stream)):
        assert time.monotonic() < give_up_at
        watched(open_page, 1.0, move)
    proxy.reset()

    watched(open_page, 40.0, move)

    store.close()
    assert 2 <= proxy.total(shop.stream).reads <= 5


def test_of_a_mass_park_it_reads_a_megabyte_and_rests_before_it_reads_more(
    dynamodb: Any, overview: Open, shop: Shop
) -> None:
    for n in range(8):
        item = {"processor": {"S": "orders"}, "group": {"S": f"group-{n}"}, "since": {"N": "1000"}}
        # 300 KB: six ids that are as long as thousands are together, which moto takes long to store.
        item |= {f"+{'x' * 50_000}{m}": {"N": "1700000000000"} for m in range(6)}
        dynamodb.put_item(TableName=shop.ledger, Item=item)
    open_page = overview(*shop.arguments(), "--name", "orders", "--ledger", shop.ledger, "--sample", "0")
    asked: list[float] = []
    with open_page.clients.using("dynamodb", shop.ledger, "table") as client:
        client.meta.events.register("before-send.dynamodb.Query", lambda **_: asked.append(time.monotonic()))
    give_up_at = time.monotonic() + 60.0
    while open_page.view()["ledgers"][0].count is None:
        assert time.monotonic() < give_up_at
        time.sleep(0.1)

    watched(open_page, 30.0)

    (ledger,) = open_page.view()["ledgers"]
    assert (ledger.error, ledger.is_cut) == ("", True)
    assert 2 <= ledger.count <= 5
    assert ledger.records == 6 * ledger.count
    assert len(asked) == 1


def test_every_request_is_counted_that_a_console_sends(proxy: LimitsProxy, overview: Open, shop: Shop) -> None:
    open_page = overview(*shop.arguments(), "--sample", "5")
    sent: list[str] = []
    for service in ("kinesis", "sqs"):
        with open_page.clients.using(service, shop.stream) as client:
            client.meta.events.register("before-call", lambda model, **_: sent.append(model.name))

    until_read(open_page, proxy, shop.stream)
    watched(open_page, 10.0)

    open_page.watch.end()
    assert {"ListShards", "GetRecords", "GetQueueAttributes"} <= set(sent)
    assert open_page.clients.sent() == len(sent)
    assert open_page.watch.calls_a_second() > 0


def test_a_look_that_is_throttled_comes_again_less_often_and_is_said(
    proxy: LimitsProxy, overview: Open, shop: Shop
) -> None:
    open_page = overview(*shop.arguments(), "--sample", "1")
    until_read(open_page, proxy, shop.stream)
    before = reads(proxy, shop.stream)

    proxy.inject(Faults(throttle=1.0, operations=frozenset(["GetRecords"])))
    said = watched(open_page, 30.0)

    asked = [later - one for one, later in zip(before, reads(proxy, shop.stream), strict=True)]
    assert said.endswith("try again in a moment")
    # After 2, 4, 8 and 16 s; every second it would be 30.
    assert all(2 <= count <= 6 for count in asked), asked

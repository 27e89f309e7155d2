"""Readers of a shard that has its limits: the proxy of the local cloud, with its real clock, in front of moto."""

from __future__ import annotations

import logging
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from limits_proxy import Faults, LimitsProxy

from tests.cli.process import put
from tests.cli.process import running as streamkit_run
from tests.local.test_runner import Function, connect, make_runner, running

FIRST = "shardId-000000000000"
# More than the five reads a second that there are for all of them.
READERS = 6
PROGRAM = """
import os
from streamkit import RecordProcessor, lambda_handler

class Orders(RecordProcessor):
    def process(self, record):
        with open(os.environ["DONE"], "a") as done:
            done.write(record.data.decode() + "\\n")

handler = lambda_handler(Orders)
"""


@pytest.fixture
def proxy(moto_endpoint: str) -> Iterator[LimitsProxy]:
    with LimitsProxy(moto_endpoint) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: LimitsProxy) -> Iterator[Any]:
    """It tries once, so what is throttled is for the reader to see."""
    client = connect(proxy.endpoint)
    yield client
    client.close()


@pytest.fixture
def stream(client: Any) -> str:
    name = f"shard-limits-{uuid.uuid4().hex}"
    client.create_stream(StreamName=name, ShardCount=1)
    client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    return name


def test_readers_that_share_a_shard_are_throttled_back_off_and_miss_nothing(
    proxy: LimitsProxy, client: Any, stream: str
) -> None:
    seen = [Function() for _ in range(READERS)]
    runners = [make_runner(one, client, stream) for one in seen]
    texts: list[str] = []
    with ExitStack() as stack:
        for runner in runners:
            stack.enter_context(running(runner))
        while not (len(texts) >= 60 and proxy.total(stream).throttled_reads >= READERS):
            texts.append(f"{len(texts):04}")
            put(client, stream, texts[-1])
            time.sleep(0.05)
        # Five of them leave the sixth nothing for as long as they go on, so who has all leaves.
        for one, runner in sorted(zip(seen, runners, strict=True), key=lambda pair: -len(pair[0].texts)):
            one.wait_for(lambda: len(one.texts) == len(texts))  # noqa: B023  # It is waited for here.
            runner.stop()

    assert [one.texts for one in seen] == [texts] * READERS
    counts, seconds = proxy.total(stream), proxy.report()["for_seconds"]
    assert counts.throttled_reads + counts.throttled_iterators == sum(
        status.throttles for runner in runners for status in runner.statuses
    )
    assert counts.reads <= 5 * (seconds + 1)
    # None of them ever asks more often than the five times a second that one alone is allowed.
    assert counts.reads + counts.throttled_reads <= READERS * (5 * seconds + 1)


def test_a_reader_that_keeps_up_leaves_reads_to_others(proxy: LimitsProxy, client: Any, stream: str) -> None:
    seen = Function()
    with running(make_runner(seen, client, stream)):
        for n in range(60):
            put(client, stream, str(n))
            time.sleep(0.05)
        seen.wait_for(lambda: len(seen.texts) == 60)

    counts, seconds = proxy.total(stream), proxy.report()["for_seconds"]
    assert counts.throttled_reads == 0
    # Lambda's pace, though each read brings something.
    assert counts.reads <= seconds + 1


def test_six_runs_of_the_command_on_one_shard_miss_nothing(
    proxy: LimitsProxy, client: Any, stream: str, tmp_path: Path
) -> None:
    (tmp_path / "orders.py").write_text(PROGRAM)
    arguments = ("orders:handler", "--stream", stream, "--endpoint-url", proxy.endpoint, "--checkpoints", ":memory:")
    files = [tmp_path / f"done-{n}" for n in range(READERS)]
    texts: list[str] = []
    with ExitStack() as stack:
        processes = [stack.enter_context(streamkit_run(tmp_path, *arguments, DONE=str(file))) for file in files]
        until = time.monotonic() + 200
        while len(texts) < 40 or not proxy.total(stream).throttled_reads:
            texts.append(f"{len(texts):04}")
            put(client, stream, texts[-1])
            time.sleep(0.05)
            assert time.monotonic() < until, "nothing is throttled"
        left = dict(zip(files, processes, strict=True))
        while left:
            for file, process in [*left.items()]:
                if file.exists() and len(file.read_text().split()) >= len(texts):
                    del left[file]
                    process.send_signal(signal.SIGTERM)
            assert time.monotonic() < until, [file.exists() and len(file.read_text().split()) for file in files]
            time.sleep(0.1)
        logs = [process.communicate(timeout=60)[1] for process in processes]

    assert [process.returncode for process in processes] == [0] * READERS, logs
    assert [file.read_text().split() for file in files] == [texts] * READERS


def test_an_endpoint_that_throttles_fails_and_drops_answers_costs_no_record_and_repeats_none(
    proxy: LimitsProxy, client: Any, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "streamkit")
    seen = Function()
    texts = [str(n) for n in range(12)]
    proxy.inject(
        Faults(
            throttle=0.1,
            error=0.1,
            drop=0.1,
            lose=0.1,
            seed=5,
            operations=frozenset(["GetRecords", "GetShardIterator", "ListShards"]),
        )
    )
    with running(make_runner(seen, client, stream)):
        for n, text in enumerate(texts):
            put(client, stream, text)
            seen.wait_for(lambda: len(seen.texts) > n)  # noqa: B023  # It is waited for here.

    assert seen.texts == texts
    assert set(proxy.injected()) >= {"error"}
    assert sum(proxy.injected().values()) > 2

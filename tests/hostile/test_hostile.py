"""A record made to do harm costs itself alone: bounded memory and time, a dead letter that says why, its neighbours done."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from streamkit import DecodeError, Divert, Record, RecordProcessor, lambda_handler
from streamkit.event import decode
from streamkit.kpl import deaggregate
from streamkit.pattern import Pattern
from streamkit.testing import MemoryQueue, kinesis_event

from .inputs import BODIES, KINESIS, MESSAGES, Hostile, enveloped

ROOT = Path(__file__).resolve().parents[2]
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's address space")


@pytest.fixture(scope="module")
def processes() -> Iterator[subprocess.Popen[str]]:
    """What makes a process for each hostile input."""
    command = [sys.executable, "-m", "tests.hostile"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True) as made:
        yield made
        made.kill()


def check(
    processes: subprocess.Popen[str], tmp_path: Path, name: str, hostile: Hostile, triggers: list[str], named: str
) -> None:
    """Give it to handlers in a process with little memory and time, and look at what came of it."""
    output, log = tmp_path / "output", tmp_path / "log"
    assert processes.stdin is not None
    assert processes.stdout is not None
    print(json.dumps([name, triggers, str(output), str(log)]), file=processes.stdin, flush=True)
    code = processes.stdout.readline()
    logged = log.read_text().splitlines()
    assert code == "0\n", logged[-20:]
    for trigger, line in zip(triggers, output.read_text().splitlines(), strict=True):
        outcome = json.loads(line)
        good = [] if trigger == "sns" else [1, 2]  # SNS brings one at a time.
        assert outcome["answer"] == {"batchItemFailures": []}
        assert sorted(outcome["ids"]) == good + [3] * hostile.orders
        assert len(outcome["letters"]) == hostile.letters
        assert outcome["retried"] == 0
        assert outcome["wanted"] is False
        for event_id, message in outcome["letters"]:
            assert re.fullmatch(named, event_id)
            assert hostile.reason in message
            assert len(message) < 300
    # A line for each, which names the record and is no longer than a line is.
    expected = re.compile(f"orders: record {named} failed and is to go to dead letters: .{{1,400}}")
    assert len(logged) == hostile.letters * len(triggers)
    assert all(expected.fullmatch(line) for line in logged)


@linux
@pytest.mark.parametrize("name", KINESIS)
def test_a_hostile_record_of_a_stream_is_dead_lettered_alone(
    processes: subprocess.Popen[str], tmp_path: Path, name: str
) -> None:
    check(processes, tmp_path, name, KINESIS[name], ["kinesis"], r"stream/shardId-000000000000:7:\d+")


@linux
@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_message_is_dead_lettered_alone(processes: subprocess.Popen[str], tmp_path: Path, name: str) -> None:
    check(processes, tmp_path, name, BODIES[name], ["sqs", "sns"], r"(?:m-1|orders/shardId-000000000000:7:0)")


@pytest.mark.parametrize("name", MESSAGES)
def test_opening_an_aggregate_takes_at_most_64_bytes_of_memory_for_each_of_its_own(name: str) -> None:
    event = kinesis_event([enveloped(MESSAGES[name](128 << 10))])
    decode(kinesis_event([enveloped(b"\x0a\x00")]))  # What is imported and cached once.

    tracemalloc.start()
    try:
        decode(event)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak <= 64 * (128 << 10)


def steps(run: Callable[[], object]) -> int:
    """How many lines of Python ran."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


def opened(data: bytes) -> None:
    try:
        deaggregate(data)
    except DecodeError:
        return


@pytest.mark.parametrize("name", MESSAGES)
def test_opening_an_aggregate_of_twice_the_size_is_at_most_twice_the_work(name: str) -> None:
    make = MESSAGES[name]
    once, twice = (enveloped(make(size)) for size in (8 << 10, 16 << 10))

    assert steps(lambda: opened(twice)) <= 2.1 * steps(lambda: opened(once)) + 100


@pytest.mark.parametrize(
    "rules",
    [
        {"a": [{"anything-but": ["x", "y"]}], "b": [{"exists": False}]},
        {"a": {"b": {"c": {"d": [{"prefix": "aaaaaaaaab"}, {"suffix": "baaaaaaaaa"}]}}}},
        {"$or": [{"a": {"$or": [{"b": ["x"]}, {"b": {"c": ["x"]}}]}}, {"a": {"b": {"c": {"d": ["x"]}}}}]},
    ],
)
def test_matching_an_event_of_twice_the_size_is_at_most_twice_the_work(rules: dict[str, Any]) -> None:
    pattern = Pattern(rules)

    def nested(count: int) -> dict[str, Any]:
        """Lists in lists of objects, each with a place to go on from: what a matcher that backtracks would try in all ways."""
        inner: Any = ["a" * count] * count
        for name in "dcb":
            inner = [[{name: inner}, [{name: "a"}] * count]] * 3
        return {"a": inner}

    assert steps(lambda: pattern.matches(nested(60))) <= 2.1 * steps(lambda: pattern.matches(nested(30))) + 100


class Preparing(RecordProcessor):
    """Decodes all of a batch before its first record, as for a look-up of them all."""

    name = "preparing"

    def prepare(self, records: Sequence[Record]) -> None:
        for record in records:
            record.json()


def test_a_batch_of_twice_as_many_records_that_prepare_cannot_decode_is_at_most_twice_the_work() -> None:
    def run(count: int) -> int:
        processor = Preparing()
        dead_letters = MemoryQueue()
        processor.on_failure = Divert(MemoryQueue(), dead_letters=dead_letters)
        event = kinesis_event([b"x"] * count)
        taken = steps(lambda: lambda_handler(processor)(event, None))
        assert len(dead_letters) == count
        return taken

    assert run(200) <= 2.2 * run(100)


def test_the_recipe_for_compressed_data_inflates_no_more_than_it_says() -> None:
    page = (ROOT / "docs" / "hostile-input.md").read_text()
    recipe: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0], recipe)
    inflated, most = recipe["inflated"], recipe["MOST_BYTES"]
    sound, bomb = gzip.compress(b'{"id": 1}'), gzip.compress(bytes(128 << 20))
    good, *bad = decode(kinesis_event([sound, bomb, sound[:-1], sound + b"x", b"plain", b""])).records

    assert good.decode(inflated) == b'{"id": 1}'
    tracemalloc.start()
    try:
        for record in bad:
            with pytest.raises(DecodeError) as caught:
                record.decode(inflated)
            assert caught.value.event_id == record.event_id
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * most

"""The worker in this process, over pipes: what takes too long with the command's own settings."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from streamkit import Block, Divert, Record, RecordProcessor, lambda_handler
from streamkit.heartbeat import payload
from streamkit.kcl.channel import Channel, DaemonGone
from streamkit.kcl.worker import ToldToStop, Worker
from streamkit.policy import Policy
from streamkit.testing import MemoryQueue

from .daemon import ARN, Daemon, record

BEAT = payload(1_764_432_000.123)

Function = Callable[[Any, Any], Any]


class Running:
    """A worker on a thread of its own."""

    def __init__(self, function: Function, **settings: Any) -> None:
        source, to_child = os.pipe()
        from_child, target = os.pipe()
        self.daemon = Daemon(to_child, from_child)
        self._pipes = [source, from_child, target]
        self._to_child: int | None = to_child
        self.worker = Worker(function, Channel(source, target), stream_arn=ARN, timeout=20.0, **settings)
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:
            self.error = error

    def hang_up(self) -> None:
        if self._to_child is not None:
            os.close(self._to_child)
            self._to_child = None

    def close(self) -> None:
        self.hang_up()
        self.thread.join(30)
        assert not self.thread.is_alive()
        for pipe in self._pipes:
            os.close(pipe)


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    made: list[Running] = []

    def run(function: Function, **settings: Any) -> Running:
        running = Running(function, **settings)
        made.append(running)
        running.daemon.initialize()
        return running

    yield run
    for running in made:
        running.close()


def numbers(event: Any) -> list[str]:
    return [one["kinesis"]["sequenceNumber"] for one in event["Records"]]


class Failing:
    """A function that fails as a whole until it is told not to."""

    def __init__(self) -> None:
        self.fails = True
        self.events: list[list[str]] = []

    def __call__(self, event: Any, context: Any) -> None:
        self.events.append(numbers(event))
        if self.fails:
            raise RuntimeError


def test_a_run_has_no_more_records_than_an_event_of_lambdas_and_each_is_checkpointed(
    run: Callable[..., Running],
) -> None:
    seen: list[int] = []
    running = run(lambda event, context: seen.append(len(event["Records"])))

    running.daemon.process_records(*(record(n, "x") for n in range(1, 25_001)))

    assert seen == [10_000, 10_000, 5_000]
    assert running.daemon.written == [("10000", 0), ("20000", 0), ("25000", 0)]


def test_a_run_has_no_more_bytes_than_an_event_of_lambdas_but_for_one_record(run: Callable[..., Running]) -> None:
    seen: list[list[str]] = []
    running = run(lambda event, context: seen.append(numbers(event)))
    large, small = b"x" * 8_000_000, b"x" * 2_000_000

    running.daemon.process_records(*(record(n, data) for n, data in enumerate([large, small, small, small], 1)))

    assert seen == [["1"], ["2", "3"], ["4"]]


def test_a_message_waits_where_too_much_is_held_already(run: Callable[..., Running]) -> None:
    function = Failing()
    running = run(function, patience=0.1, most_held=1_000)
    assert running.daemon.process_records(record(1, b"x" * 600))
    running.daemon.say("processRecords", records=[record(2, b"x" * 600)])
    with pytest.raises(AssertionError, match="said nothing"):
        running.daemon.hear(within=2)

    function.fails = False

    assert running.daemon.wait_for_status("processRecords")
    assert running.daemon.written == [("2", 0)]


def test_a_message_that_waits_for_room_ends_with_the_daemon(run: Callable[..., Running]) -> None:
    running = run(Failing(), patience=0.1, most_held=10)
    running.daemon.say("processRecords", records=[record(1, b"x" * 600)])
    time.sleep(0.5)

    running.hang_up()
    running.thread.join(10)

    assert isinstance(running.error, DaemonGone)
    assert running.daemon.asked == []


def test_pauses_grow_while_nothing_is_settled(run: Callable[..., Running]) -> None:
    function = Failing()
    running = run(function, patience=0.0)
    for n in range(1, 50):
        running.daemon.process_records(record(n))
        time.sleep(0.05)

    assert 2 <= len(function.events) <= 4
    assert all(event[0] == "1" for event in function.events)


def test_what_comes_while_it_fails_is_behind_it_in_the_next_run(run: Callable[..., Running]) -> None:
    function = Failing()
    running = run(function, patience=0.0)
    running.daemon.process_records(record(1))
    running.daemon.process_records(record(2))
    function.fails = False
    until = time.monotonic() + 10
    while running.daemon.written[-1:] != [("2", 0)]:
        assert time.monotonic() < until
        running.daemon.process_records()

    assert function.events[-1] == ["1", "2"]


def test_a_worker_that_was_told_to_stop_and_is_not_shut_down_ends_after_its_grace(run: Callable[..., Running]) -> None:
    function = Failing()
    running = run(function, patience=0.1, grace=1.0)
    running.daemon.process_records(record(1))

    running.worker.stop()
    tried = len(function.events)
    running.daemon.process_records(record(2))
    running.thread.join(10)

    assert isinstance(running.error, ToldToStop)
    assert len(function.events) <= tried + 1
    assert running.daemon.asked == []


@pytest.mark.parametrize("policy", [Block, lambda: Divert(MemoryQueue())])
def test_heartbeats_are_settled_and_never_given_to_the_processor(
    policy: Callable[[], Policy], run: Callable[..., Running]
) -> None:
    given: list[bytes] = []

    class Orders(RecordProcessor):
        name = "orders"
        on_failure = policy()

        def prepare(self, records: Sequence[Record]) -> None:
            given.extend(record.data for record in records)

        def process(self, record: Record) -> None:
            given.append(record.data)
            # As most processors do with what they do not know.
            record.json()["total"]

    running = run(lambda_handler(Orders))

    running.daemon.process_records(record(1, BEAT))
    running.daemon.process_records(record(2, BEAT), record(3, BEAT))

    assert given == []
    assert running.daemon.written == [("1", 0), ("3", 0)]


def test_an_aggregate_that_goes_on_in_the_next_run_is_told_from_a_heartbeat(run: Callable[..., Running]) -> None:
    given: list[str] = []

    class Orders(RecordProcessor):
        name = "orders"

        def process(self, record: Record) -> None:
            given.append(record.event_id.partition(":")[2])

    running = run(lambda_handler(Orders))

    # The tenth thousand is full with the first of the aggregate.
    running.daemon.process_records(*map(record, range(1, 10_000)), record(10_000, BEAT), record(10_000, BEAT, sub=1))

    assert given[-2:] == ["10000:0", "10000:1"]
    assert running.daemon.written == [("9999", 0), ("10000", 1)]


def test_an_aggregate_whose_second_record_fills_an_event_is_told_from_a_heartbeat(run: Callable[..., Running]) -> None:
    given: list[str] = []

    class Orders(RecordProcessor):
        name = "orders"

        def process(self, record: Record) -> None:
            given.append(record.event_id.partition(":")[2])

    running = run(lambda_handler(Orders))

    # As a Kinesis record of 10 MiB may hold them.
    running.daemon.process_records(record(1, BEAT), record(1, b"x" * 4_600_000, sub=1), record(1, b"x", sub=2))

    assert given == ["1:0", "1:1", "1:2"]
    assert running.daemon.written == [("1", 1), ("1", 2)]


def test_a_lost_lease_is_heard_of_while_a_record_fails(run: Callable[..., Running]) -> None:
    function = Failing()
    running = run(function, patience=0.2)
    running.daemon.process_records(record(1))

    began = time.monotonic()
    assert running.daemon.tell("leaseLost")

    running.thread.join(10)
    assert time.monotonic() - began < 5
    assert running.error is None
    assert running.daemon.asked == []

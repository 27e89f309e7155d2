"""Idempotency: an effect that is marked done is never done again, and none is left out that was not done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from streamkit import Divert, RecordProcessor, Unavailable, lambda_handler
from streamkit.errors import ConfigurationError
from streamkit.handler import Handler
from streamkit.idempotency import Idempotency
from streamkit.marks.memory import MemoryMarks
from streamkit.record import Record
from streamkit.testing import Crash, MemoryQueue, kinesis_event


class Clock:
    now = 1_767_225_600.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("streamkit.idempotency.time.time", lambda: clock.now)
    return clock


@pytest.fixture
def store(clock: Clock) -> MemoryMarks:
    return MemoryMarks()


def handler_of(store: Any, effect: Callable[[bytes], object], **options: Any) -> Handler:
    class Payments(RecordProcessor):
        charged = Idempotency(store, "charged", lease=60)
        on_failure = options.get("on_failure", RecordProcessor.on_failure)

        def process(self, record: Record) -> None:
            self.charged.run(record, effect, record.data)

    return lambda_handler(Payments)


EVENT = kinesis_event(["a", "b"])
FIRST = EVENT["Records"][0]["kinesis"]["sequenceNumber"]
ALL: dict[str, Any] = {"batchItemFailures": []}
NONE = {"batchItemFailures": [{"itemIdentifier": FIRST}]}


def test_an_effect_is_done_once_however_often_its_record_comes(store: MemoryMarks) -> None:
    done: list[bytes] = []

    for _ in range(3):
        assert handler_of(store, done.append)(EVENT) == ALL

    assert done == [b"a", b"b"]


def test_it_says_whether_it_did_it(store: MemoryMarks) -> None:
    said: list[bool] = []
    guard = Idempotency(store, "charged", lease=60)

    class Payments(RecordProcessor):
        def process(self, record: Record) -> None:
            said.append(guard.run(record, int, "10", base=2))

    for _ in range(2):
        lambda_handler(Payments)(EVENT)

    assert said == [True, True, False, False]


def test_effects_of_other_names_are_others(store: MemoryMarks) -> None:
    done: list[str] = []
    charged, mailed = (Idempotency(store, name, lease=60) for name in ("charged", "mailed"))

    class Payments(RecordProcessor):
        def process(self, record: Record) -> None:
            charged.run(record, done.append, "charged")
            mailed.run(record, done.append, "mailed")

    for _ in range(2):
        lambda_handler(Payments)(EVENT)

    assert done == ["charged", "mailed"] * 2


def test_an_effect_that_raises_is_not_done_and_can_be_tried_at_once(store: MemoryMarks) -> None:
    done: list[bytes] = []

    def fail(data: bytes) -> None:
        raise RuntimeError("no")

    assert handler_of(store, fail)(EVENT) == NONE
    assert handler_of(store, done.append)(EVENT) == ALL
    assert done == [b"a", b"b"]


def test_a_crash_at_the_effect_holds_its_record_until_the_lease_is_over(store: MemoryMarks, clock: Clock) -> None:
    done: list[bytes] = []

    def crash(data: bytes) -> None:
        done.append(data)
        raise Crash

    with pytest.raises(Crash):
        handler_of(store, crash)(EVENT)

    queue = MemoryQueue()
    for _ in range(2):
        assert handler_of(store, done.append, on_failure=Divert(queue))(EVENT) == NONE
        clock.now += 30
    assert len(queue) == 0, "it is unavailable, and no failure of the record"
    assert handler_of(store, done.append)(EVENT) == ALL
    assert done == [b"a", b"a", b"b"], "the effect is at least once: nobody knows what the crash left"


@pytest.mark.parametrize("method", ["start", "finish"])
def test_a_store_that_can_not_be_reached_leaves_the_record_where_it_is(store: MemoryMarks, method: str) -> None:
    done: list[bytes] = []

    class Down(MemoryMarks):
        pass

    down = Down()
    down._marks, down._done_by = store._marks, store._done_by
    setattr(down, method, lambda *of, **by: 1 / 0)
    queue = MemoryQueue()

    assert handler_of(down, done.append, on_failure=Divert(queue))(EVENT) == NONE

    assert len(queue) == 0
    assert done == ([] if method == "start" else [b"a"])


def test_the_error_of_the_effect_counts_where_the_lease_can_not_be_given_up(
    store: MemoryMarks, caplog: pytest.LogCaptureFixture
) -> None:
    store.release = lambda *of: 1 / 0  # type: ignore[method-assign, assignment]

    def fail(data: bytes) -> None:
        raise RuntimeError("the effect's own")

    assert handler_of(store, fail)(EVENT) == NONE

    assert "the effect's own" in caplog.text
    assert "could not be given up" in caplog.text


def test_an_effect_that_outlives_its_lease_is_told(
    store: MemoryMarks, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []

    def slow(data: bytes) -> None:
        clock.now += 61
        assert handler_of(store, lambda data: done.append("other"))(EVENT) == ALL
        done.append("slow")

    handler_of(store, slow)(kinesis_event(["a"]))

    assert done == ["other", "other", "slow"]
    assert "took longer" in caplog.text


def test_another_invocation_does_not_do_what_one_is_at(store: MemoryMarks) -> None:
    done: list[str] = []

    def at_once(data: bytes) -> None:
        assert handler_of(store, lambda data: done.append("other"))(EVENT) == NONE
        done.append("first")

    handler_of(store, at_once)(kinesis_event(["a"]))

    assert done == ["first"]


def test_its_failures_are_unavailable(store: MemoryMarks) -> None:
    guard = Idempotency(store, "charged", lease=60)
    errors: list[Exception] = []

    class Payments(RecordProcessor):
        def process(self, record: Record) -> None:
            try:
                guard.run(record, guard.run, record, int)
            except Exception as error:
                errors.append(error)

    lambda_handler(Payments)(kinesis_event(["a"]))

    assert [type(error) for error in errors] == [Unavailable]


@pytest.mark.parametrize(
    ("store", "name", "lease", "wrong"),
    [("marks", "x", 60, "store"), (MemoryMarks(), "", 60, "name"), (MemoryMarks(), "x", 0, "lease")],
)
def test_what_is_wrong_is_refused_when_it_is_made(store: Any, name: str, lease: float, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"Idempotency\({wrong}\)"):
        Idempotency(store, name, lease=lease)

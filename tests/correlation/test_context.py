"""Which record is the current one: while it runs, while its writes are delivered, while streamkit logs about it."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from streamkit import Block, Divert, Record, RecordProcessor, Refusal, Sink, Write, correlation, lambda_handler
from streamkit.correlation.context import working
from streamkit.correlation.log import CorrelationFilter
from streamkit.correlation.value import NOTHING
from streamkit.errors import EndlessChain, StreamkitError
from streamkit.event import QueuedRecord
from streamkit.testing import MemoryQueue, MemorySink, kinesis_event


def payload(n: Any, **more: Any) -> dict[str, Any]:
    return {"__context__": {"x-correlation-id": f"r-{n}", "call-chain-length": 1, **more}, "n": n}


class Seen(RecordProcessor):
    """Notes the id that is current beside that of the record."""

    name = "seen"

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def process(self, record: Record) -> Any:
        before = correlation.current().id
        self.work(record)
        self.seen.append((before, correlation.current().id))
        return None

    def work(self, record: Record) -> None:
        return


def test_the_record_that_runs_is_current_and_before_and_after_nothing_is() -> None:
    processor = Seen()

    lambda_handler(processor)(kinesis_event([payload(n) for n in range(3)]))

    assert processor.seen == [(f"r-{n}", f"r-{n}") for n in range(3)]
    assert working.get() is None
    assert correlation.current() is NOTHING
    assert correlation.current().fields() == {}


def test_each_record_has_its_own_in_threads_that_run_at_once() -> None:
    class Threads(Seen):
        concurrency = 4
        meet = threading.Barrier(4)

        def work(self, record: Record) -> None:
            self.meet.wait(60)  # All four are in the middle of it.

    processor = Threads()

    lambda_handler(processor)(kinesis_event([payload(n) for n in range(8)]))

    assert sorted(processor.seen) == [(f"r-{n}", f"r-{n}") for n in range(8)]


def test_a_generator_has_its_record_to_its_end() -> None:
    class Yields(RecordProcessor):
        sink = MemorySink()
        seen: list[str] = []

        def process(self, record: Record) -> Iterator[Write]:
            for n in range(2):
                self.seen.append(correlation.current().id)
                yield self.sink.item(n)

    lambda_handler(Yields)(kinesis_event([payload(1), payload(2)]))

    assert Yields.seen == ["r-1", "r-1", "r-2", "r-2"]


def test_a_record_that_fails_is_current_no_more_when_the_next_one_runs() -> None:
    class Fails(Seen):
        on_failure = Divert(MemoryQueue())

        def work(self, record: Record) -> None:
            if record.json()["n"] == 0:
                raise ValueError("no")

    processor = Fails()

    lambda_handler(processor)(kinesis_event([payload(n) for n in range(2)]))

    assert processor.seen == [("r-1", "r-1")]
    assert working.get() is None


def test_a_handler_that_is_called_within_another_leaves_its_record_current() -> None:
    inner = Seen()

    class Outer(Seen):
        def work(self, record: Record) -> None:
            lambda_handler(inner)(kinesis_event([payload("inner")]))

    outer = Outer()

    lambda_handler(outer)(kinesis_event([payload("outer")]))

    assert (outer.seen, inner.seen) == ([("r-outer", "r-outer")], [("r-inner", "r-inner")])


def test_a_thread_of_the_users_own_has_it_in_a_copy_of_the_context() -> None:
    class Pools(RecordProcessor):
        seen: list[str] = []

        def process(self, record: Record) -> None:
            with ThreadPoolExecutor(1) as pool:
                run = contextvars.copy_context().run
                self.seen += [
                    pool.submit(run, lambda: correlation.current().id).result(),
                    pool.submit(lambda: correlation.current().id).result(),
                ]

    lambda_handler(Pools)(kinesis_event([payload(1)]))

    assert Pools.seen == ["r-1", ""]


class Watching(Sink):
    """Notes what is current when it is called, and what each of its writes is of."""

    request_writes = 2

    def __init__(self) -> None:
        self.current: list[str] = []
        self.of: list[list[str]] = []

    def item(self, value: Any) -> Write:
        return Write(self, value)

    def write(self, writes: Sequence[Write], *, deadline: float) -> Iterable[Refusal]:
        self.current.append(correlation.current().id)
        self.of.append([correlation.of(write).id for write in writes])
        yield from ()


class TestDelivery:
    def test_of_one_records_writes_has_that_record_and_of_several_none(self) -> None:
        class Writes(RecordProcessor):
            sink = Watching()

            def process(self, record: Record) -> Iterator[Write]:
                for n in range(record.json()["n"]):
                    yield self.sink.item(n)

        lambda_handler(Writes)(kinesis_event([payload(2), payload(1), payload(3)]))

        assert Writes.sink.current == ["r-2", "", "r-3"]
        assert Writes.sink.of == [["r-2", "r-2"], ["r-1", "r-3"], ["r-3", "r-3"]]

    def test_an_onward_sink_is_not_given_what_would_go_round_for_ever(self) -> None:
        class Sends(Watching):
            request_writes = 10
            is_onward = True

        class Writes(RecordProcessor):
            on_failure = Block(dead_letters=MemoryQueue())
            sink = Sends()

            def process(self, record: Record) -> Write:
                return self.sink.item(1)

        answer = lambda_handler(Writes)(
            kinesis_event([payload(1), payload(2, **{"call-chain-length": 9}), payload(3, **{"call-chain-length": 8})])
        )

        assert answer == {"batchItemFailures": []}
        assert Writes.sink.of == [["r-1", "r-3"]]
        dead_letters = Writes.on_failure.dead_letters
        assert isinstance(dead_letters, MemoryQueue)
        (letter,) = dead_letters
        assert letter.correlation["x-correlation-id"] == "r-2"
        assert "gone through 10 functions" in letter.failures[0].message

    def test_an_onward_sink_is_not_called_for_nothing(self) -> None:
        class Sends(Watching):
            is_onward = True

        class Writes(RecordProcessor):
            on_failure = Block(dead_letters=MemoryQueue())
            sink = Sends()

            def process(self, record: Record) -> Write:
                return self.sink.item(1)

        lambda_handler(Writes)(kinesis_event([payload(1, **{"call-chain-length": 9})]))

        assert Writes.sink.of == []

    def test_a_write_that_was_not_yielded_is_of_nothing(self) -> None:
        assert correlation.of(Watching().item(1)) is NOTHING


class TestStreamkitsOwnLines:
    @pytest.fixture
    def lines(self) -> Iterator[list[tuple[str, str]]]:
        lines: list[tuple[str, str]] = []

        class Keep(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                lines.append((record.__dict__["correlation_id"], record.getMessage()))

        keep = Keep()
        keep.addFilter(CorrelationFilter())
        log = logging.getLogger("streamkit")
        log.addHandler(keep)
        yield lines
        log.removeHandler(keep)

    @pytest.mark.parametrize("threads", [1, 3])
    def test_about_a_record_have_its_id(self, lines: list[tuple[str, str]], threads: int) -> None:
        class Fails(RecordProcessor):
            on_failure = Divert(MemoryQueue())
            concurrency = threads

            def process(self, record: Record) -> None:
                raise ValueError(f"number {record.json()['n']}")

        lambda_handler(Fails)(kinesis_event([payload(n) for n in range(3)]))

        said = sorted((identity, text[text.index("number ") :][:8]) for identity, text in lines)
        assert said == [("r-0", "number 0"), ("r-1", "number 1"), ("r-2", "number 2")]

    def test_about_a_refused_write_have_the_id_of_its_record_and_not_of_the_last_that_ran(
        self, lines: list[tuple[str, str]]
    ) -> None:
        class Refusing(Watching):
            request_writes = 100

            def write(self, writes: Sequence[Write], *, deadline: float) -> Iterable[Refusal]:
                return [Refusal(writes[0], ValueError("no"))]

        class Writes(RecordProcessor):
            sink = Refusing()

            def process(self, record: Record) -> Write:
                return self.sink.item(1)

        lambda_handler(Writes)(kinesis_event([payload(n) for n in range(3)]))

        assert [identity for identity, _ in lines] == ["r-0"]

    def test_about_data_that_cannot_be_decoded_have_its_event_id(self, lines: list[tuple[str, str]]) -> None:
        class Reads(RecordProcessor):
            on_failure = Block(dead_letters=MemoryQueue())

            def process(self, record: Record) -> None:
                record.json()

        lambda_handler(Reads)(kinesis_event([b"\xff"], stream="orders"))

        assert lines[0][0].startswith("orders/shardId-")


class TestAnEnvelope:
    def test_keeps_what_its_record_is_followed_by_through_every_retry_to_the_dead_letters(self) -> None:
        retries, dead_letters = MemoryQueue(), MemoryQueue()

        class Fails(RecordProcessor):
            on_failure = Divert(retries, dead_letters, backoff=0)
            seen: list[dict[str, str]] = []

            def process(self, record: Record) -> None:
                self.seen.append(correlation.current().fields())
                raise ValueError("no")

        handler = lambda_handler(Fails)
        handler(kinesis_event([payload(1, traceparent="00-" + "1" * 32 + "-" + "2" * 16 + "-01")]))
        while len(retries):
            retries.deliver(handler)

        (letter,) = dead_letters
        assert letter.correlation == {
            "x-correlation-id": "r-1",
            "call-chain-length": "2",
            "traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01",
            "debug-log-enabled": "false",
        }
        assert Fails.seen == [letter.correlation] * 4

    def test_of_a_record_that_brought_nothing_keeps_nothing_that_its_event_id_does_not_say(self) -> None:
        retries = MemoryQueue()

        class Fails(RecordProcessor):
            on_failure = Divert(retries, backoff=0)
            seen: list[str] = []

            def process(self, record: Record) -> None:
                self.seen.append(correlation.current().id)
                raise ValueError("no")

        handler = lambda_handler(Fails)
        handler(kinesis_event([{"n": 1}]))
        (envelope,) = retries
        retries.deliver(handler)

        assert envelope.correlation == {}
        assert Fails.seen == [envelope.event_id] * 2

    def test_has_what_was_added_and_what_it_had_of_others(self) -> None:
        retries = MemoryQueue()

        class Fails(RecordProcessor):
            on_failure = Divert(retries, backoff=0)
            attempts: list[dict[str, str]] = []

            def process(self, record: Record) -> None:
                if not isinstance(record, QueuedRecord):
                    correlation.add("User-Id", "u-7")
                self.attempts.append(correlation.current().ids)
                raise ValueError("no")

        handler = lambda_handler(Fails)
        handler(kinesis_event([{"n": 1}]))
        retries.deliver(handler)

        assert [ids["x-correlation-user-id"] for ids in Fails.attempts] == ["u-7"] * 2


class TestAdd:
    def test_is_for_the_record_that_runs_and_not_the_next(self) -> None:
        class Adds(Seen):
            names: list[list[str]] = []

            def work(self, record: Record) -> None:
                correlation.add(f"n{record.json()['n']}", "x")
                self.names.append(sorted(correlation.current().ids))

        lambda_handler(Adds)(kinesis_event([payload(0), payload(1)]))

        assert Adds.names == [["x-correlation-id", "x-correlation-n0"], ["x-correlation-id", "x-correlation-n1"]]

    def test_within_use_is_over_when_that_is(self) -> None:
        with correlation.use(correlation.of_event({"headers": {"x-correlation-id": "r"}})):
            correlation.add("x-correlation-id", "another")
            assert correlation.current().id == "another"
        assert correlation.current() is NOTHING

    @pytest.mark.parametrize(("name", "value"), [("a b", "x"), ("", "x"), ("a" * 51, "x"), ("a", ""), ("a", "  ")])
    def test_refuses_what_cannot_be_sent(self, name: str, value: str) -> None:
        with correlation.use(correlation.of_event({})), pytest.raises(ValueError, match=r"name of an id|not empty"):
            correlation.add(name, value)

    def test_refuses_more_than_twelve(self) -> None:
        with correlation.use(correlation.of_event({})):
            for n in range(12):
                correlation.add(f"n{n}", "x")
            with pytest.raises(ValueError, match="at most 12 ids"):
                correlation.add("one-more", "x")
            correlation.add("n1", "y")

            assert correlation.current().ids["x-correlation-n1"] == "y"

    def test_outside_of_any_event_is_an_error(self) -> None:
        with pytest.raises(StreamkitError, match="no event to add an id to"):
            correlation.add("a", "b")


def test_a_chain_that_is_too_long_is_told_by_check() -> None:
    (ninth, tenth) = (correlation.of_event({"headers": {"call-chain-length": str(n)}}) for n in (8, 9))

    correlation.check(ninth)
    with pytest.raises(EndlessChain, match="gone through 10 functions"):
        correlation.check(tenth)

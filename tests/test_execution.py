from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit import (
    Block,
    DecodeError,
    Divert,
    Record,
    RecordProcessor,
    Refusal,
    Reject,
    Retry,
    Unavailable,
    Write,
    kpl,
    lambda_handler,
)
from streamkit.event import decode
from streamkit.policy import Policy
from streamkit.testing import MemoryQueue, MemorySink, kinesis_event

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def stream(letters: str, keys: Sequence[str | None] | None = None) -> dict[str, Any]:
    return kinesis_event([letter.encode() for letter in letters], partition_keys=keys)


def answered(answer: Any, event: dict[str, Any]) -> int | None:
    """The index of the record that the answer names; None: success."""
    named = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
    numbers = [raw["kinesis"]["sequenceNumber"] for raw in event["Records"]]
    assert len(named) <= 1
    return numbers.index(named[0]) if named else None


def run(processor: RecordProcessor, event: dict[str, Any], context: Any = None) -> int | None:
    return answered(lambda_handler(processor)(event, context), event)


class Processor(RecordProcessor):
    """Does what the test says with each record's text."""

    name = "processor"

    def __init__(self, work: Callable[[Any, str], Any], **options: Any) -> None:
        self.work = work
        self.sink = MemorySink()
        self.started = ""
        for option, value in options.items():
            setattr(self, option, value)

    def process(self, record: Record) -> Any:
        text = record.data.decode()
        self.started += text
        return self.work(self, text)


def error_of(work: Callable[[Any, str], Any], caplog: pytest.LogCaptureFixture) -> str:
    """How the first of two records fails, as the log has it. Nothing of it was written."""
    processor = Processor(lambda self, text: work(self, text) if text == "a" else self.sink.item(text))

    assert run(processor, stream("ab")) == 0

    assert processor.sink.items == []
    (line,) = (entry.getMessage() for entry in caplog.records if ": record " in entry.getMessage())
    return line.partition(" failed and stays where it is: ")[2]


class TestWritesThatAre:
    @pytest.mark.parametrize(
        "work",
        [
            lambda self, text: self.sink.item(text),
            lambda self, text: [self.sink.item(text)],
            lambda self, text: (self.sink.item(text),),
            lambda self, text: iter([self.sink.item(text)]),
            lambda self, text: (self.sink.item(one) for one in text),
            lambda self, text: map(self.sink.item, text),
            lambda self, text: dict.fromkeys([self.sink.item(text)]).keys(),
        ],
        ids=["single", "list", "tuple", "iterator", "generator", "map", "view"],
    )
    def test_returned_in_any_form_are_delivered(self, work: Callable[[Any, str], Any]) -> None:
        processor = Processor(work)

        assert run(processor, stream("ab")) is None

        assert processor.sink.items == ["a", "b"]

    @pytest.mark.parametrize("result", [None, [], (), iter(())])
    def test_none_at_all_are_no_failure(self, result: Any) -> None:
        processor = Processor(lambda self, text: result)

        assert run(processor, stream("ab")) is None
        assert processor.sink.requests == []

    def test_made_and_not_yielded_fail_the_record_and_show_the_yield(self, caplog: pytest.LogCaptureFixture) -> None:
        class Orders(RecordProcessor):
            search = MemorySink()

            def process(self, record: Record) -> None:
                self.search.item(record.data)

        assert run(Orders(), stream("a")) == 0

        assert "process made a write and did not yield it, so it is lost: `yield self.search.…`" in caplog.text
        assert Orders.search.items == []

    def test_made_and_only_partly_yielded_fail_the_record(self, caplog: pytest.LogCaptureFixture) -> None:
        def work(self: Processor, text: str) -> Iterator[Write]:
            yield self.sink.item(text)
            self.sink.item("lost")

        assert "did not yield it" in error_of(work, caplog)

    def test_made_by_a_record_that_then_failed_do_not_accuse_the_next(self) -> None:
        def work(self: Processor, text: str) -> Iterator[Write]:
            write = self.sink.item(text)
            if text == "a":
                raise ValueError
            yield write

        processor = Processor(work, on_failure=Divert(MemoryQueue()))

        assert run(processor, stream("ab")) is None
        assert processor.sink.items == ["b"]

    def test_yielded_twice_fail_the_record(self, caplog: pytest.LogCaptureFixture) -> None:
        def work(self: Processor, text: str) -> list[Write]:
            return [self.sink.item(text)] * 2

        assert "yielded before; make a new one" in error_of(work, caplog)

    def test_kept_and_yielded_for_the_next_record_too_fail_that_one(self) -> None:
        write = MemorySink().item("kept")

        assert run(Processor(lambda self, text: write), stream("ab")) == 1

    @pytest.mark.parametrize(
        ("result", "name"),
        [("text", "str"), (b"bytes", "bytes"), ({"a": 1}, "dict"), (7, "int"), (True, "bool"), (object(), "object")],
    )
    def test_no_writes_at_all_are_a_type_error_that_names_them(
        self, result: Any, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        line = error_of(lambda self, text: result, caplog)

        assert line.startswith(f"TypeError: process returned {name}; it returns or yields writes, or nothing")

    @pytest.mark.parametrize(
        ("item", "name"), [("text", "str"), (None, "NoneType"), ([], "list"), (MemorySink(), "MemorySink")]
    )
    def test_among_other_things_are_a_type_error_that_names_them(
        self, item: Any, name: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        line = error_of(lambda self, text: [self.sink.item(text), item], caplog)

        assert line.startswith(f"TypeError: process yielded {name}; it yields writes")

    def test_yielded_before_a_record_fails_half_way_are_not_delivered(self, caplog: pytest.LogCaptureFixture) -> None:
        def work(self: Processor, text: str) -> Iterator[Write]:
            yield self.sink.item(text)
            raise KeyError("total")

        assert error_of(work, caplog).startswith("KeyError: 'total' (test_execution.py:")

    def test_a_copy_so_that_a_later_change_does_not_reach_them(self) -> None:
        shared: list[str] = []

        def work(self: Processor, text: str) -> Write:
            shared.append(text)
            return self.sink.item(shared)

        processor = Processor(work)

        assert run(processor, stream("abc")) is None
        assert processor.sink.items == [["a"], ["a", "b"], ["a", "b", "c"]]


@pytest.mark.parametrize("concurrency", [1, 4])
class TestWhatStopsTheProcess:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_is_no_failure_of_the_record(self, error: type[BaseException], concurrency: int) -> None:
        def work(self: Processor, text: str) -> None:
            raise error

        queue = MemoryQueue()

        with pytest.raises(error):
            run(Processor(work, on_failure=Divert(queue), concurrency=concurrency), stream("a"))

        assert len(queue) == 0


class TestPrepare:
    class Prepared(Processor):
        """``refuse`` is asked before each call of ``prepare``: what to raise, if anything."""

        def __init__(self, refuse: Callable[[Sequence[Record]], Exception | None], **options: Any) -> None:
            super().__init__(lambda self, text: self.sink.item(text), **options)
            self.refuse = refuse
            self.calls: list[str] = []

        def prepare(self, records: Sequence[Record]) -> None:
            self.calls.append("".join(record.data.decode() for record in records))
            error = self.refuse(records)
            if error is not None:
                raise error

    def test_is_called_once_before_the_first_record_with_all_of_them(self) -> None:
        processor = self.Prepared(lambda records: None)

        assert run(processor, stream("abc")) is None

        assert processor.calls == ["abc"]
        assert processor.sink.items == ["a", "b", "c"]

    def test_is_not_called_for_an_empty_batch(self) -> None:
        processor = self.Prepared(lambda records: None)

        lambda_handler(processor)({"Records": []}, None)

        assert processor.calls == []

    def test_is_not_given_what_can_not_be_decoded(self) -> None:
        event = stream("abc")
        damaged = kpl.aggregate([kpl.UserRecord(b"x", "k")])[:-1] + b"?"
        event["Records"][1] = kinesis_event([damaged], start=event["Records"][1]["kinesis"]["sequenceNumber"])[
            "Records"
        ][0]
        processor = self.Prepared(lambda records: None, on_failure=Block(MemoryQueue()))

        assert run(processor, event) is None

        assert processor.calls == ["ac"]

    def test_its_decode_error_is_that_records_failure_and_it_is_called_again_without_it(self) -> None:
        def refuse(records: Sequence[Record]) -> Exception | None:
            bad = [record for record in records if record.data in (b"b", b"d")]
            return DecodeError("no id", bad[0].event_id) if bad else None

        dead_letters = MemoryQueue()
        processor = self.Prepared(refuse, on_failure=Block(dead_letters))

        assert run(processor, stream("abcde")) is None

        assert processor.calls == ["abcde", "acde", "ace"]
        assert processor.sink.items == ["a", "c", "e"]
        assert [envelope.data for envelope in dead_letters] == [b"b", b"d"]

    def test_the_decode_error_that_json_raises_knows_its_record(self) -> None:
        class Loading(self.Prepared):  # type: ignore[name-defined,misc]
            def prepare(self, records: Sequence[Record]) -> None:
                for record in records:
                    record.json()

        processor = Loading(lambda records: None, on_failure=Block(dead_letters := MemoryQueue()))

        assert run(processor, kinesis_event(["1", "no", "3"])) is None

        assert [envelope.data for envelope in dead_letters] == [b"no"]
        assert processor.started == "13"

    @pytest.mark.parametrize(
        "error",
        [
            ConnectionError("down"),
            Unavailable("look-up"),
            DecodeError("whose?"),
            DecodeError("whose?", "another"),
            Reject("no"),
        ],
    )
    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_any_other_error_is_of_no_record_so_nothing_starts_and_nothing_goes_aside(
        self, error: Exception, concurrency: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        processor = self.Prepared(
            lambda records: error, on_failure=Divert(queue, dead_letters), concurrency=concurrency
        )

        assert run(processor, stream("abc")) == 0

        assert processor.started == ""
        assert (len(queue), len(dead_letters)) == (0, 0)
        assert len(caplog.records) == 1

    def test_the_same_decode_error_again_and_again_comes_to_an_end(self) -> None:
        def refuse(records: Sequence[Record]) -> Exception:
            return DecodeError("bad", first)

        event = stream("abc")
        first = decode(event).records[0].event_id
        processor = self.Prepared(refuse, on_failure=Block(MemoryQueue()))

        assert run(processor, event) == 1

        assert processor.calls == ["abc", "bc"]
        assert processor.started == ""


class Gate:
    """Holds the records of some texts until they are let go, and remembers what ran together with what."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.running: set[str] = set()
        self.most = 0
        self.together: list[set[str]] = []
        self.order: list[str] = []

    def enter(self, text: str) -> None:
        with self.lock:
            self.running.add(text)
            self.order.append(text)
            self.most = max(self.most, len(self.running))
            self.together.append(set(self.running))

    def leave(self, text: str) -> None:
        with self.lock:
            self.running.remove(text)


class TestConcurrency:
    def test_runs_as_many_as_it_says_and_no_more(self) -> None:
        gate = Gate()
        full = threading.Barrier(3, timeout=60)

        def work(self: Processor, text: str) -> Write:
            gate.enter(text)
            if text in "abc":
                full.wait()  # Passes only if three run at once.
            gate.leave(text)
            return self.sink.item(text)

        assert run(Processor(work, concurrency=3), stream("abcdef")) is None

        assert gate.most == 3

    def test_never_runs_two_records_of_one_key_at_once(self) -> None:
        gate = Gate()
        keys = ["k", "k", "other", "k", "other", None, None]

        def work(self: Processor, text: str) -> None:
            gate.enter(text)
            gate.leave(text)

        assert run(Processor(work, concurrency=4), stream("abcdefg", keys)) is None

        for together in gate.together:
            running = [keys["abcdefg".index(text)] for text in together]
            keyed = [key for key in running if key is not None]
            assert len(keyed) == len(set(keyed))
        assert [text for text in gate.order if text in "abd"] == ["a", "b", "d"]
        assert [text for text in gate.order if text in "ce"] == ["c", "e"]

    def test_records_without_a_key_do_not_wait_for_each_other(self) -> None:
        together = threading.Barrier(2, timeout=60)

        def work(self: Processor, text: str) -> None:
            together.wait()

        assert run(Processor(work, concurrency=2), stream("ab", [None, None])) is None

    def test_without_order_records_of_one_key_run_together(self) -> None:
        together = threading.Barrier(2, timeout=60)

        def work(self: Processor, text: str) -> None:
            together.wait()

        assert run(Processor(work, concurrency=2, ordering="none"), stream("ab", ["k", "k"])) is None

    def test_starts_records_in_sequence_order_and_delivers_each_keys_writes_in_it(self) -> None:
        keys = [f"key-{n % 5}" for n in range(26)]

        def work(self: Processor, text: str) -> Write:
            return self.sink.item(text)

        processor = Processor(work, concurrency=8)

        assert run(processor, stream(LETTERS, keys)) is None

        for key in set(keys):
            of_key = [letter for letter, other in zip(LETTERS, keys, strict=True) if other == key]
            assert [item for item in processor.sink.items if item in of_key] == of_key

    def test_one_thread_calls_the_sinks_and_it_is_the_handlers(self) -> None:
        threads: set[int] = set()
        workers: set[int] = set()

        class Watching(MemorySink):
            request_writes = 2

            def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
                threads.add(threading.get_ident())
                return super().write(writes, deadline=deadline)

        def work(self: Processor, text: str) -> Write:
            workers.add(threading.get_ident())
            return self.sink.item(text)

        processor = Processor(work, concurrency=4)
        processor.sink = Watching()

        assert run(processor, stream(LETTERS)) is None

        assert threads == {threading.get_ident()}
        assert threading.get_ident() not in workers
        assert sorted(processor.sink.items) == list(LETTERS)

    def test_tells_a_write_that_was_not_yielded_in_any_thread(self, caplog: pytest.LogCaptureFixture) -> None:
        def work(self: Processor, text: str) -> Iterable[Write]:
            write = self.sink.item(text)
            return [] if text == "c" else [write]

        processor = Processor(work, concurrency=3, on_failure=Divert(queue := MemoryQueue()))

        assert run(processor, stream("abcde")) is None

        assert [envelope.data for envelope in queue] == [b"c"]
        assert "did not yield it" in caplog.text

    def test_with_block_what_runs_is_finished_and_nothing_more_starts(self) -> None:
        all_three = threading.Barrier(3, timeout=60)
        known = threading.Event()

        class Telling(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                known.set()

        def work(self: Processor, text: str) -> Write:
            all_three.wait()
            if text == "b":
                raise ValueError
            assert known.wait(60)
            return self.sink.item(text)

        processor = Processor(work, concurrency=3)
        telling = Telling()
        logging.getLogger("streamkit").addHandler(telling)
        try:
            assert run(processor, stream("abcdef")) == 1
        finally:
            logging.getLogger("streamkit").removeHandler(telling)

        assert sorted(processor.started) == ["a", "b", "c"]
        assert sorted(processor.sink.items) == ["a", "c"]

    def test_with_block_nothing_waits_in_line_that_would_start_after_the_failure(self) -> None:
        release = threading.Event()

        def work(self: Processor, text: str) -> None:
            assert release.wait(60)
            raise ValueError

        processor = Processor(work, concurrency=2)
        soon = threading.Timer(0.2, release.set)  # Time enough for more to be put in line, if it were.
        soon.start()

        assert run(processor, stream("abcdef")) == 0

        soon.join()
        assert sorted(processor.started) == ["a", "b"]

    def test_with_divert_failures_are_sent_aside_in_order(self) -> None:
        def work(self: Processor, text: str) -> Write:
            if text in "bdfhj":
                raise ValueError
            return self.sink.item(text)

        queue = MemoryQueue()

        assert run(Processor(work, concurrency=4, on_failure=Divert(queue)), stream(LETTERS)) is None

        assert [envelope.data for envelope in queue] == [b"b", b"d", b"f", b"h", b"j"]

    def test_with_divert_nothing_goes_aside_while_an_earlier_record_may_still_be_unavailable(self) -> None:
        later_failed = threading.Event()

        def work(self: Processor, text: str) -> None:
            if text == "a":
                assert later_failed.wait(60)
                raise Unavailable("payments API")
            later_failed.set()
            raise ValueError

        queue = MemoryQueue()

        assert run(Processor(work, concurrency=2, on_failure=Divert(queue)), stream("ab")) == 0

        assert len(queue) == 0


class TestTheDeadline:
    class Context:
        def __init__(self, seconds: float) -> None:
            self.left = seconds

        def get_remaining_time_in_millis(self) -> float:
            return self.left * 1000

    @pytest.mark.parametrize("concurrency", [1, 2])
    def test_stops_before_a_record_as_long_as_the_longest_would_pass_it(self, concurrency: int) -> None:
        context = self.Context(10)

        def work(self: Processor, text: str) -> Write:
            context.left -= 2
            return self.sink.item(text)

        processor = Processor(work, concurrency=concurrency, ordering="key")

        # 10, 8, 6, 4: with 2 s left, the margin of 1 s and a record of 2 s are too much.
        assert run(processor, stream("abcdef", ["k"] * 6), context) == 4

        assert processor.sink.items == ["a", "b", "c", "d"]

    @pytest.mark.parametrize("concurrency", [1, 2])
    def test_that_is_past_still_lets_the_first_record_run(self, concurrency: int) -> None:
        processor = Processor(lambda self, text: self.sink.item(text), concurrency=concurrency)

        assert run(processor, stream("abc"), self.Context(0)) == 1

        assert processor.sink.items == ["a"]

    def test_what_was_not_started_goes_nowhere(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        event = stream("abc")
        event["Records"][2]["kinesis"]["data"] = None  # Known to be bad before anything starts.
        processor = Processor(lambda self, text: self.sink.item(text), on_failure=Divert(queue, dead_letters))

        assert run(processor, event, self.Context(0)) == 1

        assert (len(queue), len(dead_letters)) == (0, 0)


class TestTheLog:
    def test_a_failed_record_is_one_line(self, caplog: pytest.LogCaptureFixture) -> None:
        def work(self: Processor, text: str) -> None:
            raise ValueError("first line\nsecond line")

        run(Processor(work), stream("a"))

        (entry,) = caplog.records
        assert entry.levelno == logging.ERROR
        assert entry.exc_info is None
        assert "\n" not in entry.getMessage()

    def test_says_once_which_line_to_add_where_poison_has_nowhere_to_go(self, caplog: pytest.LogCaptureFixture) -> None:
        def work(self: Processor, text: str) -> None:
            raise Reject("no")

        run(Processor(work, on_failure=Divert(MemoryQueue())), stream("abc"))

        advice = [entry.getMessage() for entry in caplog.records if "add dead letters" in entry.getMessage()]
        assert len(advice) == 1
        assert 'on_failure = Divert(…, dead_letters=SqsQueue.from_env("DEAD_LETTERS"))' in advice[0]


POLICIES = ["Block()", "Block(dead)", "Divert(queue)", "Divert(queue, dead)"]
WHAT_HAPPENS = [
    "ok",
    "raise",
    "reject",
    "retry",
    "unavailable",
    "write failed",
    "write invalid",
    "write unavailable",
    "bad data",
]


class FewAtOnce(MemorySink):
    request_writes = 3


class Scripted(RecordProcessor):
    """Record n does what ``script[n]`` says, and the log has every start and every known failure."""

    name = "scripted"

    def __init__(self, script: list[str], policy: Policy, concurrency: int) -> None:
        self.script = script
        self.on_failure = policy
        self.concurrency = concurrency
        self.sink = FewAtOnce()
        self.sink.refuse(self.refusal)
        self.known = False
        self.started_late: list[int] = []

    def refusal(self, n: int) -> Any:
        kind, _, rest = self.script[n].partition(" ")
        self.known = self.known or kind == "write"
        return rest if kind == "write" else None

    def process(self, record: Record) -> Iterator[Write]:
        n = int(record.data)
        if self.known:
            self.started_late.append(n)
        what = self.script[n]
        errors = {"raise": ValueError(), "reject": Reject(), "retry": Retry(5), "unavailable": Unavailable("x")}
        if what in errors:
            self.known = self.concurrency == 1
            raise errors[what]
        yield self.sink.item(n)


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(WHAT_HAPPENS + ["ok"] * 6), min_size=1, max_size=12),
    st.sampled_from(POLICIES),
    st.sampled_from(["ok", "queue down", "dead letters down", "both down"]),
    st.lists(st.sampled_from(["k", "l", None]), min_size=12, max_size=12),
    st.sampled_from([1, 1, 3]),
)
def test_whatever_fails_nothing_unsettled_is_passed_and_with_block_nothing_starts_after_a_failure(
    script: list[str], policy: str, queues: str, keys: list[str | None], concurrency: int
) -> None:
    queue, dead = MemoryQueue(), MemoryQueue()
    queue.refuse(queues in ("queue down", "both down"))
    dead.refuse(queues in ("dead letters down", "both down"))
    processor = Scripted(
        script, eval(policy, {"Block": Block, "Divert": Divert, "queue": queue, "dead": dead}), concurrency
    )
    event = kinesis_event([str(n) for n in range(len(script))], partition_keys=keys[: len(script)], start=96)
    for n, what in enumerate(script):
        if what == "bad data":
            event["Records"][n]["kinesis"]["data"] = None

    index = run(processor, event)

    passed = range(len(script) if index is None else index)
    written = set(processor.sink.items)
    aside = [n for n in range(len(script)) for held in (queue, dead) if _holds(held, event, n)]
    assert all(n in written or n in aside for n in passed), "the answer passed a record that nobody has"
    assert all("unavailable" not in script[n] for n in aside), "what was unavailable went aside"
    assert all(script[n] != "ok" for n in aside)
    assert len(aside) == len(set(aside))
    if index is not None:
        unsettled = index not in aside and (index not in written or "write" in script[index])
        assert unsettled, "the answer named a record that is settled"
    if policy == "Block()" and concurrency == 1:
        assert processor.started_late == [], "something started after a failure was known"
    if policy.startswith("Block"):
        assert len(queue) == 0
        assert all(script[n] in ("reject", "write invalid", "bad data") for n in aside)


def _holds(queue: MemoryQueue, event: dict[str, Any], n: int) -> bool:
    return any(envelope.sequence_number == event["Records"][n]["kinesis"]["sequenceNumber"] for envelope in queue)

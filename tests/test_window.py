from __future__ import annotations

import copy
import hashlib
import json
import logging
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit import (
    Block,
    Divert,
    Record,
    RecordProcessor,
    Reject,
    StreamkitError,
    Unavailable,
    Write,
    kpl,
    lambda_handler,
)
from streamkit.errors import BatchFailed, ConfigurationError
from streamkit.testing import MemoryQueue, MemorySink, kinesis_event, window_event
from streamkit.window import Window, WindowProcessor

START = 100


class Letters(WindowProcessor):
    """Collects the records' texts; ``work`` may fail after the state was changed."""

    name = "letters"

    def __init__(self, work: Callable[[str], Any] = lambda text: None, **options: Any) -> None:
        self.work = work
        self.sink = MemorySink()
        self.started = ""
        self.ends: list[Window] = []
        for option, value in options.items():
            setattr(self, option, value)

    def aggregate(self, record: Record, state: Any) -> None:
        text = record.data.decode()
        self.started += text
        state["seen"] = state.get("seen", "") + text
        state.setdefault("each", []).append(text)
        self.work(text)

    def finish(self, window: Window, state: Any) -> Iterator[Write]:
        self.ends.append(window)
        yield self.sink.item(state.get("seen", ""))


def batch(letters: Sequence[str | bytes], start: int = START) -> dict[str, Any]:
    return kinesis_event(letters, start=start)


def aggregate_of(letters: str) -> bytes:
    return kpl.aggregate(kpl.UserRecord(letter.encode(), "k") for letter in letters)


def damaged_within(*contents: bytes | None) -> bytes:
    """An aggregate in which the records that are None name a partition key that is not in its table."""
    body = b"\x0a\x01k"
    for content in contents:
        record = b"\x08" + (b"\x07" if content is None else b"\x00") + b"\x1a\x01" + (content or b"?")
        body += b"\x1a" + bytes([len(record)]) + record
    return b"\xf3\x89\x9a\xc2" + body + hashlib.md5(body).digest()


def undecodable(event: dict[str, Any], index: int) -> dict[str, Any]:
    event["Records"][index]["kinesis"]["data"] = "not base64!"
    return event


def failing(*letters: str, error: Exception | None = None) -> Callable[[str], None]:
    def work(text: str) -> None:
        if text in letters:
            raise error or ValueError("as the test says")

    return work


def call(processor: RecordProcessor, event: dict[str, Any], context: Any = None) -> Any:
    """The answer as Lambda reads it."""
    return json.loads(json.dumps(lambda_handler(processor)(event, context)))


def named(answer: Any) -> int | None:
    """The sequence number that the answer names; None: success."""
    failures = answer["batchItemFailures"]
    assert len(failures) <= 1
    return int(failures[0]["itemIdentifier"]) if failures else None


def seen(answer: Any) -> str:
    """The texts that the answered state has in it, by both of its fields."""
    state = answer["state"]["state"]
    text: str = state.get("seen", "")
    assert "".join(state.get("each", [])) == text
    return text


class Context:
    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def get_remaining_time_in_millis(self) -> float:
        return self.left * 1000


class TestTheState:
    def test_goes_from_call_to_call(self) -> None:
        letters = Letters()

        first = call(letters, window_event(batch("ab")))
        second = call(letters, window_event(batch("cd", start=102), state=first["state"]))

        assert (named(first), seen(first)) == (None, "ab")
        assert (named(second), seen(second)) == (None, "abcd")

    def test_is_answered_in_an_envelope_that_can_be_read(self) -> None:
        answer = call(Letters(), window_event(batch("ab")))

        assert answer == {
            "batchItemFailures": [],
            "state": {
                "streamkit_window": 1,
                "since": "100",
                "until": "101",
                "state": {"seen": "ab", "each": ["a", "b"]},
            },
        }

    def test_is_what_aggregate_returns_where_that_is_something(self) -> None:
        class Count(WindowProcessor):
            def initial(self) -> int:
                return 10

            def aggregate(self, record: Record, state: int) -> int:
                return state + 1

        first = call(Count(), window_event(batch("ab")))
        second = call(Count(), window_event(batch("c", start=102), state=first["state"]))

        assert second["state"] == {"streamkit_window": 1, "since": "100", "until": "102", "state": 13}

    def test_begins_as_initial_says_and_windows_do_not_share_it(self) -> None:
        class Shared(Letters):
            beginning = {"seen": "", "each": ["a"]}

            def initial(self) -> Any:
                return self.beginning

        shared = Shared()

        for _ in range(2):
            answer = call(shared, window_event(batch("b")))
            assert answer["state"]["state"] == {"seen": "b", "each": ["a", "b"]}
        assert Shared.beginning == {"seen": "", "each": ["a"]}

    @pytest.mark.parametrize("given", [{}, None])
    def test_of_a_new_window_is_empty_or_null(self, given: Any) -> None:
        event = window_event(batch("a"))
        event["state"] = given

        assert seen(call(Letters(), event)) == "a"

    def test_that_is_empty_is_not_a_new_one(self) -> None:
        class Emptied(WindowProcessor):
            def initial(self) -> Any:
                return {"new": True}

            def aggregate(self, record: Record, state: Any) -> Any:
                return {} if record.data == b"x" else state

        first = call(Emptied(), window_event(batch("x")))
        second = call(Emptied(), window_event(batch("a", start=101), state=first["state"]))

        assert second["state"]["state"] == {}

    def test_of_an_empty_call_that_is_not_the_last_is_answered_unchanged(self) -> None:
        first = call(Letters(), window_event(batch("a")))

        assert call(Letters(), window_event(state=first["state"])) == first

    def test_of_the_event_is_not_changed(self) -> None:
        event = window_event(batch("bc"), state={"seen": "a", "each": ["a"]})
        before = copy.deepcopy(event)

        assert seen(call(Letters(failing("c")), event)) == "ab"

        assert event == before

    def test_of_another_function_is_continued(self) -> None:
        answer = call(Letters(), window_event(batch("b"), state={"seen": "a", "each": ["a"]}))

        assert seen(answer) == "ab"
        assert answer["state"]["since"] == "100"

    @pytest.mark.parametrize("version", [2, True, "1", None])
    def test_of_an_unknown_version_fails_the_call(self, version: Any) -> None:
        event = window_event(batch("a"), state={"streamkit_window": version, "since": "1", "until": "1", "state": {}})

        with pytest.raises(StreamkitError, match="deploy the newer one again"):
            call(Letters(), event)

    @pytest.mark.parametrize(
        "rest",
        [
            {},
            {"since": "1", "until": "1"},
            {"state": {}},
            {"since": "1", "state": {}},
            {"since": 1, "until": "1", "state": {}},
        ],
    )
    def test_that_lost_a_part_of_its_envelope_fails_the_call(self, rest: Any) -> None:
        with pytest.raises(StreamkitError, match="something has changed it"):
            call(Letters(), window_event(batch("a"), state={"streamkit_window": 1, **rest}))

    def test_over_lambdas_limit_is_answered_with_a_warning(self, caplog: pytest.LogCaptureFixture) -> None:
        class Large(WindowProcessor):
            name = "large"

            def aggregate(self, record: Record, state: Any) -> Any:
                return "secret" * 200_000

        answer = call(Large(), window_event(batch("ab")))

        assert len(answer["state"]["state"]) == 1_200_000
        (line,) = [entry.getMessage() for entry in caplog.records if entry.levelno == logging.WARNING]
        size = len(json.dumps(answer["state"], separators=(",", ":")))
        assert f"has {size} bytes, over Lambda's limit of 1000000" in line
        assert "secret" not in line

    def test_is_exact(self) -> None:
        values: list[Any] = [2**80, -1, 0.1, True, None, "é\n", {"a": [{}]}, []]

        class Exact(WindowProcessor):
            def aggregate(self, record: Record, state: Any) -> Any:
                return values

        assert call(Exact(), window_event(batch("a")))["state"]["state"] == values


class TestAStateThatIsNotJson:
    @pytest.mark.parametrize(
        ("value", "where"),
        [
            ({1, 2}, r"state\['x'\]\[1\] is a set"),
            ((1, 2), r"state\['x'\]\[1\] is a tuple"),
            (b"bytes", r"state\['x'\]\[1\] is a bytes"),
            (datetime(2026, 1, 1, tzinfo=UTC), r"state\['x'\]\[1\] is a datetime"),
            (Counter("a"), r"state\['x'\]\[1\] is a Counter"),
            ({"y": {7: "a"}}, r"state\['x'\]\[1\]\['y'\] has the key 7.* use str\(key\)"),
            (float("nan"), r"state\['x'\]\[1\] is nan"),
            ("\ud800", r"state\['x'\]\[1\] is a text with a lone surrogate"),
        ],
    )
    @pytest.mark.parametrize("letters", ["a", "ab"])
    def test_fails_the_call_and_says_where(self, letters: str, value: Any, where: str) -> None:
        class Wrong(WindowProcessor):
            def aggregate(self, record: Record, state: Any) -> Any:
                return {"x": [0, value]}

        with pytest.raises(TypeError, match=where):
            call(Wrong(), window_event(batch(letters)))

    def test_may_be_on_the_way(self) -> None:
        class Sets(WindowProcessor):
            def aggregate(self, record: Record, state: Any) -> None:
                state["x"] = {1} if record.data == b"a" else 1

        assert call(Sets(), window_event(batch("ab")))["state"]["state"] == {"x": 1}

    def test_initial_may_not_return_none(self) -> None:
        class Forgot(Letters):
            def initial(self) -> Any:
                pass

        with pytest.raises(TypeError, match="initial returned None"):
            call(Forgot(), window_event(batch("a")))


class TestARecordThatFails:
    @pytest.mark.parametrize("error", [ValueError("bad"), Reject("bad"), Unavailable("the registry")])
    @pytest.mark.parametrize(("bad", "before"), [("a", ""), ("c", "ab"), ("d", "abc")])
    def test_is_named_with_the_state_from_before_it(self, error: Exception, bad: str, before: str) -> None:
        letters = Letters(failing(bad, error=error))

        answer = call(letters, window_event(batch("abcd")))

        assert (named(answer), seen(answer)) == (START + len(before), before)
        assert letters.started == before + bad

    def test_because_it_can_not_be_decoded_likewise(self) -> None:
        answer = call(Letters(), window_event(undecodable(batch("abc"), 1)))

        assert (named(answer), seen(answer)) == (101, "a")

    @pytest.mark.parametrize("bad", ["c", "d", "e"])
    def test_within_an_aggregate_takes_the_whole_aggregate_back(self, bad: str) -> None:
        event = batch(["a", "b", aggregate_of("cde"), "f"])

        answer = call(Letters(failing(bad)), window_event(event))

        assert (named(answer), seen(answer)) == (102, "ab")

    def test_because_it_is_damaged_within_an_aggregate_likewise(self) -> None:
        event = batch(["a", damaged_within(b"b", None, b"c")])

        answer = call(Letters(), window_event(event))

        assert (named(answer), seen(answer)) == (101, "a")

    def test_leaves_nothing_to_the_redelivery(self) -> None:
        letters = Letters(failing("c"))
        first = call(letters, window_event(batch("abcd")))
        letters.work = failing()

        second = call(letters, window_event(batch("cd", start=102), state=first["state"]))

        assert (named(second), seen(second)) == (None, "abcd")

    def test_by_a_write_that_aggregate_made_says_where_writes_belong(self, caplog: pytest.LogCaptureFixture) -> None:
        letters = Letters()
        letters.work = lambda text: letters.sink.item(text)

        answer = call(letters, window_event(batch("ab")))

        assert (named(answer), seen(answer)) == (100, "")
        assert "aggregate made a write, which is lost: make and yield it in `finish`" in caplog.text

    def test_when_the_time_is_up_is_the_next_one(self) -> None:
        context = Context(4.5)

        def work(text: str) -> None:
            context.left -= 1

        answer = call(Letters(work), window_event(batch("abcdefg")), context)

        assert (named(answer), seen(answer)) == (103, "abc")

    def test_when_the_time_is_up_within_an_aggregate_is_the_aggregate(self) -> None:
        context = Context(4.5)

        def work(text: str) -> None:
            context.left -= 1

        answer = call(Letters(work), window_event(batch(["a", aggregate_of("bcdef")])), context)

        assert (named(answer), seen(answer)) == (101, "a")

    def test_in_prepare_lets_the_state_be(self) -> None:
        class Prepared(Letters):
            def prepare(self, records: Sequence[Record]) -> None:
                raise ConnectionError

        answer = call(Prepared(), window_event(batch("b"), state={"seen": "a", "each": ["a"]}))

        assert (named(answer), seen(answer)) == (100, "a")


class TestPoisonWithDeadLetters:
    def test_goes_aside_and_leaves_no_trace(self) -> None:
        dead_letters = MemoryQueue()
        letters = Letters(failing("b", "d", error=Reject("bad")), on_failure=Block(dead_letters))

        answer = call(letters, window_event(batch("abcde")))

        assert (named(answer), seen(answer)) == (None, "ace")
        assert [letter.data for letter in dead_letters] == [b"b", b"d"]

    def test_within_an_aggregate_goes_aside_alone(self) -> None:
        dead_letters = MemoryQueue()
        letters = Letters(failing("c", error=Reject("bad")), on_failure=Block(dead_letters))

        answer = call(letters, window_event(batch(["a", aggregate_of("bcd"), damaged_within(b"e", None, b"f")])))

        assert (named(answer), seen(answer)) == (None, "abdef")
        assert len(dead_letters) == 2

    def test_that_they_refuse_at_once_is_named_with_the_state_from_before_it(self) -> None:
        dead_letters = MemoryQueue()
        dead_letters.refuse()
        letters = Letters(failing("c", error=Reject("bad")), on_failure=Block(dead_letters))

        answer = call(letters, window_event(batch("abcd")))

        assert (named(answer), seen(answer)) == (102, "ab")
        assert letters.started == "abc"

    @pytest.mark.parametrize("refused", ["d", "f"])
    def test_that_they_refuse_later_is_named_with_the_state_from_before_it(self, refused: str) -> None:
        dead_letters = MemoryQueue()
        dead_letters.refuse(lambda envelope: envelope.data == refused.encode())
        letters = Letters(failing("b", "d", "f", error=Reject("bad")), on_failure=Block(dead_letters))

        answer = call(letters, window_event(batch("abcdefg")))

        assert letters.started == "abcdefg"
        assert (named(answer), seen(answer)) == {"d": (103, "ac"), "f": (105, "ace")}[refused]

    def test_that_can_not_be_decoded_and_is_refused_later_likewise(self) -> None:
        dead_letters = MemoryQueue()
        dead_letters.refuse(lambda envelope: envelope.data is None)
        letters = Letters(failing("a", error=Reject("bad")), on_failure=Block(dead_letters))

        answer = call(letters, window_event(undecodable(undecodable(batch("abcde"), 2), 3)))

        assert letters.started == "abe"
        assert (named(answer), seen(answer)) == (102, "b")

    def test_at_the_end_of_the_batch_that_is_refused_likewise(self) -> None:
        dead_letters = MemoryQueue()
        dead_letters.refuse(lambda envelope: envelope.data is None)
        letters = Letters(failing("a", error=Reject("bad")), on_failure=Block(dead_letters))

        answer = call(letters, window_event(undecodable(batch("abc"), 2)))

        assert (named(answer), seen(answer)) == (102, "b")

    @pytest.mark.parametrize(
        "content", [aggregate_of("bxc"), damaged_within(b"b", None, b"c"), damaged_within(None, b"b", b"c")]
    )
    def test_within_an_aggregate_that_is_refused_later_takes_the_aggregate_back(self, content: bytes) -> None:
        dead_letters = MemoryQueue()
        letters = Letters(failing("p", "x", error=Reject("bad")), on_failure=Block(dead_letters))
        dead_letters.refuse(lambda envelope: envelope.data != b"p")

        answer = call(letters, window_event(batch(["p", "a", content, "d"])))

        assert letters.started.endswith("d")
        assert (named(answer), seen(answer)) == (102, "a")

    def test_before_what_stays_keeps_the_state_from_before_the_latter(self) -> None:
        dead_letters = MemoryQueue()

        def work(text: str) -> None:
            if text in "bd":
                raise Reject("bad") if text == "b" else ValueError

        answer = call(Letters(work, on_failure=Block(dead_letters)), window_event(batch("abcde")))

        assert (named(answer), seen(answer)) == (103, "ac")

    def test_by_the_hundred_keeps_no_more_states_than_are_waiting(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from streamkit.window import WindowRun

        kept: list[int] = []

        class Watched(WindowRun):
            def process(self, record: Record) -> None:
                super().process(record)
                kept.append(len(self._kept))

        monkeypatch.setattr(WindowProcessor, "_window_run", Watched)
        letters = Letters(failing("x", error=Reject("bad")), on_failure=Block(MemoryQueue()))

        answer = call(letters, window_event(batch("xxxxa" * 100)))

        assert seen(answer) == "a" * 100
        assert len(kept) == 100
        assert max(kept) <= 11


class TestTheEndOfAWindow:
    def test_is_finished_after_its_records(self) -> None:
        letters = Letters()
        first = call(letters, window_event(batch("ab")))
        assert letters.ends == []

        answer = call(letters, window_event(batch("c", start=102), state=first["state"], is_final=True))

        assert answer == {"batchItemFailures": [], "state": {}}
        assert letters.sink.items == ["abc"]
        assert letters.ends == [
            Window(
                start=datetime(2026, 1, 1, tzinfo=UTC),
                end=datetime(2026, 1, 1, 0, 1, tzinfo=UTC),
                shard_id="shardId-000000000000",
                stream_arn="arn:aws:kinesis:us-east-1:000000000000:stream/stream",
                is_final=True,
                is_terminated_early=False,
            )
        ]

    def test_may_come_without_records(self) -> None:
        letters = Letters()
        first = call(letters, window_event(batch("ab")))

        answer = call(letters, window_event(state=first["state"], is_final=True))

        assert answer == {"batchItemFailures": [], "state": {}}
        assert letters.sink.items == ["ab"]

    def test_may_come_without_records_and_without_a_state(self) -> None:
        letters = Letters()

        answer = call(letters, window_event(is_final=True))

        assert answer == {"batchItemFailures": [], "state": {}}
        assert letters.sink.write_ids == ["stream/shardId-000000000000:2026-01-01T00:00:00Z:0-0/letters/0"]

    def test_needs_no_finish(self) -> None:
        class Quiet(WindowProcessor):
            def aggregate(self, record: Record, state: Any) -> None:
                pass

        assert call(Quiet(), window_event(batch("a"), is_final=True)) == {"batchItemFailures": [], "state": {}}

    @pytest.mark.parametrize(("is_final", "is_terminated_early"), [(True, True), (False, True)])
    def test_may_come_early(self, is_final: bool, is_terminated_early: bool) -> None:
        letters = Letters()

        event = window_event(batch("ab"), is_final=is_final, is_terminated_early=is_terminated_early)
        answer = call(letters, event)

        assert answer == {"batchItemFailures": [], "state": {}}
        assert letters.sink.items == ["ab"]
        assert letters.ends[0].is_terminated_early

    def test_waits_for_a_record_that_is_not_settled(self) -> None:
        letters = Letters(failing("c"))

        answer = call(letters, window_event(batch("abc"), is_final=True))

        assert (named(answer), seen(answer)) == (102, "ab")
        assert letters.ends == []

    def test_does_not_wait_for_what_went_aside(self) -> None:
        letters = Letters(failing("b", error=Reject("bad")), on_failure=Block(MemoryQueue()))

        assert named(call(letters, window_event(batch("abc"), is_final=True))) is None
        assert letters.sink.items == ["ac"]

    @pytest.mark.parametrize("error", [ValueError("the end"), Reject("the end"), Unavailable("the end")])
    def test_that_raises_fails_the_call(self, error: Exception) -> None:
        class Failing(Letters):
            on_failure = Block(MemoryQueue())

            def finish(self, window: Window, state: Any) -> Iterator[Write]:
                yield self.sink.item(1)
                raise error

        failing_end = Failing()

        with pytest.raises(BatchFailed, match=r"the end of window stream/.*:100-100 failed.*the end") as raised:
            call(failing_end, window_event(batch("a"), is_final=True))

        assert raised.value.__cause__ is error
        assert failing_end.sink.items == []
        dead_letters = Failing.on_failure.dead_letters
        assert isinstance(dead_letters, MemoryQueue)
        assert len(dead_letters) == 0

    @pytest.mark.parametrize("kind", ["invalid", "failed", "unavailable"])
    def test_whose_write_is_refused_fails_the_call(self, kind: Any) -> None:
        letters = Letters()
        letters.sink.refuse(kind)

        with pytest.raises(BatchFailed, match="told to refuse"):
            call(letters, window_event(batch("a"), is_final=True))

        letters.sink.refuse(None)
        assert named(call(letters, window_event(batch("a"), is_final=True))) is None
        assert letters.sink.items == ["a"]

    def test_whose_sink_is_down_fails_the_call(self) -> None:
        letters = Letters()
        letters.sink.fail(ConnectionError("refused"))

        with pytest.raises(BatchFailed, match="ConnectionError: refused"):
            call(letters, window_event(batch("a"), is_final=True))

    def test_that_fills_more_than_one_request_fails_by_a_refusal_in_the_first(self) -> None:
        class Many(Letters):
            def finish(self, window: Window, state: Any) -> Iterator[Write]:
                yield from (self.sink.item(n) for n in range(1200))

        many = Many()
        many.sink.refuse(lambda item: "failed" if item == 3 else None)

        with pytest.raises(BatchFailed):
            call(many, window_event(is_final=True))

    @pytest.mark.parametrize(
        ("finish", "message"),
        [
            (lambda self, window, state: 7, "finish returned int"),
            (lambda self, window, state: [7], "finish yielded int"),
            (lambda self, window, state: self.sink.item(1) and None, "finish made a write and did not yield it"),
        ],
    )
    def test_that_returns_no_writes_says_so(self, finish: Any, message: str) -> None:
        wrong = type("Wrong", (Letters,), {"finish": finish})

        with pytest.raises(BatchFailed, match=message):
            call(wrong(), window_event(is_final=True))


class TestTheWritesOfTheEnd:
    def test_have_ids_of_the_window_that_every_repeat_has_too(self) -> None:
        letters = Letters()
        first = call(letters, window_event(batch("ab")))
        event = window_event(batch("c", start=102), state=first["state"], is_final=True)

        call(letters, event)
        call(letters, event)

        (write_id,) = letters.sink.write_ids
        assert write_id == "stream/shardId-000000000000:2026-01-01T00:00:00Z:100-102/letters/0"
        assert letters.sink.repeats == {write_id: 1}

    def test_are_told_from_those_of_a_part_without_records(self) -> None:
        letters = Letters()
        call(letters, window_event(is_terminated_early=True))
        empty = call(letters, window_event())
        call(letters, window_event(batch("a"), state=empty["state"], is_final=True))

        assert letters.sink.items == ["", "a"]

    def test_have_the_same_ids_after_a_record_failed_in_between(self) -> None:
        letters = Letters()
        call(letters, window_event(batch("ab"), is_final=True))
        letters.work = failing("b")

        partly = call(letters, window_event(batch("ab"), is_final=True))
        letters.work = failing()
        call(letters, window_event(batch("b", start=101), state=partly["state"], is_final=True))

        assert len(letters.sink) == 1
        assert list(letters.sink.repeats.values()) == [1]

    def test_of_a_window_that_ended_early_are_not_those_of_its_rest(self) -> None:
        letters = Letters()
        call(letters, window_event(batch("ab"), is_terminated_early=True))
        rest = call(letters, window_event(batch("c", start=102)))
        call(letters, window_event(state=rest["state"], is_final=True))

        assert letters.sink.items == ["ab", "c"]

    def test_of_two_windows_shards_and_streams_differ(self) -> None:
        letters = Letters()
        for options in (
            {},
            {"start": datetime(2026, 1, 2, tzinfo=UTC)},
            {"shard_id": "shardId-7"},
            {"stream": "other"},
        ):
            call(letters, window_event(is_final=True, **options))

        assert len(set(letters.sink.write_ids)) == 4

    def test_name_the_stream_of_a_consumer_with_enhanced_fan_out(self) -> None:
        letters = Letters()
        event = window_event(is_final=True)
        event["eventSourceARN"] += "/consumer/totals:1700000000"

        call(letters, event)

        assert letters.ends[0].stream_arn.endswith(":stream/stream")
        assert letters.sink.write_ids[0].startswith("stream/shardId-000000000000:")


class TestTimeForTheEnd:
    def slow(self, context: Context, *took: float) -> Letters:
        left = list(took)

        def work(text: str) -> None:
            context.left -= left.pop(0)

        return Letters(work)

    def test_that_the_last_record_took_is_left_to_a_call_with_that_record_alone(self) -> None:
        context = Context(5)
        letters = self.slow(context, 1, 3.5)

        answer = call(letters, window_event(batch("ab"), is_final=True), context)

        assert (named(answer), seen(answer)) == (101, "a")
        assert letters.ends == []

    def test_is_not_asked_for_where_that_record_is_alone_already(self) -> None:
        context = Context(5)
        letters = self.slow(context, 4.5)

        assert named(call(letters, window_event(batch("a"), is_final=True), context)) is None
        assert letters.sink.items == ["a"]

    def test_is_there_in_an_ordinary_call(self) -> None:
        context = Context(5)
        letters = self.slow(context, 1, 1)

        assert named(call(letters, window_event(batch("ab"), is_final=True), context)) is None
        assert letters.sink.items == ["ab"]

    def test_takes_an_aggregate_back_whole(self) -> None:
        context = Context(5)
        letters = self.slow(context, 0.5, 0.5, 3.5)

        answer = call(letters, window_event(batch(["a", aggregate_of("bc")]), is_final=True), context)

        assert (named(answer), seen(answer)) == (101, "a")


class TestAProcessor:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"on_failure": Divert(MemoryQueue())}, "has no window any more"),
            ({"concurrency": 2}, "one record at a time"),
        ],
    )
    def test_refuses_options_that_lose_the_window(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigurationError, match=message):
            type("Wrong", (Letters,), options)
        with pytest.raises(ConfigurationError, match=message):
            call(Letters(**options), window_event(batch("a")))

    def test_refuses_a_progress_store(self) -> None:
        with pytest.raises(ConfigurationError, match="progress"):
            type("Wrong", (Letters,), {"progress": object()})

    def test_has_no_process_of_its_own(self) -> None:
        with pytest.raises(TypeError, match="process is never called"):
            type("Wrong", (Letters,), {"process": lambda self, record: None})

    def test_has_no_async_methods_and_yields_in_finish_only(self) -> None:
        async def asynchronous(*arguments: Any) -> Any:
            return {}

        def generator(*arguments: Any) -> Any:
            yield

        for method in ("initial", "aggregate", "finish"):
            with pytest.raises(TypeError, match="is async"):
                type("Wrong", (Letters,), {method: asynchronous})
        for method in ("initial", "aggregate"):
            with pytest.raises(TypeError, match="yields: it returns the state"):
                type("Wrong", (Letters,), {method: generator})

    def test_without_an_aggregate_says_so(self, caplog: pytest.LogCaptureFixture) -> None:
        class Nothing(WindowProcessor):
            pass

        assert named(call(Nothing(), window_event(batch("a")))) == 100
        assert "needs an `aggregate(self, record, state)`" in caplog.text

    def test_has_a_name_of_its_own_by_default(self) -> None:
        class Nameless(WindowProcessor):
            pass

        assert Nameless.name.endswith("Nameless")

    def test_keeps_nothing_of_a_call(self) -> None:
        letters = Letters(failing("b"))
        letters.started = ""
        before = {name: value for name, value in vars(letters).items() if name != "started"}

        call(letters, window_event(batch("ab")))
        call(letters, window_event(batch("ab")))

        assert {name: value for name, value in vars(letters).items() if name != "started"} == before

    def test_that_was_deployed_without_windows_names_the_setting(self) -> None:
        queue = {"Records": [{"eventSource": "aws:sqs", "messageId": "m", "body": "b"}]}
        events: list[dict[str, Any]] = [batch("a"), {"Records": []}, queue]

        for event in events:
            with pytest.raises(StreamkitError, match=r"TumblingWindowInSeconds .*--tumbling-window-in-seconds"):
                call(Letters(), event)

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("window", None),
            ("window", {"start": "2026-01-01T00:00:00Z"}),
            ("window", {"start": "yesterday", "end": "today"}),
            ("shardId", None),
            ("eventSourceARN", 7),
            ("isFinalInvokeForWindow", None),
            ("isWindowTerminatedEarly", "true"),
        ],
    )
    def test_refuses_a_window_that_is_not_of_lambdas_form(self, field: str, value: Any) -> None:
        with pytest.raises(StreamkitError, match="not of the form that Lambda gives"):
            call(Letters(), {**window_event(batch("a")), field: value})

    @pytest.mark.parametrize("ping", [None, {}, {"warmer": True}])
    def test_answers_warm_up_pings(self, ping: Any) -> None:
        assert lambda_handler(Letters)(ping, None) == {"batchItemFailures": []}


class TestAnOrdinaryProcessorWithAWindow:
    class Plain(RecordProcessor):
        def process(self, record: Record) -> None:
            if record.data == b"b":
                raise ValueError

    @pytest.mark.parametrize("letters", ["a", "abc"])
    def test_hands_the_state_through(self, letters: str) -> None:
        event = window_event(batch(letters), state={"of": "another"})

        answer = call(self.Plain(), event)

        assert answer["state"] == {"of": "another"}
        assert named(answer) == (101 if "b" in letters else None)

    def test_succeeds_at_an_empty_end(self) -> None:
        assert call(self.Plain(), window_event(is_final=True)) == {"batchItemFailures": [], "state": {}}


class Crash(BaseException):
    """The process ends."""


@given(
    contents=st.lists(
        st.one_of(
            st.sampled_from(["a", "b", "P", "?"]),
            st.lists(st.sampled_from(["a", "b", "P"]), min_size=1, max_size=4).map("".join),
        ),
        max_size=20,
    ),
    chance=st.builds(random.Random, st.integers(0, 2**32)),
    has_dead_letters=st.booleans(),
    faults=st.integers(0, 12),
)
@settings(max_examples=300)
def test_whatever_fails_and_comes_again_a_window_is_a_fold_over_its_records(
    contents: list[str], chance: Any, has_dead_letters: bool, faults: int
) -> None:
    """Given a shard's records in any batches, with failures, refusals, crashes and early ends, as Lambda makes them;

    when all is delivered, then the writes of the ends, in order, have every record once, but for the poison that the dead
    letters hold. P is poison, ? is not decodable, a content of several letters is an aggregate.
    """
    if not has_dead_letters:
        contents = [content.replace("P", "a").replace("?", "b") for content in contents]
    left = [faults]
    dead_letters, numbers = MemoryQueue(), iter(range(10**6))

    def fault(likelihood: float) -> bool:
        happens = left[0] > 0 and chance.random() < likelihood
        left[0] -= happens
        return bool(happens)

    def work(text: str) -> None:
        if text.startswith("P"):
            raise Reject("poison")
        if fault(0.15):
            raise chance.choice([ValueError, Unavailable, Crash])("fault")

    # Every record has a text of its own: a letter and a number.
    texts: list[list[str]] = [[f"{letter}{next(numbers)};" for letter in content] for content in contents]
    event = kinesis_event([aggregate_texts(group) if len(group) > 1 else group[0] for group in texts], start=START)
    for index, content in enumerate(contents):
        if content == "?":
            undecodable(event, index)
    letters = Letters(work, on_failure=Block(dead_letters if has_dead_letters else None))
    handler = lambda_handler(letters)

    records: list[Any] = event["Records"]
    state: Any = {}
    while True:
        size = chance.randint(0, 5)
        given, records = records[:size], records[size:]
        ends: dict[str, Any] = {"is_final": not records, "is_terminated_early": bool(records) and chance.random() < 0.2}
        while True:
            dead_letters.refuse(lambda envelope: fault(0.3))
            letters.sink.refuse(lambda item: "failed" if fault(0.3) else None)
            try:
                answer = json.loads(json.dumps(handler(window_event({"Records": given}, state=state, **ends))))
            except (BatchFailed, Crash):
                continue
            if fault(0.1):  # The answer is lost.
                continue
            state, number = answer["state"], named(answer)
            if number is None:
                break
            given = [raw for raw in given if int(raw["kinesis"]["sequenceNumber"]) >= number]
        if ends["is_final"]:
            break
        if ends["is_terminated_early"]:
            state = {}

    aside = {letter.data for letter in dead_letters if letter.data is not None}
    everything = [text for group in texts for text in group]
    assert "".join(letters.sink.items) == "".join(text for text in everything if text[0] not in "P?")
    assert aside == {text.encode() for text in everything if text[0] == "P"}


def aggregate_texts(texts: list[str]) -> bytes:
    return kpl.aggregate(kpl.UserRecord(text.encode(), "k") for text in texts)

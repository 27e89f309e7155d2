"""The policy table of docs/semantics.md, row by row, through the handler."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pybase64
import pytest

from streamkit import (
    Block,
    Divert,
    Park,
    Record,
    RecordProcessor,
    Reject,
    Retry,
    StreamkitError,
    Unavailable,
    Write,
    lambda_handler,
)
from streamkit.envelope import Envelope
from streamkit.errors import BatchFailed, QueueError
from streamkit.kpl import UserRecord, aggregate
from streamkit.ledgers.memory import MemoryLedger
from streamkit.policy import Policy
from streamkit.progress.memory import MemoryProgress
from streamkit.testing import MemoryQueue, MemorySink, kinesis_event


class Letters(RecordProcessor):
    name = "letters"

    def __init__(self, policy: Policy, bad: dict[str, Exception] | None = None) -> None:
        self.on_failure = policy
        self.bad = bad or {}
        self.sink = MemorySink()
        self.seen: list[Record] = []

    @property
    def started(self) -> list[str]:
        return [record.data.decode() for record in self.seen]

    def process(self, record: Record) -> Iterator[Write]:
        self.seen.append(record)
        text = record.data.decode()
        if text in self.bad:
            raise self.bad[text]
        yield self.sink.item(text)


def named(answer: Any) -> list[str]:
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def number(event: dict[str, Any], index: int) -> str:
    text: str = event["Records"][index]["kinesis"]["sequenceNumber"]
    return text


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("streamkit.envelope.time.time", clock)
    return clock


class TestStreamBlock:
    def test_the_lowest_unsettled_is_answered_and_nothing_more_starts(self) -> None:
        letters = Letters(Block(), {"b": ValueError("bad")})

        answer = lambda_handler(letters)(event := kinesis_event(list("abc")), None)

        assert named(answer) == [number(event, 1)]
        assert letters.started == ["a", "b"]

    def test_retry_is_a_plain_failure(self) -> None:
        letters = Letters(Block(MemoryQueue()), {"b": Retry(60)})

        answer = lambda_handler(letters)(event := kinesis_event(list("abc")), None)

        assert named(answer) == [number(event, 1)]

    def test_a_write_refused_at_the_end_names_its_record_though_later_ones_were_written(self) -> None:
        letters = Letters(Block())
        letters.sink.refuse(lambda item: "failed" if item == "b" else None)

        answer = lambda_handler(letters)(event := kinesis_event(list("abcd")), None)

        assert named(answer) == [number(event, 1)]

    def test_dead_letters_that_refuse_leave_the_rejected_record_where_it_is(self) -> None:
        dead_letters = MemoryQueue()
        dead_letters.fail(QueueError("throttled"))
        letters = Letters(Block(dead_letters), {"b": Reject("poison")})

        answer = lambda_handler(letters)(event := kinesis_event(list("abcd")), None)

        assert named(answer) == [number(event, 1)]
        assert letters.started == ["a", "b"]


class TestStreamBlockWithProgress:
    TEXTS = ("a1", "b1", "a2", "b2")

    def letters(self, bad: dict[str, Exception], ordering: Any, dead_letters: MemoryQueue | None = None) -> Letters:
        letters = Letters(Block(dead_letters), bad)
        letters.progress = MemoryProgress()
        letters.ordering = ordering
        return letters

    def event(self, *texts: str) -> dict[str, Any]:
        return kinesis_event(texts or self.TEXTS, partition_keys=[text[0] for text in texts or self.TEXTS])

    @pytest.mark.parametrize(
        ("ordering", "started"),
        [("key", ["a1", "b1", "b2"]), ("shard", ["a1"]), ("none", ["a1", "b1", "a2", "b2"])],
    )
    def test_a_failure_holds_its_key_or_the_rest_or_nothing(self, ordering: str, started: list[str]) -> None:
        letters = self.letters({"a1": ValueError("bad")}, ordering)

        answer = lambda_handler(letters)(event := self.event(), None)

        assert named(answer) == [number(event, 0)]
        assert letters.started == started
        assert letters.sink.items == started[1:]

    @pytest.mark.parametrize(("ordering", "started"), [("key", {"a1", "b1", "b2"}), ("none", {"a1", "b1", "a2", "b2"})])
    def test_it_does_so_with_concurrency(self, ordering: str, started: set[str]) -> None:
        letters = self.letters({"a1": ValueError("bad")}, ordering)
        letters.concurrency = 4

        answer = lambda_handler(letters)(event := self.event(), None)

        assert named(answer) == [number(event, 0)]
        assert {record.data.decode() for record in letters.seen} == started

    def test_a_record_without_a_key_holds_nothing(self) -> None:
        letters = self.letters({"a": ValueError("bad")}, "key")

        lambda_handler(letters)(kinesis_event(list("abc"), partition_keys=[None] * 3), None)

        assert letters.started == ["a", "b", "c"]

    @pytest.mark.parametrize("concurrency", [1, 4])
    def test_unavailable_stops_the_batch(self, concurrency: int) -> None:
        letters = self.letters({"a1": Unavailable("payments API")}, "key")
        letters.concurrency = concurrency
        texts = [f"{key}{n}" for n in range(1, 500) for key in "ab"]

        answer = lambda_handler(letters)(event := self.event(*texts), None)

        assert named(answer) == [number(event, 0)]
        # How soon it is known is up to the threads; that it stops the batch is not.
        assert len(letters.started) < (2 if concurrency == 1 else len(texts))

    def test_a_sink_that_is_down_stops_the_batch_though_its_record_had_failed_before(self) -> None:
        letters = self.letters({}, "key")
        left, right = MemorySink(), MemorySink()
        left.request_writes = right.request_writes = 1  # type: ignore[misc]  # A class variable, here of one sink.
        left.refuse("failed")
        right.fail(OSError("connection refused"))

        class Both(Letters):
            def process(self, record: Record) -> Iterator[Write]:
                self.seen.append(record)
                yield left.item(record.data)
                yield right.item(record.data)

        both = Both(Block())
        both.progress = letters.progress

        lambda_handler(both)(self.event(), None)

        assert both.started == ["a1"]

    def test_a_write_refused_late_holds_what_is_done_of_its_key(self) -> None:
        letters = self.letters({}, "key")
        letters.sink.refuse(lambda item: "failed" if item == "a1" else None)
        lambda_handler(letters)(self.event(), None)
        letters.sink.refuse(None)
        letters.seen.clear()

        assert named(lambda_handler(letters)(self.event(), None)) == []

        assert letters.started == ["a1", "a2"]

    def test_poison_behind_a_failure_goes_aside_unless_its_key_is_held(self) -> None:
        dead_letters = MemoryQueue()
        bad: dict[str, Exception] = {"a1": ValueError("bad"), "a2": Reject("poison"), "b2": Reject("poison")}
        letters = self.letters(bad, "key", dead_letters)

        answer = lambda_handler(letters)(event := self.event(), None)

        assert named(answer) == [number(event, 0)]
        assert [letter.data for letter in dead_letters] == [b"b2"]

    def test_poison_is_not_sent_aside_once_an_earlier_write_of_its_key_is_refused(self) -> None:
        dead_letters = MemoryQueue()
        bad: dict[str, Exception] = {"a2": Reject("poison"), "b2": Reject("poison")}
        letters = self.letters(bad, "key", dead_letters)
        letters.sink.refuse(lambda item: "failed" if item == "a1" else None)

        answer = lambda_handler(letters)(event := self.event(), None)

        assert named(answer) == [number(event, 0)]
        assert [letter.data for letter in dead_letters] == [b"b2"]

    def test_dead_letters_that_refuse_stop_the_batch(self) -> None:
        dead_letters = MemoryQueue()
        dead_letters.refuse()
        letters = self.letters({"a1": Reject("poison")}, "key", dead_letters)

        answer = lambda_handler(letters)(event := self.event(), None)

        assert named(answer) == [number(event, 0)]
        assert letters.started == ["a1"]

    def test_data_that_can_not_be_decoded_holds_its_key_and_is_done_once_it_is_dead_lettered(self) -> None:
        dead_letters = MemoryQueue()
        letters = self.letters({"b1": ValueError("bad")}, "key", dead_letters)
        event = self.event("a1", "b1", "a2")
        event["Records"][0]["kinesis"]["data"] = aggregate([UserRecord(b"x", "a")])[:-1]
        event["Records"][0]["kinesis"]["data"] = pybase64.b64encode(event["Records"][0]["kinesis"]["data"]).decode()

        for _ in range(3):
            assert named(lambda_handler(letters)(event, None)) == [number(event, 1)]

        assert len(dead_letters) == 1
        assert letters.started == ["b1", "a2", "b1", "b1"]


class TestStreamDivert:
    def test_later_records_of_the_key_do_run_and_the_answer_moves_on(self) -> None:
        queue = MemoryQueue()
        letters = Letters(Divert(queue), {"b": ValueError("bad")})

        answer = lambda_handler(letters)(kinesis_event(list("abc"), partition_keys=["k"] * 3), None)

        assert named(answer) == []
        assert letters.sink.items == ["a", "c"]

    def test_a_queue_that_refuses_stops_the_batch_at_that_record(self) -> None:
        queue = MemoryQueue()
        queue.refuse()
        letters = Letters(Divert(queue), {"b": ValueError("bad")})

        answer = lambda_handler(letters)(event := kinesis_event(list("abcd")), None)

        assert named(answer) == [number(event, 1)]
        assert letters.started == ["a", "b"]
        assert letters.sink.items == ["a"]

    def test_a_queue_that_refuses_one_record_of_many_leaves_only_what_is_behind_it(self) -> None:
        queue = MemoryQueue()
        queue.refuse(lambda envelope: envelope.data == b"bad-7")
        payloads = [f"bad-{n}" for n in range(30)]
        letters = Letters(Divert(queue), {payload: ValueError("bad") for payload in payloads})

        answer = lambda_handler(letters)(event := kinesis_event(payloads), None)

        assert named(answer) == [number(event, 7)]
        assert {envelope.data for envelope in queue} >= {f"bad-{n}".encode() for n in range(7)}
        assert len(letters.started) == 11, "the first is sent at once, the next with ten"

    def test_a_refused_write_diverts_its_record(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        letters = Letters(Divert(queue, dead_letters))
        kinds = {"b": "failed", "c": "invalid"}
        letters.sink.refuse(lambda item: kinds.get(item))  # type: ignore[arg-type, return-value]  # the values are kinds

        answer = lambda_handler(letters)(kinesis_event(list("abcd")), None)

        assert named(answer) == []
        assert [envelope.data for envelope in queue] == [b"b"]
        assert [envelope.data for envelope in dead_letters] == [b"c"]

    def test_unavailable_stays_and_nothing_behind_it_is_diverted_or_started(self) -> None:
        queue = MemoryQueue()
        letters = Letters(Divert(queue), {"b": Unavailable("payments API"), "c": ValueError("bad")})

        answer = lambda_handler(letters)(event := kinesis_event(list("abcd")), None)

        assert named(answer) == [number(event, 1)]
        assert letters.started == ["a", "b"]
        assert len(queue) == 0

    def test_nothing_behind_an_unsettled_record_is_sent_aside_for_it_would_be_sent_again(self) -> None:
        queue = MemoryQueue()
        letters = Letters(Divert(queue), {"a": ValueError("bad"), "c": ValueError("bad")})
        letters.sink.refuse("unavailable")

        answer = lambda_handler(letters)(event := kinesis_event(list("abc")), None)

        assert named(answer) == [number(event, 1)]
        assert [envelope.data for envelope in queue] == [b"a"]

    def test_the_envelope_carries_the_record_and_what_happened(self) -> None:
        queue = MemoryQueue()
        letters = Letters(Divert(queue), {"b": ValueError("total is missing")})

        lambda_handler(letters)(kinesis_event(list("ab"), partition_keys=["k", "key two"]), None)

        record = letters.seen[1]
        (envelope,) = queue
        assert envelope.event_id == record.event_id
        assert envelope.partition_key == "key two"
        assert envelope.sequence_number == record.sequence_number
        assert envelope.shard_id == record.shard_id
        assert envelope.stream_arn == record.stream_arn
        assert envelope.processor == "letters"
        assert envelope.attempts == 0
        assert [(failure.attempt, failure.type) for failure in envelope.failures] == [(1, "ValueError")]
        assert "total is missing" in envelope.failures[0].message

    def test_retry_gives_the_queue_its_delay(self, clock: Clock) -> None:
        queue = MemoryQueue(clock=clock)
        letters = Letters(Divert(queue, MemoryQueue()), {"a": Retry(60), "b": Retry(3600)})

        lambda_handler(letters)(kinesis_event(list("ab")), None)

        assert [message.delay for message in queue.messages] == [60, 900]
        assert [envelope.not_before for envelope in queue] == [None, clock.now + 3600]


class TestStandardQueue:
    def diverted(self, queue: MemoryQueue, letters: Letters, *texts: str) -> None:
        for text in texts:
            letters.bad.setdefault(text, ValueError("bad"))
        assert named(lambda_handler(letters)(kinesis_event(list(texts)), None)) == []
        queue.advance(900)
        letters.seen.clear()

    def test_a_retry_is_the_same_record_with_its_next_attempt(self) -> None:
        queue = MemoryQueue()
        letters = Letters(Divert(queue, MemoryQueue()), {"a": ValueError("bad")})
        lambda_handler(letters)(kinesis_event(["a"], partition_keys=["k"]), None)
        letters.bad.clear()

        queue.advance(900)
        queue.deliver(lambda_handler(letters))

        first, second = letters.seen
        assert (first.source, first.attempt) == ("kinesis", 1)
        assert (second.source, second.attempt) == ("sqs", 2)
        for fact in ("event_id", "partition_key", "sequence_number", "sub_sequence_number", "shard_id", "stream_arn"):
            assert getattr(second, fact) == getattr(first, fact), fact
        assert second.approximate_arrival_timestamp == first.approximate_arrival_timestamp

    def test_messages_are_independent_of_each_other(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        letters = Letters(Divert(queue, dead_letters))
        self.diverted(queue, letters, *"abc")
        letters.bad = {"a": Unavailable("payments API"), "b": ValueError("bad")}

        answer = queue.deliver(lambda_handler(letters))

        assert letters.started == ["a", "b", "c"]
        assert len(named(answer)) == 1, "only what was unavailable; the failed one was sent again"
        assert sorted((envelope.data, envelope.attempts) for envelope in queue) == [(b"a", 0), (b"b", 1)]

    def test_the_new_message_is_sent_before_the_old_one_is_acknowledged(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        letters = Letters(Divert(queue, dead_letters))
        self.diverted(queue, letters, "a")
        queue.refuse()

        answer = queue.deliver(lambda_handler(letters))

        assert len(named(answer)) == 1
        assert [envelope.attempts for envelope in queue] == [0], (
            "the old message is still there, and the try is not lost count of"
        )

    def test_receive_counts_are_not_attempts(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        letters = Letters(Divert(queue, dead_letters))
        self.diverted(queue, letters, "a")

        def throttled(event: Any, context: Any) -> Any:
            return {"batchItemFailures": [{"itemIdentifier": raw["messageId"]} for raw in event["Records"]]}

        for _ in range(10):
            queue.deliver(throttled)
        queue.deliver(lambda_handler(letters))

        assert [envelope.attempts for envelope in queue] == [1]
        assert len(dead_letters) == 0

    def test_dead_letters_that_refuse_keep_the_message_in_the_queue(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        letters = Letters(Divert(queue, dead_letters, attempts=1))
        self.diverted(queue, letters, "a")
        dead_letters.fail(QueueError("throttled"))

        answer = queue.deliver(lambda_handler(letters))

        assert len(named(answer)) == 1
        dead_letters.fail(None)
        assert named(queue.deliver(lambda_handler(letters))) == []
        assert [envelope.attempts for envelope in dead_letters] == [1]

    def test_reject_goes_to_dead_letters_at_once(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        letters = Letters(Divert(queue, dead_letters))
        self.diverted(queue, letters, "a")
        letters.bad["a"] = Reject("closed account")

        assert named(queue.deliver(lambda_handler(letters))) == []

        assert len(queue) == 0
        assert [failure.type for (letter,) in [list(dead_letters)] for failure in letter.failures] == [
            "ValueError",
            "Reject",
        ]

    def test_retry_is_no_sooner_than_its_delay_and_an_early_receive_is_no_attempt(self, clock: Clock) -> None:
        queue, dead_letters = MemoryQueue(clock=clock), MemoryQueue()
        letters = Letters(Divert(queue, dead_letters), {"a": Retry(2000)})
        lambda_handler(letters)(kinesis_event(["a"]), None)
        letters.seen.clear()
        runs = []
        start = clock.now

        for _ in range(40):
            clock.now += 100
            queue.deliver(lambda_handler(letters))
            if letters.seen:
                runs.append(clock.now - start)
                letters.seen.clear()

        assert runs == [2000, 4000]
        (envelope,) = queue
        assert envelope.attempts == 2
        assert [failure.type for failure in envelope.failures] == ["Retry"] * 3

    def test_without_dead_letters_the_message_is_returned_so_that_the_queues_own_redrive_ends_it(self) -> None:
        queue = MemoryQueue()
        letters = Letters(Divert(queue))
        self.diverted(queue, letters, "a")

        for _ in range(5):
            assert len(named(queue.deliver(lambda_handler(letters)))) == 1

        assert len(queue) == 1

    def test_a_message_without_the_mark_is_a_record_itself(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        letters = Letters(Divert(queue, dead_letters), {"hello": ValueError("bad")})
        queue.put("hello")

        for _ in range(3):
            assert named(queue.deliver(lambda_handler(letters))) == []
            queue.advance(900)

        first = letters.seen[0]
        assert (first.data, first.event_id, first.source, first.attempt) == (b"hello", "message-1", "sqs", 2)
        assert first.sequence_number is first.shard_id is first.stream_arn is first.partition_key is None
        (letter,) = dead_letters
        assert (letter.event_id, letter.data, letter.attempts) == ("message-1", b"hello", 3)

    def test_an_envelope_of_an_unknown_version_stays_in_the_queue_with_an_error(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        letters = Letters(Divert(queue, dead_letters))
        newer = Envelope(event_id="e", source="kinesis", processor="p", data=b"new").encode().replace(":1,", ":2,", 1)
        event = {"Records": [{"messageId": "m", "body": newer, "eventSource": "aws:sqs", "attributes": {}}]}

        assert named(lambda_handler(letters)(event, None)) == ["m"]

        assert letters.seen == []
        assert len(queue) == len(dead_letters) == 0
        assert any("version 2" in line for line in caplog.messages)

    def test_an_envelope_that_is_damaged_is_poison(self) -> None:
        dead_letters = MemoryQueue()
        letters = Letters(Divert(MemoryQueue(), dead_letters))
        body = '{"streamkit_envelope": 1, "event_id": 7}'
        event = {"Records": [{"messageId": "m", "body": body, "eventSource": "aws:sqs", "attributes": {}}]}

        assert named(lambda_handler(letters)(event, None)) == []

        (letter,) = dead_letters
        assert (letter.event_id, letter.undecoded) == ("m", body)


class TestFifoQueue:
    @pytest.mark.parametrize("concurrency", [1, 4])
    @pytest.mark.parametrize("error", [ValueError("bad"), Unavailable("payments API"), Retry(60)])
    def test_after_a_failure_the_later_messages_of_its_group_are_returned_unrun(
        self, error: Exception, concurrency: int
    ) -> None:
        queue = MemoryQueue(fifo=True)
        letters = Letters(Divert(queue, MemoryQueue()), {"a1": error})
        letters.concurrency = concurrency
        for text in ("a1", "b1", "a2", "b2"):
            queue.put(text, group=text[0])

        answer = queue.deliver(lambda_handler(letters))

        assert len(named(answer)) == 2
        assert sorted(letters.started) == ["a1", "b1", "b2"]
        letters.bad.clear()
        letters.seen.clear()
        queue.deliver(lambda_handler(letters))
        assert letters.started == ["a1", "a2"]

    def test_a_refused_write_holds_what_is_done_of_its_group(self) -> None:
        queue = MemoryQueue(fifo=True)
        letters = Letters(Divert(queue, MemoryQueue()))
        letters.sink.refuse(lambda item: "failed" if item == "a1" else None)
        for text in ("a1", "b1", "a2"):
            queue.put(text, group=text[0])

        answer = queue.deliver(lambda_handler(letters))

        assert len(named(answer)) == 2, "a2 will repeat after a1"
        assert len(queue) == 2

    def test_reject_goes_to_dead_letters_and_its_group_goes_on(self) -> None:
        queue, dead_letters = MemoryQueue(fifo=True), MemoryQueue()
        letters = Letters(Divert(queue, dead_letters), {"a1": Reject("poison")})
        for text in ("a1", "a2"):
            queue.put(text, group="a")

        assert named(queue.deliver(lambda_handler(letters))) == []

        assert letters.sink.items == ["a2"]
        assert len(dead_letters) == 1


class TestPark:
    """Its rows; tests/test_parking.py has the details."""

    def letters(self, bad: dict[str, Exception]) -> tuple[Letters, MemoryQueue, MemoryQueue]:
        queue, dead_letters = MemoryQueue(fifo=True), MemoryQueue()
        return Letters(Park(queue, MemoryLedger(), dead_letters), bad), queue, dead_letters

    def event(self, *texts: str) -> dict[str, Any]:
        return kinesis_event(texts, partition_keys=[text[0] for text in texts])

    def test_stream_holds_the_key_and_moves_on_once_the_queue_confirms(self) -> None:
        letters, queue, _ = self.letters({"a1": ValueError("bad")})

        assert named(lambda_handler(letters)(self.event("a1", "b1", "a2"), None)) == []

        assert letters.started == ["a1", "b1"]
        assert [envelope.data for envelope in queue] == [b"a1", b"a2"]

    def test_stream_a_refusal_is_answered(self) -> None:
        letters, queue, _ = self.letters({"a1": ValueError("bad")})
        queue.refuse()

        answer = lambda_handler(letters)(event := self.event("b1", "a1", "a2"), None)

        assert named(answer) == [number(event, 1)]

    def test_stream_unavailable_starts_nothing_more_and_is_answered(self) -> None:
        letters, queue, dead_letters = self.letters({"a1": Unavailable("payments API")})

        answer = lambda_handler(letters)(event := self.event("a1", "b1"), None)

        assert named(answer) == [number(event, 0)]
        assert letters.started == ["a1"]
        assert len(queue) == len(dead_letters) == 0

    def test_stream_poison_goes_to_the_dead_letters_and_its_key_goes_on(self) -> None:
        letters, queue, dead_letters = self.letters({"a1": Reject("poison")})

        assert named(lambda_handler(letters)(self.event("a1", "a2"), None)) == []

        assert letters.sink.items == ["a2"]
        assert (len(queue), len(dead_letters)) == (0, 1)

    def test_queue_after_a_failure_the_later_messages_of_its_group_are_returned_unrun(self) -> None:
        letters, queue, _ = self.letters({"a1": ValueError("bad"), "b1": ValueError("bad")})
        lambda_handler(letters)(self.event("a1", "b1", "a2", "b2"), None)
        del letters.bad["b1"]
        letters.seen.clear()

        answer = queue.deliver(lambda_handler(letters))

        assert len(named(answer)) == 2
        assert sorted(letters.started) == ["a1", "b1", "b2"]
        assert [envelope.data for envelope in queue] == [b"a1", b"a2"]

    def test_queue_retry_is_held_back_for_as_long_as_it_says(self, clock: Clock) -> None:
        queue = MemoryQueue(fifo=True, clock=clock)
        letters = Letters(Park(queue, MemoryLedger(clock=clock), MemoryQueue()), {"a1": Retry(3600)})
        lambda_handler(letters)(self.event("a1"), None)
        letters.bad.clear()

        assert len(named(queue.deliver(lambda_handler(letters)))) == 1
        clock.now += 3600
        assert named(queue.deliver(lambda_handler(letters))) == []

        assert [record.attempt for record in letters.seen] == [1, 2]


class TestTopic:
    def event(self, text: str) -> dict[str, Any]:
        return {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "m", "Message": text}}]}

    def test_success_is_an_answer(self) -> None:
        letters = Letters(Divert(MemoryQueue()))

        assert named(lambda_handler(letters)(self.event("a"), None)) == []

        assert (letters.seen[0].source, letters.seen[0].attempt, letters.seen[0].event_id) == ("sns", None, "m")

    def test_a_failure_raises_so_that_lambda_counts(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        letters = Letters(Divert(queue, dead_letters), {"a": ValueError("bad")})

        with pytest.raises(BatchFailed, match="m failed"):
            lambda_handler(letters)(self.event("a"), None)

        assert len(queue) == len(dead_letters) == 0

    def test_only_reject_goes_to_dead_letters_from_here(self) -> None:
        dead_letters = MemoryQueue()
        letters = Letters(Divert(MemoryQueue(), dead_letters), {"a": Reject("poison")})

        assert named(lambda_handler(letters)(self.event("a"), None)) == []

        assert len(dead_letters) == 1


class TestLogs:
    def test_a_failed_record_is_one_line_with_its_id_and_reason_and_never_its_payload(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        payload = "a rather secret payload of some length"
        letters = Letters(Divert(MemoryQueue()), {payload: ValueError(f"can't use {payload!r}\nsecond line")})

        lambda_handler(letters)(kinesis_event([payload]), None)

        (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        assert letters.seen[0].event_id in line
        assert "ValueError: can't use '<payload>'" in line
        assert "\n" not in line
        assert payload not in caplog.text

    def test_five_thousand_failures_are_as_many_lines_and_no_traceback(self, caplog: pytest.LogCaptureFixture) -> None:
        letters = Letters(Divert(MemoryQueue()))
        payloads = [f"bad-{n}" for n in range(5000)]
        letters.bad = {payload: ValueError("bad") for payload in payloads}

        lambda_handler(letters)(kinesis_event(payloads), None)

        assert len(caplog.records) == 5000
        assert "Traceback" not in caplog.text

    def test_an_outage_of_a_sink_is_one_line_and_not_one_for_each_record(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        letters = Letters(Divert(MemoryQueue()))
        letters.sink.fail(OSError("connection refused"))

        lambda_handler(letters)(kinesis_event([f"record {n}" for n in range(400)]), None)

        assert len(caplog.records) == 1


def test_an_unknown_trigger_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(StreamkitError, match="Kinesis stream"):
        lambda_handler(Letters(Block()))({"Records": [{"eventSource": "aws:dynamodb"}]}, None)

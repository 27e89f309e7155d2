"""``Park`` through the handler: the stream's path, the queue's path, and what each step does when it fails."""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import pytest

from streamkit import Divert, Park, Record, RecordProcessor, Reject, Retry, Unavailable, Write, lambda_handler
from streamkit.deadline import Deadline
from streamkit.envelope import Envelope
from streamkit.errors import ConfigurationError, QueueError
from streamkit.event import decode
from streamkit.failure import group_of
from streamkit.kpl import UserRecord, aggregate
from streamkit.ledgers.base import ParkedKey
from streamkit.ledgers.memory import MemoryLedger
from streamkit.parking import id_of, parking_of, sweep
from streamkit.progress.memory import MemoryProgress
from streamkit.queues.base import Message, MessageRefusal
from streamkit.queues.sqs import SqsQueue
from streamkit.testing import MemoryQueue, MemorySink, kinesis_event


class Clock:
    def __init__(self) -> None:
        self.now = 1_767_225_600.0

    def __call__(self) -> float:
        return self.now


class Ledger(MemoryLedger):
    """Keeps what it was asked for, and fails where it is told."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock=clock)
        self.calls: list[str] = []
        self.down: set[str] = set()

    def call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.down:
            raise ConnectionError("the ledger is down")

    def parked(self, processor: str, *, deadline: float) -> dict[str, ParkedKey]:
        self.call("parked")
        return super().parked(processor, deadline=deadline)

    def key(self, processor: str, group: str, *, deadline: float) -> ParkedKey | None:
        self.call("key")
        return super().key(processor, group, deadline=deadline)

    def add(self, processor: str, group: str, ids: Collection[str], added: float, *, deadline: float) -> float:
        self.call("add")
        return super().add(processor, group, ids, added, deadline=deadline)

    def count(
        self, processor: str, group: str, record_id: str, attempts: int, not_before: float | None, *, deadline: float
    ) -> None:
        self.call("count")
        super().count(processor, group, record_id, attempts, not_before, deadline=deadline)

    def remove(self, processor: str, group: str, ids: Mapping[str, float], before: float, *, deadline: float) -> None:
        self.call("remove")
        super().remove(processor, group, ids, before, deadline=deadline)


class Watched(MemoryQueue):
    """Keeps what each request brought, and calls ``meanwhile`` after it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(fifo=True, clock=clock)
        self.requests: list[list[str]] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def send(self, messages: Sequence[Message], *, deadline: float) -> list[MessageRefusal]:
        refusals = super().send(messages, deadline=deadline)
        self.requests.append([texts_of([message])[0] for message in messages])
        self.meanwhile()
        return refusals


class Letters(RecordProcessor):
    """A record is a text, of the key that is its first letter. The bad ones do what they are told."""

    name = "letters"

    def __init__(self, clock: Clock, **policy: Any) -> None:
        self.queue = Watched(clock)
        self.ledger = Ledger(clock)
        self.dead_letters = MemoryQueue()
        self.on_failure = Park(self.queue, self.ledger, **({"dead_letters": self.dead_letters} | policy))
        self.bad: dict[str, Exception] = {}
        self.sink = MemorySink()
        self.seen: list[Record] = []

    def process(self, record: Record) -> Iterator[Write]:
        self.seen.append(record)
        text = record.data.decode()
        if text in self.bad:
            raise self.bad[text]
        yield self.sink.item(text)

    @property
    def started(self) -> list[str]:
        """What has started since this was last asked for."""
        seen, self.seen = self.seen, []
        return [record.data.decode() for record in seen]

    def run(self, *texts: str, event: dict[str, Any] | None = None) -> int | None:
        """Deliver texts, or an event: the index of the record that the answer names; None for success."""
        event = event or event_of(*texts)
        named = [failure["itemIdentifier"] for failure in lambda_handler(self)(event, None)["batchItemFailures"]]
        numbers = [raw["kinesis"]["sequenceNumber"] for raw in event["Records"]]
        return numbers.index(named[0]) if named else None

    def retry(self, most: int = 10) -> list[str]:
        """Deliver what is in the queue: what stays in it."""
        self.queue.deliver(lambda_handler(self), most=most)
        return texts_of(self.queue.messages)

    def pending(self, key: str) -> set[str]:
        """The ids that are parked of a key."""
        found = MemoryLedger.key(self.ledger, "letters", group(key), deadline=0.0)
        return set() if found is None else set(found.pending)


def event_of(*texts: str, start: int = 1) -> dict[str, Any]:
    return kinesis_event(texts, partition_keys=[text[0] for text in texts], start=start)


def group(key: str) -> str:
    return group_of("letters", key, decode(event_of(key)).records[0].event_id)


def ids_of(*texts: str, start: int = 1) -> set[str]:
    return {id_of(record.event_id) for record in decode(event_of(*texts, start=start)).records}


def texts_of(messages: Sequence[Message]) -> list[str]:
    return [base64.b64decode(json.loads(message.body).get("data") or "").decode() for message in messages]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("streamkit.envelope.time.time", clock)
    return clock


@pytest.fixture
def letters(clock: Clock) -> Letters:
    return Letters(clock)


BAD = ValueError("bad")


class TestTheStream:
    def test_a_failed_record_and_what_follows_it_of_its_key_go_to_the_queue_in_order_and_the_rest_runs(
        self, letters: Letters
    ) -> None:
        letters.bad = {"a1": BAD}

        assert letters.run("a1", "b1", "a2", "b2", "a3") is None

        assert letters.started == ["a1", "b1", "b2"]
        assert letters.queue.requests == [["a1"], ["a2"], ["a3"]]
        assert {message.group for message in letters.queue.messages} == {group("a")}
        assert letters.pending("a") == ids_of("a1") | ids_of("a2", start=3) | ids_of("a3", start=5)

    def test_later_batches_of_a_parked_key_follow_it_unrun(self, letters: Letters) -> None:
        letters.bad = {"a1": BAD}
        letters.run("a1")

        assert letters.run(event=event_of("a2", "b1", start=2)) is None

        assert letters.started == ["a1", "b1"]
        assert texts_of(letters.queue.messages) == ["a1", "a2"]

    def test_a_key_that_is_drained_runs_directly_again(self, letters: Letters) -> None:
        letters.bad = {"a1": BAD}
        letters.run("a1", "a2")
        letters.bad.clear()

        assert letters.retry() == []
        assert letters.run(event=event_of("a3", start=3)) is None

        assert letters.started == ["a1", "a1", "a2", "a3"]
        assert [record.attempt for record in letters.seen] == []
        assert letters.pending("a") == set()

    def test_costs_one_look_up_and_nothing_else_where_no_key_is_parked(self, letters: Letters) -> None:
        assert letters.run("a1", "b1") is None

        assert letters.ledger.calls == ["parked"]

    def test_ids_are_added_before_the_first_message_and_all_of_a_key_at_once(self, letters: Letters) -> None:
        letters.bad = {"a1": BAD}
        letters.queue.meanwhile = lambda: letters.ledger.calls.append(f"sent with {len(letters.pending('a'))} pending")

        letters.run("a1", "a2")

        assert letters.ledger.calls == ["parked", "add", "sent with 2 pending", "sent with 2 pending"]

    def test_the_streams_own_try_is_none_on_the_retry_path(self, letters: Letters) -> None:
        letters.bad = {"a1": BAD}

        letters.run("a1")

        (envelope,) = letters.queue
        assert (envelope.attempts, [failure.attempt for failure in envelope.failures]) == (0, [1])

    def test_the_queue_is_given_no_more_time_than_until_a_send_is_late(
        self, letters: Letters, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deadlines: list[float] = []
        send = letters.queue.send

        def sending(messages: Sequence[Message], *, deadline: float) -> list[MessageRefusal]:
            deadlines.append(deadline)
            return send(messages, deadline=deadline)

        monkeypatch.setattr(letters.queue, "send", sending)
        letters.bad = {"a1": BAD}

        letters.run("a1", "a2")

        assert len(deadlines) == 2
        assert all(deadline <= time.monotonic() + 60.0 for deadline in deadlines)

    def test_keys_share_requests_and_records_of_one_key_do_not(self, letters: Letters) -> None:
        letters.bad = {f"{key}1": BAD for key in "abc"}

        letters.run("a1", "a2", "b1", "c1", "b2")

        assert letters.queue.requests == [["a1", "b1", "c1"], ["a2", "b2"]]

    def test_nothing_is_sent_after_a_refusal(self, letters: Letters) -> None:
        letters.bad = {"a1": BAD}
        letters.queue.refuse(lambda envelope: envelope.data == b"a2")

        assert letters.run("a1", "b1", "a2", "a3") == 2

        assert texts_of(letters.queue.messages) == ["a1"]
        # Delivered again from there, all is parked, and what was sent is not sent again.
        letters.queue.refuse(False)
        assert letters.run(event=event_of("a2", "a3", start=3)) is None
        assert texts_of(letters.queue.messages) == ["a1", "a2", "a3"]

    def test_a_queue_that_raises_has_confirmed_nothing(self, letters: Letters) -> None:
        letters.bad = {"a1": BAD}
        letters.queue.fail(QueueError("down"))

        assert letters.run("a1", "a2") == 0

    def test_a_ledger_that_can_not_be_asked_lets_nothing_start(
        self, letters: Letters, caplog: pytest.LogCaptureFixture
    ) -> None:
        letters.ledger.down = {"parked"}

        assert letters.run("a1", "b1") == 0

        assert letters.started == []
        (line,) = [record.getMessage() for record in caplog.records]
        assert "is unavailable: ConnectionError: the ledger is down" in line

    def test_a_ledger_that_takes_no_ids_leaves_the_records_in_the_stream(self, letters: Letters) -> None:
        letters.bad = {"a1": BAD}
        letters.ledger.down = {"add"}

        assert letters.run("b1", "a1", "a2") == 1

        assert letters.queue.requests == []

    def test_what_is_unavailable_is_never_parked_nor_what_stands_behind_it(self, letters: Letters) -> None:
        letters.bad = {"a1": BAD, "b1": Unavailable("payments API")}

        assert letters.run("a1", "b1", "a2", "c1") == 1

        assert letters.started == ["a1", "b1"]
        assert texts_of(letters.queue.messages) == ["a1"]

    def test_nothing_is_parked_behind_what_will_be_delivered_again(self, letters: Letters) -> None:
        # Its sink is down, which shows when all has run.
        letters.sink.refuse(lambda item: "unavailable" if item == "b1" else None)
        letters.bad = {"a1": BAD}

        assert letters.run("b1", "a1", "a2") == 0

        assert letters.queue.requests == []

    def test_a_refused_write_parks_its_record_and_what_is_done_of_its_key_behind_it(self, letters: Letters) -> None:
        letters.sink.refuse(lambda item: "failed" if item == "a1" else None)

        assert letters.run("a1", "b1", "a2") is None

        assert texts_of(letters.queue.messages) == ["a1", "a2"]
        letters.sink.refuse(None)
        letters.retry()
        assert letters.sink.items == ["b1", "a2", "a1"] or letters.sink.items[-2:] == ["a1", "a2"]
        assert letters.started == ["a1", "b1", "a2", "a1", "a2"]

    def test_poison_goes_to_the_dead_letters_and_its_key_goes_on_when_they_have_it(self, letters: Letters) -> None:
        letters.bad = {"a1": Reject("poison")}
        seen: list[int] = []
        letters.sink.refuse(lambda item: seen.append(len(letters.dead_letters)))

        assert letters.run("a1", "a2") is None

        assert letters.started == ["a1", "a2"]
        assert (len(letters.dead_letters), len(letters.queue)) == (1, 0)
        assert seen == [1]

    def test_poison_that_the_dead_letters_refuse_waits_in_the_stream_and_its_key_with_it(
        self, letters: Letters
    ) -> None:
        letters.bad = {"a1": Reject("poison")}
        letters.dead_letters.refuse()

        assert letters.run("a1", "a2", "b1") == 0

        assert letters.started == ["a1"]
        assert len(letters.queue) == 0

    def test_poison_of_a_parked_key_waits_for_its_turn(self, letters: Letters) -> None:
        damaged = aggregate([UserRecord(b"x", "a"), UserRecord(b"y", "a")])[:-3]
        letters.bad = {"a1": BAD}
        letters.run("a1")
        event = kinesis_event([damaged], partition_keys=["a"], start=2)

        assert letters.run(event=event) is None
        assert len(letters.dead_letters) == 0
        letters.bad.clear()
        letters.retry()

        assert [letter.failures[-1].type for letter in letters.dead_letters] == ["DecodeError"]
        assert letters.pending("a") == set()

    def test_poison_without_dead_letters_is_parked(self, clock: Clock) -> None:
        letters = Letters(clock, dead_letters=None)
        letters.bad = {"a1": Reject("poison")}

        assert letters.run("a1", "a2") is None

        assert texts_of(letters.queue.messages) == ["a1", "a2"]

    def test_user_records_of_an_aggregate_are_parked_by_their_own_keys(self, letters: Letters) -> None:
        users = [UserRecord(text.encode(), text[0]) for text in ("a1", "b1", "a2", "b2")]
        letters.bad = {"a1": BAD}

        assert letters.run(event=kinesis_event([aggregate(users)], partition_keys=["outer"])) is None

        assert letters.started == ["a1", "b1", "b2"]
        assert texts_of(letters.queue.messages) == ["a1", "a2"]
        assert [envelope.sub_sequence_number for envelope in letters.queue] == [0, 2]

    def test_a_record_without_a_key_is_parked_alone(self, letters: Letters) -> None:
        letters.bad = {"x1": BAD}
        event = kinesis_event(["x1", "x2"], partition_keys=[None, None])

        assert letters.run(event=event) is None

        assert letters.started == ["x1", "x2"]
        assert texts_of(letters.queue.messages) == ["x1"]

    def test_with_concurrency_a_key_is_parked_in_order(self, letters: Letters) -> None:
        letters.concurrency = 4
        letters.bad = {"a1": BAD, "c1": Reject("poison")}

        assert letters.run("a1", "b1", "c1", "a2", "b2", "a3") is None

        assert sorted(letters.started) == ["a1", "b1", "b2", "c1"]
        assert texts_of(letters.queue.messages) == ["a1", "a2", "a3"]
        assert len(letters.dead_letters) == 1

    def test_with_concurrency_the_other_keys_of_a_batch_run_and_so_do_other_groups(self, letters: Letters) -> None:
        letters.concurrency = 4
        letters.bad = {"a1": BAD, "b1": BAD}
        letters.run("a1", "b1")
        letters.started  # noqa: B018  # Forget them.

        assert letters.run(event=event_of("a2", "c1", "d1", "c2", start=3)) is None
        assert sorted(letters.started) == ["c1", "c2", "d1"]
        del letters.bad["b1"]
        assert letters.retry() == ["a1", "a2"]

        assert sorted(letters.started) == ["a1", "b1"]

    def test_what_a_progress_store_knows_is_not_parked_again(self, letters: Letters) -> None:
        letters.progress = MemoryProgress()
        letters.bad = {"a1": BAD, "b1": Unavailable("payments API")}
        event = event_of("a1", "a2", "b1")
        assert letters.run(event=event) == 2
        letters.bad.clear()

        assert letters.run(event=event) is None

        assert letters.started == ["a1", "b1", "b1"]
        assert letters.queue.requests == [["a1"], ["a2"]]

    def test_a_batch_that_comes_again_without_a_progress_store_is_parked_again(self, letters: Letters) -> None:
        letters.bad = {"a1": BAD, "b1": Unavailable("payments API")}
        event = event_of("a1", "b1")
        letters.run(event=event)
        letters.run(event=event)

        assert texts_of(letters.queue.messages) == ["a1", "a1"]
        letters.bad.clear()
        letters.retry(most=1)
        letters.retry(most=1)
        assert letters.pending("a") == set()


class TestTheTime:
    @pytest.mark.parametrize("took", [0.02, 0.6])
    def test_is_kept_back_for_what_is_to_be_parked(self, clock: Clock, took: float) -> None:
        class SlowLedger(Ledger):
            def parked(self, processor: str, *, deadline: float) -> dict[str, ParkedKey]:
                context.left -= took
                return super().parked(processor, deadline=deadline)

        context = Context(60.0)
        letters = Letters(clock)
        letters.bad = {"a1": BAD}
        letters.run("a1")
        slow = SlowLedger(clock)
        slow._keys = letters.ledger._keys
        letters.on_failure = Park(letters.queue, slow)
        batch = decode(event_of("a2", "a3", "b1", start=2))
        deadline = Deadline(context, 1.0)

        parking = parking_of(letters, batch, deadline)
        assert parking is not None
        parking.look_up()

        # The margin, the look-up's own time, and one as long for each record that is held; but not that of a cold start.
        assert deadline.reserve == pytest.approx(1.0 + took + 2 * min(took, 0.05))

    def test_that_is_up_leaves_the_rest_in_the_stream_but_each_delivery_gets_on(self, letters: Letters) -> None:
        context = Context(60.0)

        def slow() -> None:
            context.left -= 20.0

        letters.bad = {"a1": BAD}
        letters.queue.meanwhile = slow
        event = event_of("a1", "a2", "a3", "a4", "a5")
        answer = lambda_handler(letters)(event, context)
        assert texts_of(letters.queue.messages) == ["a1", "a2"]
        assert answer["batchItemFailures"] == [{"itemIdentifier": event["Records"][2]["kinesis"]["sequenceNumber"]}]

        context.left = 0.4
        answer = lambda_handler(letters)({"Records": event["Records"][2:]}, context)

        assert texts_of(letters.queue.messages) == ["a1", "a2", "a3"]
        assert answer["batchItemFailures"] == [{"itemIdentifier": event["Records"][3]["kinesis"]["sequenceNumber"]}]

    def test_nothing_is_sent_a_minute_after_its_id_was_added(self, letters: Letters, clock: Clock) -> None:
        letters.bad = {"a1": BAD}

        def wait() -> None:
            clock.now += 31.0

        letters.queue.meanwhile = wait

        # The first is confirmed after 31 s. The second is sent in time, and its answer comes too late: it counts as refused.
        assert letters.run("a1", "a2", "a3") == 1

        assert texts_of(letters.queue.messages) == ["a1", "a2"]

    def test_a_confirmation_that_is_late_is_none_where_only_the_other_clock_tells(
        self, letters: Letters, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        letters.bad = {"a1": BAD}
        started = time.monotonic()

        def jump() -> None:
            monkeypatch.setattr("streamkit.parking.time.monotonic", lambda: started + 61.0)

        letters.queue.meanwhile = jump

        assert letters.run("a1", "a2") == 0


class Context:
    def __init__(self, left: float) -> None:
        self.left = left

    def get_remaining_time_in_millis(self) -> float:
        return self.left * 1000


class TestTooManyOfOneKey:
    @pytest.fixture
    def letters(self, clock: Clock) -> Letters:
        letters = Letters(clock)
        letters.ledger.most_pending = 2  # type: ignore[misc]  # A class variable of the shipped ledgers.
        return letters

    def test_wait_in_the_stream_and_their_shard_with_them(
        self, letters: Letters, caplog: pytest.LogCaptureFixture
    ) -> None:
        letters.bad = {"a1": BAD}

        assert letters.run("a1", "a2", "a3", "b1") == 2
        assert "2 records of one key are parked" in caplog.text
        letters.started  # noqa: B018  # Forget them.
        # Nothing behind it starts, for it would come again with it.
        assert letters.run(event=event_of("a3", "b1", start=3)) == 0
        assert letters.started == []
        letters.bad.clear()
        letters.retry()
        assert letters.run(event=event_of("a3", "b1", start=3)) is None

        assert letters.started == ["a1", "a2", "a3", "b1"]

    def test_the_same_records_are_no_more(self, letters: Letters) -> None:
        letters.bad = {"a1": BAD}
        letters.run("a1", "a2")

        assert letters.run("a1", "a2") is None

    def test_one_more_goes_where_all_may_be_stale(self, letters: Letters, clock: Clock) -> None:
        letters.ledger.add("letters", group("a"), ["x", "y"], clock.now, deadline=0.0)
        clock.now += 119.0
        assert letters.run("a1", "a2") == 0
        clock.now += 2.0

        assert letters.run("a1", "a2") == 1

        assert letters.retry() == []
        assert letters.pending("a") == set()
        assert letters.run(event=event_of("a2", start=2)) is None
        assert letters.started == ["a1", "a2"]

    def test_not_where_one_of_them_is_not_stale(self, letters: Letters, clock: Clock) -> None:
        letters.ledger.add("letters", group("a"), ["x"], clock.now, deadline=0.0)
        clock.now += 121.0
        letters.ledger.add("letters", group("a"), ["y"], clock.now, deadline=0.0)

        assert letters.run("a1") == 0
        assert letters.queue.requests == []


class TestTheQueue:
    def parked(self, letters: Letters, *texts: str, bad: Exception | None = None) -> None:
        """Park texts, the first of which fails; it goes on to fail with ``bad``, or does not."""
        letters.bad = {texts[0]: BAD}
        letters.run(*texts)
        letters.bad = {} if bad is None else {texts[0]: bad}
        letters.started  # noqa: B018  # Forget them.
        letters.ledger.calls.clear()

    def test_runs_what_is_parked_in_order_and_then_takes_it_out_of_the_ledger(self, letters: Letters) -> None:
        self.parked(letters, "a1", "a2")
        letters.sink.refuse(lambda item: letters.ledger.calls.append("written"))

        assert letters.retry() == []

        assert letters.started == ["a1", "a2"]
        assert letters.ledger.calls == ["key", "written", "written", "remove", "parked"]
        assert letters.pending("a") == set()

    def test_what_is_not_pending_is_a_repeat_and_is_dropped(self, letters: Letters) -> None:
        self.parked(letters, "a1", "a2")
        (first, *_) = letters.queue.messages
        letters.queue.send([first], deadline=0.0)
        letters.retry(most=2)
        assert letters.started == ["a1", "a2"]

        assert letters.retry() == []
        assert letters.started == []

    def test_a_repeat_between_renewed_ones_does_not_end_with_the_older_record(self, letters: Letters) -> None:
        self.parked(letters, "a1", "a2")
        letters.retry(most=1)
        # Its batch comes again, as after a crash before the answer: a2 is still pending.
        letters.run("a1", "a2")
        assert letters.started == ["a1"]

        while letters.retry(most=1):
            pass

        assert letters.started == ["a2", "a1", "a2"]
        assert letters.pending("a") == set()

    def test_a_failure_is_counted_and_the_later_ones_of_its_group_wait(self, letters: Letters) -> None:
        self.parked(letters, "a1", "a2", bad=BAD)

        assert letters.retry() == ["a1", "a2"]

        assert [record.attempt for record in letters.seen] == [2]
        assert letters.started == ["a1"]
        assert letters.ledger.calls == ["key", "count", "parked"]
        letters.retry()
        assert [record.attempt for record in letters.seen] == [3]

    def test_what_is_done_stays_done_where_the_ledger_can_not_tell_what_is_left(
        self, letters: Letters, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.parked(letters, "a1", "a2")
        letters.ledger.down = {"parked"}

        assert letters.retry() == []

        assert letters.pending("a") == set()
        assert "what is parked could not be counted" in caplog.text

    def test_after_three_failed_tries_it_goes_to_the_dead_letters_and_its_key_goes_on(self, letters: Letters) -> None:
        self.parked(letters, "a1", "a2", bad=BAD)

        left = [letters.retry() for _ in range(3)]

        assert left == [["a1", "a2"], ["a1", "a2"], []]
        assert letters.started == ["a1", "a1", "a1", "a2"]
        (letter,) = letters.dead_letters
        assert (letter.data, letter.attempts, letter.parked_at) == (b"a1", 3, None)
        assert [failure.attempt for failure in letter.failures] == [1, 4]
        assert letters.pending("a") == set()

    def test_dead_letters_that_refuse_hold_the_group(self, letters: Letters) -> None:
        letters.on_failure = Park(letters.queue, letters.ledger, letters.dead_letters, attempts=1)
        self.parked(letters, "a1", "a2", bad=BAD)
        letters.dead_letters.refuse()

        assert letters.retry() == ["a1", "a2"]
        assert letters.started == ["a1"]
        letters.dead_letters.refuse(False)
        assert letters.retry() == []

        assert letters.started == ["a1", "a2"]
        assert [letter.attempts for letter in letters.dead_letters] == [1]

    def test_reject_goes_to_the_dead_letters_at_once(self, letters: Letters) -> None:
        self.parked(letters, "a1", "a2", bad=Reject("poison"))

        assert letters.retry() == []

        assert letters.started == ["a1", "a2"]
        assert len(letters.dead_letters) == 1

    @pytest.mark.parametrize("kind", ["unavailable", "failed", "invalid"])
    def test_nothing_goes_to_the_dead_letters_before_an_earlier_record_that_shows_late_to_have_failed(
        self, letters: Letters, kind: Any
    ) -> None:
        self.parked(letters, "a1", "a2", "a3")
        letters.bad = {"a2": Reject("poison")}
        letters.sink.refuse(lambda item: kind if item == "a1" else None)
        letters.dead_letters.refuse(lambda envelope: envelope.data == b"a1")

        assert letters.retry() == ["a1", "a2", "a3"]

        assert letters.started == ["a1", "a2"]
        assert len(letters.dead_letters) == 0
        letters.sink.refuse(None)
        assert letters.retry() == []
        assert [letter.data for letter in letters.dead_letters] == [b"a2"]
        assert letters.pending("a") == set()

    @pytest.mark.parametrize("kind", ["unavailable", "failed"])
    def test_a_key_does_not_go_on_past_what_shows_to_have_failed_with_the_record_of_its_dead_letter(
        self, letters: Letters, kind: Any
    ) -> None:
        letters.on_failure = Park(letters.queue, letters.ledger, letters.dead_letters, attempts=1)
        self.parked(letters, "a1", "a2", "a3", "a4")
        letters.bad = {"a3": Reject("poison")}
        # Both show when the writes are delivered, for the dead letter of a3.
        letters.sink.refuse(lambda item: {"a1": "failed", "a2": kind}.get(item))

        assert letters.retry() == ["a2", "a3", "a4"]

        assert letters.started == ["a1", "a2", "a3"]
        assert [letter.data for letter in letters.dead_letters] == [b"a1"]
        assert letters.pending("a") == ids_of("a2", start=2) | ids_of("a3", start=3) | ids_of("a4", start=4)

    def test_without_dead_letters_it_never_gives_up(self, clock: Clock) -> None:
        letters = Letters(clock, dead_letters=None)
        self.parked(letters, "a1", bad=BAD)

        for _ in range(5):
            assert letters.retry() == ["a1"]

        assert [record.attempt for record in letters.seen] == [2, 3, 4, 5, 6]

    def test_what_is_unavailable_is_no_try(self, letters: Letters) -> None:
        self.parked(letters, "a1", "a2", bad=Unavailable("payments API"))

        for _ in range(5):
            assert letters.retry() == ["a1", "a2"]

        assert "count" not in letters.ledger.calls

    def test_retry_keeps_its_time_and_an_early_receive_is_no_try(self, letters: Letters, clock: Clock) -> None:
        self.parked(letters, "a1", "a2", bad=Retry(600))
        letters.retry()
        letters.bad.clear()
        clock.now += 599.0

        assert letters.retry() == ["a1", "a2"]
        assert letters.started == ["a1"]
        clock.now += 1.0
        assert letters.retry() == []

        assert [record.attempt for record in letters.seen] == [3, 2]

    def test_retry_in_the_stream_keeps_its_time_too(self, letters: Letters, clock: Clock) -> None:
        letters.bad = {"a1": Retry(600)}
        letters.run("a1", "a2")
        letters.bad.clear()

        assert letters.retry() == ["a1", "a2"]
        clock.now += 600.0
        assert letters.retry() == []

        assert letters.started == ["a1", "a1", "a2"]

    def test_a_ledger_that_can_not_be_asked_lets_nothing_start(self, letters: Letters) -> None:
        self.parked(letters, "a1", "b1")
        letters.ledger.down = {"key"}

        assert letters.retry() == ["a1"]

        assert letters.started == []

    def test_a_ledger_that_forgets_nothing_brings_what_is_done_once_more(self, letters: Letters) -> None:
        self.parked(letters, "a1", "a2")
        letters.ledger.down = {"remove"}

        assert letters.retry() == ["a1", "a2"]
        letters.ledger.down = set()
        assert letters.retry() == []

        assert letters.started == ["a1", "a2", "a1", "a2"]
        assert letters.pending("a") == set()

    def test_a_try_that_could_not_be_counted_is_one_more(self, letters: Letters) -> None:
        self.parked(letters, "a1", bad=BAD)
        letters.ledger.down = {"count"}
        letters.retry()
        letters.ledger.down = set()

        for _ in range(3):
            letters.retry()

        assert letters.started == ["a1"] * 4
        assert len(letters.dead_letters) == 1

    def test_stale_ids_go_with_the_next_message_of_the_key(self, letters: Letters, clock: Clock) -> None:
        # Added, and never sent.
        letters.ledger.add("letters", group("a"), ["x"], clock.now, deadline=0.0)
        clock.now += 119.0
        letters.run("a1")
        letters.retry()
        assert letters.pending("a") == {"x"}
        clock.now += 2.0

        letters.run(event=event_of("a2", start=2))
        letters.retry()

        assert letters.pending("a") == set()
        assert letters.started == ["a1", "a2"]

    def test_a_message_put_back_from_a_dead_letter_queue_runs(self, letters: Letters, clock: Clock) -> None:
        self.parked(letters, "a1", "a2")
        (lost, *_) = letters.queue.messages
        letters.queue.clear()
        clock.now += 121.0
        letters.run(event=event_of("a3", start=3))
        letters.retry()
        assert letters.pending("a") == set()

        letters.queue.send([lost], deadline=0.0)

        assert letters.retry() == []
        assert letters.started == ["a3", "a1"]

    def test_a_letter_put_back_runs_at_once(self, letters: Letters) -> None:
        self.parked(letters, "a1", bad=Reject("a fault of ours"))
        letters.retry()
        letters.bad.clear()
        self.redrive(letters)

        assert letters.retry() == []

        assert letters.started == ["a1", "a1"]

    def redrive(self, letters: Letters) -> None:
        back = [letter.put_back() for letter in letters.dead_letters]
        letters.dead_letters.clear()
        letters.queue.send([Message(one.encode(), one.event_id, group("a")) for one in back], deadline=0)

    def test_a_letter_put_back_that_fails_again_is_counted_and_given_up(self, letters: Letters) -> None:
        self.parked(letters, "a1", bad=BAD)
        for _ in range(3):
            letters.retry()
        self.redrive(letters)
        started = letters.started

        left = [letters.retry() for _ in range(3)]

        assert left == [["a1"], ["a1"], []]
        assert [record.attempt for record in letters.seen] == [2, 3, 4]
        assert len(started) == 3
        (letter,) = letters.dead_letters
        assert (letter.attempts, letter.redrives) == (3, 1)
        assert letters.pending("a") == set()

    def test_a_letter_put_back_that_fails_again_parks_its_key_until_it_is_done(self, letters: Letters) -> None:
        self.parked(letters, "a1", bad=Reject("a fault of ours"))
        letters.retry()
        self.redrive(letters)
        letters.bad = {"a1": BAD}
        letters.retry()
        letters.seen.clear()

        assert letters.run(event=event_of("a2", start=2)) is None
        letters.bad.clear()
        assert letters.retry() == []

        assert letters.started == ["a1", "a2"]
        assert letters.pending("a") == set()

    def test_a_letter_put_back_keeps_the_time_of_its_retry(self, letters: Letters, clock: Clock) -> None:
        self.parked(letters, "a1", bad=Reject("a fault of ours"))
        letters.retry()
        self.redrive(letters)
        letters.bad = {"a1": Retry(600)}
        letters.retry()
        letters.seen.clear()

        clock.now += 599.0
        assert letters.retry() == ["a1"]
        letters.bad.clear()
        clock.now += 1.0
        assert letters.retry() == []

        assert letters.started == ["a1"]

    def test_a_letter_put_back_that_can_not_be_parked_comes_again_uncounted(self, letters: Letters) -> None:
        self.parked(letters, "a1", bad=Reject("a fault of ours"))
        letters.retry()
        self.redrive(letters)
        letters.bad = {"a1": BAD}
        letters.ledger.down = {"add"}

        assert letters.retry() == ["a1"]
        letters.ledger.down.clear()
        assert [letters.retry() for _ in range(3)] == [["a1"], ["a1"], []]

        assert [letter.attempts for letter in letters.dead_letters] == [3]

    def test_a_message_of_somebody_elses_runs_and_asks_no_ledger(self, letters: Letters) -> None:
        letters.queue.put("a1", group="anything")

        assert letters.retry() == []

        assert letters.started == ["a1"]
        assert letters.ledger.calls == []

    def test_what_was_parked_under_an_older_name_of_the_processor_is_found(self, letters: Letters) -> None:
        self.parked(letters, "a1", "a2")
        letters.name = "renamed"

        assert letters.retry() == []

        assert letters.started == ["a1", "a2"]
        assert letters.pending("a") == set()

    def test_an_envelope_of_a_newer_version_keeps_what_is_behind_it_pending(
        self, letters: Letters, clock: Clock
    ) -> None:
        self.parked(letters, "a1")
        (message,) = letters.queue.messages
        letters.queue.clear()
        newer = message.body.replace('"streamkit_envelope":1', '"streamkit_envelope":2')
        clock.now += 121.0
        letters.queue.put(newer, group=group("a"))
        letters.queue.send([sweep("letters", group("a"))], deadline=0.0)

        letters.queue.deliver(lambda_handler(letters))

        assert len(letters.queue) == 2
        assert letters.pending("a") == ids_of("a1")


class TestASweep:
    def test_clears_away_stale_ids_when_all_before_it_is_gone(self, letters: Letters, clock: Clock) -> None:
        letters.ledger.add("letters", group("a"), ["x"], clock.now, deadline=0.0)
        clock.now += 121.0
        letters.ledger.add("letters", group("a"), ["y"], clock.now, deadline=0.0)
        letters.queue.send([sweep("letters", group("a"))], deadline=0.0)

        assert letters.retry() == []

        assert letters.pending("a") == {"y"}
        assert letters.started == []

    def test_that_has_come_to_the_queue_of_another_processor_clears_nothing_away(
        self, letters: Letters, clock: Clock
    ) -> None:
        letters.ledger.add("others", group("a"), ["x"], clock.now, deadline=0.0)
        clock.now += 121.0
        letters.queue.send([sweep("others", group("a"))], deadline=0.0)

        assert letters.retry() == []

        assert MemoryLedger.key(letters.ledger, "others", group("a"), deadline=0.0) is not None

    def test_waits_behind_what_fails(self, letters: Letters, clock: Clock) -> None:
        letters.bad = {"a1": BAD}
        letters.run("a1")
        clock.now += 121.0
        letters.queue.send([sweep("letters", group("a"))], deadline=0.0)

        letters.retry()

        assert len(letters.queue) == 2
        assert letters.pending("a") == ids_of("a1")
        letters.bad.clear()
        assert letters.retry() == []
        assert letters.pending("a") == set()

    @pytest.mark.parametrize(
        "body", ['{"streamkit_sweep": 2, "processor": "letters"}', "streamkit_sweep", '["streamkit_sweep"]']
    )
    def test_is_told_from_a_record(self, letters: Letters, body: str) -> None:
        letters.queue.put(body, group="a")

        letters.retry()

        assert letters.started == [body]


class TestOptions:
    @pytest.mark.parametrize("ordering", ["shard", "none"])
    def test_another_ordering_is_refused(self, ordering: Any, clock: Clock) -> None:
        letters = Letters(clock)
        letters.ordering = ordering

        with pytest.raises(ConfigurationError, match="Park keeps the order of a key"):
            lambda_handler(letters)(event_of("a1"), None)

    @pytest.mark.parametrize("queue", [MemoryQueue(), SqsQueue.from_env("NO_SUCH_VARIABLE")])
    def test_a_queue_that_is_not_fifo_is_refused_before_anything_runs(self, queue: Any, letters: Letters) -> None:
        queue.owner = "Letters.on_failure's queue"
        letters.on_failure = Park(queue, letters.ledger)

        with pytest.raises(ConfigurationError, match=r"Letters.on_failure's queue is no FIFO queue"):
            lambda_handler(letters)(event_of("a1"), None)
        assert letters.started == []

    def test_a_topic_asks_no_ledger(self, letters: Letters) -> None:
        event = {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "m", "Message": "a1"}}]}

        lambda_handler(letters)(event, None)

        assert letters.ledger.calls == []

    def test_the_ledger_is_closed_with_the_handler(self, letters: Letters, monkeypatch: pytest.MonkeyPatch) -> None:
        closed: list[str] = []
        monkeypatch.setattr(letters.ledger, "close", lambda: closed.append("ledger"))
        handler = lambda_handler(letters)
        handler(event_of("a1"), None)

        handler.close()

        assert closed == ["ledger"]


def test_neither_the_group_nor_the_id_tells_what_it_is_of(letters: Letters) -> None:
    letters.bad = {"a1": BAD}
    letters.run("a1")

    ((processor, stands_under), key) = next(iter(letters.ledger._keys.items()))
    assert (processor, len(stands_under)) == ("letters", 32)
    assert [len(one) for one in key.pending] == [22]


def test_the_log_names_the_record_and_the_group_of_a_key_that_is_parked(
    letters: Letters, caplog: pytest.LogCaptureFixture
) -> None:
    letters.bad = {"a1": BAD}
    with caplog.at_level(logging.WARNING):
        letters.run("a1", "a2")
        letters.run(event=event_of("a3", start=3))

    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "letters: record stream/shardId-000000000000:1:0 failed and is to go to the retry queue, with what follows it of its "
        "key: ValueError: bad (test_parking.py:112)".replace("112", lines[0].rpartition(":")[2].rstrip(")")),
        f"letters: the key of record stream/shardId-000000000000:1:0 is parked, as the group {group('a')}",
    ]


def test_under_divert_a_fifo_queue_has_no_ledger(clock: Clock) -> None:
    letters = Letters(clock)
    letters.on_failure = Divert(letters.queue, letters.dead_letters)
    letters.bad = {"a1": BAD}

    letters.run("a1", "a2")

    assert [envelope.parked_at for envelope in letters.queue] == [None]
    assert isinstance(next(iter(letters.queue)), Envelope)

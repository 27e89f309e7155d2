from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import pytest

from streamkit import Block, Divert, Record, RecordProcessor, Reject, Retry, Unavailable, Write, lambda_handler
from streamkit.deadline import Deadline
from streamkit.envelope import Envelope
from streamkit.errors import DecodeError, QueueError
from streamkit.event import Batch, decode
from streamkit.failure import Settlement, hold_followers, is_poison
from streamkit.outcome import (
    DONE,
    NOT_STARTED,
    Failed,
    Held,
    NotStarted,
    Outcome,
    Settled,
)
from streamkit.outcome import (
    Unavailable as WasUnavailable,
)
from streamkit.policy import Policy
from streamkit.queues.base import Message, MessageRefusal, Queue
from streamkit.testing import MemoryQueue, MemorySink, kinesis_event

Kind = Literal["failed", "invalid", "unavailable"]


class Watched(MemoryQueue):
    """Keeps what each request brought, by the last character of the payload."""

    def __init__(self, *, fifo: bool = False) -> None:
        super().__init__(fifo=fifo)
        self.requests: list[str] = []

    def send(self, messages: Sequence[Message], *, deadline: float) -> list[MessageRefusal]:
        self.requests.append("".join(payload_of(message) for message in messages))
        return super().send(messages, deadline=deadline)


class Letters(RecordProcessor):
    """Each record is a letter; ``bad`` says what is raised for some of them. The others are written to ``sink``."""

    name = "letters"

    def __init__(self, policy: Policy, bad: dict[str, Exception] | None = None, **options: Any) -> None:
        self.on_failure = policy
        self.bad = bad or {}
        self.sink = MemorySink()
        self.started = ""
        for option, value in options.items():
            setattr(self, option, value)

    def process(self, record: Record) -> Iterator[Write]:
        letter = record.data.decode()
        self.started += letter
        if letter in self.bad:
            raise self.bad[letter]
        yield self.sink.item(letter)


def payload_of(message: Message) -> str:
    import base64

    return base64.b64decode(json.loads(message.body)["data"] or "").decode()[-1:]


def letters_in(queue: MemoryQueue) -> str:
    return "".join((envelope.data or b"").decode() for envelope in queue)


def stream(letters: str, key: str | None = None) -> dict[str, Any]:
    return kinesis_event([letter.encode() for letter in letters], partition_keys=[key] * len(letters) if key else None)


def answered(answer: Any, event: dict[str, Any]) -> int | None:
    """The index of the record that the answer names; None: success."""
    named = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
    numbers = [raw["kinesis"]["sequenceNumber"] for raw in event["Records"]]
    assert len(named) <= 1
    return numbers.index(named[0]) if named else None


def run(letters: Letters, event: dict[str, Any]) -> int | None:
    return answered(lambda_handler(letters)(event, None), event)


def queue_event(*messages: tuple[str, str], group: str | None = None) -> dict[str, Any]:
    """An SQS event of messages, each an id and a body; of a FIFO queue where there is a group."""
    facts = {
        "attributes": {} if group is None else {"MessageGroupId": group},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:retries" + ("" if group is None else ".fifo"),
    }
    return {"Records": [{"messageId": name, "body": body, **facts} for name, body in messages]}


def envelope_of(letter: str, *, attempts: int = 0) -> str:
    record = decode(stream(letter)).records[0]
    envelope = Envelope.of(record, "letters")
    for _ in range(attempts):
        envelope = envelope.failed(record, ValueError("bad"), counts=True)
    return envelope.encode()


class TestPoison:
    @pytest.mark.parametrize("error", [Reject("no"), DecodeError("no")])
    def test_can_never_succeed(self, error: Exception) -> None:
        assert is_poison(error)

    @pytest.mark.parametrize("error", [ValueError("no"), Retry(1), Unavailable("x"), KeyError("id")])
    def test_is_nothing_else(self, error: Exception) -> None:
        assert not is_poison(error)

    def test_of_the_stream_has_had_no_try_on_the_retry_path(self) -> None:
        dead_letters = MemoryQueue()
        letters = Letters(Divert(MemoryQueue(), dead_letters=dead_letters), {"a": Reject("no")})

        run(letters, stream("a"))
        lambda_handler(letters)(queue_event(("m-1", envelope_of("a"))), None)

        assert [letter.attempts for letter in dead_letters] == [0, 1]


QUEUE, DEAD = "the retry queue", "dead letters"


class TestWhereAFailureGoes:
    @pytest.mark.parametrize(
        ("policy", "error", "where"),
        [
            (lambda q, d: Block(), ValueError(), None),
            (lambda q, d: Block(), Reject(), None),
            (lambda q, d: Block(), Retry(5), None),
            (lambda q, d: Block(d), ValueError(), None),
            (lambda q, d: Block(d), Retry(5), None),
            (lambda q, d: Block(d), Reject(), DEAD),
            (lambda q, d: Block(d), DecodeError("bad"), DEAD),
            (lambda q, d: Divert(q), ValueError(), QUEUE),
            (lambda q, d: Divert(q), Reject(), QUEUE),
            (lambda q, d: Divert(q), Retry(5), QUEUE),
            (lambda q, d: Divert(q, d), ValueError(), QUEUE),
            (lambda q, d: Divert(q, d), Reject(), DEAD),
            (lambda q, d: Divert(q, d), DecodeError("bad"), DEAD),
        ],
    )
    def test_from_the_stream(
        self, policy: Callable[[Queue, Queue], Policy], error: Exception, where: str | None
    ) -> None:
        batch = decode(stream("a"))

        settlement = Settlement(policy(MemoryQueue(), MemoryQueue()), "letters", batch, Deadline(None, 1.0))

        assert settlement.add(0, error) == where

    @pytest.mark.parametrize(
        ("policy", "error", "attempts", "where"),
        [
            (lambda q, d: Block(), ValueError(), 0, None),
            (lambda q, d: Block(d), Reject(), 0, DEAD),
            (lambda q, d: Block(d), ValueError(), 9, None),
            (lambda q, d: Divert(q, d), ValueError(), 0, QUEUE),
            (lambda q, d: Divert(q, d), ValueError(), 1, QUEUE),
            (lambda q, d: Divert(q, d), ValueError(), 2, DEAD),
            (lambda q, d: Divert(q, d), ValueError(), 9, DEAD),
            (lambda q, d: Divert(q, d, attempts=1), ValueError(), 0, DEAD),
            (lambda q, d: Divert(q, d), Reject(), 0, DEAD),
            (lambda q, d: Divert(q, d), Retry(5), 1, QUEUE),
            (lambda q, d: Divert(q, d), Retry(5), 2, DEAD),
            (lambda q, d: Divert(q), ValueError(), 9, None),
            (lambda q, d: Divert(q), Reject(), 9, None),
            (lambda q, d: Divert(q), Retry(5), 9, QUEUE),
        ],
    )
    def test_from_a_standard_queue(
        self, policy: Callable[[Queue, Queue], Policy], error: Exception, attempts: int, where: str | None
    ) -> None:
        batch = decode(queue_event(("m-1", envelope_of("a", attempts=attempts))))

        settlement = Settlement(policy(MemoryQueue(), MemoryQueue()), "letters", batch, Deadline(None, 1.0))

        assert settlement.add(0, error) == where

    @pytest.mark.parametrize(("error", "where"), [(ValueError(), None), (Retry(5), None), (Reject(), DEAD)])
    def test_from_a_fifo_queue(self, error: Exception, where: str | None) -> None:
        policy = Divert(MemoryQueue(fifo=True), MemoryQueue())
        batch = decode(queue_event(("m-1", envelope_of("a", attempts=9)), group="g"))

        settlement = Settlement(policy, "letters", batch, Deadline(None, 1.0))

        assert settlement.add(0, error) == where

    @pytest.mark.parametrize(("error", "where"), [(ValueError(), None), (Retry(5), None), (Reject(), DEAD)])
    def test_from_a_topic(self, error: Exception, where: str | None) -> None:
        event = {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "n-1", "Message": "a"}}]}
        policy = Divert(MemoryQueue(), MemoryQueue())

        settlement = Settlement(policy, "letters", decode(event), Deadline(None, 1.0))

        assert settlement.add(0, error) == where


class TestWhatIsSent:
    def test_counts_tries_on_the_retry_path_and_not_the_streams_own(self) -> None:
        queue = MemoryQueue()
        handler = lambda_handler(Letters(Divert(queue), {"a": ValueError("bad")}))

        handler(stream("a"), None)

        (envelope,) = queue
        assert envelope.attempts == 0
        assert [failure.attempt for failure in envelope.failures] == [1]

    def test_ends_in_dead_letters_with_every_attempt(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        handler = lambda_handler(Letters(Divert(queue, dead_letters), {"a": ValueError("bad")}))

        handler(event := stream("a"), None)
        while len(queue):
            queue.advance(900)
            queue.deliver(handler)

        (envelope,) = dead_letters
        assert envelope.event_id == decode(event).records[0].event_id
        assert envelope.attempts == 3
        assert [failure.attempt for failure in envelope.failures] == [1, 2, 3, 4]

    def test_that_was_rejected_on_the_retry_path_counts_that_try(self) -> None:
        dead_letters = MemoryQueue()
        handler = lambda_handler(Letters(Divert(MemoryQueue(), dead_letters), {"a": Reject("no")}))

        handler(queue_event(("m-1", envelope_of("a", attempts=1))), None)

        assert [envelope.attempts for envelope in dead_letters] == [2]

    def test_has_the_delay_that_retry_asks_for(self) -> None:
        queue = MemoryQueue()
        handler = lambda_handler(Letters(Divert(queue, backoff=0), {"a": Retry(30), "b": ValueError()}))

        handler(stream("ab"), None)

        assert [message.delay for message in queue.messages] == [30, 0]

    def test_to_a_fifo_queue_has_its_delay_in_the_envelope(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("streamkit.envelope.time.time", lambda: 1000.0)
        queue = MemoryQueue(fifo=True)
        handler = lambda_handler(Letters(Divert(queue), {"a": Retry(30)}))

        handler(stream("a"), None)

        assert [
            (message.delay, envelope.not_before) for message, envelope in zip(queue.messages, queue, strict=True)
        ] == [(0, 1030.0)]

    def test_has_a_group_that_tells_nothing_of_the_key(self) -> None:
        queue = MemoryQueue()
        handler = lambda_handler(Letters(Divert(queue), {letter: ValueError() for letter in "abcd"}))
        event = kinesis_event(
            [b"a", b"b", b"c", b"d"], partition_keys=["jane@example.com", "jane@example.com", None, None]
        )

        handler(event, None)

        groups = [message.group for message in queue.messages]
        assert groups[0] == groups[1]
        assert len(set(groups)) == 3
        assert all(len(group) == 32 and group.isalnum() for group in groups)

    def test_has_a_group_of_its_own_for_each_processor(self) -> None:
        queue = MemoryQueue()

        for name in ("letters", "other"):
            lambda_handler(Letters(Divert(queue), {"a": ValueError()}, name=name))(stream("a", key="k"), None)

        assert len({message.group for message in queue.messages}) == 2

    def test_keeps_what_could_not_be_decoded(self) -> None:
        dead_letters = MemoryQueue()
        event = stream("abc")
        event["Records"][1]["kinesis"]["data"] = "%%%"

        assert run(Letters(Block(dead_letters)), event) is None

        (envelope,) = dead_letters
        assert (envelope.data, envelope.undecoded) == (None, "%%%")


class Topic(MemoryQueue):
    """A queue without delays, as a topic is one."""

    max_delay = 0.0


class TestTheBackoff:
    def delays(self, policy: Divert, attempts: int | None = None, count: int = 400) -> list[float]:
        """Of many records that fail alike: in the stream, or as the envelope with so many attempts."""
        assert isinstance(policy.queue, MemoryQueue)
        texts = [str(n) for n in range(count)]
        letters = Letters(policy, {text: ValueError() for text in texts})
        if attempts is None:
            lambda_handler(letters)(kinesis_event(texts), None)
        else:
            envelopes = [
                Envelope(event_id=text, source="kinesis", processor="p", data=text.encode(), attempts=attempts)
                for text in texts
            ]
            bodies = [(f"m-{text}", envelope.encode()) for text, envelope in zip(texts, envelopes, strict=True)]
            lambda_handler(letters)(queue_event(*bodies), None)
        return [message.delay for message in policy.queue.messages]

    @pytest.mark.parametrize(
        ("attempts", "longest"), [(None, 15), (0, 15), (1, 30), (2, 60), (5, 480), (6, 900), (7, 900), (10**6, 900)]
    )
    def test_is_anything_up_to_twice_as_long_each_time(self, attempts: int | None, longest: float) -> None:
        delays = self.delays(Divert(MemoryQueue(), MemoryQueue(), attempts=10**9), attempts)

        assert len(delays) == 400
        assert 0 <= min(delays) < longest * 0.03
        assert longest * 0.97 < max(delays) <= longest
        # Full jitter: spread over all of it. A quarter of them is in each quarter, give or take.
        quarters = [sum(n * longest / 4 <= delay < (n + 1) * longest / 4 for delay in delays) for n in range(4)]
        assert all(70 <= quarter <= 130 for quarter in quarters)

    def test_is_another_for_each_attempt_of_a_record(self) -> None:
        policy = Divert(MemoryQueue(), MemoryQueue(), attempts=100, max_backoff=15)

        one, two = self.delays(policy, 1, count=1), self.delays(policy, 2, count=1)[1:]

        assert one != two

    def test_is_what_the_policy_says(self) -> None:
        policy = Divert(MemoryQueue(), MemoryQueue(), attempts=100, backoff=2, max_backoff=5)

        assert 1.9 < max(self.delays(policy)) <= 2
        policy.queue.clear()  # type: ignore[union-attr]  # It is the one given.
        assert 4.9 < max(self.delays(policy, 9)) <= 5

    def test_longer_than_the_queue_can_wait_is_in_the_envelope(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("streamkit.envelope.time.time", lambda: 1000.0)
        queue = MemoryQueue()

        delays = self.delays(Divert(queue, MemoryQueue(), attempts=100, backoff=100_000, max_backoff=100_000))

        assert max(delays) == 900
        assert 90_000 < max(envelope.not_before or 0 for envelope in queue) - 1000 <= 100_000

    def test_is_the_same_whenever_it_happens(self) -> None:
        assert self.delays(Divert(MemoryQueue())) == self.delays(Divert(MemoryQueue()))

    def test_is_not_of_what_goes_to_dead_letters(self) -> None:
        dead_letters = MemoryQueue()
        letters = Letters(Divert(MemoryQueue(), dead_letters), {"a": ValueError(), "b": Reject("no")})

        lambda_handler(letters)(queue_event(("m-1", envelope_of("a", attempts=2)), ("m-2", "b")), None)

        assert [message.delay for message in dead_letters.messages] == [0, 0]

    @pytest.mark.parametrize("queue", [MemoryQueue(fifo=True), Topic()], ids=["fifo", "topic"])
    def test_is_none_where_the_queue_has_no_delay(self, queue: MemoryQueue) -> None:
        assert set(self.delays(Divert(queue, MemoryQueue()), count=20)) == {0}
        assert {envelope.not_before for envelope in queue} == {None}

    def test_of_a_retry_is_what_it_asks_for(self) -> None:
        queue = MemoryQueue()
        letters = Letters(Divert(queue, MemoryQueue()), {"a": Retry(0), "b": Retry(7)})

        lambda_handler(letters)(queue_event(("m-1", envelope_of("a")), ("m-2", envelope_of("b"))), None)

        assert [message.delay for message in queue.messages] == [0, 7]


class TestToATopic:
    def test_a_delay_can_not_be_kept_which_is_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        topic = Topic()
        letters = Letters(Divert(topic), {letter: Retry(30) for letter in "abc"})

        assert run(letters, stream("abcd")) is None

        assert len(topic) == 3
        lines = [entry.getMessage() for entry in caplog.records if "no delay" in entry.getMessage()]
        assert len(lines) == 1
        assert "Retry(30)" in lines[0]

    def test_a_plain_failure_is_no_reason_to_say_so(self, caplog: pytest.LogCaptureFixture) -> None:
        run(Letters(Divert(Topic()), {"a": ValueError()}), stream("a"))

        assert "no delay" not in caplog.text

    def test_what_its_function_gets_early_runs_and_uses_up_no_invocation(self) -> None:
        topic = Topic()
        letters = Letters(Divert(topic, MemoryQueue()), {"a": Retry(3600)})
        run(letters, stream("a"))
        (sent,) = topic.messages
        letters.bad.clear()
        event = {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "n", "Message": sent.body}}]}

        assert lambda_handler(letters)(event, None) == {"batchItemFailures": []}

        assert letters.started == "aa"

    def test_what_a_queue_behind_it_gets_early_stays_in_that_queue(self) -> None:
        # Sent to the topic again it would be back at once, and again, as fast as the function can run.
        topic, dead_letters = Topic(), MemoryQueue()
        letters = Letters(Divert(topic, dead_letters), {"a": Retry(3600)})
        run(letters, stream("a"))
        (sent,) = topic.messages
        topic.clear()

        answer = lambda_handler(letters)(queue_event(("m-1", sent.body)), None)

        assert answer == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}
        assert (letters.started, len(topic), len(dead_letters)) == ("a", 0, 0)


class TestWhenItIsSent:
    def test_the_first_failure_is_sent_at_once_and_the_others_ten_at_a_time(self) -> None:
        queue = Watched()
        letters = Letters(Divert(queue), {letter: ValueError() for letter in "abcdefghijklmnopqrstuvwxyz"})

        assert run(letters, stream("abcdefghijklmnopqrstuvwxyz")) is None

        assert queue.requests == ["a", "bcdefghijk", "lmnopqrstu", "vwxyz"]

    def test_the_first_is_held_by_the_queue_before_the_next_record_starts(self) -> None:
        queue = MemoryQueue()
        held: list[int] = []

        class Looking(Letters):
            def process(self, record: Record) -> Iterator[Write]:
                held.append(len(queue))
                yield from super().process(record)

        run(Looking(Divert(queue), {"a": ValueError()}), stream("ab"))

        assert held == [0, 1]

    def test_a_queue_that_refuses_stops_the_batch_there(self) -> None:
        queue = MemoryQueue()
        queue.refuse()
        letters = Letters(Divert(queue), {"b": ValueError()})

        assert run(letters, stream("abcd")) == 1

        assert letters.started == "ab"

    def test_a_queue_that_raises_has_confirmed_nothing(self) -> None:
        queue = MemoryQueue()
        queue.fail(ConnectionError("down"))
        letters = Letters(Divert(queue), {"b": ValueError()})

        assert run(letters, stream("abcd")) == 1

        assert letters.started == "ab"

    def test_a_queue_that_refuses_a_message_that_it_was_not_given_has_confirmed_nothing(self) -> None:
        class Confused(MemoryQueue):
            def send(self, messages: Sequence[Message], *, deadline: float) -> list[MessageRefusal]:
                return [MessageRefusal(Message("body", "another", "group"), QueueError("no"))]

        assert run(Letters(Divert(Confused()), {"b": ValueError()}), stream("abc")) == 1

    def test_a_queue_that_is_not_set_up_has_confirmed_nothing(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        from streamkit.queues.sqs import SqsQueue

        monkeypatch.delenv("RETRIES", raising=False)

        class Orders(Letters):
            on_failure = Divert(SqsQueue.from_env("RETRIES"))

        letters = Orders(Orders.on_failure, {"b": ValueError()})

        assert run(letters, stream("abc")) == 1

        assert letters.sink.items == ["a"]
        assert "RETRIES is not set; Orders.on_failure's queue needs" in caplog.text

    def test_on_the_retry_path_a_queue_that_is_not_set_up_keeps_the_message_where_it_is(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from streamkit.queues.sqs import SqsQueue

        monkeypatch.delenv("RETRIES", raising=False)
        letters = Letters(Divert(SqsQueue.from_env("RETRIES"), MemoryQueue()), {"a": ValueError()})

        answer = lambda_handler(letters)(queue_event(("m-1", envelope_of("a")), ("m-2", envelope_of("b"))), None)

        assert answer == {"batchItemFailures": [{"itemIdentifier": "m-1"}]}

    def test_the_queue_is_asked_within_the_deadline(self) -> None:
        class Slow(MemoryQueue):
            deadline = 0.0

            def send(self, messages: Sequence[Message], *, deadline: float) -> list[MessageRefusal]:
                self.deadline = deadline
                return super().send(messages, deadline=deadline)

        queue = Slow()

        run(Letters(Divert(queue), {"a": ValueError()}), stream("a"))

        assert queue.deadline == float("inf")


class TestNothingIsSentTwice:
    """What is sent aside and then delivered again by the stream would be sent aside again, each time."""

    def redelivered(self, letters: Letters, event: dict[str, Any], times: int) -> None:
        """What the stream does with a batch: after each answer the rest comes again."""
        for _ in range(times):
            index = run(letters, event)
            if index is None:
                return
            event = {"Records": event["Records"][index:]}

    def test_when_a_sink_is_down_that_an_earlier_record_writes_to(self) -> None:
        queue = MemoryQueue()
        letters = Letters(Divert(queue), {"c": ValueError()})
        letters.sink.fail(ConnectionError("down"))

        self.redelivered(letters, stream("abcd"), times=5)
        assert letters_in(queue) == ""

        letters.sink.fail(None)
        self.redelivered(letters, stream("abcd"), times=5)
        assert letters_in(queue) == "c"

    def test_when_a_sink_is_down_that_a_later_record_writes_to(self) -> None:
        queue = MemoryQueue()
        letters = Letters(Divert(queue), {"a": ValueError()})
        letters.sink.fail(ConnectionError("down"))

        self.redelivered(letters, stream("abcd"), times=5)

        assert letters_in(queue) == "a"

    def test_when_the_retry_queue_refuses_one_of_many_failures_of_one_request(self) -> None:
        queue = MemoryQueue()
        queue.refuse(lambda envelope: envelope.data == b"c")
        letters = Letters(Divert(queue))
        letters.sink.refuse(lambda item: "failed" if item in "bcdefg" else None)

        self.redelivered(letters, stream("abcdefgh"), times=10)

        counts = {letter: letters_in(queue).count(letter) for letter in "abcdefgh"}
        assert counts["c"] == 0
        assert counts["b"] == 1
        assert max(counts.values()) == 1

    def test_when_the_retry_queue_is_down_and_dead_letters_are_not(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        queue.fail(ConnectionError("down"))
        letters = Letters(Divert(queue, dead_letters))
        kinds: dict[str, Kind] = {"a": "invalid", "c": "failed", "e": "invalid"}
        letters.sink.refuse(lambda item: kinds.get(item))

        self.redelivered(letters, stream("abcdef"), times=10)
        assert letters_in(dead_letters) == "a"

        queue.fail(None)
        self.redelivered(letters, stream("cdef"), times=10)
        assert (letters_in(queue), letters_in(dead_letters)) == ("c", "ae")

    def test_when_dead_letters_are_down_and_the_retry_queue_is_not(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        dead_letters.fail(ConnectionError("down"))
        letters = Letters(Divert(queue, dead_letters), {"b": Reject("no"), "c": ValueError()})

        self.redelivered(letters, stream("abc"), times=10)

        assert letters_in(queue) == ""

    def test_when_another_write_of_the_record_has_no_answer(self) -> None:
        queue = MemoryQueue()
        other = MemorySink()

        class Twice(Letters):
            def process(self, record: Record) -> Iterator[Write]:
                yield self.sink.item(record.data.decode())
                yield other.item(record.data.decode())

        letters = Twice(Divert(queue))
        letters.sink.refuse("failed")
        other.fail(ConnectionError("down"))

        assert run(letters, stream("abc")) == 0

        assert letters_in(queue) == ""

    def test_when_a_poisoned_message_stands_behind_a_failed_one_of_its_group(self) -> None:
        dead_letters = MemoryQueue()
        letters = Letters(Block(dead_letters), {"a": ValueError()})
        event = queue_event(("m-1", "a"), ("m-2", '{"streamkit_envelope": 1}'), group="g")
        handler = lambda_handler(letters)

        for _ in range(3):
            answer = handler(event, None)
            assert answer == {"batchItemFailures": [{"itemIdentifier": "m-1"}, {"itemIdentifier": "m-2"}]}

        assert len(dead_letters) == 0

    def test_when_a_write_before_a_rejected_message_of_its_group_is_refused_late(self) -> None:
        dead_letters = MemoryQueue()
        letters = Letters(Block(dead_letters), {"b": Reject("no")})
        letters.sink.refuse("failed")

        answer = lambda_handler(letters)(queue_event(("m-1", "a"), ("m-2", "b"), ("m-3", "c"), group="g"), None)

        dead = letters_in(dead_letters)
        assert [failure["itemIdentifier"] for failure in answer["batchItemFailures"]] == (
            ["m-1", "m-3"] if dead else ["m-1", "m-2", "m-3"]
        )


class TestTheLog:
    def test_one_line_says_how_many_a_queue_did_not_take(self, caplog: pytest.LogCaptureFixture) -> None:
        queue = MemoryQueue()
        letters = Letters(Divert(queue), {letter: ValueError("4111-1111") for letter in "bc"})
        queue.refuse()

        run(letters, stream("abc"))

        lines = [entry.getMessage() for entry in caplog.records if "did not take" in entry.getMessage()]
        assert lines == [
            "letters: the retry queue did not take 1 of 1 records, which stay where they are: "
            "QueueError: the queue was told to refuse"
        ]
        assert all(entry.exc_info is None for entry in caplog.records)

    @pytest.mark.parametrize(
        "policy", [Block, lambda: Divert(MemoryQueue()), lambda: Divert(MemoryQueue(), MemoryQueue())]
    )
    def test_never_holds_a_payload(self, policy: Callable[[], Policy], caplog: pytest.LogCaptureFixture) -> None:
        secret = "4111-1111-1111-1111"

        class Careless(Letters):
            def process(self, record: Record) -> Iterator[Write]:
                raise ValueError(f"can't use {record.data!r} or {record.data.decode()}")

        caplog.set_level(logging.DEBUG)

        run(Careless(policy()), kinesis_event([secret.encode(), secret.encode()]))

        assert caplog.records
        assert secret not in caplog.text


UNSETTLED: list[Outcome] = [Failed(ValueError()), NOT_STARTED, WasUnavailable(OSError())]


def batch_of(outcomes: list[Outcome], keys: list[str | None]) -> Batch:
    batch = decode(kinesis_event([b"x"] * len(outcomes), partition_keys=keys))
    batch.outcomes[:] = outcomes
    return batch


class TestHoldFollowers:
    @pytest.mark.parametrize("unsettled", UNSETTLED)
    def test_what_is_done_behind_an_unsettled_record_of_its_key_is_held_by_it(self, unsettled: Outcome) -> None:
        batch = batch_of([DONE, unsettled, DONE, DONE], ["k", "k", "other", "k"])

        hold_followers(batch, "key", Block())

        assert batch.outcomes == [DONE, unsettled, DONE, Held(batch.records[1].event_id)]

    def test_by_shard_everything_behind_it_is_held(self) -> None:
        batch = batch_of([DONE, UNSETTLED[0], DONE, DONE], ["a", "b", "c", None])

        hold_followers(batch, "shard", Block())

        assert [type(outcome) for outcome in batch.outcomes] == [type(DONE), Failed, Held, Held]

    def test_without_order_nothing_is(self) -> None:
        batch = batch_of([UNSETTLED[0], DONE], ["k", "k"])

        hold_followers(batch, "none", Block())

        assert batch.outcomes == [UNSETTLED[0], DONE]

    def test_a_record_without_a_key_waits_for_none(self) -> None:
        batch = batch_of([UNSETTLED[0], DONE], [None, None])

        hold_followers(batch, "key", Block())

        assert batch.outcomes == [UNSETTLED[0], DONE]

    def test_divert_holds_nothing_on_a_stream(self) -> None:
        batch = batch_of([UNSETTLED[0], DONE], ["k", "k"])

        hold_followers(batch, "key", Divert(MemoryQueue()))

        assert batch.outcomes == [UNSETTLED[0], DONE]

    def test_what_a_queue_holds_is_settled_and_stays_so(self) -> None:
        settled = Settled("dead letters")
        batch = decode(queue_event(("m-1", "a"), ("m-2", "b"), ("m-3", "c"), group="g"))
        batch.outcomes[:] = [UNSETTLED[0], settled, DONE]

        hold_followers(batch, "key", Divert(MemoryQueue(fifo=True)))

        assert batch.outcomes == [UNSETTLED[0], settled, Held("m-1")]

    def test_what_did_not_start_stays_so(self) -> None:
        batch = batch_of([UNSETTLED[0], NOT_STARTED], ["k", "k"])

        hold_followers(batch, "key", Block())

        assert isinstance(batch.outcomes[1], NotStarted)

"""What every sink, queue and progress store has to do, as suites for your own: subclass one and fill in its blanks.

    class TestLedger(SinkContract):
        @pytest.fixture
        def sink(self, ledger_server):
            return Ledger(ledger_server.endpoint)

        def write(self, sink, n):
            return sink.entry(f"account-{n}", n)

        def delivered(self, sink):
            return ledger_server.amounts()
        …

Needs pytest: ``pip install kinesis-streamkit[testing]``.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from ..envelope import Envelope, open_envelope
from ..progress.base import ProgressStore
from ..queues.base import Message, MessageRefusal, Queue
from ..record import Record, Source
from ..sinks.base import Sink, Write

__all__ = ["FifoQueueContract", "ProgressContract", "QueueContract", "SinkContract", "message", "stamp"]


class _StampedRecord(Record):
    _event_id: str = ""

    @property
    def event_id(self) -> str:
        return self._event_id

    @property
    def source(self) -> Source:
        return "kinesis"


def stamp(writes: Iterable[Write], *, event: str = "event", processor: str = "contract") -> list[Write]:
    """Give each write an id, as delivery does: each is the first write of an event of its own, ``<event>-0``, ``-1``, …"""
    stamped = list(writes)
    for n, write in enumerate(stamped):
        write._record = _StampedRecord(b"", _event_id=f"stream/shardId-000000000000:{event}-{n}:0")
        write._processor = processor
    return stamped


def _soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


class SinkContract(ABC):
    """Needs a fixture ``sink``, a fresh one for each test whose destination is empty, and the methods below."""

    @abstractmethod
    def write(self, sink: Any, n: int) -> Write:
        """A valid write of item number ``n``: the same number makes the same item."""

    @abstractmethod
    def delivered(self, sink: Any) -> list[int]:
        """The numbers of the items at the destination, in any order; one that is there twice is listed twice."""

    @abstractmethod
    def invalid_write(self, sink: Any) -> Write:
        """A write that can be made, and that the destination refuses for good."""

    @abstractmethod
    def unreachable(self, sink: Any) -> AbstractContextManager[object]:
        """A context in which the destination can't be reached, and after which it can."""

    def test_nothing_to_write_is_nothing_refused(self, sink: Sink) -> None:
        assert list(sink.write([], deadline=_soon()) or ()) == []

    def test_what_is_not_refused_is_there_when_write_returns(self, sink: Sink) -> None:
        refusals = list(sink.write(stamp(self.write(sink, n) for n in range(20)), deadline=_soon()) or ())

        assert refusals == []
        assert sorted(self.delivered(sink)) == list(range(20))

    def test_more_than_one_request_of_writes_is_taken(self, sink: Sink) -> None:
        count = type(sink).request_writes + 3

        refusals = list(sink.write(stamp(self.write(sink, n) for n in range(count)), deadline=_soon(120)) or ())

        assert refusals == []
        assert sorted(self.delivered(sink)) == list(range(count))

    def test_a_repeated_write_takes_effect_once(self, sink: Sink) -> None:
        for _ in range(2):
            assert not list(sink.write(stamp([self.write(sink, 1), self.write(sink, 2)]), deadline=_soon()) or ())

        assert sorted(self.delivered(sink)) == [1, 2]

    def test_an_invalid_write_is_refused_alone(self, sink: Sink) -> None:
        writes = stamp([self.write(sink, 1), self.invalid_write(sink), self.write(sink, 3)])

        refusals = list(sink.write(writes, deadline=_soon()) or ())

        assert [(refusal.write, refusal.kind) for refusal in refusals] == [(writes[1], "invalid")]
        assert sorted(self.delivered(sink)) == [1, 3]

    def test_what_has_no_answer_is_unavailable_and_can_be_written_again(self, sink: Sink) -> None:
        writes = stamp(self.write(sink, n) for n in range(3))

        with self.unreachable(sink):
            outcome = _refused_or_raised(sink, writes, _soon(3))
        assert self.delivered(sink) == [], "nothing may be held and sent after write has returned"
        assert outcome == {id(write): "unavailable" for write in writes}

        assert not list(sink.write(stamp(self.write(sink, n) for n in range(3)), deadline=_soon()) or ())
        assert sorted(self.delivered(sink)) == [0, 1, 2]

    def test_a_deadline_that_is_past_is_answered_for_every_write(self, sink: Sink) -> None:
        writes = stamp(self.write(sink, n) for n in range(3))

        outcome = _refused_or_raised(sink, writes, time.monotonic() - 1)

        assert set(outcome.values()) <= {"unavailable"}
        taken = [n for n, write in enumerate(writes) if id(write) not in outcome]
        assert set(taken) <= set(self.delivered(sink))

    def test_two_writes_of_one_request_are_told_apart_by_their_ids(self, sink: Sink) -> None:
        writes = stamp([self.write(sink, 1), self.write(sink, 2)])

        assert len({write.write_id for write in writes}) == 2
        assert not list(sink.write(writes, deadline=_soon()) or ())
        assert sorted(self.delivered(sink)) == [1, 2]


def _refused_or_raised(sink: Sink, writes: list[Write], deadline: float) -> dict[int, str]:
    """The kind by which each write was refused. An exception is the same as every write being unavailable."""
    try:
        return {id(refusal.write): refusal.kind for refusal in sink.write(writes, deadline=deadline) or ()}
    except Exception:  # noqa: BLE001  # The seam allows any.
        return {id(write): "unavailable" for write in writes}


def message(n: int, *, group: str = "group", delay: float = 0.0, data: bytes = b"data") -> Message:
    """The message of an envelope whose event id ends in ``n``."""
    event_id = f"stream/shardId-000000000000:{n}:0"
    envelope = Envelope(event_id=event_id, source="kinesis", processor="contract", data=data, partition_key=group)
    return Message(envelope.encode(), event_id, group, delay)


class QueueContract(ABC):
    """Needs a fixture ``queue``, a fresh and empty one for each test, and the methods below."""

    @abstractmethod
    def received(self, queue: Any) -> list[str]:
        """The bodies of all messages that can be received now, in the order of a group where the queue keeps one."""

    @abstractmethod
    def too_large(self, queue: Any) -> Message:
        """A message that this queue refuses for good."""

    @abstractmethod
    def unreachable(self, queue: Any) -> AbstractContextManager[object]:
        """A context in which the queue can't be reached, and after which it can."""

    def test_nothing_to_send_is_nothing_refused(self, queue: Queue) -> None:
        assert list(queue.send([], deadline=_soon())) == []

    def test_what_is_not_refused_is_held_when_send_returns(self, queue: Queue) -> None:
        messages = [message(n, group=f"group-{n}") for n in range(25)]

        assert list(queue.send(messages, deadline=_soon())) == []

        assert Counter(self.received(queue)) == Counter(sent.body for sent in messages)

    def test_the_same_message_sent_twice_is_held_twice(self, queue: Queue) -> None:
        # A queue that drops the second for five minutes, because it knows the first, loses a retry.
        for _ in range(2):
            assert list(queue.send([message(1)], deadline=_soon())) == []

        assert self.received(queue) == [message(1).body] * 2

    def test_any_payload_and_key_come_back_as_they_were(self, queue: Queue) -> None:
        data = bytes(range(256)) * 4 + "\ufffe\U0001f600".encode()
        sent = message(1, group="key \x00\x1f\ufffe\U0001f600\n" + "long" * 60, data=data)
        sent = Message(sent.body, sent.event_id, "group")

        assert list(queue.send([sent], deadline=_soon())) == []

        (body,) = self.received(queue)
        envelope = open_envelope(body)
        assert envelope is not None
        assert envelope.data == data
        assert envelope.partition_key == "key \x00\x1f\ufffe\U0001f600\n" + "long" * 60

    def test_a_message_that_is_refused_does_not_take_its_neighbours_down(self, queue: Queue) -> None:
        messages = [message(1, group="a"), self.too_large(queue), message(3, group="b")]

        refusals = list(queue.send(messages, deadline=_soon()))

        assert [refusal.message for refusal in refusals] == [messages[1]]
        assert Counter(self.received(queue)) == Counter([messages[0].body, messages[2].body])

    def test_a_queue_that_can_not_be_reached_confirms_nothing(self, queue: Queue) -> None:
        messages = [message(n) for n in range(12)]

        with self.unreachable(queue):
            confirmed = _confirmed(lambda: queue.send(messages, deadline=_soon(3)), messages)

        assert confirmed == []
        assert self.received(queue) == []


class FifoQueueContract(QueueContract):
    """For a fixture ``queue`` that keeps the order of a group. ``too_large(queue)`` has the group ``"group"``."""

    def test_a_group_is_received_in_the_order_it_was_sent(self, queue: Queue) -> None:
        messages = [message(n) for n in range(25)]

        assert list(queue.send(messages, deadline=_soon())) == []

        assert self.received(queue) == [sent.body for sent in messages]

    def test_nothing_of_a_group_is_sent_after_a_refusal(self, queue: Queue) -> None:
        messages = [message(1), self.too_large(queue), message(3), message(4, group="other")]

        refusals = list(queue.send(messages, deadline=_soon()))

        assert [refusal.message for refusal in refusals] == [messages[1], messages[2]]
        assert Counter(self.received(queue)) == Counter([messages[0].body, messages[3].body])

    def test_says_that_it_is_fifo(self, queue: Queue) -> None:
        assert queue.fifo


def _confirmed(send: Callable[[], Iterable[MessageRefusal]], messages: list[Message]) -> list[Message]:
    try:
        refused = {id(refusal.message) for refusal in send()}
    except Exception:  # noqa: BLE001  # The seam allows any.
        return []
    return [sent for sent in messages if id(sent) not in refused]


class ProgressContract(ABC):
    """Needs a fixture ``store``, a fresh and empty one for each test, and the methods below."""

    shard = "stream/shardId-000000000000"
    number = 49590338271490256608559692538361571095921575989136588898

    @abstractmethod
    def another_generation(self, store: Any) -> ProgressStore:
        """A store with the same entries behind it and another generation."""

    @abstractmethod
    def unreachable(self, store: Any) -> AbstractContextManager[object]:
        """A context in which the entries can't be reached, and after which they can."""

    def save(self, store: ProgressStore, number: int, entry: bytes, *, shard: str = "") -> None:
        store.save("contract", shard or self.shard, number, entry, deadline=_soon())

    def entries(self, store: ProgressStore, up_to: int, *, shard: str = "") -> list[bytes]:
        return [bytes(entry) for entry in store.entries("contract", shard or self.shard, up_to, deadline=_soon())]

    def test_nothing_is_known_of_a_shard_that_has_no_entries(self, store: ProgressStore) -> None:
        assert self.entries(store, self.number) == []

    def test_an_entry_is_found_from_its_number_on(self, store: ProgressStore) -> None:
        self.save(store, self.number, b"\x00\xff entry")

        assert self.entries(store, self.number - 1) == []
        assert self.entries(store, self.number) == [b"\x00\xff entry"]
        assert self.entries(store, self.number + 10**50) == [b"\x00\xff entry"]

    def test_the_highest_number_comes_first(self, store: ProgressStore) -> None:
        for n in (2, 9, 1, 10, 11):
            self.save(store, n, str(n).encode())

        assert self.entries(store, 10) == [b"10", b"9", b"2", b"1"]

    def test_numbers_of_different_lengths_compare_as_numbers(self, store: ProgressStore) -> None:
        for number in (9, 10**127, 10**128 - 1):
            self.save(store, number, str(len(str(number))).encode())

        assert self.entries(store, 10**128 - 1) == [b"128", b"128", b"1"]

    def test_a_look_up_reads_a_few_entries_and_no_more(self, store: ProgressStore) -> None:
        for n in range(store.most_entries + 5):
            self.save(store, n, str(n).encode())

        found = self.entries(store, self.number)

        assert found == [str(n).encode() for n in reversed(range(5, store.most_entries + 5))]

    def test_an_entry_takes_the_place_of_the_one_under_its_number(self, store: ProgressStore) -> None:
        self.save(store, self.number, b"first")
        self.save(store, self.number, b"second")

        assert self.entries(store, self.number) == [b"second"]

    def test_shards_streams_and_processors_are_kept_apart(self, store: ProgressStore) -> None:
        places = [("a", "s/x"), ("a", "s/y"), ("a", "t/x"), ("b", "s/x"), ("a/s", "x"), ('a","s/x', ""), ("ä", "s/x")]
        for n, (processor, shard) in enumerate(places):
            store.save(processor, shard, 1, str(n).encode(), deadline=_soon())

        found = [list(store.entries(processor, shard, 1, deadline=_soon())) for processor, shard in places]

        assert found == [[str(n).encode()] for n in range(len(places))]

    def test_another_generation_knows_nothing_of_it(self, store: ProgressStore) -> None:
        self.save(store, self.number, b"entry")
        other = self.another_generation(store)

        assert self.entries(other, self.number) == []
        self.save(other, self.number, b"other")
        assert self.entries(store, self.number) == [b"entry"]

    def test_entries_of_the_largest_size_are_kept_whole(self, store: ProgressStore) -> None:
        entry = bytes(range(256)) * 515 + b"end"

        self.save(store, self.number, entry)

        assert self.entries(store, self.number) == [entry]

    def test_invocations_that_save_at_once_leave_whole_entries(self, store: ProgressStore) -> None:
        from concurrent.futures import ThreadPoolExecutor

        def save(lane: int) -> None:
            for n in range(5):
                self.save(store, self.number + lane, bytes([lane, n]) * 500)
                self.save(store, self.number, bytes([9, lane, n]) * 500)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(save, range(1, 5)))

        *lanes, shared = self.entries(store, self.number + 4)
        assert lanes == [bytes([lane, 4]) * 500 for lane in (4, 3, 2, 1)]
        assert shared == shared[:3] * 500

    def test_what_can_not_be_reached_raises_and_can_be_used_again(self, store: ProgressStore) -> None:
        self.save(store, self.number, b"entry")

        with self.unreachable(store):
            assert _raises(lambda: self.entries(store, self.number))
            assert _raises(lambda: self.save(store, self.number, b"lost"))

        assert self.entries(store, self.number) == [b"entry"]

    def test_it_can_be_closed_twice(self, store: ProgressStore) -> None:
        self.save(store, self.number, b"entry")

        store.close()
        store.close()


def _raises(call: Callable[[], object]) -> bool:
    """Whether it raises an exception: the seam allows any."""
    try:
        call()
    except Exception:  # noqa: BLE001  # Which one is the store's own affair.
        return True
    return False

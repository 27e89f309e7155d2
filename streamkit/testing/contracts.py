"""What every sink, queue and store has to do, as suites for your own: subclass one and fill in its blanks.

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

import hashlib
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import msgspec
import pytest

from ..cells.base import CellStore
from ..checkpoints.base import CheckpointStore, Lease, LeaseLost
from ..claims.base import Claim, ClaimStore, StoreAway, open_claim
from ..envelope import Envelope, open_envelope
from ..errors import DecodeError, Unavailable
from ..ledgers.base import Ledger, ParkedKey, Pending
from ..marks.base import MarkStore
from ..plans.base import Entry, PlanStore
from ..progress.base import ProgressStore
from ..queues.base import Message, MessageRefusal, Queue
from ..record import Record, Source
from ..sinks.base import Sink, Write

__all__ = [
    "CellContract",
    "CheckpointContract",
    "ClaimContract",
    "FifoQueueContract",
    "LedgerContract",
    "MarkContract",
    "PlanContract",
    "ProgressContract",
    "QueueContract",
    "SinkContract",
    "message",
    "stamp",
]


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
    """Needs a fixture ``sink``, a fresh one for each test whose destination is empty, and the methods below.

    Where the destination can't dedupe at all, say so: ``takes_effect_once = False``.
    """

    #: Whether a write that is repeated takes effect once, as its id allows.
    takes_effect_once = True

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

        assert sorted(self.delivered(sink)) == ([1, 2] if self.takes_effect_once else [1, 1, 2, 2])

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


class ClaimContract(ABC):
    """Needs a fixture ``store``, a fresh and empty one for each test, and the methods below."""

    @abstractmethod
    def damage(self, store: Any, claim: Claim, content: bytes | None) -> None:
        """Replace what ``claim`` stands for, behind the store's back; None deletes it."""

    @abstractmethod
    def unreachable(self, store: Any) -> AbstractContextManager[object]:
        """A context in which the store can't be reached, and after which it can."""

    def put(self, store: ClaimStore, body: str = "body") -> Claim:
        claim = open_claim(store.put(body, "event-1", deadline=_soon()))
        assert claim is not None
        return claim

    @pytest.mark.parametrize("body", ["", "body", "\x00\ufffe\U0001f600\n", "x" * 3_000_000])
    def test_what_was_put_is_fetched_as_it_was(self, store: ClaimStore, body: str) -> None:
        assert store.fetch(self.put(store, body), deadline=_soon()) == body

    def test_a_claim_says_whose_body_it_stands_for_and_where_it_is(self, store: ClaimStore) -> None:
        claim = self.put(store, "body")

        assert (claim.event_id, claim.bucket, claim.bytes) == ("event-1", store.bucket, 4)
        assert claim.key

    def test_what_is_put_twice_is_one_object(self, store: ClaimStore) -> None:
        assert self.put(store) == self.put(store)

    def test_two_bodies_are_two_objects(self, store: ClaimStore) -> None:
        claims = [self.put(store, body) for body in ("one", "two")]

        assert [store.fetch(claim, deadline=_soon()) for claim in claims] == ["one", "two"]

    def test_a_body_that_is_gone_is_told_from_a_store_that_is_away(self, store: ClaimStore) -> None:
        claim = self.put(store)
        self.damage(store, claim, None)

        with pytest.raises(DecodeError, match=f"there is no object s3://{store.bucket}/{claim.key}") as raised:
            store.fetch(claim, deadline=_soon())

        assert raised.value.event_id == "event-1"

    @pytest.mark.parametrize("content", [b"", b"bod", b"body and more", b"Body"])
    def test_a_body_that_is_not_what_was_put_is_refused(self, store: ClaimStore, content: bytes) -> None:
        claim = self.put(store)
        self.damage(store, claim, content)

        with pytest.raises(DecodeError, match="is not what was put there"):
            store.fetch(claim, deadline=_soon())

    def test_a_body_that_is_no_text_is_refused(self, store: ClaimStore) -> None:
        content = b"\xff\xfe"
        claim = msgspec.structs.replace(self.put(store), bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        self.damage(store, claim, content)

        with pytest.raises(DecodeError, match="is not UTF-8"):
            store.fetch(claim, deadline=_soon())

    def test_a_claim_of_another_bucket_is_not_opened(self, store: ClaimStore) -> None:
        claim = msgspec.structs.replace(self.put(store), bucket="another")

        with pytest.raises(Unavailable, match=f"than this queue's {store.bucket}: s3://another/"):
            store.fetch(claim, deadline=_soon())

    def test_a_store_that_can_not_be_reached_is_unavailable(self, store: ClaimStore) -> None:
        claim = self.put(store)

        with self.unreachable(store):
            with pytest.raises(StoreAway, match=f"s3://{store.bucket}/{claim.key}"):
                store.fetch(claim, deadline=_soon(2))
            with pytest.raises(Exception):  # noqa: B017, PT011  # The seam allows any.
                store.put("other", "event-2", deadline=_soon(2))

        assert store.fetch(claim, deadline=_soon()) == "body"


def _confirmed(send: Callable[[], Iterable[MessageRefusal]], messages: list[Message]) -> list[Message]:
    try:
        refused = {id(refusal.message) for refusal in send()}
    except Exception:  # noqa: BLE001  # The seam allows any.
        return []
    return [sent for sent in messages if id(sent) not in refused]


# Of the 56 digits that Kinesis gives.
_NUMBER = 49590338271490256608559692538361571095921575989136588898
_SHARD = "shardId-000000000000"


class CheckpointContract:
    """Needs a fixture ``store``, a fresh and empty one for each test."""

    def other(self, store: Any) -> Any:
        """A second store over the same entries, as another process has it. By default the same one."""
        return store

    def taken(self, store: CheckpointStore, owner: str = "a", shard_id: str = _SHARD) -> Lease:
        """The shard's lease, taken by ``owner`` as it is now."""
        lease = store.take("reader", "stream", shard_id, owner, self.entry(store, shard_id))
        assert lease is not None
        return lease

    def entry(self, store: CheckpointStore, shard_id: str = _SHARD) -> Lease | None:
        return store.leases("reader", "stream").get(shard_id)

    def test_has_no_leases_before_the_first_is_taken(self, store: CheckpointStore) -> None:
        assert store.leases("reader", "stream") == {}

    def test_a_shard_that_nobody_had_is_taken(self, store: CheckpointStore) -> None:
        lease = store.take("reader", "stream", _SHARD, "a", None, started_at=1700000000.123456)

        assert lease == Lease("reader", "stream", _SHARD, "a", 1, 0, None, False, 1700000000.123456)
        assert self.other(store).leases("reader", "stream") == {_SHARD: lease}

    def test_a_shard_is_taken_from_its_owner_in_a_new_term(self, store: CheckpointStore) -> None:
        first = self.taken(store)

        second = self.other(store).take("reader", "stream", _SHARD, "b", first)

        assert second is not None
        assert (second.owner, second.term) == ("b", first.term + 1)
        assert self.entry(store) == second

    def test_a_shard_is_not_taken_by_who_has_seen_an_older_entry(self, store: CheckpointStore) -> None:
        first = self.taken(store)
        renewed = store.renew(first)

        assert store.take("reader", "stream", _SHARD, "b", None) is None
        assert store.take("reader", "stream", _SHARD, "b", first) is None
        assert self.entry(store) == renewed
        store.give_up(renewed)
        assert store.take("reader", "stream", _SHARD, "b", renewed) is None
        assert self.taken(store, "c").owner == "c"

    def test_a_shard_without_an_entry_is_not_taken_by_who_has_seen_one(self, store: CheckpointStore) -> None:
        seen = Lease("reader", "stream", _SHARD, "a", 1)

        assert store.take("reader", "stream", _SHARD, "b", seen) is None
        assert store.leases("reader", "stream") == {}

    def test_a_renewal_is_seen_by_the_others(self, store: CheckpointStore) -> None:
        lease = self.taken(store)

        renewed = store.renew(lease)

        assert renewed == self.entry(self.other(store))
        assert (renewed.owner, renewed.term, renewed.beat) == (lease.owner, lease.term, lease.beat + 1)
        assert store.renew(renewed).beat == lease.beat + 2

    def test_who_takes_a_shard_goes_on_from_its_checkpoint(self, store: CheckpointStore) -> None:
        first = store.take("reader", "stream", _SHARD, "a", None, started_at=1000.5)
        assert first is not None
        store.save(first, _NUMBER)
        store.end(first, _NUMBER + 1)

        second = self.other(store).take("reader", "stream", _SHARD, "b", first, started_at=2000.5)

        assert second is not None
        assert (second.checkpoint, second.has_ended, second.started_at) == (_NUMBER + 1, True, 1000.5)

    def test_the_start_is_the_first_that_is_given(self, store: CheckpointStore) -> None:
        first = self.taken(store)
        second = store.take("reader", "stream", _SHARD, "b", first, started_at=3.0)

        assert first.started_at is None
        assert second is not None
        assert second.started_at == 3.0

    def test_a_checkpoint_moves_up_and_never_down(self, store: CheckpointStore) -> None:
        lease = self.taken(store)

        held = []
        for number in (_NUMBER, _NUMBER + 1, _NUMBER, 0):
            store.save(lease, number)
            held.append(self.entry(self.other(store)))

        assert [entry and entry.checkpoint for entry in held] == [_NUMBER, _NUMBER + 1, _NUMBER + 1, _NUMBER + 1]

    @pytest.mark.parametrize(
        ("lower", "higher"), [(9, 10), (0, 1), (99, 100), (_NUMBER, 10**127), (10**127, 10**128 - 1)]
    )
    def test_numbers_of_different_lengths_compare_as_numbers(
        self, store: CheckpointStore, lower: int, higher: int
    ) -> None:
        lease = self.taken(store)
        for number in (lower, higher, lower):
            store.save(lease, number)

        entry = self.entry(store)

        assert entry is not None
        assert entry.checkpoint == higher

    def test_a_checkpoint_is_saved_by_a_lease_that_was_renewed_meanwhile(self, store: CheckpointStore) -> None:
        lease = self.taken(store)
        renewed = store.renew(lease)

        store.save(lease, 1)

        assert self.entry(store) == Lease("reader", "stream", _SHARD, "a", 1, renewed.beat, 1)

    def test_a_renewal_gives_what_was_saved_meanwhile(self, store: CheckpointStore) -> None:
        lease = self.taken(store)
        store.save(lease, 7)

        assert store.renew(lease).checkpoint == 7

    @pytest.mark.parametrize("owner", ["b", "a"])
    def test_a_lease_of_an_older_term_changes_nothing(self, store: CheckpointStore, owner: str) -> None:
        stale = self.taken(store)
        store.save(stale, 5)
        self.taken(self.other(store), owner)
        before = self.entry(store)

        with pytest.raises(LeaseLost):
            store.save(stale, 9)
        with pytest.raises(LeaseLost):
            store.save(stale, 1)
        with pytest.raises(LeaseLost):
            store.renew(stale)
        with pytest.raises(LeaseLost):
            store.end(stale, 9)
        with pytest.raises(LeaseLost):
            store.end(stale, None)
        store.give_up(stale)

        assert self.entry(store) == before

    def test_a_lease_that_was_given_up_changes_nothing(self, store: CheckpointStore) -> None:
        lease = self.taken(store)
        store.save(lease, 5)
        store.give_up(lease)
        before = self.entry(store)

        with pytest.raises(LeaseLost):
            store.save(lease, 9)
        with pytest.raises(LeaseLost):
            store.renew(lease)
        with pytest.raises(LeaseLost):
            store.end(lease, None)

        assert before is not None
        assert (before.owner, before.term, before.checkpoint) == ("", lease.term, 5)
        assert self.entry(store) == before

    def test_a_lease_without_an_entry_makes_none(self, store: CheckpointStore) -> None:
        lease = Lease("reader", "stream", _SHARD, "a", 1)

        with pytest.raises(LeaseLost):
            store.save(lease, 1)
        with pytest.raises(LeaseLost):
            store.renew(lease)
        with pytest.raises(LeaseLost):
            store.end(lease, 1)
        store.give_up(lease)

        assert store.leases("reader", "stream") == {}

    def test_what_was_given_up_can_be_taken_and_goes_on(self, store: CheckpointStore) -> None:
        lease = self.taken(store)
        store.save(lease, 5)
        store.give_up(lease)

        taken = self.taken(self.other(store), "b")

        assert (taken.owner, taken.term, taken.checkpoint) == ("b", lease.term + 1, 5)

    @pytest.mark.parametrize(("number", "held"), [(None, 5), (9, 9), (5, 5), (1, 5)])
    def test_a_shard_ends_with_its_highest_number(self, store: CheckpointStore, number: int | None, held: int) -> None:
        lease = self.taken(store)
        store.save(lease, 5)

        store.end(lease, number)

        entry = self.entry(self.other(store))
        assert entry is not None
        assert (entry.checkpoint, entry.has_ended) == (held, True)

    def test_an_empty_shard_ends_without_a_number(self, store: CheckpointStore) -> None:
        store.end(self.taken(store), None)

        entry = self.entry(store)
        assert entry is not None
        assert (entry.checkpoint, entry.has_ended) == (None, True)

    def test_what_has_ended_stays_so(self, store: CheckpointStore) -> None:
        lease = self.taken(store)
        store.end(lease, 1)
        store.save(lease, 2)
        store.renew(lease)
        store.give_up(lease)

        assert self.taken(store, "b").has_ended

    def test_a_repeat_of_each_write_is_harmless(self, store: CheckpointStore) -> None:
        # As where its answer was lost: the client, or the caller, sends it again.
        lease = store.take("reader", "stream", _SHARD, "a", None)
        assert lease is not None
        assert store.take("reader", "stream", _SHARD, "a", None) == lease
        assert store.renew(lease) == store.renew(lease)
        for _ in range(2):
            store.save(lease, 5)
            store.end(lease, 6)
        ended = self.entry(store)
        assert ended == Lease("reader", "stream", _SHARD, "a", 1, lease.beat + 1, 6, True)
        store.give_up(lease)
        store.give_up(lease)
        assert self.entry(store) == Lease("reader", "stream", _SHARD, "", 1, lease.beat + 1, 6, True)

    def test_a_repeat_that_comes_after_the_next_owner_disturbs_nobody(self, store: CheckpointStore) -> None:
        first = self.taken(store)
        second = store.take("reader", "stream", _SHARD, "b", first)

        assert store.take("reader", "stream", _SHARD, "a", None) is None
        store.give_up(first)

        assert self.entry(store) == second

    def test_a_renewal_that_is_repeated_late_does_not_take_a_later_one_back(self, store: CheckpointStore) -> None:
        # Or who watches the entry would think that its owner has been still since then.
        lease = self.taken(store)
        latest = store.renew(store.renew(lease))

        assert store.renew(lease) == latest
        assert self.entry(store) == latest

    def test_readers_streams_and_shards_are_kept_apart(self, store: CheckpointStore) -> None:
        places = [("a", "s", "x"), ("b", "s", "x"), ("a", "t", "x"), ("a", "s", "y"), ("as", "", "x"), ("", "as", "x")]
        places += [("a/b", "c", "x"), ("a", "b/c", "x"), ("a", "b%2Fc", "x"), ("a%2Fb", "c", "x"), ("a/", "c", "x")]
        for number, place in enumerate(places):
            lease = store.take(*place, "owner", None)
            assert lease is not None
            store.save(lease, number)

        found = [store.leases(reader, stream)[shard_id] for reader, stream, shard_id in places]

        assert [entry.checkpoint for entry in found] == list(range(len(places)))
        assert [(entry.reader, entry.stream, entry.shard_id) for entry in found] == places
        assert set(store.leases("a", "s")) == {"x", "y"}

    @pytest.mark.parametrize("name", ["", "with space", "'; DROP TABLE leases; --", "größe", "a/b:c", "x" * 1000])
    def test_any_name_of_a_reader_will_do(self, store: CheckpointStore, name: str) -> None:
        lease = store.take(name, "stream", _SHARD, f"owner {name}", None)

        assert lease is not None
        assert store.leases(name, "stream") == {_SHARD: lease}

    def test_all_shards_of_a_large_stream_are_found(self, store: CheckpointStore) -> None:
        shard_ids = [f"shardId-{n:012}" for n in range(120)]
        for shard_id in shard_ids:
            self.taken(store, shard_id=shard_id)

        assert sorted(store.leases("reader", "stream")) == shard_ids

    def test_of_two_who_take_a_shard_at_once_one_has_it(self, store: CheckpointStore) -> None:
        seen: Lease | None = None
        for _ in range(5):
            takers = _at_once([_taker(self.other(store), owner, seen) for owner in ("a", "b", "c", "d")])

            winners = [lease for lease in takers if lease is not None]

            assert len(winners) == 1
            assert self.entry(store) == winners[0]
            seen = winners[0]

    def test_one_lease_is_renewed_and_its_checkpoint_saved_at_once(self, store: CheckpointStore) -> None:
        lease = self.taken(store)

        def renew() -> Lease:
            renewed = lease
            for _ in range(20):
                renewed = store.renew(renewed)
            return renewed

        def save(first: int) -> Callable[[], None]:
            def save_all() -> None:
                for number in range(first, 40, 2):
                    store.save(lease, number)

            return save_all

        _at_once([renew, save(0), save(1)])

        assert self.entry(store) == Lease("reader", "stream", _SHARD, "a", 1, lease.beat + 20, 39)

    def test_a_store_can_be_closed_twice(self, store: CheckpointStore) -> None:
        self.taken(store)


class CellContract(ABC):
    """Needs a fixture ``store``, a fresh and empty one for each test, and the method below."""

    @abstractmethod
    def unreachable(self, store: Any) -> AbstractContextManager[object]:
        """A context in which the cells can't be reached, and after which they can."""

    def test_what_was_never_written_is_not_there(self, store: CellStore) -> None:
        assert store.get("key") is None

    def test_what_was_written_is_read_as_it_was(self, store: CellStore) -> None:
        value = {"text": "é\n", "number": 2**53, "float": 1.5, "none": None, "list": [1, [2]], "map": {"": True}}

        assert store.put("key", value, "v1", seen=None)

        cell = store.get("key")
        assert cell is not None
        assert (cell.value, cell.version) == (value, "v1")

    def test_it_is_written_only_over_what_was_seen(self, store: CellStore) -> None:
        store.put("key", {"n": 1}, "v1", seen=None)
        first = store.get("key")

        assert not store.put("key", {"n": 2}, "v2", seen=None)
        assert store.put("key", {"n": 3}, "v3", seen=first)
        assert not store.put("key", {"n": 4}, "v4", seen=first)

        cell = store.get("key")
        assert cell is not None
        assert cell.value == {"n": 3}

    def test_what_was_seen_and_is_not_there_any_more_is_not_written(self, store: CellStore) -> None:
        store.put("other", {}, "v1", seen=None)

        assert not store.put("key", {}, "v2", seen=store.get("other"))
        assert store.get("key") is None

    def test_keys_are_apart(self, store: CellStore) -> None:
        for key in ("a", "A", "a/b", "é", '["chain","export","c"]'):
            assert store.put(key, {"key": key}, f"v-{key}", seen=None)
        for key in ("a", "A", "a/b", "é", '["chain","export","c"]'):
            cell = store.get(key)
            assert cell is not None
            assert cell.value == {"key": key}

    def test_of_many_who_write_at_once_one_does(self, store: CellStore) -> None:
        store.put("key", {}, "v", seen=None)
        seen = store.get("key")
        start = threading.Barrier(8)

        def write(n: int) -> bool:
            start.wait()
            return store.put("key", {"n": n}, f"v{n}", seen=seen)

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(write, range(8))) == 1

    def test_a_value_that_was_read_is_the_readers_own(self, store: CellStore) -> None:
        store.put("key", {"list": [1]}, "v1", seen=None)
        read = store.get("key")
        assert read is not None
        read.value["list"].append(2)

        again = store.get("key")

        assert again is not None
        assert again.value == {"list": [1]}

    def test_it_raises_where_the_store_can_not_be_reached(self, store: CellStore) -> None:
        with self.unreachable(store):
            with pytest.raises(Exception):  # noqa: B017, PT011  # Whatever the store raises.
                store.get("key")
            with pytest.raises(Exception):  # noqa: B017, PT011
                store.put("key", {}, "v", seen=None)
        assert store.get("key") is None


class MarkContract(ABC):
    """Needs a fixture ``store``, a fresh and empty one for each test, and the method below."""

    @abstractmethod
    def unreachable(self, store: Any) -> AbstractContextManager[object]:
        """A context in which the marks can't be reached, and after which they can."""

    def start(self, store: MarkStore, owner: str, *, now: float = 1000.0, key: str = "key") -> str:
        return store.start(key, owner, now=now, until=now + 60)

    def test_what_nobody_has_started_can_be_started(self, store: MarkStore) -> None:
        assert self.start(store, "a") == "started"

    def test_what_somebody_is_at_is_held_until_the_lease_is_over(self, store: MarkStore) -> None:
        self.start(store, "a")

        assert self.start(store, "b", now=1059.5) == "held"
        assert self.start(store, "b", now=1060.0) == "started"
        assert self.start(store, "a", now=1060.5) == "held"

    def test_a_start_can_be_repeated(self, store: MarkStore) -> None:
        assert self.start(store, "a") == "started"
        assert self.start(store, "a") == "started"

    def test_what_is_done_stays_done(self, store: MarkStore) -> None:
        self.start(store, "a")

        assert store.finish("key", "a", now=1001.0)
        assert store.finish("key", "a", now=1001.0), "a repeat, whose first answer was lost"
        for owner in ("a", "b"):
            assert self.start(store, owner, now=1000.0 + 86_400) == "done"

    def test_what_another_has_taken_can_not_be_finished(self, store: MarkStore) -> None:
        self.start(store, "a")
        self.start(store, "b", now=1060.0)

        assert not store.finish("key", "a", now=1061.0)
        assert self.start(store, "c", now=1062.0) == "held"
        assert store.finish("key", "b", now=1063.0)
        assert not store.finish("key", "a", now=1064.0)

    def test_what_was_never_started_can_not_be_finished(self, store: MarkStore) -> None:
        assert not store.finish("key", "a", now=1000.0)
        assert self.start(store, "b") == "started"

    def test_what_is_over_its_lease_and_nobody_has_taken_can_be_finished(self, store: MarkStore) -> None:
        self.start(store, "a")

        assert store.finish("key", "a", now=2000.0)
        assert self.start(store, "b", now=2001.0) == "done"

    def test_what_is_released_can_be_started_at_once(self, store: MarkStore) -> None:
        self.start(store, "a")
        store.release("key", "a")
        store.release("key", "a")

        assert self.start(store, "b", now=1001.0) == "started"

    def test_only_the_owner_releases_and_not_what_is_done(self, store: MarkStore) -> None:
        self.start(store, "a")
        store.release("key", "b")
        assert self.start(store, "b", now=1001.0) == "held"

        store.finish("key", "a", now=1002.0)
        store.release("key", "a")
        assert self.start(store, "b", now=1003.0) == "done"

    def test_keys_are_kept_apart(self, store: MarkStore) -> None:
        for key in ("a", "ä", "A", "a/b", "x" * 1000):
            assert self.start(store, "owner", key=key) == "started"
            assert self.start(store, "other", key=key) == "held"

    def test_of_those_who_start_at_once_one_has_it(self, store: MarkStore) -> None:
        for key in ("x", "y", "z"):
            found = _at_once([partial(self.start, store, str(n), key=key) for n in range(6)])

            assert sorted(found) == [*["held"] * 5, "started"]

    def test_what_can_not_be_reached_raises_and_can_be_used_again(self, store: MarkStore) -> None:
        self.start(store, "a")

        with self.unreachable(store):
            assert _raises(lambda: self.start(store, "b"))
            assert _raises(lambda: store.finish("key", "a", now=1000.0))
            assert _raises(lambda: store.release("key", "a"))

        assert self.start(store, "b") == "held"

    def test_it_can_be_closed_twice(self, store: MarkStore) -> None:
        self.start(store, "a")

        store.close()
        store.close()


class PlanContract(ABC):
    """Needs a fixture ``store``, a fresh and empty one for each test, and the methods below."""

    shard = "stream/shardId-000000000000"

    @abstractmethod
    def another_generation(self, store: Any) -> PlanStore:
        """A store with the same entries behind it and another generation."""

    @abstractmethod
    def unreachable(self, store: Any) -> AbstractContextManager[object]:
        """A context in which the entries can't be reached, and after which they can."""

    def save(self, store: PlanStore, version: int, data: bytes, *, shard: str = "") -> bool:
        return store.save("contract", "table", shard or self.shard, Entry(version, data), deadline=_soon())

    def read(self, store: PlanStore, *, shard: str = "") -> Entry | None:
        return store.read("contract", "table", shard or self.shard, deadline=_soon())

    def test_a_shard_has_no_entry_at_first(self, store: PlanStore) -> None:
        assert self.read(store) is None

    def test_an_entry_goes_from_version_to_version(self, store: PlanStore) -> None:
        for version, data in enumerate([b"\x00\xff first", b"second", b"third"], 1):
            assert self.save(store, version, data)
            assert self.read(store) == Entry(version, data)

    @pytest.mark.parametrize("version", [1, 2, 4, 9])
    def test_another_version_than_the_next_changes_nothing(self, store: PlanStore, version: int) -> None:
        assert self.save(store, 1, b"first")
        assert self.save(store, 2, b"second")

        assert not self.save(store, version, b"other")
        assert self.read(store) == Entry(2, b"second")

    def test_a_later_version_is_not_the_first(self, store: PlanStore) -> None:
        assert not self.save(store, 2, b"second")
        assert self.read(store) is None

    def test_a_repeat_stands_as_long_as_it_does(self, store: PlanStore) -> None:
        for version in (1, 2):
            assert self.save(store, version, b"mine")
            assert self.save(store, version, b"mine")
        assert not self.save(store, 1, b"mine")
        assert self.read(store) == Entry(2, b"mine")

    def test_of_those_who_save_a_version_at_once_one_has_it(self, store: PlanStore) -> None:
        for version in range(1, 4):
            saved = _at_once([partial(self.save, store, version, bytes([version, n])) for n in range(6)])

            assert saved.count(True) == 1
            assert self.read(store) == Entry(version, bytes([version, saved.index(True)]))

    def test_shards_targets_and_processors_are_kept_apart(self, store: PlanStore) -> None:
        places = [
            ("a", "t", "s/x"),
            ("a", "t", "s/y"),
            ("a", "u", "s/x"),
            ("b", "t", "s/x"),
            ("a", 't","s/x', ""),
            ("ä", "", ""),
        ]
        for n, place in enumerate(places):
            assert store.save(*place, Entry(1, str(n).encode()), deadline=_soon())

        found = [store.read(*place, deadline=_soon()) for place in places]

        assert found == [Entry(1, str(n).encode()) for n in range(len(places))]

    def test_another_generation_knows_nothing_of_it(self, store: PlanStore) -> None:
        assert self.save(store, 1, b"entry")
        other = self.another_generation(store)

        assert self.read(other) is None
        assert self.save(other, 1, b"other")
        assert self.read(store) == Entry(1, b"entry")

    def test_an_entry_of_the_largest_size_is_kept_whole(self, store: PlanStore) -> None:
        data = bytes(range(256)) * (store.most_bytes // 256)

        assert self.save(store, 1, data)
        assert self.read(store) == Entry(1, data)

    def test_what_can_not_be_reached_raises_and_can_be_used_again(self, store: PlanStore) -> None:
        assert self.save(store, 1, b"entry")

        with self.unreachable(store):
            assert _raises(lambda: self.read(store))
            assert _raises(lambda: self.save(store, 2, b"lost"))

        assert self.read(store) == Entry(1, b"entry")

    def test_it_can_be_closed_twice(self, store: PlanStore) -> None:
        assert self.save(store, 1, b"entry")

        store.close()
        store.close()


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


class LedgerContract(ABC):
    """Needs a fixture ``ledger``, a fresh and empty one for each test, and the method below."""

    @abstractmethod
    def unreachable(self, ledger: Any) -> AbstractContextManager[object]:
        """A context in which the ledger can't be reached, and after which it can."""

    def add(self, ledger: Ledger, group: str, *ids: str, added: float = 1000.0) -> float:
        return ledger.add("contract", group, ids, added, deadline=_soon())

    def count(self, ledger: Ledger, group: str, record_id: str, attempts: int, not_before: float | None = None) -> None:
        ledger.count("contract", group, record_id, attempts, not_before, deadline=_soon())

    def remove(self, ledger: Ledger, group: str, ids: dict[str, float], before: float = 0.0) -> None:
        ledger.remove("contract", group, ids, before, deadline=_soon())

    def key(self, ledger: Ledger, group: str) -> ParkedKey | None:
        """The key, which the look-up of one and the look-up of all have to tell the same of."""
        key = ledger.key("contract", group, deadline=_soon())
        assert ledger.parked("contract", deadline=_soon()).get(group) == key
        return key

    def ids(self, ledger: Ledger, group: str) -> set[str]:
        key = self.key(ledger, group)
        return set() if key is None else set(key.pending)

    def test_no_key_is_parked_at_first(self, ledger: Ledger) -> None:
        assert self.key(ledger, "g") is None
        assert ledger.parked("contract", deadline=_soon()) == {}

    def test_what_is_added_is_pending(self, ledger: Ledger) -> None:
        self.add(ledger, "g", "-a_", "B", added=1700000000.125)

        pending = {"-a_": Pending(1700000000.125), "B": Pending(1700000000.125)}
        assert self.key(ledger, "g") == ParkedKey(pending, since=1700000000.125)

    def test_a_repeated_add_renews_the_time_and_keeps_the_rest(self, ledger: Ledger) -> None:
        self.add(ledger, "g", "a", "b", added=1000.0)
        self.count(ledger, "g", "a", 2, 1500.25)

        self.add(ledger, "g", "a", "c", added=2000.0)

        pending = {"a": Pending(2000.0, 2, 1500.25), "b": Pending(1000.0), "c": Pending(2000.0)}
        assert self.key(ledger, "g") == ParkedKey(pending, since=1000.0)

    def test_an_add_that_was_overtaken_sets_no_time_back(self, ledger: Ledger) -> None:
        # Or the message that the later one sent would look as if it could not be there any more.
        times = [
            self.add(ledger, "g", *ids, added=added) for ids, added in (("ab", 2000.0), ("ac", 1000.0), ("d", 2000.001))
        ]

        assert times == [2000.0, 2000.001, 2000.002]
        pending = {"a": Pending(2000.001), "b": Pending(2000.0), "c": Pending(2000.001), "d": Pending(2000.002)}
        assert self.key(ledger, "g") == ParkedKey(pending, since=2000.0)

    def test_two_keys_are_added_to_at_one_time(self, ledger: Ledger) -> None:
        assert [self.add(ledger, group, "a") for group in "gh"] == [1000.0, 1000.0]

    def test_the_most_ids_that_a_key_may_have_are_added_at_once(self, ledger: Ledger) -> None:
        ids = [f"{n:022}" for n in range(ledger.most_pending)]

        self.add(ledger, "g", *ids)

        assert self.ids(ledger, "g") == set(ids)
        self.add(ledger, "g", "last", added=2000.0)
        self.remove(ledger, "g", {}, before=2000.0)
        assert self.ids(ledger, "g") == {"last"}

    def test_tries_and_the_time_to_wait_for_are_noted_and_replaced(self, ledger: Ledger) -> None:
        self.add(ledger, "g", "a")

        self.count(ledger, "g", "a", 1, 1500.5)
        key = self.key(ledger, "g")
        self.count(ledger, "g", "a", 2)

        assert key is not None
        assert key.pending == {"a": Pending(1000.0, 1, 1500.5)}
        assert self.key(ledger, "g") == ParkedKey({"a": Pending(1000.0, 2)}, since=1000.0)

    def test_nothing_is_noted_of_what_is_not_pending(self, ledger: Ledger) -> None:
        self.count(ledger, "g", "a", 1)
        assert self.key(ledger, "g") is None

        self.add(ledger, "g", "b")
        self.count(ledger, "g", "a", 1, 1500.0)
        self.add(ledger, "g", "a", added=1001.0)

        key = self.key(ledger, "g")
        assert key is not None
        assert key.pending == {"a": Pending(1001.0), "b": Pending(1000.0)}

    def test_what_is_removed_is_gone_and_the_key_with_the_last(self, ledger: Ledger) -> None:
        self.add(ledger, "g", "a", "b")
        self.count(ledger, "g", "a", 2, 1500.0)

        self.remove(ledger, "g", {"a": 1000.0})
        left = self.ids(ledger, "g")
        self.remove(ledger, "g", {"b": 1000.0})

        assert left == {"b"}
        assert self.key(ledger, "g") is None
        self.add(ledger, "g", "a", added=3000.0)
        assert self.key(ledger, "g") == ParkedKey({"a": Pending(3000.0)}, since=3000.0)

    def test_what_was_renewed_is_not_removed_by_the_time_before(self, ledger: Ledger) -> None:
        self.add(ledger, "g", "a", added=1000.0)
        self.add(ledger, "g", "a", added=1000.001)

        self.remove(ledger, "g", {"a": 1000.0}, before=1000.001)
        assert self.ids(ledger, "g") == {"a"}

        self.remove(ledger, "g", {"a": 1000.001})
        assert self.ids(ledger, "g") == set()

    def test_what_was_last_added_before_a_time_goes_too(self, ledger: Ledger) -> None:
        self.add(ledger, "g", "stale", "renewed", added=1000.0)
        self.add(ledger, "g", "renewed", "new", added=1100.0)

        self.remove(ledger, "g", {}, before=1100.0)

        assert self.ids(ledger, "g") == {"renewed", "new"}
        self.remove(ledger, "g", {"new": 1100.0}, before=1100.1)
        assert self.key(ledger, "g") is None

    def test_a_repeat_of_each_write_is_harmless(self, ledger: Ledger) -> None:
        # As where its answer was lost.
        for _ in range(2):
            added = self.add(ledger, "g", "a", "b")
        for _ in range(2):
            self.count(ledger, "g", "a", 1)
        for _ in range(2):
            self.remove(ledger, "g", {"b": added}, before=1000.0)
        self.remove(ledger, "other", {"b": added}, before=1000.0)

        assert self.key(ledger, "g") == ParkedKey({"a": Pending(added, 1)}, since=1000.0)

    def test_processors_and_groups_are_kept_apart(self, ledger: Ledger) -> None:
        for processor, group in (("x", "g"), ("x", "h"), ("y", "g")):
            ledger.add(processor, group, [processor + group], 1000.0, deadline=_soon())

        ledger.remove("x", "g", {"xg": 1000.0}, 2000.0, deadline=_soon())

        found = {name: set(ledger.parked(name, deadline=_soon())) for name in ("x", "y", "z")}
        assert found == {"x": {"h"}, "y": {"g"}, "z": set()}

    def test_a_look_up_finds_all_keys_however_many(self, ledger: Ledger) -> None:
        for n in range(30):
            self.add(ledger, f"{n:032}", "a", "b")

        found = ledger.parked("contract", deadline=_soon())

        assert set(found) == {f"{n:032}" for n in range(30)}
        assert {frozenset(key.pending) for key in found.values()} == {frozenset("ab")}

    def test_of_additions_and_removals_at_once_none_is_lost(self, ledger: Ledger) -> None:
        self.add(ledger, "g", *(f"old-{n}" for n in range(4)))

        _at_once(
            [
                *(lambda n=n: self.add(ledger, "g", f"new-{n}", "shared", added=2000.0) for n in range(3)),
                *(lambda n=n: self.remove(ledger, "g", {f"old-{n}": 1000.0}) for n in range(4)),
            ]
        )

        assert self.ids(ledger, "g") == {"new-0", "new-1", "new-2", "shared"}

    def test_what_can_not_be_reached_raises_and_can_be_used_again(self, ledger: Ledger) -> None:
        self.add(ledger, "g", "a")

        with self.unreachable(ledger):
            assert _raises(lambda: ledger.parked("contract", deadline=_soon()))
            assert _raises(lambda: ledger.key("contract", "g", deadline=_soon()))
            assert _raises(lambda: self.add(ledger, "g", "b"))
            assert _raises(lambda: self.count(ledger, "g", "a", 1))
            assert _raises(lambda: self.remove(ledger, "g", {"a": 1000.0}))

        assert self.key(ledger, "g") == ParkedKey({"a": Pending(1000.0)}, since=1000.0)

    def test_it_can_be_closed_twice(self, ledger: Ledger) -> None:
        self.add(ledger, "g", "a")

        ledger.close()
        ledger.close()


def _taker(store: CheckpointStore, owner: str, seen: Lease | None) -> Callable[[], Lease | None]:
    return lambda: store.take("reader", "stream", _SHARD, owner, seen)


def _at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each returns, all called at the same moment, each in a thread of its own."""
    with ThreadPoolExecutor(len(calls)) as threads:
        barrier = threading.Barrier(len(calls))

        def run(call: Callable[[], Any]) -> Any:
            barrier.wait(60)
            return call()

        return list(threads.map(run, calls))


def _raises(call: Callable[[], object]) -> bool:
    """Whether it raises an exception: the seam allows any."""
    try:
        call()
    except Exception:  # noqa: BLE001  # Which one is the store's own affair.
        return True
    return False

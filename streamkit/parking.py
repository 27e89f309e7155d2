"""``Park``: a failed record and all that follows it of its key go aside in order, and the stream flows on.

    the stream's function                    ledger                      FIFO queue              the queue's function
                                         key → {id: added}                one group a key
    1 which keys are parked? ─────────▶  all, consistent
      their records: Held, not run;
      the others run
    2 what failed or is Held, by key:
      add all its ids ────────────────▶  {A: 12:00, B: 12:00}
    3 then send, one after another ───────────────────────────────────▶  A  B  ───────────────▶  a is A pending?
      confirmed: Settled                 {A, B}  ◀─────────────────────────────────────────────    no: a repeat, dropped
      refused: it and all after it                                                                 yes: run it
      stay in the stream                                                                           failed: count it; B and
                                                                                                   what follows wait
    4 answer                             {B: 12:00}  ◀────── done, or given to the dead letters: b remove A
                                         none: the key's next batch runs directly                c answer: A is deleted

Order is that of first settlement: no record of a key starts before each earlier one has been through ``process``, or is in the
dead letters. And nothing is lost: a record leaves the stream when the queue has confirmed it, and the queue when it is done.

**The rules, and what breaks without each.** "Late" is a send more than 60 s after the add it belongs to, by the sender's clock.

- *Add before send.* A message whose id is not pending counts as done: sent first, it could arrive before its id.
- *All of a key's ids before its first message.* Else the queue could drain the key between two of them, and a second invocation
  of the same batch (the first one's time was up, and it goes on) would run the later record before the earlier one is sent.
- *A repeat renews the time, and no add sets it back.* Whoever holds the batch is responsible for it, whatever others have done
  before. One that was under way for long gets a later time than it began with, and every add to a key one of its own: else it
  would make the ids look older than their latest messages, and those would be cleared away (below) while they are on their way.
- *One message of a group after another, and none after a refusal*, or a later one overtakes an earlier one.
- *A new deduplication id for each send* (``SqsQueue``): with the same one the queue swallows, for five minutes, a message whose
  first copy is gone already, and the key stays parked.
- *A late confirmation counts as refused.* Ids are cleared away by age (below), so the record could be taken for done.
- *Remove after the work*, never before: a crash between the two repeats a record, the other way round it loses one.
- *Remove an id only by the time that its message carries* (``parked_at``). Where a batch came again, the ids were renewed, and
  another message of the same record is on its way: A B is followed by A B. If the first B took the id away, the second would be
  dropped, and the key's last write would be A's.
- *Clear away stale ids.* A crash between add and send leaves an id without a message. Whoever settles a message removes every id
  that was last added more than 60 s and a margin for the clocks before that message was sent: its own message, if it was ever
  confirmed, stood ahead in the group and is gone. So a stale id goes with the key's next record; till then it only costs the
  detour. Where no next record comes, ``streamkit parked --repair`` sends a *sweep*: no record, and it does just that.
- *Not too many ids* (``most_pending``): the key's next record waits in the stream, and its shard with it. But where nothing was
  added for as long as it takes to be stale, one more goes: all of them may be stale, and then only its message clears them away.
- *A late message that is not pending runs.* No message of the protocol is late, so somebody put it back from a dead-letter queue
  (or clocks differ by more than the margin, which costs the order at most): it is run, for nobody has said that it is done.
  So does a letter of ``streamkit redrive``, which has no ``parked_at``.
- *What was put back is parked when it fails*: its id is added then, so that its tries are counted, the key's later records follow
  it, and it ends in the dead letters again and not never. That id has in it how often the letter was put back. Under the
  event's own id, which a batch that comes again renews, the end of the one message would count for the other.
- *A ledger that can't be reached* makes all records unavailable: without it nothing can start, and nothing is lost. If it fails
  after the work, the messages are returned, to be run or dropped when it is back.

**What remains.** A process that was given up and goes on (a zombie) may run a record again while others follow: that is a repeat
out of its place, as under every policy. Its sends are late or repeats, and are run in order or dropped. So is a request that hung
on its way to SQS for two minutes and more.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from itertools import islice

import msgspec

from .deadline import Deadline
from .envelope import Early, Envelope
from .errors import ConfigurationError, QueueError, Retry
from .event import Batch, QueuedRecord
from .failure import group_of, is_poison, refusals_of
from .ledgers.base import Ledger, ParkedKey
from .outcome import Failed, Held, Settled, Unavailable, is_settled
from .policy import Policy
from .processor import RecordProcessor
from .queues.base import Message, Queue
from .reason import reason
from .record import Record

__all__ = ["RetryParking", "StreamParking", "id_of", "is_stale", "parking_of", "sweep", "swept"]

log = logging.getLogger("streamkit")

# Seconds after an add in which its messages are sent, and for what the clocks of functions and SQS differ.
_SENT_WITHIN = 60.0
_CLOCK_MARGIN = 60.0
# Keys whose ids are added, and whose messages then share requests. Fewer cost more requests, more take longer from add to send.
_KEYS_AT_ONCE = 10
# Seconds that a request to the ledger may be reckoned to take: the first one of a process has the making of a client in it.
_LONGEST_ROUND_TRIP = 0.05
_SWEEP = "streamkit_sweep"


def parking_of(processor: RecordProcessor, batch: Batch, deadline: Deadline) -> StreamParking | RetryParking | None:
    """What ``Park`` does with a batch; None where the policy is another, or no answer to the batch can name a record."""
    policy = processor.on_failure
    queue, ledger = policy.queue, policy.ledger
    if queue is None or ledger is None or not batch.records or batch.is_asynchronous:
        return None
    if not queue.fifo:
        raise ConfigurationError(
            f"{queue.owner or 'the queue of Park'} is no FIFO queue (or the variable that should name it is not set): "
            "Park keeps the order of a key, and only a FIFO queue does"
        )
    if batch.source == "kinesis":
        return StreamParking(policy, queue, ledger, processor.name, batch, deadline)
    return RetryParking(policy, ledger, processor.name, batch, deadline)


def id_of(event_id: str) -> str:
    """What a record stands under in the ledger: 16 bytes of a digest, as 22 characters."""
    import base64
    import hashlib

    digest = hashlib.sha256(event_id.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")


def _id_put_back(envelope: Envelope) -> str:
    """What a message stands under that was put back, and has failed since."""
    return id_of(f"{envelope.redrives} {envelope.event_id}")


def is_stale(added: float, sent_at: float) -> bool:
    """Whether an id last added at ``added`` has no message behind one of its group that was sent at ``sent_at``."""
    return added < sent_at - _SENT_WITHIN - _CLOCK_MARGIN


def sweep(processor: str, group: str) -> Message:
    """A message that clears away the stale ids of a key when all that stood before it in its group is gone."""
    body = msgspec.json.encode({_SWEEP: 1, "processor": processor}).decode()
    return Message(body, event_id=_SWEEP, group=group)


class _Room:
    """The ids of a key, and how many it may have."""

    def __init__(self, ids: set[str], most: int) -> None:
        self._ids = ids
        self._most = most

    def takes(self, record: Record) -> bool:
        """Add the record's id, unless there is no room for it."""
        record_id = id_of(record.event_id)
        if record_id not in self._ids and len(self._ids) >= self._most:
            return False
        self._ids.add(record_id)
        return True


class StreamParking:
    """A batch of the stream: which of its keys are parked, and what of it is to be."""

    def __init__(
        self, policy: Policy, queue: Queue, ledger: Ledger, processor: str, batch: Batch, deadline: Deadline
    ) -> None:
        self._has_dead_letters = policy.dead_letters is not None
        self._queue = queue
        self._ledger = ledger
        self._processor = processor
        self._batch = batch
        self._deadline = deadline
        self._parked: dict[str, ParkedKey] = {}
        self._groups: dict[str, str] = {}
        self._has_sent = False

    def look_up(self) -> None:
        """Hold the records of the keys that are parked, so that they are not run."""
        ledger, batch, deadline = self._ledger, self._batch, self._deadline
        before = deadline.remaining()
        try:
            self._parked = dict(
                deadline.request(ledger, lambda deadline: ledger.parked(self._processor, deadline=deadline))
            )
        except Exception as error:  # noqa: BLE001  # Whatever the ledger raises: what it knows is needed.
            _make_unavailable(batch, error)
            return
        batch.parked_keys = len(self._parked)
        if not self._parked:
            return
        batch.parked_since = min(key.since for key in self._parked.values())
        round_trip = _round_trip(before, deadline.remaining())
        pending = {group: self._room(group) for group in self._parked}
        for index, (record, outcome) in enumerate(zip(batch.records, batch.outcomes, strict=True)):
            if isinstance(outcome, Settled) or (room := pending.get(group := self._group(record))) is None:
                continue
            if not room.takes(record):
                # It is not at fault, and as long as it waits, what would run after it would run again.
                batch.outcomes[index] = Unavailable(QueueError(self._is_full(group)))
                break
            batch.outcomes[index] = Held("the records of its key that are parked")
            # To send it, and about as long to add it.
            deadline.keep_back(round_trip)

    def settle(self) -> None:
        """Send what failed and what is held to the queue, as far as nothing before it will be delivered again."""
        if self._batch.is_done():
            return
        groups = self._groups_to_park()
        waiting = iter(groups.items())
        while window := dict(islice(waiting, _KEYS_AT_ONCE)):
            if not self._has_time() or not self._park(window):
                return

    def _groups_to_park(self) -> dict[str, list[int]]:
        """The records to park, by group, in order."""
        batch = self._batch
        groups: dict[str, list[int]] = {}
        pending: dict[str, _Room] = {}
        for index, outcome in enumerate(batch.outcomes):
            if is_settled(outcome):
                continue
            if not self._is_to_park(outcome):
                # It, and all that follows, will be delivered again, and would be sent again.
                break
            record = batch.records[index]
            group = self._group(record)
            if group not in pending:
                pending[group] = self._room(group)
            if not pending[group].takes(record):
                log.error("%s: %s", self._processor, self._is_full(group))
                break
            groups.setdefault(group, []).append(index)
        return groups

    def _is_to_park(self, outcome: object) -> bool:
        if isinstance(outcome, Failed):
            # What the dead letters refused has no business in the queue.
            return not (self._has_dead_letters and is_poison(outcome.error))
        return isinstance(outcome, Held)

    def _room(self, group: str) -> _Room:
        key, most = self._parked.get(group), self._ledger.most_pending
        if key is None:
            return _Room(set(), most)
        newest = max(one.added for one in key.pending.values())
        # All of them may be stale. Then only the message of one more can clear them away.
        is_still = is_stale(newest, self._ledger.clock())
        return _Room(set(key.pending), max(most, len(key.pending) + 1) if is_still else most)

    def _is_full(self, group: str) -> str:
        return (
            f"{self._ledger.most_pending} records of one key are parked, in the group {group}: more of it wait in the stream, "
            "and their shard with them"
        )

    def _park(self, groups: dict[str, list[int]]) -> bool:
        """Add the ids of a few keys, then send their records. Whether all were confirmed."""
        now, started = round(self._ledger.clock(), 3), time.monotonic()
        to_send: dict[int, float] = {}
        is_added = True
        for group, indexes in groups.items():
            added = self._add(group, indexes, now)
            if added is None:
                is_added = False
                break
            to_send |= dict.fromkeys(indexes, added)
        while to_send:
            request = {index: to_send.pop(index) for index in self._first_request(sorted(to_send))}
            if not self._has_time() or not self._send(request, now, started):
                return False
        return is_added

    def _has_time(self) -> bool:
        """Whether there is time for a request to the queue; the first is sent in any case, so that each delivery gets on."""
        if not self._has_sent or self._deadline.allows_request(self._queue):
            return True
        log.warning("%s: the time is up before all was parked: the rest waits in the stream", self._processor)
        return False

    def _add(self, group: str, indexes: list[int], now: float) -> float | None:
        """Add the ids of a key's records: the time that they stand under; None where that is not known."""
        ledger, records = self._ledger, self._batch.records
        ids = [id_of(records[index].event_id) for index in indexes]
        try:
            added = self._deadline.request(
                ledger, lambda deadline: ledger.add(self._processor, group, ids, now, deadline=deadline)
            )
        except Exception as error:  # noqa: BLE001  # Perhaps they were added. Not sent, they only cost the detour.
            log.error(
                "%s: %d records could not be parked, and stay where they are: %s",
                self._processor,
                len(indexes),
                reason(error),
            )
            return None
        if group not in self._parked:
            log.warning(
                "%s: the key of record %s is parked, as the group %s",
                self._processor,
                records[indexes[0]].event_id,
                group,
            )
        return added

    def _first_request(self, indexes: list[int]) -> list[int]:
        """Of each key the first: of two, the queue could refuse the first and take the second."""
        first: dict[str, int] = {}
        for index in indexes:
            first.setdefault(self._group(self._batch.records[index]), index)
        return list(first.values())[: self._queue.request_messages]

    def _send(self, request: dict[int, float], began: float, started: float) -> bool:
        """One request, of records and the times that their ids stand under. Whether all of it was confirmed, and in time."""
        queue = self._queue
        self._has_sent = True
        messages = [self._message(index, added) for index, added in request.items()]
        refusals: dict[int, Exception]
        try:
            if self._is_late(began, started):
                raise QueueError(f"over {_SENT_WITHIN:g} s have passed since its id was added to the ledger")
            latest = started + _SENT_WITHIN
            refusals = self._deadline.request(
                queue, lambda deadline: refusals_of(queue, messages, min(deadline, latest))
            )
            if self._is_late(began, started):
                raise QueueError(f"the answer came over {_SENT_WITHIN:g} s after its id was added to the ledger")
        except Exception as error:  # noqa: BLE001  # No answer is no confirmation, whatever the reason.
            refusals = {id(message): error for message in messages}
        for index, message in zip(request, messages, strict=True):
            if id(message) not in refusals:
                self._batch.outcomes[index] = Settled("the retry queue")
        if refusals:
            log.error(
                "%s: the retry queue did not take %d of %d records, which stay where they are: %s",
                self._processor,
                len(refusals),
                len(messages),
                reason(next(iter(refusals.values()))),
            )
        return not refusals

    def _is_late(self, began: float, started: float) -> bool:
        return max(self._ledger.clock() - began, time.monotonic() - started) > _SENT_WITHIN

    def _message(self, index: int, added: float) -> Message:
        record, outcome = self._batch.records[index], self._batch.outcomes[index]
        envelope = Envelope.of(record, self._processor)
        if isinstance(outcome, Failed):
            envelope = envelope.failed(record, outcome.error, counts=False)
            if isinstance(outcome.error, Retry):
                envelope, _ = envelope.delayed(outcome.error.delay, 0.0)
        envelope = msgspec.structs.replace(envelope, parked_at=added)
        return Message(envelope.encode(), record.event_id, self._group(record))

    def _group(self, record: Record) -> str:
        key = record.partition_key
        if key is None:
            return group_of(self._processor, record.partition_key, record.event_id)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = group_of(self._processor, record.partition_key, record.event_id)
        return group


class _Key(msgspec.Struct):
    """One group of a batch of the queue."""

    processor: str
    group: str
    parked: ParkedKey
    indexes: list[int]

    def id_of(self, envelope: Envelope) -> str | None:
        """What the message stands under; None where it is not parked."""
        own, put_back = id_of(envelope.event_id), _id_put_back(envelope)
        if envelope.parked_at is not None and own in self.parked.pending:
            return own
        return put_back if put_back in self.parked.pending else None


class RetryParking:
    """A batch of the queue: which of its messages are repeats, and what is parked no more when it has run."""

    def __init__(self, policy: Policy, ledger: Ledger, processor: str, batch: Batch, deadline: Deadline) -> None:
        self._policy = policy
        self._ledger = ledger
        self._processor = processor
        self._batch = batch
        self._deadline = deadline
        self._keys: dict[tuple[str, str], _Key] = {}
        self._sweeps: set[int] = set()

    def look_up(self) -> None:
        """Drop the repeats, and give the others the tries that they have had."""
        batch = self._batch
        try:
            for index, record in enumerate(batch.records):
                if isinstance(record, QueuedRecord) and record.group is not None:
                    self._look_up(index, record, record.group)
        except Exception as error:  # noqa: BLE001  # Whatever the ledger raises: what it knows is needed.
            self._keys.clear()
            self._sweeps.clear()
            _make_unavailable(batch, error)

    def _look_up(self, index: int, record: QueuedRecord, group: str) -> None:
        outcomes, envelope = self._batch.outcomes, record.envelope
        owner = swept(record)
        if owner is not None:
            outcomes[index] = Settled("no record")
            # Of another processor it has come to the wrong queue: what it would clear away may have messages in its own.
            if owner == self._processor:
                self._sweeps.add(index)
                self._key(owner, group).indexes.append(index)
            return
        if envelope is None:
            return
        key = self._key(envelope.processor, group)
        key.indexes.append(index)
        record_id = key.id_of(envelope)
        if record_id is None:
            if not _was_put_back(envelope, record.sent_at):
                outcomes[index] = Settled("an earlier delivery")
            return
        pending = key.parked.pending[record_id]
        record._envelope = msgspec.structs.replace(envelope, attempts=pending.attempts)
        early_by = 0.0 if pending.not_before is None else pending.not_before - self._ledger.clock()
        if early_by > 0 and not isinstance(outcomes[index], Failed | Unavailable):
            outcomes[index] = Failed(Early(early_by))

    def _key(self, processor: str, group: str) -> _Key:
        key = self._keys.get((processor, group))
        if key is None:
            ledger, deadline = self._ledger, self._deadline
            before = deadline.remaining()
            parked = deadline.request(ledger, lambda deadline: ledger.key(processor, group, deadline=deadline))
            # A removal is a read and a write.
            deadline.keep_back(2 * _round_trip(before, deadline.remaining()))
            key = self._keys[processor, group] = _Key(processor, group, parked or ParkedKey({}, 0.0), [])
        return key

    def settle(self) -> None:
        """Count the try that failed; take what is settled, and what is stale, out of the ledger. Then look what is left there."""
        for key in self._keys.values():
            self._settle(key)
        if self._keys and self._deadline.allows_request(self._ledger):
            self._measure()

    def _measure(self) -> None:
        """Tell the metrics what is parked: a stream that is quiet has no batch to tell it. As a stream's batch, by one query."""
        ledger, batch = self._ledger, self._batch
        try:
            parked = self._deadline.request(ledger, lambda deadline: ledger.parked(self._processor, deadline=deadline))
        except Exception as error:  # noqa: BLE001  # Everything is settled, and the next batch tells it.
            log.warning("%s: what is parked could not be counted: %s", self._processor, reason(error))
            return
        batch.parked_keys = len(parked)
        batch.parked_since = min((key.since for key in parked.values()), default=None)

    def _settle(self, key: _Key) -> None:
        records, outcomes = self._batch.records, self._batch.outcomes
        ids: dict[str, float] = {}
        settled: list[int] = []
        before = 0.0
        blocked_at = self._first_unsettled(key.group)
        for index in key.indexes:
            record, outcome = records[index], outcomes[index]
            assert isinstance(record, QueuedRecord)
            if index == blocked_at and isinstance(outcome, Failed):
                self._count(key, record, outcome.error)
            if index >= blocked_at:
                if index in self._sweeps:
                    # Something stands before it that is not gone.
                    outcomes[index] = Held(records[blocked_at].event_id)
                continue
            settled.append(index)
            if record.sent_at is not None:
                before = max(before, record.sent_at - _SENT_WITHIN - _CLOCK_MARGIN)
            envelope = record.envelope
            if envelope is not None:
                if envelope.parked_at is not None:
                    ids[id_of(envelope.event_id)] = envelope.parked_at
                put_back = key.parked.pending.get(_id_put_back(envelope))
                if put_back is not None:
                    ids[_id_put_back(envelope)] = put_back.added
        pending = key.parked.pending
        if any(one.added == ids.get(record_id) or one.added < before for record_id, one in pending.items()):
            self._remove(key, ids, before, settled)

    def _first_unsettled(self, group: str) -> int:
        """The index of the first message of a group that stays in the queue; the number of all where none does."""
        records, outcomes = self._batch.records, self._batch.outcomes
        for index, (record, outcome) in enumerate(zip(records, outcomes, strict=True)):
            if isinstance(record, QueuedRecord) and record.group == group and not is_settled(outcome):
                return index
        return len(outcomes)

    def _remove(self, key: _Key, ids: dict[str, float], before: float, settled: Iterable[int]) -> None:
        ledger = self._ledger
        try:
            self._deadline.request(
                ledger,
                lambda deadline: ledger.remove(key.processor, key.group, ids, before, deadline=deadline),
            )
        except Exception as error:  # noqa: BLE001  # Perhaps it was done: then they come again as repeats, and are dropped.
            log.error(
                "%s: what is done of the group %s could not be taken out of the ledger, and comes again: %s",
                self._processor,
                key.group,
                reason(error),
            )
            for index in settled:
                self._batch.outcomes[index] = Unavailable(error)

    def _count(self, key: _Key, record: QueuedRecord, error: Exception) -> None:
        """Note a failed try, but not the last one before dead letters that have refused it: they will be asked again."""
        envelope = record.envelope
        if isinstance(error, Early) or envelope is None:
            return
        attempts = envelope.attempts + 1
        if self._policy.dead_letters is not None and (is_poison(error) or attempts >= self._policy.attempts):
            return
        ledger = self._ledger
        not_before = ledger.clock() + error.delay if isinstance(error, Retry) and error.delay else None
        record_id = key.id_of(envelope)
        try:
            if record_id is None:
                record_id = self._park(key, envelope)
            self._deadline.request(
                ledger,
                lambda deadline: ledger.count(
                    key.processor, key.group, record_id, attempts, not_before, deadline=deadline
                ),
            )
        except Exception as failure:  # noqa: BLE001  # Not counted, it has one try more.
            log.error(
                "%s: a failed try of %s could not be counted: %s", self._processor, record.event_id, reason(failure)
            )

    def _park(self, key: _Key, envelope: Envelope) -> str:
        """Park a message that was put back."""
        ledger, record_id = self._ledger, _id_put_back(envelope)
        self._deadline.request(
            ledger,
            lambda deadline: ledger.add(key.processor, key.group, [record_id], ledger.clock(), deadline=deadline),
        )
        return record_id


def _was_put_back(envelope: Envelope, sent_at: float | None) -> bool:
    """Whether the message is none of the protocol's; so is what SQS does not tell the time of, as nobody said that it is done."""
    return envelope.parked_at is None or sent_at is None or is_stale(envelope.parked_at, sent_at)


def swept(record: QueuedRecord) -> str | None:
    """The processor that a sweep is of; None for a message that is none."""
    if record.envelope is not None or _SWEEP not in record.body[:100]:
        return None
    try:
        fields = msgspec.json.decode(record.body)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    processor = fields.get("processor") if isinstance(fields, dict) and fields.get(_SWEEP) == 1 else None
    return processor if isinstance(processor, str) else None


def _round_trip(before: float, after: float) -> float:
    """Seconds between two times that remain; 0 where there is no end, so that both are infinite."""
    return min(before - after, _LONGEST_ROUND_TRIP) if before > after else 0.0


def _make_unavailable(batch: Batch, error: Exception) -> None:
    for index, outcome in enumerate(batch.outcomes):
        if not isinstance(outcome, Settled):
            batch.outcomes[index] = Unavailable(error)

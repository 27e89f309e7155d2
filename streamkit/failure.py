"""Where a failed record goes: aside to a retry queue or to dead letters, or nowhere, so that it stays where it is."""

from __future__ import annotations

import logging
from binascii import crc32
from collections.abc import Iterable

import msgspec

from .deadline import Deadline
from .envelope import Early, Envelope
from .errors import DecodeError, QueueError, Reject, Retry
from .event import Batch, QueuedRecord
from .outcome import Done, Failed, Held, Settled, is_settled
from .policy import Policy
from .processor import RecordProcessor
from .queues.base import Message, MessageRefusal, Queue
from .reason import reason
from .record import Record

__all__ = [
    "Settlement",
    "group_of",
    "group_of_key",
    "held_within",
    "hold_followers",
    "holds_only_what_is_ordered",
    "is_poison",
    "refusals_of",
]

log = logging.getLogger("streamkit")


def is_poison(error: Exception) -> bool:
    """Whether a record that failed so can never succeed."""
    return isinstance(error, Reject | DecodeError)


def held_within(processor: RecordProcessor) -> str:
    """What a failure in a stream holds, as an ordering: all that follows, for it will be delivered again anyway.

    Under ``Park``, and ``Block`` with a progress store, it is the failed record's key (``"key"``) or nothing (``"none"``): what
    runs behind the failure is not thrown away.
    """
    return processor.ordering if holds_only_what_is_ordered(processor) else "shard"


def holds_only_what_is_ordered(processor: RecordProcessor) -> bool:
    """Whether a failure in a stream leaves what does not follow it in order to run."""
    policy = processor.on_failure
    return policy.ledger is not None or (processor.progress is not None and policy.queue is None)


class _Route(msgspec.Struct, frozen=True):
    queue: Queue
    where: str
    delay: float = 0.0
    # Whether this failure was a try on the retry path.
    counts: bool = False


def _route(policy: Policy, record: Record, error: Exception) -> _Route | None:
    """Where the policy sends a failed record; None where it stays."""
    queue, dead_letters = policy.queue, policy.dead_letters
    from_queue = isinstance(record, QueuedRecord) and record.source == "sqs"
    if is_poison(error) and dead_letters is not None:
        return _Route(dead_letters, "dead letters", counts=from_queue)
    if queue is None or record.source == "sns":
        return None
    attempts = record.envelope.attempts if isinstance(record, QueuedRecord) and record.envelope else 0
    delay = error.delay if isinstance(error, Retry) else _backoff(policy, queue, record.event_id, attempts)
    if not isinstance(record, QueuedRecord):
        # Under Park it goes with what it holds, when the batch has run.
        return None if policy.ledger is not None else _Route(queue, "the retry queue", delay)
    if record.group is not None or queue.fifo:
        # Sent again it would stand behind the later records of its group. Only Park's ledger has a place for its count.
        is_given_up = policy.ledger is not None and attempts + 1 >= policy.attempts and not isinstance(error, Early)
        return _Route(dead_letters, "dead letters", counts=True) if is_given_up and dead_letters is not None else None
    if isinstance(error, Early):
        # A topic would deliver it again at once, and again; the queue that brought it has at least its visibility time-out.
        return _Route(queue, "the retry queue", delay) if queue.max_delay > 0 else None
    if dead_letters is not None:
        if attempts + 1 >= policy.attempts:
            return _Route(dead_letters, "dead letters", counts=True)
        return _Route(queue, "the retry queue", delay, counts=True)
    # Without dead letters it is the queue's own redrive policy that gives up, and a message sent anew would never get there.
    return _Route(queue, "the retry queue", delay, counts=True) if isinstance(error, Retry) and delay else None


def _backoff(policy: Policy, queue: Queue, event_id: str, attempts: int) -> float:
    """Seconds to the next try: exponential, with full jitter. None where the queue has no delay for a message of its own.

    The jitter comes from the event's id: events that failed together are spread all the same, and what happened once happens
    so again in a test, in a simulation and in a redelivery.
    """
    if queue.fifo or queue.max_delay <= 0:
        return 0.0
    longest = min(policy.max_backoff, policy.backoff * 2.0 ** min(max(attempts, 0), 60))
    return longest * crc32(f"{event_id} {attempts}".encode("utf-8", "surrogatepass")) / 2**32


class Settlement:
    """The failed records of one invocation that a queue is to take responsibility for.

    The first is sent at once and alone, so that a queue that refuses is known before more is started or sent; then a
    request at a time. A record is settled when its queue has confirmed it, and not before. In a stream nothing is sent that
    stands behind an unsettled record and is ``held_within`` the same as it.
    """

    def __init__(
        self, policy: Policy, processor: str, batch: Batch, deadline: Deadline, held_within: str = "shard"
    ) -> None:
        self._policy = policy
        self._processor = processor
        self._batch = batch
        self._deadline = deadline
        self._held_within = held_within
        self._pending: dict[int, _Route] = {}
        self._has_sent = False
        self._has_warned = False

    def add(self, index: int, error: Exception) -> str | None:
        """Take on a failed record: where it is to go, or None where the policy leaves it where it is."""
        route = _route(self._policy, self._batch.records[index], error)
        if route is None:
            return None
        self._pending[index] = route
        return route.where

    def withdraw(self, index: int) -> bool:
        """Take back a record that has not been sent. Whether there was one."""
        return self._pending.pop(index, None) is not None

    def withdraw_followers(self, index: int) -> list[int]:
        """Take back what is waiting to be sent and is held by the record at ``index``, which stays where it is."""
        key = self._batch.key(index, self._held_within)
        if key is None:
            return []
        followers = [i for i in self._pending if i > index and self._batch.key(i, self._held_within) == key]
        for follower in followers:
            del self._pending[follower]
        return followers

    def is_due(self) -> bool:
        """Whether what is waiting should be sent now."""
        pending = self._pending
        return bool(pending) and (
            # Under Park a key waits until its dead letter is confirmed.
            self._policy.ledger is not None
            or not self._has_sent
            or len(pending) >= next(iter(pending.values())).queue.request_messages
        )

    def last_pending(self) -> int:
        """The index of the last record that is waiting."""
        return max(self._pending)

    def send(self) -> bool:
        """Send what is waiting, to the queue of the first record first. Whether all of it was confirmed.

        In a stream nothing follows a refusal: it will come again with the refused record, and would be sent again each time.
        """
        is_stream = self._batch.source == "kinesis"
        confirmed = True
        while self._pending and (confirmed or not is_stream):
            first = min(self._pending)
            queue = self._pending[first].queue
            if self._has_sent or not is_stream:
                indexes = sorted(index for index, route in self._pending.items() if route.queue is queue)
            else:
                indexes = [first]
            self._has_sent = True
            confirmed &= self._send(queue, [(index, self._pending.pop(index)) for index in indexes])
        return confirmed

    def finish(self) -> None:
        """Send the rest, but in a stream nothing that the next delivery will bring again: it would be sent twice."""
        if self._pending and self._batch.source == "kinesis":
            waiting: set[str | None] = set()
            for index, outcome in enumerate(self._batch.outcomes):
                key = self._batch.key(index, self._held_within)
                if key in waiting:
                    self._pending.pop(index, None)
                elif key is not None and not is_settled(outcome) and index not in self._pending:
                    waiting.add(key)
        if self._pending:
            self.send()

    def _send(self, queue: Queue, routed: list[tuple[int, _Route]]) -> bool:
        messages = [self._message(index, route) for index, route in routed]
        try:
            refusals = self._deadline.request(queue, lambda deadline: refusals_of(queue, messages, deadline))
        except Exception as error:  # noqa: BLE001  # No answer is no confirmation, whatever the reason.
            refusals = {id(message): error for message in messages}
        for (index, route), message in zip(routed, messages, strict=True):
            if id(message) not in refusals:
                self._batch.outcomes[index] = Settled(route.where)
        if refusals:
            log.error(
                "%s: %s did not take %d of %d records, which stay where they are: %s",
                self._processor,
                routed[0][1].where,
                len(refusals),
                len(messages),
                reason(next(iter(refusals.values()))),
            )
        return not refusals

    def _message(self, index: int, route: _Route) -> Message:
        record, outcome = self._batch.records[index], self._batch.outcomes[index]
        assert isinstance(outcome, Failed)  # Only failures are added.
        envelope = record.envelope if isinstance(record, QueuedRecord) else None
        if envelope is None:
            envelope = Envelope.of(record, self._processor)
        if not isinstance(outcome.error, Early):
            envelope = envelope.failed(record, outcome.error, counts=route.counts)
        if envelope.parked_at is not None:
            # It is parked no more; put back by hand it must not count as a repeat.
            envelope = msgspec.structs.replace(envelope, parked_at=None)
        if route.delay and route.queue.max_delay <= 0 and not self._has_warned:
            self._has_warned = True
            log.warning(
                "%s: Retry(%g) for %s goes to a topic, which has no delay: a function that subscribes to it runs the record at "
                "once. Where the time matters, divert to an SqsQueue",
                self._processor,
                route.delay,
                record.event_id,
            )
        envelope, delay = envelope.delayed(route.delay, 0.0 if route.queue.fifo else route.queue.max_delay)
        group = group_of(self._processor, record.partition_key, record.event_id)
        return Message(envelope.encode(), record.event_id, group, delay)


def hold_followers(batch: Batch, ordering: str, policy: Policy) -> None:
    """Hold what is done but stands behind an unsettled record of its key: its writes will repeat, after that record's.

    ``Divert`` on a stream lets later records of a key run, so nothing is held there.
    """
    if batch.source == "kinesis" and policy.queue is not None and policy.ledger is None:
        return
    waiting: dict[str, str] = {}
    for index, outcome in enumerate(batch.outcomes):
        if isinstance(outcome, Done):
            if waiting and (key := batch.key(index, ordering)) in waiting and key is not None:
                batch.outcomes[index] = Held(waiting[key])
        elif not is_settled(outcome) and (key := batch.key(index, ordering)) is not None:
            waiting.setdefault(key, batch.records[index].event_id)


def refusals_of(queue: Queue, messages: list[Message], deadline: float) -> dict[int, Exception]:
    """Send messages: why each that was not confirmed was not, by the message's ``id()``."""
    answer: Iterable[MessageRefusal] = queue.send(messages, deadline=deadline)
    refusals = {id(refusal.message): refusal.error for refusal in answer}
    if not refusals.keys() <= {id(message) for message in messages}:
        raise QueueError(f"{queue.owner or type(queue).__name__} refused a message that it was not given")
    return refusals


def group_of(processor: str, partition_key: str | None, event_id: str) -> str:
    """The FIFO group: a digest, because a key can be long, empty, not ASCII, or personal data."""
    return _digest(processor, f"id:{event_id}") if partition_key is None else group_of_key(processor, partition_key)


def group_of_key(processor: str, key: str) -> str:
    """The FIFO group of a partition key's records."""
    return _digest(processor, f"key:{key}")


def _digest(processor: str, of: str) -> str:
    import hashlib  # It loads OpenSSL, 4 ms: a good batch does not pay for it.

    text = f"{len(processor)}:{processor}:{of}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

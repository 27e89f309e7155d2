"""Lambda's event source mapping of one shard, as a state machine: settings and what happened → what to do next.

It has no clock and does no I/O: whoever drives it says what time it is, invokes the function, and reports how that went.

    add(items) ──▶ backlog ──▶ batch ──▶ next() = Invoke ──▶ answered / failed / throttled
                                 ▲                                │
                                 └── the rest of it, or a half ◀──┘   next() = Discard: it was too old, or tried too often

What AWS's documentation leaves open is decided here, or by a setting of ``streamkit.local.settings`` with a default:

  - A redelivered batch is what was left of it, and takes up no new records.
  - The next window starts when the last invocation ends. Where it is over and nothing has arrived, the next starts with the
    first record that does.
  - Records too old go when the batch is made of them or tried again, at most ``batch_size`` to a failure document. Those past
    the stream's retention count as too old: Lambda would find them gone, and say nothing.
  - A single record whose event is over 6 MB is delivered alone.
  - After an answer that moved the checkpoint, the rest is delivered after the first backoff, with all its attempts. A throttled
    invocation makes the backoff longer, and is no attempt. A batch that has used up its attempts is discarded at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from .settings import Settings

__all__ = ["Action", "Discard", "Idle", "Invoke", "Item", "ShardMapping", "Wait", "read_answer"]

# What an event has around its records; each record's size has the comma before it.
_AROUND_RECORDS = len('{"Records":[]}') - len(",")

Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded"]


class Item(msgspec.Struct, frozen=True, eq=False):
    """A record as the engine sees it. ``size`` is that of its JSON in the event, in bytes, with a comma; ``record`` is the
    driver's.
    """

    sequence_number: int
    arrived_at: float
    size: int
    record: Any = None


class Invoke(msgspec.Struct, frozen=True):
    """Invoke the function with these records, and report how that went."""

    items: tuple[Item, ...]


class Discard(msgspec.Struct, frozen=True):
    """Give these records up: their failure document goes to the on-failure destination. Nothing is to be reported.

    ``invocations`` is how often they were tried, ``has_raised`` whether the last of these raised or ran out of time.
    """

    items: tuple[Item, ...]
    condition: Condition
    invocations: int = 0
    has_raised: bool = False


class Wait(msgspec.Struct, frozen=True):
    """Nothing to do before this time, unless records arrive."""

    until: float


class Idle(msgspec.Struct, frozen=True):
    """Nothing to do until records arrive or the invocation ends."""


Action = Invoke | Discard | Wait | Idle


class _Batch(msgspec.Struct):
    items: deque[Item]
    # Invocations since its first record became the first to deliver: what MaximumRetryAttempts is compared with.
    invocations: int = 0
    # Of the current try: how often Lambda did not let it through.
    throttles: int = 0
    not_before: float = 0.0
    has_raised: bool = False


class ShardMapping:
    """The mapping of one shard. ``checkpoint`` is the last sequence number passed, discarded ones included.

    Whoever must not lose a discarded record keeps the checkpoint durably only when its failure document has been taken.
    """

    def __init__(self, settings: Settings, checkpoint: int | None = None) -> None:
        self._settings = settings
        self.checkpoint = checkpoint
        self._backlog: deque[Item] = deque()
        # The next batch as far as it is known: taken from the backlog as records come, so that none is looked at twice.
        self._gathered: deque[Item] = deque()
        self._gathered_bytes = 0
        #: The bytes of event of the records that wait for their first delivery.
        self.backlog_bytes = 0
        # What was delivered and failed, in order.
        self._batches: deque[_Batch] = deque()
        self._is_invoking = False
        self._window_closes_at = -math.inf

    @property
    def backlog(self) -> int:
        """How many records wait for their first delivery."""
        return len(self._gathered) + len(self._backlog)

    def add(self, items: Iterable[Item], now: float) -> None:
        """Records that were read from the shard, in order."""
        had = self.backlog
        for item in items:
            self._backlog.append(item)
            self.backlog_bytes += item.size
        if not had and self._backlog and now >= self._window_closes_at:
            # The window that the last invocation's end has opened went by without a record.
            self._open_window(now)

    def next(self, now: float) -> Action:
        """What to do at this time. An ``Invoke`` has begun when it is returned; a ``Discard`` is over."""
        if self._is_invoking:
            return Idle()
        if not self._batches:
            is_full = self._gather()
            if not self._gathered:
                return Idle()
            expired = self._cut_expired(self._gathered, now)
            if expired:
                self._ungather(expired)
                return Discard(expired, "RecordAgeExceeded")
            if not is_full and now < self._window_closes_at:
                return Wait(self._window_closes_at)
            batch = _Batch(self._gathered)
            self._batches.append(batch)
            self._gathered = deque()
            self._ungather(batch.items)
        return self._next_of(self._batches[0], now)

    def _next_of(self, batch: _Batch, now: float) -> Action:
        """What to do with the batch whose turn it is."""
        if 0 <= self._settings.maximum_retry_attempts < batch.invocations:
            given_up = tuple(batch.items)
            self._pass(given_up)
            self._end_batch(now)
            return Discard(given_up, "RetryAttemptsExhausted", batch.invocations, batch.has_raised)
        if now < batch.not_before:
            return Wait(batch.not_before)
        expired = self._cut_expired(batch.items, now)
        if expired:
            invocations, batch.invocations = batch.invocations, 0
            if not batch.items:
                self._end_batch(now)
            return Discard(expired, "RecordAgeExceeded", invocations, batch.has_raised)
        self._is_invoking = True
        return Invoke(tuple(batch.items))

    def answered(self, answer: Any, now: float) -> None:
        """The function has returned ``answer``."""
        batch = self._end_invocation()
        batch.has_raised = False
        numbers = [item.sequence_number for item in batch.items]
        failed_at: int | None = len(numbers)
        if self._settings.reports_batch_item_failures:
            failed_at = read_answer(answer, numbers, self._settings.unknown_identifier)
        if failed_at is None or (failed_at == 0 and self._settings.bisect_at_first_record == "halve"):
            self._retry(batch, now)
        elif failed_at == len(numbers):
            self._pass(batch.items)
            self._end_batch(now)
        else:
            # Bisecting splits at the number that was named, so what is left is one batch, with it on or off.
            if failed_at > 0:
                self._pass([batch.items.popleft() for _ in range(failed_at)])
                batch.invocations = 0
            batch.not_before = now + self._settings.backoff(max(batch.invocations, 1))

    def failed(self, now: float) -> None:
        """The function has raised, or its time was up."""
        batch = self._end_invocation()
        batch.has_raised = True
        self._retry(batch, now)

    def throttled(self, now: float) -> None:
        """Lambda did not let the invocation through: tried again later, and this is no attempt."""
        throttles = self._batches[0].throttles + 1
        batch = self._end_invocation()
        batch.invocations -= 1
        batch.throttles = throttles
        batch.not_before = now + self._settings.backoff(batch.invocations + throttles)

    def _end_invocation(self) -> _Batch:
        if not self._is_invoking:
            raise RuntimeError("no invocation is under way, so none can end")
        self._is_invoking = False
        batch = self._batches[0]
        batch.invocations += 1
        batch.throttles = 0
        return batch

    def _retry(self, batch: _Batch, now: float) -> None:
        batch.not_before = now + self._settings.backoff(batch.invocations)
        if self._settings.bisect_batch_on_function_error and len(batch.items) > 1:
            self._batches.popleft()
            items = list(batch.items)
            middle = len(items) // 2
            # Splitting uses up no attempts, nor does the try that led to it.
            tried = batch.invocations - 1 if self._settings.bisected_attempts == "carried" else 0
            for half in (items[middle:], items[:middle]):
                self._batches.appendleft(_Batch(deque(half), tried, not_before=batch.not_before))

    def _end_batch(self, now: float) -> None:
        """Done with the first batch. The next window starts when the last invocation ends, whether records wait or not."""
        self._batches.popleft()
        if not self._batches:
            self._open_window(now)

    def _open_window(self, now: float) -> None:
        self._window_closes_at = now + self._settings.maximum_batching_window_in_seconds

    def _gather(self) -> bool:
        """Take into the next batch what the backlog has and the batch has room for. Whether it is full."""
        most, most_bytes = self._settings.batch_size, self._settings.maximum_payload_in_bytes - _AROUND_RECORDS
        while self._backlog:
            size = self._backlog[0].size
            if len(self._gathered) == most or (self._gathered and self._gathered_bytes + size > most_bytes):
                return True
            self._gathered.append(self._backlog.popleft())
            self._gathered_bytes += size
        return len(self._gathered) == most or self._gathered_bytes >= most_bytes

    def _ungather(self, items: Iterable[Item]) -> None:
        size = sum(item.size for item in items)
        self._gathered_bytes -= size
        self.backlog_bytes -= size

    def _cut_expired(self, items: deque[Item], now: float) -> tuple[Item, ...]:
        """Take the records from the head that are too old, and pass them."""
        expired: list[Item] = []
        while items and now - items[0].arrived_at > self._settings.lifetime:
            expired.append(items.popleft())
        self._pass(expired)
        return tuple(expired)

    def _pass(self, items: Sequence[Item] | deque[Item]) -> None:
        if items:
            last = items[-1].sequence_number
            self.checkpoint = last if self.checkpoint is None else max(self.checkpoint, last)


def read_answer(
    answer: Any, numbers: Sequence[int], unknown_identifier: Literal["batch_failed", "ignored"] = "batch_failed"
) -> int | None:
    """Where an answer with ReportBatchItemFailures says that the batch failed: the index of the lowest number it names,
    ``len(numbers)`` for success, None where the whole batch failed.

    What is neither a success nor a list of failures, like a text or a number, is no JSON of the form that Lambda asks for:
    the whole batch failed.
    """
    if answer in ("", None) or answer == [] or answer == {}:
        return len(numbers)
    if not isinstance(answer, Mapping):
        return None
    failures = answer.get("batchItemFailures")
    if failures is None or failures == []:
        return len(numbers)
    if not isinstance(failures, list):
        return None
    index_of = {str(number): index for index, number in enumerate(numbers)}
    named: list[int] = []
    for failure in failures:
        identifier = failure.get("itemIdentifier") if isinstance(failure, Mapping) else None
        if not isinstance(identifier, str) or not identifier:
            return None
        if identifier in index_of:
            named.append(index_of[identifier])
        elif unknown_identifier == "batch_failed":
            return None
    if not named:
        return None
    return min(named)

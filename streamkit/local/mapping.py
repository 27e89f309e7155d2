"""Lambda's event source mapping of one shard, as a state machine: settings and what happened → what to do next.

It has no clock and does no I/O: whoever drives it says what time it is, invokes the function, and reports how that went.

    add(items) ──▶ backlog ──▶ batch ──▶ next() = Invoke ──▶ answered / failed / throttled
                                 ▲                                │
                                 └── the rest of it, or a half ◀──┘   next() = Discard: it was too old, or tried too often

What AWS's documentation leaves open is decided here: an identifier that is not in the batch fails the whole batch; each half
of a bisected batch has its attempts afresh; a redelivered batch is what was left of it, and takes up no new records; a
record past the stream's retention is discarded like one past its maximum age; a single record whose event is over 6 MB is
delivered alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from .settings import Settings

__all__ = ["Action", "Discard", "Idle", "Invoke", "Item", "ShardMapping", "Wait", "read_answer"]

#: Lambda's limit for the payload of a synchronous invocation, in bytes of JSON.
LARGEST_PAYLOAD = 6 * 1024 * 1024

Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded"]


class Item(msgspec.Struct, frozen=True, eq=False):
    """A record as the engine sees it. ``size`` is that of its JSON in the event, in bytes; ``record`` is the driver's."""

    sequence_number: int
    arrived_at: float
    size: int
    record: Any = None


class Invoke(msgspec.Struct, frozen=True):
    """Invoke the function with these records, and report how that went."""

    items: tuple[Item, ...]


class Discard(msgspec.Struct, frozen=True):
    """Give these records up: their failure document goes to the on-failure destination. Nothing is to be reported."""

    items: tuple[Item, ...]
    condition: Condition
    invocations: int


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
    not_before: float = 0.0


class ShardMapping:
    """The mapping of one shard. ``checkpoint`` is the last sequence number passed, discarded ones included."""

    def __init__(self, settings: Settings, checkpoint: int | None = None) -> None:
        self._settings = settings
        self.checkpoint = checkpoint
        self._backlog: deque[Item] = deque()
        self._batches: deque[_Batch] = deque()
        self._is_invoking = False
        self._window_opened_at: float | None = None

    @property
    def backlog(self) -> int:
        """How many records wait for their first delivery."""
        return len(self._backlog)

    def add(self, items: Iterable[Item], now: float) -> None:
        """Records that were read from the shard, in order."""
        self._backlog.extend(items)
        if self._backlog and self._window_opened_at is None and not self._is_invoking:
            self._window_opened_at = now

    def next(self, now: float) -> Action:
        """What to do at this time. An ``Invoke`` has begun when it is returned; a ``Discard`` is over."""
        if self._is_invoking:
            return Idle()
        if not self._batches:
            expired = self._cut_expired(self._backlog, now)
            if expired is not None:
                return Discard(expired, "RecordAgeExceeded", 0)
            waits = self._form_batch(now)
            if waits is not None:
                return waits
        batch = self._batches[0]
        if now < batch.not_before:
            return Wait(batch.not_before)
        expired = self._cut_expired(batch.items, now)
        if expired is not None:
            invocations, batch.invocations = batch.invocations, 0
            self._drop_if_empty(now)
            return Discard(expired, "RecordAgeExceeded", invocations)
        most = self._settings.maximum_retry_attempts
        if 0 <= most < batch.invocations:
            self._batches.popleft()
            self._pass(tuple(batch.items))
            self._open_window(now)
            return Discard(tuple(batch.items), "RetryAttemptsExhausted", batch.invocations)
        self._is_invoking = True
        return Invoke(tuple(batch.items))

    def answered(self, answer: Any, now: float) -> None:
        """The function has returned ``answer``."""
        batch = self._end_of_invocation()
        numbers = [item.sequence_number for item in batch.items]
        failed_at = read_answer(answer, numbers) if self._settings.reports_batch_item_failures else len(numbers)
        if failed_at is None:
            self._retry(batch, now)
        elif failed_at == len(numbers):
            self._batches.popleft()
            self._pass(tuple(batch.items))
            self._open_window(now)
        elif failed_at == 0:
            batch.not_before = now + self._settings.backoff(batch.invocations)
        else:
            self._pass(tuple(batch.items.popleft() for _ in range(failed_at)))
            batch.invocations = 0
            batch.not_before = now + self._settings.backoff(1)

    def failed(self, now: float) -> None:
        """The function has raised, or its time was up."""
        self._retry(self._end_of_invocation(), now)

    def throttled(self, now: float) -> None:
        """Lambda did not let the invocation through: tried again later, and this is no attempt."""
        batch = self._end_of_invocation()
        batch.invocations -= 1
        batch.not_before = now + self._settings.backoff(1)

    def _end_of_invocation(self) -> _Batch:
        if not self._is_invoking:
            raise RuntimeError("no invocation is under way, so none can end")
        self._is_invoking = False
        batch = self._batches[0]
        batch.invocations += 1
        return batch

    def _retry(self, batch: _Batch, now: float) -> None:
        batch.not_before = now + self._settings.backoff(batch.invocations)
        if self._settings.bisect_batch_on_function_error and len(batch.items) > 1:
            self._batches.popleft()
            items = list(batch.items)
            middle = len(items) // 2
            for half in (items[middle:], items[:middle]):
                self._batches.appendleft(_Batch(deque(half), 0, batch.not_before))

    def _form_batch(self, now: float) -> Wait | Idle | None:
        """Make the next batch of the backlog; or say until when there is none."""
        if not self._backlog:
            return Idle()
        size = 0
        count = 0
        for item in self._backlog:
            if count == self._settings.batch_size or (count and size + item.size > LARGEST_PAYLOAD):
                break
            size += item.size
            count += 1
        is_full = count == self._settings.batch_size or count < len(self._backlog) or size >= LARGEST_PAYLOAD
        opened_at = now if self._window_opened_at is None else self._window_opened_at
        closes_at = opened_at + self._settings.maximum_batching_window_in_seconds
        if not is_full and now < closes_at:
            return Wait(closes_at)
        self._batches.append(_Batch(deque(self._backlog.popleft() for _ in range(count))))
        self._window_opened_at = None
        return None

    def _cut_expired(self, items: deque[Item], now: float) -> tuple[Item, ...] | None:
        """Take the records from the head that are too old, and pass them."""
        age: float = self._settings.retention_in_seconds
        if self._settings.maximum_record_age_in_seconds >= 0:
            age = min(age, self._settings.maximum_record_age_in_seconds)
        expired: list[Item] = []
        while items and now - items[0].arrived_at > age:
            expired.append(items.popleft())
        if not expired:
            return None
        self._pass(expired)
        return tuple(expired)

    def _drop_if_empty(self, now: float) -> None:
        if not self._batches[0].items:
            self._batches.popleft()
            self._open_window(now)

    def _open_window(self, now: float) -> None:
        """The next window starts when the last invocation ends."""
        if not self._batches:
            self._window_opened_at = now if self._backlog else None

    def _pass(self, items: Sequence[Item]) -> None:
        if items:
            last = items[-1].sequence_number
            self.checkpoint = last if self.checkpoint is None else max(self.checkpoint, last)


def read_answer(answer: Any, numbers: Sequence[int]) -> int | None:
    """Where an answer with ReportBatchItemFailures says that the batch failed: the index of the lowest number it names,
    ``len(numbers)`` for success, None where the whole batch failed.
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
        if not isinstance(identifier, str) or identifier not in index_of:
            return None
        named.append(index_of[identifier])
    return min(named)

"""One order of delivery within a shard, as a state machine: settings and what happened → what to do next.

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
  - After an answer that moved the checkpoint, the rest is delivered after the first backoff, with all its attempts. A throttled
    invocation makes the backoff longer, and is no attempt. A batch that has used up its attempts is discarded at once.

Tumbling windows, where they are on:

  - A window begins on the clock at a multiple of its length, and a record belongs to that of its arrival, but never to one
    before the window that is open: arrival times may go back a little. A batch holds records of one window.
  - A window is over when a record of a later one is there, when the shard is closed and read, or when the reader has caught
    up with a time past its end. What is left of it goes with the final call, which has no records where none are left.
  - State over 1 MB ends the window early: the final call follows at once, with that state, so that it is not lost; later
    records of that time go on in the same window with a fresh state.
  - After an answer that names a failure the state it carries counts if the checkpoint moved by it; else the one before does.
  - Records that are given up leave the state as it was. A final call without records is tried until it succeeds, for as long
    as a record would be kept.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from .answer import read_answer
from .settings import Settings

__all__ = ["Action", "Discard", "Idle", "Invoke", "Item", "Lane", "Wait", "WindowCall"]

# What an event has around its records; each record's size has the comma before it.
_AROUND_RECORDS = len('{"Records":[]}') - len(",")
# The fields of a window around its state, a little generously.
_AROUND_STATE = 400

Condition = Literal["RetryAttemptsExhausted", "RecordAgeExceeded"]


class Item(msgspec.Struct, frozen=True, eq=False):
    """A record as the engine sees it. ``size`` is that of its JSON in the event, in bytes, with a comma; ``record`` is the
    driver's. ``lane`` is the one that its key goes through; what the filters do not want is passed and never delivered.
    """

    sequence_number: int
    arrived_at: float
    size: int
    record: Any = None
    lane: int = 0
    is_wanted: bool = True


class WindowCall(msgspec.Struct, frozen=True):
    """What an invocation is told of its tumbling window; times in seconds since the epoch, ``state`` as JSON."""

    start: float
    end: float
    state: bytes
    is_final: bool
    is_terminated_early: bool


class Invoke(msgspec.Struct, frozen=True):
    """Invoke the function with these records, and report how that went, for this lane."""

    items: tuple[Item, ...]
    lane: int = 0
    window: WindowCall | None = None


class Discard(msgspec.Struct, frozen=True):
    """Give these records up: their failure document goes to the on-failure destination. Nothing is to be reported.

    ``invocations`` is how often they were tried, ``has_raised`` whether the last of these raised or ran out of time. Without
    records it is the final call of a window that is given up.
    """

    items: tuple[Item, ...]
    condition: Condition
    invocations: int = 0
    has_raised: bool = False
    lane: int = 0


class Wait(msgspec.Struct, frozen=True):
    """Nothing to do before this time, unless records arrive."""

    until: float


class Idle(msgspec.Struct, frozen=True):
    """Nothing to do until records arrive or an invocation ends."""


Action = Invoke | Discard | Wait | Idle


class _Batch(msgspec.Struct):
    items: deque[Item]
    # Invocations since its first record became the first to deliver: what MaximumRetryAttempts is compared with.
    invocations: int = 0
    # Of the current try: how often Lambda did not let it through.
    throttles: int = 0
    not_before: float = 0.0
    has_raised: bool = False


class _Window(msgspec.Struct):
    start: float
    end: float
    state: bytes = b"{}"
    # The sequence number of the first record it was called with; None while it was not.
    first: int | None = None
    last: int = 0
    is_terminated_early: bool = False


class Lane:
    """The records of one lane, in order, one batch in flight at a time. A shard without parallel lanes has just one."""

    def __init__(self, settings: Settings, number: int = 0) -> None:
        self._settings = settings
        self._number = number
        self._backlog: deque[Item] = deque()
        # The next batch as far as it is known: taken from the backlog as records come, so that none is looked at twice.
        self._gathered: deque[Item] = deque()
        self._gathered_bytes = 0
        #: The bytes of event of the records that wait for their first delivery.
        self.backlog_bytes = 0
        # What was delivered and failed, in order.
        self._batches: deque[_Batch] = deque()
        self._in_hand: Invoke | None = None
        self._batching_until = -math.inf
        self._window: _Window | None = None
        self._caught_up_at = -math.inf
        self._has_ended = False
        #: The first and last sequence number of each window that has ended, for whoever takes them from here.
        self.ended_windows: list[tuple[int, int]] = []

    @property
    def backlog(self) -> int:
        """How many records wait for their first delivery."""
        return len(self._gathered) + len(self._backlog)

    @property
    def oldest(self) -> Item | None:
        """The first record that is neither done nor discarded; None where there is none."""
        for items in (self._batches[0].items if self._batches else (), self._gathered, self._backlog):
            if items:
                return items[0]
        return None

    @property
    def begin_at(self) -> int | None:
        """Where a reader that begins anew would have to begin: at the start of an open window, whose state is lost then."""
        window, oldest = self._window, self.oldest
        if window is not None and window.first is not None:
            return window.first
        return None if oldest is None else oldest.sequence_number

    @property
    def is_over(self) -> bool:
        """The shard is closed, and nothing of this lane is left to do."""
        return self._has_ended and self._window is None and self.oldest is None and not self._batches

    @property
    def is_retrying(self) -> bool:
        """A batch has failed and is to be tried again."""
        return bool(self._batches) and self._batches[0].not_before > 0

    def add(self, items: Iterable[Item], now: float) -> None:
        """Records that were read from the shard, in order."""
        had = self.backlog
        for item in items:
            self._backlog.append(item)
            self.backlog_bytes += item.size
        if not had and self._backlog and now >= self._batching_until:
            # The window that the last invocation's end has opened went by without a record.
            self._open_batching_window(now)

    def caught_up(self, now: float) -> None:
        """All that had arrived by this time has been added."""
        self._caught_up_at = now

    def end(self) -> None:
        """The shard is closed, and all of it has been added."""
        self._has_ended = True

    def next(self, now: float) -> Action:
        """What to do at this time. An ``Invoke`` has begun when it is returned; a ``Discard`` is over."""
        if self._in_hand is not None:
            return Idle()
        if not self._batches:
            action = self._make_batch(now)
            if action is not None:
                return action
        return self._next_of(self._batches[0], now)

    def _make_batch(self, now: float) -> Action | None:
        """Make a batch of what waits; what to do instead where there is none to be made yet."""
        is_full = self._gather()
        expired = self._cut_expired(self._gathered, now)
        if expired:
            self._ungather(expired)
            return Discard(expired, "RecordAgeExceeded", lane=self._number)
        if self._gathered_bytes > self._room() and self._settings.record_over_payload == "discard":
            too_large, self._gathered = tuple(self._gathered), deque()
            self._ungather(too_large)
            return Discard(too_large, "RetryAttemptsExhausted", lane=self._number)
        is_over = self._window_is_over()
        if self._gathered:
            if not (is_full or is_over) and now < self._batching_until:
                return Wait(min(self._batching_until, self._window_ends_after(now)))
            self._batches.append(_Batch(self._gathered))
            self._ungather(self._gathered)
            self._gathered = deque()
            return None
        if self._window is None:
            return Idle()
        if not is_over:
            until = self._window_ends_after(now)
            return Idle() if until == math.inf else Wait(until)
        if self._window.first is None:
            # All its records were too old, so nobody knows of it.
            self._window = None
            return self.next(now)
        self._batches.append(_Batch(deque()))
        return None

    def _next_of(self, batch: _Batch, now: float) -> Action:
        """What to do with the batch whose turn it is."""
        if batch.items and 0 <= self._settings.maximum_retry_attempts < batch.invocations:
            given_up = tuple(batch.items)
            self._end_batch(now)
            return Discard(given_up, "RetryAttemptsExhausted", batch.invocations, batch.has_raised, self._number)
        if now < batch.not_before:
            return Wait(batch.not_before)
        expired = self._cut_expired(batch.items, now)
        if expired or (not batch.items and self._final_call_is_too_late(now)):
            invocations, batch.invocations = batch.invocations, 0
            if not expired:
                self._end_window()
            if not batch.items:
                self._end_batch(now)
            return Discard(expired, "RecordAgeExceeded", invocations, batch.has_raised, self._number)
        self._in_hand = Invoke(tuple(batch.items), self._number, self._window_call())
        return self._in_hand

    def answered(self, answer: Any, now: float) -> bool:
        """The function has returned ``answer``. Whether that was success for all of the batch."""
        call, batch = self._end_invocation()
        batch.has_raised = False
        numbers = [item.sequence_number for item in call.items]
        failed_at: int | None = len(numbers)
        if self._window is not None and (not isinstance(answer, Mapping) or answer.get("state") is None):
            failed_at = None
        elif self._settings.reports_batch_item_failures:
            failed_at = read_answer(answer, numbers, self._settings.unknown_identifier)
        if failed_at == len(numbers):
            self._keep_state(answer, call.window)
            self._end_batch(now)
            return True
        if failed_at is None or (failed_at == 0 and self._settings.bisect_at_first_record == "halve"):
            self._retry(batch, now)
        else:
            # Bisecting splits at the number that was named, so what is left is one batch, with it on or off.
            if failed_at > 0:
                for _ in range(failed_at):
                    batch.items.popleft()
                batch.invocations = 0
                self._keep_state(answer, None)
            batch.not_before = now + self._settings.backoff(max(batch.invocations, 1))
        return False

    def failed(self, now: float) -> None:
        """The function has raised, or its time was up."""
        _, batch = self._end_invocation()
        batch.has_raised = True
        self._retry(batch, now)

    def throttled(self, now: float) -> None:
        """Lambda did not let the invocation through: tried again later, and this is no attempt."""
        throttles = self._batches[0].throttles + 1
        _, batch = self._end_invocation()
        batch.invocations -= 1
        batch.throttles = throttles
        batch.not_before = now + self._settings.backoff(batch.invocations + throttles)

    def _end_invocation(self) -> tuple[Invoke, _Batch]:
        if self._in_hand is None:
            raise RuntimeError("no invocation is under way, so none can end")
        call, self._in_hand = self._in_hand, None
        batch = self._batches[0]
        batch.invocations += 1
        batch.throttles = 0
        return call, batch

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
            self._open_batching_window(now)

    def _open_batching_window(self, now: float) -> None:
        self._batching_until = now + self._settings.maximum_batching_window_in_seconds

    def _gather(self) -> bool:
        """Take into the next batch what the backlog has and the batch has room for. Whether it is full."""
        backlog, most = self._backlog, self._settings.batch_size
        is_windowed = self._settings.tumbling_window_in_seconds > 0
        if is_windowed and backlog and self._window is None:
            self._open_window(backlog[0])
        if self._window is not None and self._window.is_terminated_early:
            return True
        most_bytes = self._room()
        while backlog:
            size = backlog[0].size
            if len(self._gathered) == most or (self._gathered and self._gathered_bytes + size > most_bytes):
                return True
            if self._window is not None and self._is_of_a_later_window(backlog[0]):
                return True
            self._gathered.append(backlog.popleft())
            self._gathered_bytes += size
        return len(self._gathered) == most or self._gathered_bytes >= most_bytes

    def _room(self) -> int:
        """How many bytes of records an event has room for."""
        room = self._settings.maximum_payload_in_bytes - _AROUND_RECORDS
        return room if self._window is None else room - _AROUND_STATE - len(self._window.state)

    def _ungather(self, items: Iterable[Item]) -> None:
        size = sum(item.size for item in items)
        self._gathered_bytes -= size
        self.backlog_bytes -= size

    def _cut_expired(self, items: deque[Item], now: float) -> tuple[Item, ...]:
        """Take the records from the head that are too old."""
        expired: list[Item] = []
        while items and now - items[0].arrived_at > self._settings.lifetime:
            expired.append(items.popleft())
        return tuple(expired)

    # Tumbling windows.

    def _open_window(self, item: Item) -> None:
        length = self._settings.tumbling_window_in_seconds
        start = math.floor(item.arrived_at / length) * length
        self._window = _Window(start, start + length)

    def _is_of_a_later_window(self, item: Item) -> bool:
        return self._window is not None and item.arrived_at >= self._window.end

    def _window_is_over(self) -> bool:
        """Whether nothing more can come into the open window than what is in the batch."""
        window = self._window
        if window is None:
            return False
        if window.is_terminated_early:
            return True
        if self._backlog:
            return self._is_of_a_later_window(self._backlog[0])
        return self._has_ended or self._caught_up_at >= window.end + self._settings.window_wait_in_seconds

    def _window_ends_after(self, now: float) -> float:
        """When the open window will be over, if the reader is caught up then; infinity where that is not known."""
        if self._window is None:
            return math.inf
        end = self._window.end + self._settings.window_wait_in_seconds
        return end if end > now else math.inf

    def _window_call(self) -> WindowCall | None:
        window = self._window
        if window is None:
            return None
        items = self._batches[0].items
        if items:
            window.first = items[0].sequence_number if window.first is None else window.first
            window.last = items[-1].sequence_number
        is_final = len(self._batches) == 1 and self._window_is_over()
        return WindowCall(window.start, window.end, window.state, is_final, is_final and window.is_terminated_early)

    def _keep_state(self, answer: Any, call: WindowCall | None) -> None:
        """The state for the next invocation; none after the final one."""
        if self._window is None:
            return
        if call is not None and call.is_final:
            self._end_window()
            return
        self._window.state = msgspec.json.encode(answer["state"])
        self._window.is_terminated_early |= len(self._window.state) > self._settings.maximum_state_in_bytes

    def _end_window(self) -> None:
        if self._window is not None and self._window.first is not None:
            self.ended_windows.append((self._window.first, self._window.last))
        self._window = None

    def _final_call_is_too_late(self, now: float) -> bool:
        return self._window is not None and now - self._window.end > self._settings.lifetime

"""One shard of a stream: reads it as far as its mapping can take records, and does what the mapping says.

A reader has no thread of its own: ``step`` does what is due, and whoever runs it waits in between. The order of the steps
is what loses nothing:

    an answer has come ─▶ the mapping passes records ─▶ what it discards is confirmed by the destination ─▶ the position is
    saved, under the lease ─▶ the next invocation begins

A crash between any two repeats work. A reader that has lost its lease begins nothing more and writes nothing.
"""

from __future__ import annotations

import json
import logging
from binascii import crc32
from collections import deque
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import pybase64

from ..aws import code_of
from ..checkpoints.base import CheckpointStore, Lease, LeaseLost
from ..errors import QueueError
from ..plural import counted
from ..reason import reason
from .context import CalledOff, Clock, RealContext, function_arn
from .documents import EventRecords, event_of, failure_document, read_back
from .feed import Page, Position, Stream
from .lane import Discard, Idle, Invoke, Item, Wait
from .mapping import ShardMapping, lane_of
from .settings import Settings
from .status import ShardState, ShardStatus

__all__ = ["Function", "OnFailure", "ShardReader"]

log = logging.getLogger("streamkit")

Function = Callable[[Any, Any], Any]
#: Is given a failure document and the records that it is about, as they stand in an event; what it raises means not taken.
OnFailure = Callable[[dict[str, Any], Sequence[dict[str, Any]]], Any]

_LONGEST_BACKOFF = 10.0
_SHORTEST_BACKOFF = 0.2
# What is held of a shard: so many records or bytes of event, and what one read brings (10 MiB) on top.
_ENOUGH_RECORDS = 1000
_ENOUGH_BYTES = 16 * 1024 * 1024
# How far behind the checkpoint it is read: what the filters do not want or other lanes have done is kept as a number only.
_ENOUGH_UNPASSED = 100_000


class ShardReader:
    """Delivers a shard's records to ``functions``, one for each lane, from ``start`` on or after the lease's checkpoint.

    ``holds`` says whether the lease is still this reader's. ``run`` runs an invocation, at once or on another thread, which
    then calls ``wake``.
    """

    def __init__(
        self,
        stream: Stream,
        lease: Lease,
        *,
        start: Position,
        settings: Settings,
        store: CheckpointStore,
        holds: Callable[[], bool],
        functions: Sequence[Function],
        on_failure: OnFailure | None = None,
        run: Callable[[Callable[[], None]], Any] = lambda invocation: invocation(),
        clock: Clock | None = None,
    ) -> None:
        self.status = ShardStatus(lease.shard_id, checkpoint=lease.checkpoint)
        self._stream = stream
        self._lease = lease
        self._start = start
        self._settings = settings
        self._store = store
        self._holds = holds
        self._functions = functions
        self._on_failure = on_failure
        self._run = run
        self._clock = clock or Clock()
        self._filters = settings.filters()
        self._mapping = ShardMapping(settings, lease.checkpoint)
        self._saved = self._last_read = lease.checkpoint
        self._feed = stream.feed(lease.shard_id)
        self._records = EventRecords(stream.event_source_arn, lease.shard_id)
        self._next_read = 0.0
        self._read_failures = 0
        self._read_at = self._clock.time()
        self._feed_has_ended = False
        self._is_stopping = False
        self._is_lost = False
        # Invocations under way, and those that have come to an end but were not reported yet.
        self._in_hand = 0
        # By lane: how many records the one under way has, and since when it is.
        self._under_way: dict[int, tuple[int, float]] = {}
        self._ended: SimpleQueue[tuple[Invoke, Any]] = SimpleQueue()
        self._highest_delivered: dict[int, int] = {}
        # Of each lane's last invocation.
        self._contexts: dict[int, RealContext] = {}
        # A discard that no destination has confirmed yet: nothing is saved while there is one.
        self._untold: deque[tuple[dict[str, Any], tuple[Item, ...]]] = deque()
        self._failures_to_settle = 0
        self._settle_at = 0.0
        # Reentrant, so that a signal's handler can wake it.
        self._wakes: SimpleQueue[None] = SimpleQueue()

    @property
    def shard_id(self) -> str:
        return self._lease.shard_id

    def stop(self) -> None:
        """End after the invocations in hand. Safe to call from a signal's handler or another thread."""
        self._is_stopping = True
        self.wake()

    def lose(self) -> None:
        """The lease is another runner's: end, and write nothing more."""
        self._is_lost = True
        self.wake()

    def wake(self) -> None:
        """End a ``wait``."""
        if self._wakes.empty():
            self._wakes.put(None)

    def wait(self, seconds: float) -> None:
        """Wait so long, or until it is woken."""
        try:
            self._wakes.get(timeout=seconds)
            while True:
                self._wakes.get_nowait()
        except Empty:
            pass

    def close(self) -> None:
        """Release the feed."""
        self._feed.close()

    def step(self) -> float | None:
        """Do what is due. Seconds until there is something to do again; None when there never will be."""
        self._take_answers()
        if self._is_lost or not self._holds():
            return self._end("lost")
        try:
            if not self._settle():
                self.status.state = "blocked"
                self.status.oldest_arrival = self._oldest_arrival()
                return self._until_settled()
            if self._is_stopping:
                return self._end("stopped")
            return self._go_on()
        except LeaseLost as error:
            log.warning("%s: %s", self._lease.reader, error)
            self._is_lost = True
            return self._end("lost")

    def _go_on(self) -> float | None:
        if not self._feed_has_ended and self._clock.monotonic() >= self._next_read:
            self._read()
        if self._is_stopping or not self._holds():
            # What was read or settled can have taken long.
            return 0
        action = self._mapping.next(self._clock.time())
        self.status.backlog = self._mapping.backlog
        self.status.oldest_arrival = self._oldest_arrival()
        self.status.state = "blocked" if self._mapping.is_retrying or self._read_failures else "reading"
        if isinstance(action, Invoke):
            self._invoke(action)
            return 0
        if isinstance(action, Discard):
            self._discard(action)
            return 0
        if self._mapping.is_over and not self._in_hand:
            if not self._write(lambda: self._store.end(self._lease, self._mapping.resume_after)):
                return self._until_settled()
            self.status.checkpoint = self._mapping.checkpoint
            log.info("%s: shard %s has ended", self._lease.reader, self.shard_id)
            return self._end("ended")
        return self._pause(action)

    def _oldest_arrival(self) -> float | None:
        """When the oldest record arrived that is not settled: what no destination has taken yet is not."""
        untold = [items[0].arrived_at for _, items in self._untold if items]
        return min((at for at in (*untold, self._mapping.oldest_arrival) if at is not None), default=None)

    def _end(self, state: ShardState) -> float | None:
        """Nothing more begins; over when nothing is in hand."""
        if self._in_hand:
            return _LONGEST_BACKOFF
        self.status.state = state
        return None

    def _pause(self, action: Wait | Idle) -> float:
        waits = [_LONGEST_BACKOFF]
        if not self._feed_has_ended:
            waits.append(self._next_read - self._clock.monotonic())
        if isinstance(action, Wait):
            waits.append(action.until - self._clock.time())
        return max(0.0, min(waits))

    # Reading.

    def _read(self) -> None:
        """One read, unless enough for the next batches is held already."""
        self._next_read = self._clock.monotonic() + self._feed.between_reads
        enough = max(2 * self._settings.batch_size, _ENOUGH_RECORDS)
        if (
            self._mapping.backlog >= enough
            or self._mapping.backlog_bytes >= _ENOUGH_BYTES
            or self._mapping.unpassed >= _ENOUGH_UNPASSED
        ):
            return
        asked_at = self._clock.time()
        try:
            page = self._feed.read(self._position())
        except Exception as error:  # noqa: BLE001  # Sorted by what it is; what can't pass is raised again.
            self._read_failed(error)
            return
        if page.behind is not None:
            self._read_failures = 0
            self._read_at = asked_at
            self.status.behind = page.behind
        self._add(page)
        if page.has_ended:
            self._feed_has_ended = True
            self._mapping.end()
        elif not page.behind:
            self._next_read = self._clock.monotonic() + self._feed.between_idle_reads
        if page.behind == 0:
            self._mapping.caught_up(asked_at if page.as_of is None else page.as_of)

    def _add(self, page: Page) -> None:
        after = self._start.sequence_number if self._last_read is None else self._last_read
        records = page.records
        if after is not None and records and int(records[0]["SequenceNumber"]) <= after:
            # LocalStack's AFTER_SEQUENCE_NUMBER brings a shard's very first record once more, at every read.
            records = [record for record in records if int(record["SequenceNumber"]) > after]
        if records:
            items = [self._item(record) for record in records]
            self._last_read = items[-1].sequence_number
            self._mapping.add(items, self._clock.time())

    def _item(self, raw: dict[str, Any]) -> Item:
        number, arrived_at = int(raw["SequenceNumber"]), raw["ApproximateArrivalTimestamp"]
        key = raw.get("PartitionKey") or None
        if self._filters and not self._filters.wants(pybase64.b64decode(raw["Data"])):
            return Item(number, arrived_at, 0, is_wanted=False)
        encoded = self._records.encoded(raw)
        lane = lane_of(key, number, self._settings.parallelization_factor)
        return Item(number, arrived_at, len(encoded) + len(","), encoded, lane)

    def _read_failed(self, error: Exception) -> None:
        """Go on from the same place later; raise what waiting can't mend."""
        if not self._stream.may_pass(error):
            if not self._has_expired():
                raise error
            log.warning(
                "%s: shard %s is listed no more; what was not read of it has expired", self._lease.reader, self.shard_id
            )
            self._feed_has_ended = True
            self._mapping.end()
            return
        self._read_failures += 1
        if self._stream.is_throttle(error):
            self.status.throttles += 1
        else:
            self.status.read_errors += 1
        # What has come since the last read that went well is not known: it can be that old.
        self.status.behind = max(self.status.behind, self._clock.time() - self._read_at)
        # Readers that are throttled together would ask together again, and the same ones come first each time.
        part = crc32(f"{self._lease.owner} {self.shard_id} {self._read_failures}".encode()) / 2**32
        backoff = _backoff(self._read_failures) * (0.5 + part / 2)
        self._next_read = self._clock.monotonic() + backoff
        log.warning(
            "%s: shard %s could not be read (%s); again in %.1f s",
            self._lease.reader,
            self.shard_id,
            _code(error),
            backoff,
        )

    def _has_expired(self) -> bool:
        """Whether the shard was closed so long ago that there is none of its records any more."""
        try:
            listed = [shard.id for shard in self._stream.shards()]
        except Exception:  # noqa: BLE001  # The read's own error tells more.
            return False
        # A stream that is there lists an open shard.
        return bool(listed) and self.shard_id not in listed

    def _position(self) -> Position:
        if self._last_read is not None:
            return Position("AFTER_SEQUENCE_NUMBER", self._last_read)
        start = self._start
        if start.type == "LATEST":
            # Should the iterator be lost before anything is read: what has come since now is still to be delivered.
            self._start = Position("AT_TIMESTAMP", timestamp=self._clock.time())
        return start

    # Delivering.

    def _invoke(self, action: Invoke) -> None:
        status = self.status
        numbers = [item.sequence_number for item in action.items]
        highest = self._highest_delivered.get(action.lane, -1)
        again = sum(number <= highest for number in numbers)
        status.batches += 1
        status.records += len(numbers)
        status.redelivered += again
        status.retries += again > 0
        if numbers:
            self._highest_delivered[action.lane] = max(highest, numbers[-1])
        context = RealContext(
            self._settings.function_timeout_in_seconds,
            self._clock.monotonic,
            function_name=self._lease.reader,
            is_called_off=lambda: self._is_stopping or self._is_lost or not self._holds(),
        )
        self._contexts[action.lane] = context
        self._in_hand += 1
        self._under_way[action.lane] = (len(numbers), self._clock.time())
        self._show_under_way()
        self._run(lambda: self._call(action, context))

    def _call(self, action: Invoke, context: RealContext) -> None:
        """Invoke the function; what it answered or raised is reported by the next step."""
        outcome: Any
        try:
            event = event_of(
                action.items,
                action.window,
                shard_id=self.shard_id,
                event_source_arn=self._stream.event_source_arn,
            )
            outcome = read_back(self._functions[action.lane](event, context))
            if context.get_remaining_time_in_millis() == 0:
                timeout = self._settings.function_timeout_in_seconds
                outcome = TimeoutError(f"the function answered after its time-out of {timeout:g} s")
        except BaseException as error:  # noqa: BLE001  # Sorted where it is reported: this may be another thread.
            outcome = error
        self._ended.put((action, outcome))
        self.wake()

    def _take_answers(self) -> None:
        """Report the invocations that have ended."""
        while not self._ended.empty():
            action, outcome = self._ended.get()
            self._in_hand -= 1
            self._under_way.pop(action.lane, None)
            self._show_under_way()
            now = self._clock.time()
            if isinstance(outcome, CalledOff):
                self.status.batches -= 1
                self.status.records -= len(action.items)
                self._mapping.throttled(now, action.lane)
            elif isinstance(outcome, BaseException):
                if not isinstance(outcome, Exception | SystemExit):
                    raise outcome  # Lambda survives whatever a function raises; Ctrl-C is none of it.
                self.status.failures += 1
                # No traceback: its message can quote a payload at any length.
                log.error(
                    "%s: %s of shard %s, from %s on, failed: %s",
                    self._lease.reader,
                    counted(len(action.items), "record"),
                    self.shard_id,
                    action.items[0].sequence_number if action.items else "the window's end",
                    reason(outcome),
                )
                self._mapping.failed(now, action.lane)
            elif not self._mapping.answered(outcome, now, action.lane):
                self.status.failures += 1

    def _show_under_way(self) -> None:
        self.status.in_flight = len(self._under_way)
        self.status.in_flight_records = sum(count for count, _ in self._under_way.values())
        self.status.in_flight_since = min((since for _, since in self._under_way.values()), default=None)

    # Settling.

    def _discard(self, action: Discard) -> None:
        document = failure_document(
            action,
            stream_arn=self._stream.arn,
            shard_id=self.shard_id,
            function_arn=function_arn(self._lease.reader),
            now=self._clock.time(),
            request_id=self._contexts[action.lane].aws_request_id if action.invocations else None,
        )
        self._untold.append((document, action.items))

    def _settle(self) -> bool:
        """Tell the destination what was discarded, then save the position: a crash between the two tells it twice, and
        loses nothing. Whether all of that is done.
        """
        if self._settle_at > self._clock.monotonic() and not self._is_stopping:
            return False
        while self._untold:
            if not self._tell(*self._untold[0]):
                self._settle_later()
                return False
            self.status.discarded += len(self._untold.popleft()[1])
            self._failures_to_settle = 0
        number = self._mapping.resume_after
        if number is None or number == self._saved:
            return True
        if not self._write(lambda: self._store.save(self._lease, number)):
            return False
        self._saved = number
        self.status.checkpoint = self._mapping.checkpoint
        return True

    def _settle_later(self) -> None:
        self._failures_to_settle += 1
        self._settle_at = self._clock.monotonic() + _backoff(self._failures_to_settle)

    def _until_settled(self) -> float | None:
        if self._is_stopping:
            # Not saved: what was not confirmed is delivered again after the next start.
            return self._end("stopped")
        return max(0.0, self._settle_at - self._clock.monotonic())

    def _tell(self, document: dict[str, Any], items: Sequence[Item]) -> bool:
        if self._on_failure is None:
            log.error("%s: records were given up: %s", self._lease.reader, json.dumps(document))
            return True
        try:
            self._on_failure(document, event_of(items)["Records"])
        except Exception as error:  # noqa: BLE001  # Whatever it is, nobody has taken the records.
            log.error(
                "%s: the on-failure destination did not take records of shard %s, which waits: %s",
                self._lease.reader,
                self.shard_id,
                # A destination of streamkit's says what to do, at the end of its message.
                " ".join(str(error).split()) if isinstance(error, QueueError) else reason(error),
            )
            return False
        return True

    def _write(self, write: Callable[[], None]) -> bool:
        """Write to the store. Whether it was written; what no wait can mend is raised."""
        try:
            write()
        except LeaseLost:
            raise
        except Exception as error:
            if not self._store.may_pass(error):
                raise
            log.warning(
                "%s: the checkpoint of shard %s could not be saved, and the shard waits: %s",
                self._lease.reader,
                self.shard_id,
                reason(error),
            )
            self._settle_later()
            return False
        self._failures_to_settle = 0
        return True


def _backoff(failures: int) -> float:
    return min(_LONGEST_BACKOFF, _SHORTEST_BACKOFF * 2.0 ** min(failures, 20))


def _code(error: Exception) -> str:
    return code_of(error) or type(error).__name__

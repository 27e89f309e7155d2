"""What a run has come to: a row for each shard, and one for the retry queue."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

import msgspec

from ..event import Batch, QueuedRecord
from ..local.queue_runner import QueueCounts
from ..local.status import ShardState, ShardStatus
from ..outcome import Settled

__all__ = ["RETRY_QUEUE", "Board", "Row", "Tally", "total"]

RETRY_QUEUE = "retry queue"
"""Stands where a shard's id does."""

# Seconds over which records/s is the mean.
_RATE_WINDOW = 5.0


class Row(msgspec.Struct):
    """One shard. ``age`` and ``rate`` are seconds and records a second; None: not known of this function, or not there."""

    shard_id: str
    state: ShardState
    checkpoint: int | None = None
    age: float | None = None
    rate: float = 0.0
    records: int = 0
    redelivered: int = 0
    batches: int = 0
    failures: int = 0
    retries: int = 0
    diverted: int | None = None
    dead_letters: int | None = None
    discarded: int = 0
    throttles: int = 0
    read_errors: int = 0
    backlog: int = 0


class Tally:
    """Counts what a handler has sent aside, by shard: the handler's ``observer``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settled: Counter[tuple[str | None, str]] = Counter()

    def __call__(self, batch: Batch) -> None:
        if batch.is_done():
            return
        for record, outcome in zip(batch.records, batch.outcomes, strict=True):
            if isinstance(outcome, Settled):
                place = RETRY_QUEUE if isinstance(record, QueuedRecord) else record.shard_id
                with self._lock:
                    self._settled[place, outcome.where] += 1

    def diverted(self, place: str) -> int:
        """How many records of that shard a retry queue has taken."""
        return self._settled[place, "the retry queue"]

    def dead_letters(self, place: str) -> int:
        return self._settled[place, "dead letters"]


class Board:
    """Empty until it is told where to look; read by the thread that shows it, and by no other."""

    def __init__(self) -> None:
        #: Where to look for the shards.
        self.statuses: Callable[[], Iterable[ShardStatus]] = tuple
        #: What the function has sent aside, where it says so.
        self.tally: Tally | None = None
        #: The reader of the retry queue, where there is one.
        self.queue: QueueCounts | None = None
        self._samples: dict[str, deque[tuple[float, int]]] = {}

    def rows(self) -> list[Row]:
        """The rows as they are now, in the order in which the shards came."""
        rows: dict[str, Row] = {}
        for status in list(self.statuses()):
            row = rows.setdefault(status.shard_id, Row(status.shard_id, status.state))
            # A shard that was lost and taken again has a status for each time.
            row.state, row.checkpoint, row.age = status.state, status.checkpoint, status.age(time.time())
            row.backlog = status.backlog
            row.records += status.records
            row.redelivered += status.redelivered
            row.batches += status.batches
            row.failures += status.failures
            row.retries += status.retries
            row.discarded += status.discarded
            row.throttles += status.throttles
            row.read_errors += status.read_errors
        if self.queue is not None:
            rows[RETRY_QUEUE] = Row(
                RETRY_QUEUE,
                "reading",
                records=self.queue.received,
                batches=self.queue.invocations,
                failures=self.queue.failures,
            )
        now = time.monotonic()
        for place, row in rows.items():
            row.rate = self._rate(row, now)
            if self.tally is not None:
                row.diverted, row.dead_letters = self.tally.diverted(place), self.tally.dead_letters(place)
        return list(rows.values())

    def _rate(self, row: Row, now: float) -> float:
        samples = self._samples.setdefault(row.shard_id, deque())
        samples.append((now, row.records))
        while samples[0][0] < now - _RATE_WINDOW:
            samples.popleft()
        then, records = samples[0]
        return (row.records - records) / (now - then) if now > then else 0.0


def total(rows: Sequence[Row]) -> Row:
    """All rows in one: the oldest age, and the sum of everything that can be summed."""
    whole = Row("all", "reading", age=max((row.age for row in rows if row.age is not None), default=None))
    for row in rows:
        whole.rate += row.rate
        whole.records += row.records
        whole.redelivered += row.redelivered
        whole.batches += row.batches
        whole.failures += row.failures
        whole.retries += row.retries
        whole.discarded += row.discarded
        whole.throttles += row.throttles
        whole.read_errors += row.read_errors
        whole.backlog += row.backlog
        if row.diverted is not None and row.dead_letters is not None:
            whole.diverted = row.diverted + (whole.diverted or 0)
            whole.dead_letters = row.dead_letters + (whole.dead_letters or 0)
    return whole

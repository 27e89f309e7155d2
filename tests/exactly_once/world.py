"""Seeded schedules of one shard into one table: crashes between any two steps, zombies, lost answers, streams that somebody
finalizes, records that are discarded, and a ``process`` that does not do the same twice.

The handler, the policy, the sink and the plan store are the shipped ones. The write streams are those of a real server, or
``MemoryStreams``; what stands between them and the sink only crashes, loses and interrupts.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from google.cloud import bigquery

from streamkit import Block, Record, RecordProcessor, Reject, Write, lambda_handler
from streamkit.handler import Handler
from streamkit.plans.base import Entry, PlanStore
from streamkit.plans.memory import MemoryPlans
from streamkit.sinks.bigquery_exactly_once import BigQueryExactlyOnceSink
from streamkit.sinks.bigquery_proto import RowFormat
from streamkit.sinks.bigquery_streams import StreamClosed, StreamGone
from streamkit.testing import Crash, MemoryQueue, kinesis_event

__all__ = ["BOUNDARIES", "SCHEMA", "MemoryStreams", "Schedule", "table_of"]

SCHEMA = [bigquery.SchemaField("id", "STRING", mode="REQUIRED"), bigquery.SchemaField("run", "INTEGER")]
T = TypeVar("T")
STEPS = ("read", "save", "create", "append", "finalize")
#: Where a schedule can crash: before and after each step's effect, and before the answer is heard.
BOUNDARIES = (*(f"{edge} {step}" for step in STEPS for edge in ("before", "after")), "before the answer")
FIRST = 49590338271490256608559692538361571095921575989136588898
# Faults at one boundary, by their likelihood.
FAULTS = {"crash": 0.06, "zombie": 0.03, "lost": 0.02, "finalized by somebody": 0.015}


class MemoryStreams:
    """BigQuery's write streams as they are documented, in memory."""

    def __init__(self) -> None:
        self.ends: dict[str, int] = {}
        self.finalized: set[str] = set()
        self.rows: list[bytes] = []

    def create(self, table: str, *, timeout: float) -> str:
        name = f"{table}/streams/{len(self.ends)}"
        self.ends[name] = 0
        return name

    def append(self, stream: str, offset: int, descriptor: Any, rows: Sequence[bytes], *, timeout: float) -> None:
        if stream not in self.ends:
            raise StreamGone("no such stream")
        end = self.ends[stream]
        # BigQuery does not say which of the two it looks at first, so the less telling one comes first here.
        if stream in self.finalized:
            raise StreamClosed("finalized")
        if offset > end:
            raise StreamClosed("out of range")
        if offset == end:
            self.ends[stream] += len(rows)
            self.rows.extend(rows)

    def finalize(self, stream: str, *, timeout: float) -> int:
        if stream not in self.ends:
            raise StreamGone("no such stream")
        self.finalized.add(stream)
        return self.ends[stream]

    def written(self) -> Counter[str]:
        """How often each row is in the table, by its id."""
        message = RowFormat(SCHEMA)._message
        return Counter(message.FromString(row).id for row in self.rows)


def table_of(schema: Sequence[Any] = SCHEMA) -> Any:
    """A client for a table that is nowhere but in memory."""

    class Client:
        def get_table(self, name: str, **options: Any) -> Any:
            return bigquery.Table(f"local.{name}", schema=list(schema))

    return Client()


class Schedule:
    """One shard's records from the first to the last, with faults by the seed; then without, until all is settled."""

    def __init__(
        self, seed: int, *, streams: Any = None, client: Any = None, table: str = "shop.orders", faults: bool = True
    ) -> None:
        self.random = random.Random(seed)
        self.streams = streams or MemoryStreams()
        self.client = client or table_of()
        self.table = table
        self.prefix = f"{seed}-"
        self.plans = MemoryPlans()
        self.names: list[str] = []
        self.crashes: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.story: list[str] = []
        self.count = self.random.randint(8, 24)
        self.most_rows = self.random.choice([1, 3, 10_000])
        self.fickle = self.random.choice([0.0, 0.15, 0.4])
        self.plain = [self.random.choices(["row", "none", "two"], [8, 1, 1])[0] for _ in range(self.count)]
        self.dead_letters = MemoryQueue() if self.random.random() < 0.3 else None
        self.has_faults = faults
        self.depth = 0
        #: Seconds, on the clock of the invocations.
        self.now = 0.0
        self.checkpoint = 0
        self.epoch = 0
        self.executions = 0
        self.discarded: set[int] = set()
        #: By record: the ids of the rows of the execution that settled it; None where that went to the dead letters.
        self.settled: dict[int, list[str] | None] = {}
        self.ever: set[str] = set()
        self._container: Handler | None = None

    def run(self) -> None:
        """Play it to its end. AssertionError where it has none."""
        deliveries = self.random.randint(3, 12)
        for _ in range(deliveries):
            if self.checkpoint < self.count:
                self._discard()
                self._deliver()
        self.has_faults, self.fickle = False, 0.0
        for _ in range(200):
            if self.checkpoint == self.count:
                return
            self._deliver()
        raise AssertionError("\n".join(["it never ends", *self.story[-60:]]))

    def monotonic(self) -> float:
        """It is the context of its invocations, for the sake of its clock."""
        return self.now

    def wrong(self, written: Counter[str]) -> list[str]:
        """What is missing or there twice."""
        own = {row: n for row, n in written.items() if row.startswith(self.prefix)}
        wrong = [f"{row} is there {n} times" for row, n in own.items() if n > 1]
        wrong += [f"{row} was never yielded" for row in own if row not in self.ever]
        for index, rows in self.settled.items():
            if index not in self.discarded:
                wrong += [f"{row} is missing" for row in rows or () if row not in own]
        return wrong

    def at(self, boundary: str) -> None:
        """Between two steps: what happens there by the seed."""
        if not self.has_faults:
            return
        drawn = self.random.choices([None, *FAULTS], [1 - sum(FAULTS.values()), *FAULTS.values()])
        fault = drawn[0]
        if fault is None:
            return
        if fault == "zombie" and self.depth > 1:
            return
        self.faults[fault] += 1
        self.story.append(f"{'  ' * self.depth}{fault}, {boundary}")
        if fault == "crash":
            self.crashes[boundary] += 1
            raise Crash(boundary)
        if fault == "lost":
            raise OSError("connection lost")
        if fault == "zombie":
            self._be_paused()
        elif fault == "finalized by somebody" and self.names:
            self.streams.finalize(self.random.choice(self.names), timeout=30)

    def _be_paused(self) -> None:
        """Somebody else takes the shard and goes on with it, and then this invocation wakes up."""
        paused, self._container = self._container, None
        self.epoch += 1
        self.depth += 1
        for _ in range(self.random.randint(1, 3)):
            if self.checkpoint < self.count:
                self._discard()
                self._deliver()
        self.depth -= 1
        self._container = paused

    def _discard(self) -> None:
        """Now and then the head of the shard is over its age, and goes unanswered."""
        if self.has_faults and self.random.random() < 0.08:
            end = min(self.checkpoint + self.random.randint(1, 4), self.count)
            self.discarded.update(range(self.checkpoint, end))
            self.story.append(f"{'  ' * self.depth}discarded {self.checkpoint} to {end}")
            self.checkpoint = end

    def _deliver(self) -> None:
        first = self.checkpoint
        if first == self.count:
            return
        end = min(first + self.random.choice([1, 3, 5, 10]), self.count)
        epoch = self.epoch
        if self._container is None:
            self._container = self._make_container()
        container = self._container
        yielded: dict[int, list[str] | None] = {}
        event = kinesis_event([str(index) for index in range(first, end)], start=FIRST + first)
        self.story.append(f"{'  ' * self.depth}deliver {first} to {end}")
        try:
            container.processor.yielded = yielded  # type: ignore[attr-defined]  # The test's own attribute.
            # Often so much later that a sink whose circuit is open is probed, and else at once.
            self.now += self.random.choice([0.0, 100.0])
            answer = container(event, self)
            self.at("before the answer")
        except Crash:
            self._container = None
            return
        except OSError:
            return
        if self.epoch != epoch:
            return  # Nobody listens to it any more.
        failures = answer["batchItemFailures"]
        settled = int(failures[0]["itemIdentifier"]) - FIRST if failures else end
        self.story.append(f"{'  ' * self.depth}settled to {settled}")
        for index in range(first, settled):
            self.settled[index] = yielded[index]
        self.checkpoint = settled

    def _make_container(self) -> Handler:
        schedule = self

        class Sink(BigQueryExactlyOnceSink):
            request_writes = schedule.most_rows

        class Orders(RecordProcessor):
            name = "orders"
            ordering = "shard"
            on_failure = Block(schedule.dead_letters)
            warehouse = Sink(
                schedule.table,
                _SteppedPlans(schedule),
                client=schedule.client,
                streams=_SteppedStreams(schedule),
            )

            def __init__(self) -> None:
                self.yielded: dict[int, list[str] | None] = {}

            def process(self, record: Record) -> Iterator[Write]:
                yield from schedule._rows(self, record)

        return lambda_handler(Orders)

    def _rows(self, processor: Any, record: Record) -> list[Write]:
        index = int(record.data)
        self.executions += 1
        kind = self.plain[index]
        if self.random.random() < self.fickle:
            kind = self.random.choice(["row", "none", "two", "raise", "reject"])
        if kind == "raise":
            raise RuntimeError("it fails this time")
        processor.yielded[index] = None
        if kind == "reject":
            raise Reject("not this time")
        ids = [f"{self.prefix}{index}/{n}" for n in range({"row": 1, "none": 0, "two": 2}[kind])]
        processor.yielded[index] = ids
        self.ever.update(ids)
        return [processor.warehouse.row({"id": row, "run": self.executions}) for row in ids]


class _SteppedPlans(PlanStore):
    """The schedule's plan store, with what happens before and after each step."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def read(self, processor: str, target: str, shard: str, *, deadline: float) -> Entry | None:
        plans = self._schedule.plans
        return _step(self._schedule, "read", lambda: plans.read(processor, target, shard, deadline=deadline))

    def save(self, processor: str, target: str, shard: str, entry: Entry, *, deadline: float) -> bool:
        plans = self._schedule.plans
        return _step(self._schedule, "save", lambda: plans.save(processor, target, shard, entry, deadline=deadline))


class _SteppedStreams:
    """The schedule's write streams, likewise."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def create(self, table: str, *, timeout: float) -> str:
        def create() -> str:
            name: str = self._schedule.streams.create(table, timeout=timeout)
            self._schedule.names.append(name)
            return name

        return _step(self._schedule, "create", create)

    def append(self, stream: str, offset: int, descriptor: Any, rows: Sequence[bytes], *, timeout: float) -> None:
        streams = self._schedule.streams
        _step(self._schedule, "append", lambda: streams.append(stream, offset, descriptor, rows, timeout=timeout))

    def finalize(self, stream: str, *, timeout: float) -> int:
        return _step(self._schedule, "finalize", lambda: self._schedule.streams.finalize(stream, timeout=timeout))

    def close(self) -> None:
        return


def _step(schedule: Schedule, name: str, effect: Callable[[], T]) -> T:
    schedule.at(f"before {name}")
    result = effect()
    schedule.at(f"after {name}")
    return result

"""Exactly once through the event source mapping: two shards, aggregates, bisected batches, time-outs and crashes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from streamkit import Record, RecordProcessor, Write, kpl, lambda_handler
from streamkit.plans.base import Entry
from streamkit.plans.memory import MemoryPlans
from streamkit.sinks.bigquery_exactly_once import BigQueryExactlyOnceSink
from streamkit.testing import Crash, EventSourceMapping

from .world import MemoryStreams, table_of


@pytest.mark.parametrize("seed", range(6))
def test_each_row_is_there_once(seed: int) -> None:
    drawn = random.Random(seed)
    plans, crashes = MemoryPlans(), Counter[str]()

    def perhaps(what: str) -> None:
        if drawn.random() < 0.08:
            crashes[what] += 1
            raise Crash(what)

    class Streams(MemoryStreams):
        def append(self, stream: str, offset: int, descriptor: Any, rows: Any, *, timeout: float) -> None:
            perhaps("before")
            super().append(stream, offset, descriptor, rows, timeout=timeout)
            perhaps("after")

    class Plans(MemoryPlans):
        def save(self, processor: str, target: str, shard: str, entry: Entry, *, deadline: float) -> bool:
            saved = plans.save(processor, target, shard, entry, deadline=deadline)
            perhaps("planned")
            return saved

        def read(self, processor: str, target: str, shard: str, *, deadline: float) -> Entry | None:
            return plans.read(processor, target, shard, deadline=deadline)

    streams = Streams()

    class Orders(RecordProcessor):
        name = "orders"
        ordering = "shard"
        warehouse = BigQueryExactlyOnceSink("shop.orders", Plans(), client=table_of(), streams=streams)

        def process(self, record: Record) -> Iterator[Write]:
            chance = drawn.random()
            if chance < 0.02:
                raise RuntimeError("not this time")
            if chance < 0.04:
                mapping.sleep(100)  # The function's time is up.
            yield self.warehouse.row({"id": record.data.decode()})

    def function(event: Any, context: Any) -> Any:
        return lambda_handler(Orders)(event, context)

    mapping = EventSourceMapping(
        function,
        shards=2,
        batch_size=7,
        bisect_batch_on_function_error=True,
        function_response_types=["ReportBatchItemFailures"],
    )
    for n in range(60):
        shard, key = n % 2, f"key-{n % 5}"
        if n % 10 == 3:
            mapping.put(kpl.aggregate(kpl.UserRecord(f"{n}.{sub}".encode(), key) for sub in range(4)), key, shard)
        else:
            mapping.put(str(n).encode(), key, shard)

    mapping.run_until_idle()

    expected = [f"{n}.{sub}" for n in range(3, 60, 10) for sub in range(4)] + [str(n) for n in range(60) if n % 10 != 3]
    assert streams.written() == Counter(expected)
    assert mapping.discarded == []
    assert crashes.total() > 0

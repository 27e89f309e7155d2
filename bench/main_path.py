"""Where the time of a record goes: the parts of the main path one by one, and the rest by subtraction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from streamkit import Record, Write, lambda_handler
from streamkit.deadline import Deadline
from streamkit.delivery import Delivery
from streamkit.event import Batch, decode
from streamkit.execution import attempt
from streamkit.record import _UNPARSED
from streamkit.sinks.base import noting_writes
from streamkit.testing import MemorySink

from .batches import ReadOrders, WriteIds, floor
from .harness import Side, progress, take_turns
from .orders import NOTHING_FAILED, Context, event_of, key_of, orders, payload_of

__all__ = ["profile"]

_RECORDS = 4_900


def profile(seconds: float) -> list[list[str]]:
    """The parts and their nanoseconds, for a record that is read and for one that is read and writes once."""
    placed = orders(_RECORDS)
    event = event_of([payload_of(order) for order in placed], [key_of(order) for order in placed])
    parts = _Parts(event)
    reads, writes = ReadOrders(), WriteIds()
    progress(f"the parts of the main path, for {seconds:.0f} s")
    rounds = take_turns(
        {
            "floor": Side(partial(floor, event)),
            "read": Side(partial(lambda_handler(reads), event, parts.context), NOTHING_FAILED),
            "write": Side(partial(lambda_handler(writes), event, parts.context), NOTHING_FAILED, writes.empty),
            "loop": Side(parts.loop),
            "decode": Side(parts.decode),
            "json": Side(parts.json, None, parts.renew),
            "attempt": Side(partial(parts.attempt, lambda record: None), None, parts.renew),
            "clock": Side(parts.clock),
            "make": Side(parts.make),
            "generate": Side(partial(parts.attempt, parts.generate), None, parts.renew),
            "add": Side(parts.add, None, parts.renew),
            "deliver": Side(parts.deliver, None, parts.renew),
        },
        seconds,
    )
    took = {name: min(times) / _RECORDS for name, times in rounds.items()}
    loop = took["loop"]
    read = {
        "base64 and JSON, as in the floor": took["floor"],
        "event.decode: its Record": took["decode"],
        "Record.json, beyond base64 and JSON": took["json"] - took["floor"],
        "the attempt around process": took["attempt"] - loop,
        "the clock, once": took["clock"] - loop,
    }
    read["the loop, the outcome, the answer (the rest)"] = took["read"] - sum(read.values())
    write = {
        "making the Write": took["make"] - loop,
        "a generator, and checking what it yields": took["generate"] - took["attempt"] - (took["make"] - loop),
        "Delivery.add": took["add"] - loop,
        "MemorySink.write, its write ids too": took["deliver"],
    }
    write["the rest"] = took["write"] - took["read"] - sum(write.values())
    return [
        ["a record that is read", f"{took['read']:,.0f}"],
        *([f"  {part}", f"{time:,.0f}"] for part, time in read.items()),
        ["a record that is read and writes once", f"{took['write']:,.0f}"],
        ["  what reading costs", f"{took['read']:,.0f}"],
        *([f"  {part}", f"{time:,.0f}"] for part, time in write.items()),
    ]


class _Parts:
    """Each part of the main path in a loop of its own over all records."""

    def __init__(self, event: dict[str, Any]) -> None:
        self.context = Context()
        self.event = event
        self.deadline = Deadline(self.context, 1.0)
        self.renew()

    def renew(self) -> None:
        """Records that nobody has read, and writes that nobody has delivered."""
        self.records = decode(self.event).records
        self.sink = MemorySink()
        self.delivery = Delivery("orders", self.deadline)
        self.writes = [self.sink.item("order-0000001") for _ in self.records]

    def loop(self) -> None:
        for _ in self.records:
            pass

    def decode(self) -> None:
        batch: Batch = decode(self.event)
        batch.records.clear()

    def json(self) -> None:
        for record in self.records:
            record.json()
            record._json = _UNPARSED

    def attempt(self, process: Callable[[Record], Any]) -> None:
        with noting_writes() as made:
            for record in self.records:
                attempt(process, record, made)

    def clock(self) -> None:
        remaining = self.deadline.remaining
        for _ in self.records:
            remaining()

    def make(self) -> None:
        item = self.sink.item
        with noting_writes() as made:
            for _ in self.records:
                item("order-0000001")
                made.clear()

    def generate(self, record: Record) -> Iterator[Write]:
        yield self.sink.item("order-0000001")

    def add(self) -> None:
        # Nothing is delivered: that is a part of its own.
        self.sink.request_writes = len(self.records) + 1  # type: ignore[misc]
        add = self.delivery.add
        for index, (record, write) in enumerate(zip(self.records, self.writes, strict=True)):
            add(index, record, [write])

    def deliver(self) -> None:
        for n, (record, write) in enumerate(zip(self.records, self.writes, strict=True)):
            write._record, write._processor, write._n = record, "orders", n
        for start in range(0, len(self.writes), self.sink.request_writes):
            self.sink.write(self.writes[start : start + self.sink.request_writes], deadline=0)

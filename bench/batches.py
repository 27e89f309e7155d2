"""A Lambda batch of 4,900 orders: against the least that can be done with it, and against powertools' BatchProcessor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
import pybase64
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.kinesis_stream_event import KinesisStreamRecord

from streamkit import Record, RecordProcessor, Write, lambda_handler
from streamkit.testing import MemorySink

from .harness import Row, Side, check_equal, compare, progress, take_turns
from .orders import NOTHING_FAILED, Context, event_of, key_of, orders, payload_of

__all__ = ["ReadOrders", "WriteIds", "WriteOrders", "floor", "run", "run_sizes"]

_RECORDS = 4_900
_SIZES = (100, 1_000, 4_900, 10_000)

Event = dict[str, Any]


class ReadOrders(RecordProcessor):
    """Parses each order."""

    name = "orders"

    def process(self, record: Record) -> None:
        record.json()


class WriteIds(RecordProcessor):
    """Parses each order and writes a text of it."""

    name = "orders"

    def __init__(self) -> None:
        self.empty()

    def empty(self) -> None:
        """Write to a new sink from now on."""
        self.sink = MemorySink()

    def process(self, record: Record) -> Iterator[Write]:
        order = record.json()
        yield self.sink.item(order["id"])


class WriteOrders(WriteIds):
    """Parses each order and writes it whole, so that the sink has to take a copy of it."""

    def process(self, record: Record) -> Iterator[Write]:
        yield self.sink.item(record.json())


def floor(event: Event) -> None:
    """Decode each order with the fastest libraries, and do nothing else."""
    decode, parse = pybase64.b64decode, msgspec.json.Decoder().decode
    for record in event["Records"]:
        parse(decode(record["kinesis"]["data"], validate=True))


def run(seconds: float) -> list[Row]:
    """The benchmarks of one batch."""
    placed = orders(_RECORDS)
    event = event_of([payload_of(order) for order in placed], [key_of(order) for order in placed])
    _check(event, placed)

    context = Context()
    reads, writes = ReadOrders(), WriteIds()
    powertools = _powertools(_parse)
    progress(f"{_RECORDS:,} records through lambda_handler, the floor and powertools, for {seconds:.0f} s")
    took = take_turns(
        {
            "floor": Side(partial(floor, event)),
            "json": Side(partial(lambda_handler(reads), event, context), NOTHING_FAILED),
            "write": Side(partial(lambda_handler(writes), event, context), NOTHING_FAILED, writes.empty),
            "powertools": Side(partial(powertools, event, context), NOTHING_FAILED),
        },
        seconds,
    )
    # By itself, as thousands of copied orders that stay in memory would slow the rounds of the others.
    copies = WriteOrders()
    copying = take_turns(
        {
            "floor": Side(partial(floor, event)),
            "copy": Side(partial(lambda_handler(copies), event, context), NOTHING_FAILED, copies.empty),
        },
        seconds / 8,
    )
    per_record = partial(compare, per=_RECORDS)
    return [
        per_record("record.json() / pybase64 + msgspec alone", took["json"], took["floor"], at_most=1.6),
        per_record("and one write to MemorySink / the same", took["write"], took["floor"], at_most=2.4),
        per_record("and the whole order to MemorySink / the same", copying["copy"], copying["floor"]),
        per_record("record.json() / powertools BatchProcessor", took["json"], took["powertools"], times_faster=2.5),
    ]


def run_sizes(seconds: float) -> tuple[list[Row], list[list[str]]]:
    """The cost per record by the size of the batch: a row, and a table of the sizes.

    Each size goes through the same 10,000 records, so that nothing else differs (4,900: through the first 9,800).
    """
    placed = orders(max(_SIZES))
    payloads, keys = [payload_of(order) for order in placed], [key_of(order) for order in placed]
    handler, context = lambda_handler(ReadOrders), Context()
    sides: dict[tuple[str, int], Side] = {}
    for size in _SIZES:
        ends = range(size, len(placed) + 1, size)
        events = [event_of(payloads[end - size : end], keys[end - size : end]) for end in ends]
        ours = partial(_in_turn, lambda event: handler(event, context), events)
        sides["ours", size] = Side(ours, [NOTHING_FAILED] * len(ends))
        sides["floor", size] = Side(partial(_in_turn, floor, events), [None] * len(ends))
    progress(f"batches of {', '.join(f'{size:,}' for size in _SIZES)} records, for {seconds:.0f} s")
    rounds = take_turns(sides, seconds)
    per_record = {
        (side, size): [time / (len(placed) // size * size) for time in times] for (side, size), times in rounds.items()
    }
    ours_of, floor_of = ({size: per_record[side, size] for size in _SIZES} for side in ("ours", "floor"))
    dearest, cheapest = (extreme(ours_of.values(), key=min) for extreme in (max, min))
    row = compare("a record in the dearest size of batch / in the cheapest", dearest, cheapest, at_most=1.2)
    table = []
    for size in _SIZES:
        ours_best, floor_best = min(ours_of[size]), min(floor_of[size])
        table.append([f"{size:,}", f"{ours_best:,.0f} ns", f"{floor_best:,.0f} ns", f"{ours_best / floor_best:.2f}×"])
    return [row], table


def _in_turn(handler: Callable[[Event], object], events: Sequence[Event]) -> list[object]:
    return [handler(event) for event in events]


def _powertools(record_handler: Callable[[KinesisStreamRecord], object]) -> Callable[[Event, Any], object]:
    """A function as powertools' documentation has it: one processor for all invocations."""
    processor = BatchProcessor(event_type=EventType.KinesisDataStreams)

    def handler(event: Event, context: Any) -> object:
        return process_partial_response(
            event=event, record_handler=record_handler, processor=processor, context=context
        )

    return handler


def _parse(record: KinesisStreamRecord) -> object:
    return record.kinesis.data_as_json()


def _check(event: Event, placed: list[Event]) -> None:
    """Every side has to come to the same orders, in the same order."""
    context = Context()
    ours: list[Any] = []
    theirs: list[Any] = []

    class Keep(RecordProcessor):
        def process(self, record: Record) -> None:
            ours.append(record.json())

    lambda_handler(Keep)(event, context)
    _powertools(lambda record: theirs.append(record.kinesis.data_as_json()))(event, context)
    parse = msgspec.json.Decoder().decode
    least = [parse(pybase64.b64decode(record["kinesis"]["data"], validate=True)) for record in event["Records"]]
    check_equal("a batch", {"the orders": placed, "lambda_handler": ours, "powertools": theirs, "the floor": least})
    for processor, expected in (WriteIds(), [order["id"] for order in placed]), (WriteOrders(), placed):
        lambda_handler(processor)(event, context)
        check_equal("writes", {"the orders": expected, "MemorySink": processor.sink.items})

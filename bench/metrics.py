"""What metrics cost: batches with them on beside the same ones with them off, by the size of the batch."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from io import StringIO
from statistics import median
from typing import Any
from unittest.mock import patch

import msgspec

from streamkit import RecordProcessor, lambda_handler

from .batches import ReadOrders, WriteIds
from .harness import Row, Side, check_equal, compare, progress, take_turns
from .orders import NOTHING_FAILED, Context, event_of, key_of, orders, payload_of

__all__ = ["run"]

# Records in a batch, and batches in a round: a round has to be long enough for the clock.
_SIZES = {1: 400, 100: 20, 1_000: 3}
_WORK: dict[str, Callable[[], RecordProcessor]] = {"parses": ReadOrders, "parses and writes": WriteIds}

Event = dict[str, Any]
Handler = Callable[[Event, Any], Any]


def run(seconds: float) -> tuple[list[Row], list[list[str]]]:
    """The row with the target, and a table: microseconds of a batch, what metrics add, and of how long a batch that is 1 %."""
    placed = orders(max(_SIZES))
    payloads, keys = [payload_of(order) for order in placed], [key_of(order) for order in placed]
    events = {size: event_of(payloads[:size], keys[:size]) for size in _SIZES}
    for size, event in events.items():
        _check(event, size)
    progress(f"batches of {', '.join(map(str, _SIZES))} records with metrics and without, for {seconds:.0f} s")
    sides: dict[tuple[str, int, str], Side] = {}
    for work, make in _WORK.items():
        for size, batches in _SIZES.items():
            for setting in ("off", "emf"):
                processor = make()
                handler = _handler(processor, setting)
                empty = processor.empty if isinstance(processor, WriteIds) else None
                repeated = partial(_repeated, handler, events[size], batches)
                sides[work, size, setting] = Side(repeated, [NOTHING_FAILED] * batches, empty)
    with _pipe():
        took = take_turns(sides, seconds)
    row = compare(
        "a record of 1,000 that are parsed and written, with metrics / without",
        took["parses and writes", 1_000, "emf"],
        took["parses and writes", 1_000, "off"],
        per=_SIZES[1_000] * 1_000,
        at_most=1.01,
    )
    table = []
    for work in _WORK:
        for size, batches in _SIZES.items():
            off, on = (took[work, size, setting] for setting in ("off", "emf"))
            more = min(on) - min(off)
            pairs = median(a - b for a, b in zip(on, off, strict=True))
            table.append(
                [
                    f"{size:,}, each {work}",
                    f"{min(off) / batches / 1000:,.0f} µs",
                    *(f"{extra / batches / 1000:+,.0f} µs, {extra / min(off):+.1%}" for extra in (more, pairs)),
                    f"{100 * pairs / batches / 1e6:,.0f} ms",
                ]
            )
    return [row], table


def _handler(processor: RecordProcessor, setting: str) -> Handler:
    """A handler whose setting is read, as it is at the first invocation."""
    handler = lambda_handler(processor)
    with patch.dict(os.environ, {"STREAMKIT_METRICS": setting, "AWS_LAMBDA_FUNCTION_NAME": "orders-indexer"}):
        with redirect_stdout(StringIO()):
            handler({"Records": []}, Context())
    return handler


def _repeated(handler: Handler, event: Event, times: int) -> Sequence[object]:
    # A context for each, as Lambda makes one; it is in the time of both sides.
    return [handler(event, Context()) for _ in range(times)]


@contextmanager
def _pipe() -> Iterator[None]:
    """Standard output as Lambda has it: a pipe that another process reads."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as reader:
        assert reader.stdin is not None
        with redirect_stdout(reader.stdin):
            yield


def _check(event: Event, size: int) -> None:
    """With metrics there is one line, which has the records of the batch; without there is none."""
    written: dict[str, list[object]] = {}
    for setting in ("off", "emf"):
        handler, output = _handler(ReadOrders(), setting), StringIO()
        with redirect_stdout(output):
            handler(event, Context())
        written[setting] = [msgspec.json.decode(line)["Records"] for line in output.getvalue().splitlines()]
    check_equal("lines", {"what is to be written": {"off": [], "emf": [size]}, "what is": written})

"""What a ``FanOut`` costs: n branches on one batch, beside a function of each that is called with the same batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from streamkit import Record, RecordProcessor, kpl, lambda_handler
from streamkit.fanout import FanOut
from streamkit.progress.memory import MemoryProgress

from .harness import Row, Side, compare, progress, take_turns
from .orders import NOTHING_FAILED, Context, event_of, key_of, orders, payload_of

__all__ = ["run"]

_RECORDS = 2_000
_BRANCHES = (1, 2, 5, 10, 20)
_IN_AGGREGATE = 50


class Reads(RecordProcessor):
    """Parses each order."""

    def __init__(self, name: str) -> None:
        self.name = name

    def process(self, record: Record) -> None:
        record.json()


class Forgetful(MemoryProgress):
    """Looked up, as any; what the first call of a container saves is forgotten, or the next rounds would have nothing to do."""

    def save(self, processor: str, shard: str, number: int, entry: bytes, *, deadline: float) -> None:
        return


class Ignores(Reads):
    """Looks at nothing, so that what is left is what a branch costs."""

    def process(self, record: Record) -> None:
        return


def run(seconds: float) -> tuple[list[Row], list[list[str]]]:
    """The rows of 10 branches, and a table by the number of branches: nanoseconds for a record and a branch."""
    placed = orders(_RECORDS)
    payloads, keys = [payload_of(order) for order in placed], [key_of(order) for order in placed]
    event = event_of(payloads, keys)
    aggregates = event_of(
        [
            kpl.aggregate(
                [kpl.UserRecord(data, key) for data, key in zip(payloads, keys, strict=True)][n : n + _IN_AGGREGATE]
            )
            for n in range(0, _RECORDS, _IN_AGGREGATE)
        ],
        keys[::_IN_AGGREGATE],
    )
    progress(f"fan-outs of up to {_BRANCHES[-1]} branches, for {seconds:.0f} s")
    sides: dict[tuple[str, int], Side] = {}
    for count in _BRANCHES:
        sides["fan-out", count] = _fan_out(event, Reads, count)
        sides["functions", count] = _functions(event, Reads, count)
    sides["fan-out of aggregates", 10] = _fan_out(aggregates, Reads, 10)
    sides["functions of aggregates", 10] = _functions(aggregates, Reads, 10)
    sides["fan-out that ignores", 1] = _fan_out(event, Ignores, 1)
    sides["fan-out that ignores", 10] = _fan_out(event, Ignores, 10)
    took = take_turns(sides, seconds)
    per = {name: min(times) / _RECORDS / name[1] for name, times in took.items()}
    rows = [
        compare(
            "FanOut of 10 / 10 functions, record.json()",
            took["fan-out", 10],
            took["functions", 10],
            per=_RECORDS * 10,
            at_most=1.0,
        ),
        compare(
            "the same, aggregates of 50",
            took["fan-out of aggregates", 10],
            took["functions of aggregates", 10],
            per=_RECORDS * 10,
            at_most=0.8,
        ),
        compare(
            "FanOut of 1 / its processor alone", took["fan-out", 1], took["functions", 1], per=_RECORDS, at_most=1.1
        ),
    ]
    table = []
    for count in _BRANCHES:
        ours, peer = per["fan-out", count], per["functions", count]
        table.append([str(count), f"{ours:,.0f}", f"{peer:,.0f}", f"{ours / peer:.2f}×"])
    ignoring = per["fan-out that ignores", 10]
    table.append(["10, that look at nothing", f"{ignoring:,.0f}", "–", "–"])
    return rows, table


def _fan_out(event: dict[str, Any], kind: type[Reads], count: int) -> Side:
    branches = [kind(f"branch-{n}") for n in range(count)]
    return Side(partial(lambda_handler(FanOut(*branches, progress=Forgetful())), event, Context()), NOTHING_FAILED)


def _functions(event: dict[str, Any], kind: type[Reads], count: int) -> Side:
    handlers: list[Callable[[Any, Any], Any]] = [lambda_handler(kind(f"branch-{n}")) for n in range(count)]

    def call_each() -> Any:
        answers = [handler(event, Context()) for handler in handlers]
        return next((answer for answer in answers if answer != NOTHING_FAILED), answers[0])

    return Side(call_each, NOTHING_FAILED)

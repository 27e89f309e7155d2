"""Takes the time of several ways to do the same work, in short rounds that alternate, and makes a table of their ratios.

The time of one way alone says little on a machine that others use too: what slows one round slows its neighbours. So a
figure is a ratio of two sides that ran in turns in one run, each by its fastest round. Beside it stands the median of the
rounds' own ratios: where the two disagree, the machine was busy.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import NamedTuple, TypeVar

__all__ = ["Difference", "Row", "Side", "check_equal", "compare", "print_rows", "print_table", "progress", "take_turns"]

Name = TypeVar("Name")


class Difference(Exception):
    """The sides of a benchmark did not come to the same results, so that their times can't be compared."""


class Side(NamedTuple):
    """One way to do the work, and what it has to answer. ``before`` is called before each round, and its time not taken."""

    run: Callable[[], object]
    answer: object = None
    before: Callable[[], object] | None = None


class Row(NamedTuple):
    """A line of the table. ``in_pairs`` is the median of the rounds' own ratios; ``is_met`` is None without a target."""

    benchmark: str
    ours: str
    peer: str
    ratio: str
    in_pairs: str
    target: str
    is_met: bool | None


def progress(text: str) -> None:
    """Say what is going on: on standard error, so that standard output has the tables only."""
    print(f"… {text}", file=sys.stderr, flush=True)


def take_turns(sides: Mapping[Name, Side], seconds: float) -> dict[Name, list[float]]:
    """The nanoseconds of each side's rounds, A B C, C B A, A B C, … for ``seconds``. The first round does not count.

    It is this process's own processor time, so that what the machine gives to others is left out. The garbage collector
    is on, as users have it, and begins each round with nothing to do.
    """
    rounds: dict[Name, list[float]] = {name: [] for name in sides}
    order = list(sides)
    for name in order:
        _round(name, sides[name])
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(rounds[order[0]]) < 5:
        for name in order:
            rounds[name].append(_round(name, sides[name]))
        order.reverse()
    return rounds


def _round(name: object, side: Side) -> int:
    if side.before is not None:
        side.before()
    gc.collect()
    start = time.process_time_ns()
    answer = side.run()
    took = time.process_time_ns() - start
    check_equal(str(name), {"what it should answer": side.answer, "what it answered": answer})
    return took


def check_equal(benchmark: str, results: Mapping[str, object]) -> None:
    """Raise Difference unless all results are equal."""
    (first, expected), *others = results.items()
    for name, result in others:
        if result != expected:
            raise Difference(
                f"{benchmark}: {name} ({str(result)[:200]}) is not the same as {first} ({str(expected)[:200]})"
            )


def compare(
    benchmark: str,
    ours: Sequence[float],
    peer: Sequence[float],
    *,
    at_most: float | None = None,
    times_faster: float | None = None,
    best: Callable[[Sequence[float]], float] = min,
    per: float = 1,
    unit: str = "ns",
) -> Row:
    """The row of two sides that took turns. The target is what ours costs of the peer, or how many times faster it is.

    ``best`` makes one time of a side's rounds; a time is shown in ``unit`` after it is divided by ``per``.
    """
    our_time, peer_time = best(ours), best(peer)
    if times_faster is None:
        ratio, in_pairs, form = our_time / peer_time, median(o / p for o, p in zip(ours, peer, strict=True)), "{:.2f}×"
    else:
        ratio, in_pairs = peer_time / our_time, median(p / o for o, p in zip(ours, peer, strict=True))
        form = "{:.2f}× faster"
    is_met: bool | None = None
    target = ""
    if at_most is not None:
        is_met, target = ratio <= at_most, f"≤ {at_most:.2f}×"
    elif times_faster:
        is_met, target = ratio >= times_faster, f"≥ {times_faster:.2f}× faster"
    our_text, peer_text = (f"{time / per:,.0f} {unit}" for time in (our_time, peer_time))
    return Row(benchmark, our_text, peer_text, form.format(ratio), f"{in_pairs:.2f}", target, is_met)


def print_rows(rows: Iterable[Row]) -> None:
    """The table of the benchmarks, as Markdown."""
    verdicts = {True: "met", False: "MISSED", None: ""}
    print_table(
        ["benchmark", "ours", "peer", "ratio", "in pairs", "target", ""],
        [[*row[:-1], verdicts[row.is_met]] for row in rows],
    )


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in Markdown, its columns aligned; all but the first to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rules = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    for row in (header, rules, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("| " + " | ".join(cells) + " |", flush=True)

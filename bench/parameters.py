"""python -m bench.parameters [SECONDS]

What reading a parameter costs in ``process``, beside a look-up in a dict, in ``os.environ``, and in powertools' cache.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from aws_lambda_powertools.utilities.parameters.base import BaseProvider

from streamkit.config import Config
from streamkit.testing import MemoryParameters

from .harness import Row, Side, check_equal, compare, progress, take_turns

__all__ = ["run"]

_READS = 20_000
_ENVIRONMENT = "int(os.environ[…])"


class _MemoryProvider(BaseProvider):
    """powertools' own cache over a value in memory."""

    def _get(self, name: str, **options: Any) -> str:
        return "10"

    def _get_multiple(self, path: str, **options: Any) -> dict[str, str]:
        return {}


def run(seconds: float) -> list[Row]:
    """The benchmark of a parameter's value."""
    took = _rounds(seconds)
    per_read = partial(compare, per=_READS)
    return [
        per_read("a parameter's value / int(os.environ[…])", took["limit.value"], took[_ENVIRONMENT], times_faster=0),
        per_read(
            "a parameter's value / powertools, cached", took["limit.value"], took["powertools, cached"], times_faster=0
        ),
    ]


def _lines(seconds: float) -> list[list[str]]:
    """A line for each way to read one: nanoseconds of one read, and their ratio to that of the environment."""
    rounds = _rounds(seconds)
    # A loop and a call are no part of any of them.
    loop = min(rounds["nothing"])
    took = {name: (min(times) - loop) / _READS for name, times in rounds.items() if name != "nothing"}
    return [[name, f"{each:.0f} ns", f"{each / took[_ENVIRONMENT]:.2f}"] for name, each in took.items()]


def _rounds(seconds: float) -> dict[str, list[float]]:
    os.environ["BENCH_LIMIT"] = "10"
    held, limit = {"limit": 10}, Config(MemoryParameters({"limit": "10"}), life=86_400).integer("limit")
    provider: Any = _MemoryProvider()  # type: ignore[no-untyped-call]  # powertools gives its __init__ no types.

    def reads(read: Callable[[], int]) -> int:
        value = 0
        for _ in range(_READS):
            value = read()
        return value

    def nothing() -> int:
        return 10

    sides = {
        "nothing": Side(lambda: reads(nothing), 10),
        "dict": Side(lambda: reads(lambda: held["limit"]), 10),
        "limit.value": Side(lambda: reads(lambda: limit.value), 10),
        _ENVIRONMENT: Side(lambda: reads(lambda: int(os.environ["BENCH_LIMIT"])), 10),
        "powertools, cached": Side(lambda: reads(lambda: int(provider.get("limit", max_age=86_400))), 10),
    }
    check_equal("a parameter", {name: side.run() for name, side in sides.items()})
    progress(f"{_READS:,} reads of a parameter in {len(sides)} ways, for {seconds:.0f} s")
    return take_turns(sides, seconds)


if __name__ == "__main__":
    for line in _lines(float(sys.argv[1]) if len(sys.argv) > 1 else 10):
        print("{:20} {:>8} {:>6}".format(*line))

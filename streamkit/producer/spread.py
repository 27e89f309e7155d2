"""A key that is too hot for one shard: its records over several in turn, and in order again.

Each record of it carries a header before its data:

    53 4B 53 50 │ version 1 │ the producer's run, 8 random bytes │ its number in run and key, 8 bytes, big endian, from 0

Its partition key stays what it is; explicit hash keys, evenly round the ring, place it. Order is kept within one run of one
producer: between two producers, or before and after a restart, nothing tells which of two records came first.
"""

from __future__ import annotations

import os
import struct
import time
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from ..errors import ConfigurationError
from .shards import spread_hash_keys

__all__ = ["HEADER_BYTES", "InOrder", "Spread", "Spreader", "spread_of"]

_MAGIC = b"SKSP\x01"
_RUN_BYTES = 8
_HEADER = struct.Struct(f">5s{_RUN_BYTES}sQ")
HEADER_BYTES = _HEADER.size
_MOST_RANGES = 1000

T = TypeVar("T")


class Spread(msgspec.Struct, frozen=True):
    """A record that was put with ``spread``: the producer's ``run``, its ``number`` in run and key, and the ``data``."""

    run: bytes
    number: int
    data: bytes


def spread_of(data: bytes) -> Spread | None:
    """What the header of ``data`` says; None where it has none: the record was put without ``spread``."""
    if len(data) < HEADER_BYTES or not data.startswith(_MAGIC):
        return None
    _, run, number = _HEADER.unpack_from(data)
    return Spread(run, number, data[HEADER_BYTES:])


class Spreader:
    """Numbers the records of each key that is spread. It remembers every such key: spread the few that are hot."""

    def __init__(self) -> None:
        self._run = os.urandom(_RUN_BYTES)
        self._numbers: dict[str, int] = defaultdict(int)
        self._hash_keys: dict[tuple[str, int], list[str]] = {}

    def spread(self, data: bytes, partition_key: str, ways: int) -> tuple[bytes, str]:
        """The data with its header, and the explicit hash key of its way."""
        hash_keys = self._hash_keys.get((partition_key, ways))
        if hash_keys is None:
            hash_keys = self._hash_keys[(partition_key, ways)] = spread_hash_keys(partition_key, ways)
        number = self._numbers[partition_key]
        self._numbers[partition_key] = number + 1
        return _HEADER.pack(_MAGIC, self._run, number) + data, hash_keys[number % ways]


class _Run(Generic[T]):
    """One producer's records of one key. ``held`` came before what precedes them: number → (arrived, item), by arrival."""

    def __init__(self) -> None:
        self.next = 0
        self.held: dict[int, tuple[float, T]] = {}
        #: Ranges of numbers that were passed over, the end not included.
        self.skipped: deque[tuple[int, int]] = deque(maxlen=_MOST_RANGES)

    def consecutive(self) -> list[T]:
        items = []
        while self.next in self.held:
            items.append(self.held.pop(self.next)[1])
            self.next += 1
        return items

    def was_skipped(self, number: int) -> bool:
        """Whether it was passed over; from now on it was not."""
        for n, (first, end) in enumerate(self.skipped):
            if first <= number < end:
                del self.skipped[n]
                self.skipped.extend(part for part in ((first, number), (number + 1, end)) if part[0] < part[1])
                return True
        return False


class InOrder(Generic[T]):
    """Puts records of spread keys in order again: each is given out once all before it of its run and key were.

        in_order = InOrder()
        for record in records:                               # of all shards
            for ready in in_order.add(record.partition_key, record.data, record):
                ...                                          # spread_of(ready.data).data is what was put

    One reader has to see all shards of the stream: in Lambda each shard has invocations of its own, so there the destination has
    to order, by ``Spread.run`` and ``number``. What is held is in memory only: checkpoint no record before it is given out. Not
    safe in threads.

    ``patience``: seconds that a record waits for those before it. They may never come: the reader began in the middle, or the
    producer told that they failed. Then what waits is given out in its order; ``skipped`` counts the numbers passed over. One
    that comes nevertheless is given out at once, out of order, and counted in ``late``. ``repeated`` counts those that came
    before, and are dropped.

    ``most_held`` bounds the records held, of all keys: over it, those of the key that has just come don't wait any longer.
    ``most_runs`` bounds the keys and runs that are remembered. One that is forgotten and comes again waits once.
    """

    def __init__(
        self,
        *,
        patience: float = 60.0,
        most_held: int = 10_000,
        most_runs: int = 100_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if patience < 0 or most_held < 1 or most_runs < 1:
            raise ConfigurationError(
                "InOrder waits 0 or more seconds, holds 1 or more records, and remembers 1 or more runs"
            )
        self._patience, self._most_held, self._most_runs, self._clock = patience, most_held, most_runs, clock
        #: The last used last.
        self._runs: dict[tuple[str | None, bytes], _Run[T]] = {}
        self.held = self.skipped = self.late = self.repeated = 0

    def add(self, partition_key: str | None, data: bytes, item: T) -> list[T]:
        """What is ready now, in order: ``item``, others that waited for it, or nothing yet. ``data`` is as it was read."""
        spread = spread_of(data)
        if spread is None:
            return [item]
        run = self._run(partition_key, spread.run)
        number = spread.number
        if number < run.next and run.was_skipped(number):
            self.late += 1
            return [item]
        if number < run.next or number in run.held:
            self.repeated += 1
            return []
        run.held[number] = (self._clock(), item)
        self.held += 1
        items = run.consecutive()
        self.held -= len(items)
        if self.held > self._most_held:
            items += self._skip(run)
        return items

    def due(self) -> list[T]:
        """What has waited for ``patience`` seconds, and what that lets go. Call it now and then, and when nothing comes."""
        limit = self._clock() - self._patience
        items: list[T] = []
        for run in self._runs.values():
            while run.held and next(iter(run.held.values()))[0] <= limit:
                items += self._skip(run)
        return items

    def _skip(self, run: _Run[T]) -> list[T]:
        lowest = min(run.held)
        run.skipped.append((run.next, lowest))
        self.skipped += lowest - run.next
        run.next = lowest
        items = run.consecutive()
        self.held -= len(items)
        return items

    def _run(self, partition_key: str | None, run_id: bytes) -> _Run[T]:
        name = (partition_key, run_id)
        run = self._runs.pop(name, None) or _Run()
        if len(self._runs) >= self._most_runs:
            idle = next((name for name, one in self._runs.items() if not one.held), None)
            if idle is not None:
                del self._runs[idle]
        self._runs[name] = run
        return run

"""What ``put`` answers with: a future that tells where its record landed, or why it did not."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from itertools import repeat
from typing import Any

import msgspec

from ..errors import DeliveryError

__all__ = ["Entry", "Outcome", "PutFuture", "Receipt", "Settlement", "settle"]

# Guards what futures are made of. One for all: it is held for a moment, a thousand futures at once.
_MAKING = threading.Lock()
#: Those that somebody has looked at, and that are not settled.
_watched: set[PutFuture] = set()
_NOT_MADE = ("_outcome", "_place")


def _renew() -> None:
    # Of a lock that another thread held when this process was forked nobody gives it back.
    global _MAKING
    _MAKING = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


class Receipt(msgspec.Struct, frozen=True):
    """Where a record lies. ``sub_sequence_number`` is its place in its aggregate, from 0; None where it lies alone."""

    shard_id: str
    sequence_number: str
    sub_sequence_number: int | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What became of a Kinesis record: where it lies, or the ``error`` that says why nowhere."""

    shard_id: str = ""
    sequence_number: str = ""
    error: DeliveryError | None = None


class PutFuture(Future[Receipt]):
    """A ``concurrent.futures.Future`` of a ``Receipt``, or of a ``DeliveryError``.

    It can't be cancelled: what is accepted is sent. Making the lock, the condition and the lists of an ordinary future costs
    more than all else of a record, so they are made when someone first looks at it.
    """

    __slots__ = ("_outcome", "_place")

    _outcome: Outcome
    _place: int | None

    __init__ = object.__init__  # What Future's own makes is made by __getattr__.

    def __getattr__(self, name: str) -> Any:
        if name in _NOT_MADE or name.startswith("__"):
            raise AttributeError(name)
        with _MAKING:
            if "_state" not in self.__dict__:
                Future.__init__(self)
                if hasattr(self, "_outcome"):
                    _finish(self)
                else:
                    _watched.add(self)
        return object.__getattribute__(self, name)

    def cancel(self) -> bool:
        """False: a record that was accepted is on its way."""
        return False


class Entry(msgspec.Struct, gc=False):
    """A record that was accepted, and is not settled. ``accepted`` is when, on the producer's clock.

    ``perhaps`` says that a request with it was sent whose answer never came.
    """

    data: bytes
    partition_key: str
    explicit_hash_key: str | None
    future: PutFuture
    accepted: float
    perhaps: bool = False


class Settlement(msgspec.Struct):
    """Entries that have the same outcome, with ``held`` bytes of data and keys.

    ``places`` are their sub-sequence numbers; None where they lie in no aggregate.
    """

    entries: Sequence[Entry]
    outcome: Outcome
    held: int
    places: Sequence[int] | None = None


def settle(settlement: Settlement) -> None:
    """Tell the futures. Their callbacks run here, so call it without holding a lock."""
    outcome = settlement.outcome
    places: Iterable[int | None] = repeat(None) if settlement.places is None else settlement.places
    with _MAKING:
        for entry, place in zip(settlement.entries, places):  # noqa: B905  # One of them may be endless.
            future = entry.future
            future._place = place
            future._outcome = outcome
        seen = [entry.future for entry in settlement.entries if entry.future in _watched] if _watched else []
        _watched.difference_update(seen)
    for future in seen:
        _finish(future)


def _finish(future: PutFuture) -> None:
    outcome = future._outcome
    if outcome.error is None:
        future.set_result(Receipt(outcome.shard_id, outcome.sequence_number, future._place))
    else:
        # One of its own for each: raised many times, an exception would gather the traceback of every time.
        future.set_exception(outcome.error.again())

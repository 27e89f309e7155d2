"""What ``put`` answers with: a future that tells where its record landed, or why it did not."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from itertools import repeat

import msgspec

from ..errors import DeliveryError

__all__ = ["Entry", "Outcome", "PutFuture", "Receipt", "Settlement", "settle"]

# Guards what futures are made of. One for all: it is held for a moment, a thousand futures at once.
_MAKING = threading.Lock()
#: Those that somebody has looked at, and that are not settled.
_watched: set[PutFuture] = set()


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


class PutFuture(msgspec.Struct, gc=False, eq=False):
    """What becomes of a record: a ``Receipt``, or a ``DeliveryError``. It can't be cancelled: what is accepted is sent.

    It waits and calls back as a ``concurrent.futures.Future`` does, and ``future()`` is one. It isn't one itself: there is one
    for each record, and the garbage collector, which goes through every ordinary object again and again, took a third of the
    time of putting. It leaves these alone; they are in no cycle for longer than until they are settled.
    """

    _outcome: Outcome | None = None
    _place: int | None = None
    #: While somebody waits for it.
    _future: _Waiting | None = None

    def done(self) -> bool:
        """Whether the record is in the stream, or given up."""
        return self._outcome is not None

    def result(self, timeout: float | None = None) -> Receipt:
        """Where the record lies. Waits for it, ``timeout`` seconds at most (None: for ever), and then raises ``TimeoutError``.

        Raises ``DeliveryError`` where it could not be put.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        assert self._outcome is not None
        return _receipt(self._outcome, self._place)

    def exception(self, timeout: float | None = None) -> DeliveryError | None:
        """Why the record could not be put; None where it was. Waits as ``result`` does."""
        if self._outcome is None:
            wait((self.future(),), timeout)
            if self._outcome is None:
                raise TimeoutError(f"not settled after {timeout:g} s: wait longer, or for flush()")
        return _error(self._outcome)

    def add_done_callback(self, callback: Callable[[PutFuture], object]) -> None:
        """Call it with this once it is done: in a thread of the producer, or at once where it is done already."""
        self.future().add_done_callback(lambda _: callback(self))

    def future(self) -> Future[Receipt]:
        """For ``concurrent.futures.wait`` and ``as_completed``, ``asyncio.wrap_future``, and others that want a true one."""
        with _MAKING:
            future = self._future or _Waiting()
            if self._outcome is None:
                self._future = future
                _watched.add(self)
                return future
        future.finish(self._outcome, self._place)
        return future


class _Waiting(Future[Receipt]):
    def cancel(self) -> bool:
        """False: a record that was accepted is on its way."""
        return False

    def finish(self, outcome: Outcome, place: int | None) -> None:
        error = _error(outcome)
        if error is None:
            self.set_result(_receipt(outcome, place))
        else:
            self.set_exception(error)


def _receipt(outcome: Outcome, place: int | None) -> Receipt:
    return Receipt(outcome.shard_id, outcome.sequence_number, place)


def _error(outcome: Outcome) -> DeliveryError | None:
    # One of its own for each: raised many times, an exception would gather the traceback of every time.
    return None if outcome.error is None else outcome.error.again()


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
    waiting: list[tuple[_Waiting, int | None]] = []
    with _MAKING:
        for entry, place in zip(settlement.entries, places):  # noqa: B905  # One of them may be endless.
            future = entry.future
            future._place = place
            future._outcome = outcome
        if _watched:
            for entry in settlement.entries:
                future = entry.future
                if future._future is not None:
                    waiting.append((future._future, future._place))
                    # Its callbacks may lead back to it.
                    future._future = None
                    _watched.discard(future)
    for one, place in waiting:
        one.finish(outcome, place)

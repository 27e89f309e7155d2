"""The seam to what ``Park`` keeps: for each parked key the ids of its records that are in the queue, or on their way there."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import ClassVar

import msgspec

__all__ = ["Ledger", "ParkedKey", "Pending"]


class Pending(msgspec.Struct, frozen=True):
    """One record that is parked: when its id was last added (seconds since the epoch), how many tries of it have failed on
    the retry path, and the time before which it must not run.
    """

    added: float
    attempts: int = 0
    not_before: float | None = None


class ParkedKey(msgspec.Struct, frozen=True):
    """A key's records that are parked, by id; and since when there was always one."""

    pending: Mapping[str, Pending]
    since: float


class Ledger(ABC):
    """Subclass it for a store of your own. ``streamkit.testing.contracts.LedgerContract`` is the suite it has to pass.

    A key stands under ``group``, the digest that is its FIFO group, and a record under a short digest of its event id: neither
    tells what it is of. A key without pending ids is not there at all. Every method may be called by several invocations at
    once, takes effect whole or not at all, and is seen by each call that begins after it has returned. An exception means
    that nothing is known; what was asked for may have been done.

    **Nothing may be dropped**, by expiry or else: the message of an id that is missing counts as done. Add times are kept to
    the millisecond. ``deadline`` is a time on ``time.monotonic()``'s clock.
    """

    #: How many ids a key has at most; while it has them, the key's later records wait in the stream, and their shard with them.
    most_pending: ClassVar[int] = 200
    #: The clock that add times are of, in seconds since the epoch. A simulation has its own.
    clock: Callable[[], float] = staticmethod(time.time)
    #: ``Orders.on_failure``: the class and attribute that hold this ledger, for errors to say who wants something.
    owner: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner = f"{owner.__name__}.{name}"

    @abstractmethod
    def parked(self, processor: str, *, deadline: float) -> Mapping[str, ParkedKey]:
        """All keys of a processor that are parked, by group. Cheap where none is: each batch of the stream asks."""

    @abstractmethod
    def key(self, processor: str, group: str, *, deadline: float) -> ParkedKey | None:
        """One key; None where it is not parked."""

    @abstractmethod
    def add(self, processor: str, group: str, ids: Collection[str], added: float, *, deadline: float) -> float:
        """Add up to ``most_pending`` ids, of which those that are there are renewed: the time that they all stand under now.

        That is ``added``; or, where it is not later than every other add to the key (one that was under way for long, or by a
        clock that is behind), the next millisecond after those. Where it raises, a part of the ids may have been added.
        """

    @abstractmethod
    def count(
        self, processor: str, group: str, record_id: str, attempts: int, not_before: float | None, *, deadline: float
    ) -> None:
        """Note an id's failed tries and its not-before time; nothing where the id is not pending."""

    @abstractmethod
    def remove(self, processor: str, group: str, ids: Mapping[str, float], before: float, *, deadline: float) -> None:
        """Remove each of ``ids`` that was last added at the time given with it, and every id last added before ``before``.

        An id that is renewed meanwhile stays.
        """

    def close(self) -> None:
        """Release connections. The ledger is not used afterwards."""
        return

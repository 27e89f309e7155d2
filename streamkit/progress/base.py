"""The seam to what keeps progress: for each shard, entries that list the records which need not be run again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

__all__ = ["ProgressStore"]


class ProgressStore(ABC):
    """Subclass it for a store of your own. ``streamkit.testing.contracts.ProgressContract`` is the suite it has to pass.

    A store keeps bytes and does not look into them. An entry that it loses costs duplicates, so it may drop entries that no
    redelivery can need: those older than the stream's retention. One that comes back changed could cost records.
    """

    #: How many entries one look-up reads at most. Each of a shard's parallel lanes can have left one, and there are up to ten.
    most_entries: ClassVar[int] = 10
    #: ``Orders.progress``: the class and attribute that hold this store, for errors to say who wants something.
    owner: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner = f"{owner.__name__}.{name}"

    @abstractmethod
    def entries(self, processor: str, shard: str, up_to: int, *, deadline: float) -> Sequence[bytes]:
        """The entries of a shard (``<stream>/<shardId>``) under numbers up to ``up_to``, it included: the ``most_entries``
        with the highest numbers, the highest first.

        An entry is seen by every look-up that begins after its ``save`` returned. ``deadline`` is a time on
        ``time.monotonic()``'s clock. An exception means that nothing is known.
        """

    @abstractmethod
    def save(self, processor: str, shard: str, number: int, entry: bytes, *, deadline: float) -> None:
        """Keep ``entry`` (up to 132,000 bytes) under ``number``, in place of the one that is there. It is durable when this
        returns; an exception means that perhaps it is not kept.

        ``number`` is a sequence number of up to 128 digits; numbers compare as integers. Several invocations may save at
        once, and of two under one number either stays whole.
        """

    def close(self) -> None:
        """Release connections. The store is not used afterwards."""
        return

"""The seam to what keeps plans: for each processor, target and shard one entry, which goes from version to version."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import msgspec

__all__ = ["Entry", "PlanStore"]


class Entry(msgspec.Struct, frozen=True):
    """What stands in a shard's entry, and its version: 1 is the first."""

    version: int
    data: bytes


class PlanStore(ABC):
    """Subclass it for a store of your own. ``streamkit.testing.contracts.PlanContract`` is the suite it has to pass.

    A store keeps bytes and does not look into them. It must not lose an entry, or give an older one: what was written
    under it would be written again.
    """

    #: The longest ``data``, in bytes: what DynamoDB's 400 KB leave of an item.
    most_bytes: ClassVar[int] = 380_000
    #: ``Orders.plans``: the class and attribute that hold this store, for errors to say who wants something.
    owner: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner = f"{owner.__name__}.{name}"

    @abstractmethod
    def read(self, processor: str, target: str, shard: str, *, deadline: float) -> Entry | None:
        """The entry of a shard (``<stream>/<shardId>``) and of what is written to, None where it has none.

        It has every ``save`` in it that returned before this was called. ``deadline`` is a time on ``time.monotonic()``'s
        clock. An exception means that nothing is known.
        """

    @abstractmethod
    def save(self, processor: str, target: str, shard: str, entry: Entry, *, deadline: float) -> bool:
        """Put ``entry`` in the place of the version before it (of version 1: where there is none). Whether it stands there.

        False: another entry stands there, and nothing was changed. Of several who save one version at once, one has True.
        A repeat of the save of exactly this entry is True as long as it stands. It is durable when this returns; an exception
        means that perhaps it stands there.
        """

    def close(self) -> None:
        """Release connections. The store is not used afterwards."""
        return

"""The seam to what keeps cells: a small JSON object for each key, which is written only over the version that was read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import msgspec

__all__ = ["Cell", "CellStore"]


class Cell(msgspec.Struct, frozen=True):
    """A value as it was read or written. ``version`` is a text that no other write of any cell has."""

    value: dict[str, Any]
    version: str


class CellStore(ABC):
    """Subclass it for a store of your own. ``streamkit.testing.contracts.CellContract`` is the suite it has to pass.

    A method that raises has perhaps taken effect. A cell that is lost counts as one that was never written.
    """

    @abstractmethod
    def get(self, key: str) -> Cell | None:
        """The cell as the last ``put`` left it, of whichever process; None where there is none."""

    @abstractmethod
    def put(self, key: str, value: dict[str, Any], version: str, *, seen: Cell | None) -> bool:
        """Write ``value`` as ``version``, if the cell still has the version that was ``seen``, or is still not there. Whether
        it was written. Of several who have seen the same one writes.
        """

    def may_pass(self, error: Exception) -> bool:
        """Whether the same request may be taken later. By default nothing is known of an error, and it is not tried again."""
        return False

    def close(self) -> None:
        """Release connections. The store is not used afterwards."""
        return

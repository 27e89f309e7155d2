"""The seam to what keeps marks: for each key nothing, or who is at it and until when, or that it is done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

__all__ = ["Found", "MarkStore"]

#: What ``start`` found: it is the caller's now, it is done already, or another is at it.
Found = Literal["started", "done", "held"]


class MarkStore(ABC):
    """Subclass it for a store of your own. ``streamkit.testing.contracts.MarkContract`` is the suite it has to pass.

    Times are seconds since the epoch, of the caller's clock. A method that raises has perhaps taken effect. A mark that is
    lost costs a repeat of what it says; one of what was never done would lose it.
    """

    @abstractmethod
    def start(self, key: str, owner: str, *, now: float, until: float) -> Found:
        """Mark that ``owner`` is at it until a time, unless it is done, or another owner's until a time after ``now``.

        Of several who start at once, one has it. ``owner`` is a text that nobody else has, nor the same caller at another try.
        """

    @abstractmethod
    def finish(self, key: str, owner: str, *, now: float) -> bool:
        """Mark that it is done. Whether it was ``owner``'s still; if it was not, nothing is changed."""

    @abstractmethod
    def release(self, key: str, owner: str) -> None:
        """Remove the mark that ``owner`` is at it, if it is that still."""

    def close(self) -> None:
        """Release connections. The store is not used afterwards."""
        return

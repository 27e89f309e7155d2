"""Where parameters come from: one verb, ``fetch``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import msgspec

from ..errors import ConfigurationError

__all__ = ["Found", "Source", "check_name", "is_hierarchy"]

# What SSM takes in a name, but for the slashes between its parts.
_PARTS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class Found(msgspec.Struct, frozen=True):
    """A parameter as its source has it. ``version``: what the source calls this state of it, for the log; may be empty."""

    text: str
    is_secret: bool = False
    version: str = ""

    def __repr__(self) -> str:
        return f"Found(…, is_secret={self.is_secret}, version={self.version!r})"


class Source(ABC):
    """Subclass it for a source of your own."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What the log calls it: ``SSM /shop/orders``."""

    def place_of(self, name: str) -> str:
        """Where ``name`` would be, for the error that it is not there. It only tells what ``fetch`` has seen."""
        return self.label

    @abstractmethod
    def fetch(self, names: Sequence[str], *, deadline: float) -> Mapping[str, Found]:
        """What is there of ``names``, by its name; what is not there is left out.

        A name that ends with ``/`` is a hierarchy: all that lies under it, each by its whole name. ``deadline`` is a time on
        ``time.monotonic()``'s clock. An exception means that nothing is known: whatever was fetched before stays as it is. It is
        called from threads, by one at a time unless one was frozen in it.
        """

    def close(self) -> None:
        """Release connections; what is asked later makes new ones."""
        return


def is_hierarchy(name: str) -> bool:
    """Whether a name stands for all that lies under it."""
    return name.endswith("/")


def check_name(name: str) -> None:
    """ConfigurationError where it is no name of a parameter, as ``limit`` or ``db/password``."""
    parts = name.split("/")
    if not all(_PARTS.issuperset(part) and part.strip(".") for part in parts):
        raise ConfigurationError(
            f"a parameter is named by letters, digits, '_', '.' and '-', with '/' between its parts, as db/password; got {name!r}"
        )

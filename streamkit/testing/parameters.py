"""A source of parameters in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..config.source import Found, Source, is_hierarchy

__all__ = ["MemoryParameters"]


class MemoryParameters(Source):
    """``Config(MemoryParameters({"limit": "10"}))``; ``put`` and ``remove`` change it, as somebody would in SSM.

    ``fail(error)`` makes it give no answer, ``fail(None)`` mends it. ``asked`` has the names of each request.
    """

    def __init__(self, parameters: Mapping[str, str] | None = None) -> None:
        self._held = {name: Found(text, version="version 1") for name, text in (parameters or {}).items()}
        self._error: Exception | None = None
        self._puts = 1
        self.asked: list[tuple[str, ...]] = []

    @property
    def label(self) -> str:
        return "the memory"

    def put(self, name: str, text: str, *, is_secret: bool = False) -> None:
        self._puts += 1
        self._held[name] = Found(text, is_secret, f"version {self._puts}")

    def remove(self, name: str) -> None:
        del self._held[name]

    def fail(self, error: Exception | None) -> None:
        self._error = error

    def fetch(self, names: Sequence[str], *, deadline: float) -> Mapping[str, Found]:
        self.asked.append(tuple(names))
        if self._error is not None:
            raise self._error
        return {
            one: found
            for one, found in self._held.items()
            if one in names or any(is_hierarchy(name) and one.startswith(name) for name in names)
        }

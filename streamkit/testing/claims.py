"""A store of claims in memory."""

from __future__ import annotations

from ..claims.base import ClaimStore

__all__ = ["MemoryClaims"]


class MemoryClaims(ClaimStore):
    """Holds what is put into it in ``objects``, by key. ``fail(error)`` makes it raise, ``fail(None)`` mends it."""

    def __init__(self, bucket: str = "memory") -> None:
        self._bucket = bucket
        self._error: Exception | None = None
        self.objects: dict[str, bytes] = {}

    @property
    def bucket(self) -> str:
        return self._bucket

    def fail(self, error: Exception | None) -> None:
        """Raise ``error`` out of every put and get from now on; None mends it."""
        self._error = error

    def _put(self, name: str, content: bytes, deadline: float) -> str:
        if self._error is not None:
            raise self._error
        self.objects[name] = content
        return name

    def _get(self, key: str, length: int, deadline: float) -> bytes | None:
        if self._error is not None:
            raise self._error
        content = self.objects.get(key)
        return None if content is None else content[: length + 1]

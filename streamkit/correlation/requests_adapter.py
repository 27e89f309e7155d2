"""The adapter that adds headers to what a ``requests.Session`` sends, and leaves the sending to the session's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from requests.adapters import BaseAdapter

__all__ = ["Adapter"]


class Adapter(BaseAdapter):
    """Around the adapter that was mounted before, whose retries, pools and certificates stay as they are. ``add_to`` adds to a
    request's headers.
    """

    def __init__(self, inner: BaseAdapter, add_to: Callable[[Any], None]) -> None:
        super().__init__()
        self._inner = inner
        self._add_to = add_to

    def send(self, request: Any, *arguments: Any, **options: Any) -> Any:
        """Send it by the inner adapter, with what is followed in its headers."""
        self._add_to(request.headers)
        return self._inner.send(request, *arguments, **options)

    def close(self) -> None:
        self._inner.close()

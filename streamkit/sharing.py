"""What a container makes once and several share: the first who asks has it made, and the last who gives it back closes it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["Borrowed", "borrow"]


class _Shared:
    """A thing with a ``close()``, and how many have it."""

    def __init__(self, thing: Any) -> None:
        self.thing = thing
        self.holders = 0


class Borrowed:
    """It stays open until it is given back. To give it back twice is once."""

    def __init__(self, shared: _Shared, key: Hashable) -> None:
        self._shared = shared
        self._key = key
        self._is_back = False

    @property
    def thing(self) -> Any:
        return self._shared.thing

    def give_back(self) -> None:
        with _lock:
            if self._is_back:
                return
            self._is_back = True
            self._shared.holders -= 1
            if self._shared.holders:
                return
            del _made[self._key]
        self._shared.thing.close()


_made: dict[Hashable, _Shared] = {}
_lock = threading.Lock()


def borrow(key: Hashable, make: Callable[[], Any]) -> Borrowed:
    """What ``make`` has made for this key, which others may have too. Any thread may call it; one makes at a time."""
    with _lock:
        shared = _made.get(key)
        if shared is None:
            shared = _made[key] = _Shared(make())
        shared.holders += 1
    return Borrowed(shared, key)

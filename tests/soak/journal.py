"""What happened, in the order in which it happened, whoever did it: a file that all processes append to.

An entry is one ``write`` of 16 bytes to a file opened for appending, so entries are never cut or mixed, and those of a process
that is killed stay.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import NamedTuple

__all__ = ["Entry", "Journal", "Kind", "entries"]

_ENTRY = Struct("<BBBBIII")
_PAGE = _ENTRY.size * 65536


class Kind(IntEnum):
    """What an entry tells. ``number`` is the sequence number, ``sub`` the place in the aggregate."""

    #: A reader took the lease of a shard: when its process began, or when it had not renewed it in time.
    TAKEN = 1
    #: The function was called with a batch from ``number`` to ``sub``.
    INVOKED = 2
    #: Its answer has left it, and names ``number`` as the lowest that is not settled.
    ANSWERED = 3
    #: ``process`` began with a record: from the stream, or from a queue.
    STARTED = 4
    STARTED_FROM_QUEUE = 5
    #: ``process`` came through with it.
    THROUGH = 6
    #: The dead letters have taken it.
    LETTER = 7
    #: The engine gave all of a Kinesis record up, and the destination has taken its document.
    DISCARDED = 8
    #: It was run by a function that took longer than its message is unseen by others.
    OVERRUN = 9


class Entry(NamedTuple):
    kind: Kind
    stream: int
    shard: int
    number: int
    sub: int


class Journal:
    """The file at ``path``."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def add(self, kind: Kind, stream: int, shard: int, number: int = 0, sub: int = 0) -> None:
        os.write(self._file, _ENTRY.pack(kind, stream, shard, 0, number, sub, 0))

    def close(self) -> None:
        os.close(self._file)


def entries(path: Path) -> Iterator[Entry]:
    """All entries, in order."""
    kinds = {kind.value: kind for kind in Kind}
    with path.open("rb") as file:
        while page := file.read(_PAGE):
            for kind, stream, shard, _, number, sub, _ in _ENTRY.iter_unpack(page):
                yield Entry(kinds[kind], stream, shard, number, sub)

"""Runs on this machine that publish their state: what only the runner itself knows, batches in flight first of all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import msgspec

from ..published import STALE_AFTER, Published, PublishedShard, read_published
from .watch import Task, bound

__all__ = ["RunView", "Runs"]

_BETWEEN_READS = 1.0
_RATE_WINDOW = 10.0


class RunView(msgspec.Struct):
    """A run. ``is_stale``: it has written nothing for ten seconds. ``delivered`` is records a second over the last ten."""

    file: str
    reader: str = ""
    stream: str = ""
    pid: int | None = None
    seconds_old: float | None = None
    is_stale: bool = False
    delivered: float | None = None
    shards: tuple[PublishedShard, ...] = ()
    error: str = ""


class Runs:
    """The runs that write the files at ``paths`` (``streamkit run --status FILE``)."""

    def __init__(self, paths: list[str]) -> None:
        self._lock = threading.Lock()
        self._states: dict[str, list[Published]] = {path: [] for path in paths}

    def tasks(self) -> list[Task]:
        return [Task(f"run {path}", _BETWEEN_READS, bound(self._read, path)) for path in self._states]

    def view(self, error: Callable[[str], str]) -> list[RunView]:
        with self._lock:
            return [_view(path, states, error(f"run {path}")) for path, states in self._states.items()]

    def _read(self, path: str) -> None:
        state = read_published(path)
        with self._lock:
            # Another run has counts of its own.
            kept = [one for one in self._states[path] if one.pid == state.pid and one.at >= state.at - _RATE_WINDOW]
            self._states[path] = [*kept, state]


def _view(path: str, states: list[Published], error: str) -> RunView:
    if not states or error:
        return RunView(path, error=error)
    first, last = states[0], states[-1]
    seconds = last.at - first.at
    records = sum(one.records for one in last.shards) - sum(one.records for one in first.shards)
    old = max(0.0, time.time() - last.at)
    return RunView(
        path,
        last.reader,
        last.stream,
        last.pid,
        round(old, 1),
        old > STALE_AFTER,
        round(records / seconds, 1) if seconds > 0 else None,
        last.shards,
    )

"""Checkpoints that last as long as the process."""

from __future__ import annotations

import threading

from .base import CheckpointStore

__all__ = ["MemoryCheckpoints"]


class MemoryCheckpoints(CheckpointStore):
    """For tests, and for readers that are to begin anew each time."""

    def __init__(self) -> None:
        self._checkpoints: dict[tuple[str, str, str], int] = {}
        self._lock = threading.Lock()

    def get(self, reader: str, stream: str, shard_id: str) -> int | None:
        return self._checkpoints.get((reader, stream, shard_id))

    def save(self, reader: str, stream: str, shard_id: str, sequence_number: int) -> None:
        key = (reader, stream, shard_id)
        with self._lock:
            held = self._checkpoints.get(key)
            if held is None or sequence_number > held:
                self._checkpoints[key] = sequence_number

"""Where positions are kept, by what ``--checkpoints`` says."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ..checkpoints.base import CheckpointStore

__all__ = ["IN_MEMORY", "add_checkpoints", "checkpoints_of", "open_checkpoints"]

IN_MEMORY = ":memory:"
_DEFAULT = "streamkit.sqlite"


def add_checkpoints(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--checkpoints", default=_DEFAULT, metavar="FILE", help=f"{what} (%(default)s)")


def open_checkpoints(place: str) -> CheckpointStore:
    """The store that ``place`` names; it is for the caller to close."""
    if place == IN_MEMORY:
        from ..checkpoints.memory import MemoryCheckpoints

        return MemoryCheckpoints()
    from ..checkpoints.sqlite import SqliteCheckpoints

    return SqliteCheckpoints(place)


def checkpoints_of(store: CheckpointStore, reader: str, stream: str, shard_ids: Iterable[str]) -> dict[str, int]:
    """The checkpoint of each of these shards that has one."""
    found = {shard_id: store.get(reader, stream, shard_id) for shard_id in shard_ids}
    return {shard_id: checkpoint for shard_id, checkpoint in found.items() if checkpoint is not None}

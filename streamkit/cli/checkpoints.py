"""Where positions are kept, by what ``--checkpoints`` says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..checkpoints.base import CheckpointStore
from ..errors import ConfigurationError
from .usage import named

__all__ = ["IN_MEMORY", "add_checkpoints", "checkpoints_of", "open_checkpoints"]

IN_MEMORY = ":memory:"
_DEFAULT = "streamkit.sqlite"
_DYNAMODB = "dynamodb:"


def add_checkpoints(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument(
        "--checkpoints",
        type=_place,
        default=_DEFAULT,
        metavar="FILE",
        help=f"{what} (%(default)s); {_DYNAMODB}TABLE for a DynamoDB table, which runners on several machines can share",
    )


def open_checkpoints(place: str, dynamodb: Any = None, *, must_exist: bool = False) -> CheckpointStore:
    """The store that ``place`` names; it is for the caller to close. ``dynamodb`` makes boto3's client where that is needed."""
    if place == IN_MEMORY:
        from ..checkpoints.memory import MemoryCheckpoints

        return MemoryCheckpoints()
    if place.startswith(_DYNAMODB):
        from ..checkpoints.dynamodb import DynamoDbCheckpoints

        return DynamoDbCheckpoints(place.removeprefix(_DYNAMODB), client=dynamodb())
    from ..checkpoints.sqlite import SqliteCheckpoints

    if must_exist and not Path(place).exists():
        raise ConfigurationError(f"there is no file {place}: --checkpoints names that of `streamkit run`")
    return SqliteCheckpoints(place)


def _place(text: str) -> str:
    if named(text) == _DYNAMODB:
        raise argparse.ArgumentTypeError(f"{text} names no table: write it as {_DYNAMODB}TABLE")
    return text


def checkpoints_of(store: CheckpointStore, reader: str, stream: str) -> dict[str, int]:
    """The checkpoint of each shard that has one."""
    leases = store.leases(reader, stream)
    return {shard_id: lease.checkpoint for shard_id, lease in leases.items() if lease.checkpoint is not None}

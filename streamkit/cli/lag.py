"""``streamkit lag``: how far a reader is behind, shard by shard."""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import msgspec

from ..errors import StreamkitError
from .checkpoints import add_checkpoints, checkpoints_of, open_checkpoints
from .connection import add_connection, connected
from .shards import ShardCursor, StreamShard, arrival_of, shards_of
from .terminal import duration, flush, shortened, write
from .usage import named, seconds

__all__ = ["DESCRIPTION", "EPILOG", "NAME", "SUMMARY", "add_options", "command"]

NAME = "lag"
SUMMARY = "tell how far a reader is behind, shard by shard"
DESCRIPTION = """\
Tell how far a reader of `streamkit run` is behind: for each shard the age of the first record after the reader's checkpoint,
0 where there is none. It reads the checkpoints and the stream, and not the reader: it works the same while that is down."""
EPILOG = """\
examples:
  streamkit lag orders --name orders
      the name is the processor's, or the --name of `streamkit run`
  streamkit lag orders --name orders --max 300 || page-somebody
      for scripts: ends with 1 when a shard is over five minutes behind
  streamkit lag orders --name orders --json
      one object a line: shard_id, age (seconds), checkpoint (a text, or null)

A shard without a checkpoint counts from its oldest record, so a reader that began at LATEST and has not come through a batch
yet looks older than it is. The checkpoints of a function in Lambda are Lambda's own: its metric IteratorAge tells its lag.

exit code: 0 when fine, 1 when a shard is over --max, 2 when it can't be told (what was typed wrong, and errors, too)."""

_AT_ONCE = 8
# Reads of one shard until a record is found: empty pages come before it where the shard has gaps.
_MOST_READS = 50


class _Lag(msgspec.Struct):
    shard_id: str
    #: Seconds.
    age: float
    checkpoint: str | None


def add_options(lag: argparse.ArgumentParser) -> None:
    lag.set_defaults(error_code=2)
    lag.add_argument("stream", type=named, metavar="STREAM")
    lag.add_argument("--name", required=True, metavar="READER", help="whose checkpoints: the processor's name")
    add_checkpoints(lag, "where they are kept")
    lag.add_argument("--max", type=seconds, metavar="SECONDS", help="end with 1 when a shard's age is over it")
    lag.add_argument("--json", action="store_true", help="JSON lines, one for each shard")
    add_connection(lag)


def command(options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        store = open_checkpoints(
            options.checkpoints,
            lambda: stack.enter_context(connected(options, options.stream, "dynamodb")),
            must_exist=True,
        )
        stack.callback(store.close)
        client = stack.enter_context(connected(options, options.stream))
        shards = shards_of(client, options.stream)
        checkpoints = checkpoints_of(store, options.name, options.stream)
        if not checkpoints:
            raise StreamkitError(
                f"{options.checkpoints} has no checkpoint of {options.name!r} in {options.stream}: "
                "check --name, or the reader has not come through a batch yet"
            )
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            lags = list(pool.map(lambda shard: _lag(client, options.stream, shard, checkpoints), shards.values()))
    if options.json:
        for lag in lags:
            write(msgspec.json.encode(lag).decode() + "\n")
    else:
        width = max(len(lag.shard_id) for lag in lags)
        write(f"{'shard':<{width}}  {'age':>10}  checkpoint\n")
        for lag in lags:
            write(f"{lag.shard_id:<{width}}  {duration(lag.age):>10}  {shortened(lag.checkpoint)}\n")
    flush()
    return 1 if options.max is not None and max(lag.age for lag in lags) > options.max else 0


def _lag(client: Any, stream: str, shard: StreamShard, checkpoints: dict[str, int]) -> _Lag:
    checkpoint = checkpoints.get(shard.id)
    if checkpoint is None:
        start = {"ShardIteratorType": "TRIM_HORIZON"}
    else:
        start = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": str(checkpoint)}
    cursor = ShardCursor(client, stream, shard, start)
    known = None if checkpoint is None else str(checkpoint)
    for _ in range(_MOST_READS):
        records = cursor.read(limit=1)
        if records:
            return _Lag(shard.id, max(0.0, time.time() - arrival_of(records[0])), known)
        if cursor.has_ended or cursor.is_caught_up:
            return _Lag(shard.id, 0.0, known)
        time.sleep(max(0.0, cursor.next_read - time.monotonic()))
    return _Lag(shard.id, cursor.behind, known)

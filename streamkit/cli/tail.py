"""``streamkit tail``: the records of a stream as they come."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pybase64

from ..errors import DecodeError
from ..kpl import UserRecord, deaggregate
from ..plural import counted
from .connection import add_connection, connected
from .shards import ShardCursor, arrival_of, shards_of
from .terminal import flush, printable, say, shortened, write
from .usage import UsageError, moment, named

__all__ = ["DESCRIPTION", "EPILOG", "NAME", "SUMMARY", "add_options", "command"]

NAME = "tail"
SUMMARY = "print the records of a stream as they come"
DESCRIPTION = """\
Print the records of a stream as they come: time of arrival, shard, partition key, position, data. Aggregates of the KPL are
opened. It changes nothing and keeps no checkpoint, but it shares the 5 reads a second of each shard with other readers.

Shards are followed through splits and merges: a new shard is read from its start, once its parents were read to their end.
Ctrl-C ends it."""
EPILOG = """\
examples:
  streamkit tail orders
      what arrives from now on
  streamkit tail orders --from TRIM_HORIZON --limit 10
      the oldest ten
  streamkit tail orders --from 2026-05-01T12:00Z --no-follow --json > noon.jsonl
      from a time on, up to now, for programs
  streamkit tail orders --json | jq -r .data
      the data alone

In text, the position is the first and last digits of the sequence number, with /n for record n of an aggregate; data that is not
UTF-8 is base64:…; control characters are shown as \\x1b and the like, so that no payload can play with your terminal.

--json writes one object a line: time, shard_id, partition_key, sequence_number, sub_sequence_number (null where the record is
not of an aggregate), and data, or data_base64 where it is not UTF-8; error where an aggregate is damaged.

exit code: 0, 1 when something went wrong, 2 for what was typed wrong, 130 after Ctrl-C."""

_POSITIONS = ("LATEST", "TRIM_HORIZON")


def add_options(tail: argparse.ArgumentParser) -> None:
    tail.add_argument("stream", type=named, metavar="STREAM")
    tail.add_argument(
        "--from",
        dest="start",
        type=_start,
        metavar="WHERE",
        help="LATEST (the default), TRIM_HORIZON (the oldest; the default of --no-follow), or a time: 2026-05-01T12:00Z, by this "
        "machine's clock where it has no zone, or seconds since the epoch",
    )
    tail.add_argument("--shard", metavar="ID", help="this shard alone, without those that come after it")
    tail.add_argument("--limit", type=int, metavar="N", help="end after N records")
    tail.add_argument(
        "--follow",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="wait for what comes; --no-follow ends at what is there now",
    )
    tail.add_argument("--json", action="store_true", help="JSON lines, with all of each record")
    add_connection(tail)


def command(options: argparse.Namespace) -> int:
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit {options.limit}: end after how many records? 1 or more")
    with connected(options, options.stream) as client:
        left = options.limit
        for shard_id, records in _pages(client, options):
            for record in records:
                for one in _opened(record):
                    write(_json_line(shard_id, record, one) if options.json else _line(shard_id, record, one))
                    if left is not None and (left := left - 1) == 0:
                        flush()
                        return 0
            flush()
    return 0


def _pages(client: Any, options: argparse.Namespace) -> Iterator[tuple[str, list[Any]]]:
    """What each read brings, with its shard. A shard begins when all its parents were read."""
    start = options.start or {"ShardIteratorType": "LATEST" if options.follow else "TRIM_HORIZON"}
    shards = shards_of(client, options.stream)
    if options.shard is not None:
        if options.shard not in shards:
            raise UsageError(f"{options.stream} has no shard {options.shard}: there are {', '.join(shards)}")
        shards = {options.shard: shards[options.shard]}
    from_newest = start["ShardIteratorType"] == "LATEST"
    # What a closed shard holds is not new.
    read = {shard.id for shard in shards.values() if shard.is_closed} if from_newest else set()
    cursors: dict[str, ShardCursor] = {}

    def begin(where: dict[str, Any]) -> None:
        for shard in shards.values():
            parents = [parent for parent in shard.parents if parent in shards]
            if shard.id not in cursors and shard.id not in read and read.issuperset(parents):
                cursors[shard.id] = ShardCursor(client, options.stream, shard, where)

    begin(start)
    if options.follow and sys.stderr.isatty():
        say(f"reading {counted(len(cursors), 'shard')} of {options.stream} as records come; Ctrl-C ends")
    while cursors:
        for cursor in list(cursors.values()):
            if cursor.next_read > time.monotonic():
                continue
            records = cursor.read()
            if records:
                yield cursor.shard.id, records
            if cursor.has_ended or (cursor.is_caught_up and not options.follow):
                del cursors[cursor.shard.id]
                read.add(cursor.shard.id)
                if cursor.has_ended and options.shard is None:
                    shards |= shards_of(client, options.stream)
                    # Nothing of a shard that came after is older than the start, whatever that was.
                    begin(start if not from_newest else {"ShardIteratorType": "TRIM_HORIZON"})
        if cursors:
            time.sleep(max(0.0, min(cursor.next_read for cursor in cursors.values()) - time.monotonic()))


def _opened(record: Any) -> Iterator[UserRecord | None]:
    """The user records of an aggregate; None for a record that is none."""
    try:
        users = deaggregate(record["Data"])
    except DecodeError as error:
        yield UserRecord(record["Data"], record.get("PartitionKey"), error=error)
        return
    if users is None:
        yield None
    else:
        yield from users


def _line(shard_id: str, record: Any, user: UserRecord | None) -> str:
    data, key = (record["Data"], record.get("PartitionKey")) if user is None else (user.data, user.partition_key)
    position = shortened(record["SequenceNumber"]) + ("" if user is None else f"/{user.sub_sequence_number}")
    try:
        text = printable(data.decode())
    except UnicodeDecodeError:
        text = f"base64:{pybase64.b64encode(data).decode()}"
    if user is not None and user.error is not None:
        text = f"({user.error}) {text}"
    return f"{_time(record)} {printable(shard_id)} {printable(key or '–')} {position} {text}\n"


def _json_line(shard_id: str, record: Any, user: UserRecord | None) -> str:
    data, key = (record["Data"], record.get("PartitionKey")) if user is None else (user.data, user.partition_key)
    line = {
        "time": _time(record),
        "shard_id": shard_id,
        "partition_key": key or None,
        "sequence_number": record["SequenceNumber"],
        "sub_sequence_number": None if user is None else user.sub_sequence_number,
    }
    if user is not None and user.explicit_hash_key is not None:
        line["explicit_hash_key"] = user.explicit_hash_key
    if user is not None and user.error is not None:
        line["error"] = str(user.error)
    try:
        line["data"] = data.decode()
    except UnicodeDecodeError:
        line["data_base64"] = pybase64.b64encode(data).decode()
    text = msgspec.json.encode(line).decode()
    # JSON escapes no control characters above ASCII, which a terminal obeys too.
    return f"{text if text.isprintable() else json.dumps(line)}\n"


def _time(record: Any) -> str:
    arrived = datetime.fromtimestamp(arrival_of(record), UTC)
    return arrived.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _start(text: str) -> dict[str, Any]:
    """The arguments of GetShardIterator that ``--from`` stands for."""
    if text.upper() in _POSITIONS:
        return {"ShardIteratorType": text.upper()}
    try:
        return {"ShardIteratorType": "AT_TIMESTAMP", "Timestamp": moment(text)}
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"neither LATEST nor TRIM_HORIZON, and {error}") from None

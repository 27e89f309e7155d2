"""``streamkit parked``: the keys that ``Park`` holds aside, how long already, and a way to clear away what is stale."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from ..errors import ConfigurationError, StreamkitError
from ..failure import group_of_key
from ..ledgers.base import ParkedKey
from ..ledgers.dynamodb import DynamoDbLedger
from ..parking import is_stale, sweep
from ..plural import counted
from ..queues.sqs import SqsQueue
from ..reason import reason
from .connection import add_connection, connected, error_code
from .terminal import duration, say
from .usage import UsageError, seconds

__all__ = [
    "DESCRIPTION",
    "EPILOG",
    "NAME",
    "SUMMARY",
    "ParkedRow",
    "add_options",
    "command",
    "known_ledger",
    "parked_rows",
]

NAME = "parked"
SUMMARY = "list the keys that Park holds aside, and how long already"
DESCRIPTION = """\
List the keys of a processor that Park holds aside: of each the FIFO group that its records stand in, how many there are, how
long the oldest has been there and the key has been parked, and how many tries of one have failed at most. Keys can be personal
data, so the ledger does not hold them; --key finds one that you know."""
EPILOG = """\
examples:
  streamkit parked parked-keys --name orders
      the name is the processor's
  streamkit parked parked-keys --name orders --key customer-17
      only that partition key
  streamkit parked parked-keys --name orders --max-age 900 || page-somebody
      for scripts: ends with 1 when a record has been parked for over a quarter of an hour
  streamkit parked parked-keys --name orders --metric Streamkit
      puts ParkedKeys, ParkedRecords and OldestParkedAge into CloudWatch, for an alarm
  streamkit parked parked-keys --name orders --repair --queue URL
      sends a sweep to each key with ids that may have no message (--dry-run: tells which)
  streamkit parked parked-keys --name orders --json
      one object a line: group, records, oldest_age, parked_for (seconds), attempts, not_before

A function that was killed between adding ids and sending their messages leaves ids that no message will take away; they go with
the key's next record, or with a sweep. A sweep stands in the queue behind all that is there of its key, and the function clears
away what it then knows to be stale: so nothing that still has a message can go, and nothing happens while one of them fails.

exit code: 0 when fine, 1 when a record is older than --max-age, 2 when it can't be told (wrong usage, and errors, too)."""


class ParkedRow(msgspec.Struct):
    """One key. Ages are seconds."""

    group: str
    records: int
    oldest_age: float
    parked_for: float
    attempts: int
    #: Seconds since the epoch before which the first of its records that wait does not run; null where none waits.
    not_before: float | None


def add_options(parked: argparse.ArgumentParser) -> None:
    parked.set_defaults(error_code=2)
    parked.add_argument("table", metavar="TABLE", help="the DynamoDB table of the policy's ledger")
    parked.add_argument("--name", required=True, metavar="PROCESSOR", help="whose keys: the processor's name")
    parked.add_argument("--key", metavar="KEY", help="only this partition key")
    parked.add_argument(
        "--max-age", type=seconds, metavar="SECONDS", help="end with 1 when a record is parked for longer"
    )
    parked.add_argument("--metric", metavar="NAMESPACE", help="put the figures into CloudWatch, under this namespace")
    parked.add_argument("--json", action="store_true", help="JSON lines, one for each key")
    repair = parked.add_argument_group("repair")
    repair.add_argument("--repair", action="store_true", help="send a sweep to each key with ids that may be stale")
    repair.add_argument("--queue", metavar="URL", help="the policy's FIFO queue, for --repair")
    repair.add_argument("--dry-run", action="store_true", help="with --repair: tell which keys, and send nothing")
    add_connection(parked)


def command(options: argparse.Namespace) -> int:
    if options.repair and not (options.queue or "").endswith(".fifo"):
        raise UsageError("--repair needs --queue with the URL of the policy's FIFO queue, which ends in .fifo")
    if not options.repair and (options.queue or options.dry_run):
        raise UsageError("--queue and --dry-run go with --repair")
    with connected(options, options.table, "dynamodb", noun="table") as client, known_ledger(options.table):
        keys = DynamoDbLedger(options.table, client=client).parked(options.name, deadline=time.monotonic() + 60.0)
    now = time.time()
    if options.key is not None:
        group = group_of_key(options.name, options.key)
        keys = {group: keys[group]} if group in keys else {}
    parked = parked_rows(keys, now)
    _print(parked, as_json=options.json)
    if options.metric:
        _put_metrics(options, parked)
    if options.repair:
        _repair(options, keys, now)
    oldest = max((one.oldest_age for one in parked), default=0.0)
    return 1 if options.max_age is not None and oldest > options.max_age else 0


@contextmanager
def known_ledger(table: str) -> Iterator[None]:
    """A name that was typed wrong is told in the block: of no table, or of another one."""
    try:
        yield
    except ConfigurationError as error:
        # Whoever types a name wrong has no need of a new table.
        raise StreamkitError(
            f"table {table}: there is no such table here: check the name, --region, --profile and --endpoint-url; "
            "`aws dynamodb list-tables` names those there are"
        ) from error
    except Exception as error:
        if error_code(error) == "ValidationException" and "schema" in str(error):
            raise StreamkitError(
                f"table {table}: it is no ledger of Park's, whose keys are `processor` and `group`: check the name"
            ) from error
        raise


def parked_rows(keys: Mapping[str, ParkedKey], now: float) -> list[ParkedRow]:
    """A row for each key, the one with the oldest record first. ``now`` is seconds since the epoch."""
    return sorted((_row(group, key, now) for group, key in keys.items()), key=lambda one: -one.oldest_age)


def _row(group: str, key: ParkedKey, now: float) -> ParkedRow:
    pending = key.pending.values()
    waiting = [one.not_before for one in pending if one.not_before is not None and one.not_before > now]
    return ParkedRow(
        group=group,
        records=len(pending),
        oldest_age=round(max(0.0, now - min(one.added for one in pending)), 3),
        parked_for=round(max(0.0, now - key.since), 3),
        attempts=max(one.attempts for one in pending),
        not_before=min(waiting, default=None),
    )


def _print(parked: list[ParkedRow], *, as_json: bool) -> None:
    write = sys.stdout.write
    if as_json:
        for one in parked:
            write(msgspec.json.encode(one).decode() + "\n")
    elif not parked:
        write("no key is parked\n")
    else:
        write(f"{'group':<32}  {'records':>7}  {'oldest':>12}  {'parked for':>12}  tries\n")
        for one in parked:
            ages = f"{duration(one.oldest_age):>12}  {duration(one.parked_for):>12}"
            write(f"{one.group:<32}  {one.records:>7}  {ages}  {one.attempts:>5}\n")
    sys.stdout.flush()


def _put_metrics(options: argparse.Namespace, parked: list[ParkedRow]) -> None:
    figures = (
        ("ParkedKeys", "Count", len(parked)),
        ("ParkedRecords", "Count", sum(one.records for one in parked)),
        ("OldestParkedAge", "Seconds", max((one.oldest_age for one in parked), default=0.0)),
    )
    dimensions = [{"Name": "Processor", "Value": options.name}]
    data = [
        {"MetricName": name, "Unit": unit, "Value": value, "Dimensions": dimensions} for name, unit, value in figures
    ]
    with connected(options, options.metric, "cloudwatch", noun="namespace") as client:
        client.put_metric_data(Namespace=options.metric, MetricData=data)


def _repair(options: argparse.Namespace, keys: Mapping[str, ParkedKey], now: float) -> None:
    groups = [group for group, key in keys.items() if any(is_stale(one.added, now) for one in key.pending.values())]
    if options.dry_run or not groups:
        say(f"{counted(len(groups), 'key')} would get a sweep" if groups else "no key has ids that may be stale")
        for group in groups:
            say(f"  {group}")
        return
    with connected(options, options.queue, "sqs", noun="queue") as client:
        refusals = SqsQueue(options.queue, client=client).send(
            [sweep(options.name, group) for group in groups], deadline=time.monotonic() + 60.0
        )
    if refusals:
        error: Any = refusals[0].error
        raise StreamkitError(
            f"queue {options.queue}: it took {len(groups) - len(refusals)} of {counted(len(groups), 'sweep')}: {reason(error)}"
        )
    say(f"sent a sweep to {counted(len(groups), 'key')}: look again when the function has come to them")

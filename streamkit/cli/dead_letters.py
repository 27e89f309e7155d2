"""``streamkit dead-letters``: what lies in a dead-letter queue, and why."""

from __future__ import annotations

import argparse

from .connection import add_connection
from .letter_options import SOURCE_HELP, add_filters, add_recovery
from .usage import UsageError, positive_seconds

__all__ = ["DESCRIPTION", "EPILOG", "NAME", "SUMMARY", "add_options", "command"]

NAME = "dead-letters"
SUMMARY = "list, count, show and export dead letters"
DESCRIPTION = f"""\
List what lies in a dead-letter queue, and why.

{SOURCE_HELP}

It takes nothing away. But SQS has no look that leaves no trace: what is looked at can't be seen by others meanwhile, and its
receive count goes up by one; where the queue has a redrive policy of its own, that policy counts it too (and you are told).

Payloads can be personal data, so none is shown without --payload."""
EPILOG = """\
examples:
  streamkit dead-letters orders-dead --count
      what is wrong, how often, since when: look here first
  streamkit dead-letters orders-dead --error KeyError --since 2026-05-01T03:00Z
      those of one cause
  streamkit dead-letters orders-dead --id 'orders/shardId-000000000000:4959…:0' --payload
      one of them whole
  streamkit dead-letters orders-dead --export letters.jsonl
      all of them, payloads included, to work on; `streamkit redrive letters.jsonl …` takes the file as it takes the queue
  streamkit dead-letters s3://discarded/aws/lambda/ --count
      the documents that Lambda has put into a bucket

A failure document of Lambda's is one line that says which records it is about; --fetch gets them from the stream, as
processors/dead_letters.py does when one arrives. A line that begins with `?` can't be read, and says why.

--json writes one object a line: kind ("letter", "document", "unreadable"), place, event_id, processor, partition_key, failed_at,
error_type, error, attempts, redrives, source, sequence_number, shard_id, stream_arn, bytes, receives; with --payload data, or
data_base64 where it is not UTF-8, or undecoded. With --count: count, processor, error_type, error, first, last, example.

Of a FIFO queue SQS shows the first ten of each group only, until those are gone: how many more there are is said at the end.

exit code: 0, 1 when something could not be read or seen or went wrong, 2 for what was typed wrong, 130 after Ctrl-C."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--count", action="store_true", help="count by cause, the most frequent first")
    form.add_argument("--export", metavar="FILE", help="write them whole, as JSON lines; - is stdout")
    parser.add_argument("--payload", action="store_true", help="show what is in them")
    parser.add_argument("--json", action="store_true", help="JSON lines, for programs")
    parser.add_argument("--limit", type=int, metavar="N", help="end after N letters")
    parser.add_argument("--fetch", action="store_true", help="get the records of failure documents from their stream")
    parser.add_argument(
        "--hold",
        type=positive_seconds,
        metavar="SECONDS",
        help="how long what is looked at is unseen by others, should this command die (60, and more for a large queue)",
    )
    add_filters(parser)
    add_recovery(parser)
    add_connection(parser)


def command(options: argparse.Namespace) -> int:
    if options.limit is not None and options.limit < 1:
        raise UsageError(f"--limit {options.limit}: end after how many letters? 1 or more")
    if options.export is not None and (options.json or options.payload):
        raise UsageError("--export writes letters whole, as JSON: leave --json and --payload out")
    from .letter_list import show

    return show(options)

"""``streamkit redrive``: dead letters back to where they can be processed."""

from __future__ import annotations

import argparse
import sys

from .connection import add_connection
from .letter_options import SOURCE_HELP, add_filters, add_recovery
from .usage import UsageError, positive_seconds, seconds

__all__ = ["DESCRIPTION", "EPILOG", "NAME", "SUMMARY", "add_options", "command"]

NAME = "redrive"
SUMMARY = "put dead letters back: to a retry queue or a stream, in order, once"
DESCRIPTION = f"""\
Put dead letters back to where they can be processed: to the processor's retry queue or topic, or to a stream.

{SOURCE_HELP}

Letters of one key go in the order of the stream, each when the one before it is confirmed. A letter is deleted from its queue
only when the target has confirmed it and that is recorded in --state; from S3 and from files nothing is deleted. What can't be
put back (unreadable, without data, refused) stays where it is, and is named. In a terminal you are asked first; elsewhere give
--yes or --dry-run."""
EPILOG = """\
examples:
  streamkit redrive orders-dead --to-queue orders-retries --dry-run
      what would happen; nothing is changed
  streamkit redrive orders-dead --to-queue orders-retries --error KeyError --rate 50
      those of one cause, 50 a second
  streamkit redrive orders-dead --to-queue orders-retries --id 'orders/shardId-000000000000:4959…:0'
      one, to see whether the cause is mended
  streamkit redrive letters.jsonl --to-stream orders --yes
      an export, into the stream again

--to-queue, --to-topic
            the envelope goes back with its event id, its failures and all attempts before it: the processor sees the same event
--to-stream
            the payload goes back under its partition key: a new record with a new event id, which every reader of the stream sees

Ctrl-C (or SIGTERM) ends it after the request in hand and gives the rest back; a second one at once. Started again with the same
--state it goes on where it was, however it ended. Killed between a target's confirmation and its record, it sends those letters
(one request at most) a second time; a FIFO queue drops the second copy within five minutes. After a kill the letters it held are
unseen for --hold seconds; the next run waits for them, since they may be the earlier ones of a key. What fails again while it
runs is left for the next run.

exit code: 0 when all that was asked for was put back, 1 when something stayed or went wrong, 2 for what was typed wrong, 130 or
143 when told to stop."""

_DEFAULT_STATE = "streamkit-redrive.sqlite"
_AT_ONCE = 20_000


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--to-queue", metavar="QUEUE", help="the processor's retry queue: its URL or its name")
    target.add_argument("--to-topic", metavar="ARN", help="the processor's retry topic")
    target.add_argument("--to-stream", metavar="STREAM", help="a stream, such as the one they came from")
    parser.add_argument("--dry-run", action="store_true", help="say what would be put back, and change nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--rate", type=positive_seconds, metavar="N", help="at most N letters a second")
    parser.add_argument(
        "--state", default=_DEFAULT_STATE, metavar="FILE", help="what was put back is recorded there (%(default)s)"
    )
    parser.add_argument(
        "--claims-bucket", metavar="BUCKET", help="where envelopes go that are too large for the retry queue"
    )
    parser.add_argument("--json", action="store_true", help="the summary as JSON on stdout, for programs")
    parser.add_argument(
        "--at-once",
        type=int,
        default=_AT_ONCE,
        metavar="N",
        help="how many letters are held and sorted at once (%(default)s): a key keeps its order among those",
    )
    parser.add_argument(
        "--hold",
        type=positive_seconds,
        default=300.0,
        metavar="SECONDS",
        help="how long letters are unseen by others, should this command be killed (%(default)g); renewed while it runs",
    )
    parser.add_argument(
        "--wait",
        type=seconds,
        default=600.0,
        metavar="SECONDS",
        help="how long to wait for letters that somebody else holds, such as a run that was killed (%(default)g)",
    )
    parser.add_argument(
        "--patience",
        type=positive_seconds,
        default=30.0,
        metavar="SECONDS",
        help="how long a request is tried for (%(default)g); when three have failed, it gives up",
    )
    add_filters(parser)
    add_recovery(parser)
    add_connection(parser)


def command(options: argparse.Namespace) -> int:
    if options.at_once < 1:
        raise UsageError(f"--at-once {options.at_once}: how many letters are held at once? 1 or more")
    asks = not options.yes and not options.dry_run
    if asks and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("nobody can be asked here: --dry-run says what would be put back, --yes puts it back")
    from .redriving import redrive

    return redrive(options, asks=asks)

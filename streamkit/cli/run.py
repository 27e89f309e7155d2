"""``streamkit run``: a function on a stream, as Lambda runs it behind an event source mapping."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

import msgspec

from ..errors import StreamkitError
from .checkpoints import IN_MEMORY, add_checkpoints, open_checkpoints
from .connection import add_connection, connected
from .function import handler_name, load, name_of
from .settings import add_settings, settings_of
from .terminal import say
from .usage import UsageError, named, positive_seconds, typed

if TYPE_CHECKING:
    from ..checkpoints.base import CheckpointStore
    from ..local.destinations import Destination
    from ..local.settings import Settings
    from .board import Board
    from .view import View

__all__ = ["DESCRIPTION", "EPILOG", "NAME", "SUMMARY", "add_options", "command"]

NAME = "run"
SUMMARY = "run a function on a stream, as an event source mapping of Lambda does"
DESCRIPTION = """\
Run a function on a stream, as Lambda does behind an event source mapping: the same batches, retries and answers, from the
same JSON. A checkpoint is saved after each answer, so a run that ends in whatever way goes on from there.

In a terminal it shows its shards as they move; elsewhere it writes a line for each invocation to stderr.
Ctrl-C (or SIGTERM) finishes the batch in hand, flushes its writes and saves its checkpoint; a second one stops at once, and
the batch in hand is delivered again by the next run."""
EPILOG = """\
examples:
  streamkit run orders:handler --stream orders
      the `handler = lambda_handler(Orders)` of orders.py, from its checkpoints on; at first from the oldest record
  streamkit run orders:handler --stream orders --starting-position LATEST --batch-size 500
      at first from what arrives from now on; 500 records at once
  streamkit run orders:handler --stream orders --retry-queue $RETRIES
      with a Divert policy: the queue of failed records triggers the function too
  streamkit run orders:handler --stream orders --json | jq 'select(.type == "summary")'

columns of the live view:
  shard      its number; `queue` is the retry queue, where there is one
  position   the last sequence number below which everything is settled
  age        between now and the arrival of the oldest record that is not settled; 0 when all is
  failed batches, retries   batches that did not succeed as a whole, and how often one was tried again
  diverted, dead letters    records that the function has sent aside; – where it does not say (not a lambda_handler)
  throttled, failed reads   where there are any: reads that Kinesis refused as too many, and those that failed otherwise
  given up   records past --maximum-retry-attempts or their age: their failure documents went to --on-failure, or to the log

  In a narrow terminal columns that count nothing are left out first, then the least useful; the position never.

--json writes one object a line to stdout, told apart by "type":
  invocation   a batch, before it is invoked: source, stream, shard_id, records, first, last; for a queue: queue, records
  shards       every few seconds while something changes: one object for each shard
  summary      at the end: total, and the shards once more
  error        why it ended, where it did not end well
  Ages are seconds, times are ISO 8601 in UTC, positions are texts. What the function prints goes to stderr.

--region, --profile and --endpoint-url are for the stream and the retry queue; the function's own sinks and queues take theirs
from the environment, as in Lambda.

exit code: 0 when told to stop, 1 when something went wrong, 2 for what was typed wrong, 130 or 143 when stopped at once."""


_REPEAT_SECONDS = 0.3


def add_options(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "handler", metavar="MODULE:HANDLER", type=handler_name, help="where the function is: orders:handler"
    )
    run.add_argument("--stream", required=True, type=named, metavar="NAME", help="the Kinesis stream to read")
    run.add_argument(
        "--name",
        help="whose checkpoints these are, and the function's name in metrics; by default the processor's name",
    )
    add_checkpoints(run, f"where positions are kept; {IN_MEMORY} forgets them at the end")
    run.add_argument(
        "--create-table", action="store_true", help="make the DynamoDB table of --checkpoints where it is not there yet"
    )
    run.add_argument(
        "--lease-seconds",
        type=positive_seconds,
        default=10.0,
        metavar="N",
        help="how long the shards of a run that died stay its own (%(default)g); the same for all runs of a name",
    )
    run.add_argument(
        "--consumer", metavar="ARN", help="a registered consumer of the stream: read by enhanced fan-out, as that"
    )
    run.add_argument(
        "--on-failure",
        metavar="ARN",
        help="where failure documents of records that were given up go: an SQS queue, an SNS topic or an S3 bucket",
    )
    run.add_argument("--retry-queue", type=named, metavar="URL", help="an SQS queue that triggers the function too")
    run.add_argument(
        "--status",
        type=named,
        metavar="FILE",
        help="keep the shards' state there, batches in flight among it, for `streamkit console --run FILE`",
    )
    form = run.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON lines on stdout, for programs")
    form.add_argument("--plain", action="store_true", help="plain lines in a terminal too")
    add_settings(run)
    add_connection(run)


def command(options: argparse.Namespace) -> int:
    from .board import Board

    settings = settings_of(options)
    signals = _Signals()
    board = Board()
    with _view(options, board, signals.stop) as view:
        signals.view = view
        # Now, and not before: a logger keeps the stderr that it was made with, and the view has put its own there.
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s")
        _run(options, settings, board, signals, view)
    return 0


def _run(options: argparse.Namespace, settings: Settings, board: Board, signals: _Signals, view: View) -> None:
    function = load(options.handler)
    with ExitStack() as stack:
        if hasattr(function, "close"):
            stack.callback(function.close)
        client = stack.enter_context(connected(options, options.stream))
        from ..handler import Handler
        from ..local.container import LONGEST_TIMEOUT, Container
        from ..local.kinesis import KinesisStream
        from ..local.queue_runner import QueueRunner
        from ..local.runner import Runner
        from .board import Tally

        name = options.name or name_of(function, options.handler)
        container = Container(function, settings.function_timeout_in_seconds, view.announce, name=name)
        if isinstance(function, Handler) and function.observer is None:
            board.tally = function.observer = Tally()
        # Both tries of a call end in a fifth of a lease: what is not renewed in one can be in the next.
        seconds = options.lease_seconds / 10
        checkpoints = open_checkpoints(
            options.checkpoints,
            lambda: stack.enter_context(
                connected(options, options.stream, "dynamodb", connect_timeout=seconds, read_timeout=seconds, tries=2)
            ),
        )
        stack.callback(checkpoints.close)
        if options.create_table:
            _create_table(checkpoints, options.checkpoints)
        with typed():
            stream = KinesisStream(client, options.stream, consumer_arn=options.consumer)
            if options.consumer is not None:
                stream.check_consumer()
        runner = Runner(
            lambda: container,
            stream=stream,
            name=name,
            checkpoints=checkpoints,
            lease_seconds=options.lease_seconds,
            on_failure=_on_failure(options, stack),
            # A caller's time-out would include its wait for the others' invocations; the container keeps the function's.
            settings=msgspec.structs.replace(settings, function_timeout_in_seconds=LONGEST_TIMEOUT),
        )
        board.statuses = lambda: list(runner.statuses)
        if options.status:
            from .published import Publisher

            stack.enter_context(Publisher(options.status, name, options.stream, board.statuses))
        signals.stops.append(runner.stop)
        if options.retry_queue:
            sqs = stack.enter_context(connected(options, options.stream, "sqs"))
            retries = QueueRunner(container, options.retry_queue, sqs, function_timeout_in_seconds=LONGEST_TIMEOUT)
            with typed():
                retries.check()
            board.queue = retries.counts
            thread = threading.Thread(target=retries.run, name="streamkit retry queue")
            signals.stops.append(retries.stop)
            stack.callback(thread.join)
            stack.callback(retries.stop)
            thread.start()
        runner.run()


def _create_table(checkpoints: CheckpointStore, place: str) -> None:
    from ..checkpoints.dynamodb import DynamoDbCheckpoints

    if not isinstance(checkpoints, DynamoDbCheckpoints):
        raise UsageError(f"--create-table goes with --checkpoints dynamodb:TABLE; {place} is none")
    checkpoints.create_table()


def _on_failure(options: argparse.Namespace, stack: ExitStack) -> Destination | None:
    """Where failure documents go; None for the log."""
    if options.on_failure is None:
        return None
    from ..local.destinations import destination

    with typed():
        # Its form, before there is a client of its service.
        destination(options.on_failure)
    _, _, service, region, *_ = options.on_failure.split(":")
    client = stack.enter_context(connected(options, options.stream, service, region=region))
    with typed():
        place = destination(options.on_failure, client=client)
        place.check()
    return place


def _view(options: argparse.Namespace, board: Board, stop: Callable[[], None]) -> View:
    from .view import JsonView, PlainView

    if options.json:
        if sys.stdout is None:
            raise StreamkitError("the output can't be written: it is closed")
        return JsonView(board, options.stream, stop)
    is_terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if is_terminal and not options.plain:
        try:
            from .live import LiveView
        except ImportError:
            say("for a live view of the shards: pip install 'kinesis-streamkit[cli]'")
        else:
            return LiveView(board, options.stream, stop, title=f"{options.stream} → {options.handler}")
    return PlainView(board, options.stream, stop)


class _Signals:
    """SIGINT and SIGTERM: the first ends the run after what is in hand, the second at once.

    `timeout` and process groups send one signal twice, so what comes within ``_REPEAT_SECONDS`` of the first is no second one.
    """

    def __init__(self) -> None:
        #: What ends the readers; empty until there is something in hand to finish.
        self.stops: list[Callable[[], None]] = []
        self.view: View | None = None
        self._was_told = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._first)

    def stop(self) -> None:
        for one in self.stops:
            one()

    def _first(self, number: int, frame: object) -> None:
        if not self.stops:
            raise SystemExit(128 + number)
        if self._was_told:
            return
        self._was_told = True
        self.stop()
        # Waited for here, since only this thread can set handlers, a timer's signal may be the function's own, and a handler
        # that looks at the clock does not run while C code keeps the interpreter. The shards end in threads of their own.
        time.sleep(_REPEAT_SECONDS)
        for other in (signal.SIGTERM, signal.SIGINT):
            # The kernel's own way works whatever the function is doing, but never on the first process of a container.
            signal.signal(other, signal.SIG_DFL if os.getpid() != 1 else lambda n, _: os._exit(128 + n))
        if self.view is not None:
            # Not before: it says that a second one stops at once.
            self.view.stopping()

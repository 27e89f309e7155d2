"""``streamkit kcl``: a function on a shard, started by the Kinesis Client Library's MultiLangDaemon."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from ..errors import ConfigurationError
from .connection import add_connection, connected
from .function import handler_name, load, name_of
from .terminal import say
from .usage import UsageError, named, positive_seconds

__all__ = ["DESCRIPTION", "EPILOG", "NAME", "SUMMARY", "add_options", "command"]

NAME = "kcl"
SUMMARY = "run a function on a shard, under the Kinesis Client Library's MultiLangDaemon"
DESCRIPTION = """\
Run a function on a shard, as Lambda runs it on a stream: the same events, answers and policies. The MultiLangDaemon of the
Kinesis Client Library (2 or 3) starts this command for each shard whose lease it has, and speaks to it over stdin and stdout;
leases, balancing, resharding and checkpoints are the daemon's. docs/kcl.md has the properties and the container.

A checkpoint is written just before the lowest record that is not settled, within an aggregate too, and never after it. What
is not settled runs again, after a pause, for as long as it takes."""
EPILOG = """\
example, in the daemon's properties file:
  executableName = streamkit kcl orders:handler --stream arn:aws:kinesis:us-east-1:123456789012:stream/orders

Nothing but the protocol goes to stdout: what the function prints goes to stderr, which the daemon writes to its log.

--region, --profile and --endpoint-url are for asking the stream's ARN, where --stream is a name.

SIGTERM or Ctrl-C ends the run that is on, and nothing more runs; the daemon, where it was told as well, then asks for the last
checkpoint and ends this process. Where it was not, this process ends after 30 seconds. A second one stops at once.

exit code: 0 when the lease is lost, the shard has ended or the daemon shuts down, 1 when something went wrong (the daemon
ends too, and whatever started it has to start it again), 2 for what was typed wrong, 130 or 143 when stopped at once."""

_ARN = "arn:"
_REPEAT_SECONDS = 0.3


def add_options(kcl: argparse.ArgumentParser) -> None:
    kcl.add_argument(
        "handler", metavar="MODULE:HANDLER", type=handler_name, help="where the function is: orders:handler"
    )
    kcl.add_argument(
        "--stream",
        required=True,
        type=named,
        metavar="ARN",
        help="the stream that the daemon reads, which does not tell; by a name its ARN is asked of Kinesis",
    )
    kcl.add_argument(
        "--name", type=named, help="what the function is called in its metrics; by default the processor's name"
    )
    kcl.add_argument(
        "--timeout",
        type=positive_seconds,
        default=20.0,
        metavar="N",
        help="seconds that the context tells the function that it has for each run (%(default)g)",
    )
    add_connection(kcl)


def command(options: argparse.Namespace) -> int:
    from ..kcl.channel import standard_pipes

    if sys.stdin is None or sys.stdout is None or sys.stdin.isatty():
        raise UsageError(
            "kcl is started by the MultiLangDaemon, as its properties' executableName, and speaks to it over stdin and stdout; "
            "`streamkit run` reads a stream by itself"
        )
    # Before the function's module is loaded, which may print.
    with standard_pipes() as channel:
        # A line at once: nobody flushes stdout where a process is killed.
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # A TextIOWrapper, as it is not replaced here.
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s")
        return _run(options, channel)


def _run(options: argparse.Namespace, channel: Any) -> int:
    from ..kcl.worker import ToldToStop, Worker

    function = load(options.handler)
    with ExitStack() as stack:
        if hasattr(function, "close"):
            stack.callback(function.close)
        _check(function)
        worker = Worker(
            function,
            channel,
            stream_arn=_stream_arn(options),
            timeout=options.timeout,
            name=options.name or name_of(function, options.handler),
        )
        _stop_at_signals(worker.stop)
        try:
            worker.run()
        except ToldToStop:
            say(
                "streamkit: stopped by a signal, and the daemon goes on: it ends with this process, and has to be started again"
            )
            return 1
    return 0


def _check(function: Callable[[Any, Any], Any]) -> None:
    """ConfigurationError for a processor that needs what only an event source mapping has."""
    from ..handler import Handler

    if isinstance(function, Handler) and function.processor._window_run is not None:
        raise ConfigurationError(
            f"{function.processor.name} is a WindowProcessor, whose state Lambda carries from call to call: "
            "deploy it as a function"
        )


def _stream_arn(options: argparse.Namespace) -> str:
    stream: str = options.stream
    if stream.startswith(_ARN):
        parts = stream.split(":")
        if len(parts) != 6 or parts[2] != "kinesis" or not parts[5].startswith("stream/"):
            raise UsageError(
                f"{stream} is not the ARN of a stream, which is arn:aws:kinesis:<region>:<account>:stream/<name>"
            )
        return stream
    from ..local.kinesis import KinesisStream

    with connected(options, stream) as client:
        return KinesisStream(client, stream).arn


def _stop_at_signals(stop: Callable[[], None]) -> None:
    """The first SIGINT or SIGTERM calls ``stop``. One signal can come twice, so only what comes later is a second one."""
    told: list[int] = []

    def first(number: int, frame: object) -> None:
        if told:
            return
        told.append(number)
        stop()
        time.sleep(_REPEAT_SECONDS)
        for other in (signal.SIGTERM, signal.SIGINT):
            # The kernel's own way works whatever the function is doing, but never on the first process of a container.
            signal.signal(other, signal.SIG_DFL if os.getpid() != 1 else lambda n, _: os._exit(128 + n))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, first)

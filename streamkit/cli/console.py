"""``streamkit console``: a page over an endpoint, for a person and a browser."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from typing import TYPE_CHECKING

from ..errors import StreamkitError
from .checkpoints import add_checkpoints
from .connection import add_connection
from .terminal import flush, say, write
from .usage import UsageError, named, seconds

if TYPE_CHECKING:
    from .web.looks import Looks
    from .web.redrives import Redrives

__all__ = ["DESCRIPTION", "EPILOG", "NAME", "SUMMARY", "add_options", "command"]

NAME = "console"
SUMMARY = "show streams, queues, dead letters and parked keys in a browser"
DESCRIPTION = """\
Serve a page, on this machine's loopback address only, that shows an endpoint as it is now: shards with their age and
throughput, batches in flight, retry queues, dead letters to read and to put back, and parked keys.

It prints the page's URL, with a token that is new at each start. Ctrl-C ends it."""
EPILOG = """\
examples:
  streamkit console --endpoint-url http://localhost:4566
      all streams and queues of a local endpoint, up to 20 and 50
  streamkit console orders --name orders --retry-queue orders-retries --dead-letters orders-dead
      one stream, how far its reader is, and its queues
  streamkit run orders:handler --stream orders --status run.json &  streamkit console orders --name orders --run run.json
      with batches in flight, which only a run itself knows
  streamkit console orders --name orders --ledger parked-keys --checkpoints dynamodb:checkpoints
      with the keys that Park holds aside, and checkpoints in a table

What it asks AWS for, and how often, is on the page and in docs/console.md: eight requests a second at most, none while nobody
looks. A look at dead letters receives them (SQS has no other way), so it is taken only when you ask for it.

exit code: 0 when told to stop, 1 when something went wrong, 2 for what was typed wrong."""

_STATE = "streamkit-redrive.sqlite"
_LONGEST_END = 60.0
_MOST_PORT = 65_535


def add_options(console: argparse.ArgumentParser) -> None:
    console.add_argument(
        "streams", nargs="*", type=named, metavar="STREAM", help="which; all, up to 20, where none is given"
    )
    console.add_argument(
        "--name", action="append", default=[], type=named, metavar="READER", help="a processor whose progress is shown"
    )
    add_checkpoints(console, "where the readers' positions are kept")
    console.add_argument(
        "--retry-queue", action="append", default=[], type=named, metavar="QUEUE", help="a queue's name or URL"
    )
    console.add_argument(
        "--dead-letters",
        action="append",
        default=[],
        type=named,
        metavar="SOURCE",
        help="a queue's name or URL; s3://BUCKET/PREFIX or a file can be looked at too. Without any queue: all, up to 50",
    )
    console.add_argument(
        "--ledger",
        action="append",
        default=[],
        type=named,
        metavar="TABLE",
        help="Park's table, for the keys of --name, which it needs",
    )
    console.add_argument(
        "--run",
        action="append",
        default=[],
        type=named,
        metavar="FILE",
        help="what `streamkit run --status FILE` writes",
    )
    console.add_argument(
        "--sample",
        type=seconds,
        default=10.0,
        metavar="SECONDS",
        help="look at each open shard that often for its throughput (%(default)g), one read each; 0: never",
    )
    console.add_argument("--port", type=_port, default=0, metavar="N", help="by default any that is free")
    redrive = console.add_argument_group("redrive")
    redrive.add_argument(
        "--state", default=_STATE, metavar="FILE", help="what was put back is recorded there (%(default)s)"
    )
    redrive.add_argument(
        "--claims-bucket", metavar="BUCKET", help="where envelopes go that are too large for the retry queue"
    )
    add_connection(console)


def command(options: argparse.Namespace) -> int:
    from .letters import names_queue
    from .web.answers import Answers
    from .web.clients import Clients
    from .web.looks import Looks
    from .web.overview import Overview
    from .web.redrives import Redrives
    from .web.server import ConsoleServer

    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    if "-" in options.dead_letters:
        raise UsageError("--dead-letters -: stdin can be read once, and a page looks again: name a file")
    if options.ledger and not options.name:
        raise UsageError("--ledger needs --name, the processor whose parked keys are shown")
    sources = [one for one in options.dead_letters if not names_queue(one)]
    options.dead_letters = [one for one in options.dead_letters if names_queue(one)]
    clients = Clients(options)
    overview = Overview(options, clients)
    # What is wrong with the connection's options is said here, and not on the page.
    with clients.using("kinesis", "of the console", "endpoint"):
        pass
    looks, redrives = Looks(options), Redrives(options)
    with ConsoleServer(options.port, Answers(overview, looks, redrives, sources)) as server:
        overview.watch.start()
        thread = threading.Thread(target=server.serve_forever, name="streamkit console", daemon=True)
        thread.start()
        write(f"{server.url}\n")
        flush()
        say("open it in a browser on this machine; Ctrl-C ends the console")
        ended.wait()
        server.shutdown()
        overview.watch.end()
        _end(looks, redrives, _LONGEST_END)
    clients.close()
    return 0


def _end(looks: Looks, redrives: Redrives, patience: float) -> None:
    """Stop both, then wait for both. StreamkitError where one has not come to its end in ``patience`` seconds."""
    # Both are told before either is waited for: a look that hangs must not keep a redrive at work.
    looks.stop()
    redrives.stop_all()
    give_up_at = time.monotonic() + patience
    troubles: list[str] = []
    if not looks.wait(patience):
        troubles.append(f"a look at dead letters did not end in {patience:g} s: they are seen again after a minute")
    if not redrives.wait(max(0.0, give_up_at - time.monotonic())):
        troubles.append(f"a redrive did not end in {patience:g} s: `streamkit redrive` goes on where it was")
    if troubles:
        raise StreamkitError("; ".join(troubles))


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _MOST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 0 to {_MOST_PORT}")
    return int(text)

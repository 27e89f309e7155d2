"""python -m demo [EVENTS]

Publish the events, let their functions put them where they belong, kill a reader on the way, and count what arrived. It ends with
0 if every count is right, 1 if one is not or something went wrong, 130 if it was interrupted.

The reader that was killed is started again at once. What it repeats has the same insert ids, which BigQuery dedupes for about a
minute, as a best effort: after a longer break `rows` could be too many, and this would say so.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TextIO

from .cloud import Cloud, local_cloud
from .events import Events, events_of_file, standard_events
from .publisher import Publisher
from .reader import Reader, ReaderEnded
from .report import answers, report

# On sys.path since .cloud was imported.
from local_localstack import localstack_server  # isort: skip
from local_moto import moto_server  # isort: skip
from local_process import Running  # isort: skip

# The reader of the flights is killed once this part of them is in BigQuery.
_KILL_AT = 0.25
# Of an EVENTS file it is not known which rows BigQuery refuses; among so many it is unlikely to be those in hand.
_MANY = 5000
# Seconds without any progress after which it is given up.
_PATIENCE = 60.0


class GivenUp(RuntimeError):
    """Nothing has moved for too long."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m demo", description="Real events through the whole of streamkit.")
    parser.add_argument(
        "events", nargs="?", type=Path, metavar="EVENTS", help="a file of other flights, one in JSON a line"
    )
    parser.add_argument("--flights", type=int, metavar="N", help="only the first N of the flights")
    parser.add_argument("--localstack", action="store_true", help="Kinesis and SQS by LocalStack, in place of moto")
    parser.add_argument("--rows", type=int, metavar="N", help="how many rows there have to be at the end")
    options = parser.parse_args(arguments)
    if options.events is not None and not (options.events.is_file() and options.events.stat().st_size):
        parser.error(f"there are no events in {options.events}")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        events = events_of_file(options.events) if options.events is not None else standard_events(options.flights)
        if options.rows is not None:
            events = dataclasses.replace(events, rows=options.rows)
        return _run(events, localstack_server if options.localstack else moto_server)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except (GivenUp, ReaderEnded) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1


def _run(events: Events, aws: Callable[[], AbstractContextManager[Running]]) -> int:
    began = time.monotonic()
    line = _Line(sys.stderr)
    line.show("starting Kinesis, SQS, BigQuery and CloudSearch")
    with (
        tempfile.TemporaryDirectory(prefix="streamkit-demo-") as folder,
        local_cloud(aws) as cloud,
        Publisher(cloud.kinesis, events.puts) as publisher,
    ):
        with contextlib.ExitStack() as stack:
            readers = [stack.enter_context(Reader(stream, cloud, Path(folder))) for stream in events.puts]
            _wait(events, cloud, publisher, readers, line)
            line.end()
        # Counted when nothing is running any more, so that what came too much is seen as well.
        counts = report(cloud, events, publisher, readers)
        print("", *counts.lines(events), "", *answers(cloud, events), "", sep="\n")
        differences = list(counts.differences(events))
    for difference in differences:
        print(f"WRONG: {difference}")
    print(f"{'some counts are wrong' if differences else 'every count is right'}; {time.monotonic() - began:.0f} s")
    return 1 if differences else 0


def _wait(events: Events, cloud: Cloud, publisher: Publisher, readers: list[Reader], line: _Line) -> None:
    """Until everything is published and settled; kill the reader of the flights on the way. GivenUp, ReaderEnded."""
    flights = sum(put.events for put in events.puts["flights"])
    checkpoints = {reader.stream: reader.checkpoint for reader in readers}
    killed = False
    seen: Any = None
    moved = time.monotonic()
    while True:
        for reader in readers:
            reader.look()
        is_published = publisher.is_done()
        rows, documents = cloud.rows(), cloud.documents()
        dead = {reader.stream: cloud.waiting(cloud.queues[reader.stream].dead_letters) for reader in readers}
        published = publisher.last()
        positions = {(stream, shard): checkpoints[stream](shard) for stream, shard in published}
        left = ["/".join(shard) for shard, last in published.items() if positions[shard] < last]
        # After the positions: what the checkpoints have passed is in the retry queue by now, if it is to be there.
        retrying = sum(cloud.waiting(cloud.queues[reader.stream].retries) for reader in readers)
        if not killed and rows >= _KILL_AT * flights and _is_time_to_kill(events, dead["flights"], flights, left):
            killed = True
            readers[0].kill_and_start_again()
            line.note(f"killed the reader of the flights at {rows} rows (SIGKILL), and started it again")
        if is_published and not left and not retrying:
            return
        line.show(
            f"published {publisher.published}  rows {rows}  documents {documents}  retrying {retrying}  "
            f"dead letters {sum(dead.values())}"
        )
        now = (publisher.published, rows, documents, retrying, dead, positions)
        if now != seen:
            seen, moved = now, time.monotonic()
        elif time.monotonic() - moved > _PATIENCE:
            missing = f"settled ({', '.join(left) or 'a retry queue'})" if is_published else "published"
            logs = "\n".join(f"the log of {reader.stream} ends:\n{reader.log_tail()}" for reader in readers)
            raise GivenUp(f"nothing has moved for {_PATIENCE:g} s, and not all is {missing}\n{logs}")
        time.sleep(0.3)


def _is_time_to_kill(events: Events, dead: int, flights: int, left: list[str]) -> bool:
    """Not while a row is on its way that BigQuery refuses: local-bigquery would take its repeat for one that it has stored
    (localstack/README.md), and the event would never reach the dead letters.
    """
    if events.broken is not None:
        return dead >= sum(one.stream == "flights" and not one.tries for one in events.broken)
    return flights > _MANY or not left


class _Line:
    """Progress: one line that changes on a terminal; elsewhere a line every few seconds."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_live = out.isatty()
        self._shown_at = float("-inf")

    def show(self, text: str) -> None:
        if self._is_live:
            self._out.write(f"\r\x1b[K{text}")
        elif time.monotonic() - self._shown_at < 3:
            return
        else:
            self._out.write(f"{text}\n")
        self._shown_at = time.monotonic()
        self._out.flush()

    def note(self, text: str) -> None:
        """A line that stays."""
        self._out.write(f"\r\x1b[K{text}\n" if self._is_live else f"{text}\n")
        self._out.flush()

    def end(self) -> None:
        if self._is_live:
            self._out.write("\r\x1b[K")
            self._out.flush()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

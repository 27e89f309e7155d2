"""One function on its stream: a ``streamkit run`` process, started, killed and started again."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self, TextIO

from streamkit.checkpoints.sqlite import SqliteCheckpoints

from .cloud import ROOT, VISIBILITY, Streams

from local_process import running  # isort: skip  # On sys.path since .cloud was imported.

__all__ = ["Reader", "ReaderEnded"]

_SETTINGS = {
    "flights": {
        "PROCESSOR_NAME": "flights",
        "ROW": '{"departure": "date", "delay": "delay", "distance": "distance", '
        '"origin": "origin", "destination": "destination"}',
    },
    "airports": {
        "PROCESSOR_NAME": "airports",
        "DOCUMENT_ID": "iata",
        # Every field as it is, and the name once more, for exact matches.
        "DOCUMENT": '{"*": "", "name_exact": "name"}',
    },
}
_HANDLERS = {"flights": "processors.bigquery:handler", "airports": "processors.cloudsearch:handler"}

# What `streamkit run` says before each invocation, and a function's log of a failure.
_BATCH = re.compile(r"(\S+)/(shardId-\d+): \d+ records, (\d+) to (\d+)")
_RETRY = re.compile(r".*: record (\S+) failed and is to go to the retry queue: ")


class ReaderEnded(RuntimeError):
    """A reader ended that was not told to; the message ends with its log's last lines."""


class Reader:
    """Runs the function of ``stream`` from the start of a ``with`` block to its end. Checkpoints are kept in ``folder``.

    Another function than the demo's own is a ``handler``, with ``settings`` in its environment, where its PROCESSOR_NAME is the
    stream's.
    """

    def __init__(
        self, stream: str, cloud: Streams, folder: Path, *, handler: str = "", settings: Mapping[str, str] | None = None
    ) -> None:
        self.stream = stream
        self._file = folder / f"{stream}.sqlite"
        queues = cloud.queues[stream]
        self._command = [
            *(sys.executable, "-m", "streamkit.cli", "run", handler or _HANDLERS[stream]),
            *("--stream", stream, "--retry-queue", queues.retries, "--checkpoints", str(self._file)),
            *("--batch-size", "1000", "--function-timeout-in-seconds", str(VISIBILITY)),
            # One that was killed is started again at once, and waits until its lease is over.
            *("--lease-seconds", "3"),
        ]
        self._environment = {
            **cloud.environment,
            **(_SETTINGS[stream] if settings is None else settings),
            "RETRY_QUEUE_URL": queues.retries,
            "DEAD_LETTER_QUEUE_URL": queues.dead_letters,
            # One broken event has three tries.
            "RETRY_BACKOFF_SECONDS": "1",
            "PYTHONPATH": str(ROOT),
        }
        self._process = contextlib.ExitStack()
        self._pid = 0
        self._log: TextIO | None = None
        self._lines: list[str] = []
        self._rest = ""
        self.checkpoints = SqliteCheckpoints(self._file)
        #: Every batch that was delivered, before its invocation began: its shard, its first and last sequence number.
        self.deliveries: list[tuple[str, int, int]] = []
        #: The ids of the events that went to the retry queue.
        self.retried: set[str] = set()

    def __enter__(self) -> Self:
        self.checkpoint("shardId-000000000000")  # Makes the file, so that two processes do not do it at once.
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self.checkpoints.close()

    def checkpoint(self, shard_id: str) -> int:
        """The sequence number up to which everything of a shard is settled; -1 before the first."""
        lease = self.checkpoints.leases(self.stream, self.stream).get(shard_id)
        return -1 if lease is None or lease.checkpoint is None else lease.checkpoint

    def kill_and_start_again(self) -> None:
        os.killpg(self._pid, signal.SIGKILL)
        self._end()
        self._start()

    def look(self) -> None:
        """Read what the process has said since the last time. ReaderEnded if it is no longer there."""
        self._read()
        if os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            self._read()
            raise ReaderEnded(f"the function of {self.stream} ended by itself; its log ends:\n{self.log_tail()}")

    def log_tail(self, lines: int = 15) -> str:
        return "\n".join(self._lines[-lines:])

    def _start(self) -> None:
        server = self._process.enter_context(
            running(f"{self.stream}-reader", lambda: self._command, lambda _: True, ports=(), env=self._environment)
        )
        self._pid = server.pid
        self._log = server.log.open(errors="replace")

    def _end(self) -> None:
        self._process.close()
        if self._log is not None:
            with self._log:  # The folder is gone; the open file still has the last lines.
                self._read()
            self._log = None
            self._take("\n")

    def _read(self) -> None:
        if self._log is not None:
            self._take(self._log.read())

    def _take(self, text: str) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if batch := _BATCH.fullmatch(line):
                self.deliveries.append((batch[2], int(batch[3]), int(batch[4])))
            elif retry := _RETRY.match(line):
                self.retried.add(retry[1])
        self._lines = [*self._lines, *filter(None, lines)][-50:]

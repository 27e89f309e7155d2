"""How a run is watched: plain lines, or JSON lines; ``live`` has the table for a terminal.

A view looks at the board from a thread of its own, so that watching costs the readers nothing but that thread's time.
"""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TextIO

import msgspec

from ..plural import counted
from .board import RETRY_QUEUE, Board, Row, total
from .terminal import duration, not_written, say, to_nowhere

__all__ = ["STOPPING", "JsonView", "PlainView", "View"]

STOPPING = "stopping after the batch in hand; again to stop at once"

_TICK = 0.25
# Seconds between two reports of the shards.
_BETWEEN_REPORTS = 5.0


class View(ABC):
    """Use it in a ``with`` block around everything that a run does, loading the function included.

    ``stop`` is called when nobody can be shown anything any more, since the output was closed or can't be written. The latter,
    as on a full disk, is a StreamkitError when the block ends.
    """

    def __init__(self, board: Board, stream: str, stop: Callable[[], None]) -> None:
        self._board = board
        self._stream = stream
        self._stop = stop
        self._ended = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._watch, name="streamkit view")
        self._failure: OSError | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._guarded(lambda: self._finish(error))
        if self._failure is not None and error is None:
            raise not_written(self._failure)

    def announce(self, event: Any) -> None:
        """An invocation is about to begin. Called by the thread that invokes."""
        self._guarded(lambda: self._announce(event))

    def stopping(self) -> None:
        """The run was told to stop. It takes no lock, so a signal's handler may call it at any moment."""
        self._is_stopping = True

    def _watch(self) -> None:
        while not self._ended.wait(self._pause()):
            self._guarded(self._tick)

    def _pause(self) -> float:
        """Seconds until the next look."""
        return _TICK

    def _guarded(self, show: Callable[[], None]) -> None:
        """An output that can't be written must fail no invocation: the run ends as it does when told to."""
        try:
            show()
        except BrokenPipeError:
            to_nowhere(*self._outputs())
            self._stop()
        except OSError as error:
            self._failure = self._failure or error
            to_nowhere(self._outputs()[0])
            self._stop()

    def _outputs(self) -> list[TextIO]:
        """What this view writes to, first that which it is for."""
        return [sys.stderr]

    @abstractmethod
    def _announce(self, event: Any) -> None:
        """An invocation is about to begin."""

    @abstractmethod
    def _tick(self) -> None:
        """Show what has changed."""

    @abstractmethod
    def _finish(self, error: BaseException | None) -> None:
        """The run has ended, by ``error`` where there is one."""


class _Reporting(View):
    """Reports the shards every few seconds, while something changes in one."""

    def __init__(self, board: Board, stream: str, stop: Callable[[], None]) -> None:
        super().__init__(board, stream, stop)
        self._has_said_so = False
        self._next_report = time.monotonic() + _BETWEEN_REPORTS
        self._reported: list[Row] = []

    def _tick(self) -> None:
        if self._is_stopping and not self._has_said_so:
            self._has_said_so = True
            say(STOPPING)
        if time.monotonic() >= self._next_report:
            self._next_report = time.monotonic() + _BETWEEN_REPORTS
            rows = self._board.rows()
            changed = [row for row in rows if row not in self._reported]
            if changed:
                self._report(rows, changed)
            self._reported = rows

    @abstractmethod
    def _report(self, rows: list[Row], changed: list[Row]) -> None:
        """All shards, and those in which something has changed since the last report."""


class PlainView(_Reporting):
    """Lines on stderr: one for each invocation, and one for a shard every few seconds while something changes in it."""

    def _announce(self, event: Any) -> None:
        facts = _invocation(event)
        if facts["source"] == "kinesis":
            positions = f"{facts['first']} to {facts['last']}" if facts["records"] else "the end of a window"
            say(f"{facts['stream']}/{facts['shard_id']}: {counted(facts['records'], 'record')}, {positions}")
        else:
            say(f"{facts['queue']}: {counted(facts['records'], 'message')}")

    def _report(self, rows: list[Row], changed: list[Row]) -> None:
        for row in changed:
            age = "" if row.age is None else f"{duration(row.age)} behind, "
            say(
                f"{self._place(row)}: {row.state}, {age}{counted(row.records, 'record')}, {row.rate:.1f}/s{_trouble(row)}"
            )

    def _finish(self, error: BaseException | None) -> None:
        for row in self._board.rows():
            if row.shard_id == RETRY_QUEUE:
                say(f"{self._place(row)}: stopped after {counted(row.records, 'message')}{_trouble(row)}")
                continue
            ended = "ended" if row.state == "ended" else "stopped"
            say(
                f"{self._place(row)}: {ended} after {counted(row.records, 'record')} in "
                f"{counted(row.batches, 'batch', 'batches')}, "
                f"{row.redelivered} of them again; checkpoint {row.checkpoint or 'none'}{_trouble(row)}"
            )

    def _place(self, row: Row) -> str:
        return RETRY_QUEUE if row.shard_id == RETRY_QUEUE else f"{self._stream}/{row.shard_id}"


class JsonView(_Reporting):
    """JSON lines on stdout, for programs. What the function prints goes to stderr meanwhile."""

    def __init__(self, board: Board, stream: str, stop: Callable[[], None]) -> None:
        super().__init__(board, stream, stop)
        self._out = sys.stdout
        self._lock = threading.Lock()
        self._redirected = redirect_stdout(sys.stderr)

    def __enter__(self) -> Self:
        self._redirected.__enter__()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            super().__exit__(kind, error, traceback)
        finally:
            self._redirected.__exit__(kind, error, traceback)

    def _outputs(self) -> list[TextIO]:
        return [self._out, sys.stderr]

    def _announce(self, event: Any) -> None:
        self._write({"type": "invocation", "time": _now(), **_invocation(event)})

    def _report(self, rows: list[Row], changed: list[Row]) -> None:
        self._write({"type": "shards", "time": _now(), "shards": rows})

    def _finish(self, error: BaseException | None) -> None:
        if error is not None:
            self._write({"type": "error", "time": _now(), "message": str(error) or type(error).__name__})
        rows = self._board.rows()
        self._write({"type": "summary", "time": _now(), "total": total(rows), "shards": rows})

    def _write(self, line: dict[str, Any]) -> None:
        # Positions have more digits than other languages' numbers keep.
        text = msgspec.json.encode(_with_positions_as_text(line)).decode()
        with self._lock:
            self._out.write(f"{text}\n")
            self._out.flush()


def _with_positions_as_text(line: dict[str, Any]) -> dict[str, Any]:
    def of(row: Row) -> dict[str, Any]:
        fields = msgspec.structs.asdict(row)
        return fields | {"checkpoint": None if row.checkpoint is None else str(row.checkpoint)}

    rows: dict[str, Any] = {"shards": [of(row) for row in line["shards"]]} if "shards" in line else {}
    if "total" in line:
        whole = of(line["total"])
        rows["total"] = {name: whole[name] for name in whole if name not in ("shard_id", "state", "checkpoint")}
    return line | rows


def _invocation(event: Any) -> dict[str, Any]:
    """What an event is about: its stream, shard and positions, or its queue."""
    records = event["Records"]
    # The final call of a tumbling window can come without records, and says itself where it is from.
    arn = records[0]["eventSourceARN"] if records else event["eventSourceARN"]
    if records and "kinesis" not in records[0]:
        return {"source": "sqs", "queue": arn.rpartition(":")[2], "records": len(records)}
    return {
        "source": "kinesis",
        "stream": arn.partition("/consumer/")[0].rpartition("/")[2],
        "shard_id": records[0]["eventID"].partition(":")[0] if records else event["shardId"],
        "records": len(records),
        "first": records[0]["kinesis"]["sequenceNumber"] if records else None,
        "last": records[-1]["kinesis"]["sequenceNumber"] if records else None,
    }


def _trouble(row: Row) -> str:
    """What went wrong, in words, where something did."""
    counts = (
        (row.failures, "failure", "failures"),
        (row.retries, "retry", "retries"),
        (row.diverted, "diverted", "diverted"),
        (row.dead_letters, "dead letter", "dead letters"),
        (row.discarded, "discarded", "discarded"),
        (row.throttles, "throttled read", "throttled reads"),
        (row.read_errors, "failed read", "failed reads"),
    )
    return "".join(f", {counted(count, one, many)}" for count, one, many in counts if count)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

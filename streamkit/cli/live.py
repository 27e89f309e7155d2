"""The live view of a run in a terminal: a table of its shards, under what the function and streamkit have logged.

Needs rich: ``pip install 'kinesis-streamkit[cli]'``.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .board import RETRY_QUEUE, Board, Row, total
from .terminal import duration, shortened
from .view import STOPPING, View

__all__ = ["LiveView"]

# Drawing takes this part of the time at most, within reason: with many shards it is done less often.
_PART_OF_TIME = 0.05
_LONGEST_PAUSE = 1.0
_SHOW_CURSOR = b"\x1b[?25h"
# Lines that are no row: title, header, totals, hint, and what is left free.
_OTHER_LINES = 9
# What a narrow terminal does without, in this order. The shard, its state, position and age are always there.
_LEAST_USEFUL = (
    "retries",
    "records\n/s",
    "diverted",
    "failed\nbatches",
    "throt-\ntled",
    "failed\nreads",
    "records",
    "dead\nletters",
    "given\nup",
)
_STATES = {
    "waiting": "dim",
    "reading": "green",
    "blocked": "bold red",
    "ended": "dim",
    "lost": "yellow",
    "stopped": "dim",
}


class LiveView(View):
    """A table on stderr that is drawn a few times a second. The terminal is as it was when the ``with`` block ends.

    Until then ``sys.stderr``, and ``sys.stdout`` where it is a terminal, keep what is written to them for this view's
    thread, which writes it above the table: a line that is logged costs its own thread no drawing, and no line tears the table.
    """

    def __init__(self, board: Board, stream: str, stop: Callable[[], None], *, title: str) -> None:
        super().__init__(board, stream, stop)
        self._title = title
        self._terminal = sys.stderr
        self._console = Console(file=self._terminal, highlight=False)
        self._live = Live(
            console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False, transient=False
        )
        self._lines: deque[str] = deque()
        self._kept: list[_Kept] = []
        self._replaced = (sys.stdout, sys.stderr)
        self._started_at = time.monotonic()
        self._cost = 0.0

    def __enter__(self) -> Self:
        self._live.start()
        for name in ("stdout", "stderr"):
            output = getattr(sys, name)
            if output.isatty():
                kept = _Kept(output, self._lines)
                self._kept.append(kept)
                setattr(sys, name, kept)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)

    def stopping(self) -> None:
        super().stopping()
        # The next signal ends the process where it stands, with no time to tidy up.
        os.write(self._terminal.fileno(), _SHOW_CURSOR)

    def _outputs(self) -> list[TextIO]:
        return [self._terminal]

    def _announce(self, event: Any) -> None:
        """The table tells enough."""

    def _pause(self) -> float:
        return max(super()._pause(), min(_LONGEST_PAUSE, self._cost / _PART_OF_TIME))

    def _tick(self) -> None:
        began = time.thread_time()
        self._draw(is_last=False)
        self._cost = time.thread_time() - began

    def _watch(self) -> None:
        try:
            super()._watch()
        finally:
            # Whatever ends this thread, what is written from now on goes where it went before.
            sys.stdout, sys.stderr = self._replaced
            for kept in self._kept:
                kept.release()

    def _finish(self, error: BaseException | None) -> None:
        self._draw(is_last=True)
        self._live.stop()

    def _draw(self, *, is_last: bool) -> None:
        self._live.update(self._picture(is_last))
        if self._lines:
            text = "".join(self._lines.popleft() for _ in range(len(self._lines)))
            self._console.print(text, end="", markup=False, emoji=False, soft_wrap=True)
        self._live.refresh()

    def _picture(self, is_last: bool) -> Group:
        rows = self._board.rows()
        shards = sum(row.shard_id != RETRY_QUEUE for row in rows)
        seconds = time.monotonic() - self._started_at
        title = Text.assemble("\n", (self._title, "bold"), (f"   {duration(int(seconds))}", "dim"))
        if is_last:
            hint = Text("stopped; what was finished is checkpointed", "dim")
        elif self._is_stopping:
            hint = Text(STOPPING, "bold yellow")
        elif not rows:
            hint = Text("looking for the shards of the stream", "dim")
        else:
            hint = Text("Ctrl-C stops after the batch in hand", "dim")
        if not rows:
            return Group(title, hint)
        shown, hidden = self._chosen(rows, is_last)
        table = _table(shown, total(rows), width=self._console.width, has_total=len(rows) > 1)
        more = [Text(f"and {len(hidden)} more of {shards} shards, {_ages(hidden)}", "dim")] if hidden else []
        return Group(title, table, *more, hint)

    def _chosen(self, rows: list[Row], is_last: bool) -> tuple[list[Row], list[Row]]:
        """The rows that there is room for, in their order: those in trouble, then those furthest behind."""
        room = max(3, self._console.height - _OTHER_LINES)
        if len(rows) <= room:
            return rows, []
        weights = {"blocked": 3, "reading": 2, "waiting": 1}
        by_need = sorted(rows, key=lambda row: (-weights.get(row.state, 0), -(row.age or 0)))
        chosen = {row.shard_id for row in by_need[:room]}
        return [row for row in rows if row.shard_id in chosen], [row for row in rows if row.shard_id not in chosen]


class _Kept(io.TextIOBase):
    """Stands for an output while the table is shown: keeps whole lines for the view's thread."""

    def __init__(self, output: TextIO, lines: deque[str]) -> None:
        self._output = output
        self._lines = lines
        self._lock = threading.Lock()
        self._begun = ""
        self._is_released = False

    def write(self, text: str) -> int:
        with self._lock:
            if self._is_released:
                return self._output.write(text)
            whole, newline, begun = text.rpartition("\n")
            if newline:
                self._lines.append(f"{self._begun}{whole}\n")
                self._begun = ""
            self._begun += begun
        return len(text)

    def release(self) -> None:
        """From now on pass on what is written: loggers keep the output that they were made with."""
        with self._lock:
            self._is_released = True
            if self._begun:
                self._lines.append(f"{self._begun}\n")

    def flush(self) -> None:
        self._output.flush()

    def isatty(self) -> bool:
        return self._output.isatty()

    def fileno(self) -> int:
        return self._output.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]  # A property of what it stands for; the base has a plain attribute.
        return self._output.encoding


def _table(rows: list[Row], whole: Row, *, width: int, has_total: bool) -> Table:
    table = Table(
        box=None, collapse_padding=True, pad_edge=False, header_style="dim", footer_style="bold", show_footer=has_total
    )
    columns: list[tuple[str, Callable[[Row], str | Text]]] = [
        ("shard", lambda row: _short_id(row.shard_id)),
        ("state", lambda row: "" if row is whole else Text(row.state, _STATES[row.state])),
        ("position", lambda row: "" if row is whole or row.shard_id == RETRY_QUEUE else shortened(row.checkpoint)),
        ("age", lambda row: "–" if row.age is None else duration(row.age)),
        ("records\n/s", lambda row: f"{row.rate:,.0f}" if row.rate >= 10 else f"{row.rate:.1f}"),
        ("records", lambda row: f"{row.records:,}"),
        ("failed\nbatches", lambda row: _count(row.failures, "yellow")),
        ("retries", lambda row: _count(row.retries, "yellow")),
        ("diverted", lambda row: _count(row.diverted, "yellow")),
        ("dead\nletters", lambda row: _count(row.dead_letters, "red")),
        ("given\nup", lambda row: _count(row.discarded, "bold red")),
    ]
    if whole.throttles:
        columns.append(("throt-\ntled", lambda row: _count(row.throttles, "yellow")))
    if whole.read_errors:
        columns.append(("failed\nreads", lambda row: _count(row.read_errors, "yellow")))
    cells = _fitting({header: [value(row) for row in (whole, *rows)] for header, value in columns}, width)
    for header, (footer, *_) in cells.items():
        side = "left" if header in ("shard", "state") else "right"
        table.add_column(header, footer, justify=side, no_wrap=True)  # type: ignore[arg-type]  # One of rich's sides.
    for row_cells in list(zip(*cells.values(), strict=True))[1:]:
        table.add_row(*row_cells)
    return table


def _fitting(columns: dict[str, list[str | Text]], width: int) -> dict[str, list[str | Text]]:
    """The columns that there is room for. What counts nothing goes first, then the least useful."""
    widths = {
        header: max(cell_len(str(text)) for text in (*header.split("\n"), *cells)) + 1
        for header, cells in columns.items()
    }
    dispensable = [header for header in _LEAST_USEFUL if header in columns]
    for header in sorted(dispensable, key=lambda header: any(str(cell) not in ("0", "–") for cell in columns[header])):
        if sum(widths.values()) - 1 <= width:
            break
        del widths[header]
    return {header: columns[header] for header in widths}


def _short_id(shard_id: str) -> str:
    if shard_id == RETRY_QUEUE:
        return "queue"
    number = shard_id.removeprefix("shardId-")
    return str(int(number)) if number != shard_id and number.isdecimal() else shard_id


def _count(count: int | None, style: str) -> Text:
    if count is None:
        return Text("–", "dim")
    return Text(f"{count:,}", style if count else "dim")


def _ages(rows: list[Row]) -> str:
    return f"none over {duration(max(row.age or 0.0 for row in rows))} behind"

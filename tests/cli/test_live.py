"""The live view of ``streamkit run``, in a terminal that a program looks at."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyte
import pytest
from rich.console import Console

from streamkit.cli.board import Row, total
from streamkit.cli.live import _table
from streamkit.cli.terminal import duration

from .process import ENVIRONMENT, command, put

PROGRAM = """
import logging
from streamkit import Divert, RecordProcessor, Reject, lambda_handler
from streamkit.testing import MemoryQueue

class Orders(RecordProcessor):
    name = "orders"
    on_failure = Divert(MemoryQueue(), MemoryQueue())

    def process(self, record):
        if record.data == b"reject":
            raise Reject("not this one")
        if record.data == b"fail":
            raise ValueError("nor this one")
        logging.getLogger("orders").warning("logged " + record.data.decode())
        print("printed " + record.data.decode())

handler = lambda_handler(Orders)
"""
# A function of one's own says nothing of what it has sent aside.
OTHER_PROGRAM = "def handler(event, context):\n    return None\n"


class Terminal:
    """A process on a terminal of its own, and what stands on its screen."""

    def __init__(self, folder: Path, arguments: list[str], columns: int = 120, lines: int = 40) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.screen = pyte.HistoryScreen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        # The size is the terminal's, and not that of one where the tests were started.
        inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            command("run", *arguments),
            cwd=folder,
            env={**inherited, **ENVIRONMENT, "TERM": "xterm-256color", "NO_COLOR": "1"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)

    @property
    def lines(self) -> list[str]:
        above = ["".join(row[n].data for n in range(self.screen.columns)) for row in self.screen.history.top]
        return [line.rstrip() for line in (*above, *self.screen.display)]

    def until(self, is_so: Callable[[list[str]], bool]) -> None:
        """Look on until the screen is as wanted."""
        give_up_at = time.monotonic() + 60
        while not is_so(self.lines):
            assert time.monotonic() < give_up_at, "\n".join(self.lines)
            self._look(0.05)

    def end(self) -> int:
        """What the process ends with, once all that it wrote stands on the screen."""
        while self.process.poll() is None:
            self._look(0.05)
        while self._look(0.0):
            pass
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def _look(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        with contextlib.suppress(OSError):  # The other end was closed.
            data = os.read(self._master, 65536)
            self._stream.feed(data)
            return bool(data)
        return False


@pytest.fixture
def terminal(tmp_path: Path, moto_endpoint: str, stream: str) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def start(program: str = PROGRAM, columns: int = 120) -> Terminal:
        (tmp_path / "orders.py").write_text(program)
        arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint, "--checkpoints", ":memory:"]
        opened.append(Terminal(tmp_path, arguments, columns))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def totals(lines: list[str]) -> list[str]:
    return next((line.split() for line in lines if line.startswith("all ")), [])


def test_the_shards_are_shown_with_what_was_sent_aside(
    terminal: Callable[..., Terminal], kinesis: Any, stream: str
) -> None:
    put(kinesis, stream, *(f"order {n}" for n in range(20)), "reject", "fail")

    shown = terminal()
    shown.until(lambda lines: totals(lines)[4:5] == ["22"])
    shown.process.send_signal(signal.SIGINT)

    assert shown.end() == 0
    # age and its unit, records/s, records, failed batches, retries, diverted, dead letters, given up
    assert totals(shown.lines)[4:] == ["22", "0", "0", "1", "1", "0"]
    assert totals(shown.lines)[1:3] == ["0", "s"]
    text = "\n".join(shown.lines)
    assert f"{stream} → orders:handler" in text
    assert "stopped; what was finished is checkpointed" in text


def test_what_the_function_logs_and_prints_stands_whole_above_one_table(
    terminal: Callable[..., Terminal], kinesis: Any, stream: str
) -> None:
    put(kinesis, stream, *(f"order {n}" for n in range(60)))

    shown = terminal()
    shown.until(lambda lines: totals(lines)[4:5] == ["60"])
    shown.process.send_signal(signal.SIGTERM)

    assert shown.end() == 0
    lines = shown.lines
    for n in range(60):
        assert f"WARNING logged order {n}" in lines
        assert f"printed order {n}" in lines
    (table,) = (n for n, line in enumerate(lines) if line.startswith("shard "))
    assert not any("order " in line for line in lines[table:])


def title(lines: list[str], stream: str) -> str:
    """The line with the seconds that have passed."""
    return next((line for line in lines if line.startswith(stream)), "")


def test_the_table_moves_on_while_the_function_logs(
    terminal: Callable[..., Terminal], kinesis: Any, stream: str
) -> None:
    steps = """def process(self, record):
        import os, time
        while not os.path.exists("go"):
            logging.getLogger("orders").warning("waiting")
            time.sleep(0.05)
"""
    put(kinesis, stream, "order")

    shown = terminal(PROGRAM.replace("def process(self, record):\n", steps))
    shown.until(lambda lines: "WARNING waiting" in lines and totals(lines)[4:5] == ["1"])
    before = title(shown.lines, stream)
    shown.until(lambda lines: title(lines, stream) not in ("", before))

    assert "WARNING waiting" in shown.lines
    assert totals(shown.lines)[4] == "1"


def test_the_terminal_is_as_before_after_one_signal_and_after_two(
    terminal: Callable[..., Terminal], kinesis: Any, stream: str
) -> None:
    hanging = PROGRAM.replace(
        "def process(self, record):", "def process(self, record):\n        __import__('time').sleep(600)"
    )
    put(kinesis, stream, "order")

    shown = terminal(hanging)
    shown.until(lambda lines: totals(lines)[4:5] == ["1"])
    assert shown.screen.cursor.hidden
    shown.process.send_signal(signal.SIGINT)
    shown.until(lambda lines: any("again to stop at once" in line for line in lines))
    shown.process.send_signal(signal.SIGINT)

    assert shown.end() == -signal.SIGINT
    assert not shown.screen.cursor.hidden


def test_an_error_is_the_last_line_and_leaves_the_terminal_as_it_was(
    terminal: Callable[..., Terminal], kinesis: Any, stream: str
) -> None:
    shown = terminal("handler = None\n")

    assert shown.end() == 2
    lines = [line for line in shown.lines if line]
    assert lines[-1] == "streamkit: orders has no function 'handler': `handler = lambda_handler(…)`"
    assert not shown.screen.cursor.hidden


def test_a_function_that_does_not_say_has_no_such_counts(
    terminal: Callable[..., Terminal], kinesis: Any, stream: str
) -> None:
    put(kinesis, stream, "1", "2", "3")

    shown = terminal(OTHER_PROGRAM)
    shown.until(lambda lines: totals(lines)[4:] == ["3", "0", "0", "–", "–", "0"])


def test_a_narrow_terminal_is_enough(terminal: Callable[..., Terminal], kinesis: Any, stream: str) -> None:
    put(kinesis, stream, "1", "2", "3")

    shown = terminal(OTHER_PROGRAM, columns=60)
    shown.until(lambda lines: totals(lines)[4:] == ["3", "–", "0"])

    (header,) = (line.split() for line in shown.lines if line.startswith("shard "))
    assert header == ["shard", "state", "position", "age", "/s", "records", "letters", "up"]


POSITION = 49590338271490256608559692538361571095921575989136588898
CALM = Row("shardId-000000000000", "reading", POSITION, 12.3, 385.0, 1_640_000, diverted=0, dead_letters=0)
TROUBLED = Row(
    *("shardId-000000000001", "blocked", POSITION, 86_399.0, 385.0, 1_640_000),
    failures=3,
    retries=2,
    diverted=15,
    dead_letters=17,
    throttles=4,
    read_errors=5,
)


def drawn(columns: int, *rows: Row) -> list[str]:
    console = Console(width=columns, file=io.StringIO())
    with console.capture() as captured:
        console.print(_table(list(rows), total(rows), width=columns, has_total=len(rows) > 1))
    return captured.get().splitlines()


@pytest.mark.parametrize("columns", [60, 70, 80, 120])
@pytest.mark.parametrize("rows", [(CALM,), (CALM, TROUBLED)])
def test_a_row_of_any_width_has_its_place_whole(columns: int, rows: tuple[Row, ...]) -> None:
    shown = drawn(columns, *rows)

    assert all(len(line) <= columns for line in shown)
    for number, row in enumerate(rows):
        (line,) = (line for line in shown if line.startswith(f"{number} "))
        assert line.split()[:3] == [str(number), row.state, "4959…6588898"]
        assert f" {duration(row.age or 0.0)} " in line


def test_what_counts_nothing_gives_way_to_what_counts_something() -> None:
    calm, troubled = (drawn(60, row)[1].split() for row in (CALM, TROUBLED))

    assert calm == ["shard", "state", "position", "age", "/s", "records", "up"]
    assert troubled == ["shard", "state", "position", "age", "records", "letters"]


def test_reads_that_were_throttled_and_those_that_failed_are_two_columns() -> None:
    above, header, _, row = drawn(160, CALM, TROUBLED)[:4]

    assert above.split()[-2:] == ["throt-", "failed"]
    assert header.split()[-2:] == ["tled", "reads"]
    assert row.split()[-2:] == ["4", "5"]
    assert "throt-" not in drawn(160, CALM)[0]


def test_without_rich_there_are_plain_lines_and_one_hint(
    terminal: Callable[..., Terminal], kinesis: Any, stream: str, tmp_path: Path
) -> None:
    # `python -m` finds what is in the current folder first.
    (tmp_path / "rich.py").write_text("raise ImportError('not installed')\n")
    put(kinesis, stream, "order")

    shown = terminal()
    shown.until(lambda lines: "WARNING logged order" in lines)
    shown.process.send_signal(signal.SIGINT)

    assert shown.end() == 0
    text = "\n".join(shown.lines)
    assert text.count("for a live view of the shards: pip install 'kinesis-streamkit[cli]'") == 1
    assert ": 1 record, " in text

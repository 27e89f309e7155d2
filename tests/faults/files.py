"""The row of the checkpoints in a SQLite file, whose bad days are others: locked, read-only, full, not there, killed."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

from streamkit.checkpoints import sqlite
from streamkit.checkpoints.sqlite import SqliteCheckpoints
from streamkit.errors import ConfigurationError

from .cells import Cell, Fault, Row
from .exchange import SLACK
from .stores import PASSES, STAYS, Call, CheckpointCalls

__all__ = ["FILES", "OfSqlite"]

WAITS = "waits for its turn, up to 30 s, and goes through"
WRONG_FILE = "raises ConfigurationError, which asks for another file"
KILLED = "the process is killed, and another one goes on"
#: Seconds that another process has the file, and that the store waits in the tests.
HELD, WAIT = 0.3, 0.2

#: Dies when its writes are on the disk, and before anybody has heard so.
_SAVE_AND_DIE = """
import os, signal, sys
from streamkit.checkpoints.sqlite import SqliteCheckpoints
path, key = sys.argv[1:]
store = SqliteCheckpoints(path)
commit = SqliteCheckpoints._change
def change(self, *arguments):
    commit(self, *arguments)
    os.kill(os.getpid(), signal.SIGKILL)
lease = store.take(key, "stream", "shard-0", "me", None)
SqliteCheckpoints._change = change
store.save(lease, 5)
print("heard of it")
"""


class OfSqlite(CheckpointCalls, Row):
    backend = SqliteCheckpoints
    service = "a file"
    cells: ClassVar[Mapping[Fault, Cell]] = {
        "slow": Cell(WAITS, None, "harmless"),
        "refusing": Cell(STAYS, None, "harmless"),
        "throttling": Cell(
            PASSES, None, "harmless", impossible="a file has no limit of requests; where it is locked for longer:"
        ),
        "in-part": Cell(STAYS, None, "harmless", impossible="a transaction is whole; where the disk is full:"),
        "gone": Cell(WRONG_FILE, None, "harmless"),
        "answer-lost": Cell(KILLED, None, "harmless"),
    }

    def __init__(self, folder: Path) -> None:
        self.path = folder / "checkpoints.db"
        self.store = SqliteCheckpoints(self.path)
        self.direct = SqliteCheckpoints(self.path)
        #: The calls that write.
        self.writing: Sequence[Call] = [call for call in self.calls if call.operation == "UpdateItem"]

    def close(self) -> None:
        self.store.close()
        self.direct.close()

    def check(self, fault: Fault, cell: Cell) -> None:
        try:
            getattr(self, f"see_{fault.replace('-', '_')}")(cell.told)
        finally:
            self.close()

    def made_ready(self, calls: Sequence[Call]) -> list[tuple[Call, str, Any]]:
        ready = []
        for call in calls:
            key = f"{call.name}-{uuid.uuid4().hex}"
            ready.append((call, key, call.before(self.direct, key)))
        self.store.leases("nobody", "stream")  # Its connection is open.
        return ready

    def see_right(self, ready: Sequence[tuple[Call, str, Any]]) -> None:
        for call, key, given in ready:
            result = call.do(self.store, key, given, 0.0)
            state = call.state(self.direct, key)
            assert state == call.last, call.name
            assert call.is_right(result, state), call.name

    def see_raised(self, ready: Sequence[tuple[Call, str, Any]], told: str, code: int) -> None:
        """Each call raises, and has changed nothing. SQLite's own code tells that it was this fault."""
        for call, key, given in ready:
            error = _raised(lambda call=call, key=key, given=given: call.do(self.store, key, given, 0.0))
            assert getattr(error, "sqlite_errorcode", None) == code, error
            assert self.store.may_pass(error) == {PASSES: True, STAYS: False}[told]
            assert call.state(self.direct, key) == call.first, call.name

    @contextlib.contextmanager
    def locked(self) -> Iterator[sqlite3.Connection]:
        """Another process writes, and takes its time."""
        other = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        try:
            other.execute("BEGIN IMMEDIATE")
            yield other
        finally:
            other.close()

    def see_slow(self, told: str) -> None:
        assert told == WAITS
        ready = self.made_ready(self.calls)
        for one in ready:
            with self.locked() as other:
                timer = threading.Timer(HELD, lambda other=other: other.execute("ROLLBACK"))
                started = time.monotonic()
                timer.start()
                self.see_right([one])
                took = time.monotonic() - started
                timer.join()
            # Who only reads does not wait.
            assert (took >= HELD) == (one[0] in self.writing), one[0].name
            assert took < HELD + SLACK

    def see_throttling(self, told: str) -> None:
        with mock.patch.object(sqlite, "_BUSY_SECONDS", WAIT):
            ready = self.made_ready(self.writing)
            with self.locked():
                started = time.monotonic()
                self.see_raised(ready, told, sqlite3.SQLITE_BUSY)
                assert time.monotonic() - started < len(ready) * (WAIT + SLACK)
            self.see_right(ready)

    def see_refusing(self, told: str) -> None:
        ready = self.made_ready(self.writing)
        # SQLite's own switch: a mode of the file is nothing to a superuser.
        self.store._connected().execute("PRAGMA query_only = ON")
        self.see_raised(ready, told, sqlite3.SQLITE_READONLY)
        self.store._connected().execute("PRAGMA query_only = OFF")
        self.see_right(ready)

    def see_in_part(self, told: str) -> None:
        self.made_ready(())
        connection = self.store._connected()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (most,) = connection.execute("PRAGMA max_page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        owner = "me" * 100_000  # It takes pages that there are not.
        error = _raised(lambda: self.store.take("reader", "stream", "shard-0", owner, None))
        assert getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
        assert told == STAYS
        assert not self.store.may_pass(error)
        assert self.direct.leases("reader", "stream") == {}
        connection.execute(f"PRAGMA max_page_count = {most}")
        taken = self.store.take("reader", "stream", "shard-0", owner, None)
        assert self.direct.leases("reader", "stream") == {"shard-0": taken}

    def see_gone(self, told: str) -> None:
        assert told == WRONG_FILE
        folder = self.path.parent / "mounted later"
        self.path = folder / "checkpoints.db"
        self.store, self.direct = SqliteCheckpoints(self.path), SqliteCheckpoints(self.path)
        for call in self.calls:
            error = _raised(lambda call=call: call.do(self.store, "reader", self.lease(), 0.0))
            assert isinstance(error, ConfigurationError)
            assert "name another file" in str(error)
        assert not folder.exists()
        folder.mkdir()
        self.see_right(self.made_ready(self.calls))

    def lease(self) -> Any:
        from streamkit.checkpoints.base import Lease

        return Lease("reader", "stream", "shard-0", "me", 1)

    def see_answer_lost(self, told: str) -> None:
        assert told == KILLED
        key = uuid.uuid4().hex
        program = [sys.executable, "-c", _SAVE_AND_DIE, str(self.path), key]
        ended = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert ended.stdout == ""
        lease = self.direct.leases(key, "stream")["shard-0"]
        assert lease.checkpoint == 5
        self.store.save(lease, 5)
        assert self.direct.leases(key, "stream") == {"shard-0": lease}
        # Every call that was done unheard can be made again.
        ready = self.made_ready(self.calls)
        for call, key, given in ready:
            call.do(self.direct, key, given, 0.0)
        self.see_right(ready)


def _raised(call: Any) -> Exception:
    try:
        result = call()
    except Exception as error:
        return error
    raise AssertionError(f"it has heard {result!r}")


#: A store in a file that is new gets its row here.
FILES: Sequence[type[OfSqlite]] = (OfSqlite,)

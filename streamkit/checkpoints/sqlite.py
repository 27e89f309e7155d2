"""Checkpoints in a SQLite file: the embedded default of ``streamkit run``."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import ConfigurationError
from .base import Entry, Lease, TransactionalCheckpoints

__all__ = ["SqliteCheckpoints"]

# "stkc", so that another program's database is known as such before anything is written to it.
_APPLICATION_ID = 0x73746B63
# Layout 0 was a table of checkpoints without owners.
_LAYOUT = 1
# SQLite's lock goes to whoever asks at the right moment, so one of several busy writers can wait for long.
_BUSY_SECONDS = 30.0
# A row is the fields of a Lease, in their order. A sequence number has up to 128 digits, more than SQLite's integers: a text.
_TABLE = """CREATE TABLE IF NOT EXISTS leases (
    reader TEXT, stream TEXT, shard_id TEXT, owner TEXT NOT NULL, term INTEGER NOT NULL, beat INTEGER NOT NULL,
    checkpoint TEXT, has_ended INTEGER NOT NULL, started_at REAL, PRIMARY KEY (reader, stream, shard_id)
) WITHOUT ROWID"""


class SqliteCheckpoints(TransactionalCheckpoints):
    """The file at ``path``, made on first use. Safe for several threads and processes, and against a process being killed.

    For the processes of one machine: SQLite's locks do not hold on a network's file system. A file of an older streamkit,
    which had checkpoints and no owners, is changed to this layout, and what it held stays. ConfigurationError where the file
    is not one of these.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def leases(self, reader: str, stream: str) -> dict[str, Lease]:
        with self._lock:
            rows = (
                self._connected()
                .execute("SELECT * FROM leases WHERE reader = ? AND stream = ?", (reader, stream))
                .fetchall()
            )
        return {entry.shard_id: entry for entry in map(_entry, rows)}

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _change(self, reader: str, stream: str, shard_id: str, changed: Callable[[Lease | None], Entry]) -> Entry:
        with self._lock, self._connected() as transaction:
            # Waits for the other writers here, and not between the reading and the writing, where SQLite can't wait.
            transaction.execute("BEGIN IMMEDIATE")
            row = transaction.execute(
                "SELECT * FROM leases WHERE reader = ? AND stream = ? AND shard_id = ?",
                (reader, stream, shard_id),
            ).fetchone()
            before = row and _entry(row)
            after = changed(before)
            if after is not None and after != before:
                transaction.execute(
                    "INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    _row(after),
                )
        return after

    def may_pass(self, error: Exception) -> bool:
        return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY

    def _connected(self) -> sqlite3.Connection:
        give_up_at = time.monotonic() + _BUSY_SECONDS
        while self._connection is None:
            try:
                self._connection = self._open()
            except (sqlite3.DatabaseError, ConfigurationError) as error:
                # SQLite does not wait by itself where two processes make one file at once and both want its log.
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY and time.monotonic() < give_up_at:
                    time.sleep(0.01)
                    continue
                raise ConfigurationError(f"{self._path} can't keep checkpoints: {error}; name another file") from error
        return self._connection

    def _open(self) -> sqlite3.Connection:
        # Transactions begin where this file says so, and not where Python thinks so.
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        with connection as transaction:
            # All of one moment, since another process may be making the file.
            transaction.execute("BEGIN")
            (tables,) = transaction.execute("SELECT count(*) FROM sqlite_master").fetchone()
            (application,) = transaction.execute("PRAGMA application_id").fetchone()
            (layout,) = transaction.execute("PRAGMA user_version").fetchone()
        if application != _APPLICATION_ID and tables:
            raise ConfigurationError("it is another program's database")
        if layout > _LAYOUT:
            raise ConfigurationError("a newer streamkit has made it")
        # A commit is on the disk before `save` returns.
        connection.execute("PRAGMA synchronous = FULL")
        if tables and layout == _LAYOUT:
            return
        # A write-ahead log lets readers in while one process writes.
        connection.execute("PRAGMA journal_mode = WAL")
        with connection as transaction:
            transaction.execute("BEGIN IMMEDIATE")
            self._lay_out(transaction)

    def _lay_out(self, transaction: sqlite3.Connection) -> None:
        transaction.execute(_TABLE)
        if transaction.execute("SELECT 1 FROM sqlite_master WHERE name = 'checkpoints'").fetchone():
            # Gone for an older streamkit too that has the file open: it knows no owners, and must not go on.
            transaction.execute(
                "INSERT INTO leases "
                "SELECT reader, stream, shard_id, '', 0, 0, sequence_number, 0, NULL FROM checkpoints"
            )
            transaction.execute("DROP TABLE checkpoints")
        transaction.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        transaction.execute(f"PRAGMA user_version = {_LAYOUT}")


def _entry(row: tuple[str, str, str, str, int, int, str | None, int, float | None]) -> Lease:
    reader, stream, shard_id, owner, term, beat, checkpoint, has_ended, started_at = row
    number = None if checkpoint is None else int(checkpoint)
    return Lease(reader, stream, shard_id, owner, term, beat, number, bool(has_ended), started_at)


def _row(entry: Lease) -> tuple[str | int | float | None, ...]:
    checkpoint = None if entry.checkpoint is None else str(entry.checkpoint)
    return (
        *(entry.reader, entry.stream, entry.shard_id, entry.owner, entry.term, entry.beat),
        *(checkpoint, int(entry.has_ended), entry.started_at),
    )

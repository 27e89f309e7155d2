"""Checkpoints in a SQLite file: the embedded default of ``streamkit run``."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path

from ..errors import ConfigurationError
from .base import CheckpointStore

__all__ = ["SqliteCheckpoints"]

# "stkc", so that another program's database is known as such before anything is written to it.
_APPLICATION_ID = 0x73746B63
# SQLite's lock goes to whoever asks at the right moment, so one of several busy writers can wait for long.
_BUSY_SECONDS = 30.0
# A sequence number has up to 128 digits, more than SQLite's integers: as texts of one length they compare as numbers do.
_DIGITS = 128


class SqliteCheckpoints(CheckpointStore):
    """The file at ``path``, made on first use. Safe for several threads and processes, and against a process being killed.

    ConfigurationError where the file is not one of these.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def get(self, reader: str, stream: str, shard_id: str) -> int | None:
        with self._lock:
            row = (
                self._connected()
                .execute(
                    "SELECT sequence_number FROM checkpoints WHERE reader = ? AND stream = ? AND shard_id = ?",
                    (reader, stream, shard_id),
                )
                .fetchone()
            )
        return None if row is None else int(row[0])

    def save(self, reader: str, stream: str, shard_id: str, sequence_number: int) -> None:
        with self._lock, self._connected() as transaction:
            transaction.execute(
                "INSERT INTO checkpoints (reader, stream, shard_id, sequence_number) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (reader, stream, shard_id) DO UPDATE SET sequence_number = excluded.sequence_number "
                "WHERE excluded.sequence_number > sequence_number",
                (reader, stream, shard_id, str(sequence_number).zfill(_DIGITS)),
            )

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

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
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False)
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION_ID and tables:
            raise ConfigurationError("it is another program's database")
        # A commit is on the disk before `save` returns.
        connection.execute("PRAGMA synchronous = FULL")
        if tables:
            return
        # A write-ahead log lets readers in while one process writes.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS checkpoints (reader TEXT, stream TEXT, shard_id TEXT, "
            "sequence_number TEXT NOT NULL, PRIMARY KEY (reader, stream, shard_id)) WITHOUT ROWID"
        )

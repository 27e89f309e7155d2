"""Checkpoints in a SQLite file: the embedded default of ``streamkit run``."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

from ..errors import ConfigurationError
from .base import CheckpointStore

__all__ = ["SqliteCheckpoints"]

# "stkc", so that another program's database is known as such before anything is written to it.
_APPLICATION_ID = 0x73746B63
_BUSY_SECONDS = 10.0
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
        if self._connection is None:
            connection = None
            try:
                connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False)
                self._prepare(connection)
            except (sqlite3.DatabaseError, ConfigurationError) as error:
                if connection is not None:
                    connection.close()
                raise ConfigurationError(f"{self._path} can't keep checkpoints: {error}; name another file") from error
            self._connection = connection
        return self._connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != _APPLICATION_ID and tables:
            raise ConfigurationError("it is another program's database")
        # A write-ahead log lets readers in while one process writes; a commit is on the disk before `save` returns.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        with connection:
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS checkpoints (reader TEXT, stream TEXT, shard_id TEXT, "
                "sequence_number TEXT NOT NULL, PRIMARY KEY (reader, stream, shard_id)) WITHOUT ROWID"
            )

"""Where records are written to: a SQLite file with each row under its write id, and with the latest row of each key.

    rows        write id → number, how often it was written        a sink that dedupes
    documents   stream and key → number                            a sink that replaces

Both change in one transaction a request.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from streamkit import Refusal, Sink, SinkError, Write

from .faults import Faults
from .plan import Fate

__all__ = ["Store", "StoreSink", "opened"]

_TABLES = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS rows (write_id TEXT PRIMARY KEY, number INTEGER, times INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    stream TEXT, key TEXT, number INTEGER, write_id TEXT, PRIMARY KEY (stream, key)
) WITHOUT ROWID;
"""


class Store:
    """The file at ``path``, for one thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def put(self, rows: Sequence[tuple[str, str, str, int]]) -> None:
        """Rows of (write id, stream, key, number), all or none."""
        connection = self._connection = self._connection or opened(self._path)
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO rows VALUES (?1, ?2, 1) ON CONFLICT (write_id) DO UPDATE SET times = times + 1",
            [(write_id, number) for write_id, _, _, number in rows],
        )
        connection.executemany(
            "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)",
            [(stream, key, number, write_id) for write_id, stream, key, number in rows],
        )
        connection.execute("COMMIT")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=60.0, isolation_level=None, check_same_thread=False)
    connection.executescript(_TABLES)
    # Safe against killed processes, which is what is asked of it; not against a machine that loses its power.
    connection.execute("PRAGMA synchronous = OFF")
    return connection


class StoreSink(Sink):
    """Writes to the store, and refuses by the fates of records. ``is_first``: whether this process tries one the first time."""

    request_writes: ClassVar[int] = 100

    def __init__(
        self, store: Store, stream: str, faults: Faults, is_first: Callable[[int], bool], planted: set[str]
    ) -> None:
        self._store = store
        self._stream = stream
        self._faults = faults
        self._is_first = is_first
        self._planted = planted

    def row(self, event: dict[str, Any]) -> Write:
        return Write(self, (event["n"], event["key"], Fate(event["fate"])))

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        faults = self._faults
        faults.step()
        if faults.happens("the sink is down"):
            raise ConnectionError("the sink is down")
        refusals: list[Refusal] = []
        rows: list[tuple[str, str, str, int]] = []
        for write in writes:
            number, key, fate = write.payload
            if fate is Fate.INVALID:
                refusals.append(Refusal(write, SinkError("this can never be written"), "invalid"))
            elif fate is Fate.REFUSED and self._is_first(number):
                refusals.append(Refusal(write, SinkError("mendable: not taken"), "failed"))
            elif fate is Fate.THROTTLED and self._is_first(number):
                refusals.append(Refusal(write, SinkError("too many writes"), "unavailable"))
            else:
                rows.append((write.write_id, self._stream, key, number))
        self._break(rows)
        if rows:
            self._store.put(rows)
        faults.step()
        if faults.happens("the sink's answer is lost"):
            raise ConnectionError("the sink did not answer")
        return refusals

    def _break(self, rows: list[tuple[str, str, str, int]]) -> None:
        """What is planted: one record is never written, and one is written once more, under another id."""
        planted = self._planted
        if "answer without writing" in planted and rows:
            planted.discard("answer without writing")
            planted.add(f"never {rows[-1][-1]}")
        elif "write under another id" in planted and rows:
            planted.discard("write under another id")
            write_id, stream, key, number = rows[0]
            rows.append((f"{write_id}1", stream, key, number))
        if planted:
            rows[:] = [row for row in rows if f"never {row[-1]}" not in planted]

    def close(self) -> None:
        self._store.close()

"""What was put back already, in a SQLite file: so that a redrive that was killed goes on where it was, and sends nothing twice.

A letter is recorded as *sending* before it is sent, as *sent* once that is confirmed, and only then deleted from where it lay.
Killed

  before the record      it was not sent: the next run sends it
  between the two        it may have been sent: the next run sends it, perhaps a second time, and says so. A FIFO queue drops the
                         second copy for five minutes, since both have one deduplication id
  after the second       the next run does not send it, and deletes it

What was refused stays as *sending*: where the refusal is a lost answer, it may have been sent.

A letter that was put back, failed once more and lies there again is another one: it was put back once more often than the one
that is recorded, or it failed later. What is neither is a copy of what was put back.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..envelope import Envelope
from ..errors import StreamkitError
from ..letters import died_at, iso

__all__ = ["Entry", "Journal", "entry_of"]

_TABLE = """
CREATE TABLE IF NOT EXISTS letters (
    source TEXT NOT NULL, identity BLOB NOT NULL, event_id TEXT NOT NULL,
    redrives INTEGER NOT NULL, died REAL NOT NULL, sent INTEGER NOT NULL, at TEXT NOT NULL,
    PRIMARY KEY (source, identity)
) WITHOUT ROWID"""


class Entry(NamedTuple):
    """A letter as the journal knows it. ``identity`` is a digest of the processor, the event id and the payload."""

    identity: bytes
    event_id: str
    redrives: int
    died: float

    def is_copy_of(self, other: Entry) -> bool:
        """Whether this is no later life of the event than ``other``: it was put back no more often, and failed no later."""
        return self.redrives <= other.redrives and self.died <= other.died


def entry_of(envelope: Envelope) -> Entry:
    """The entry of a letter as it lies there."""
    digest = hashlib.sha256()
    for part in (envelope.processor, envelope.event_id):
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:" % len(encoded) + encoded)
    digest.update(envelope.data or b"")
    at = died_at(envelope)
    return Entry(digest.digest()[:16], envelope.event_id, envelope.redrives, 0.0 if at is None else at)


class Journal:
    """The file at ``path``, for the letters of ``source``. One process at a time: StreamkitError where another has it.

    ``is_read_only``: what is written goes nowhere, and the file need not be there.
    """

    def __init__(self, path: str, source: str, *, is_read_only: bool = False) -> None:
        self._source = source
        try:
            if is_read_only:
                self._file = _copied(path)
                return
            if path != ":memory:":
                # Event ids and no payload; but whose events they are is nobody else's business.
                with contextlib.suppress(FileExistsError):
                    Path(path).touch(mode=0o600, exist_ok=False)
            self._file = sqlite3.connect(path, isolation_level=None, timeout=0.5)
            self._file.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._file.execute("BEGIN EXCLUSIVE")
            self._file.execute(_TABLE)
            self._file.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise StreamkitError(f"another redrive uses {path} at this moment: wait for it, or stop it") from error
            raise StreamkitError(f"{path} can't be used to record what was put back: {error}") from error
        except (sqlite3.DatabaseError, OSError) as error:
            raise StreamkitError(
                f"{path} is no file that records what was put back ({error}): --state names another"
            ) from error

    def sent(self, entry: Entry) -> bool:
        """Whether this letter, or a later life of its event, was put back for certain."""
        row = self._row(entry)
        return row is not None and row[1] and entry.is_copy_of(row[0])

    def perhaps_sent(self, entry: Entry) -> bool:
        """Whether a run ended while it was sending this letter."""
        row = self._row(entry)
        return row is not None and not row[1] and entry.is_copy_of(row[0])

    def was_sent_since(self, entry: Entry, moment: float) -> bool:
        """Whether an earlier life of its event was put back at ``moment`` or later: it has failed again since."""
        row = self._file.execute(
            "SELECT at FROM letters WHERE source = ? AND identity = ? AND sent = 1", (self._source, entry.identity)
        ).fetchone()
        return row is not None and row[0] >= iso(moment)

    def begin(self, entries: Iterable[Entry], now: float) -> None:
        """They are about to be sent. An entry of an earlier life of the event is over with that."""
        self._write(entries, sent=False, now=now)

    def confirm(self, entries: Iterable[Entry], now: float) -> None:
        """They were sent."""
        self._write(entries, sent=True, now=now)

    def close(self) -> None:
        self._file.close()

    def _row(self, entry: Entry) -> tuple[Entry, bool] | None:
        row = self._file.execute(
            "SELECT redrives, died, sent FROM letters WHERE source = ? AND identity = ?", (self._source, entry.identity)
        ).fetchone()
        return None if row is None else (entry._replace(redrives=row[0], died=row[1]), bool(row[2]))

    def _write(self, entries: Iterable[Entry], *, sent: bool, now: float) -> None:
        with self._transaction():
            self._file.executemany(
                "INSERT OR REPLACE INTO letters VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        self._source,
                        entry.identity,
                        _text(entry.event_id),
                        entry.redrives,
                        entry.died,
                        int(sent),
                        iso(now),
                    )
                    for entry in entries
                ],
            )

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._file.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._file.execute("ROLLBACK")
            raise
        self._file.execute("COMMIT")


def _copied(path: str) -> sqlite3.Connection:
    """What the file holds, in a database without a name, which ends with the process."""
    copy = sqlite3.connect("", isolation_level=None)
    if Path(path).exists():
        where = f"{Path(path).resolve().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(where, uri=True, isolation_level=None, timeout=0.5)) as file:
            # Another process may have it, and a backup would wait for that without end.
            file.execute("BEGIN")
            file.execute("SELECT count(*) FROM sqlite_master").fetchone()
            file.backup(copy)
    copy.execute(_TABLE)
    return copy


def _text(event_id: str) -> str:
    """Without lone surrogates, which SQLite does not take."""
    return event_id.encode("utf-8", "replace").decode()

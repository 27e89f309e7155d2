"""The letters of one round of a redrive, in the order in which they are put back.

They lie in a database of SQLite's own that has no name: memory stays small whatever their number, and nothing of a payload is
left on the disk when the process ends, however it ends.

Order: letters of one processor and partition key by their place in the stream; where they have none, by the time they were
sent. A letter's *turn* is its place within its key. The first of all keys go first, then the second of all, so that a request
never holds two letters of one key.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from ..envelope import Envelope, open_envelope
from ..failure import group_of
from ..record import MOST_DIGITS
from .journal import Entry

__all__ = ["Letter", "Spool"]

# Of a place within an aggregate.
_SUB_DIGITS = 10

READY, LEFT, DONE, COPY, SENT_BEFORE = "ready", "left", "done", "copy", "sent before"


class Letter(NamedTuple):
    """A letter whose turn it is. ``number`` is its own here."""

    number: int
    message: str
    entry: Entry
    envelope: Envelope


class Spool:
    """Fill it with ``add`` and ``leave``, call ``arrange``, then take ``next`` until it is empty."""

    def __init__(self) -> None:
        self._rows = sqlite3.connect("", isolation_level=None)
        self._rows.execute(
            "CREATE TABLE letters (number INTEGER PRIMARY KEY, message TEXT, state TEXT, key TEXT, position TEXT, "
            "identity BLOB, event_id TEXT, redrives INTEGER, died REAL, body TEXT, turn INTEGER, leader INTEGER)"
        )
        self._rows.execute("CREATE INDEX by_message ON letters (message)")
        self._rows.execute("CREATE INDEX by_turn ON letters (state, turn, position)")
        self._rows.execute("CREATE INDEX by_key ON letters (key, state)")
        self._rows.execute("CREATE INDEX by_leader ON letters (leader)")

    def add(self, message: str, envelope: Envelope, entry: Entry, sent_at: float | None, *, was_sent: bool) -> None:
        """A letter that is to be put back; or that ``was_sent`` by an earlier run, and is to be deleted only."""
        state = SENT_BEFORE if was_sent else READY
        key, position = _key(envelope), _position(envelope, sent_at)
        self._rows.execute(
            "INSERT INTO letters (message, state, key, position, identity, event_id, redrives, died, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (message, state, key, position, *entry, None if was_sent else envelope.encode()),
        )

    def leave(self, message: str, envelope: Envelope | None = None, sent_at: float | None = None) -> None:
        """A letter of ``message`` that stays, and the message with it."""
        key, position = (None, None) if envelope is None else (_key(envelope), _position(envelope, sent_at))
        self._rows.execute(
            "INSERT INTO letters (message, state, key, position) VALUES (?, ?, ?, ?)", (message, LEFT, key, position)
        )

    def arrange(self) -> None:
        """Put one of the copies of an event for all of them, and find everyone's turn."""
        execute = self._rows.execute
        execute(
            "CREATE TABLE best AS SELECT identity, number, redrives, died FROM (SELECT *, row_number() OVER "
            "(PARTITION BY identity ORDER BY redrives DESC, died DESC, number) AS place FROM letters WHERE state = ?) "
            "WHERE place = 1",
            (READY,),
        )
        execute("CREATE UNIQUE INDEX by_identity ON best (identity)")
        execute(
            "UPDATE letters SET leader = (SELECT number FROM best WHERE best.identity = letters.identity AND "
            "best.number != letters.number AND letters.redrives <= best.redrives AND letters.died <= best.died) "
            "WHERE state = ?",
            (READY,),
        )
        execute("UPDATE letters SET state = ? WHERE leader IS NOT NULL", (COPY,))
        execute("CREATE TABLE turns (number INTEGER PRIMARY KEY, turn INTEGER)")
        execute(
            "INSERT INTO turns SELECT number, row_number() OVER (PARTITION BY key ORDER BY position, number) "
            "FROM letters WHERE state = ?",
            (READY,),
        )
        execute("UPDATE letters SET turn = (SELECT turn FROM turns WHERE turns.number = letters.number)")

    def next(self, most: int) -> list[Letter]:
        """Up to ``most`` letters of different keys, whose earlier ones are all put back."""
        rows = self._rows.execute(
            "SELECT number, message, identity, event_id, redrives, died, body, turn FROM letters WHERE state = ? "
            "ORDER BY turn, position LIMIT ?",
            (READY, most),
        ).fetchall()
        return [_letter(row) for row in rows if row[7] == rows[0][7]]

    def done(self, numbers: Iterable[int]) -> None:
        """They were put back, and their copies with them."""
        pairs = [(DONE, number, number) for number in numbers]
        self._rows.executemany("UPDATE letters SET state = ? WHERE number = ? OR leader = ?", pairs)

    def refused(self, letter: Letter) -> int:
        """It stays, and so does all of its key behind it: how many letters stay with it."""
        execute = self._rows.execute
        execute("UPDATE letters SET state = ? WHERE number = ? OR leader = ?", (LEFT, letter.number, letter.number))
        return execute(
            "UPDATE letters SET state = ? WHERE state = ? AND key = ?", (LEFT, READY, _key(letter.envelope))
        ).rowcount

    def settled(self, messages: Iterable[str] | None = None) -> list[str]:
        """Those of ``messages`` (default: of all) that hold nothing which is not put back, and those of their copies."""
        query = "SELECT message FROM letters {} GROUP BY message HAVING sum(state NOT IN (?, ?)) = 0"
        states = (DONE, SENT_BEFORE)
        if messages is None:
            return [row[0] for row in self._rows.execute(query.format(""), states)]
        found: dict[str, None] = {}
        for message in messages:
            for (one,) in self._rows.execute(query.format("WHERE message = ?"), (message, *states)):
                found[one] = None
        return list(found)

    def copies_of(self, number: int) -> list[str]:
        """The messages that hold copies of the letter."""
        return [row[0] for row in self._rows.execute("SELECT message FROM letters WHERE leader = ?", (number,))]

    def count(self, state: str) -> int:
        found: int = self._rows.execute("SELECT count(*) FROM letters WHERE state = ?", (state,)).fetchone()[0]
        return found

    def count_keys(self) -> int:
        """How many keys the letters that are to be put back have."""
        found: int = self._rows.execute("SELECT count(DISTINCT key) FROM letters WHERE state = ?", (READY,)).fetchone()[
            0
        ]
        return found

    def count_before_their_turn(self) -> int:
        """How many are put back though an earlier one of their key stays."""
        found: int = self._rows.execute(
            "SELECT count(*) FROM letters AS mine WHERE state = ? AND EXISTS (SELECT 1 FROM letters AS other "
            "WHERE other.key = mine.key AND other.state = ? AND other.position < mine.position)",
            (READY, LEFT),
        ).fetchone()[0]
        return found

    def close(self) -> None:
        self._rows.close()


def _letter(row: tuple[int, str, bytes, str, int, float, str, int]) -> Letter:
    number, message, identity, event_id, redrives, died, body, _ = row
    envelope = open_envelope(body)
    assert envelope is not None  # It was written by `add`.
    return Letter(number, message, Entry(identity, event_id, redrives, died), envelope)


def _key(envelope: Envelope) -> str:
    return group_of(envelope.processor, envelope.partition_key, envelope.event_id)


def _position(envelope: Envelope, sent_at: float | None) -> str:
    """A text that sorts as places in a stream do; what has none comes before them, by its time."""
    number = envelope.sequence_number or ""
    if number.isdecimal() and len(number) <= MOST_DIGITS:
        return f"1{number.zfill(MOST_DIGITS)}{envelope.sub_sequence_number or 0:0{_SUB_DIGITS}d}"
    return f"0{(sent_at or 0.0) * 1000:020.0f}"

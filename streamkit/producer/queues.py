"""What waits for one shard, and which of it makes the next request: an aggregate, or plain records of different keys.

PutRecords promises no order within a request: it may take a later record and refuse an earlier one. So a request holds, for each
shard, either one aggregate or plain records with at most one of each key.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import msgspec

from ..kpl import Aggregation
from .future import Entry
from .shards import hash_of

__all__ = ["Aggregates", "Parcel", "Plain", "Queue"]

#: The partition key of every aggregate, as of the KPL's: it is one key, so that parallel lanes of a reader keep the order of
#: the keys inside. Where it lies, its explicit hash key says.
AGGREGATE_KEY = "a"
_SMALLEST_AGGREGATE = 64 * 1024
# What the format adds to a record: three fields of two bytes at least; where it is new, a short key and an explicit hash key.
_LEAST_AROUND, _MOST_AROUND = 6, 80


class Parcel(msgspec.Struct):
    """One Kinesis record on its way, and what is in it."""

    entries: Sequence[Entry]
    #: What counts against the limits: data and partition key.
    size: int
    #: Bytes of data and keys of the entries.
    held: int
    #: None: the one entry, plain.
    aggregation: Aggregation | None = None

    def content(self) -> tuple[bytes | bytearray, str, str | None]:
        """Data, partition key and explicit hash key of the Kinesis record."""
        first = self.entries[0]
        if self.aggregation is None:
            return first.data, first.partition_key, first.explicit_hash_key
        # Where the first record's key belongs: whatever became of the shard meanwhile, that one lies right.
        hash_key = first.explicit_hash_key or str(hash_of(first.partition_key))
        return self.aggregation.buffer(), AGGREGATE_KEY, hash_key


class Queue(Protocol):
    """What waits for one shard. Entries are added in the order of their acceptance."""

    def __len__(self) -> int:
        """How many entries wait."""

    def add(self, entries: Sequence[Entry]) -> None:
        """Put them behind the others, in their order."""

    def due_at(self, linger: float) -> float:
        """From when on something is to be sent; infinity where nothing waits."""

    def next_size(self) -> tuple[int, int]:
        """The bytes and Kinesis records that the shard's limits must have room for, before something is taken."""

    def first_size(self) -> int:
        """The bytes of the least that can be taken, at most."""

    def take(self, most_records: int, most_bytes: int) -> list[Parcel]:
        """The parcels of the next request, within so many records and bytes; none where not even the first fits."""

    def put_back(self, entries: Sequence[Entry]) -> None:
        """To the front, in their order: what a request did not get into the stream."""

    def shrink(self) -> None:
        """The shard has refused some for its limits."""

    def split(self, size: int) -> None:
        """A Kinesis record of ``size`` bytes was refused as wrong, perhaps for one record in it: make smaller ones."""

    def grow(self) -> None:
        """The shard has taken some."""

    def oldest(self) -> float:
        """When the oldest entry was accepted; infinity where none waits."""

    def drain(self) -> list[Entry]:
        """Take everything out, in the order of each key."""


class Aggregates:
    """One aggregate a request.

    ``most`` is the size of an aggregate with its partition key. A shard that refuses gets smaller ones: where several
    producers write to one, a record as large as what the shard takes in a second hardly ever finds room.
    """

    def __init__(self, most: int) -> None:
        self._limit = self._most = most
        self._entries: list[Entry] = []
        # What they take in an aggregate at least.
        self._bytes = 0
        self._is_due = False

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entries: Sequence[Entry]) -> None:
        self._entries += entries
        self._bytes += _least_bytes(entries)

    def due_at(self, linger: float) -> float:
        if not self._entries:
            return float("inf")
        return self._entries[0].accepted + (0.0 if self._is_due or self._bytes >= self._most else linger)

    def next_size(self) -> tuple[int, int]:
        return min(self._bytes + _MOST_AROUND * len(self._entries), max(self._most, _plain_size(self._entries[0]))), 1

    def first_size(self) -> int:
        return self.next_size()[0]

    def take(self, most_records: int, most_bytes: int) -> list[Parcel]:
        if not self._entries or most_records < 1:
            return []
        most = self._most
        if most_bytes < most and most_bytes < self.next_size()[0]:
            # Rather a whole one in the next request than a small one in this.
            if most_bytes < most // 2:
                return []
            most = most_bytes
        aggregation = Aggregation()
        count = aggregation.fill(self._entries, most - len(AGGREGATE_KEY)) or aggregation.fill(
            (self._entries[0],), min(self._limit, most_bytes) - len(AGGREGATE_KEY)
        )
        if count:
            entries, held = self._taken(count)
            parcel = Parcel(entries, aggregation.size + len(AGGREGATE_KEY), held, aggregation)
        elif _plain_size(self._entries[0]) <= most_bytes:
            # No aggregate holds it.
            size = _plain_size(self._entries[0])
            entries, held = self._taken(1)
            parcel = Parcel(entries, size, held)
        else:
            return []
        self._is_due = self._is_due and bool(self._entries)
        return [parcel]

    def put_back(self, entries: Sequence[Entry]) -> None:
        self._entries[:0] = entries
        self._bytes += _least_bytes(entries)
        self._is_due = bool(self._entries)

    def shrink(self) -> None:
        size = min(self._most, self._bytes)
        self._most = min(self._most, max(_SMALLEST_AGGREGATE, size // 2))

    def split(self, size: int) -> None:
        self._most = max(1, size // 2)

    def grow(self) -> None:
        self._most = min(self._limit, 2 * self._most)

    def oldest(self) -> float:
        return self._entries[0].accepted if self._entries else float("inf")

    def drain(self) -> list[Entry]:
        entries, self._entries = self._entries, []
        self._bytes, self._is_due = 0, False
        return entries

    def _taken(self, count: int) -> tuple[list[Entry], int]:
        entries = self._entries[:count]
        del self._entries[:count]
        data = sum([len(entry.data) for entry in entries])
        self._bytes -= data + _LEAST_AROUND * count
        return entries, data + sum([len(entry.partition_key) for entry in entries])


class Plain:
    """Plain records, of each key one a request: the others of a key stand in line behind it."""

    #: Kinesis records and bytes that are worth a request; fewer wait until the shard's limits have room for them.
    _WORTH = (250, 256 * 1024)

    def __init__(self) -> None:
        #: Key → its entries in order, for those whose first may go; the dict's order is whose turn it is.
        self._lines: dict[str, deque[Entry]] = {}
        self._count = self._bytes = 0
        self._since = float("inf")
        self._is_due = False

    def __len__(self) -> int:
        return self._count

    def add(self, entries: Sequence[Entry]) -> None:
        if not self._count and entries:
            self._since = entries[0].accepted
        self._count += len(entries)
        for entry in entries:
            self._bytes += _plain_size(entry)
            line = self._lines.get(entry.partition_key)
            if line is None:
                self._lines[entry.partition_key] = deque((entry,))
            else:
                line.append(entry)

    def due_at(self, linger: float) -> float:
        if not self._count:
            return float("inf")
        return self._since + (0.0 if self._is_due or self._is_worth() else linger)

    def next_size(self) -> tuple[int, int]:
        return max(self.first_size(), min(self._bytes, self._WORTH[1])), min(len(self._lines), self._WORTH[0])

    def first_size(self) -> int:
        return _plain_size(next(iter(self._lines.values()))[0])

    def take(self, most_records: int, most_bytes: int) -> list[Parcel]:
        parcels: list[Parcel] = []
        for line in self._lines.values():
            size = _plain_size(line[0])
            if len(parcels) == most_records or size > most_bytes:
                break
            most_bytes -= size
            entry = line.popleft()
            parcels.append(Parcel((entry,), size, len(entry.data) + len(entry.partition_key)))
            self._count -= 1
            self._bytes -= size
        for parcel in parcels:
            key = parcel.entries[0].partition_key
            line = self._lines.pop(key)
            if line:  # Its next stands behind the other keys.
                self._lines[key] = line
        if parcels:
            self._mark_due()
        return parcels

    def put_back(self, entries: Sequence[Entry]) -> None:
        back: dict[str, deque[Entry]] = {}
        for entry in entries:
            back.setdefault(entry.partition_key, deque()).append(entry)
            self._count += 1
            self._bytes += _plain_size(entry)
        for key, line in back.items():
            line.extend(self._lines.pop(key, ()))
        if back:
            self._lines = {**back, **self._lines}
            self._mark_due()

    def shrink(self) -> None:
        """Each is as small as it is."""

    def split(self, size: int) -> None:
        """Each is alone."""

    def grow(self) -> None:
        """Each is as large as it is."""

    def oldest(self) -> float:
        return min((line[0].accepted for line in self._lines.values()), default=float("inf"))

    def drain(self) -> list[Entry]:
        entries = [entry for line in self._lines.values() for entry in line]
        self._lines.clear()
        self._count = self._bytes = 0
        self._is_due, self._since = False, float("inf")
        return entries

    def _is_worth(self) -> bool:
        return len(self._lines) >= self._WORTH[0] or self._bytes >= self._WORTH[1]

    def _mark_due(self) -> None:
        """What was left by a request, or came back from one, has waited."""
        self._is_due = self._count > 0
        self._since = next(iter(self._lines.values()))[0].accepted if self._lines else float("inf")


def _least_bytes(entries: Sequence[Entry]) -> int:
    """What they take in an aggregate at least."""
    return sum([len(entry.data) for entry in entries]) + _LEAST_AROUND * len(entries)


def _plain_size(entry: Entry) -> int:
    key = entry.partition_key
    return len(entry.data) + (len(key) if key.isascii() else len(key.encode()))

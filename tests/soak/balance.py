"""The ledger: what went in, read from the streams themselves, against what came out and what happened on the way.

Of each event (a record as it stands in a stream; one that was put twice is two)

    it is written once under its write id, or it is a dead letter for good: which of both its fate says
    what is written, and what is a letter, is an event
    the last write of its key is that of the key's last record, or of one that came back from the dead letters

and of the order (docs/guarantees.md, docs/park.md)

    Block, Park    no record of a key starts before ``process`` has come through with each earlier one, or it was given up
    Divert         from the stream, none starts before each earlier one has started, or is a dead letter
    every shard    a batch begins where the answer before it says, or, where that was lost, where the batch before it began
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from aws_kinesis_agg.deaggregator import messages_pb2

from .archive import Archive
from .function import position_of, processor_name
from .journal import Entry, Kind, entries
from .plan import SHARDS, STAYING, STREAMS, Fate, fate_of, number_of
from .store import opened
from .worker import stream_name

__all__ = ["Balance", "Events", "balanced", "compared"]

_MAGIC = b"\xf3\x89\x9a\xc2"
_SHOWN = 5


class Balance(msgspec.Struct):
    """The account, in events but where it says otherwise. ``wrong`` has a line for each kind of mistake."""

    #: Numbers that went in, and the events that they are: more, where a producer put some twice.
    numbers: int = 0
    events: int = 0
    kinesis_records: int = 0
    keys: int = 0
    fates: dict[str, int] = msgspec.field(default_factory=dict)
    written: int = 0
    #: Writes of a row that was there already, and rows that had any.
    repeats: int = 0
    repeated: int = 0
    most_writes: int = 0
    letters: int = 0
    #: Copies of letters that stay, which at-least-once allows.
    copies: int = 0
    #: Given up by the engine, and given to the dead letters by whoever.
    discarded: int = 0
    were_letters: int = 0
    starts: int = 0
    started_from_queue: int = 0
    invocations: int = 0
    lost_answers: int = 0
    overruns: int = 0
    wrong: list[str] = msgspec.field(default_factory=list)


class Events:
    """All events in order, in arrays: an event is its index."""

    def __init__(self) -> None:
        self.numbers = array("l")
        self.fates = bytearray()
        #: The key of each, and its place among the key's.
        self.keys = array("l")
        self.ranks = array("l")
        self.streams = bytearray()
        #: The first event of each Kinesis record, and how many it has.
        self._first: dict[tuple[int, int], dict[int, tuple[int, int]]] = {}
        self._keys: dict[tuple[int, str], int] = {}
        self.of_key: list[array[int]] = []

    def add(self, stream: int, shard: int, number: int, data: bytes) -> None:
        """One Kinesis record. What it holds is read by the KPL's own classes."""
        records = _opened(data)
        self._first.setdefault((stream, shard), {})[number] = (len(self.numbers), len(records))
        for key, record in records:
            self._add(stream, key, record)

    def _add(self, stream: int, key: str, data: bytes) -> None:
        place = self._keys.setdefault((stream, key), len(self._keys))
        if place == len(self.of_key):
            self.of_key.append(array("l"))
        self.of_key[place].append(len(self.numbers))
        self.ranks.append(len(self.of_key[place]) - 1)
        self.keys.append(place)
        self.streams.append(stream)
        self.numbers.append(number_of(data))
        self.fates.append(fate_of(data))

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def kinesis_records(self) -> int:
        return sum(map(len, self._first.values()))

    def key_of(self, stream: str, key: str) -> int | None:
        return self._keys.get((STREAMS.index(stream), key))

    def all_of(self, stream: int, shard: int, number: int) -> range:
        """The events of a Kinesis record; none where there is no such."""
        first, count = self._first.get((stream, shard), {}).get(number, (0, 0))
        return range(first, first + count)

    def at(self, stream: int, shard: int, number: int, sub: int) -> int | None:
        """The event at a position; None where there is none."""
        events = self.all_of(stream, shard, number)
        return events[sub] if sub < len(events) else None


def _opened(data: bytes) -> list[tuple[str, bytes]]:
    if not data.startswith(_MAGIC):
        key = msgspec.json.decode(data + b"}" if not data.endswith(b"}") else data)["key"]
        return [(key, data)]
    message = messages_pb2.AggregatedRecord()
    message.ParseFromString(data[4:-16])
    return [(message.partition_key_table[one.partition_key_index], one.data) for one in message.records]


def went_in(kinesis: Any) -> Events:
    """Everything that the streams hold."""
    events = Events()
    for stream, name in enumerate(STREAMS):
        for shard in range(SHARDS):
            iterator = kinesis.get_shard_iterator(
                StreamName=stream_name(name),
                ShardId=f"shardId-{shard:012}",
                ShardIteratorType="TRIM_HORIZON",
            )["ShardIterator"]
            while True:
                answer = kinesis.get_records(ShardIterator=iterator, Limit=1000)
                for record in answer["Records"]:
                    events.add(stream, shard, int(record["SequenceNumber"]), record["Data"])
                if not answer["Records"]:
                    break
                iterator = answer["NextShardIterator"]
    return events


def balanced(folder: Path, kinesis: Any, archive: Archive, records: int) -> Balance:
    """The account of a soak of ``records`` that has come to its end."""
    events = went_in(kinesis)
    with closing(opened(folder / "store.sqlite")) as store:
        return compared(events, store, archive.rows(), entries(folder / "journal"), records)


def compared(
    events: Events,
    store: sqlite3.Connection,
    letters: Iterator[tuple[str, str, str, str]],
    journal: Iterator[Entry],
    records: int,
) -> Balance:
    """The same, of what was read already."""
    balance = Balance(events=len(events), kinesis_records=events.kinesis_records, keys=len(events.of_key))
    balance.fates = {Fate(fate).name.lower(): count for fate, count in sorted(Counter(events.fates).items())}
    wrong = _Wrong()
    _check_numbers(events, records, balance, wrong)
    rows = _check_rows(events, store, balance, wrong)
    stays = _check_letters(events, letters, balance, wrong)
    for event in range(len(events)):
        is_to_stay = Fate(events.fates[event]) in STAYING
        if rows[event] and stays[event]:
            wrong.add("are written and dead letters, both", events.numbers[event])
        if is_to_stay and not stays[event]:
            wrong.add("can never succeed, and are no dead letters", events.numbers[event])
        if not is_to_stay and stays[event]:
            wrong.add("are dead letters for good, and were to be written", events.numbers[event])
        if not is_to_stay and not rows[event] and not stays[event]:
            wrong.add("are missing: neither written nor dead letters", events.numbers[event])
        if is_to_stay and rows[event] and not stays[event]:
            wrong.add("are written, and can never succeed", events.numbers[event])
    came_back = _Order(events, balance, wrong).check(journal)
    _check_documents(events, store, came_back, wrong)
    balance.wrong = wrong.lines()
    return balance


class _Wrong:
    def __init__(self) -> None:
        self._found: dict[str, list[Any]] = {}
        self._counts: Counter[str] = Counter()

    def add(self, what: str, which: Any) -> None:
        self._counts[what] += 1
        shown = self._found.setdefault(what, [])
        if len(shown) < _SHOWN:
            shown.append(which)

    def lines(self) -> list[str]:
        return [
            f"{self._counts[what]} {what}: {', '.join(map(str, shown))}{' …' if self._counts[what] > len(shown) else ''}"
            for what, shown in self._found.items()
        ]


def _check_numbers(events: Events, records: int, balance: Balance, wrong: _Wrong) -> None:
    seen = bytearray(records)
    for number in events.numbers:
        if number < records:
            seen[number] = 1
        else:
            wrong.add("numbers are in a stream that nobody has put", number)
    balance.numbers = seen.count(1)
    for number in range(records):
        if not seen[number]:
            wrong.add("numbers were put and are in no stream", number)


def _check_rows(events: Events, store: sqlite3.Connection, balance: Balance, wrong: _Wrong) -> bytearray:
    """How many rows each event has."""
    rows = bytearray(len(events))
    for write_id, number, times in store.execute("SELECT write_id, number, times FROM rows"):
        event_id, _, rest = write_id.rpartition("/soaked-")
        event = _event_at(events, event_id)
        if event is None or rest != f"{STREAMS[events.streams[event]]}/0":
            wrong.add("rows have the id of no write", write_id)
            continue
        if events.numbers[event] != number:
            wrong.add("rows hold another record than their id says", write_id)
        rows[event] = 1
        balance.written += 1
        balance.repeats += times - 1
        balance.repeated += times > 1
        balance.most_writes = max(balance.most_writes, times)
    return rows


def _event_at(events: Events, event_id: str) -> int | None:
    try:
        return events.at(*position_of(event_id))
    except ValueError:
        return None


def _check_letters(
    events: Events, letters: Iterator[tuple[str, str, str, str]], balance: Balance, wrong: _Wrong
) -> bytearray:
    """Whether each event is a dead letter for good."""
    stays = bytearray(len(events))
    for event_id, queue, error, message in letters:
        event = _event_at(events, event_id)
        if event is None:
            wrong.add("dead letters are of no event", f"{event_id} ({queue}: {error}: {message})")
            continue
        balance.copies += stays[event]
        balance.letters += not stays[event]
        stays[event] = 1
    return stays


class _Order:
    """Plays the journal again."""

    def __init__(self, events: Events, balance: Balance, wrong: _Wrong) -> None:
        self._events = events
        self._balance = balance
        self._wrong = wrong
        self._done = bytearray(len(events))
        self._given_up = bytearray(len(events))
        #: How many of a key's first events are done.
        self._reached = array("l", [0]) * len(events.of_key)
        self._divert = STREAMS.index("divert")
        #: Of each shard: where the last batch began, and where the next has to.
        self._began: dict[tuple[int, int], int] = {}
        self._next: dict[tuple[int, int], int] = {}

    def check(self, journal: Iterator[Entry]) -> bytearray:
        """Which events were given up, and so may come back out of their place."""
        balance = self._balance
        for entry in journal:
            kind = entry.kind
            if kind is Kind.TAKEN:
                # What an answer has told may not have been saved.
                self._next.pop((entry.stream, entry.shard), None)
            elif kind is Kind.INVOKED:
                self._invoked(entry)
            elif kind is Kind.ANSWERED:
                self._next[entry.stream, entry.shard] = entry.number
                balance.lost_answers -= 1
            elif kind is Kind.OVERRUN:
                balance.overruns += 1
            elif kind is Kind.DISCARDED:
                for event in self._events.all_of(entry.stream, entry.shard, entry.number):
                    balance.discarded += not self._given_up[event]
                    self._give_up(event)
                self._next[entry.stream, entry.shard] = entry.number + 1
            else:
                self._of_event(entry)
        return self._given_up

    def _invoked(self, entry: Entry) -> None:
        shard = (entry.stream, entry.shard)
        self._balance.invocations += 1
        self._balance.lost_answers += 1
        least = self._next.pop(shard, self._began.get(shard, 0))
        if entry.number < least:
            where = f"{STREAMS[entry.stream]} {entry.shard}: {entry.number} after {least}"
            self._wrong.add("batches began before what was answered for", where)
        self._began[shard] = entry.number

    def _of_event(self, entry: Entry) -> None:
        event = self._events.at(entry.stream, entry.shard, entry.number, entry.sub)
        if event is None:
            self._wrong.add("things happened to no event", entry)
            return
        if entry.kind is Kind.LETTER:
            self._balance.were_letters += 1
            self._give_up(event)
        elif entry.kind is Kind.THROUGH:
            self._done[event] = 1
        elif entry.kind is Kind.STARTED:
            self._balance.starts += 1
            self._check_turn(event)
            if entry.stream == self._divert:
                self._done[event] = 1
        else:
            self._balance.starts += 1
            self._balance.started_from_queue += 1
            if entry.stream != self._divert:
                self._check_turn(event)

    def _give_up(self, event: int) -> None:
        self._given_up[event] = self._done[event] = 1

    def _check_turn(self, event: int) -> None:
        events, key = self._events, self._events.keys[event]
        of_key, reached = events.of_key[key], self._reached[key]
        while reached < len(of_key) and self._done[of_key[reached]]:
            reached += 1
        self._reached[key] = reached
        if events.ranks[event] > reached:
            before, stream = events.numbers[of_key[reached]], STREAMS[events.streams[event]]
            self._wrong.add(
                "started before an earlier one of their key", f"{events.numbers[event]} before {before} ({stream})"
            )


def _check_documents(events: Events, store: sqlite3.Connection, came_back: bytearray, wrong: _Wrong) -> None:
    for stream, key, number, write_id in store.execute("SELECT stream, key, number, write_id FROM documents"):
        place = events.key_of(stream, key)
        event = _event_at(events, write_id.rpartition("/soaked-")[0])
        if place is None or event is None:
            wrong.add("documents are of no key", key)
            continue
        if stream == "divert" or came_back[event]:
            continue
        last = next(one for one in reversed(events.of_key[place]) if Fate(events.fates[one]) not in STAYING)
        if event != last:
            name = processor_name(stream)
            wrong.add(
                "keys have an older record than their last", f"{key} of {name}: {number}, not {events.numbers[last]}"
            )

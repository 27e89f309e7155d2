"""``streamkit put``: lines of a file or a pipe into a stream."""

from __future__ import annotations

import argparse
import queue
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ..errors import StreamkitError
from ..plural import counted
from .connection import add_connection, connected, error_code, is_passing, is_unreachable
from .terminal import duration, say
from .usage import UsageError, named, seconds

__all__ = ["DESCRIPTION", "EPILOG", "NAME", "SUMMARY", "Entry", "GaveUp", "Sender", "add_options", "command"]

NAME = "put"
SUMMARY = "put lines of a file or a pipe into a stream"
DESCRIPTION = """\
Put each line of FILE into a stream as a record, without its line break; empty lines are left out. Without FILE, or with -,
the lines of stdin. Lines of one partition key stay in order, whatever is throttled or fails meanwhile: what the stream refuses is
tried again, alone, before anything newer of its key."""
EPILOG = """\
examples:
  streamkit put orders orders.jsonl --json-key customer
      the partition key is the field `customer` of each line
  tail -f app.log | streamkit put logs
      as the lines come, each with a random key, so spread over all shards
  streamkit put orders --data '{"id": 1}' --key c-17
      one record
  streamkit put orders orders.jsonl --key all --aggregate
      many lines a record, as the Kinesis Producer Library packs them; streamkit, KCL and `streamkit tail` open them

--aggregate packs lines of one key only, so that every record lies where its key belongs, however the stream is resharded: it
helps where keys are few or random (then each aggregate has one of its own), and little where each line has its own key.

Without --aggregate a request takes one line of each key, since Kinesis promises no order within a request. Where all lines share
one key, that is a request for each line.

A request whose answer is lost is sent again, and its lines may then be in the stream twice.

exit code: 0 when all was put, 1 when something was not (it says how many, and which lines), 2 for what was typed wrong."""

# PutRecords takes 500 records, and 10 MiB on AWS; 5 MiB, its limit until 2025, is what every stand-in takes too.
_REQUEST_RECORDS = 500
_REQUEST_BYTES = 5 * 1024 * 1024
_RECORD_BYTES = 10 * 1024 * 1024
_LONGEST_LINE = _RECORD_BYTES + len(b"\r\n")
_LONGEST_KEY = 256
# How much is held to choose a request from: with few keys, a request takes few of them.
_WINDOW_RECORDS = 4 * _REQUEST_RECORDS
_WINDOW_BYTES = 2 * _REQUEST_BYTES
# The KPL's AggregationMaxSize.
_AGGREGATE_BYTES = 51_200
# A line that has waited so long for others is sent without them.
_IDLE_SECONDS = 0.3
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.1, 5.0
_SHOWN_LINES = 10


def add_options(put: argparse.ArgumentParser) -> None:
    put.add_argument("stream", type=named, metavar="STREAM")
    put.add_argument("files", metavar="FILE", nargs="*", help="files of lines; - is stdin")
    put.add_argument("--data", action="append", metavar="TEXT", help="put this text; can be given several times")
    key = put.add_mutually_exclusive_group()
    key.add_argument("--key", metavar="TEXT", help="the partition key of all records; without it each has a random one")
    key.add_argument("--json-key", metavar="FIELD", help="the field of each line that is its partition key")
    put.add_argument("--aggregate", action="store_true", help="pack lines of one key into aggregates of the KPL")
    put.add_argument(
        "--patience",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="give up when the stream has taken nothing for so long (%(default)g)",
    )
    add_connection(put)


def command(options: argparse.Namespace) -> int:
    with connected(options, options.stream) as client:
        sender = Sender(client, options.stream, options.patience)
        lines = _Lines(options, sender)
        progress = _Progress(sender)
        began = time.monotonic()
        interrupted: BaseException | None = None
        try:
            entries = _entries(_arriving(lines), aggregate=options.aggregate)
            for entry in entries:
                if entry is not None:
                    sender.add(entry)
                while sender.waiting and (entry is None or sender.is_full()):
                    sender.send()
                    progress.show()
            while sender.waiting:
                sender.send()
                progress.show()
        except (Exception, KeyboardInterrupt) as error:
            if not sender.lines and not isinstance(error, GaveUp):
                raise
            interrupted = error
        progress.clear()
        return _report(options.stream, sender, lines, time.monotonic() - began, interrupted)


class Place(msgspec.Struct, frozen=True):
    """A line: its file and its number, from 1."""

    file: str
    number: int


class Entry(msgspec.Struct):
    """One record to put, and the lines in it."""

    key: str
    data: bytes
    places: list[Place]

    @property
    def size(self) -> int:
        return len(self.data) + len(self.key.encode())


class GaveUp(StreamkitError):
    """The stream has taken nothing for too long; the message is its last reason."""


class Sender:
    """Puts entries, one request at a time: what was refused goes before anything newer of its key.

    A request holds one entry of each key, since Kinesis may take a later record of a request and refuse an earlier one.
    ``patience`` is in seconds; GaveUp when nothing was taken for longer. Errors that no waiting mends are raised as they are,
    and so is one that says that there is no server, until there was one.
    """

    def __init__(
        self, client: Any, stream: str, patience: float, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._client = client
        self._stream = stream
        self._patience = patience
        self._sleep = sleep
        self._held_bytes = 0
        self._failures = 0
        self._taken_at = time.monotonic()
        #: What is to be put yet, in order.
        self.waiting: list[Entry] = []
        #: Lines and records that the stream has taken.
        self.lines = self.records = 0
        #: Lines that can't be put.
        self.refused: list[Place] = []
        #: Lines that were read, and may be put yet.
        self.unconfirmed: dict[Place, None] = {}

    def add(self, entry: Entry) -> None:
        if entry.size > _RECORD_BYTES:
            self._give_up(entry, f"{entry.size:,} bytes are more than Kinesis takes in a record (10 MiB)")
            return
        if not self.waiting:
            self._taken_at = time.monotonic()
        self.waiting.append(entry)
        self._held_bytes += entry.size

    def is_full(self) -> bool:
        """Whether enough is waiting to choose a request from."""
        return len(self.waiting) >= _WINDOW_RECORDS or self._held_bytes >= _WINDOW_BYTES

    def refuse(self, place: Place, reason: str) -> None:
        """A line that can't be put."""
        self.refused.append(place)
        self.unconfirmed.pop(place, None)
        if len(self.refused) <= _SHOWN_LINES:
            say(f"{place.file}:{place.number}: {reason}")

    def send(self) -> None:
        """One request of what is waiting, and a pause where the stream wants one."""
        chosen, left = self._chosen()
        refused, reason = self._put(chosen)
        self.waiting = refused + left
        self._held_bytes = sum(entry.size for entry in self.waiting)
        now = time.monotonic()
        if len(refused) < len(chosen):
            self._taken_at, self._failures = now, 0
        if not refused:
            return
        if now - self._taken_at >= self._patience:
            raise GaveUp(reason)
        longest = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(self._failures, 20))
        self._failures += 1
        self._sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311  # It spreads out retries and keeps no secret.

    def _chosen(self) -> tuple[list[Entry], list[Entry]]:
        """The next request, and what is left: the first entry of each key, as many as a request takes."""
        chosen: list[Entry] = []
        left: list[Entry] = []
        keys: set[str] = set()
        size = 0
        for entry in self.waiting:
            is_first = entry.key not in keys
            keys.add(entry.key)
            if is_first and len(chosen) < _REQUEST_RECORDS and (not chosen or size + entry.size <= _REQUEST_BYTES):
                chosen.append(entry)
                size += entry.size
            else:
                left.append(entry)
        return chosen, left

    def _put(self, entries: list[Entry]) -> tuple[list[Entry], str]:
        """Those that are to be sent again, in their order, and why."""
        records = [{"Data": entry.data, "PartitionKey": entry.key} for entry in entries]
        try:
            answer = self._client.put_records(StreamName=self._stream, Records=records)
        except Exception as error:
            if is_passing(error) and (self.lines or not is_unreachable(error)):
                return entries, str(error)
            if error_code(error) not in ("ValidationException", "InvalidArgumentException"):
                raise
            if len(entries) == 1:
                self._give_up(entries[0], str(error))
                return [], ""
            # One bad record has failed them all: a stream may take less than 10 MiB in one.
            middle = len(entries) // 2
            refused, reason = self._put(entries[:middle])
            more, other = self._put(entries[middle:])
            return refused + more, reason or other
        refused, reason = [], ""
        for entry, result in zip(entries, answer["Records"], strict=True):
            if result.get("ErrorCode"):
                refused.append(entry)
                reason = reason or f"{result['ErrorCode']}: {result.get('ErrorMessage', '')}".rstrip(": ")
            else:
                self.records += 1
                self.lines += len(entry.places)
                for place in entry.places:
                    self.unconfirmed.pop(place, None)
        return refused, reason

    def _give_up(self, entry: Entry, reason: str) -> None:
        for place in entry.places:
            self.refuse(place, reason)


class _Line(msgspec.Struct):
    place: Place
    data: bytes
    #: None: a random one.
    key: str | None


class _Lines:
    """What the options name, a line at a time. ``sender`` is told of each, and of those that have no key."""

    def __init__(self, options: argparse.Namespace, sender: Sender) -> None:
        self._files: list[str] = options.files
        self._data: list[str] = options.data or []
        self._key: str | None = options.key
        self._field: str | None = options.json_key
        self._sender = sender
        if self._key is not None and not 1 <= len(self._key) <= _LONGEST_KEY:
            raise UsageError(f"--key has {len(self._key)} characters: Kinesis takes 1 to {_LONGEST_KEY}")
        if self._key is not None and any("\ud800" <= one <= "\udfff" for one in self._key):
            # What a shell passes on that is not UTF-8 comes as lone surrogates, and the service's client can't send these.
            raise UsageError("--key is not UTF-8")
        if not self._files and not self._data:
            self._files = ["-"]
        for name in self._files:
            if name == "-" and sys.stdin is None:
                raise UsageError("stdin is closed: name files, or give --data TEXT")
            if name != "-" and not Path(name).exists():
                raise UsageError(f"there is no file {name}")
            if name != "-" and Path(name).is_dir():
                raise UsageError(f"{name} is a folder: name the files in it")
        #: The line that was read last, and whether it was the last of all.
        self.last: Place | None = None
        self.is_read = False

    def __iter__(self) -> Iterator[_Line]:
        for place, data in self._read():
            self.last = place
            self._sender.unconfirmed[place] = None
            key = self._key
            if data is None:
                self._sender.refuse(place, "it is longer than Kinesis takes in a record (10 MiB)")
                continue
            if self._field is not None:
                try:
                    key = _field_of(data, self._field)
                except ValueError as error:
                    self._sender.refuse(place, str(error))
                    continue
            yield _Line(place, data, key)
        self.is_read = True

    def _read(self) -> Iterator[tuple[Place, bytes | None]]:
        """Lines without their breaks; None for one that no record holds, of which no more is kept than shows that."""
        for number, text in enumerate(self._data, 1):
            yield Place("--data", number), text.encode("utf-8", "surrogateescape")
        for name in self._files:
            if name == "-" and sys.stdin.isatty():
                say("reading lines from the terminal; Ctrl-D ends")
            try:
                # A file of its own for stdin: the interpreter closes sys.stdin at its end, while a thread may wait in it.
                with open(0 if name == "-" else name, "rb", closefd=name != "-") as file:
                    number = 0
                    while line := file.readline(_LONGEST_LINE):
                        number += 1
                        data = line.removesuffix(b"\n").removesuffix(b"\r")
                        if len(data) > _RECORD_BYTES:
                            while line and not line.endswith(b"\n"):
                                line = file.readline(_LONGEST_LINE)
                            yield Place(name, number), None
                        elif data:
                            yield Place(name, number), data
            except OSError as error:
                raise UsageError(f"{'stdin' if name == '-' else name} can't be read: {error.strerror}") from error


def _field_of(data: bytes, field: str) -> str:
    """The partition key in a line of JSON; ValueError says what is wrong with it, and quotes none of it."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError(f"it is not JSON, so it has no field {field!r}") from None
    value = value.get(field) if isinstance(value, dict) else None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"it has no field {field!r} that is a text or a whole number")
    if not 1 <= len(value) <= _LONGEST_KEY:
        raise ValueError(f"its {field!r} has {len(value)} characters: Kinesis takes keys of 1 to {_LONGEST_KEY}")
    return value


class _ReadAhead(queue.Queue["_Line | BaseException | None"]):
    """Holds lines by their bytes, up to ``maxsize`` and one line: 2,000 of 10 MiB are more than there is memory for."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._bytes = 0

    def _qsize(self) -> int:
        return self._bytes

    def _put(self, item: _Line | BaseException | None) -> None:
        super()._put(item)
        self._bytes += _bytes_held(item)

    def _get(self) -> _Line | BaseException | None:
        item: _Line | BaseException | None = super()._get()
        self._bytes -= _bytes_held(item)
        return item


def _bytes_held(item: _Line | BaseException | None) -> int:
    return (len(item.data) if isinstance(item, _Line) else 0) + _WINDOW_BYTES // _WINDOW_RECORDS


def _arriving(lines: Iterable[_Line]) -> Iterator[_Line | None]:
    """``lines`` as they come, and None whenever none has come for a moment."""
    arrived = _ReadAhead(_WINDOW_BYTES)

    def read() -> None:
        try:
            for line in lines:
                arrived.put(line)
        except Exception as error:  # noqa: BLE001  # Raised again by the thread that takes the lines.
            arrived.put(error)
        else:
            arrived.put(None)

    threading.Thread(target=read, name="streamkit lines", daemon=True).start()
    while True:
        try:
            line = arrived.get(timeout=_IDLE_SECONDS)
        except queue.Empty:
            yield None
            continue
        if line is None:
            return
        if isinstance(line, BaseException):
            raise line
        yield line


def _entries(lines: Iterable[_Line | None], *, aggregate: bool) -> Iterator[Entry | None]:
    """The records that lines become; None where nothing has come for a moment."""
    if not aggregate:
        for line in lines:
            yield None if line is None else Entry(line.key or secrets.token_hex(16), line.data, [line.place])
        return
    packs: dict[str | None, _Pack] = {}
    held = 0
    for line in lines:
        if line is not None:
            pack = packs.get(line.key)
            if pack is not None and pack.size + len(line.data) > _AGGREGATE_BYTES:
                held -= pack.size
                yield packs.pop(line.key).entry()
            pack = packs.setdefault(line.key, _Pack(line.key or secrets.token_hex(16)))
            before = pack.size
            pack.add(line)
            held += pack.size - before
        if line is None or held > _REQUEST_BYTES:
            yield from (pack.entry() for pack in packs.values())
            packs, held = {}, 0
            if line is None:
                yield None
    yield from (pack.entry() for pack in packs.values())


class _Pack:
    """An aggregate on its way: lines of one key. One alone stays a plain record."""

    # What the format adds to a record of less than 16 KiB, and a little for the whole.
    _AROUND = 13

    def __init__(self, key: str) -> None:
        self._key = key
        self._lines: list[_Line] = []
        self.size = len(key.encode()) + 40

    def add(self, line: _Line) -> None:
        self._lines.append(line)
        self.size += len(line.data) + self._AROUND

    def entry(self) -> Entry:
        from ..kpl import UserRecord, aggregate

        places = [line.place for line in self._lines]
        if len(self._lines) == 1:
            return Entry(self._key, self._lines[0].data, places)
        return Entry(self._key, aggregate(UserRecord(line.data, self._key) for line in self._lines), places)


class _Progress:
    """A line on stderr that counts on, where that is a terminal."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._is_shown = sys.stderr.isatty()
        self._began = time.monotonic()
        self._next = self._began + 0.5

    def show(self) -> None:
        now = time.monotonic()
        if self._is_shown and now >= self._next:
            self._next = now + 0.25
            lines = self._sender.lines
            sys.stderr.write(f"\r\x1b[K{counted(lines, 'record')} put, {lines / (now - self._began):,.0f}/s")
            sys.stderr.flush()

    def clear(self) -> None:
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def _report(stream: str, sender: Sender, lines: _Lines, seconds: float, interrupted: BaseException | None) -> int:
    packed = f" as {counted(sender.records, 'Kinesis record')}" if sender.records != sender.lines else ""
    say(f"put {counted(sender.lines, 'record')}{packed} to {stream} in {duration(seconds)}")
    if isinstance(interrupted, GaveUp):
        say(f"streamkit: gave up, since the stream took nothing any more: {interrupted}")
    missing = [*sender.refused, *sender.unconfirmed]
    if missing:
        were = "was" if len(missing) == 1 else "were"
        perhaps = " (the last request may have put some)" if interrupted is not None else ""
        say(f"streamkit: {counted(len(missing), 'line')} {were} not put{perhaps}: {_ranges(missing)}")
    if interrupted is not None and not lines.is_read and lines.last is not None:
        say(f"streamkit: nothing was read after {lines.last.file}:{lines.last.number}")
    if interrupted is not None and not isinstance(interrupted, GaveUp):
        raise interrupted
    return 1 if missing or interrupted is not None else 0


def _ranges(places: list[Place]) -> str:
    """``orders.jsonl:7, orders.jsonl:9-12``."""
    ranges: list[tuple[Place, Place]] = []
    for place in sorted(places, key=lambda place: (place.file, place.number)):
        if ranges and ranges[-1][1] == Place(place.file, place.number - 1):
            ranges[-1] = (ranges[-1][0], place)
        else:
            ranges.append((place, place))
    return ", ".join(
        f"{first.file}:{first.number}" + (f"-{last.number}" if last != first else "") for first, last in ranges
    )

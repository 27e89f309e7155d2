"""``streamkit put``: lines of a file or a pipe into a stream."""

from __future__ import annotations

import argparse
import logging
import queue
import secrets
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ..errors import BacklogFull, DeliveryError, StreamkitError
from ..plural import counted
from ..producer import Producer, Receipt
from .connection import add_connection, connected, error_code
from .terminal import duration, say
from .usage import UsageError, named, seconds

__all__ = ["DESCRIPTION", "EPILOG", "NAME", "SUMMARY", "GaveUp", "Sender", "add_options", "command"]

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

--aggregate packs lines of all keys of a shard, and puts again what a shard has taken that was split meanwhile and does not have
their keys any more.

Without --aggregate a request takes one line of each key, since Kinesis promises no order within a request. Where all lines share
one key, that is a request for each line.

A shard gets no more than its write limits allow: 1 MiB and 1,000 Kinesis records a second.

A request whose answer is lost is sent again, and its lines may then be in the stream twice.

exit code: 0 when all was put, 1 when something was not (it says how many, and which lines), 2 for what was typed wrong."""

_RECORD_BYTES = 10 * 1024 * 1024
_LONGEST_LINE = _RECORD_BYTES + len(b"\r\n")
_LONGEST_KEY = 256
# Lines that are read ahead, by their number and by their bytes.
_WINDOW_RECORDS = 2000
_WINDOW_BYTES = 10 * 1024 * 1024
# The KPL's AggregationMaxSize.
_AGGREGATE_BYTES = 51_200
# A line that has waited so long for others is sent without them.
_IDLE_SECONDS = 0.3
# How long the command waits for something, before it looks at its patience and shows how far it is.
_LOOK_SECONDS = 0.25
_SHOWN_LINES = 10


def add_options(put: argparse.ArgumentParser) -> None:
    put.add_argument("stream", type=named, metavar="STREAM")
    put.add_argument("files", metavar="FILE", nargs="*", help="files of lines; - is stdin")
    put.add_argument("--data", action="append", metavar="TEXT", help="put this text; can be given several times")
    key = put.add_mutually_exclusive_group()
    key.add_argument("--key", metavar="TEXT", help="the partition key of all records; without it each has a random one")
    key.add_argument("--json-key", metavar="FIELD", help="the field of each line that is its partition key")
    put.add_argument("--aggregate", action="store_true", help="pack the lines of a shard into aggregates of the KPL")
    put.add_argument(
        "--patience",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="give up when the stream has taken nothing for so long (%(default)g)",
    )
    add_connection(put)


def command(options: argparse.Namespace) -> int:
    with connected(options, options.stream) as client, _quiet(logging.getLogger("streamkit.producer.producer")):
        sender = Sender(client, options.stream, options.patience, aggregate=options.aggregate)
        lines = _Lines(options, sender)
        progress = _Progress(sender)
        # What is wrong with the connection, the credentials or the stream's name is said here.
        client.list_shards(StreamName=options.stream)
        began = time.monotonic()
        interrupted: BaseException | None = None
        try:
            keys = _Keys(is_packing=options.aggregate)
            for line in _arriving(lines):
                if line is not None:
                    sender.put(line.place, line.data, line.key or keys.next(len(line.data)))
                sender.look()
                progress.show()
            while not sender.is_done():
                progress.show()
        except (Exception, KeyboardInterrupt) as error:
            if not sender.lines and not isinstance(error, GaveUp):
                raise
            interrupted = error
        finally:
            sender.close()
        progress.clear()
        return _report(options.stream, sender, lines, time.monotonic() - began, interrupted)


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """What was not put is said at the end, by its lines."""
    was, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was


class Place(msgspec.Struct, frozen=True):
    """A line: its file and its number, from 1."""

    file: str
    number: int


class GaveUp(StreamkitError):
    """The stream has taken nothing for too long; the message is its last reason."""


class Sender:
    """Puts lines by a ``Producer``, and knows which of them are in the stream.

    ``GaveUp`` where the stream takes nothing for ``patience`` seconds. What fails for another reason than the line itself is
    raised by the next call.
    """

    def __init__(self, client: Any, stream: str, patience: float, *, aggregate: bool = False) -> None:
        self._producer = Producer(
            stream,
            client=client,
            aggregate=aggregate,
            aggregate_bytes=_AGGREGATE_BYTES,
            linger=_IDLE_SECONDS,
            record_ttl=None,
            max_record_bytes=_RECORD_BYTES,
            put_timeout=_LOOK_SECONDS,
        )
        self._patience = patience
        self._lock = threading.Lock()
        self._waiting = 0
        self._taken_at = time.monotonic()
        self._error: BaseException | None = None
        #: Lines and records that the stream has taken.
        self.lines = self.records = 0
        #: Lines that can't be put.
        self.refused: list[Place] = []
        #: Lines that were read, and may be put yet.
        self.unconfirmed: dict[Place, None] = {}

    def put(self, place: Place, data: bytes, key: str) -> None:
        future = None
        while future is None:
            try:
                future = self._producer.put(data, key)
            except BacklogFull:
                self.look()
            except ValueError:
                size = len(data) + len(key.encode())
                self.refuse(place, f"{size:,} bytes are more than Kinesis takes in a record (10 MiB)")
                return
        with self._lock:
            if not self._waiting:
                self._taken_at = time.monotonic()
            self._waiting += 1
        future.add_done_callback(partial(self._settled, place))

    def look(self) -> None:
        """Raise what went wrong."""
        if self._error is not None:
            raise self._error
        if self._waiting and time.monotonic() - self._taken_at >= self._patience and self._producer.last_refusal:
            raise GaveUp(self._producer.last_refusal)

    def is_done(self) -> bool:
        """Whether all is settled, after a moment."""
        try:
            self._producer.flush(_LOOK_SECONDS)
        except DeliveryError:
            self.look()
            return False
        self.look()
        return True

    def close(self) -> None:
        with suppress(DeliveryError):  # Its lines are unconfirmed.
            self._producer.close(0.0)

    def refuse(self, place: Place, reason: str) -> None:
        """A line that can't be put."""
        with self._lock:
            self.refused.append(place)
            self.unconfirmed.pop(place, None)
            is_shown = len(self.refused) <= _SHOWN_LINES
        if is_shown:
            say(f"{place.file}:{place.number}: {reason}")

    def _settled(self, place: Place, future: Future[Receipt]) -> None:
        error = future.exception()
        with self._lock:
            self._waiting -= 1
        if error is None:
            with self._lock:
                self.lines += 1
                # The first of an aggregate stands for it.
                self.records += not future.result().sub_sequence_number
                self.unconfirmed.pop(place, None)
                self._taken_at = time.monotonic()
        elif error.__cause__ is None:
            pass  # Given up: it stays unconfirmed.
        elif error_code(error.__cause__) in ("ValidationException", "InvalidArgumentException"):
            self.refuse(place, str(error))
        else:
            self._error = error.__cause__


class _Keys:
    """Random keys: one for each line, or for about as many as fit into an aggregate."""

    def __init__(self, *, is_packing: bool) -> None:
        self._most = _AGGREGATE_BYTES if is_packing else 0
        self._left = 0
        self._key = ""

    def next(self, size: int) -> str:
        self._left -= size
        if self._left < 0:
            self._key, self._left = secrets.token_hex(16), self._most
        return self._key


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

"""``Producer``: the threads, the lock and the clock around the ``Outbox``."""

from __future__ import annotations

import atexit
import logging
import math
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, Self

from ..errors import BacklogFull, ConfigurationError, DeliveryError, ProducerClosed
from ..plural import counted
from .exchange import Change, listed, sent
from .future import Entry, PutFuture, Settlement, settle
from .outbox import Outbox, Request, Settings
from .shards import HASH_KEYS
from .spread import HEADER_BYTES, Spreader
from .wire import Wire

__all__ = ["Producer"]

_log = logging.getLogger(__name__)

_MIB = 1024 * 1024
_LONGEST_KEY = 256
_MOST_DIGITS = 100
_SMALLEST_RECORD, _LARGEST_RECORD = 4096, 10 * _MIB
_MOST_CONNECTIONS = 100
# What the objects around a record take; measured, and rounded up (docs/producing.md).
_AROUND = 400
# So many bytes are accepted at most before a sender that waits for a time is told to look.
_LOOK_AFTER = 512 * 1024
# Should the outbox ever name a time that has passed, a sender does not spin.
_SHORTEST_WAIT = 0.001
# Seconds that a record may wait before the log says so, and again after each so many.
_LATE = 10.0


class Producer:
    """Puts records into a Kinesis stream: in the order of each key, as few requests as may be, nothing lost in silence.

        with Producer("orders") as producer:
            future = producer.put(b"...", partition_key="c-17")

    ``put`` hands the record over and returns; threads of the producer send it. The future tells where it landed (a ``Receipt``),
    or why it did not (``DeliveryError``). Leaving the block waits for all that was accepted. Safe in threads; of one thread,
    records of a key land in the order of its calls. docs/producing.md has the guarantee in full.

    ``stream``
        Its name or ARN. Needs ``kinesis:PutRecords`` and ``kinesis:ListShards``.
    ``aggregate``
        Whether to pack records into aggregates of the Kinesis Producer Library, which ``streamkit`` and the Kinesis Client
        Library open. Without, each is a Kinesis record, and a request takes one of each key.
    ``linger``
        Seconds that a record waits for others at most, before it is sent with those there are.
    ``max_backlog``
        Bytes that may be accepted and not settled: data and keys, and 400 a record for what holds them.
    ``when_full``, ``put_timeout``
        What ``put`` does then: ``"block"`` until there is room, for ``put_timeout`` seconds at most (None: for ever) and then
        raise ``BacklogFull``; or ``"raise"`` it at once.
    ``record_ttl``
        Seconds after which a record that could not be put fails; None: never. What waits behind it of its key fails with it.
    ``max_record_bytes``
        Of data and key. 1 MiB unless the stream is set to take more, up to 10 MiB (Kinesis Data Streams, Quotas and limits).
    ``aggregate_bytes``
        Of an aggregate and its key, up to 1 MiB. A full one goes at once.
    ``bytes_per_second``, ``records_per_second``
        Of Kinesis records into each shard: its write limits are 1 MiB and 1,000 (Kinesis Data Streams, Quotas and limits). Less
        where other producers write to the same shards.
    ``close_timeout``, ``exit_timeout``
        Seconds that ``close``, and the end of the interpreter, wait for what was accepted. What is not put then fails, and
        an error is logged with the count.
    ``connections``
        Requests that are in flight at once, each for other shards; each takes a thread.
    ``client``
        A boto3 client of Kinesis to use as it is. By default one is made on first use, which is several times cheaper to call.

    A producer belongs to the process that made it: in a process forked off it every method but ``close`` raises
    ``ProducerClosed``.
    """

    def __init__(
        self,
        stream: str,
        *,
        aggregate: bool = True,
        linger: float = 0.1,
        max_backlog: int = 64 * _MIB,
        when_full: Literal["block", "raise"] = "block",
        put_timeout: float | None = None,
        record_ttl: float | None = 300.0,
        max_record_bytes: int = _MIB,
        aggregate_bytes: int = _MIB,
        bytes_per_second: float = _MIB,
        records_per_second: float = 1000.0,
        close_timeout: float = 60.0,
        exit_timeout: float = 10.0,
        connections: int = 4,
        client: Any = None,
    ) -> None:
        _check_options(locals())
        self.stream = stream
        self._most = max_backlog
        self._linger = linger
        self._look_after = min(_LOOK_AFTER, aggregate_bytes)
        # Without a time to wait in, each record wakes a sender.
        self._is_always_woken = linger < _SHORTEST_WAIT
        self._largest = max_record_bytes
        # A character of the key has up to four bytes.
        self._surely_fits = max_record_bytes - 3 * _LONGEST_KEY - HEADER_BYTES + _AROUND
        self._when_full = when_full
        self._put_timeout = put_timeout
        self._close_timeout, self._exit_timeout = close_timeout, exit_timeout
        self._connections = connections
        self._outbox = Outbox(
            Settings(
                is_aggregating=aggregate,
                linger=linger,
                record_ttl=record_ttl,
                aggregate_bytes=min(aggregate_bytes, max_record_bytes),
                bytes_per_second=bytes_per_second,
                records_per_second=records_per_second,
            )
        )
        self._spreader = Spreader()
        self._wire = Wire(stream, client, connections)
        self._make_lock()
        self._senders: list[threading.Thread] = []
        self._idle = 0
        #: Accepted, and not in the outbox yet.
        self._inbox: list[Entry] = []
        #: Bytes that were ever accepted, and settled, with what holds them.
        self._accepted = self._settled = self._wake_at = 0
        #: Whether no sender will look into the inbox unless it is woken.
        self._is_asleep = True
        #: Of what is settled and whose futures are told just now, when the oldest was accepted.
        self._telling: Counter[float] = Counter()
        self._is_closing = False
        self._refusal: ProducerClosed | None = None
        self._next_warning = 0.0
        _open_producers.add(self)

    def put(
        self, data: bytes, partition_key: str, explicit_hash_key: str | int | None = None, *, spread: int = 1
    ) -> PutFuture:
        """Accept a record, and tell by the future what becomes of it.

        ``partition_key`` has 1 to 256 characters; ``explicit_hash_key`` is a whole number below 2^128. ``spread`` puts the
        records of a key that is too hot for one shard into so many in turn, each with a header that ``InOrder`` reads.

        Raises ``ValueError`` for what Kinesis does not take, ``BacklogFull`` and ``ProducerClosed``; then it is not accepted. The
        first call makes the client, and raises what boto3 does where a region or boto3 itself is missing.
        """
        if data.__class__ is not bytes:
            data = _bytes_of(data)
        if explicit_hash_key is not None:
            explicit_hash_key = _hash_key_of(explicit_hash_key)
        if partition_key not in self._outbox.routes:
            _check_key(partition_key)
        size = len(data) + len(partition_key) + _AROUND
        if size > self._surely_fits:
            self._check_size(len(data) + len(partition_key.encode()) + (HEADER_BYTES if spread != 1 else 0))
        if not self._senders:
            self._begin()
        future: PutFuture = PutFuture()
        until: float | None = None
        while True:
            # Not the senders' lock: they would stand in line for it at each record, and wake for nothing.
            with self._putting:
                if self._refusal is not None:
                    raise self._refusal
                if self._accepted + size - self._settled <= self._most:
                    if spread != 1:
                        # The last thing that may fail: a number that is given out is put, or the reader waits for it.
                        data, explicit_hash_key = self._spread(data, partition_key, explicit_hash_key, spread)
                        size += HEADER_BYTES
                    self._inbox.append(Entry(data, partition_key, explicit_hash_key, future, time.monotonic()))
                    self._accepted += size
                    if self._is_asleep or self._accepted >= self._wake_at:
                        self._wake_for_inbox()
                    return future
            if until is None:
                until = time.monotonic() + (math.inf if self._put_timeout is None else self._put_timeout)
            self._wait_for_room(size, until)

    def flush(self, timeout: float | None = None) -> None:
        """Wait until all that was accepted so far is settled: put, or failed as its futures say.

        Raises ``DeliveryError`` where that takes longer than ``timeout`` seconds (None: as long as it takes), and goes on trying.
        """
        if self._refusal is not None and not self._is_closing:
            raise self._refusal
        self._check_thread()
        with self._lock:
            left = self._wait_until_settled(timeout)
            if left:
                raise DeliveryError(
                    f"{counted(left, 'record')} not put after {timeout:g} s{self._because()}: wait longer"
                )

    def close(self, timeout: float | None = None) -> None:
        """Accept nothing more, put what was accepted, and end the threads.

        ``timeout`` is in seconds, ``close_timeout`` by default. Raises ``DeliveryError`` with the count of what was not put by
        then; its futures fail. A second call does nothing.
        """
        self._check_thread()
        with self._putting:
            if self._refusal is not None:
                return
            self._refusal = ProducerClosed(f"the producer of {self.stream} is closed: make a new one")
        with self._lock:
            self._is_closing = True
            self._room.notify_all()
            timeout = self._close_timeout if timeout is None else timeout
            left = self._wait_until_settled(timeout)
            message = f"not put when its producer was closed, after {timeout:g} s{self._because()}"
            settled = self._noted(self._outbox.give_up(message))
            self._work.notify_all()
        _open_producers.discard(self)
        self._tell(settled)
        for sender in self._senders:
            # One that waits for an answer ends by itself.
            sender.join(None if not left else 0.1)
        if not any(sender.is_alive() for sender in self._senders):
            self._wire.close()
        if left:
            raise DeliveryError(f"{self.stream}: {counted(left, 'record')} {message}; their futures say which")

    @property
    def last_refusal(self) -> str:
        """Why a request or a record was refused last; empty where none was."""
        return self._outbox.reason

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self.close()
        except DeliveryError:
            # What was raised in the block goes first; this one is in the log, and in the futures.
            if kind is None:
                raise

    def _check_thread(self) -> None:
        if threading.current_thread() in self._senders:
            raise RuntimeError("flush and close wait for the futures' callbacks: don't call them in one")

    def _begin(self) -> None:
        """Before the first record is accepted: a client and a thread, or the error that says why there is none.

        Not in the thread, which may come to it when the interpreter ends: boto3 can't be imported any more then.
        """
        if self._refusal is not None:
            raise self._refusal
        self._wire.open()
        with self._lock:
            if not self._senders and self._refusal is None:
                self._start_sender()

    def _check_size(self, size: int) -> None:
        if size > self._largest:
            raise ValueError(
                f"data and partition key have {size:,} bytes, more than max_record_bytes={self._largest:,}; "
                "a stream takes 1 MiB, or up to 10 MiB where it is set so"
            )

    def _wait_for_room(self, size: int, until: float) -> None:
        """Until there is room, or the producer is closed. ``BacklogFull`` where that may take no longer."""
        with self._lock:
            self._wake()
            while self._accepted + size - self._settled > self._most and self._refusal is None:
                is_sender = threading.current_thread() in self._senders
                left = until - time.monotonic()
                if self._when_full == "raise" or is_sender or left <= 0:
                    waiting = self._outbox.count + len(self._inbox)
                    raise BacklogFull(
                        f"{self.stream}: {counted(waiting, 'record')} of {self._accepted - self._settled:,} bytes wait to be put"
                        f"{self._because()}: put less, wait, or raise max_backlog"
                    )
                self._room.wait(None if left == math.inf else left)

    # Called by ``put``, with its lock held.

    def _wake_for_inbox(self) -> None:
        """Somebody has to look into the inbox: where all sleep, and else after so many bytes that something may be full."""
        with self._lock:
            self._wake_at = self._accepted + self._look_after
            self._is_asleep = self._is_always_woken
            self._wake()

    # Called with the senders' lock held.

    def _wait_until_settled(self, timeout: float | None) -> int:
        """How many records are not; 0 where all that was accepted before is."""
        self._empty_inbox()
        now = time.monotonic()
        until = None if timeout is None else now + timeout
        self._outbox.flush(now)
        self._wake()
        while min(self._outbox.oldest(), *self._telling, float("inf")) <= now:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return max(1, self._outbox.count)
            self._room.wait(left)
        return 0

    def _spread(self, data: bytes, partition_key: str, explicit_hash_key: str | None, spread: int) -> tuple[bytes, str]:
        if explicit_hash_key is not None:
            raise ValueError("spread chooses the explicit hash keys itself: leave one of the two out")
        return self._spreader.spread(data, partition_key, spread)

    def _wake(self) -> None:
        """A sender looks again at what is due."""
        if self._idle:
            self._work.notify()
        elif 0 < len(self._senders) < self._connections and self._outbox.has_waiting():
            with suppress(RuntimeError):  # No more threads: those there are do it all.
                self._start_sender()

    def _start_sender(self) -> None:
        name = f"streamkit producer {self.stream} {len(self._senders) + 1}"
        sender = threading.Thread(target=self._run, name=name, daemon=True)
        sender.start()
        self._senders.append(sender)

    def _next(self) -> Callable[[], None] | None:
        """What a sender does next; None: nothing any more."""
        while True:
            self._empty_inbox()
            now = time.monotonic()
            settled = self._outbox.expire(now)
            if settled:
                return partial(self._tell, self._noted(settled))
            if self._outbox.wants_map(now):
                self._outbox.ask_map(now)
                return self._look_at_shards
            request = self._outbox.take(now)
            if request is not None:
                self._wake()
                return partial(self._send, request)
            if self._is_closing and not self._outbox.count:
                return None
            wait = self._outbox.next_at(now) - now
            if not self._outbox.count:
                self._is_asleep = True
                if self._inbox:  # Put since it was emptied, by a thread that was not told to wake anybody.
                    continue
            else:
                # What is put meanwhile wakes nobody, and is found in time.
                wait = min(wait, max(self._linger, _SHORTEST_WAIT))
            self._idle += 1
            self._work.wait(None if wait == float("inf") else max(wait, _SHORTEST_WAIT))
            self._idle -= 1

    def _empty_inbox(self) -> None:
        # ``put`` may add to it between any two of these.
        entries = self._inbox[:]
        del self._inbox[: len(entries)]
        if entries:
            self._outbox.add(entries)

    def _noted(self, settled: list[Settlement]) -> list[Settlement]:
        for settlement in settled:
            self._telling[settlement.entries[0].accepted] += 1
        return settled

    def _warning(self, now: float) -> str:
        """What is to be said of records that wait for long; nothing where none does, or it was said a moment ago."""
        late = now - self._outbox.oldest()
        if late < _LATE + self._linger or now < self._next_warning:
            return ""
        self._next_warning = now + _LATE
        waiting = counted(self._outbox.count, "record")
        return f"stream {self.stream}: {waiting} not put yet, the oldest for {late:.0f} s{self._because()}"

    def _because(self) -> str:
        return f", the last refusal being {self._outbox.reason}" if self._outbox.reason else ""

    # Called by the senders, without the lock.

    def _run(self) -> None:
        try:
            while True:
                with self._lock:
                    task = self._next()
                if task is None:
                    return
                task()
        except BaseException as error:  # noqa: BLE001  # Nobody else would hear of it, while everybody waited.
            _log.critical("stream %s: a thread of its producer ends: nothing more is put", self.stream, exc_info=True)
            self._refusal = self._refusal or ProducerClosed(f"the producer of {self.stream} is broken: {error!r}")
            with self._lock:
                self._empty_inbox()
                settled = self._noted(self._outbox.give_up(f"its producer is broken: {error!r}"))
                self._is_closing = True
                self._work.notify_all()
            self._tell(settled)

    def _send(self, request: Request) -> None:
        self._change(sent(self._outbox, self._wire, request))

    def _look_at_shards(self) -> None:
        self._change(listed(self._outbox, self._wire))

    def _change(self, change: Change) -> None:
        with self._lock:
            # Where it gives records up, what was accepted behind them is not to be overlooked.
            self._empty_inbox()
            now = time.monotonic()
            settled = self._noted(change(now))
            warning = self._warning(now)
        if warning:
            _log.warning(warning)
        self._tell(settled)

    def _tell(self, settled: Sequence[Settlement]) -> None:
        """Futures first, then those who wait for room or for a flush."""
        failed = Counter[str]()
        for settlement in settled:
            if settlement.outcome.error is not None:
                failed[str(settlement.outcome.error)] += len(settlement.entries)
            settle(settlement)
        for message, count in failed.items():
            _log.error("stream %s: %s not put: %s", self.stream, counted(count, "record"), message)
        with self._lock:
            for settlement in settled:
                self._settled += settlement.held + _AROUND * len(settlement.entries)
                accepted = settlement.entries[0].accepted
                self._telling[accepted] -= 1
                if self._telling[accepted] <= 0:
                    del self._telling[accepted]
            self._room.notify_all()

    # The end of the process, and processes forked off.

    def _make_lock(self) -> None:
        self._putting = threading.Lock()
        self._lock = threading.Lock()
        #: Senders wait here for work; ``put``, ``flush`` and ``close`` for what the senders do.
        self._work, self._room = threading.Condition(self._lock), threading.Condition(self._lock)

    def _end_with_interpreter(self) -> None:
        with suppress(DeliveryError):  # It is in the log.
            self.close(self._exit_timeout)

    def _be_of_another_process(self) -> None:
        self._make_lock()
        self._refusal = ProducerClosed(
            f"the producer of {self.stream} is another process's, and its threads are there: make a new one after the fork"
        )


_open_producers: weakref.WeakSet[Producer] = weakref.WeakSet()


def _end_all() -> None:
    for producer in list(_open_producers):
        producer._end_with_interpreter()


def _leave_all() -> None:
    for producer in list(_open_producers):
        producer._be_of_another_process()
    _open_producers.clear()


def _check_options(options: dict[str, Any]) -> None:
    """Raise ConfigurationError for an option that makes no sense."""
    for name in ("linger", "close_timeout", "exit_timeout", "put_timeout"):
        if options[name] is not None and not options[name] >= 0:
            raise ConfigurationError(f"{name}={options[name]!r}: seconds, 0 or more")
    for name in ("record_ttl", "bytes_per_second", "records_per_second"):
        if options[name] is not None and not options[name] > 0:
            raise ConfigurationError(f"{name}={options[name]!r}: more than 0")
    if options["when_full"] not in ("block", "raise"):
        raise ConfigurationError(f"when_full={options['when_full']!r}: 'block' or 'raise'")
    if not 1 <= options["connections"] <= _MOST_CONNECTIONS:
        raise ConfigurationError(f"connections={options['connections']!r}: 1 to {_MOST_CONNECTIONS}")
    if not _SMALLEST_RECORD <= options["max_record_bytes"] <= _LARGEST_RECORD:
        raise ConfigurationError(
            f"max_record_bytes={options['max_record_bytes']!r}: {_SMALLEST_RECORD:,} to {_LARGEST_RECORD:,}"
        )
    if not _SMALLEST_RECORD <= options["aggregate_bytes"] <= _MIB:
        raise ConfigurationError(f"aggregate_bytes={options['aggregate_bytes']!r}: {_SMALLEST_RECORD:,} to {_MIB:,}")
    if options["max_backlog"] < options["max_record_bytes"] + _SMALLEST_RECORD:
        raise ConfigurationError(
            f"max_backlog={options['max_backlog']!r}: {_SMALLEST_RECORD:,} over max_record_bytes at least"
        )
    if not options["stream"]:
        raise ConfigurationError("Producer takes the name or the ARN of a stream")


def _bytes_of(data: object) -> bytes:
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise TypeError(f"put takes bytes, not {type(data).__name__}: encode it first")


def _check_key(partition_key: str) -> None:
    if not isinstance(partition_key, str):
        raise TypeError(f"a partition key is a str, not {type(partition_key).__name__}")
    if not 1 <= len(partition_key) <= _LONGEST_KEY:
        raise ValueError(f"a partition key has 1 to {_LONGEST_KEY} characters, not {len(partition_key)}")
    if not partition_key.isascii():
        try:
            partition_key.encode()
        except UnicodeEncodeError:
            raise ValueError("a partition key with lone surrogates is no text that can be sent") from None


def _hash_key_of(explicit_hash_key: str | int) -> str:
    is_number = isinstance(explicit_hash_key, int) or (explicit_hash_key.isascii() and explicit_hash_key.isdecimal())
    if not is_number or len(str(explicit_hash_key)) > _MOST_DIGITS or not 0 <= int(explicit_hash_key) < HASH_KEYS:
        raise ValueError("an explicit hash key is a whole number from 0 to 2^128 - 1")
    return str(int(explicit_hash_key))


# The senders are daemon threads, which run on until these functions have returned.
atexit.register(_end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)

"""The event source mapping against a real Kinesis endpoint: what ``streamkit run`` runs.

A thread for each shard polls it and drives that shard's state machine; the real handler gets the JSON that Lambda would send.
The position is saved after each answer and before the next invocation, so a reader that is killed repeats one batch a shard
(with tumbling windows, the records of the open window: its state was the reader's).

Several runners of one name share a stream's checkpoints. Each shard has one owner at a time, who renews its lease; when a
runner dies, the others take its shards over after the lease. Shards are not balanced: who comes first has them all.
A shard's children are read when all its parents are done and that is written.

A running Python function can't be stopped from outside, so the time-out is what the context tells the function, and an answer
that comes later than that counts as none.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import Empty, SimpleQueue

import msgspec

from ..b64 import keep_lock
from ..checkpoints.base import CheckpointStore, Lease
from ..reason import reason
from .context import Clock
from .feed import Position, Shard, Stream
from .leases import Leases
from .settings import Settings
from .shard_reader import Function, OnFailure, ShardReader
from .status import ShardStatus

__all__ = ["Runner"]

log = logging.getLogger("streamkit")

_LONGEST_BACKOFF = 10.0
# Seconds: how soon a shard that another runner gave up is seen, however long leases are.
_BETWEEN_LOOKS = 5.0
# Parts of a lease: how soon a renewal that failed is tried again.
_BETWEEN_RENEWALS = 1 / 20


class Runner:
    """Reads all shards of ``stream`` with a function for each lane of each, made by ``make_function``: a handler is not shared
    by threads.

    ``name`` keys the checkpoints. ``on_failure`` is called with each failure document and the records it is about; by default
    the document is logged, since the records in it are lost to this reader. While it raises, it is called again, the shard
    waits, and no checkpoint passes the records. ``lease_seconds`` is how long the shards of a runner that died stay its own.
    """

    def __init__(
        self,
        make_function: Callable[[], Function],
        *,
        stream: Stream,
        name: str,
        checkpoints: CheckpointStore,
        settings: Settings,
        on_failure: OnFailure | None = None,
        lease_seconds: float = 10.0,
        clock: Clock | None = None,
    ) -> None:
        self._make_function = make_function
        self._stream = stream
        self._name = name
        self._checkpoints = checkpoints
        self._settings = settings
        self._on_failure = on_failure
        self._lease_seconds = lease_seconds
        self._clock = clock or Clock()
        self._leases: Leases | None = None
        # The shards that the first look of a reader's first run has found; only they can begin at LATEST.
        self._at_first: set[str] = set()
        self._readers: dict[str, ShardReader] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._over: SimpleQueue[str] = SimpleQueue()
        self._errors: list[BaseException] = []
        self._is_stopping = False
        self._renewing: threading.Thread | None = None
        # Nothing is left to renew.
        self._is_over = threading.Event()
        self._have_all_ended = False
        self._look_at = 0.0
        self._failed_looks = 0
        #: One for each shard that it has read, updated while it runs.
        self.statuses: list[ShardStatus] = []

    def run(self) -> None:
        """Read until ``stop`` is called or every shard has ended. An error that no retry can mend stops all and is raised, and
        any that ``begin`` meets: nothing was promised yet, and whoever has started it with a wrong address is to see it.
        """
        try:
            self.begin()
            self._start_renewing()
            while not self._is_stopping:
                seconds = self.look_after()
                if self._have_all_ended:
                    break
                self._wait(seconds)
        finally:
            # Interrupted, as by Ctrl-C: the shards end as they do after stop(), under leases that are renewed till then.
            self.stop()
            while self._readers:
                seconds = self.look_after()
                if self._readers:
                    self._wait(seconds)
            self._is_over.set()
            if self._renewing is not None:
                self._renewing.join()
        if self._errors:
            raise self._errors[0]

    def stop(self) -> None:
        """End after the invocations in hand; ``run`` then returns. Safe to call from a signal handler or another thread."""
        self._is_stopping = True
        for reader in list(self._readers.values()):
            reader.stop()
        self._over.put("")

    def begin(self) -> None:
        """Ask the stream and the store what the rounds have to know."""
        # What the stream keeps is what can be delivered, for longer than a day too. It is asked once: start again after a change.
        self._settings = msgspec.structs.replace(self._settings, retention_in_seconds=self._stream.retention)
        known = self._checkpoints.leases(self._name, self._stream.name)
        starts = [lease.started_at for lease in known.values() if lease.started_at is not None]
        started_at = min(starts, default=self._clock.time())
        self._leases = Leases(
            self._checkpoints,
            reader=self._name,
            stream=self._stream.name,
            owner=f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}",
            seconds=self._lease_seconds,
            clock=self._clock.monotonic,
            started_at=started_at,
        )
        if self._settings.starting_position == "LATEST" and not known:
            self._at_first = {shard.id for shard in self._stream.shards()}

    def coordinate(self) -> float:
        """One round by hand, for who drives a runner without threads. Seconds until the next."""
        # A renewal can end readers.
        return min(self.renew(), self.look_after())

    def renew(self) -> float:
        """Renew the leases that are due, and end the readers of those that are lost. Seconds until the next call."""
        assert self._leases is not None  # begin() is called first.
        for shard_id in self._leases.renew():
            reader = self._readers.get(shard_id)
            if reader is not None:
                reader.lose()
        # A renewal that is not due yet costs nothing, and one that fails is to be tried again before the lease is over.
        return self._lease_seconds * _BETWEEN_RENEWALS

    def look_after(self) -> float:
        """Let go of shards that are done with, take those that are free. Seconds until the next call."""
        self._collect()
        if self._is_stopping:
            return _LONGEST_BACKOFF
        now = self._clock.monotonic()
        if now >= self._look_at:
            self._look_at = now + self._look()
        return max(0.0, self._look_at - now)

    def _start_renewing(self) -> None:
        """Renew on a thread of its own: a stream that does not answer when its shards are listed must not cost a lease."""
        # A daemon: who interrupts the end of a run wants its process to end.
        thread = threading.Thread(target=self._renew_until_over, name="streamkit leases", daemon=True)
        thread.start()
        self._renewing = thread

    def _renew_until_over(self) -> None:
        try:
            while not self._is_over.wait(self.renew()):
                pass
        except BaseException as error:  # noqa: BLE001  # Raised again by run(), in the caller's thread.
            self._fail(error)

    def _collect(self) -> None:
        """Let go of the shards whose readers have come to an end."""
        assert self._leases is not None
        while not self._over.empty():
            shard_id = self._over.get()
            if shard_id not in self._readers:
                continue
            reader = self._readers.pop(shard_id)
            if shard_id in self._threads:
                self._threads.pop(shard_id).join()
            if reader.status.state == "stopped":
                self._leases.give_up(shard_id)
            else:
                self._leases.drop(shard_id)
            self._look_at = 0.0

    def _look(self) -> float:
        """Take the shards that can be read and that nobody has. Seconds until it is worth looking again."""
        assert self._leases is not None
        started = self._clock.monotonic()
        try:
            shards = self._stream.shards()
            leases = self._leases.observe()
            # What has ended since the shards were listed can have children that are not among them.
            self._have_all_ended = _have_all_ended(shards, leases) and _have_all_ended(self._stream.shards(), leases)
        except Exception as error:  # noqa: BLE001  # Sorted by what it is; what can't pass is raised again.
            return self._look_failed(error)
        for shard_id in _next(shards, leases):
            if shard_id not in self._readers and self._leases.is_free(shard_id):
                try:
                    lease = self._leases.take(shard_id)
                except Exception as error:  # noqa: BLE001  # As above.
                    return self._look_failed(error)
                if lease is not None:
                    self._read(lease)
                if self._clock.monotonic() - started >= self._lease_seconds / 6:
                    # Of thousands of shards the first would be lost before the last are taken.
                    return 0.0
        self._failed_looks = 0
        return min(self._lease_seconds / 3, _BETWEEN_LOOKS)

    def _look_failed(self, error: Exception) -> float:
        """Seconds until the next try; what no wait can mend is raised."""
        if not (self._stream.may_pass(error) or self._checkpoints.may_pass(error)):
            raise error
        self._failed_looks += 1
        log.warning("%s: the shards of %s could not be looked up: %s", self._name, self._stream.name, reason(error))
        return min(_LONGEST_BACKOFF, 0.2 * 2.0 ** min(self._failed_looks, 20))

    def _read(self, lease: Lease) -> None:
        """Start to read a shard that was taken. What this raises is neither the stream's nor the store's, and ends the run."""
        leases, shard_id = self._leases, lease.shard_id
        assert leases is not None
        lanes = self._settings.parallelization_factor
        pool = ThreadPoolExecutor(lanes, f"streamkit {shard_id}") if lanes > 1 else None
        try:
            functions = [self._make_function() for _ in range(lanes)]
            reader = ShardReader(
                self._stream,
                lease,
                start=self._start_of(lease),
                settings=self._settings,
                store=self._checkpoints,
                holds=lambda: leases.holds(shard_id),
                functions=functions,
                on_failure=self._on_failure,
                clock=self._clock,
                **({} if pool is None else {"run": pool.submit}),
            )
        except BaseException:
            leases.give_up(shard_id)
            raise
        self._readers[shard_id] = reader
        self.statuses.append(reader.status)
        if self._is_stopping:
            reader.stop()
        self._launch(reader, functions, pool)

    def _start_of(self, lease: Lease) -> Position:
        """Where to begin in a shard without a checkpoint."""
        kind = self._settings.starting_position
        if kind != "LATEST":
            return Position(kind, timestamp=self._settings.starting_time)
        if lease.shard_id in self._at_first and lease.term == 1:
            return Position(kind)
        # Whatever was put after the reader's first start is to be delivered: after a restart, in later shards, and when a
        # runner that began at the same time has read it and not settled it.
        return Position("AT_TIMESTAMP", timestamp=lease.started_at)

    def _launch(self, reader: ShardReader, functions: list[Function], pool: ThreadPoolExecutor | None) -> None:
        thread = threading.Thread(
            target=self._work, args=(reader, functions, pool), name=f"streamkit {reader.shard_id}"
        )
        keep_lock()
        try:
            thread.start()
        except RuntimeError:
            # The system gives no more: run() is not to wait for it.
            reader.status.state = "stopped"
            self._close(reader, functions, pool)
            self._over.put(reader.shard_id)
            raise
        self._threads[reader.shard_id] = thread

    def _work(self, reader: ShardReader, functions: list[Function], pool: ThreadPoolExecutor | None) -> None:
        try:
            while (seconds := reader.step()) is not None:
                if seconds > 0:
                    reader.wait(seconds)
        except BaseException as error:  # noqa: BLE001  # Raised again by run(), in the caller's thread.
            reader.status.state = "stopped"
            self._fail(error)
        finally:
            self._close(reader, functions, pool)
            self._over.put(reader.shard_id)

    def _close(self, reader: ShardReader, functions: list[Function], pool: ThreadPoolExecutor | None) -> None:
        try:
            # In the reverse order, each whatever the others raise.
            with ExitStack() as closing:
                for function in reversed(functions):
                    close = getattr(function, "close", None)
                    if close is not None:
                        closing.callback(close)
                if pool is not None:
                    closing.callback(pool.shutdown)
                closing.callback(reader.close)
        except BaseException as error:  # noqa: BLE001  # Raised again by run(), in the caller's thread.
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._errors.append(error)
        self.stop()

    def _wait(self, seconds: float) -> None:
        """Wait so long, or until a shard is done with or ``stop`` is called."""
        if not self._over.empty():
            return
        try:
            shard_id = self._over.get(timeout=seconds)
        except Empty:
            return
        if shard_id:
            self._over.put(shard_id)


def _next(shards: list[Shard], leases: dict[str, Lease]) -> list[str]:
    """The shards that have something to read, and whose parents are done. A parent that is listed no more has expired."""
    done = {shard_id for shard_id, lease in leases.items() if lease.has_ended}
    holding = {shard.id for shard in shards} - done
    return [shard.id for shard in shards if shard.id in holding and holding.isdisjoint(shard.parents)]


def _have_all_ended(shards: list[Shard], leases: dict[str, Lease]) -> bool:
    """A stream that is being made can list none."""
    return bool(shards) and all(shard.id in leases and leases[shard.id].has_ended for shard in shards)

"""How far the readers of a stream are, by their checkpoints: as ``streamkit lag`` has it, with fewer reads.

The first record after a checkpoint tells a shard's age. It is read once: as long as the checkpoint stays where it is, so does
that record, and the age only grows. A reader that is caught up costs a read of one record every ten seconds a shard.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from ...checkpoints.base import CheckpointStore, Lease
from ...errors import ConfigurationError
from ..checkpoints import open_checkpoints
from ..shards import StreamShard, arrival_of
from .clients import Clients
from .streams import Streams
from .throughput import rest_after, size_of
from .watch import Task, bound

__all__ = ["ReaderShard", "ReaderView", "Readers"]

_HISTORY = 60
_BETWEEN_LOOKS = 4.0
_BETWEEN_READS = 10.0
# A lease is renewed several times while it lasts: one that stands still for so long has no owner that lives.
_QUIET_AFTER = 30.0
_FEW = 1


class ReaderShard(msgspec.Struct):
    """One reader in one shard. ``age`` is seconds; ``is_held``: whether a runner renews its lease. None: not known (yet)."""

    shard_id: str
    checkpoint: str | None = None
    age: float | None = None
    is_held: bool | None = None
    has_ended: bool = False
    history: list[float] = []


class ReaderView(msgspec.Struct):
    name: str
    stream: str
    shards: list[ReaderShard] = []
    error: str = ""


class _Place(msgspec.Struct):
    """What is known of a reader in a shard."""

    lease: Lease | None = None
    #: When it was looked at last, and since when its version is what it is, by the monotonic clock.
    looked_at: float = 0.0
    still_since: float = 0.0
    #: Whether its version was seen to change.
    has_moved: bool = False
    #: The checkpoint that what follows is about.
    read_after: int | None = None
    is_read: bool = False
    #: When the first record after it arrived; None where there is none.
    next_arrival: float | None = None
    #: The age at that time; what is shown until the next read where the checkpoint has moved on.
    age: float = 0.0
    history: deque[float] = msgspec.field(default_factory=lambda: deque(maxlen=_HISTORY))

    def take(self, lease: Lease, now: float) -> None:
        """It is so at ``now``, by the monotonic clock."""
        if self.lease is None or self.lease.version != lease.version:
            self.has_moved = self.lease is not None
            self.still_since = now
        self.lease, self.looked_at = lease, now

    def is_held(self, now: float) -> bool | None:
        """Whether a runner renews the lease. None where it is not known: one look tells nothing, nor does one that is old."""
        if self.lease is None or now - self.looked_at >= _QUIET_AFTER:
            return None
        if not self.lease.owner or self.looked_at - self.still_since >= _QUIET_AFTER:
            return False
        return self.has_moved or None


class Readers:
    """The readers ``names``, whose checkpoints ``options.checkpoints`` has."""

    def __init__(self, options: argparse.Namespace, clients: Clients, streams: Streams, names: list[str]) -> None:
        self._options = options
        self._clients = clients
        self._streams = streams
        self._names = names
        self._lock = threading.Lock()
        self._places: dict[tuple[str, str, str], _Place] = {}

    def tasks(self) -> list[Task]:
        tasks: list[Task] = []
        for stream in self._streams.names:
            for name in self._names:
                tasks.append(Task(f"reader {name} {stream}", _BETWEEN_LOOKS, bound(self._look, name, stream)))
                tasks += [
                    Task(f"age {name} {stream} {shard.id}", _BETWEEN_READS, bound(self._read, name, stream, shard))
                    for shard in self._streams.shards(stream).values()
                    if self._is_read(name, stream, shard.id)
                ]
        return tasks

    def view(self, error: Callable[[str], str]) -> list[ReaderView]:
        now, then = time.time(), time.monotonic()
        views: list[ReaderView] = []
        with self._lock:
            for stream in self._streams.names:
                for name in self._names:
                    shards = [
                        _view(shard.id, self._places.get((name, stream, shard.id), _Place()), now, then)
                        for shard in self._streams.shards(stream).values()
                    ]
                    why = error(f"reader {name} {stream}") or next(
                        filter(None, (error(f"age {name} {stream} {one.shard_id}") for one in shards)), ""
                    )
                    has_one = any(one.checkpoint or one.is_held or one.has_ended for one in shards)
                    # A name that has nothing to do with a stream is no news, where all streams are shown.
                    if why or has_one or len(self._streams.names) == 1:
                        views.append(ReaderView(name, stream, shards, why))
        return views

    def _is_read(self, name: str, stream: str, shard_id: str) -> bool:
        with self._lock:
            place = self._places.get((name, stream, shard_id))
            return place is not None and place.lease is not None and not place.lease.has_ended

    def _look(self, name: str, stream: str) -> None:
        store = self._open(stream)
        try:
            leases = store.leases(name, stream)
        finally:
            store.close()
        now, then = time.time(), time.monotonic()
        with self._lock:
            for shard_id, lease in leases.items():
                place = self._places.setdefault((name, stream, shard_id), _Place())
                place.take(lease, then)
                age = _age(place, now)
                if age is not None:
                    place.history.append(round(age, 1))

    def _open(self, stream: str) -> CheckpointStore:
        def dynamodb() -> Any:
            with self._clients.using("dynamodb", self._options.checkpoints, "checkpoints") as client:
                return _Kept(client)

        try:
            return open_checkpoints(self._options.checkpoints, dynamodb, must_exist=True)
        except ConfigurationError as error:
            raise ConfigurationError(f"the readers' checkpoints: {error}") from error

    def _read(self, name: str, stream: str, shard: StreamShard) -> float:
        """The seconds until the next one at least: the record may have 10 MiB."""
        with self._lock:
            place = self._places[name, stream, shard.id]
            assert place.lease is not None
            checkpoint = place.lease.checkpoint
            # Told here, and not by there being no task: one that came back with each new checkpoint would be due at once.
            if place.next_arrival is not None and place.read_after == checkpoint:
                return 0.0
        if checkpoint is None:
            start: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
        else:
            start = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": str(checkpoint)}
        with self._clients.using("kinesis", stream) as kinesis:
            iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard.id, **start)["ShardIterator"]
            answer = kinesis.get_records(ShardIterator=iterator, Limit=_FEW)
        with self._lock:
            place.read_after, place.is_read = checkpoint, True
            place.next_arrival = arrival_of(answer["Records"][0]) if answer["Records"] else None
            # An empty page before what is there tells how far it is behind at most.
            place.age = answer.get("MillisBehindLatest", 0) / 1000
            if place.next_arrival is not None:
                place.age = max(0.0, time.time() - place.next_arrival)
        return rest_after(sum(size_of(one) for one in answer["Records"]))


class _Kept:
    """A client that its store does not close: it is the console's."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def close(self) -> None:
        return


def _view(shard_id: str, place: _Place, now: float, then: float) -> ReaderShard:
    lease = place.lease
    if lease is None:
        return ReaderShard(shard_id)
    checkpoint = None if lease.checkpoint is None else str(lease.checkpoint)
    return ReaderShard(
        shard_id, checkpoint, _age(place, now), place.is_held(then), lease.has_ended, list(place.history)
    )


def _age(place: _Place, now: float) -> float | None:
    if place.lease is not None and place.lease.has_ended:
        return 0.0
    if not place.is_read or place.lease is None:
        return None
    if place.next_arrival is not None and place.read_after == place.lease.checkpoint:
        return max(0.0, now - place.next_arrival)
    return place.age

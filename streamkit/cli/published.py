"""What a run publishes for others on this machine: its shards, once a second, in a file that is replaced as a whole.

It has counts, ids of shards and positions, and nothing of a payload.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from ..errors import ConfigurationError, StreamkitError
from ..local.status import ShardStatus
from .terminal import say

__all__ = ["STALE_AFTER", "Published", "PublishedShard", "Publisher", "read_published"]

_BETWEEN_WRITES = 1.0
#: Seconds without a new state after which a run counts as gone or stuck.
STALE_AFTER = 10.0
# More than 10,000 shards have; a file that is larger is none of these.
_MOST_BYTES = 8 * 1024 * 1024


class PublishedShard(msgspec.Struct, frozen=True, kw_only=True):
    """See ``ShardStatus``. ``checkpoint`` is a text; ``age`` is seconds at the time of the state."""

    shard_id: str
    state: str
    checkpoint: str | None = None
    age: float = 0.0
    records: int = 0
    failures: int = 0
    backlog: int = 0
    in_flight: int = 0
    in_flight_records: int = 0
    in_flight_since: float | None = None


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A run at the time ``at``, in seconds since the epoch."""

    reader: str
    stream: str
    pid: int
    at: float
    shards: tuple[PublishedShard, ...] = ()


class Publisher:
    """Writes the state to ``path`` until the ``with`` block ends, and takes the file away then.

    ConfigurationError where it can't be written at the start. Later a failure is said once and tried again: no run ends by it.
    """

    def __init__(self, path: str, reader: str, stream: str, statuses: Callable[[], Iterable[ShardStatus]]) -> None:
        self._path = Path(path)
        self._reader = reader
        self._stream = stream
        self._statuses = statuses
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="streamkit status", daemon=True)

    def __enter__(self) -> Self:
        try:
            self._write()
        except OSError as error:
            raise ConfigurationError(f"--status {self._path} can't be written: {error.strerror}") from error
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _go_on(self) -> None:
        has_said_so = False
        while not self._ended.wait(_BETWEEN_WRITES):
            try:
                self._write()
            except OSError as error:
                if not has_said_so:
                    has_said_so = True
                    say(f"streamkit: --status {self._path} can't be written any more: {error.strerror}")

    def _write(self) -> None:
        now = time.time()
        # A shard that was lost and taken again has a status for each time; the last one is what it is.
        latest = {status.shard_id: status for status in list(self._statuses())}
        state = Published(
            reader=self._reader,
            stream=self._stream,
            pid=os.getpid(),
            at=now,
            shards=tuple(_shard(status, now) for status in latest.values()),
        )
        beside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        # Whose stream it is and how it is doing is nobody else's business.
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(msgspec.json.encode(state))
        os.replace(beside, self._path)


def _shard(status: ShardStatus, now: float) -> PublishedShard:
    return PublishedShard(
        shard_id=status.shard_id,
        state=status.state,
        checkpoint=None if status.checkpoint is None else str(status.checkpoint),
        age=status.age(now),
        records=status.records,
        failures=status.failures,
        backlog=status.backlog,
        in_flight=status.in_flight,
        in_flight_records=status.in_flight_records,
        in_flight_since=status.in_flight_since,
    )


def read_published(path: str) -> Published:
    """What a run has written there last. StreamkitError where there is nothing, or something else."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(_MOST_BYTES), type=Published)
    except FileNotFoundError:
        raise StreamkitError(f"no run writes {path} now: start one with `streamkit run … --status {path}`") from None
    except OSError as error:
        raise StreamkitError(f"{path} can't be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise StreamkitError(f"{path} is no file of `streamkit run --status`: {error}") from error

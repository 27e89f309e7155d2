"""Which shards are this runner's: leases over a checkpoint store, by a clock of its own.

Clocks of two machines are never compared. A runner counts its own time from before the entry can have changed to what it is,
and another's from after it has seen it change: so the other's count ends later, and by then the first has stopped. That is
what keeps two runners from working on one shard at once. What a runner writes all the same, because it was paused in between,
the store refuses.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable

import msgspec

from ..checkpoints.base import CheckpointStore, Lease, LeaseLost
from ..errors import ConfigurationError
from ..reason import reason

__all__ = ["Leases"]

log = logging.getLogger("streamkit")

# Parts of a lease: when it is renewed, and how long before its end its owner stops, for clocks that run at another speed
# and for what lies between asking whether it holds and acting on it.
_RENEWAL = 1 / 3
_MARGIN = 1 / 10


class _Held(msgspec.Struct):
    lease: Lease
    #: No version of the entry after the one before this was there earlier.
    since: float
    #: The start of the last try.
    tried: float


class _Seen(msgspec.Struct):
    lease: Lease
    #: The end of the call that first brought this version of it.
    since: float


class Leases:
    """The leases of one runner of ``reader`` on ``stream``.

    ``observe``, ``take`` and what gives up are for one thread, ``renew`` is for one that can be another, the rest for any.

    ``owner`` is a text that no other start of a runner ever has. ``seconds`` is how long a lease lasts without renewal, the
    same for all runners of a reader. ``clock`` gives seconds, and does not jump. ``started_at`` (seconds since the epoch) is
    stored with a shard's first taking, or rather the earliest that any shard of the stream has: where the reader began.

    Errors of the store: ``observe`` and ``take`` raise them, for nothing depends on them yet: try again later. ``renew`` and
    ``give_up`` log them, since a lease outlives a short failure, and ends by itself in a long one.
    """

    def __init__(
        self,
        store: CheckpointStore,
        *,
        reader: str,
        stream: str,
        owner: str,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        started_at: float | None = None,
    ) -> None:
        if not owner:
            raise ConfigurationError("a runner needs an owner's text for its leases; the empty one stands for nobody")
        if not 0 < seconds < float("inf"):
            raise ConfigurationError(f"a lease lasts for seconds, more than 0; got {seconds!r}")
        self._store = store
        self._reader = reader
        self._stream = stream
        self._owner = owner
        self._seconds = seconds
        self._lasts = seconds * (1 - _MARGIN)
        self._clock = clock
        self._started_at = started_at
        self._seen: dict[str, _Seen] = {}
        # The start of the last call that brought them.
        self._seen_at = -math.inf
        # What was tried to take since then.
        self._tried: set[str] = set()
        self._held: dict[str, _Held] = {}
        self._is_failing = False
        # Not held during a call of the store, which can take long: `holds` must be answered.
        self._lock = threading.Lock()

    def observe(self) -> dict[str, Lease]:
        """Every entry of the reader in this stream, by shard id; the store's error if they can't be read."""
        started = self._clock()
        leases = self._store.leases(self._reader, self._stream)
        now = self._clock()
        with self._lock:
            self._seen_at = started
            self._tried.clear()
            before = self._seen
            self._seen = {shard_id: _Seen(lease, now) for shard_id, lease in leases.items()}
            for shard_id, seen in self._seen.items():
                if shard_id in before and before[shard_id].lease.version == seen.lease.version:
                    seen.since = before[shard_id].since
        return leases

    def is_free(self, shard_id: str) -> bool:
        """Whether it can be taken, by what was observed a short time ago: call ``observe`` before each try.

        That is: it was never taken or was given up, or its entry has been the same for the time of a lease, or is this
        runner's, which lost it or had no answer when it took it. A shard that has ended is free like any other.
        """
        with self._lock:
            if shard_id in self._held or shard_id in self._tried or self._clock() - self._seen_at >= self._lasts:
                return False
            seen = self._seen.get(shard_id)
            if seen is None or seen.lease.owner in ("", self._owner):
                return True
            return self._clock() - seen.since >= self._seconds

    def take(self, shard_id: str) -> Lease | None:
        """Take it, in a new term; None where it is not free, or somebody was faster. Raises the store's error.

        No work of an earlier term may be going on here any more.
        """
        if not self.is_free(shard_id):
            return None
        with self._lock:
            # Once for what was seen: a second try could be told of the first one's term, which may have been given up since.
            self._tried.add(shard_id)
            seen, seen_at = self._seen.get(shard_id), self._seen_at
            starts = [s.lease.started_at for s in self._seen.values() if s.lease.started_at is not None]
        lease = self._store.take(
            self._reader,
            self._stream,
            shard_id,
            self._owner,
            None if seen is None else seen.lease,
            started_at=min(starts, default=self._started_at),
        )
        # Not since the start of this call: one before it may have taken the shard, which had no answer.
        held = None if lease is None else _Held(lease, seen_at, seen_at)
        if held is None or self._is_over(held):
            return None
        with self._lock:
            self._held[shard_id] = held
        return held.lease

    def renew(self) -> list[str]:
        """Renew the leases that are due; the ids of the shards that are lost since the last call, which are forgotten here.

        A lease is due after a third of its time, so call it several times in that. It is lost when somebody has taken it, or
        when it could not be renewed in time. After an error of the store the rest waits for the next call, so that a store
        that is down costs each call one time-out.
        """
        lost = [held for held in self._in_hand() if self._is_over(held) and self._lose(held, "was not renewed in time")]
        for held in self._in_hand():
            started = self._clock()
            if started - held.since < self._seconds * _RENEWAL:
                continue
            held.tried = started
            try:
                lease = self._store.renew(held.lease)
            except LeaseLost:
                if self._lose(held, "was taken by another runner"):
                    lost.append(held)
                continue
            except Exception as error:  # noqa: BLE001  # Whatever the store raises, the lease holds until its time is over.
                self._failed(error)
                # It may have been renewed. The next renewal must change the entry, or others count from this one.
                held.lease = msgspec.structs.replace(held.lease, beat=held.lease.beat + 1)
                break
            self._succeeded()
            if not self._is_over(held):
                self._replace(held, _Held(lease, started, started))
            elif self._lose(held, "was not renewed in time"):
                # Too late: whoever asked meanwhile was told that it is over.
                lost.append(held)
        return [held.lease.shard_id for held in lost]

    def holds(self, shard_id: str) -> bool:
        """Whether the shard is this runner's for certain. Once False it stays so until the shard is taken again."""
        with self._lock:
            held = self._held.get(shard_id)
        return held is not None and not self._is_over(held)

    def lease(self, shard_id: str) -> Lease:
        """What to write with, at once; LeaseLost where the shard is not held."""
        with self._lock:
            held = self._held.get(shard_id)
        if held is None or self._is_over(held):
            raise LeaseLost(f"shard {shard_id} of {self._stream} is not {self._reader}'s for certain any more")
        return held.lease

    def drop(self, shard_id: str) -> None:
        """Forget a shard that was lost."""
        with self._lock:
            self._held.pop(shard_id, None)

    def give_up(self, shard_id: str) -> bool:
        """Leave a shard to others at once; whether they can see it. Where not, they wait until the lease is over."""
        with self._lock:
            held = self._held.pop(shard_id, None)
        if held is None:
            return True
        try:
            self._store.give_up(held.lease)
        except Exception as error:  # noqa: BLE001  # Whatever the store raises, the lease ends by itself.
            log.warning("%s: the lease of shard %s could not be given up: %s", self._reader, shard_id, reason(error))
            return False
        return True

    def give_up_all(self) -> None:
        """Leave all shards to others, after their work has ended; a store that is down is asked once."""
        for held in self._in_hand():
            if not self.give_up(held.lease.shard_id):
                break
        with self._lock:
            self._held.clear()

    def _in_hand(self) -> list[_Held]:
        """What was taken, that first whose last try is longest ago: one that fails does not keep others back."""
        with self._lock:
            return sorted(self._held.values(), key=lambda held: held.tried)

    def _is_over(self, held: _Held) -> bool:
        return self._clock() - held.since >= self._lasts

    def _replace(self, held: _Held, new: _Held | None) -> bool:
        """Put ``new`` in the place of ``held``, or nothing; whether it was still there: it can have been dropped meanwhile."""
        with self._lock:
            if self._held.get(held.lease.shard_id) is not held:
                return False
            if new is None:
                del self._held[held.lease.shard_id]
            else:
                self._held[held.lease.shard_id] = new
            return True

    def _lose(self, held: _Held, why: str) -> bool:
        was_there = self._replace(held, None)
        if was_there:
            log.warning("%s: the lease of shard %s %s", self._reader, held.lease.shard_id, why)
        return was_there

    def _failed(self, error: Exception) -> None:
        if not self._is_failing:
            log.warning(
                "%s: leases can't be renewed, and end %g s after their last renewal: %s",
                self._reader,
                self._lasts,
                reason(error),
            )
        self._is_failing = True

    def _succeeded(self) -> None:
        if self._is_failing:
            log.info("%s: leases are renewed again", self._reader)
        self._is_failing = False

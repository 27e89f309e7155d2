"""What a producer holds and what it sends next: a state machine without a clock, a thread or a connection of its own.

It is told what was accepted, what was answered and what the time is; all of it under one lock of the caller's.

  - At most one request is in flight for each shard; ``queues`` says what of a shard goes into one.
  - What was refused goes back to the front of its shard's queue, before anything newer.
  - After a new shard map nothing is sent until every request made by the old one is settled and what it did not get in is back;
    then all is sorted into the shards anew.
  - Where the answer names another shard than the one predicted, the records of the aggregate that this shard does not cover
    count as refused. A shard that the map does not know yet is judged by the next one; until then its request is in flight.
  - A lost answer means perhaps: what the request held is sent again.
  - A record that is given up takes along what waits behind it of its key on its shard; one that could never be put does not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ..errors import DeliveryError
from .bucket import BYTES_PER_SECOND, RECORDS_PER_SECOND, Bucket
from .future import Entry, Outcome, Settlement
from .queues import Aggregates, Parcel, Plain, Queue
from .shards import Shard, ShardMap, hash_of

__all__ = ["Outbox", "Request", "Settings"]

_NEVER = float("inf")
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.1, 5.0
_MOST_DOUBLINGS = 10
_MOST_ROUTES = 20_000
#: Seconds between two looks at the shards, while answers name ones that the map does not have, and at all.
_MAP_PAUSE = 1.0
#: So many maps may leave out the shard that an answer has named, before what it holds is sent again.
_MOST_MAPS = 10
_THROTTLED = "ProvisionedThroughputExceededException"


class Settings(msgspec.Struct, frozen=True):
    """Sizes in bytes, times in seconds. ``Producer`` documents those that are its options."""

    is_aggregating: bool = True
    linger: float = 0.1
    record_ttl: float | None = 300.0
    aggregate_bytes: int = 1024 * 1024
    #: PutRecords takes 500 records, and 10 MiB on AWS; 5 MiB, its limit until 2025, is what every stand-in takes too.
    request_records: int = 500
    request_bytes: int = 5 * 1024 * 1024
    bytes_per_second: float = BYTES_PER_SECOND
    records_per_second: float = RECORDS_PER_SECOND
    map_seconds: float = 300.0


class Outlet:
    """One open shard: what waits for it, and when it may have more."""

    def __init__(self, shard: Shard, queue: Queue, bucket: Bucket) -> None:
        self.shard = shard
        self.queue = queue
        self.bucket = bucket
        self.is_in_flight = False
        self.not_before = -_NEVER
        self.failures = 0
        #: Why the last was refused; of the shard, or of a request with something of it.
        self.reason = ""


class Request(msgspec.Struct, eq=False):
    """One PutRecords: its parcels, for which shard each is meant, and what each shard's limits are charged: bytes and records."""

    parcels: list[Parcel]
    outlets: list[Outlet]
    charges: list[tuple[Outlet, int, int]]


class _Unjudged(msgspec.Struct, eq=False):
    """An aggregate in a shard of which nothing but the name is known."""

    outlet: Outlet
    parcel: Parcel
    shard_id: str
    sequence_number: str
    maps: int = 0


class Outbox:
    """``jitter`` gives numbers from 0 to 1, by which waiting times differ."""

    def __init__(self, settings: Settings, jitter: Callable[[], float] = random.random) -> None:
        self._settings = settings
        self._jitter = jitter
        self._map: ShardMap | None = None
        self._next_map: ShardMap | None = None
        self._outlets: list[Outlet] = []
        #: By shard id. A list of shards that comes late leaves some out, and the next has them again: with what was put there.
        self._buckets: dict[str, Bucket] = {}
        #: By partition key, without an explicit hash key. It is emptied when it is too large.
        self.routes: dict[str, Outlet] = {}
        self._unrouted: list[Entry] = []
        self._in_flight: set[Request] = set()
        self._unjudged: list[_Unjudged] = []
        self._most_records = settings.request_records
        self._flushed = -_NEVER
        self._is_map_old = False
        self._is_asking_map = False
        self._map_asked = -_NEVER
        self._map_failures = 0
        self._map_not_before = -_NEVER
        self._next_expiry = -_NEVER
        self._is_given_up = False
        #: Records that are accepted and not settled.
        self.count = 0
        #: Why a request or a record was refused last.
        self.reason = ""

    # What comes in.

    def add(self, entries: Sequence[Entry]) -> None:
        """Accept records, in their order."""
        self.count += len(entries)
        if self._map is None:
            self._unrouted += entries
        else:
            self._sort_in(entries)

    def flush(self, now: float) -> None:
        """All that was accepted up to now is due."""
        self._flushed = now

    def has_waiting(self) -> bool:
        """Whether something waits for a request, and none is in flight for its shard."""
        return any(len(outlet.queue) and not outlet.is_in_flight for outlet in self._outlets)

    def oldest(self) -> float:
        """When the oldest record was accepted that is not settled; infinity where all are."""
        return min(
            (
                *(outlet.queue.oldest() for outlet in self._outlets),
                *(entry.accepted for entry in self._unrouted[:1]),
                *(parcel.entries[0].accepted for request in self._in_flight for parcel in request.parcels),
                *(one.parcel.entries[0].accepted for one in self._unjudged),
            ),
            default=_NEVER,
        )

    # The shard map.

    def wants_map(self, now: float) -> bool:
        """Whether to ask for the shards: ``ask_map``, and then ``take_map`` or ``miss_map``."""
        return not self._is_asking_map and now >= self._map_due_at()

    def ask_map(self, now: float) -> None:
        self._is_asking_map, self._map_asked = True, now

    def take_map(self, new: ShardMap, now: float) -> list[Settlement]:
        """The shards as they are listed."""
        self._is_asking_map = False
        if not new.is_whole():
            return self.miss_map("the shards listed do not cover all hash keys", now)
        self._map_failures = 0
        self._map_not_before = now + _MAP_PAUSE
        self._is_map_old = False
        if self._map is None or not new.has_same_open_shards(self._next_map or self._map):
            self._next_map = new
        elif self._next_map is None:
            self._map = new
        settled = self._judge(new)
        self._change_map(now)
        return settled

    def miss_map(self, reason: str, now: float) -> list[Settlement]:
        """The shards could not be listed, or are not whole: the list is asked for again later."""
        self._is_asking_map = False
        self.reason = reason
        self._map_not_before = now + self._backoff(self._map_failures)
        self._map_failures += 1
        return []

    def lack_map(self, error: Exception, message: str, now: float) -> list[Settlement]:
        """The shards will not be listed, and waiting does not mend that: what waits for a first map fails."""
        self.miss_map(message, now)
        entries, self._unrouted = self._unrouted, []
        return self._failed(entries, message, error) if entries else []

    def _map_due_at(self) -> float:
        if self._map is None:
            return self._map_not_before if self._unrouted else _NEVER
        if self._is_map_old or self._unjudged:
            return self._map_not_before
        return max(self._map_not_before, self._map_asked + self._settings.map_seconds) if self.count else _NEVER

    def _change_map(self, now: float) -> None:
        """Sort all into the new map's shards, once nothing of the old one is under way."""
        if self._next_map is None or self._in_flight or self._unjudged:
            return
        known = {outlet.shard: outlet for outlet in self._outlets}
        # Each queue is in the order of acceptance, so that of its keys stays as it is.
        entries = self._unrouted
        for outlet in self._outlets:
            entries += outlet.queue.drain()
        if self._outlets:
            entries.sort(key=lambda entry: entry.accepted)
        self._map, self._next_map = self._next_map, None
        self._unrouted = []
        self.routes.clear()
        self._outlets = [known.get(shard) or self._new_outlet(shard, now) for shard in self._map.open]
        open_ = {shard.shard_id for shard in self._map.open}
        self._buckets = {
            id_: bucket
            for id_, bucket in self._buckets.items()
            if id_ in open_ or bucket.wait(1 << 62, 1 << 62, now) > 0
        }
        self._sort_in(entries)

    def _new_outlet(self, shard: Shard, now: float) -> Outlet:
        settings = self._settings
        queue: Queue = Aggregates(settings.aggregate_bytes) if settings.is_aggregating else Plain()
        bucket = self._buckets.setdefault(
            shard.shard_id, Bucket(settings.bytes_per_second, settings.records_per_second, now)
        )
        return Outlet(shard, queue, bucket)

    def _sort_in(self, entries: Sequence[Entry]) -> None:
        route = self.routes.get
        sorted_: dict[Outlet, list[Entry]] = {outlet: [] for outlet in self._outlets}
        for entry in entries:
            outlet = None if entry.explicit_hash_key else route(entry.partition_key)
            sorted_[outlet or self._outlet_of(entry)].append(entry)
        for outlet, some in sorted_.items():
            if some:
                outlet.queue.add(some)

    def _outlet_of(self, entry: Entry) -> Outlet:
        assert self._map is not None
        key = entry.partition_key
        if entry.explicit_hash_key is not None:
            return self._outlets[self._map.index_of(hash_of(key, entry.explicit_hash_key))]
        outlet = self.routes.get(key)
        if outlet is None:
            if len(self.routes) >= _MOST_ROUTES:
                self.routes.clear()
            outlet = self.routes[key] = self._outlets[self._map.index_of(hash_of(key))]
        return outlet

    # What goes out.

    def take(self, now: float) -> Request | None:
        """The next request, or None where nothing is due."""
        if self._next_map is not None or self._is_given_up:
            return None
        linger = self._settings.linger
        if self._flushed > -_NEVER and self.oldest() > self._flushed:
            self._flushed = -_NEVER
        due: list[tuple[float, int]] = []
        nearly: list[tuple[float, int]] = []
        for n, outlet in enumerate(self._outlets):
            if not len(outlet.queue) or not self._is_ready(outlet, now):
                continue
            due_at = self._due_at(outlet)
            if due_at <= now:
                due.append((due_at, n))
            elif due_at - linger / 2 <= now:
                # A request that goes anyway takes along what would go soon.
                nearly.append((due_at, n))
        if not due:
            return None
        request = Request([], [], [])
        records, size = self._most_records, self._settings.request_bytes
        for _, n in sorted(due) + sorted(nearly):
            outlet = self._outlets[n]
            parcels = outlet.queue.take(*_within(outlet, records, size, now))
            if not parcels and not request.parcels:
                parcels = outlet.queue.take(1, 1 << 62)
            if not parcels:
                continue
            taken = sum(parcel.size for parcel in parcels)
            outlet.is_in_flight = True
            request.charges.append((outlet, taken, len(parcels)))
            records -= len(parcels)
            size -= taken
            request.parcels += parcels
            request.outlets += [outlet] * len(parcels)
            if records <= 0:
                break
        self._in_flight.add(request)
        return request

    def next_at(self, now: float) -> float:
        """When to ``take``, or to ask for a map, again, unless something happens before; infinity where nothing waits."""
        times = [_NEVER if self._is_asking_map else self._map_due_at()]
        if self._settings.record_ttl is not None and self.count:
            times.append(max(self._next_expiry, now))
        if self._next_map is None and not self._is_given_up:
            for outlet in self._outlets:
                if len(outlet.queue) and not outlet.is_in_flight:
                    room = now + outlet.bucket.wait(*outlet.queue.next_size(), now)
                    times.append(max(self._due_at(outlet), outlet.not_before, room))
        return min(times)

    def _due_at(self, outlet: Outlet) -> float:
        if self._flushed > -_NEVER and outlet.queue.oldest() <= self._flushed:
            return -_NEVER
        return outlet.queue.due_at(self._settings.linger)

    def _is_ready(self, outlet: Outlet, now: float) -> bool:
        if outlet.is_in_flight or outlet.not_before > now:
            return False
        return outlet.bucket.wait(*outlet.queue.next_size(), now) <= 0

    # What comes back.

    def answered(self, request: Request, results: Sequence[Mapping[str, Any]], now: float) -> list[Settlement]:
        """PutRecords' answer: its ``Records``, one for each parcel."""
        if len(results) != len(request.parcels):
            return self.lost(request, f"an answer for {len(results)} of {len(request.parcels)} records", now)
        if not self._end(request, now):
            return []
        self._most_records = min(self._settings.request_records, 2 * self._most_records)
        settled: list[Settlement] = []
        back: dict[Outlet, list[Parcel]] = {}
        for parcel, outlet, result in zip(request.parcels, request.outlets, results, strict=True):
            if result.get("ErrorCode"):
                self._note(outlet, f"{result['ErrorCode']}: {result.get('ErrorMessage') or ''}".rstrip(": "))
                back.setdefault(outlet, []).append(parcel)
                continue
            outlet.failures = 0
            outlet.queue.grow()
            shard_id, sequence_number = result["ShardId"], result["SequenceNumber"]
            if shard_id != outlet.shard.shard_id:
                self._is_map_old = True
            if parcel.aggregation is None:
                settled.append(self._landed(parcel.entries, shard_id, sequence_number, None, parcel.held))
            elif shard_id == outlet.shard.shard_id:
                places = range(len(parcel.entries))
                settled.append(self._landed(parcel.entries, shard_id, sequence_number, places, parcel.held))
            else:
                outlet.is_in_flight = True
                self._unjudged.append(_Unjudged(outlet, parcel, shard_id, sequence_number))
        for outlet, parcels in back.items():
            outlet.queue.put_back(_entries_of(parcels))
            outlet.not_before = now + self._backoff(outlet.failures)
            outlet.failures += 1
            if outlet.reason.startswith(_THROTTLED):
                outlet.queue.shrink()
        assert self._map is not None
        settled += self._judge(self._map, is_new=False)
        self._change_map(now)
        return settled

    def lost(self, request: Request, reason: str, now: float, *, perhaps: bool = True) -> list[Settlement]:
        """No answer came, or one that says nothing of the records: all of it goes again. ``perhaps`` it is in the stream."""
        if not self._end(request, now):
            return []
        for outlet, parcels in _by_outlet(request):
            entries = _entries_of(parcels)
            if perhaps:
                for entry in entries:
                    entry.perhaps = True
            outlet.queue.put_back(entries)
            outlet.not_before = now + self._backoff(outlet.failures)
            outlet.failures += 1
            self._note(outlet, reason)
        self._change_map(now)
        return []

    def rejected(self, request: Request, error: Exception, message: str, now: float) -> list[Settlement]:
        """The whole request is wrong, by one of its records perhaps: smaller ones follow, until that one is alone, and fails.

        What waits behind it of its key goes on: this one could never have been put before it.
        """
        if not self._end(request, now):
            return []
        settled: list[Settlement] = []
        self._most_records = max(1, len(request.parcels) // 2)
        if len(request.parcels) > 1:
            for outlet, parcels in _by_outlet(request):
                outlet.queue.put_back(_entries_of(parcels))
        elif len(request.parcels[0].entries) > 1:
            request.outlets[0].queue.put_back(request.parcels[0].entries)
            request.outlets[0].queue.split(request.parcels[0].size)
        else:
            self.reason = message
            settled = self._failed(request.parcels[0].entries, message, error)
        self._change_map(now)
        return settled

    def failed(self, request: Request, error: Exception, message: str, now: float) -> list[Settlement]:
        """The request can't succeed, whenever it is sent: its records fail."""
        if not self._end(request, now):
            return []
        settled: list[Settlement] = []
        for outlet, parcels in _by_outlet(request):
            self._note(outlet, message)
            entries = _entries_of(parcels)
            settled += self._failed(entries, message, error)
            settled += self._fail_followers(outlet, {entry.partition_key for entry in entries}, message, error)
        self._change_map(now)
        return settled

    def expire(self, now: float) -> list[Settlement]:
        """Give up what was accepted more than ``record_ttl`` seconds ago and is not under way."""
        ttl = self._settings.record_ttl
        if ttl is None or now < self._next_expiry:
            return []
        self._next_expiry = now + min(1.0, ttl / 10)
        limit = now - ttl
        settled: list[Settlement] = []
        if self._unrouted and self._unrouted[0].accepted < limit:
            # Without a map the order of a key is that of all.
            entries, self._unrouted = self._unrouted, []
            keys = {entry.partition_key for entry in entries if entry.accepted < limit}
            self._unrouted = [entry for entry in entries if entry.partition_key not in keys]
            expired = [entry for entry in entries if entry.partition_key in keys]
            settled += self._failed(expired, f"not put in {ttl:g} s: {self.reason or 'the shards could not be listed'}")
        for outlet in self._outlets:
            if outlet.queue.oldest() < limit:
                entries = outlet.queue.drain()
                keys = {entry.partition_key for entry in entries if entry.accepted < limit}
                reason = outlet.reason or "the shard's write limits had no room for it"
                expired = [entry for entry in entries if entry.accepted < limit]
                followers = [entry for entry in entries if entry.accepted >= limit and entry.partition_key in keys]
                outlet.queue.add([entry for entry in entries if entry.partition_key not in keys])
                settled += self._failed(expired, f"not put in {ttl:g} s: {reason}")
                settled += self._failed(followers, _follower_message(reason))
        return settled

    def give_up(self, message: str) -> list[Settlement]:
        """Nothing is sent any more: all that is not settled fails. Answers that come later are not looked at."""
        self._is_given_up = True
        entries = [*self._unrouted]
        for request in self._in_flight:
            for parcel in request.parcels:
                for entry in parcel.entries:
                    entry.perhaps = True
                    entries.append(entry)
        for one in self._unjudged:
            for entry in one.parcel.entries:
                entry.perhaps = True
                entries.append(entry)
        for outlet in self._outlets:
            entries += outlet.queue.drain()
        self._unrouted, self._unjudged = [], []
        self._in_flight.clear()
        return self._failed(entries, message) if entries else []

    def _end(self, request: Request, now: float) -> bool:
        """The request is answered, one way or the other. False where it was given up before."""
        if request not in self._in_flight:
            return False
        self._in_flight.remove(request)
        for outlet, size, count in request.charges:
            outlet.is_in_flight = False
            outlet.bucket.take(size, count, now)
        return True

    def _judge(self, known: ShardMap, *, is_new: bool = True) -> list[Settlement]:
        """Of aggregates in shards that were not predicted: what lies where it belongs is settled, and the rest goes again."""
        settled: list[Settlement] = []
        waiting, self._unjudged = self._unjudged, []
        for one in waiting:
            shard = known.get(one.shard_id)
            one.maps += is_new
            if shard is None and one.maps < _MOST_MAPS:
                self._unjudged.append(one)
                continue
            places = [
                place
                for place, entry in enumerate(one.parcel.entries)
                if shard is not None
                # The first has brought it there.
                and (not place or shard.covers(hash_of(entry.partition_key, entry.explicit_hash_key)))
            ]
            for entry in one.parcel.entries:
                # Of those that go again a copy is there, where readers that filter don't look.
                entry.perhaps = True
            inside = set(places)
            if places:
                entries = [one.parcel.entries[place] for place in places]
                settled.append(self._landed(entries, one.shard_id, one.sequence_number, places, _held(entries)))
            strangers = [entry for place, entry in enumerate(one.parcel.entries) if place not in inside]
            one.outlet.queue.put_back(strangers)
            one.outlet.is_in_flight = False
        return settled

    def _landed(
        self, entries: Sequence[Entry], shard_id: str, sequence_number: str, places: Sequence[int] | None, held: int
    ) -> Settlement:
        self._forget(entries)
        return Settlement(entries, Outcome(shard_id, sequence_number), held, places)

    def _fail_followers(self, outlet: Outlet, keys: set[str], message: str, error: Exception) -> list[Settlement]:
        """What waits behind a record that failed, of its key: putting it would put a later record before an earlier one."""
        entries = outlet.queue.drain()
        followers = [entry for entry in entries if entry.partition_key in keys]
        outlet.queue.add([entry for entry in entries if entry.partition_key not in keys])
        return self._failed(followers, _follower_message(message), error)

    def _failed(self, entries: Sequence[Entry], message: str, cause: Exception | None = None) -> list[Settlement]:
        settled: list[Settlement] = []
        for perhaps in (False, True):
            some = [entry for entry in entries if entry.perhaps is perhaps]
            if some:
                error = DeliveryError(message, perhaps=perhaps)
                error.__cause__ = cause
                self._forget(some)
                settled.append(Settlement(some, Outcome(error=error), _held(some)))
        return settled

    def _forget(self, entries: Sequence[Entry]) -> None:
        self.count -= len(entries)

    def _note(self, outlet: Outlet, reason: str) -> None:
        outlet.reason = self.reason = reason

    def _backoff(self, failures: int) -> float:
        longest = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(failures, _MOST_DOUBLINGS))
        return longest * (0.5 + self._jitter() / 2)


def _within(outlet: Outlet, records: int, size: int, now: float) -> tuple[int, int]:
    """So many records and bytes of a request as the shard has room for: for the first it has, or it is larger than all room."""
    room_bytes, room_records = outlet.bucket.room(now)
    return int(min(records, max(room_records, 1))), int(min(size, max(room_bytes, outlet.queue.first_size())))


def _by_outlet(request: Request) -> list[tuple[Outlet, list[Parcel]]]:
    found: dict[Outlet, list[Parcel]] = {}
    for outlet, parcel in zip(request.outlets, request.parcels, strict=True):
        found.setdefault(outlet, []).append(parcel)
    return list(found.items())


def _entries_of(parcels: Sequence[Parcel]) -> list[Entry]:
    return [entry for parcel in parcels for entry in parcel.entries]


def _held(entries: Sequence[Entry]) -> int:
    return sum(len(entry.data) + len(entry.partition_key) for entry in entries)


def _follower_message(reason: str) -> str:
    return f"an earlier record of its key was not put ({reason}): put both again, in order"

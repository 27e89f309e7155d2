"""The streams of an endpoint: their shards, and how much arrives in each.

Kinesis tells nobody a shard's throughput but CloudWatch, a minute late. So each open shard is looked at now and then: one read
of up to 200 records, which begins a few seconds back. It asks for as many as would have made about 128 KiB in the look before;
so the first one after records have become larger can bring up to the 10 MiB of a read. The more a look has brought, the later
comes the next one. All that is a share of the five reads and the 2 MiB a second that all readers of the shard have together.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import msgspec

from ..shards import StreamShard, arrival_of, shards_of
from .clients import Clients
from .throughput import Arrival, Rate, next_limit, rate_of, rest_after, size_of
from .watch import Task, bound

__all__ = ["MOST_STREAMS", "ShardView", "StreamView", "Streams"]

#: How many streams are shown where none was named.
MOST_STREAMS = 20
_HISTORY = 60
_BETWEEN_LISTS = 30.0
_BETWEEN_SUMMARIES = 15.0
# Seconds that a look at a shard goes back.
_WINDOW = 10.0


class ShardView(msgspec.Struct):
    """A shard as it was seen last. ``newest`` is when the newest record that was seen arrived, in seconds since the epoch."""

    shard_id: str
    is_open: bool
    parents: tuple[str, ...] = ()
    rate: Rate | None = None
    newest: float | None = None
    #: Records a second, the last sixty that were taken.
    history: list[float] = []


class StreamView(msgspec.Struct):
    name: str
    status: str = ""
    mode: str = ""
    retention_hours: int | None = None
    shards: list[ShardView] = []
    error: str = ""


class _Seen(msgspec.Struct):
    """What is known of a stream."""

    name: str
    summary: dict[str, Any] = {}
    shards: dict[str, StreamShard] = {}
    rates: dict[str, Rate] = {}
    newest: dict[str, float] = {}
    limits: dict[str, int] = {}
    histories: dict[str, deque[float]] = {}


class Streams:
    """``named``: the streams to show; where it is empty, the first twenty there are. ``sample``: seconds, 0 for no looks."""

    def __init__(self, clients: Clients, named: list[str], sample: float) -> None:
        self._clients = clients
        self._is_listed = not named
        self._sample = sample
        self._lock = threading.Lock()
        self._seen = {name: _Seen(name) for name in named}
        #: Whether there are more streams than are shown.
        self.has_more = False

    @property
    def names(self) -> list[str]:
        with self._lock:
            return list(self._seen)

    def shards(self, stream: str) -> dict[str, StreamShard]:
        with self._lock:
            return dict(self._seen[stream].shards) if stream in self._seen else {}

    def tasks(self) -> list[Task]:
        tasks = [Task("streams", _BETWEEN_LISTS, self._list)] if self._is_listed else []
        with self._lock:
            seen = list(self._seen.values())
        for one in seen:
            tasks.append(Task(f"stream {one.name}", _BETWEEN_SUMMARIES, bound(self._describe, one)))
            if self._sample:
                tasks += [
                    Task(f"sample {one.name} {shard.id}", self._sample, bound(self._look, one, shard))
                    for shard in one.shards.values()
                    if not shard.is_closed
                ]
        return tasks

    def view(self, error: Any) -> list[StreamView]:
        """The streams as they were seen last; ``error(task name)`` tells why one could not be."""
        with self._lock:
            return [
                StreamView(
                    one.name,
                    one.summary.get("StreamStatus", ""),
                    one.summary.get("StreamModeDetails", {}).get("StreamMode", "PROVISIONED") if one.summary else "",
                    one.summary.get("RetentionPeriodHours"),
                    [self._shard_view(one, shard) for shard in one.shards.values()],
                    error(f"stream {one.name}") or self._sample_error(one, error),
                )
                for one in self._seen.values()
            ]

    def _shard_view(self, seen: _Seen, shard: StreamShard) -> ShardView:
        return ShardView(
            shard.id,
            not shard.is_closed,
            shard.parents,
            seen.rates.get(shard.id),
            seen.newest.get(shard.id),
            list(seen.histories.get(shard.id, ())),
        )

    def _sample_error(self, seen: _Seen, error: Any) -> str:
        return next(filter(None, (error(f"sample {seen.name} {shard}") for shard in seen.shards)), "")

    def _list(self) -> None:
        with self._clients.using("kinesis", "of this endpoint", "streams") as kinesis:
            answer = kinesis.list_streams(Limit=MOST_STREAMS)
        names = answer["StreamNames"]
        with self._lock:
            self._seen = {name: self._seen.get(name) or _Seen(name) for name in names}
            self.has_more = bool(answer.get("HasMoreStreams"))

    def _describe(self, seen: _Seen) -> None:
        with self._clients.using("kinesis", seen.name) as kinesis:
            summary = kinesis.describe_stream_summary(StreamName=seen.name)["StreamDescriptionSummary"]
            shards = shards_of(kinesis, seen.name)
        with self._lock:
            seen.summary, seen.shards = summary, shards

    def _look(self, seen: _Seen, shard: StreamShard) -> float:
        """The seconds until the next one at least."""
        limit = seen.limits.get(shard.id) or next_limit(())
        until = time.time()
        since = until - min(_WINDOW, self._sample)
        with self._clients.using("kinesis", seen.name) as kinesis:
            iterator = kinesis.get_shard_iterator(
                StreamName=seen.name, ShardId=shard.id, ShardIteratorType="AT_TIMESTAMP", Timestamp=since
            )["ShardIterator"]
            answer = kinesis.get_records(ShardIterator=iterator, Limit=limit)
        arrivals = [Arrival(arrival_of(one), size_of(one)) for one in answer["Records"]]
        rest = rest_after(sum(one.size for one in arrivals))
        is_whole = len(arrivals) < limit and not answer.get("MillisBehindLatest")
        with self._lock:
            if not arrivals and not is_whole:
                # An empty page before what is there: nothing is known.
                return rest
            rate = rate_of(arrivals, since, max(until, time.time()) if is_whole else until, is_whole=is_whole)
            seen.rates[shard.id] = rate
            seen.limits[shard.id] = next_limit(arrivals, limit)
            if arrivals:
                seen.newest[shard.id] = max(arrivals[-1].at, seen.newest.get(shard.id, 0.0))
            seen.histories.setdefault(shard.id, deque(maxlen=_HISTORY)).append(round(rate.records, 2))
        return rest

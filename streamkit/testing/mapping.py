"""A stream and its event source mapping on a virtual clock: a day of redeliveries in milliseconds."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from ..local.documents import event_of, failure_document, item_of, kinesis_record, read_back, window_fields
from ..local.mapping import Action, Discard, Idle, Invoke, Item, ShardMapping, Wait, lane_of
from ..local.settings import Settings

__all__ = ["Crash", "EventSourceMapping", "InvocationTimedOut", "Throttled", "VirtualContext"]

_START = 1_767_225_600.0  # 2026-01-01T00:00:00Z
_FIRST_SEQUENCE_NUMBER = 49590338271490256608559692538361571095921575989136588898
_STREAM_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/{}"
_FUNCTION_ARN = "arn:aws:lambda:us-east-1:000000000000:function:function"


class InvocationTimedOut(BaseException):
    """The function's time was up. No ``except Exception`` in it can stop this, as nothing stops Lambda."""


class Crash(BaseException):
    """Raise it in a function, a sink or a queue to end the invocation there, as if its process had been killed."""


class Throttled(BaseException):
    """Raise it in a function instead of doing anything, as if Lambda had not let the invocation through: no attempt is used up,
    and ``invocations`` has nothing of it.
    """


class VirtualContext:
    """Lambda's context, on the mapping's clock."""

    function_name = "function"
    function_version = "$LATEST"
    invoked_function_arn = _FUNCTION_ARN
    memory_limit_in_mb = "128"
    log_group_name = "/aws/lambda/function"
    log_stream_name = "2026/01/01/[$LATEST]virtual"

    def __init__(self, request_id: str, now: Callable[[], float], ends_at: float) -> None:
        self.aws_request_id = request_id
        self._now = now
        self._ends_at = ends_at

    def monotonic(self) -> float:
        """Seconds on the mapping's clock: what streamkit measures a circuit breaker's pauses by."""
        return self._now()

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is stopped."""
        return max(0, round((self._ends_at - self._now()) * 1000))


class _Shard(msgspec.Struct, eq=False):
    id: str
    mapping: ShardMapping
    records: list[Item] = msgspec.field(default_factory=list)
    # By sequence number, each record as it stands in an event.
    shown: dict[int, dict[str, Any]] = msgspec.field(default_factory=dict)
    # How many of the records the mapping has read.
    read: int = 0
    # By lane, of its last invocation.
    request_ids: dict[int, str] = msgspec.field(default_factory=dict)
    parents: tuple[_Shard, ...] = ()
    children: tuple[str, ...] = ()


class EventSourceMapping:
    """Puts records through ``function`` as Lambda does, on a clock that only ``advance``, ``run_until_idle`` and ``sleep`` move.

        mapping = EventSourceMapping(lambda_handler(Orders), batch_size=10, function_response_types=["ReportBatchItemFailures"])
        mapping.put(b'{"id": 1}', "customer-7")
        mapping.run_until_idle()

    ``settings`` are those of ``streamkit.local.settings.Settings``: AWS's names in snake case with AWS's defaults. A setting
    that is wrong is a ConfigurationError (a ValueError), an unknown one a TypeError. What AWS leaves open is said there and in
    ``streamkit.local.lane``.

    A record can be delivered as soon as it is put: nothing stands for the second that Lambda's poller may take to see it. The
    invocations of shards and lanes run one after another on the one clock, in turn. Disabled, a mapping keeps its place and
    its count of attempts; its records go on ageing. ``split_shard`` and ``merge_shards`` reshard the stream at any time.

    ``on_failure`` is called with each failure document before anything else happens. What it raises comes out of ``advance``
    and ``run_until_idle``; the document is in ``discarded``, and the records are passed, as Lambda passes them when it can't
    reach the destination.

    An invocation fails where the function raises an Exception, ``Crash`` or SystemExit (in Lambda the process ends), where its
    time is up, and where its answer is no JSON. Any other BaseException, as KeyboardInterrupt or a failed test's, comes out too.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], Any],
        *,
        on_failure: Callable[[dict[str, Any]], Any] | None = None,
        stream: str = "stream",
        **settings: Any,
    ) -> None:
        self.settings = Settings(**settings)
        self._filters = self.settings.filters()
        self._function = function
        self._on_failure = on_failure
        self._stream_arn = _STREAM_ARN.format(stream)
        self._now = _START
        self._requests = 0
        self._is_running = False
        self._ends_at: float | None = None
        self._lock = threading.Lock()
        self._puts = 0
        self._shards = [_Shard(f"shardId-{n:012}", ShardMapping(self.settings)) for n in range(self.settings.shards)]
        self._is_enabled = False
        self._has_started = False
        self._reads_since = 0.0
        #: Each invocation: the event, and the response (as it is after JSON) or the exception.
        self.invocations: list[tuple[dict[str, Any], Any]] = []
        #: The failure documents of what was given up.
        self.discarded: list[dict[str, Any]] = []
        if self.settings.enabled:
            self.enable()

    @property
    def now(self) -> float:
        """The virtual time, in seconds since the epoch."""
        return self._now

    @property
    def shard_ids(self) -> list[str]:
        return [shard.id for shard in self._shards]

    @property
    def checkpoints(self) -> dict[str, str]:
        """Shard id → the last sequence number passed, discarded ones included; a shard is missing until it has one."""
        return {
            shard.id: str(shard.mapping.checkpoint) for shard in self._shards if shard.mapping.checkpoint is not None
        }

    def put(
        self, data: bytes, partition_key: str | None, shard: int = 0, *, explicit_hash_key: str | None = None
    ) -> str:
        """Put a record into a shard, now; a function can do it too. Its sequence number.

        The shard is named, not found by the key; ``explicit_hash_key`` is taken as Kinesis takes it, and Lambda's event does not
        tell it. A ValueError where the shard was split or merged: it takes no more.
        """
        target = self._open(shard)
        with self._lock:
            self._puts += 1
            number = _FIRST_SEQUENCE_NUMBER + shard * 10**40 + self._puts
        record = kinesis_record(
            stream_arn=self._stream_arn,
            shard_id=target.id,
            sequence_number=str(number),
            data=data,
            partition_key=partition_key,
            arrived_at=self._now,
        )
        target.shown[number] = record
        lane = lane_of(partition_key, number, self.settings.parallelization_factor)
        target.records.append(item_of(record, self._now, lane=lane, is_wanted=self._filters.wants(data)))
        return str(number)

    def split_shard(self, shard: int = 0) -> tuple[int, int]:
        """Close a shard and open two in its place: their indexes. What the shard holds is delivered before what they get."""
        parent = self._open(shard)
        return self._reshard(parent), self._reshard(parent)

    def merge_shards(self, shard: int, adjacent_shard: int) -> int:
        """Close two shards and open one in their place: its index. What they hold is delivered before what it gets."""
        first, second = self._open(shard), self._open(adjacent_shard)
        if first is second:
            raise ValueError(f"a shard is merged with another one, and not with itself: {shard!r}")
        return self._reshard(first, second)

    def _open(self, shard: int) -> _Shard:
        if not 0 <= shard < len(self._shards):
            raise ValueError(f"shard = {shard!r}: 0 to {len(self._shards) - 1}")
        target = self._shards[shard]
        if target.children:
            raise ValueError(f"{target.id} is closed; its records now go to {' and '.join(target.children)}")
        return target

    def _reshard(self, *parents: _Shard) -> int:
        child = _Shard(f"shardId-{len(self._shards):012}", ShardMapping(self.settings), parents=parents)
        for parent in parents:
            parent.children += (child.id,)
        self._shards.append(child)
        return len(self._shards) - 1

    def enable(self) -> None:
        """Start or go on delivering: the first time from the starting position, later from where it stopped."""
        if not self._has_started:
            self._has_started = True
            # What is past the stream's retention is no longer there to begin with.
            oldest = self._now - self.settings.retention_in_seconds
            self._reads_since = max(oldest, self.settings.starting_time or oldest)
            if self.settings.starting_position == "LATEST":
                for shard in self._shards:
                    shard.read = len(shard.records)
        self._is_enabled = True

    def disable(self) -> None:
        """Stop delivering; records still arrive, and expire."""
        self._is_enabled = False

    def advance(self, seconds: float) -> None:
        """Let time pass, and run what falls due till then, in the order in which it does.

        A function that sleeps can make it later than that; what falls due after the end is left for the next time.
        """
        if not seconds >= 0:
            raise ValueError(f"time goes forward: advance({seconds!r})")
        until = _to_the_microsecond(self._now + seconds)
        self._run(until)
        self._now = max(self._now, until)

    def run_until_idle(self) -> None:
        """Run through all waits until nothing is left to deliver. A record that always fails ends by expiry."""
        self._run(float("inf"))

    def sleep(self, seconds: float) -> None:
        """Within the function: let that much time pass. When the function's time is up the invocation ends here.

        Sleeps of several threads add up, as if one core did all the work: a function with threads is never told that it has
        more time than it would have. In a thread of its own InvocationTimedOut ends that thread, and the invocation has failed
        whatever the function makes of that.
        """
        if not seconds >= 0:
            raise ValueError(f"time goes forward: sleep({seconds!r})")
        with self._lock:
            if self._ends_at is None:
                raise RuntimeError("sleep is for within the function; from outside, use advance")
            self._now = min(_to_the_microsecond(self._now + seconds), self._ends_at)
            if self._now == self._ends_at:
                raise InvocationTimedOut(f"the function's {self.settings.function_timeout_in_seconds:g} s were up")

    def close(self) -> None:
        """Call the function's own ``close``, where it has one, as at the end of a container. Nothing else ever calls it."""
        close = getattr(self._function, "close", None)
        if close is not None:
            close()

    def _run(self, until: float) -> None:
        """Do all that begins by then. The shards take turns, so that none waits until another one has nothing left to do."""
        if self._is_running:
            raise RuntimeError("the clock is running already: within the function, use sleep")
        self._is_running = True
        try:
            while (due := self._run_what_is_due(until)) is not None and due <= until:
                # An invocation of another shard can have moved the clock past what this one waited for.
                self._now = max(self._now, due)
        finally:
            self._is_running = False

    def _run_what_is_due(self, until: float) -> float | None:
        """One step of each shard. When to go on; None where nothing is left to do by then."""
        due: list[float] = []
        for shard in list(self._shards):
            if not self._is_enabled or self._now > until:
                return None
            action = self._next(shard)
            if isinstance(action, Invoke):
                self._invoke(shard, action)
                due.append(self._now)
            elif isinstance(action, Discard):
                self._discard(shard, action)
                due.append(self._now)
            elif isinstance(action, Wait):
                due.append(action.until)
        return min(due, default=None)

    def _next(self, shard: _Shard) -> Action:
        if not all(parent.mapping.is_over for parent in shard.parents):
            return Idle()
        if shard.read < len(shard.records):
            arrived = shard.records[shard.read :]
            shard.read = len(shard.records)
            shard.mapping.add([item for item in arrived if item.arrived_at >= self._reads_since], self._now)
        shard.mapping.caught_up(self._now)
        if shard.children:
            shard.mapping.end()
        return shard.mapping.next(self._now)

    def _invoke(self, shard: _Shard, action: Invoke) -> None:
        request_id = shard.request_ids[action.lane] = self._new_request_id()
        ends_at = _to_the_microsecond(self._now + self.settings.function_timeout_in_seconds)
        context = VirtualContext(request_id, lambda: self._now, ends_at)
        event = event_of(action.items, action.window, shard_id=shard.id, event_source_arn=self._stream_arn)
        response: Any
        self._ends_at = ends_at
        try:
            response = read_back(self._function(event, context))
            if self._now >= ends_at:
                raise InvocationTimedOut("the function went on after its time was up")
        except (Exception, InvocationTimedOut, Crash, SystemExit) as error:  # noqa: BLE001  # Lambda survives any function.
            # It was too late, whatever the function made of that.
            response = error if self._now < ends_at else InvocationTimedOut(str(error))
        except Throttled:
            shard.mapping.throttled(self._now, action.lane)
            return
        except BaseException:
            shard.mapping.failed(self._now, action.lane)
            raise
        finally:
            self._ends_at = None
        # All deliveries share what is shown of a record: a day of redeliveries has to fit into memory.
        shown: dict[str, Any] = {"Records": [shard.shown[item.sequence_number] for item in action.items]}
        if action.window is not None:
            shown |= window_fields(action.window, shard.id, self._stream_arn)
        self.invocations.append((shown, response))
        if isinstance(response, BaseException):
            shard.mapping.failed(self._now, action.lane)
        else:
            shard.mapping.answered(response, self._now, action.lane)

    def _discard(self, shard: _Shard, action: Discard) -> None:
        document = failure_document(
            action,
            stream_arn=self._stream_arn,
            shard_id=shard.id,
            function_arn=_FUNCTION_ARN,
            now=self._now,
            request_id=shard.request_ids[action.lane] if action.invocations else self._new_request_id(),
        )
        self.discarded.append(document)
        if self._on_failure is not None:
            self._on_failure(document)

    def _new_request_id(self) -> str:
        # No randomness: a schedule that is played again is the same in every character.
        self._requests += 1
        return str(uuid.UUID(int=self._requests, version=4))


def _to_the_microsecond(time: float) -> float:
    # So that ten steps of 0.1 s end where one of 1 s does.
    return round(time, 6)

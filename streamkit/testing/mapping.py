"""A stream and its event source mapping on a virtual clock: a day of redeliveries in milliseconds."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from ..local.documents import failure_document, kinesis_record, size_in_event
from ..local.mapping import Discard, Invoke, Item, ShardMapping, Wait
from ..local.settings import Settings

__all__ = ["Crash", "EventSourceMapping", "InvocationTimedOut", "VirtualContext"]

_START = 1_767_225_600.0  # 2026-01-01T00:00:00Z
_FIRST_SEQUENCE_NUMBER = 49590338271490256608559692538361571095921575989136588898
_STREAM_ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/{}"
_FUNCTION_ARN = "arn:aws:lambda:us-east-1:000000000000:function:function"


class InvocationTimedOut(BaseException):
    """The function's time was up. No ``except Exception`` in it can stop this, as nothing stops Lambda."""


class Crash(BaseException):
    """Raise it in a function, a sink or a queue to end the invocation there, as if its process had been killed."""


class VirtualContext:
    """Lambda's context, on the mapping's clock."""

    function_name = "function"
    function_version = "$LATEST"
    invoked_function_arn = _FUNCTION_ARN
    memory_limit_in_mb = "128"
    log_group_name = "/aws/lambda/function"
    log_stream_name = "2026/01/01/[$LATEST]virtual"

    def __init__(self, now: Callable[[], float], ends_at: float) -> None:
        self.aws_request_id = str(uuid.uuid4())
        self._now = now
        self._ends_at = ends_at

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until the function is stopped."""
        return max(0, int((self._ends_at - self._now()) * 1000))


class _Shard(msgspec.Struct, eq=False):
    id: str
    mapping: ShardMapping
    records: list[Item]
    # How many of the records the mapping has read.
    read: int = 0


class EventSourceMapping:
    """Puts records through ``function`` as Lambda does, on a clock that only ``advance``, ``run_until_idle`` and ``sleep`` move.

        mapping = EventSourceMapping(lambda_handler(Orders), batch_size=10, function_response_types=["ReportBatchItemFailures"])
        mapping.put(b'{"id": 1}', "customer-7")
        mapping.run_until_idle()

    ``settings`` are those of ``streamkit.local.settings.Settings``: AWS's names in snake case with AWS's defaults, and
    ``on_failure``, called with each failure document. A setting that is wrong or not built yet is a ConfigurationError (a
    ValueError), an unknown one a TypeError. The shards' invocations run one after another.
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
        self._function = function
        self._on_failure = on_failure
        self._stream_arn = _STREAM_ARN.format(stream)
        self._now = _START
        self._ends_at: float | None = None
        self._lock = threading.Lock()
        self._puts = 0
        self._shards = [
            _Shard(f"shardId-{n:012}", ShardMapping(self.settings), []) for n in range(self.settings.shards)
        ]
        self._is_enabled = False
        self._has_started = False
        #: Each invocation: the event, and the response or the exception.
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

    def put(self, data: bytes, partition_key: str | None, shard: int = 0) -> str:
        """Put a record into a shard, now. Its sequence number."""
        self._puts += 1
        number = _FIRST_SEQUENCE_NUMBER + shard * 10**40 + self._puts
        target = self._shards[shard]
        record = kinesis_record(
            stream_arn=self._stream_arn,
            shard_id=target.id,
            sequence_number=str(number),
            data=data,
            partition_key=partition_key,
            arrived_at=self._now,
        )
        target.records.append(Item(number, self._now, size_in_event(data, partition_key), record))
        return str(number)

    def enable(self) -> None:
        """Start or go on delivering: the first time from the starting position, later from where it stopped."""
        if not self._has_started:
            self._has_started = True
            for shard in self._shards:
                shard.read = self._starting_index(shard)
        self._is_enabled = True

    def disable(self) -> None:
        """Stop delivering; records still arrive, and expire."""
        self._is_enabled = False

    def advance(self, seconds: float) -> None:
        """Let time pass, and run all that falls due, in the order in which it does."""
        if seconds < 0:
            raise ValueError(f"time goes forward: advance({seconds!r})")
        until = self._now + seconds
        while (due := self._run_what_is_due()) is not None and due <= until:
            self._now = due
        self._now = max(self._now, until)

    def run_until_idle(self) -> None:
        """Run through all waits until nothing is left to deliver. A record that always fails ends by expiry."""
        while (due := self._run_what_is_due()) is not None:
            self._now = due

    def sleep(self, seconds: float) -> None:
        """Within the function: let that much time pass. Past the function's time-out the invocation ends here.

        Sleeps of several threads add up.
        """
        with self._lock:
            if self._ends_at is None:
                raise RuntimeError("sleep is for within the function; from outside, use advance")
            self._now += seconds
            if self._now > self._ends_at:
                self._now = self._ends_at
                raise InvocationTimedOut(f"the function's {self.settings.function_timeout_in_seconds:g} s were up")

    def _starting_index(self, shard: _Shard) -> int:
        if self.settings.starting_position == "LATEST":
            return len(shard.records)
        timestamp = self.settings.starting_position_timestamp
        if timestamp is None:
            return 0
        return next((n for n, item in enumerate(shard.records) if item.arrived_at >= timestamp), len(shard.records))

    def _run_what_is_due(self) -> float | None:
        """Do all that is to be done at this time. When there is more to do, or None where there is nothing."""
        if not self._is_enabled:
            return None
        due: list[float] = []
        for shard in self._shards:
            while self._is_enabled:
                shard.mapping.add(shard.records[shard.read :], self._now)
                shard.read = len(shard.records)
                action = shard.mapping.next(self._now)
                if isinstance(action, Invoke):
                    self._invoke(shard, action)
                elif isinstance(action, Discard):
                    self._discard(shard, action)
                else:
                    if isinstance(action, Wait):
                        due.append(action.until)
                    break
        # An invocation of a later shard can have moved the clock past what an earlier one waited for.
        return max(self._now, min(due)) if due else None

    def _invoke(self, shard: _Shard, action: Invoke) -> None:
        body = json.dumps({"Records": [item.record for item in action.items]})
        self._ends_at = self._now + self.settings.function_timeout_in_seconds
        context = VirtualContext(lambda: self._now, self._ends_at)
        response: Any
        try:
            response = self._function(json.loads(body), context)
            if self._now > self._ends_at:
                raise InvocationTimedOut("the function answered after its time-out")
            json.dumps(response)
        except (Exception, InvocationTimedOut, Crash, SystemExit) as error:  # noqa: BLE001  # Lambda survives any function.
            response = error
        finally:
            self._ends_at = None
        self.invocations.append((json.loads(body), response))
        if isinstance(response, BaseException):
            shard.mapping.failed(self._now)
        else:
            shard.mapping.answered(response, self._now)

    def _discard(self, shard: _Shard, action: Discard) -> None:
        document = failure_document(
            action, stream_arn=self._stream_arn, shard_id=shard.id, function_arn=_FUNCTION_ARN, now=self._now
        )
        self.discarded.append(document)
        if self._on_failure is not None:
            self._on_failure(document)

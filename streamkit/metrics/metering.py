"""Measures a handler's invocations, and writes what they came to: a ``Metering`` for a container, an ``Invocation`` for each."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..deadline import Deadline
from ..event import Batch
from ..reason import reason
from . import current, setting
from .emf import EmbeddedMetrics
from .figures import add_requests, became, bytes_of, is_of_a_stream, oldest_age, shard_of
from .monitoring import MonitoringLines
from .report import Report
from .values import Values

if TYPE_CHECKING:
    from .otlp import OtlpTarget

__all__ = ["Invocation", "Metering", "Part", "metering"]

log = logging.getLogger("streamkit")

# Lambda's limit of an event (synchronous payload), in bytes.
_MOST_EVENT_BYTES = 6 * 1_048_576
_FOR_EVER = float("inf")
# Complaints that are remembered, so that each is logged once.
_MOST_COMPLAINTS = 1000


def metering(*, is_new: bool = True) -> Metering | None:
    """What the environment asks for; None where metrics are off. ``is_new``: whether this is the container's first invocation."""
    form, fault = setting()
    if fault:
        log.error("%s", fault)
    return None if form == "off" else Metering(form, is_new=is_new)


class Metering:
    """What outlives an invocation: the format, whether the container is new, and how often metrics have failed."""

    def __init__(self, form: str, *, is_new: bool = True) -> None:
        self._format: MonitoringLines | EmbeddedMetrics | None = None
        if form != "otlp":
            self._format = MonitoringLines() if form == "monitoring" else EmbeddedMetrics()
        self._otlp = _otlp_target()
        # With provisioned concurrency a container is ready before anyone waits for it.
        self._is_cold = is_new and os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") != "provisioned-concurrency"
        self._batch_size = _whole_number("STREAMKIT_BATCH_SIZE")
        #: Errors since the last line.
        self._errors = 0
        self._has_logged = False
        self._complained: set[str] = set()
        self._lock = threading.Lock()

    def invocation(self, event: Any, context: Any) -> Invocation:
        """Measure one invocation of the function, for as long as the context lasts."""
        is_cold, self._is_cold = self._is_cold, False
        return Invocation(self, event, context, is_cold=is_cold, batch_size=self._batch_size)

    def write(self, report: Report, remaining: float) -> None:
        """Write the lines of an invocation that has ``remaining`` seconds left, and push them outside where that is asked for."""
        if self._errors:
            report.figures["MetricErrors"] = self._errors
        errors, self._errors = self._errors, 0
        try:
            if self._format is not None:
                text = self._format.lines(report)
                # As it is, without a logger: the runtime passes standard output on line by line, in both of Lambda's log formats.
                sys.stdout.write(text)
                sys.stdout.flush()
        except Exception as error:  # noqa: BLE001  # The other target does not fail with this one.
            self._errors = errors
            self.failed(error)
        if self._otlp is not None:
            self._otlp.add(report)
            if not self._otlp.push(remaining):
                self._errors += 1

    def failed(self, error: Exception) -> None:
        """Count an error of metrics' own, and log the first."""
        self._errors += 1
        if not self._has_logged:
            self._has_logged = True
            log.error(
                "metrics have failed, which changes nothing else; MetricErrors counts how often: %s", reason(error)
            )

    def complain(self, about: str, fault: str) -> None:
        """Count what can't be counted otherwise, and log it once. Several threads may call it."""
        with self._lock:
            self._errors += 1
            is_new = about not in self._complained and len(self._complained) < _MOST_COMPLAINTS
            if is_new:
                self._complained.add(about)
        if is_new:
            log.warning("metrics: %s", fault)


class Part:
    """The batch of one processor, whose outcomes are read when they are final."""

    __slots__ = ("_started", "batch", "deadline", "name", "took")

    def __init__(self, name: str, batch: Batch, deadline: Deadline) -> None:
        self.name = name
        self.batch = batch
        self.deadline = deadline
        #: Seconds, of a branch that runs beside others.
        self.took = 0.0
        self._started = 0.0

    def begin(self) -> None:
        self._started = perf_counter()

    def end(self) -> None:
        self.took = perf_counter() - self._started


class Invocation:
    """One invocation: a context that ends with its line. What is raised within passes, and is marked in the line."""

    def __init__(self, metering: Metering, event: Any, context: Any, *, is_cold: bool, batch_size: int | None) -> None:
        self._metering = metering
        #: The processor's name, once there is one; that of the whole, of a ``FanOut``.
        self.name = "unknown"
        self._raws = _raws(event)
        self._context = context
        self._is_cold = is_cold
        self._batch_size = batch_size
        self._values = Values(metering.complain)
        self._parts: list[Part] = []
        # Of what runs before there are parts.
        self._first: Deadline | None = None
        self._decoded = 0.0
        self._bytes = 0
        self._heartbeat_age: float | None = None
        self._heartbeat_failures = 0

    def __enter__(self) -> Invocation:
        self._remaining = self._left() * 1000
        self._time = time.time()
        self._outer = current.set(self._values)
        self._started = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        current.set(self._outer)
        if error is None and not self._parts:
            return
        try:
            self._metering.write(self._report(error), self._left())
        except Exception as fault:  # noqa: BLE001  # What measures must not change the answer, nor hide an error.
            self._metering.failed(fault)

    def _left(self) -> float:
        milliseconds: Callable[[], float] | None = getattr(self._context, "get_remaining_time_in_millis", None)
        return _FOR_EVER if milliseconds is None else milliseconds() / 1000

    def decoded(self, deadline: Deadline) -> None:
        """The event is decoded; ``deadline`` is that of the requests it took."""
        self._decoded = perf_counter()
        self._first = deadline
        # Now that its first records are at hand.
        self._bytes = bytes_of(self._raws)

    def follow(self, name: str, batch: Batch, deadline: Deadline) -> Part:
        """A processor's batch, whose outcomes will be final when the invocation ends."""
        part = Part(name, batch, deadline)
        self._parts.append(part)
        return part

    def heartbeat(self, age: float | None, *, has_failed: bool) -> None:
        """A heartbeat has come through, ``age`` milliseconds old; or has, and could not be told of outside."""
        self._heartbeat_age = age
        self._heartbeat_failures = int(has_failed)

    def _report(self, error: BaseException | None) -> Report:
        ended = perf_counter()
        raws, parts = self._raws, self._parts
        is_stream = is_of_a_stream(raws)
        figures: dict[str, float] = {
            # An aggregate's records are known when it is open.
            "Records": _records_of(parts[0].batch) if is_stream and parts else len(raws),
            "Bytes": self._bytes or bytes_of(raws),
            "ColdStart": 1 if self._is_cold else 0,
            "Errors": 0 if error is None else 1,
        }
        facts: dict[str, Any] = {}
        branches = self._add_outcomes(figures)
        self._add_times(figures, ended)
        if is_stream:
            self._add_use(figures, facts)
        self._add_parked(figures)
        self._add_circuits(figures)
        if self._heartbeat_age is not None:
            figures["HeartbeatAge"] = int(self._heartbeat_age)
        if self._heartbeat_failures:
            figures["HeartbeatFailures"] = self._heartbeat_failures
        if parts:
            facts["Source"] = parts[0].batch.source
        if error is not None:
            # The kind alone: what it says may quote a payload.
            facts["Error"] = type(error).__name__
        return Report(self.name, self._context, self._time, figures, facts, branches, self._values)

    def _add_outcomes(self, figures: dict[str, float]) -> dict[str, dict[str, float]]:
        """Add what became of the records; of several branches, over all of them, and return what is of each."""
        parts = self._parts
        if len(parts) <= 1:
            figures.update(became(parts[0].batch if parts else _EMPTY))
            return {}
        branches: dict[str, dict[str, float]] = {}
        for part in parts:
            its: dict[str, float] = {**became(part.batch)}
            for name, value in its.items():
                figures[name] = figures.get(name, 0) + value
            if part.name:
                times: dict[str, float] = {}
                add_requests(part.deadline, times)
                its["ProcessTime"] = round(max(part.took * 1000 - sum(times.values()), 0.0), 3)
                branches[part.name] = its
                _add_rounded(times, its)
        return branches

    def _add_times(self, figures: dict[str, float], ended: float) -> None:
        """Add the time of the whole and of its stages: between two of them stands a clock, and what requests took is told apart.

        Claims are fetched while the event is decoded; all other requests are made after that.
        """
        duration = (ended - self._started) * 1000
        figures["Duration"] = round(duration, 3)
        if 0 < self._remaining < _FOR_EVER:
            figures["TimeUse"] = round(100 * duration / self._remaining, 2)
        decoded = self._decoded or ended
        times: dict[str, float] = {}
        if self._first is not None:
            add_requests(self._first, times)
        for part in self._parts:
            if part.deadline is not self._first:
                add_requests(part.deadline, times)
        claims = times.get("ClaimTime", 0.0)
        others = sum(times.values()) - claims
        figures["DecodeTime"] = round(max((decoded - self._started) * 1000 - claims, 0.0), 3)
        figures["ProcessTime"] = round(max((ended - decoded) * 1000 - others, 0.0), 3)
        if times:
            _add_rounded(times, figures)

    def _add_use(self, figures: dict[str, float], facts: dict[str, Any]) -> None:
        """Add what is known of a stream's batch only."""
        raws = self._raws
        age = oldest_age(raws)
        if age is not None:
            figures["OldestRecordAge"] = int(age)
        use = figures["Bytes"] * 4 / 3 / _MOST_EVENT_BYTES
        if self._batch_size:
            use = max(use, len(raws) / self._batch_size)
        figures["BatchUse"] = round(100 * use, 2)
        if shard := shard_of(raws):
            facts["Shard"] = shard

    def _add_parked(self, figures: dict[str, float]) -> None:
        """Add what ``Park`` has found in its ledger, for a batch of the stream or of its queue."""
        keys = [part.batch.parked_keys for part in self._parts if part.batch.parked_keys is not None]
        if keys:
            figures["ParkedKeys"] = sum(keys)
            since = [part.batch.parked_since for part in self._parts if part.batch.parked_since is not None]
            # Other machines' clocks have said since when.
            figures["OldestParkedAge"] = int(max(time.time() - min(since), 0) * 1000) if since else 0

    def _add_circuits(self, figures: dict[str, float]) -> None:
        """Add how the sinks' circuits are, from the first request on that had no answer."""
        batches = [part.batch for part in self._parts if part.batch.open_circuits is not None]
        if batches:
            figures["CircuitOpen"] = sum(batch.open_circuits or 0 for batch in batches)
            figures["Probes"] = sum(batch.probes for batch in batches)


_EMPTY = Batch("kinesis", [], [])


def _otlp_target() -> OtlpTarget | None:
    if not os.environ.get("STREAMKIT_OTLP_ENDPOINT"):
        return None
    from .otlp import otlp_target

    return otlp_target()


def _raws(event: Any) -> list[Any]:
    # An event of Lambda's is a dict; to ask whether something is a Mapping takes longer.
    if type(event) is not dict and not isinstance(event, Mapping):
        return []
    raws = event.get("Records")
    if raws is None and "awslogs" in event:
        return [event]
    return raws if isinstance(raws, list) else []


def _records_of(batch: Batch) -> int:
    return len(batch.records) - len(batch.heartbeats)


def _add_rounded(times: Mapping[str, float], figures: dict[str, float]) -> None:
    for stage, took in times.items():
        figures[stage] = round(took, 3)


def _whole_number(variable: str) -> int | None:
    text = os.environ.get(variable)
    if not text:
        return None
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        log.error("%s is a whole number, 1 or more; got %r, which counts for nothing", variable, text[:80])
        return None
    return number

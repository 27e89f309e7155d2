"""The names and units of streamkit's own figures, in every format: docs/monitoring.md says what each means."""

from __future__ import annotations

import re

__all__ = ["BRANCH", "FIGURES", "GAUGES", "is_reserved", "of_latency", "snake"]

#: By name: the unit, as CloudWatch calls it.
FIGURES = {
    "Records": "Count",
    "Bytes": "Bytes",
    "Failed": "Count",
    "Retried": "Count",
    "DeadLettered": "Count",
    "Unavailable": "Count",
    "DuplicatesSkipped": "Count",
    "Unsettled": "Count",
    "OldestRecordAge": "Milliseconds",
    "CircuitOpen": "Count",
    "Probes": "Count",
    "ParkedKeys": "Count",
    "OldestParkedAge": "Milliseconds",
    "ColdStart": "Count",
    "Errors": "Count",
    "Duration": "Milliseconds",
    "DecodeTime": "Milliseconds",
    "ProcessTime": "Milliseconds",
    "DeliverTime": "Milliseconds",
    "SettleTime": "Milliseconds",
    "ProgressTime": "Milliseconds",
    "ParkTime": "Milliseconds",
    "ClaimTime": "Milliseconds",
    "TimeUse": "Percent",
    "BatchUse": "Percent",
    "HeartbeatAge": "Milliseconds",
    "HeartbeatFailures": "Count",
    "MetricErrors": "Count",
}
#: What is so much at a moment, and adds up to nothing: shares, levels and ages. All other times are of work.
GAUGES = frozenset(
    {"TimeUse", "BatchUse", "CircuitOpen", "ParkedKeys", "OldestParkedAge", "OldestRecordAge", "HeartbeatAge"}
)
#: Of each branch of a ``FanOut``: what became of its records.
BRANCH = ("Failed", "Retried", "DeadLettered", "Unavailable", "DuplicatesSkipped", "Unsettled")
# What stands in a line.
_OF_A_LINE = frozenset(
    [*FIGURES, "FunctionName", "Processor", "FunctionVersion", "RequestId", "Source", "Shard", "Branches", "Error"]
)
# The series of other formats. To OpenTelemetry names that differ in case alone are one, and Prometheus has ``_`` for each dot.
_is_of_a_series = re.compile(r"streamkit[._]", re.IGNORECASE).match


def is_reserved(name: str) -> bool:
    """Whether it is streamkit's own name, or could be of one of its series."""
    return name in _OF_A_LINE or _is_of_a_series(name) is not None


def of_latency(name: str) -> str:
    """A series of users' own times, which is none of their counts: no name of theirs begins with ``streamkit.``."""
    return f"streamkit.latency.{name}"


def snake(name: str) -> str:
    """``dead_lettered`` for ``DeadLettered``."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")

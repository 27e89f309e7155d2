"""What a line measures: a custom metric that stands in it, or what Lambda reports of an invocation."""

from __future__ import annotations

import msgspec

from .reading import Logged

__all__ = ["REPORTED", "Measure", "measures_in"]

#: The names of what Lambda reports.
REPORTED = (
    *("Duration", "BilledDuration", "MemorySize", "MaxMemoryUsed", "MemoryUse", "InitDuration", "RestoreDuration"),
    *("ColdStarts", "Failures", "TimeOuts"),
)

# Seconds by which a metric's own time may differ from when it was logged, before that counts in its place.
_FAR = 86_400.0


class Measure(msgspec.Struct, frozen=True):
    """``time`` is in seconds since the epoch. ``is_custom``: a program's own, and not Lambda's."""

    name: str
    value: float
    unit: str
    time: float
    dimensions: dict[str, str]
    is_custom: bool = False


def measures_in(logged: Logged) -> list[Measure]:
    """What the line measures; nothing, of most. docs/logs.md has the names.

    A report is measured for the function alone, without its version: CloudWatch adds versions up, and can't take them apart
    for less than a metric for each.
    """
    line, at = logged.line, logged.event.timestamp / 1000
    if line.sample is not None:
        own = line.sample.time
        is_plausible = own is not None and abs(own - at) < _FAR
        when = own if own is not None and is_plausible else at
        return [
            Measure(line.sample.name, line.sample.value, line.sample.unit, when, line.sample.tags, is_custom=True),
        ]
    function = logged.origin.function
    if not function:
        return []
    of = {"FunctionName": function}
    measures: list[Measure] = []
    if (report := line.report) is not None:
        for name, value, unit in (
            ("Duration", report.duration, "Milliseconds"),
            ("BilledDuration", report.billed_duration, "Milliseconds"),
            ("MemorySize", report.memory_size, "Megabytes"),
            ("MaxMemoryUsed", report.max_memory_used, "Megabytes"),
            ("InitDuration", report.init, "Milliseconds"),
            ("RestoreDuration", report.restore, "Milliseconds"),
        ):
            if value is not None:
                measures.append(Measure(name, value, unit, at, of))
        if report.memory_size and report.max_memory_used is not None:
            used = round(100 * report.max_memory_used / report.memory_size, 2)
            measures.append(Measure("MemoryUse", used, "Percent", at, of))
        is_cold = report.init is not None or report.restore is not None
        measures.append(Measure("ColdStarts", float(is_cold), "Count", at, of))
        if report.status:
            measures.append(Measure("Failures", float(report.is_error), "Count", at, of))
    if logged.is_timeout:
        measures.append(Measure("TimeOuts", 1.0, "Count", at, of))
    return measures

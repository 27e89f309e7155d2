"""CloudWatch's embedded metric format: one line of JSON an invocation, out of which CloudWatch takes the metrics.

Its limits, as far as they matter here: 100 metrics a line, 100 values a metric, 1 MB. Where a function has more metrics than
that in one invocation, the rest goes into further lines. All of a line has one set of dimensions, ``FunctionName`` and
``Processor``: each further set would be billed as so many metrics more.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec

from .names import BRANCH, FIGURES
from .report import Report, function_name, plain
from .values import Latencies

__all__ = ["DIMENSIONS", "MOST_METRICS", "NAMESPACE", "EmbeddedMetrics"]

NAMESPACE = "streamkit"
DIMENSIONS = ("FunctionName", "Processor")
#: Metrics that CloudWatch takes from one line.
MOST_METRICS = 100

# Sets of metrics whose description is kept ready. A function has a few of them; one whose names never repeat keeps no more.
_MOST_KEPT = 50

_encode = msgspec.json.Encoder().encode


class EmbeddedMetrics:
    """Makes the lines. It keeps the descriptions of metrics, which are half of a line and nearly always the same."""

    def __init__(self) -> None:
        self._kept: dict[tuple[tuple[str, ...], tuple[str, ...]], msgspec.Raw] = {}
        # What does not change as long as the container lives, by the processor.
        self._of_function: dict[str, dict[str, Any]] = {}

    def lines(self, report: Report) -> str:
        """The lines of a report, each with its end."""
        facts = self._facts(report)
        values: dict[str, Any] = report.figures
        if report.branches or report.values.counts or report.values.latencies:
            values = {**values, **_others(report)}
        at, timed = int(report.time * 1000), tuple(report.values.latencies)
        if len(values) <= MOST_METRICS:
            return self._line(at, facts, values, timed)
        rest = iter(values.items())
        lines = ""
        while some := dict(islice(rest, MOST_METRICS)):
            lines += self._line(at, facts, some, timed)
        return lines

    def _line(self, at: int, facts: dict[str, Any], values: dict[str, Any], timed: tuple[str, ...]) -> str:
        described = self._described(tuple(values), timed)
        line = _encode({"_aws": {"Timestamp": at, "CloudWatchMetrics": described}, **facts, **values})
        return line.decode() + "\n"

    def _facts(self, report: Report) -> dict[str, Any]:
        """What is no metric."""
        context = report.context
        of_function = self._of_function.get(report.processor)
        if of_function is None:
            of_function = {"FunctionName": function_name(context), "Processor": plain(report.processor)}
            if isinstance(version := getattr(context, "function_version", None), str):
                of_function["FunctionVersion"] = plain(version)
            # More than one only where its factory had failed at first.
            self._of_function[report.processor] = of_function
        facts = {**of_function, **report.facts}
        if isinstance(request := getattr(context, "aws_request_id", None), str):
            facts["RequestId"] = plain(request)
        if report.branches:
            facts["Branches"] = {plain(name): figures for name, figures in report.branches.items()}
        return facts

    def _described(self, names: tuple[str, ...], timed: tuple[str, ...]) -> msgspec.Raw:
        """What CloudWatch has to know of these metrics; ``timed`` are users' own that are milliseconds."""
        found = self._kept.get((names, timed))
        if found is None:
            others = dict.fromkeys(timed, "Milliseconds")
            metrics = [{"Name": name, "Unit": FIGURES.get(name) or others.get(name, "Count")} for name in names]
            found = msgspec.Raw(_encode([{"Namespace": NAMESPACE, "Dimensions": [DIMENSIONS], "Metrics": metrics}]))
            if len(self._kept) < _MOST_KEPT:
                self._kept[names, timed] = found
        return found


def _others(report: Report) -> dict[str, Any]:
    """What is of branches, and users' own."""
    values: dict[str, Any] = {}
    for branch, figures in report.branches.items():
        for name in BRANCH:
            # What is 0 need not be paid for.
            if figures[name]:
                values[f"{plain(branch)}/{name}"] = figures[name]
    values.update(report.values.counts)
    for name, latencies in report.values.latencies.items():
        values[name] = _of_latencies(latencies)
    return values


def _of_latencies(latencies: Latencies) -> list[float] | dict[str, float]:
    """All the values, or beyond the limit of an array what they come to, in the form of a statistic set."""
    if latencies.count <= len(latencies.values):
        return latencies.values
    return {
        "Min": round(latencies.least, 3),
        "Max": round(latencies.most, 3),
        "Sum": round(latencies.total, 3),
        "Count": latencies.count,
    }

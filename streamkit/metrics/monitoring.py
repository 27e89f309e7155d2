"""Lines for log forwarders that know ``MONITORING|unix_epoch_timestamp|value|metric_type|my.metric.name|#tag1:value,tag2``, as
Datadog's does. One line for each figure that is not 0, and for each gauge, which may have come down to it; names begin with
``streamkit.``, but for users' own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from .names import BRANCH, FIGURES, GAUGES, of_latency, snake
from .report import Report, function_name

__all__ = ["MonitoringLines"]

_not_in_tags = re.compile(r"[^A-Za-z0-9_\-:./]")
_LONGEST_TAG = 200
_TYPES = {"Count": "count", "Bytes": "count", "Milliseconds": "histogram"}


class MonitoringLines:
    """Makes the lines."""

    def lines(self, report: Report) -> str:
        """The lines of a report, each with its end."""
        at = int(report.time)
        of_function = f"#function:{_tag(function_name(report.context))},processor:"
        tags = of_function + _tag(report.processor)
        return "".join(
            f"MONITORING|{at}|{_number(value)}|{kind}|{name}|{own or tags}\n"
            for name, kind, value, own in _figures(report, of_function)
        )


def _figures(report: Report, of_function: str) -> Iterator[tuple[str, str, float, str]]:
    """Name, type and value, and tags that are other ones than the function's."""
    for name, value in report.figures.items():
        if name in GAUGES:
            yield f"streamkit.{snake(name)}", "gauge", value, ""
        elif value:
            yield f"streamkit.{snake(name)}", _TYPES[FIGURES[name]], value, ""
    for branch, figures in report.branches.items():
        for name in BRANCH:
            if figures[name]:
                yield f"streamkit.branch.{snake(name)}", "count", figures[name], of_function + _tag(branch)
    for name, value in report.values.counts.items():
        yield name, "count", value, ""
    for name, latencies in report.values.latencies.items():
        if latencies.count <= len(latencies.values):
            for value in latencies.values:
                yield name, "histogram", value, ""
        else:
            # Not by the name itself: a user may well count "orders.count" beside the times of "orders".
            series = of_latency(name)
            yield f"{series}.count", "count", latencies.count, ""
            yield f"{series}.avg", "gauge", latencies.total / latencies.count, ""
            yield f"{series}.min", "gauge", latencies.least, ""
            yield f"{series}.max", "gauge", latencies.most, ""


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else repr(round(value, 3))


def _tag(text: str) -> str:
    return _not_in_tags.sub("_", text)[:_LONGEST_TAG] or "_"

"""Whether a template's alarm would fire, by CloudWatch's rules, for figures that are made up.

It knows the part of metric math that the templates use.

A figure is a list, a value for each of the alarm's periods, None where there was none. Its key is the metric's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["fires"]

Figures = Mapping[str, Sequence[float | None]]


def fires(alarm: Mapping[str, Any], figures: Figures, parameters: Mapping[str, float] | None = None) -> bool:
    """Whether so many of so many periods in a row are over the threshold. ``parameters`` are those of the template."""
    values = _values(alarm, figures)
    threshold = alarm["Threshold"]
    if isinstance(threshold, dict):
        threshold = (parameters or {})[threshold["Ref"]]
    over = [_is_over(value, alarm, float(threshold)) for value in values]
    of, needed = alarm["EvaluationPeriods"], alarm.get("DatapointsToAlarm", alarm["EvaluationPeriods"])
    return any(sum(over[n : n + of]) >= needed for n in range(len(over) - of + 1))


def _is_over(value: float | None, alarm: Mapping[str, Any], threshold: float) -> bool:
    if value is None:
        return bool(alarm["TreatMissingData"] == "breaching")
    match alarm["ComparisonOperator"]:
        case "GreaterThanThreshold":
            return value > threshold
        case "LessThanThreshold":
            return value < threshold
    raise ValueError(alarm["ComparisonOperator"])


def _values(alarm: Mapping[str, Any], figures: Figures) -> list[float | None]:
    if "MetricName" in alarm:
        return list(figures[alarm["MetricName"]])
    known: dict[str, list[float | None]] = {}
    (expression,) = [one["Expression"] for one in alarm["Metrics"] if "Expression" in one]
    for one in alarm["Metrics"]:
        if "MetricStat" in one:
            assert one["ReturnData"] is False, "one figure is the alarm's"
            known[one["Id"]] = list(figures[one["MetricStat"]["Metric"]["MetricName"]])
    return _evaluated(expression, known)


def _evaluated(expression: str, known: dict[str, list[float | None]]) -> list[float | None]:
    """Arithmetic and ``FILL(metric, number)``, period by period; one without a metric's value has no result."""
    length = len(next(iter(known.values())))

    def at(n: int) -> float | None:
        names = {name: values[n] for name, values in known.items()}

        def fill(value: float | None, other: float) -> float:
            return other if value is None else value

        try:
            found: float = eval(expression, {"__builtins__": {}, "FILL": fill}, names)
        except TypeError:
            return None
        return found

    return [at(n) for n in range(length)]

"""Reads lines as CloudWatch does, and refuses what breaks the embedded metric format's specification."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["metrics_of", "units_of"]

_UNITS = {"Count", "Bytes", "Milliseconds", "Percent"}


def metrics_of(line: str) -> dict[str, Any]:
    """The metrics of a line, each with its value or values. AssertionError for what CloudWatch would not take."""
    root = _root(line)
    (directive,) = root["_aws"]["CloudWatchMetrics"]
    return {metric["Name"]: root[metric["Name"]] for metric in directive["Metrics"]}


def units_of(line: str) -> dict[str, str]:
    """The unit of each metric."""
    (directive,) = _root(line)["_aws"]["CloudWatchMetrics"]
    return {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]}


def _root(line: str) -> Any:
    assert line.isascii(), "a log may be read in any encoding"
    assert len(line) <= 256 * 1024, "CloudWatch takes 1 MB, and older forwarders 256 KB"
    root = json.loads(line, parse_constant=lambda text: _fail(f"{text} is not JSON"))
    assert isinstance(root, dict)
    assert set(root["_aws"]) == {"Timestamp", "CloudWatchMetrics"}
    assert isinstance(root["_aws"]["Timestamp"], int)
    for directive in root["_aws"]["CloudWatchMetrics"]:
        assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
        assert 1 <= len(directive["Namespace"]) <= 1024
        for dimensions in directive["Dimensions"]:
            assert len(dimensions) <= 30
            for name in dimensions:
                value = root[name]
                assert isinstance(value, str)
                assert 1 <= len(value) <= 1024
                assert value.isprintable()
                assert value.strip()
        assert len(directive["Metrics"]) <= 100
        names = [metric["Name"] for metric in directive["Metrics"]]
        assert len(set(names)) == len(names)
        for metric in directive["Metrics"]:
            assert set(metric) == {"Name", "Unit"}
            assert metric["Unit"] in _UNITS
            assert 1 <= len(metric["Name"]) <= 1024
            _check(root[metric["Name"]])
    return root


def _check(value: Any) -> None:
    if isinstance(value, list):
        assert 1 <= len(value) <= 100
        for one in value:
            assert not isinstance(one, list)
            _check(one)
    elif isinstance(value, dict):
        assert set(value) == {"Min", "Max", "Sum", "Count"}
        for one in value.values():
            _check(one)
    else:
        assert isinstance(value, int | float)
        assert not isinstance(value, bool)
        assert -(2.0**360) <= value <= 2.0**360


def _fail(text: str) -> None:
    raise AssertionError(text)

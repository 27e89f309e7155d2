"""A custom metric that stands in a log line: ``MONITORING|timestamp|value|type|name``, with ``|#tag:value,tag`` behind it or not.

``streamkit.metrics`` writes them (STREAMKIT_METRICS=monitoring), and so can any program in any language by printing one. It
costs the function that prints it no call.
"""

from __future__ import annotations

import math
import re

import msgspec

__all__ = ["Sample", "sample_of"]

_PREFIX = "MONITORING|"
# CloudWatch takes numbers up to 2**360.
_LARGEST = 2.0**360
_LONGEST = 8192
_MOST_TAGS = 30
# The types of forwarders that know these lines, and the unit of each. CloudWatch's own units may stand there too.
_UNITS = {"count": "Count", "gauge": "None", "histogram": "Milliseconds", "check": "None"}
_CLOUDWATCH = (
    *("Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes"),
    *("Bits", "Kilobits", "Megabits", "Gigabits", "Terabits", "Percent", "Count", "None"),
)
_UNITS |= {unit.lower(): unit for unit in _CLOUDWATCH if unit != "Count"}
# Seconds: 2001 to 2286. What is larger is taken for milliseconds.
_MOST_SECONDS = 1e10
_not_in_names = re.compile(r"[^\x20-\x7e]")


class Sample(msgspec.Struct, frozen=True):
    """``time`` is in seconds since the epoch, None where the line has 0 or nothing. ``unit`` is CloudWatch's word."""

    name: str
    value: float
    unit: str
    time: float | None
    tags: dict[str, str]


def sample_of(line: str) -> Sample | None:
    """The metric of a line; None where it is no such line, or not a sound one: no number, an unknown type, no name."""
    if not line.startswith(_PREFIX) or len(line) > _LONGEST:
        return None
    parts = line.rstrip("\r\n").split("|", 5)
    if len(parts) < 5:
        return None
    at, value, unit = _number(parts[1] or "0"), _number(parts[2]), _UNITS.get(parts[3].strip().lower())
    name = _plain(parts[4], 255)
    if at is None or value is None or unit is None or not name or name.startswith(":"):
        return None
    if at > _MOST_SECONDS:
        at /= 1000
    return Sample(name, value, unit, at if at > 0 else None, _tags(parts[5] if len(parts) > 5 else ""))


def _tags(text: str) -> dict[str, str]:
    tags: dict[str, str] = {}
    for part in text.removeprefix("#").split(","):
        name, has_value, value = part.partition(":")
        name = _plain(name, 255)
        if name and len(tags) < _MOST_TAGS:
            tags.setdefault(name, _plain(value, 1024) if has_value and value.strip() else "true")
    return tags


def _plain(text: str, longest: int) -> str:
    return _not_in_names.sub("_", text)[:longest].strip()


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) <= _LARGEST else None

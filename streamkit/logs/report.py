"""What Lambda reports of an invocation when it is over: as text, or as JSON (``platform.report``)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["Report", "report_of_line", "report_of_platform"]

# Of what was said wrong, only so much is looked at.
_LONGEST = 2000
_field = re.compile(r"([A-Z][A-Za-z ]{0,40}): ([^\t]{0,200})").fullmatch
_number = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(?: (?:ms|MB))?").fullmatch
_status = re.compile(r"[A-Za-z]{1,40}").fullmatch
_error_type = re.compile(r"[A-Za-z0-9_.$-]{1,200}").fullmatch


class Report(msgspec.Struct, frozen=True):
    """Times in milliseconds, memory in MB. What was not reported is None; ``init`` is there where the environment was new.

    ``status`` is ``success``, ``error``, ``failure`` or ``timeout``; of text it is empty where nothing went wrong.
    """

    request_id: str = ""
    duration: float | None = None
    billed_duration: float | None = None
    memory_size: float | None = None
    max_memory_used: float | None = None
    init: float | None = None
    restore: float | None = None
    status: str = ""
    error_type: str = ""

    @property
    def is_timeout(self) -> bool:
        return self.status == "timeout"

    @property
    def is_error(self) -> bool:
        """Whether the invocation did not end well, a time-out among it."""
        return self.status in ("error", "failure", "timeout")


def report_of_line(line: str) -> Report | None:
    """The report in a line of text that begins with ``REPORT``; None where it is none."""
    if not line.startswith("REPORT RequestId: "):
        return None
    told: dict[str, str] = {}
    for part in re.split(r"[\t\n]", line[len("REPORT ") : _LONGEST]):
        found = _field(part.strip())
        if found is not None:
            told.setdefault(found[1], found[2].strip())
    if not told.get("RequestId"):
        return None
    return Report(
        told["RequestId"][:100],
        _value(told.get("Duration")),
        _value(told.get("Billed Duration")),
        _value(told.get("Memory Size")),
        _value(told.get("Max Memory Used")),
        _value(told.get("Init Duration")),
        _value(told.get("Restore Duration")),
        _word(told.get("Status"), _status),
        _word(told.get("Error Type"), _error_type),
    )


def report_of_platform(record: Mapping[str, Any]) -> Report:
    """The report in the ``record`` of an event ``platform.report``."""
    metrics = record.get("metrics")
    if not isinstance(metrics, Mapping):
        metrics = {}
    request_id = record.get("requestId")
    return Report(
        request_id[:100] if isinstance(request_id, str) else "",
        _figure(metrics.get("durationMs")),
        _figure(metrics.get("billedDurationMs")),
        _figure(metrics.get("memorySizeMB")),
        _figure(metrics.get("maxMemoryUsedMB")),
        _figure(metrics.get("initDurationMs")),
        _figure(metrics.get("restoreDurationMs")),
        _word(record.get("status"), _status),
        _word(record.get("errorType"), _error_type),
    )


def _value(text: str | None) -> float | None:
    found = _number(text) if text else None
    return None if found is None else float(found[1])


def _figure(value: Any) -> float | None:
    # True is an int, and no figure.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        return None
    return float(value)


def _word(value: Any, is_one: Any) -> str:
    return value if isinstance(value, str) and is_one(value) else ""

"""What a run of the janitor came to: what the function returns, and one line of JSON that CloudWatch takes metrics of."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from ..metrics.emf import NAMESPACE
from ..metrics.report import plain

__all__ = ["Part", "Report"]

#: Names and reasons of one kind that a report has: Lambda's answer and a line of the log have limits. Counts are of all.
_MOST_NAMED = 100

_METRICS = {
    "FunctionsSeen": "Count",
    "VersionsDeleted": "Count",
    "LayerVersionsDeleted": "Count",
    "BytesFreed": "Bytes",
    "BytesDue": "Bytes",
    "Failures": "Count",
    "Left": "Count",
    "Throttles": "Count",
}


class Part:
    """Of the functions, or of the layers. ``due`` is what was found to be deleted, in a dry run too."""

    def __init__(self) -> None:
        self.seen = 0
        self.excluded = 0
        #: Of which the run has come to the end.
        self.done = 0
        #: What is for the next run; None where it did not come so far as to know.
        self.left: int | None = None
        self.failed: dict[str, str] = {}
        self.failures = 0
        self.versions = 0
        self.due = 0
        self.due_bytes = 0
        self.deleted = 0
        self.freed = 0
        self.kept: Counter[str] = Counter()
        #: What was found to be used only when it would have been deleted, by reason.
        self.named: dict[str, list[str]] = {}
        self.names: list[str] = []

    def fail(self, name: str, why: str) -> None:
        self.failures += 1
        if len(self.failed) < _MOST_NAMED:
            self.failed[name] = why

    def keep(self, reason: str, name: str = "") -> None:
        """``name``: of a version that would have been deleted."""
        self.kept[reason] += 1
        if name and len(named := self.named.setdefault(reason, [])) < _MOST_NAMED:
            named.append(name)

    def find(self, name: str, size: int) -> None:
        """A version is to be deleted."""
        self.due += 1
        self.due_bytes += size
        if len(self.names) < _MOST_NAMED:
            self.names.append(name)

    def delete(self, size: int) -> None:
        self.deleted += 1
        self.freed += size

    def as_dict(self) -> dict[str, Any]:
        return {
            **{
                name: getattr(self, name) for name in ("seen", "excluded", "done", "left", "versions", "due", "deleted")
            },
            "kept": dict(self.kept),
            "kept_at_last": self.named,
            "first_due": self.names,
            "failures": self.failures,
            "failed": self.failed,
        }


class Report:
    """``is_complete``: whether all was looked at, within the time. What failed has its reason in its part."""

    def __init__(self, *, dry_run: bool) -> None:
        self.dry_run = dry_run
        self.functions = Part()
        self.layers = Part()
        self.is_complete = False
        self.throttles = 0

    def as_dict(self) -> dict[str, Any]:
        parts = (self.functions, self.layers)
        return {
            "dry_run": self.dry_run,
            "complete": self.is_complete,
            "bytes_freed": sum(part.freed for part in parts),
            "bytes_due": sum(part.due_bytes for part in parts),
            "throttles": self.throttles,
            "functions": self.functions.as_dict(),
            "layers": self.layers.as_dict(),
        }

    def line(self, function: str, time: float, *, metrics: bool = True) -> str:
        """One line in CloudWatch's embedded metric format, the report beside the metrics; ``time`` in seconds since the epoch."""
        parts = (self.functions, self.layers)
        values = {
            "FunctionsSeen": self.functions.seen,
            "VersionsDeleted": self.functions.deleted,
            "LayerVersionsDeleted": self.layers.deleted,
            "BytesFreed": sum(part.freed for part in parts),
            "BytesDue": sum(part.due_bytes for part in parts),
            "Failures": sum(part.failures for part in parts),
            "Left": sum(part.left or 0 for part in parts),
            "Throttles": self.throttles,
        }
        described = {
            "Namespace": NAMESPACE,
            "Dimensions": [["FunctionName"]],
            "Metrics": [{"Name": name, "Unit": unit} for name, unit in _METRICS.items()],
        }
        head = {"_aws": {"Timestamp": int(time * 1000), "CloudWatchMetrics": [described]}} if metrics else {}
        return (
            msgspec.json.encode({**head, "FunctionName": plain(function), **values, "Janitor": self.as_dict()}).decode()
            + "\n"
        )

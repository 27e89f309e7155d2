"""A second target, outside the account: the same figures by OTLP over HTTP, to a collector, to Prometheus or to a vendor.

They are sums since the container began, and not those of one invocation, so that a push that is lost loses nothing: the next
one has it all. Pushes are made within invocations, after their outcomes are final: the first at once, then one in ten seconds at
most, and fewer while the endpoint is away. So what a container has counted after its last push is lost when it ends.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ..errors import ConfigurationError
from ..outside import Caller, check_url
from .names import BRANCH, FIGURES, GAUGES, of_latency, snake
from .report import Report, function_name
from .values import BOUNDS, Latencies

__all__ = ["INTERVAL", "MOST_SERIES", "TIMEOUT", "OtlpTarget", "headers_of", "otlp_target"]

log = logging.getLogger("streamkit")

#: Seconds between two pushes, and the longest that failures make of it.
INTERVAL = 10.0
_LONGEST_INTERVAL = 160.0
#: Seconds that a push may take.
TIMEOUT = 0.5
#: Seconds that are left to answer in, and the shortest time that a push is tried in.
_MARGIN = 0.25
_LEAST = 0.05
#: Series of a container; what users name beyond that is left out.
MOST_SERIES = 2000

_PATH = "/v1/metrics"
_CUMULATIVE = 2
_UNITS = {"Count": "1", "Bytes": "By", "Milliseconds": "ms", "Percent": "%"}

_encode = msgspec.json.Encoder().encode

Attributes = tuple[tuple[str, str], ...]


def otlp_target() -> OtlpTarget | None:
    """The target that the environment names; None where it names none, or one that can't be, which is in the log."""
    endpoint = os.environ.get("STREAMKIT_OTLP_ENDPOINT")
    if not endpoint:
        return None
    try:
        headers = headers_of(os.environ.get("OTEL_EXPORTER_OTLP_HEADERS", ""))
        warning = check_url(endpoint, has_secrets=bool(headers))
    except ConfigurationError as error:
        log.error("STREAMKIT_OTLP_ENDPOINT is not used: %s", error)
        return None
    if warning:
        log.warning("STREAMKIT_OTLP_ENDPOINT: %s", warning)
    return OtlpTarget(endpoint, headers)


def headers_of(text: str) -> dict[str, str]:
    """``key1=value1,key2=value2``, of which values are percent-encoded, as OpenTelemetry has it. ConfigurationError else."""
    from urllib.parse import unquote

    headers: dict[str, str] = {}
    for entry in filter(None, map(str.strip, text.split(","))):
        name, separator, value = entry.partition("=")
        name, value = name.strip(), unquote(value).strip()
        if not separator or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise ConfigurationError("OTEL_EXPORTER_OTLP_HEADERS is a list of name=value")
        if not value.isascii() or not value.isprintable():
            raise ConfigurationError(f"OTEL_EXPORTER_OTLP_HEADERS: the value of {name} is printable ASCII")
        headers[name] = value
    return headers


class OtlpTarget:
    """What a container has counted, and where it goes. ``clock`` is that of ``time.monotonic()``."""

    def __init__(self, endpoint: str, headers: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        base, question, query = endpoint.partition("?")
        base = base.rstrip("/")
        self._url = (base if base.endswith(_PATH) else base + _PATH) + question + query
        self._headers = {**headers, "Content-Type": "application/json"}
        self._caller = Caller("the OTLP endpoint")
        self._clock = clock
        self._due_at = float("-inf")
        self._failures = 0
        self._is_full = False
        self._began = time.time_ns()
        # Of this container: its log stream is one of many names for it, and not known everywhere.
        self._instance = os.urandom(8).hex()
        self._sums: dict[tuple[str, Attributes, str], float] = {}
        self._gauges: dict[tuple[str, Attributes, str], float] = {}
        self._histograms: dict[tuple[str, Attributes, str], Latencies] = {}
        self._resource: list[Any] = []

    def add(self, report: Report) -> None:
        """Add an invocation's figures to the container's."""
        if not self._resource:
            self._resource = _resource(report.context, self._instance)
        own = (("processor", report.processor),)
        self._sum("streamkit.invocations", own, 1, "1")
        for name, value in report.figures.items():
            series, unit = f"streamkit.{snake(name)}", FIGURES[name]
            if name in GAUGES:
                self._gauges[series, own, _UNITS[unit]] = value
            elif unit == "Milliseconds":
                self._histogram(series, own).add(value)
            else:
                self._sum(series, own, value, _UNITS[unit])
        for branch, figures in report.branches.items():
            of_branch = (*own, ("branch", branch))
            for name in BRANCH:
                self._sum(f"streamkit.branch.{snake(name)}", of_branch, figures[name], "1")
        for name, count in report.values.counts.items():
            if (name, own, "1") in self._sums or self._has_room(name):
                self._sum(name, own, count, "1")
        for name, latencies in report.values.latencies.items():
            # Another invocation, or another container, may have the name as a count, and a series is of one kind.
            series = of_latency(name)
            if (series, own, "ms") in self._histograms or self._has_room(name):
                self._histogram(series, own).merge(latencies)

    def push(self, remaining: float) -> bool:
        """Push what there is, if it is time to. ``remaining`` is how long the invocation has, in seconds. False: it failed."""
        now = self._clock()
        seconds = min(TIMEOUT, remaining - _MARGIN)
        if now < self._due_at or seconds < _LEAST:
            return True
        is_taken = self._caller.call(self._url, self.encoded(), self._headers, seconds)
        if is_taken:
            # They were of a moment: what nobody has seen since is not to look like what is now.
            self._gauges.clear()
        self._failures = 0 if is_taken else self._failures + 1
        self._due_at = self._clock() + min(INTERVAL * 2.0 ** min(self._failures, 10), _LONGEST_INTERVAL)
        return is_taken

    def encoded(self) -> bytes:
        """An ``ExportMetricsServiceRequest`` in OTLP's JSON: 64-bit integers are texts."""
        at = {"startTimeUnixNano": str(self._began), "timeUnixNano": str(max(time.time_ns(), self._began))}
        metrics: list[dict[str, Any]] = []
        for (name, attributes, unit), value in self._sums.items():
            point = {**at, "attributes": _attributes(attributes), **_number(value)}
            kind = {"dataPoints": [point], "aggregationTemporality": _CUMULATIVE, "isMonotonic": True}
            metrics.append({"name": name, "unit": unit, "sum": kind})
        for (name, attributes, unit), value in self._gauges.items():
            point = {
                "timeUnixNano": at["timeUnixNano"],
                "attributes": _attributes(attributes),
                **_number(value),
            }
            metrics.append({"name": name, "unit": unit, "gauge": {"dataPoints": [point]}})
        for (name, attributes, unit), held in self._histograms.items():
            point = {**at, "attributes": _attributes(attributes), **_distribution(held)}
            kind = {"dataPoints": [point], "aggregationTemporality": _CUMULATIVE}
            metrics.append({"name": name, "unit": unit, "histogram": kind})
        scope = {"scope": {"name": "streamkit"}, "metrics": metrics}
        return _encode({"resourceMetrics": [{"resource": {"attributes": self._resource}, "scopeMetrics": [scope]}]})

    def _has_room(self, name: str) -> bool:
        """Whether there is room for a series of users' own."""
        if len(self._sums) + len(self._histograms) < MOST_SERIES:
            return True
        if not self._is_full:
            self._is_full = True
            log.warning("a container has at most %d series: %s, and others, are left out of OTLP", MOST_SERIES, name)
        return False

    def _sum(self, name: str, attributes: Attributes, value: float, unit: str) -> None:
        key = name, attributes, unit
        self._sums[key] = self._sums.get(key, 0) + value

    def _histogram(self, name: str, attributes: Attributes) -> Latencies:
        return self._histograms.setdefault((name, attributes, "ms"), Latencies())


def _resource(context: Any, instance: str) -> list[Any]:
    name = function_name(context)
    attributes = [
        ("service.name", name),
        ("service.instance.id", instance),
        ("faas.name", name),
        ("faas.version", os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", "")),
        ("faas.instance", os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME", "")),
        ("cloud.region", os.environ.get("AWS_REGION", "")),
    ]
    return _attributes(tuple((key, value) for key, value in attributes if value))


def _attributes(attributes: Attributes) -> list[Any]:
    return [
        # A lone surrogate has no bytes.
        {"key": key, "value": {"stringValue": value.encode("utf-8", "backslashreplace").decode()}}
        for key, value in attributes
    ]


def _number(value: float) -> dict[str, Any]:
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return {"asInt": str(value)}
    return {"asDouble": float(value)}


def _distribution(held: Latencies) -> dict[str, Any]:
    return {
        "count": str(held.count),
        "sum": held.total,
        "min": held.least,
        "max": held.most,
        "bucketCounts": [str(count) for count in held.buckets],
        "explicitBounds": BOUNDS,
    }

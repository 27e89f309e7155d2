"""Amazon CloudWatch: values of metrics, put together before they are put.

The function's role needs ``cloudwatch:PutMetricData``, which names no resource: restrict it by the condition key
``cloudwatch:namespace``. Needs boto3 and tenacity: ``pip install kinesis-streamkit[aws]``. Neither is imported before the first
delivery.

| CloudWatch answers | the value is |
|---|---|
| a throttle, 5xx, nothing; no permission | ``unavailable``, after tries until the deadline where they can help |
| that what it was given is wrong | ``invalid``, that metric alone: the request is sent in halves until it is found |

**CloudWatch dedupes nothing**: a value that is put twice counts twice, and whether a lost answer was a yes nobody knows.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import msgspec

from ..aws import Clients, code_of, may_pass, repeat_until
from ..errors import ConfigurationError, Reject, SinkError
from .aws import Trouble
from .base import NotAsked, Refusal, Sink, Write
from .halves import in_halves

__all__ = ["UNITS", "CloudWatchMetricsSink", "Datum", "Value", "aggregated", "checked_namespace", "in_requests"]

#: Those that CloudWatch has.
UNITS = frozenset(
    {
        *("Seconds", "Microseconds", "Milliseconds", "Percent", "Count", "Count/Second", "None"),
        *("Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes"),
        *("Bits", "Kilobits", "Megabits", "Gigabits", "Terabits"),
        *("Bytes/Second", "Kilobytes/Second", "Megabytes/Second", "Gigabytes/Second", "Terabytes/Second"),
        *("Bits/Second", "Kilobits/Second", "Megabits/Second", "Gigabits/Second", "Terabits/Second"),
    }
)

# PutMetricData's limits, as its reference has them.
_LARGEST = 2.0**360
_MOST_DIMENSIONS = 30
_MOST_VALUES = 150
_REQUEST_DATA = 1000
# 1 MB, before what compresses it.
_REQUEST_BYTES = 900_000
_OLDEST = 14 * 86400
_NEWEST = 2 * 3600
# What is put at the very edge of these would be over it when it arrives.
_EDGE = 300
_MINUTE = 60
# Bytes that each takes, in the longest of the ways that boto3 writes a request, beside its texts.
_DATUM_BYTES, _VALUE_BYTES, _DIMENSION_BYTES = 250, 130, 120
# Seconds of tries: who waits longer pays for a function that does nothing.
_RETRY_TIME = 60.0

_CONTENT_CODES = frozenset(
    {
        *("InvalidParameterValue", "InvalidParameterCombination", "MissingParameter", "ValidationError"),
        *("InvalidParameterValueException", "InvalidParameterCombinationException", "InvalidFormat"),
        *("MissingRequiredParameterException", "ValidationException", "ParamValidationError"),
        *("RequestEntityTooLarge", "413"),
    }
)
_SET_UP = ("ConfigurationError", "NoCredentialsError", "PartialCredentialsError", "NoRegionError", "ProfileNotFound")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_not_printable = re.compile(r"[^\x20-\x7e]").search

_Dimensions = tuple[tuple[str, str], ...]


class Value(msgspec.Struct, frozen=True):
    """One value of a metric. ``time`` is in seconds since the epoch."""

    namespace: str
    name: str
    value: float
    unit: str
    dimensions: _Dimensions
    time: float


class Datum(msgspec.Struct, frozen=True):
    """The values of one metric in one minute: each different one, and how often it came. ``of`` are the places of these values
    in what they were made of.
    """

    namespace: str
    name: str
    unit: str
    dimensions: _Dimensions
    minute: int
    counts: dict[float, int]
    of: list[int]

    @property
    def size(self) -> int:
        """Bytes in a request, at most."""
        texts = len(self.name) + sum(len(name) + len(value) + _DIMENSION_BYTES for name, value in self.dimensions)
        return _DATUM_BYTES + texts + _VALUE_BYTES * len(self.counts)


def aggregated(values: Sequence[Value]) -> list[Datum]:
    """What is put for these values: all of one metric and minute together, 150 different ones at most.

    Not as a set of statistics: of those no percentile can be told.
    """
    open_: dict[tuple[str, str, str, _Dimensions, int], Datum] = {}
    made: list[Datum] = []
    for place, value in enumerate(values):
        minute = int(value.time) // _MINUTE * _MINUTE
        metric = (value.namespace, value.name, value.unit, value.dimensions, minute)
        datum = open_.get(metric)
        if datum is None or (len(datum.counts) >= _MOST_VALUES and value.value not in datum.counts):
            datum = open_[metric] = Datum(*metric, {}, [])
            made.append(datum)
        datum.counts[value.value] = datum.counts.get(value.value, 0) + 1
        datum.of.append(place)
    return made


def in_requests(data: Sequence[Datum]) -> list[list[Datum]]:
    """The data by requests: of one namespace each, with up to 1,000 metrics, and less than 1 MB."""
    requests: list[list[Datum]] = []
    open_: dict[str, tuple[list[Datum], list[int]]] = {}
    for datum in data:
        request, size = open_.get(datum.namespace, (None, [0]))
        if request is None or len(request) >= _REQUEST_DATA or size[0] + datum.size > _REQUEST_BYTES:
            request, size = open_[datum.namespace] = [], [0]
            requests.append(request)
        request.append(datum)
        size[0] += datum.size
    return requests


class CloudWatchMetricsSink(Sink):
    """Metrics of the namespace ``namespace``; a value may name another.

        class Orders(RecordProcessor):
            metrics = CloudWatchMetricsSink("shop")

            def process(self, record):
                order = record.json()
                yield self.metrics.value("OrderTotal", order["total"], unit="None", dimensions={"Country": order["country"]})

    Each combination of dimensions is a metric of its own, and paid as one. ``clock`` is for tests: seconds since the epoch.
    """

    request_writes: ClassVar[int] = 10_000

    def __init__(self, namespace: str, *, client: Any = None, clock: Callable[[], float] = time.time) -> None:
        self._namespace = checked_namespace(namespace)
        self._clients = Clients("cloudwatch", type(self).__name__, client)
        self._clock = clock

    def value(
        self,
        name: str,
        value: float,
        *,
        unit: str = "Count",
        dimensions: Mapping[str, str] | None = None,
        time: float | None = None,
        namespace: str | None = None,
    ) -> Write:
        """One value. ``unit`` is one of CloudWatch's (``UNITS``). ``time`` is in seconds since the epoch, now by default: up to
        two weeks ago and two hours ahead, and only the minute counts.

        Raises Reject for what CloudWatch takes never: NaN, more than 2**360, more than 30 dimensions, a text that is empty, too
        long or not printable ASCII. A time that is out of its bounds is refused as ``invalid`` when it is put.
        """
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Reject(f"a metric's value is a number, not {type(value).__name__}")
        if not -_LARGEST <= value <= _LARGEST:
            raise Reject("a metric's value is from -2**360 to 2**360")
        if unit not in UNITS:
            raise Reject("a metric's unit is one of CloudWatch's")
        named = tuple(sorted((dimensions or {}).items()))
        if len(named) > _MOST_DIMENSIONS:
            raise Reject(f"a metric has {_MOST_DIMENSIONS} dimensions at most; this one has {len(named)}")
        _check_text("name", name, 255)
        for one, of in named:
            _check_text("dimension's name", one, 255)
            _check_text("dimension's value", of, 1024)
            if one.startswith(":"):
                raise Reject("the name of a metric's dimension begins with no colon")
        at = self._clock() if time is None else float(time)
        if not math.isfinite(at):
            raise Reject("a metric's time is a number of seconds")
        where = self._namespace if namespace is None else checked_namespace(namespace, Reject)
        return Write(self, Value(where, name, float(value), unit, named, at))

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        """See ``Sink.write``."""
        refusals: list[Refusal] = []
        in_time: list[Write] = []
        for write in writes:
            if self.takes(write.payload.time):
                in_time.append(write)
            else:
                error = NotAsked("CloudWatch takes values of up to two weeks ago and two hours ahead")
                refusals.append(Refusal(write, error, "invalid"))
        deadline = min(deadline, time.monotonic() + _RETRY_TIME)
        is_first = True
        for request in in_requests(aggregated([write.payload for write in in_time])):
            if is_first or time.monotonic() < deadline:
                troubles = self._put(request, deadline)
            else:
                troubles = dict.fromkeys(range(len(request)), _no_time())
            is_first = False
            for place, trouble in troubles.items():
                refusals += [Refusal(in_time[one], trouble.error, trouble.kind) for one in request[place].of]
        return refusals

    def takes(self, time: float) -> bool:
        """Whether CloudWatch takes a value of this time, in seconds since the epoch: not much longer, near the edges."""
        now = self._clock()
        return now - _OLDEST + _EDGE <= time <= now + _NEWEST - _EDGE

    def close(self) -> None:
        self._clients.close()

    def _put(self, request: list[Datum], deadline: float) -> dict[int, Trouble]:
        """One request, and in halves where it is refused whole for what is in it: what was not taken, by place."""

        def ask(part: Sequence[Datum]) -> dict[int, Trouble] | Trouble:
            trouble = self._until_answered(part, deadline)
            if trouble is None:
                return {}
            return trouble if trouble.kind == "invalid" else dict.fromkeys(range(len(part)), trouble)

        return in_halves(request, ask, lambda: None if time.monotonic() < deadline else _no_time())

    def _until_answered(self, request: Sequence[Datum], deadline: float) -> Trouble | None:
        last: list[Trouble | None] = [None]

        def put() -> bool:
            last[0] = self._try(request, deadline)
            return last[0] is None or not last[0].passes

        repeat_until(deadline, put)
        return last[0]

    def _try(self, request: Sequence[Datum], deadline: float) -> Trouble | None:
        try:
            self._clients.until(deadline).put_metric_data(
                Namespace=request[0].namespace, MetricData=[_entry(datum) for datum in request]
            )
        except Exception as error:  # noqa: BLE001  # Whatever the client raises, nothing was confirmed.
            code = (code_of(error) or type(error).__name__).rpartition(".")[2]
            if code in _CONTENT_CODES:
                message = _QUOTED.sub("'…'", str(error).partition("\n")[0])[:200]
                return Trouble(SinkError(f"cloudwatch: {code}: {message}"), "invalid")
            return Trouble(error, "unavailable", may_pass(error) and code not in _SET_UP)
        return None


def _no_time() -> Trouble:
    return Trouble(SinkError("there was no time left to ask CloudWatch"), "unavailable")


def _entry(datum: Datum) -> dict[str, Any]:
    return {
        "MetricName": datum.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in datum.dimensions],
        "Timestamp": datetime.fromtimestamp(datum.minute, UTC),
        "Values": list(datum.counts),
        "Counts": [float(count) for count in datum.counts.values()],
        "Unit": datum.unit,
    }


def _check_text(what: str, text: Any, longest: int) -> None:
    if not isinstance(text, str) or not 0 < len(text) <= longest or not text.strip() or _not_printable(text):
        raise Reject(f"a metric's {what} is printable ASCII of 1 to {longest} characters, and not blank")


def checked_namespace(namespace: Any, refuse: type[Exception] = ConfigurationError) -> str:
    """The namespace; ``refuse`` is raised where it is none that values can be put into."""
    if (
        not isinstance(namespace, str)
        or not 0 < len(namespace) <= 255
        or not namespace.strip()
        or _not_printable(namespace)
        or namespace.startswith((":", "AWS/"))
    ):
        raise refuse(
            "CloudWatchMetricsSink(namespace) is printable ASCII of 1 to 255 characters, and begins neither with AWS/ nor a colon"
        )
    return namespace

"""One logged line, as far as it can be read. Nothing here raises, whatever the line is: what is not known is a message.

| the line | ``kind`` |
|---|---|
| ``START RequestId: …``, ``platform.start`` | ``start`` |
| ``END RequestId: …``, ``platform.runtimeDone`` | ``end`` |
| ``REPORT RequestId: …``, ``platform.report`` | ``report`` |
| ``INIT_START …``, ``RESTORE_START …``, ``platform.initStart`` and the like | ``init`` |
| ``… Task timed out after 3.00 seconds`` | ``timeout`` |
| ``EXTENSION …``, ``TELEMETRY …``, ``LOGS …``, ``platform.extension`` and the like | ``extension`` |
| another ``platform.…`` | ``platform`` |
| ``MONITORING|…``, where it is sound | ``metric`` |
| everything else: JSON, ``[INFO]\\t…`` of Python, ``…\\tINFO\\t…`` of Node.js, plain text | ``message`` |

A program can print what looks like a line of Lambda's, and nothing tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from ..correlation.value import CHAIN, ID, PREFIX
from .report import Report, report_of_line, report_of_platform
from .sample import Sample, sample_of

__all__ = ["Kind", "Line", "parse"]

Kind = Literal["start", "end", "report", "init", "timeout", "extension", "platform", "metric", "message"]


class Line(msgspec.Struct, kw_only=True):
    """``message`` is what was said, without what stood around it; ``fields`` are those of a JSON line that have no name here."""

    kind: Kind
    message: str
    level: str = ""
    request_id: str = ""
    #: The function's name and version, where the line itself says them.
    function: str = ""
    version: str = ""
    logger: str = ""
    trace_id: str = ""
    error_type: str = ""
    #: By their names on the wire, ``x-correlation-id`` among them.
    correlation: dict[str, str] = {}
    fields: dict[str, Any] = {}
    report: Report | None = None
    sample: Sample | None = None


# Of a long line only so much is looked at, by whatever looks for something in it.
_LOOKED_AT = 4096
_LONGEST_TEXT = 256
_LONGEST_LEVEL = 20
_MOST_IDS = 12

_REQUEST = r"[A-Za-z0-9_-]{1,100}"
_start = re.compile(rf"START RequestId: ({_REQUEST})(?:\s+Version: (\$LATEST|\d{{1,20}}))?\s*").fullmatch
_end = re.compile(rf"END RequestId: ({_REQUEST})\s*").fullmatch
_timed_out = re.compile(
    rf"(?:\S{{1,40}} )?({_REQUEST}) (Task timed out after \d{{1,6}}(?:\.\d{{1,3}})? seconds)\s*"
).fullmatch
_extension = re.compile(r"(?:EXTENSION|TELEMETRY|LOGS)\s{1,4}Name: ").match
_init = re.compile(r"(?:INIT_START|INIT_REPORT|RESTORE_START|RESTORE_REPORT) ").match
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
# The log format that Lambda's runtime gives Python's root logger, and Node.js's console.
_python = re.compile(rf"\[([A-Z]{{1,20}})\]\t{_TIME}\t({_REQUEST})?\t").match
_node = re.compile(rf"{_TIME}\t({_REQUEST})\t([A-Z]{{1,20}})\t").match
# A level that stands in front of a plain line, and nothing else that only looks like one. Before it there may be a time, as
# loggers write it, and behind that a logger's name between dashes (the format of Python's documentation).
_leading = re.compile(
    r"(?:\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?[ \t]{1,4}(?:[|-] )?(?:\S{1,100} - )?)?"
    r"\[?(TRACE|DEBUG|INFO|WARN|WARNING|ERROR|CRITICAL|FATAL)\]?(?=[:\s])"
).match
# What Lambda says of a process that has ended, out of memory for one.
_died = re.compile(rf"RequestId: ({_REQUEST}) Error: ").match
_is_followed = re.compile(rf"{PREFIX}[a-z0-9-]{{1,64}}").fullmatch
_correlated = re.compile(r"(x-correlation-[a-z0-9-]{1,64})[\"']?[=:] ?[\"']?([A-Za-z0-9_.:/@+-]{1,256})")

_LEVELS = {"WARNING": "WARN", "CRITICAL": "FATAL", "EXCEPTION": "ERROR", "INFORMATION": "INFO", "ERR": "ERROR"}
# pino's and bunyan's.
_NUMBERED = {10: "TRACE", 20: "DEBUG", 30: "INFO", 40: "WARN", 50: "ERROR", 60: "FATAL"}
# Names that loggers give to the same thing: Lambda's own JSON, powertools, pino, structlog, and what is usual.
_MESSAGE = ("message", "msg", "event", "errorMessage")
_LEVEL = ("level", "levelname", "severity", "log_level", "sLevel")
_REQUEST_ID = (
    *("requestId", "request_id", "AWSRequestId", "awsRequestId", "aws_request_id", "function_request_id"),
    *("lambda_request_id", "faas.invocation_id"),
)
_LOGGER = ("logger", "logger_name")
_TRACE = ("xray_trace_id", "traceId", "trace_id", "xRayTraceId")
_FUNCTION = ("function_name", "functionName", "functionname")
_VERSION = ("function_version", "functionVersion")
_ERROR_TYPE = ("errorType", "error_type", "exception_name")
_CORRELATION_ID = ("correlation_id", "correlationId", "correlation-id")
_WITHOUT_PREFIX = (CHAIN, "traceparent", "x-amzn-trace-id")
# What CloudWatch has beside the line.
_SAID_ELSEWHERE = ("timestamp", "@timestamp")

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def parse(text: str) -> Line:
    """Read one line. It is one log event's: of several lines, as a traceback is, it is all of them."""
    stripped = text.rstrip()
    if stripped.startswith("{") and stripped.endswith("}"):
        try:
            return _of_json(_decode(stripped), text)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError):
            pass
    return _of_text(text)


def _of_text(text: str) -> Line:
    head = text[:_LOOKED_AT]
    if (found := _start(head)) is not None:
        return Line(kind="start", message=text, request_id=found[1], version=found[2] or "")
    if (found := _end(head)) is not None:
        return Line(kind="end", message=text, request_id=found[1])
    if (report := report_of_line(head)) is not None:
        return _reported(text, report)
    if (found := _timed_out(head)) is not None:
        return Line(kind="timeout", message=found[2], level="ERROR", request_id=found[1])
    if _extension(head):
        return Line(kind="extension", message=text)
    if _init(head):
        return Line(kind="init", message=text)
    if (found := _python(head)) is not None:
        return _said(text[found.end() :], level=_level(found[1]), request_id=found[2] or "")
    if (found := _node(head)) is not None:
        request_id = "" if found[1] == "undefined" else found[1]
        return _inner(text[found.end() :], level=_level(found[2]), request_id=request_id)
    if (found := _died(head)) is not None:
        return Line(kind="message", message=text, level="ERROR", request_id=found[1])
    found = _leading(head)
    return _said(text, level=_level(found[1]) if found else "")


def _inner(text: str, *, level: str, request_id: str) -> Line:
    """What console.log was given, which may be JSON itself."""
    line = parse(text) if text.lstrip().startswith("{") else _said(text)
    line.level = line.level or level
    line.request_id = line.request_id or request_id
    return line


def _said(text: str, *, level: str = "", request_id: str = "") -> Line:
    """What a program has logged."""
    sample = sample_of(text)
    return Line(
        kind="message" if sample is None else "metric",
        message=text,
        level=level,
        request_id=request_id,
        sample=sample,
        correlation=_correlation_in(text),
    )


def _of_json(line: dict[str, Any], text: str) -> Line:
    kind = line.get("type")
    if isinstance(kind, str) and kind.startswith("platform.") and isinstance(line.get("record"), dict):
        return _of_platform(kind.removeprefix("platform."), line["record"], text)
    rest = dict(line)
    message = _taken(rest, _MESSAGE, text)
    sample = sample_of(message)
    made = Line(
        kind="message" if sample is None else "metric",
        message=message,
        level=_level_of(rest),
        request_id=_taken(rest, _REQUEST_ID),
        function=_taken(rest, _FUNCTION),
        version=_taken(rest, _VERSION),
        logger=_taken(rest, _LOGGER),
        trace_id=_taken(rest, _TRACE),
        error_type=_taken(rest, _ERROR_TYPE),
        correlation=_correlation_of(rest),
        sample=sample,
    )
    for name in _SAID_ELSEWHERE:
        if isinstance(rest.get(name), str | int | float):
            del rest[name]
    made.fields = rest
    return made


def _of_platform(name: str, record: dict[str, Any], text: str) -> Line:
    """A line of Lambda's own, where the function logs as JSON."""
    request_id = _short(record.get("requestId"))
    if name == "report":
        return _reported(text, report_of_platform(record))
    if name == "start":
        return Line(kind="start", message=text, request_id=request_id, version=_short(record.get("version")))
    if name == "runtimeDone":
        return Line(kind="end", message=text, request_id=request_id, error_type=_short(record.get("errorType")))
    kind: Kind = "platform"
    if name.startswith(("init", "restore")):
        kind = "init"
    elif name in ("extension", "telemetrySubscription", "logsSubscription", "logsDropped"):
        kind = "extension"
    return Line(kind=kind, message=text, request_id=request_id)


def _reported(text: str, report: Report) -> Line:
    level = "ERROR" if report.is_error else ""
    return Line(
        kind="report",
        message=text,
        level=level,
        request_id=report.request_id,
        error_type=report.error_type,
        report=report,
    )


def _taken(rest: dict[str, Any], names: tuple[str, ...], default: str = "") -> str:
    """The first of these that is a text, neither empty nor too long, which is taken out of ``rest``. What is not stays there."""
    for name in names:
        value = rest.get(name)
        if isinstance(value, str) and value and (names is _MESSAGE or len(value) <= _LONGEST_TEXT):
            del rest[name]
            return value
    return default


def _level_of(rest: dict[str, Any]) -> str:
    for name in _LEVEL:
        if level := _level(rest.get(name)):
            del rest[name]
            return level
    return ""


def _short(value: Any) -> str:
    return value[:_LONGEST_TEXT] if isinstance(value, str) else ""


def _level(value: Any) -> str:
    """In upper case, and by one name where there are several; empty where it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _NUMBERED.get(value, "")
    text = value.strip().upper() if isinstance(value, str) and len(value) <= _LONGEST_LEVEL else ""
    return _LEVELS.get(text, text)


def _correlation_of(rest: dict[str, Any]) -> dict[str, str]:
    """What a JSON line is followed by, taken out of ``rest``."""
    found: dict[str, str] = {}
    for name, text in _texts(rest):
        wire = ID if name in _CORRELATION_ID else name.lower()
        if not _is_followed(wire) and wire not in _WITHOUT_PREFIX:
            continue
        if text and len(text) <= _LONGEST_TEXT and wire not in found and len(found) < _MOST_IDS:
            found[wire] = text
            del rest[name]
    return found


def _texts(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in list(fields.items()):
        if isinstance(value, str):
            yield name, value


def _correlation_in(text: str) -> dict[str, str]:
    if PREFIX not in text[:_LOOKED_AT]:
        return {}
    found: dict[str, str] = {}
    for one in _correlated.finditer(text[:_LOOKED_AT]):
        if len(found) == _MOST_IDS:
            break
        found.setdefault(one[1], one[2])
    return found

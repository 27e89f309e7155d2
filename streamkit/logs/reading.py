"""The lines of a delivery, each with the request that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .delivery import Delivery, LogEvent
from .line import Line, parse
from .origin import Origin, origin_of

__all__ = ["Logged", "logged_in"]


class Logged(msgspec.Struct, frozen=True):
    """A line, and what stands around it. ``line.request_id`` is that of the line's own START where it says none itself."""

    delivery: Delivery
    origin: Origin
    event: LogEvent
    line: Line
    #: Whether it tells of a time-out that no other line of the delivery does: the line and the report of one are one.
    is_timeout: bool = False


def logged_in(delivery: Delivery) -> Iterator[Logged]:
    """All lines, in order. A log stream is of one execution environment, which runs one request at a time; a line of which the
    START was delivered before is of an unknown one.
    """
    origin = origin_of(delivery.log_group, delivery.log_stream)
    current = ""
    timed_out: set[str] = set()
    for event in delivery.log_events:
        line = parse(event.message)
        if line.kind == "start":
            current = line.request_id
        elif not line.request_id and line.kind in ("message", "metric"):
            line.request_id = current
        elif line.kind == "report" and line.request_id == current:
            current = ""
        is_timeout = line.kind == "timeout" or (line.report is not None and line.report.is_timeout)
        if is_timeout and line.request_id in timed_out:
            is_timeout = False
        elif is_timeout:
            timed_out.add(line.request_id)
        yield Logged(delivery, origin, event, line, is_timeout)

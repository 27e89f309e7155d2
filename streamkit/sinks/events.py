"""Amazon EventBridge: events to a bus.

The function's role needs ``events:PutEvents`` on the bus. Needs boto3 and tenacity: ``pip install kinesis-streamkit[aws]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from ..errors import ConfigurationError, Reject
from ..record import Record
from .aws import BatchSink, Trouble, json_of
from .base import Write

__all__ = ["EventBridgeSink"]

# 256 KiB until January 2026, when AWS raised it; AWS's pages still name both. The service has the last word.
_EVENT_BYTES = 1_048_576
_TIME_BYTES = 14
_DETAIL = "a JSON object as an event's detail"


class EventBridgeSink(BatchSink):
    """The bus of this name or ARN. ``source`` and ``detail_type`` are those of events that don't name others.

        class Forward(RecordProcessor):
            bus = EventBridgeSink.from_env("EVENT_BUS", source="shop.orders", detail_type="order")

            def process(self, record):
                yield self.bus.event(record.json())

    A request has ten events, and ``event_bytes`` together: each detail, source, detail type and resource in UTF-8. EventBridge
    keeps no order and dedupes nothing: a repeat is a second event.
    """

    request_writes: ClassVar[int] = 10
    _service: ClassVar[str] = "events"
    _wanted: ClassVar[str] = "the name or ARN of an event bus"
    _content_codes: ClassVar[frozenset[str]] = frozenset(
        {"InvalidArgument", "MalformedDetail", "ValidationException", "RedactionFailure", "ParamValidationError"}
    )
    _target: ClassVar[str] = "eventbusname"
    _call_entries: ClassVar[int] = 10

    def __init__(
        self,
        bus: str,
        *,
        source: str = "streamkit",
        detail_type: str = "record",
        event_bytes: int = _EVENT_BYTES,
        client: Any = None,
    ) -> None:
        super().__init__(bus, client=client)
        if not source or source.startswith("aws."):
            raise ConfigurationError(f"an event's source is a text that does not begin with aws.; got {source!r}")
        if not 1024 <= event_bytes <= _EVENT_BYTES:
            raise ConfigurationError(
                f"EventBridgeSink(event_bytes) is from 1,024 to {_EVENT_BYTES:,}; got {event_bytes!r}"
            )
        self._source = source
        self._detail_type = detail_type
        self._call_bytes = event_bytes

    def event(
        self,
        detail: Any,
        *,
        detail_type: str | None = None,
        source: str | None = None,
        resources: Sequence[str] = (),
        time: datetime | None = None,
    ) -> Write:
        """An event. ``detail``: a mapping, or a JSON object as text or bytes. ``time``: aware; the service's clock by default.

        Reject for what EventBridge would always refuse.
        """
        entry: dict[str, Any] = {
            "Source": source or self._source,
            "DetailType": detail_type or self._detail_type,
            "Detail": json_of(detail, "EventBridge", lambda parsed: isinstance(parsed, dict), _DETAIL),
        }
        if entry["Source"].startswith("aws."):
            raise Reject("an event's source does not begin with aws.")
        size = sum(len(text.encode("utf-8", "surrogatepass")) for text in (*entry.values(), *resources))
        if resources:
            entry["Resources"] = list(resources)
        if time is not None:
            entry["Time"] = time
            size += _TIME_BYTES
        if size > self._call_bytes:
            raise Reject(f"EventBridge takes events of {self._call_bytes:,} bytes; this one has {size:,}")
        return Write(self, entry, size=size)

    def onward(self, record: Record) -> Write:
        """The record's data, a JSON object, as the detail, and its arrival as the time."""
        return self.event(record.data, time=record.approximate_arrival_timestamp)

    def _entry(self, name: str, write: Write) -> dict[str, Any]:
        return {**write.payload, "EventBusName": self.place}

    def _call(self, client: Any, entries: list[dict[str, Any]]) -> dict[int, Trouble]:
        return self._troubles_of(entries, client.put_events(Entries=entries).get("Entries", ()))

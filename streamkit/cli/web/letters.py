"""A dead letter as the page shows it: a line without its payload, or the whole of it."""

from __future__ import annotations

from typing import Any

import msgspec

from ...envelope import Envelope
from ..letter_list import Row
from ..terminal import printable

__all__ = ["Seen", "line_of", "whole_of"]

#: A payload has up to 10 MiB; what a person reads is shorter.
_MOST_SHOWN = 256 * 1024
_MOST_HEX = 16 * 1024
_HEX_WIDTH = 16
_LONGEST_LINE = 500


class Seen(msgspec.Struct, frozen=True):
    """A letter of a look. ``body`` is the message as it lies there."""

    number: int
    row: Row
    body: str
    sent_at: float | None = None


def line_of(seen: Seen) -> dict[str, Any]:
    """What the list shows: no payload. Texts have nothing in them that turns the reading direction round."""
    row = seen.row
    return {
        "number": seen.number,
        "kind": row.kind,
        "event_id": None if row.event_id is None else printable(row.event_id),
        "processor": printable(row.processor),
        "partition_key": None if row.partition_key is None else printable(row.partition_key),
        "failed_at": row.failed_at,
        "sent_at": seen.sent_at,
        "error_type": printable(row.error_type),
        "error": printable(row.error[:_LONGEST_LINE]),
        "attempts": row.attempts,
        "redrives": row.redrives,
        "bytes": row.bytes,
    }


def whole_of(seen: Seen) -> dict[str, Any]:
    """The letter with its history and its payload, as JSON where it is some, as text where it is UTF-8, and as hex."""
    row, envelope = seen.row, seen.row.envelope
    fields = [
        ("event id", row.event_id),
        ("processor", row.processor),
        ("partition key", row.partition_key),
        ("stream", row.stream_arn),
        ("shard", row.shard_id),
        ("sequence number", row.sequence_number),
        ("held as", row.place),
        ("received", None if row.receives is None else f"{row.receives}×"),
        (
            "attempts",
            None if row.attempts is None else f"{row.attempts} on the retry path, put back {row.redrives or 0}×",
        ),
        *((f"correlation {name}", value) for name, value in row.correlation.items()),
    ]
    failures = [] if envelope is None else envelope.failures
    return {
        **line_of(seen),
        "error": printable(row.error),
        "fields": [[printable(name), printable(value)] for name, value in fields if value],
        "failures": [
            {
                "attempt": one.attempt,
                "type": printable(one.type),
                "message": printable(one.message),
                "time": printable(one.time),
            }
            for one in failures
        ],
        "payload": _payload(_data_of(envelope, seen.body)),
    }


def _data_of(envelope: Envelope | None, body: str) -> bytes:
    """The record's data; of what is no letter with data, the message itself."""
    if envelope is None:
        return body.encode("utf-8", "surrogatepass")
    if envelope.data is not None:
        return envelope.data
    return (envelope.undecoded or "").encode("utf-8", "surrogatepass")


def _payload(data: bytes) -> dict[str, Any]:
    return {"size": len(data), "json": _as_json(data), "text": _as_text(data), "hex": _as_hex(data)}


def _as_json(data: bytes) -> str | None:
    if len(data) > _MOST_SHOWN:
        return None
    try:
        return _lines(msgspec.json.format(data, indent=2).decode())
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _as_text(data: bytes) -> str | None:
    try:
        text = data[:_MOST_SHOWN].decode("utf-8", "strict" if len(data) <= _MOST_SHOWN else "ignore")
    except UnicodeDecodeError:
        return None
    return _lines(text) + _rest(data, _MOST_SHOWN)


def _as_hex(data: bytes) -> str:
    lines: list[str] = []
    for at in range(0, min(len(data), _MOST_HEX), _HEX_WIDTH):
        part = data[at : at + _HEX_WIDTH]
        text = "".join(chr(one) if 32 <= one < 127 else "." for one in part)
        lines.append(f"{at:08x}  {part.hex(' '):<{_HEX_WIDTH * 3}} {text}")
    return "\n".join(lines) + _rest(data, _MOST_HEX)


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))


def _rest(data: bytes, shown: int) -> str:
    return (
        f"\n… {len(data) - shown:,} bytes more: `streamkit dead-letters --export` has all of it"
        if len(data) > shown
        else ""
    )

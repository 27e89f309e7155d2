"""What a subscription filter of CloudWatch Logs delivers: log events of one log stream, as JSON in gzip.

It comes to a function directly, or through a Kinesis stream. A record may have several members of gzip, and these several
deliveries one after another, as Firehose puts them together. What Lambda has given up after its tries, and has sent to the
function's OnFailure queue, is a delivery too: its event is in the document about it.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from ..b64 import decode as b64decode
from ..errors import ConfigurationError, DecodeError, Reject
from ..gunzip import GZIP, DamagedGzip, TooMuchInGzip, gunzip
from ..record import Record

__all__ = ["MOST_BYTES", "Delivery", "LogEvent", "deliveries_of", "read_deliveries"]

#: Bytes that a record may have unpacked: six of the largest payloads of Lambda's, at ten to one.
MOST_BYTES = 64 * 1024 * 1024

# The last millisecond of the year 9999, which is the last that a date can be of.
_LAST = 253_402_300_799_999
# 128 characters are at most 512 bytes in UTF-8, which is the longest id of a document.
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)] | Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=_LAST)]


class LogEvent(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """One line that was logged. ``id`` is CloudWatch's own, the same at every delivery; stand-ins have numbers. ``timestamp`` is
    in milliseconds since the epoch.
    """

    id: _Id
    timestamp: _Milliseconds
    message: str


class Delivery(msgspec.Struct, frozen=True, rename="camel"):
    """What one subscription filter has delivered at once. ``owner`` is the account that the log group is of.

    Only data has ``log_events``: those of a control message are none of a log's, and have no ids.
    """

    message_type: str
    log_group: str = ""
    log_stream: str = ""
    owner: str = ""
    subscription_filters: list[str] = []
    log_events: list[LogEvent] = []

    @property
    def is_data(self) -> bool:
        """Whether it is of a log. A control message only asks whether the destination can be reached."""
        return self.message_type == _DATA


_DATA = "DATA_MESSAGE"
_decode = msgspec.json.Decoder(Delivery).decode


def deliveries_of(record: Record, most_bytes: int = MOST_BYTES) -> list[Delivery]:
    """The deliveries in a record, whichever way it came: directly, through a stream, or out of a retry queue or dead letters.

    DecodeError for what is none, Reject for what has more than ``most_bytes`` in all of its gzip together.
    """
    return read_deliveries(record.data, most_bytes)


def read_deliveries(data: bytes, most_bytes: int = MOST_BYTES) -> list[Delivery]:
    """The deliveries in ``data``: gzip, of any number of members, or the JSON itself. Raises what ``deliveries_of`` does."""
    if most_bytes < 1:
        raise ConfigurationError(f"the most bytes of a delivery are 1 or more; got {most_bytes!r}")
    return _read(data, _Budget(most_bytes), is_inner=False)


class _Budget:
    """The bytes that may be unpacked, of all gzip of a record together: that within its events, too."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = self._left = most_bytes

    def unpacked(self, data: bytes) -> bytes:
        try:
            content = gunzip(data, self._left)
        except TooMuchInGzip:
            raise Reject(
                f"a delivery of CloudWatch Logs is too large: it has more than {self._most_bytes:,} bytes in its gzip"
            ) from None
        self._left -= len(content)
        return content


def _read(data: bytes, budget: _Budget, *, is_inner: bool) -> list[Delivery]:
    if data.startswith(GZIP):
        try:
            data = budget.unpacked(data)
        except DamagedGzip as error:
            raise DecodeError(f"a delivery of CloudWatch Logs can't be unpacked: {error}") from None
    try:
        delivery = _decode(data)
        return [delivery if delivery.is_data else msgspec.structs.replace(delivery, log_events=[])]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Several, a control message, or text that is not sound: the slow way knows all of them.
        return _read_slowly(data, budget, is_inner=is_inner)


def _read_slowly(data: bytes, budget: _Budget, *, is_inner: bool) -> list[Delivery]:
    """Each of several JSON objects, one after another. What is no sound text in them becomes a replacement character."""
    import json

    text = data.decode("utf-8", "replace")
    scan = json.JSONDecoder().raw_decode
    found: list[Delivery] = []
    place = _next(text, 0)
    while place < len(text):
        try:
            value, place = scan(text, place)
            if (event := _event_in(value)) is not None:
                if is_inner:
                    raise _not_one("an event within an event")
                found += _read(b64decode(event), budget, is_inner=True)
                place = _next(text, place)
                continue
            if isinstance(value, dict) and value.get("messageType") != _DATA:
                value = {**value, "logEvents": []}
            # Half of a surrogate pair has no bytes.
            clean = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
            found.append(_decode(clean))
        except msgspec.ValidationError as error:
            raise _not_one(str(error)) from None
        except (ValueError, RecursionError) as error:
            raise _not_one(type(error).__name__) from None
        place = _next(text, place)
    if not found:
        raise _not_one("it is empty")
    return found


def _event_in(value: Any) -> str | None:
    """The data of Lambda's event for a delivery, where it is that, or is in what Lambda says of an event that it has given up."""
    if not isinstance(value, dict):
        return None
    payload = value.get("requestPayload")
    logs = (payload if isinstance(payload, dict) else value).get("awslogs")
    data = logs.get("data") if isinstance(logs, dict) else None
    return data if isinstance(data, str) else None


def _next(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _not_one(why: Any) -> DecodeError:
    return DecodeError(f"the record is no delivery of CloudWatch Logs: {why}")

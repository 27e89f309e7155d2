"""The JSON that AWS sends: a record of a Kinesis event, and the document about records that were given up."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pybase64

from .lane import Discard, Item, WindowCall

__all__ = [
    "EventRecords",
    "event_of",
    "failure_document",
    "item_of",
    "kinesis_record",
    "raw_record",
    "read_back",
    "window_fields",
]

_ROLE_ARN = "arn:aws:iam::000000000000:role/function"
_json = msgspec.json.encode


def kinesis_record(
    *,
    stream_arn: str,
    shard_id: str,
    sequence_number: str,
    data: bytes | str,
    partition_key: str | None,
    arrived_at: float,
) -> dict[str, Any]:
    """One of ``Records`` in the event. A record that was put without a partition key has none here.

    ``data`` as text is base64 already.
    """
    kinesis: dict[str, Any] = {
        "kinesisSchemaVersion": "1.0",
        "partitionKey": partition_key,
        "sequenceNumber": sequence_number,
        "data": data if isinstance(data, str) else pybase64.b64encode(data).decode(),
        "approximateArrivalTimestamp": round(arrived_at, 3),
    }
    if partition_key is None:
        del kinesis["partitionKey"]
    return {
        "kinesis": kinesis,
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard_id}:{sequence_number}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": _ROLE_ARN,
        "awsRegion": stream_arn.split(":")[3],
        "eventSourceARN": stream_arn,
    }


class EventRecords:
    """The JSON of a shard's records in events, the same as of ``kinesis_record``: what all of them have is encoded once."""

    def __init__(self, event_source_arn: str, shard_id: str) -> None:
        region = event_source_arn.split(":")[3]
        before_key = b'{"kinesis":{"kinesisSchemaVersion":"1.0",'
        self._parts = (
            before_key + b'"partitionKey":',
            b',"sequenceNumber":"',
            b'","data":"',
            b'","approximateArrivalTimestamp":',
            b'},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":' + _json(f"{shard_id}:").removesuffix(b'"'),
            b'","eventName":"aws:kinesis:record","invokeIdentityArn":%b,"awsRegion":%b,"eventSourceARN":%b}'
            % (_json(_ROLE_ARN), _json(region), _json(event_source_arn)),
        )
        self._before_number_without_key = before_key + b'"sequenceNumber":"'

    def encoded(self, raw: dict[str, Any]) -> bytes:
        """The JSON of one of ``Page.records``. Its number and its base64 have to be that: they are taken as they are."""
        before_key, before_number, before_data, before_time, before_id, end = self._parts
        key = raw.get("PartitionKey")
        if key:
            key = _json(key)
        else:
            before_key, key, before_number = self._before_number_without_key, b"", b""
        number = raw["SequenceNumber"].encode()
        seconds = raw["ApproximateArrivalTimestamp"]
        time = _json(seconds)
        if seconds < 1_000_000_000 or len(time) > 14:
            # More than ten digits, the point and three more. Rounding is slow, and Kinesis's times are whole milliseconds.
            time = _json(round(seconds, 3))
        data = raw["Data"].encode()
        return b"".join(
            (before_key, key, before_number, number, before_data, data, before_time, time, before_id, number, end)
        )


def raw_record(record: dict[str, Any]) -> dict[str, Any]:
    """A record as boto3 gives it, as Kinesis's JSON has it (see ``Page``)."""
    arrived_at = record["ApproximateArrivalTimestamp"]
    return {
        "SequenceNumber": record["SequenceNumber"],
        "Data": pybase64.b64encode_as_string(record["Data"]),
        "ApproximateArrivalTimestamp": arrived_at if isinstance(arrived_at, int | float) else arrived_at.timestamp(),
        "PartitionKey": record.get("PartitionKey"),
    }


def item_of(record: dict[str, Any], arrived_at: float, *, lane: int = 0, is_wanted: bool = True) -> Item:
    """One of ``Records`` for the engine. It is made JSON once, however often it is delivered, so its size is exact."""
    encoded = msgspec.json.encode(record)
    number = int(record["kinesis"]["sequenceNumber"])
    return Item(number, arrived_at, len(encoded) + len(","), encoded, lane, is_wanted)


def event_of(
    items: Iterable[Item], window: WindowCall | None = None, *, shard_id: str = "", event_source_arn: str = ""
) -> Any:
    """The event of a batch, made anew from its JSON: what a function does to its event changes no later delivery.

    In a tumbling window it says so, with the shard and what it reads.
    """
    event = msgspec.json.decode(b'{"Records":[' + b",".join([item.record for item in items]) + b"]}")
    if window is not None:
        event |= window_fields(window, shard_id, event_source_arn)
    return event


def window_fields(window: WindowCall, shard_id: str, event_source_arn: str) -> dict[str, Any]:
    """What the event of a tumbling window has beside its records."""
    return {
        "window": {"start": _to_the_second(window.start), "end": _to_the_second(window.end)},
        "state": msgspec.json.decode(window.state),
        "shardId": shard_id,
        "eventSourceARN": event_source_arn,
        "isFinalInvokeForWindow": window.is_final,
        "isWindowTerminatedEarly": window.is_terminated_early,
    }


def read_back(answer: Any) -> Any:
    """A function's answer as Lambda gets it, through JSON: a tuple is a list. What is not JSON raises, and so has failed."""
    return json.loads(json.dumps(answer))


def failure_document(
    discard: Discard, *, stream_arn: str, shard_id: str, function_arn: str, now: float, request_id: str | None = None
) -> dict[str, Any]:
    """What the on-failure destination gets. It has no data: the records have to be fetched while the stream holds them.

    ``request_id``: that of the last invocation with these records; without one, as for records too old to be tried, a new one.
    """
    items = discard.items
    document: dict[str, Any] = {
        "requestContext": {
            "requestId": request_id or str(uuid.uuid4()),
            "functionArn": function_arn,
            "condition": discard.condition,
            "approximateInvokeCount": discard.invocations,
        }
    }
    if discard.condition == "RetryAttemptsExhausted":
        document["responseContext"] = {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            # An answer that names what failed is no error of the function.
            "functionError": "Unhandled" if discard.has_raised else None,
        }
    positions = {}
    if items:  # The final call of a window can be given up without any.
        positions = {
            "startSequenceNumber": str(items[0].sequence_number),
            "endSequenceNumber": str(items[-1].sequence_number),
            "approximateArrivalOfFirstRecord": _time(items[0].arrived_at),
            "approximateArrivalOfLastRecord": _time(items[-1].arrived_at),
        }
    document |= {
        "version": "1.0",
        "timestamp": _time(now),
        "KinesisBatchInfo": {"shardId": shard_id, **positions, "batchSize": len(items), "streamArn": stream_arn},
    }
    return document


def _to_the_second(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(seconds: float) -> str:
    # To the nearest millisecond: cut off, a tenth of a second could read as 0.099.
    moment = datetime.fromtimestamp(round(seconds, 3), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

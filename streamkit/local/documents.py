"""The JSON that AWS sends: a record of a Kinesis event, and the document about records that were given up."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pybase64

from .mapping import Discard

__all__ = ["failure_document", "kinesis_record", "size_in_event"]

# What is around the data and the partition key in a record's JSON, measured on one with names of common length.
_AROUND = 650


def kinesis_record(
    *,
    stream_arn: str,
    shard_id: str,
    sequence_number: str,
    data: bytes,
    partition_key: str | None,
    arrived_at: float,
) -> dict[str, Any]:
    """One of ``Records`` in the event. A record that was put without a partition key has none here."""
    kinesis: dict[str, Any] = {
        "kinesisSchemaVersion": "1.0",
        "partitionKey": partition_key,
        "sequenceNumber": sequence_number,
        "data": pybase64.b64encode(data).decode(),
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
        "invokeIdentityArn": "arn:aws:iam::000000000000:role/function",
        "awsRegion": stream_arn.split(":")[3],
        "eventSourceARN": stream_arn,
    }


def size_in_event(data: bytes, partition_key: str | None) -> int:
    """The bytes that a record takes in the event, near enough to keep it under Lambda's limit."""
    return _AROUND + 4 * ((len(data) + 2) // 3) + 6 * len(partition_key or "")


def failure_document(
    discard: Discard, *, stream_arn: str, shard_id: str, function_arn: str, now: float
) -> dict[str, Any]:
    """What the on-failure destination gets. It has no data: the records have to be fetched while the stream holds them."""
    items = discard.items
    document: dict[str, Any] = {
        "requestContext": {
            "requestId": str(uuid.uuid4()),
            "functionArn": function_arn,
            "condition": discard.condition,
            "approximateInvokeCount": discard.invocations,
        },
        "version": "1.0",
        "timestamp": _time(now),
        "KinesisBatchInfo": {
            "shardId": shard_id,
            "startSequenceNumber": str(items[0].sequence_number),
            "endSequenceNumber": str(items[-1].sequence_number),
            "approximateArrivalOfFirstRecord": _time(items[0].arrived_at),
            "approximateArrivalOfLastRecord": _time(items[-1].arrived_at),
            "batchSize": len(items),
            "streamArn": stream_arn,
        },
    }
    if discard.condition == "RetryAttemptsExhausted":
        document["responseContext"] = {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    return document


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

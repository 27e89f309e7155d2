"""The events that Lambda sends, for a test that needs no mapping."""

from __future__ import annotations

import base64
import gzip
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_plus

import msgspec

from ..local.documents import kinesis_record

__all__ = ["kinesis_event", "logs_data", "logs_event", "s3_event", "sns_event", "window_event"]


def kinesis_event(
    payloads: Iterable[Any],
    *,
    partition_keys: Sequence[str | None] | None = None,
    shard_id: str = "shardId-000000000000",
    stream: str = "stream",
    start: int | str = 49590338271490256608559692538361571095921575989136588898,
) -> dict[str, Any]:
    """The event of ``payloads``, in order: bytes as they are, text in UTF-8, anything else as JSON.

    ``partition_keys`` has a key for each payload, None for a record without one; the default is ``key-0``, ``key-1``, ….
    Sequence numbers count from ``start``, arrival times from 2026-01-01, a millisecond apart.
    """
    contents = [_bytes(payload) for payload in payloads]
    keys = [f"key-{n}" for n in range(len(contents))] if partition_keys is None else partition_keys
    if len(keys) != len(contents):
        raise ValueError(f"{len(contents)} payloads take as many partition keys, not {len(keys)}")
    return {
        "Records": [
            kinesis_record(
                stream_arn=f"arn:aws:kinesis:us-east-1:000000000000:stream/{stream}",
                shard_id=shard_id,
                sequence_number=str(int(start) + n),
                data=data,
                partition_key=key,
                arrived_at=1_767_225_600 + n / 1000,
            )
            for n, (data, key) in enumerate(zip(contents, keys, strict=True))
        ]
    }


def window_event(
    event: Mapping[str, Any] | None = None,
    *,
    state: Any = None,
    start: datetime = datetime(2026, 1, 1, tzinfo=UTC),
    seconds: int = 60,
    shard_id: str = "shardId-000000000000",
    stream: str = "stream",
    is_final: bool = False,
    is_terminated_early: bool = False,
) -> dict[str, Any]:
    """``event`` as a call for a tumbling window has it: ``window_event(kinesis_event(payloads), state=answer["state"])``.

    ``state`` is what the last call for the window has answered, the default that of a new window. Without ``event`` the call
    has no records, as the one that ends a window may.
    """
    records = [] if event is None else list(event["Records"])
    if records:
        shard_id, arn = records[0]["eventID"].partition(":")[0], records[0]["eventSourceARN"]
    else:
        arn = f"arn:aws:kinesis:us-east-1:000000000000:stream/{stream}"
    edges = {"start": start, "end": start + timedelta(seconds=seconds)}
    return {
        "Records": records,
        "window": {edge: moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for edge, moment in edges.items()},
        "state": {} if state is None else state,
        "shardId": shard_id,
        "eventSourceARN": arn,
        "isFinalInvokeForWindow": is_final,
        "isWindowTerminatedEarly": is_terminated_early,
    }


def sns_event(payloads: Iterable[Any], *, topic: str = "topic") -> dict[str, Any]:
    """The event of ``payloads`` published to a topic: text as it is, anything else as JSON. SNS sends one to an event."""
    arn = f"arn:aws:sns:us-east-1:000000000000:{topic}"
    return {
        "Records": [
            {
                "EventSource": "aws:sns",
                "EventVersion": "1.0",
                "EventSubscriptionArn": f"{arn}:00000000-0000-0000-0000-000000000000",
                "Sns": {
                    "Type": "Notification",
                    "MessageId": f"message-{n}",
                    "TopicArn": arn,
                    "Subject": None,
                    "Message": _bytes(payload).decode(),
                    "Timestamp": "2026-01-01T00:00:00.000Z",
                    "MessageAttributes": {},
                },
            }
            for n, payload in enumerate(payloads)
        ]
    }


def logs_data(
    messages: Iterable[str],
    *,
    log_group: str = "/aws/lambda/orders",
    log_stream: str = "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef",
    start: int = 1_767_225_600_000,
    message_type: str = "DATA_MESSAGE",
    owner: str = "123456789012",
) -> bytes:
    """What a subscription filter of CloudWatch Logs puts into a record of a stream: these lines as JSON in gzip.

    Times are in milliseconds from ``start`` on, one apart; ids are made of the stream's name, the time and the place. ``owner``
    is the account that the log group is of.
    """
    stream = zlib.crc32(f"{log_group}:{log_stream}".encode())
    content = {
        "messageType": message_type,
        "owner": owner,
        "logGroup": log_group,
        "logStream": log_stream,
        "subscriptionFilters": ["streamkit-logs"],
        "logEvents": [
            {"id": f"{stream:020}{start + n:018}{n:018}", "timestamp": start + n, "message": message}
            for n, message in enumerate(messages)
        ],
    }
    return gzip.compress(_bytes(content), mtime=0)


def logs_event(messages: Iterable[str], **options: Any) -> dict[str, Any]:
    """The event of what a subscription filter delivers to a function itself; ``options`` are those of ``logs_data``."""
    return {"awslogs": {"data": base64.b64encode(logs_data(messages, **options)).decode()}}


def s3_event(
    keys: Iterable[str],
    *,
    bucket: str = "bucket",
    event_name: str = "ObjectCreated:Put",
    size: int = 1,
    etag: str | None = None,
    version_id: str | None = None,
) -> dict[str, Any]:
    """The event of what happened to the objects of these keys, given as they are. S3 sends one to an event.

    ``etag`` and ``version_id`` are those that an object has, for a test that reads it.
    """
    return {
        "Records": [
            {
                "eventVersion": "2.1",
                "eventSource": "aws:s3",
                "awsRegion": "us-east-1",
                "eventTime": "2026-01-01T00:00:00.000Z",
                "eventName": event_name,
                "userIdentity": {"principalId": "nobody"},
                "requestParameters": {"sourceIPAddress": "127.0.0.1"},
                "responseElements": {"x-amz-request-id": f"request-{n}", "x-amz-id-2": ""},
                "s3": {
                    "s3SchemaVersion": "1.0",
                    "configurationId": "objects",
                    "bucket": {
                        "name": bucket,
                        "ownerIdentity": {"principalId": "nobody"},
                        "arn": f"arn:aws:s3:::{bucket}",
                    },
                    "object": {
                        "key": quote_plus(key, safe="/"),
                        "size": size,
                        "sequencer": f"{n:016X}",
                        **({} if etag is None else {"eTag": etag.strip('"')}),
                        **({} if version_id is None else {"versionId": version_id}),
                    },
                },
            }
            for n, key in enumerate(keys)
        ]
    }


def _bytes(payload: Any) -> bytes:
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    return payload.encode() if isinstance(payload, str) else msgspec.json.encode(payload)

"""The event that Lambda sends, for a test that needs no mapping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from ..local.documents import kinesis_record

__all__ = ["kinesis_event", "window_event"]


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


def _bytes(payload: Any) -> bytes:
    if isinstance(payload, bytes | bytearray | memoryview):
        return bytes(payload)
    return payload.encode() if isinstance(payload, str) else msgspec.json.encode(payload)

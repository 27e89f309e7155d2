"""The two encodings of Kinesis's API: JSON 1.1, as boto3 has it, and CBOR, as the KCL and AWS's SDK for Java have it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["CBOR", "JSON", "Unreadable", "decode", "encode", "size_of"]

JSON = "application/x-amz-json-1.1"
CBOR = "application/x-amz-cbor-1.1"


class Unreadable(ValueError):
    """A body that is not what its type says, or a type that is not known."""


def decode(content_type: str, body: bytes) -> dict[str, Any]:
    """A request's or an answer's members. ``Data`` is base64 text in JSON and bytes in CBOR. Unreadable where it is neither."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == JSON:
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unreadable(f"the body is no JSON: {error}") from None
    elif kind == CBOR:
        try:
            import cbor2  # Few need it.
        except ImportError:
            raise Unreadable("to read CBOR this proxy needs cbor2: pip install cbor2") from None
        try:
            # Kinesis's times count milliseconds, where the tag's own meaning is seconds: they stay as they are.
            value = cbor2.loads(body, semantic_decoders={1: lambda value, _: cbor2.CBORTag(1, value)})
        except (cbor2.CBORError, ValueError, EOFError) as error:
            raise Unreadable(f"the body is no CBOR: {error}") from None
    else:
        raise Unreadable(f"this proxy reads {JSON} and {CBOR}; got {content_type!r}")
    if not isinstance(value, dict):
        raise Unreadable("the body is no object")
    return value


def encode(content_type: str, value: Mapping[str, Any]) -> bytes:
    """The same the other way; JSON for whatever is not CBOR."""
    if content_type.partition(";")[0].strip().lower() == CBOR:
        import cbor2

        encoded: bytes = cbor2.dumps(dict(value))
        return encoded
    return msgspec.json.encode(value)


def size_of(record: Mapping[str, Any]) -> int:
    """What a record counts for a limit: the bytes of its data and of its partition key."""
    data = record.get("Data") or b""
    size = len(data) if isinstance(data, bytes) else len(data) * 3 // 4 - data[-2:].count("=")
    return size + len((record.get("PartitionKey") or "").encode())

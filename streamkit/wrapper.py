"""The binary envelope: what an event is followed by, in front of data that has no place for it. ``wrap`` and ``unwrap`` are pure.

f5 73 6b 63    the mark: no text begins so, for UTF-8 knows no byte f5
01             the version
4 bytes        the length of the context, big-endian, 16,384 at most
the context    a JSON object in UTF-8
the data       all the rest
"""

from __future__ import annotations

__all__ = ["MARK", "MOST_CONTEXT", "OVERHEAD", "unwrap", "wrap"]

#: The mark, and the version that this is.
MARK = b"\xf5skc\x01"
#: Bytes in front of the context.
OVERHEAD = len(MARK) + 4
#: How long a context can be, in bytes.
MOST_CONTEXT = 16_384


def wrap(context: bytes, data: bytes) -> bytes:
    """``data`` behind ``context``, a JSON object. ValueError where the context is too long."""
    if len(context) > MOST_CONTEXT:
        raise ValueError(f"a context has {MOST_CONTEXT:,} bytes at most; this one has {len(context):,}")
    return b"".join((MARK, len(context).to_bytes(4, "big"), context, data))


def unwrap(data: bytes) -> tuple[bytes, bytes] | None:
    """The context and the data. None where ``data`` is in no envelope of this version, or in a damaged one: it is plain data."""
    if not data.startswith(MARK):
        return None
    length = int.from_bytes(data[len(MARK) : OVERHEAD], "big")
    end = OVERHEAD + length
    if len(data) < end or length > MOST_CONTEXT or data[OVERHEAD : OVERHEAD + 1] != b"{":
        return None
    return data[OVERHEAD:end], data[end:]

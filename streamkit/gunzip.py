"""What is in gzip, of several members too, with a limit: a few kilobytes can be gigabytes."""

from __future__ import annotations

import zlib

__all__ = ["GZIP", "DamagedGzip", "TooMuchInGzip", "gunzip"]

#: What gzip begins with.
GZIP = b"\x1f\x8b"
# wbits of zlib for gzip's own header and trailer.
_GZIP_ONLY = 31


class DamagedGzip(ValueError):
    """It is no gzip, or its checksum is wrong, or it ends early."""


class TooMuchInGzip(ValueError):
    """More is in it than may be."""


def gunzip(content: bytes, most_bytes: int) -> bytes:
    """What is in all members of ``content``, one after another. No more is unpacked than ``most_bytes``.

    Raises DamagedGzip and TooMuchInGzip.
    """
    parts: list[bytes] = []
    room = most_bytes
    while content:
        unpacker = zlib.decompressobj(wbits=_GZIP_ONLY)
        try:
            part = unpacker.decompress(content, room + 1)
        except zlib.error:
            raise DamagedGzip("it is gzip that is damaged") from None
        room -= len(part)
        if room < 0:
            raise TooMuchInGzip(f"it has more than {most_bytes:,} bytes in its gzip")
        if not unpacker.eof:
            raise DamagedGzip("it is gzip that ends early")
        parts.append(part)
        # Zeros behind the last member are padding.
        content = unpacker.unused_data.lstrip(b"\0")
    return b"".join(parts)

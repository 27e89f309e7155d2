"""What is in gzip, of several members too, with a limit: a few kilobytes can be gigabytes."""

from __future__ import annotations

import re
import zlib

__all__ = ["GZIP", "DamagedGzip", "TooMuchInGzip", "gunzip"]

#: What gzip begins with.
GZIP = b"\x1f\x8b"
# wbits of zlib for gzip's own header and trailer.
_GZIP_ONLY = 31
_FIRST_WINDOW, _LAST_WINDOW = 256, 1024 * 1024
_padding = re.compile(rb"\0*").match


class DamagedGzip(ValueError):
    """It is no gzip, or its checksum is wrong, or it ends early."""


class TooMuchInGzip(ValueError):
    """More is in it than may be."""


def gunzip(content: bytes, most_bytes: int) -> bytes:
    """What is in all members of ``content``, one after another. No more is unpacked than ``most_bytes``, and the work is in
    proportion to what goes in and comes out, however many members there are.

    Raises DamagedGzip and TooMuchInGzip.
    """
    view = memoryview(content)
    parts: list[bytes] = []
    room, place = most_bytes, 0
    while place < len(view):
        unpacker = zlib.decompressobj(wbits=_GZIP_ONLY)
        # zlib copies what is left of its input at the end of each member: of small ones, that has to be little.
        window = _FIRST_WINDOW
        while not unpacker.eof:
            piece = view[place : place + window]
            if not piece:
                raise DamagedGzip("it is gzip that ends early")
            try:
                part = unpacker.decompress(piece, room + 1)
            except zlib.error:
                raise DamagedGzip("it is gzip that is damaged") from None
            room -= len(part)
            if room < 0:
                raise TooMuchInGzip(f"it has more than {most_bytes:,} bytes in its gzip")
            parts.append(part)
            place += len(piece) - len(unpacker.unused_data)
            window = min(window * 2, _LAST_WINDOW)
        # Zeros behind the last member are padding.
        place = _padding(content, place).end()  # type: ignore[union-attr]  # It matches nothing at all, too.
    return b"".join(parts)

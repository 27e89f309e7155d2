"""Base64 text of records, decoded the way that is cheapest for a process with one thread, or with several.

pybase64 is the quickest, but it releases the interpreter's lock at every call. To a thread alone that is next to nothing. Where
others wait for the lock, each call hands it over, and getting it back costs many times what the decoding does. msgspec
keeps it.
"""

from __future__ import annotations

import msgspec
import pybase64

__all__ = ["decode", "keep_lock"]

_b64decode = pybase64.b64decode
# Above it msgspec, at some 0.5 ns a byte, takes longer than handing the lock over does.
_SHORT = 8 * 1024

_keeps_lock = False


def keep_lock() -> None:
    """From now on, decode what is short without releasing the interpreter's lock. Only the speed changes."""
    global _keeps_lock  # A fact of the process, as its threads are.
    _keeps_lock = True


def decode(text: str) -> bytes:
    """The bytes that ``text`` stands for. ValueError where it is not base64: padded, and of its 64 characters only (RFC 4648)."""
    if _keeps_lock and len(text) < _SHORT:
        try:
            return msgspec.convert(text, bytes)
        except (msgspec.ValidationError, UnicodeEncodeError):
            pass  # The error is pybase64's, as ever.
    return _b64decode(text, None, True)

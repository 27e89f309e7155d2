"""The body of an HTTP answer, read within a time: urllib3's time-out is of each packet, and an answer can come in thousands."""

from __future__ import annotations

import time
from typing import Any

__all__ = ["read_by"]

_LARGEST_PIECE = 65_536
# Seconds. What a packet is waited for at least: none is no time-out to a socket.
_LEAST_WAIT = 0.01


def read_by(response: Any, until: float) -> bytes:
    """The body of urllib3's ``response``, which was asked for without ``preload_content``.

    TimeoutError, and its connection is closed, where not all of it is there by ``until``, on ``time.monotonic()``'s clock; else
    what urllib3 raises. Before its version 2 urllib3 reads nothing in pieces as they come, and the time is of each packet.
    """
    if not hasattr(response, "read1"):
        return response.data  # type: ignore[no-any-return]
    pieces = []
    while piece := response.read1(_LARGEST_PIECE):
        pieces.append(piece)
        if response.length_remaining == 0:
            continue
        left = until - time.monotonic()
        if left <= 0:
            response.close()
            raise TimeoutError(f"the time was up after {sum(map(len, pieces)):,} bytes of the answer")
        sock = getattr(response.connection, "sock", None)
        if sock is not None:
            sock.settimeout(max(left, _LEAST_WAIT))
    return b"".join(pieces)

"""The order of what is written for one document, where CloudSearch does not keep it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from .base import Write

__all__ = ["OneSecond", "in_turn"]

# "Understanding Amazon CloudSearch Limits": the order of what is received in the same second is not guaranteed.
_SECOND = 1.0


class OneSecond:
    """When each id was last sent, as long as that is less than a second ago: another operation on it has to wait till then.

    The clock runs from the end of the request, so that the two are in different seconds by the service's clock too. Holds ids
    and hashes of what was sent in the last second, and no documents.
    """

    def __init__(self) -> None:
        self._sent: dict[str, tuple[float, int]] = {}

    def sent(self, batch: Iterable[Write]) -> None:
        """The request with these has ended, and the service may have taken them."""
        now = time.monotonic()
        self._sent = {doc_id: sent for doc_id, sent in self._sent.items() if now - sent[0] < _SECOND}
        for write in batch:
            self._sent[write.payload.id] = now, hash(write.payload.operation)

    def wait(self, batch: Iterable[Write]) -> float:
        """Seconds until the batch may be sent. The same operation again does not wait: no order can be wrong."""
        last = max(
            (
                sent[0]
                for write in batch
                if (sent := self._sent.get(write.payload.id)) and sent[1] != hash(write.payload.operation)
            ),
            default=float("-inf"),
        )
        return max(0.0, last + _SECOND - time.monotonic())


def in_turn(writes: Sequence[Write]) -> dict[str, list[Write]]:
    """Each id's writes; the last of a list is what should stand in the end.

    That is the last one made, or the one with the highest version. A removal without a version takes the place that it has:
    after all that came before it, and before what is newer than those.
    """
    of_id: dict[str, list[Write]] = {}
    for write in writes:
        of_id.setdefault(write.payload.id, []).append(write)
    for same in of_id.values():
        if len(same) > 1 and any(write.payload.version is not None for write in same):
            newest, place = -1, {}
            for write in same:
                version = write.payload.version
                newest = newest if version is None else max(newest, version)
                place[id(write)] = newest if version is None else version
            same.sort(key=lambda write: place[id(write)])
    return of_id

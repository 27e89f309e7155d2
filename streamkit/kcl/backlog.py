"""The records that this process has and that are not settled yet, in order, and how far everything before them is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice

from .protocol import Position, ProtocolError, Received

__all__ = ["Backlog"]

# Lambda's own limits of a batch: records, and bytes of the event.
_MOST_RECORDS = 10_000
_MOST_BYTES = 6_000_000
# What an event's JSON has around a record's data, about.
_AROUND = 500


class Backlog:
    """A queue whose head is the lowest unsettled record of the shard."""

    def __init__(self) -> None:
        self._records: deque[Received] = deque()
        self._last: Position | None = None
        #: The last position below which, and at which, everything is settled; None while that is where the lease stood.
        self.settled: Position | None = None
        #: Of the records that wait, as they came: in base64.
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def add(self, records: Iterable[Received]) -> None:
        """ProtocolError where they don't come in order: then this process and the daemon don't mean the same position."""
        for record in records:
            position = record.position
            if self._last is not None and position <= self._last:
                raise ProtocolError(
                    f"record {_text(position)} came after record {_text(self._last)}: the daemon begins again at its checkpoint"
                )
            self._last = position
            self._records.append(record)
            self.bytes += _size(record)

    def batch(self) -> list[Received]:
        """The first records, as many as an event of Lambda's holds; one at least, where there is one, and never the first of an
        aggregate without its second.
        """
        chosen: list[Received] = []
        size = 0
        for record in islice(self._records, _MOST_RECORDS + 1):
            size += _size(record) + _AROUND
            if chosen and (size > _MOST_BYTES or len(chosen) == _MOST_RECORDS):
                if _begins_before(chosen[-1], record):
                    # Alone at the end of the event it would look like a record that is no aggregate's. Where it is alone with a
                    # large one the event is too large, as that of a large record is in any case.
                    if len(chosen) > 1:
                        chosen.pop()
                    else:
                        chosen.append(record)
                break
            chosen.append(record)
        return chosen

    def settle(self, count: int) -> None:
        """The first ``count`` records are settled, and nobody needs them here any more."""
        for _ in range(count):
            record = self._records.popleft()
            self.bytes -= _size(record)
            self.settled = record.position

    def drop(self) -> None:
        """Forget all that waits: it is another worker's."""
        self._records.clear()
        self.bytes = 0


def _size(record: Received) -> int:
    return len(record.data or "")


def _begins_before(first: Received, second: Received) -> bool:
    """Whether they are the first two of one aggregate."""
    return first.position.sub_sequence_number == 0 and first.sequence_number == second.sequence_number


def _text(position: Position) -> str:
    return f"{position.sequence_number}:{position.sub_sequence_number}"

"""Puts numbered events into a stream, and knows where each has come to be."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from streamkit.kpl import UserRecord, aggregate

__all__ = ["KEYS", "Published", "Publisher", "put"]

# Not all of them ASCII: the daemon writes them in the charset of its Java.
KEYS = [f"ключ-{n}" for n in range(24)]
_AGGREGATED = 3


class Published(NamedTuple):
    key: str
    n: int
    shard: str
    sequence_number: int
    sub: int

    @property
    def position(self) -> tuple[int, int]:
        return self.sequence_number, self.sub


def put(kinesis: Any, stream: str, key: str, events: Sequence[dict[str, Any]]) -> list[Published]:
    """One record of ``events``, an aggregate where there are several, and where they are."""
    contents = [json.dumps(event).encode() for event in events]
    data = contents[0] if len(events) == 1 else aggregate([UserRecord(content, key) for content in contents])
    answer = kinesis.put_record(StreamName=stream, PartitionKey=key, Data=data)
    number = int(answer["SequenceNumber"])
    return [Published(key, event["n"], answer["ShardId"], number, sub) for sub, event in enumerate(events)]


class Publisher(threading.Thread):
    """Counts up in each key, by turns in a record and in an aggregate, until it is told to stop."""

    def __init__(self, kinesis: Any, stream: str) -> None:
        super().__init__(name="publisher")
        self._kinesis, self._stream = kinesis, stream
        self._stopping = threading.Event()
        self.published: list[Published] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            n = 0
            while not self._stopping.wait(0.1):
                events = [{"n": n}] if n % (_AGGREGATED + 1) == 0 else [{"n": n + i} for i in range(_AGGREGATED)]
                for key in KEYS:
                    self.published += put(self._kinesis, self._stream, key, events)
                n += len(events)
        except Exception as error:
            self.error = error

    def stop(self) -> list[Published]:
        """All that was published."""
        self._stopping.set()
        self.join()
        if self.error is not None:
            raise self.error
        return self.published

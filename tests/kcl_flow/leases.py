"""The lease table as it is, and as it was seen to be."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from .publisher import Published

__all__ = ["Lease", "Try", "Watcher", "leader", "leases", "passed_over", "tries"]

# A checkpoint that is a word is below every record, but for the end, which is above.
_ABOVE_ALL = 10**200


class Lease(NamedTuple):
    owner: str | None
    checkpoint: tuple[int, int]


class Try(NamedTuple):
    """A line of the journal."""

    worker: str
    pid: int
    at: float
    event_id: str
    key: str
    n: int
    fails: bool

    @property
    def position(self) -> tuple[int, int]:
        _, number, sub = self.event_id.rsplit(":", 2)
        return int(number), int(sub)


def tries(journal: Path) -> list[Try]:
    """All tries so far, in the order of the journal."""
    lines = journal.read_bytes().splitlines() if journal.exists() else []
    return [Try(**msgspec.json.decode(line)) for line in lines]


def leases(dynamodb: Any, application: str) -> dict[str, Lease]:
    """Each shard's lease; none while there is no table."""
    try:
        items = dynamodb.scan(TableName=application, ConsistentRead=True)["Items"]
    except dynamodb.exceptions.ResourceNotFoundException:
        return {}
    return {item["leaseKey"]["S"]: _lease(item) for item in items}


def _lease(item: dict[str, Any]) -> Lease:
    number = item["checkpoint"]["S"]
    if number.isdigit():
        checkpoint = (int(number), int(item["checkpointSubSequenceNumber"]["N"]))
    else:
        checkpoint = (_ABOVE_ALL, 0) if number == "SHARD_END" else (-1, 0)
    return Lease(item["leaseOwner"]["S"] if "leaseOwner" in item else None, checkpoint)


def leader(dynamodb: Any, application: str) -> str:
    """The worker that assigns the leases."""
    key = {"key": {"S": "Leader"}}
    item = dynamodb.get_item(TableName=f"{application}-CoordinatorState", Key=key, ConsistentRead=True)["Item"]
    owner: str = item["ownerName"]["S"]
    return owner


class Watcher(threading.Thread):
    """Looks at the lease table all the time, and how long the journal is after each look."""

    def __init__(self, dynamodb: Any, application: str, journal: Path) -> None:
        super().__init__(name="watcher")
        self._dynamodb, self._application, self._journal = dynamodb, application, journal
        self._stopping = threading.Event()
        self.seen: list[tuple[dict[str, Lease], int]] = []
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self._stopping.wait(0.1):
                seen = leases(self._dynamodb, self._application)
                self.seen.append((seen, len(tries(self._journal))))
        except Exception as error:
            self.error = error

    def stop(self) -> list[tuple[dict[str, Lease], int]]:
        self._stopping.set()
        self.join()
        if self.error is not None:
            raise self.error
        return self.seen

    def owners(self) -> Counter[str]:
        """How many shards each worker has, by the last look."""
        return Counter(lease.owner for lease in self.seen[-1][0].values() if lease.owner) if self.seen else Counter()


def passed_over(
    seen: Sequence[tuple[dict[str, Lease], int]], published: Sequence[Published], made: Sequence[Try]
) -> list[Published]:
    """The records that some checkpoint was at or above before their try that went well was in the journal."""
    done_at: dict[str, dict[tuple[int, int], int]] = {}
    for index, one in enumerate(made):
        if not one.fails:
            shard = one.event_id.split("/")[1].split(":")[0]
            done_at.setdefault(shard, {}).setdefault(one.position, index)
    found = []
    for record in published:
        done = done_at.get(record.shard, {}).get(record.position)
        for by_shard, lines in seen:
            lease = by_shard.get(record.shard)
            if lease is not None and lease.checkpoint >= record.position and (done is None or done >= lines):
                found.append(record)
                break
    return found

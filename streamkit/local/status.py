"""How far a reader has come in a shard: what a view of it shows."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["ShardState", "ShardStatus"]

ShardState = Literal["waiting", "reading", "blocked", "ended", "lost", "stopped"]


class ShardStatus(msgspec.Struct):
    """What a shard's reader has done since it started; it updates this while others look.

    ``blocked`` is a shard whose batch has failed and is to be tried again, ``lost`` one that another runner has taken.
    """

    shard_id: str
    state: ShardState = "waiting"
    #: Delivered, each delivery of a record counted.
    records: int = 0
    #: Deliveries of a record after its first.
    redelivered: int = 0
    #: Invocations; those that failed or named a failure; those that delivered again.
    batches: int = 0
    failures: int = 0
    retries: int = 0
    #: Records given up.
    discarded: int = 0
    #: The last sequence number passed.
    checkpoint: int | None = None
    #: Seconds that the last read was behind the newest record; 0 when all was read.
    behind: float = 0.0
    #: When the oldest record arrived that was read and is not settled, in seconds since the epoch; None when there is none.
    oldest_arrival: float | None = None
    #: Records that wait for their first delivery.
    backlog: int = 0
    #: Batches that were handed to the function and not answered yet, or wait for their turn in its container; their records.
    in_flight: int = 0
    in_flight_records: int = 0
    #: Since when the oldest of them is, in seconds since the epoch; None when there is none.
    in_flight_since: float | None = None
    #: Reads that were throttled; those that failed for another reason that passes: no connection, a time-out, an outage.
    throttles: int = 0
    read_errors: int = 0

    def age(self, now: float) -> float:
        """Seconds between ``now`` and the arrival of the oldest record that is not settled; 0 when all is."""
        unsettled = 0.0 if self.oldest_arrival is None else now - self.oldest_arrival
        return max(unsettled, self.behind, 0.0)

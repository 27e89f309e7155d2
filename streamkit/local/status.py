"""What a reader has come to in one shard, for whoever watches it."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["ShardState", "ShardStatus"]

#: ``"blocked"``: a batch has failed, and is tried again or waits for it. ``"lost"``: another reader has taken the shard.
ShardState = Literal["waiting", "reading", "blocked", "ended", "lost", "stopped"]


class ShardStatus(msgspec.Struct):
    """One shard since the reader started. The shard's thread writes it; anybody may read it at any time.

    ``redelivered`` counts deliveries of a record after its first; ``failures`` and ``retries`` count batches, ``throttles``
    reads.
    """

    shard_id: str
    state: ShardState = "waiting"
    records: int = 0
    redelivered: int = 0
    batches: int = 0
    failures: int = 0
    retries: int = 0
    discarded: int = 0
    checkpoint: int | None = None
    #: Seconds between now and the newest record that was not read yet, as the last read told; 0 when caught up.
    behind: float = 0.0
    #: Records that were read and wait for their first delivery.
    backlog: int = 0
    throttles: int = 0

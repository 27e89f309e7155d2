"""Which shard takes which key: the map that a producer predicts by."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ..errors import ConfigurationError

__all__ = ["HASH_KEYS", "Shard", "ShardMap", "hash_of", "spread_hash_keys"]

HASH_KEYS = 2**128
"""Hash keys are whole numbers from 0 up to this, which is none (Kinesis, PutRecord: ExplicitHashKey)."""


def hash_of(partition_key: str, explicit_hash_key: str | None = None) -> int:
    """Where a record lies among the hash keys: at its explicit one, or else at the MD5 of its partition key."""
    if explicit_hash_key is not None:
        return int(explicit_hash_key)
    from hashlib import md5

    return int.from_bytes(md5(partition_key.encode(), usedforsecurity=False).digest())


class Shard(msgspec.Struct, frozen=True):
    """A shard and the hash keys that it takes, from ``first`` to ``last``, both included."""

    shard_id: str
    first: int
    last: int
    is_open: bool = True

    def covers(self, hash_key: int) -> bool:
        return self.first <= hash_key <= self.last


class ShardMap:
    """A stream's shards as ListShards tells them: the open ones, which take records, and those that are closed."""

    def __init__(self, shards: Iterable[Shard]) -> None:
        self._shards = {shard.shard_id: shard for shard in shards}
        self.open = sorted((shard for shard in self._shards.values() if shard.is_open), key=lambda shard: shard.first)
        self._firsts = [shard.first for shard in self.open]

    @classmethod
    def of_answer(cls, shards: Iterable[Mapping[str, Any]]) -> ShardMap:
        """The map of all ``Shards`` in the answers of ListShards."""
        return cls(
            Shard(
                shard["ShardId"],
                int(shard["HashKeyRange"]["StartingHashKey"]),
                int(shard["HashKeyRange"]["EndingHashKey"]),
                is_open="EndingSequenceNumber" not in shard["SequenceNumberRange"],
            )
            for shard in shards
        )

    def is_whole(self) -> bool:
        """Whether each hash key has exactly one open shard: in the middle of a split or a merge a list may not have it so."""
        after = [shard.last + 1 for shard in self.open]
        return bool(self.open) and [0, *after] == [*self._firsts, HASH_KEYS]

    def has_same_open_shards(self, other: ShardMap) -> bool:
        return self.open == other.open

    def index_of(self, hash_key: int) -> int:
        """Which of ``open`` takes ``hash_key``."""
        return bisect_right(self._firsts, hash_key) - 1

    def get(self, shard_id: str) -> Shard | None:
        """The shard of this name, open or closed; None where the list had none such."""
        return self._shards.get(shard_id)


def spread_hash_keys(partition_key: str, ways: int) -> list[str]:
    """``ways`` explicit hash keys for one partition key, the first its own, evenly round the ring of hash keys."""
    if ways < 1:
        raise ConfigurationError(f"spread={ways!r}: over how many shards? 1 or more")
    base = hash_of(partition_key)
    return [str((base + way * HASH_KEYS // ways) % HASH_KEYS) for way in range(ways)]

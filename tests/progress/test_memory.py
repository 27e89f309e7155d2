from __future__ import annotations

from streamkit.progress.memory import MemoryProgress

SHARD = "stream/shardId-000000000000"


class TestMemoryProgress:
    def test_is_bounded_and_keeps_the_highest_numbers(self) -> None:
        store = MemoryProgress()

        for number in range(1000):
            store.save("orders", SHARD, number, b"entry", deadline=0.0)

        assert store.entries("orders", SHARD, 899, deadline=0.0) == []
        assert len(store.entries("orders", SHARD, 999, deadline=0.0)) == store.most_entries

"""Splits and merges in ``EventSourceMapping``: parents before children, at any time."""

from __future__ import annotations

import random
from typing import Any

import pybase64
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.testing import EventSourceMapping

REPORTS = ["ReportBatchItemFailures"]


def texts(event: dict[str, Any]) -> list[str]:
    return [pybase64.b64decode(record["kinesis"]["data"]).decode() for record in event["Records"]]


def delivered(mapping: EventSourceMapping) -> list[str]:
    return [text for event, _ in mapping.invocations for text in texts(event)]


class TestResharding:
    def test_children_are_delivered_after_all_of_their_parent(self) -> None:
        failures = [ValueError("no")] * 3

        def function(event: Any, context: Any) -> None:
            if failures:
                raise failures.pop()

        mapping = EventSourceMapping(function, enabled=False, function_response_types=REPORTS)
        mapping.put(b"parent", "a")
        left, right = mapping.split_shard(0)
        mapping.put(b"left", "a", shard=left)
        mapping.put(b"right", "b", shard=right)
        mapping.enable()
        mapping.run_until_idle()

        assert delivered(mapping) == ["parent"] * 4 + ["left", "right"]
        assert mapping.shard_ids == [f"shardId-{n:012}" for n in range(3)]
        assert set(mapping.checkpoints) == set(mapping.shard_ids)

    def test_the_child_of_a_merge_waits_for_both_parents(self) -> None:
        mapping = EventSourceMapping(lambda event, context: None, enabled=False, shards=2)
        mapping.put(b"left", "a", shard=0)
        mapping.put(b"right", "b", shard=1)
        child = mapping.merge_shards(0, 1)
        mapping.put(b"child", "a", shard=child)
        mapping.enable()
        mapping.run_until_idle()

        assert delivered(mapping)[-1] == "child"

    def test_a_closed_shard_takes_no_more_and_says_where_its_records_go(self) -> None:
        mapping = EventSourceMapping(lambda event, context: None)
        mapping.split_shard(0)

        with pytest.raises(
            ValueError, match="closed; its records now go to shardId-000000000001 and shardId-000000000002"
        ):
            mapping.put(b"late", "a")

    def test_a_shard_is_not_merged_with_itself(self) -> None:
        mapping = EventSourceMapping(lambda event, context: None)

        with pytest.raises(ValueError, match="not with itself"):
            mapping.merge_shards(0, 0)

    def test_from_latest_a_child_begins_at_its_first_record(self) -> None:
        mapping = EventSourceMapping(lambda event, context: None, starting_position="LATEST", enabled=False)
        mapping.put(b"before", "a")
        mapping.enable()
        child, _ = mapping.split_shard(0)
        mapping.put(b"after", "a", shard=child)
        mapping.run_until_idle()

        assert delivered(mapping) == ["after"]


@given(
    steps=st.lists(st.sampled_from(["put", "put", "put", "split", "merge", "advance"]), max_size=30),
    choices=st.builds(random.Random, st.integers(0, 2**32)),
    factor=st.integers(1, 3),
)
def test_whenever_it_is_resharded_every_record_comes_once_its_ancestors_are_done(
    steps: list[str], choices: Any, factor: int
) -> None:
    done: set[str] = set()
    before: dict[str, set[str]] = {}

    def function(event: Any, context: Any) -> None:
        if choices.random() < 0.3:
            raise ValueError("no")
        for text in texts(event):
            assert before[text] <= done, f"{text} came before {before[text] - done}"
        done.update(texts(event))

    mapping = EventSourceMapping(function, batch_size=2, parallelization_factor=factor)
    # Of each open shard, the records of its ancestors.
    open_shards: dict[int, set[str]] = {0: set()}
    held: dict[int, set[str]] = {0: set()}
    for n, step in enumerate(steps):
        shard = choices.choice(sorted(open_shards))
        if step == "put":
            before[f"{n}"] = set(open_shards[shard])
            held[shard].add(f"{n}")
            mapping.put(f"{n}".encode(), choices.choice("abc"), shard=shard)
        elif step == "split":
            ancestors = open_shards.pop(shard) | held[shard]
            for child in mapping.split_shard(shard):
                open_shards[child], held[child] = ancestors, set()
        elif step == "merge" and len(open_shards) > 1:
            other = choices.choice(sorted(open_shards.keys() - {shard}))
            ancestors = open_shards.pop(shard) | held[shard] | open_shards.pop(other) | held[other]
            child = mapping.merge_shards(shard, other)
            open_shards[child], held[child] = ancestors, set()
        else:
            mapping.advance(1)
    mapping.run_until_idle()

    assert done == before.keys()

"""Parallel lanes of one shard: order per key, several invocations at once, one checkpoint."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streamkit.local.mapping import Idle, Invoke, Item, ShardMapping, lane_of
from streamkit.local.settings import Settings

NOW = 1000.0


def mapping(lanes: int, **settings: Any) -> ShardMapping:
    return ShardMapping(
        Settings(
            **{
                "parallelization_factor": lanes,
                "function_response_types": ["ReportBatchItemFailures"],
                "backoff_in_seconds": 1,
                **settings,
            }
        )
    )


def item(number: int, lane: int, *, wanted: bool = True, arrived_at: float = NOW) -> Item:
    return Item(number, arrived_at, 100, None, lane, wanted)


def numbers(action: object) -> list[int]:
    assert isinstance(action, Invoke)
    return [item.sequence_number for item in action.items]


class TestLanes:
    def test_each_has_a_batch_of_its_own_in_flight(self) -> None:
        shard = mapping(2)
        shard.add([item(1, 0), item(2, 1), item(3, 0)], NOW)

        first, second = shard.next(NOW), shard.next(NOW)

        assert numbers(first) == [1, 3]
        assert numbers(second) == [2]
        assert isinstance(shard.next(NOW), Idle)

    def test_take_turns_where_one_invocation_runs_at_a_time(self) -> None:
        shard = mapping(3, batch_size=1)
        shard.add([item(number, number % 3) for number in range(9)], NOW)
        order: list[int] = []
        while isinstance(action := shard.next(NOW), Invoke):
            order.append(action.lane)
            shard.answered(None, NOW, action.lane)

        assert order == [0, 1, 2] * 3

    def test_the_checkpoint_is_the_lowest_of_them(self) -> None:
        shard = mapping(2, batch_size=1)
        shard.add([item(1, 0), item(2, 1), item(3, 0), item(4, 1)], NOW)
        shard.next(NOW), shard.next(NOW)

        shard.answered(None, NOW, lane=1)
        assert shard.checkpoint is None

        shard.answered(None, NOW, lane=0)
        assert shard.checkpoint == 2

    def test_a_lane_that_fails_holds_no_other_lane(self) -> None:
        shard = mapping(2)
        shard.add([item(1, 0), item(2, 1)], NOW)
        shard.next(NOW), shard.next(NOW)
        shard.failed(NOW, lane=0)
        shard.answered(None, NOW, lane=1)
        shard.add([item(3, 1), item(4, 0)], NOW)

        assert numbers(shard.next(NOW)) == [3]
        shard.answered(None, NOW, lane=1)
        assert shard.checkpoint is None
        assert numbers(shard.next(NOW + 1)) == [1]

    def test_records_that_no_filter_wants_are_passed_and_hold_nothing(self) -> None:
        shard = mapping(2)

        shard.add([item(1, 0, wanted=False), item(2, 1, wanted=False), item(3, 1)], NOW)
        assert shard.checkpoint == 2

        assert numbers(shard.next(NOW)) == [3]
        shard.add([item(4, 0, wanted=False)], NOW)
        assert shard.checkpoint == 2
        shard.answered(None, NOW, lane=1)
        assert shard.checkpoint == 4

    def test_a_closed_shard_is_over_when_every_lane_has_come_through(self) -> None:
        shard = mapping(2)
        shard.add([item(1, 0), item(2, 1)], NOW)
        shard.end()
        shard.next(NOW), shard.next(NOW)
        shard.answered(None, NOW, lane=0)
        assert not shard.is_over

        shard.answered(None, NOW, lane=1)

        assert shard.is_over


class TestLaneOfARecord:
    @given(st.text(), st.integers(1, 10), st.integers(), st.integers())
    def test_is_that_of_its_key_alone(self, key: str, lanes: int, one: int, other: int) -> None:
        assert lane_of(key, one, lanes) == lane_of(key, other, lanes) < lanes

    def test_keys_are_spread_over_all_lanes(self) -> None:
        counts: defaultdict[int, int] = defaultdict(int)
        for number in range(1000):
            counts[lane_of(f"key-{number}", number, 10)] += 1

        assert len(counts) == 10
        assert min(counts.values()) > 50

    def test_records_without_a_key_are_spread_too(self) -> None:
        assert {lane_of(None, number, 10) for number in range(100)} == set(range(10))


@given(
    lanes=st.integers(1, 4),
    bisect=st.booleans(),
    batch_size=st.integers(1, 5),
    records=st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=25),
    choices=st.builds(random.Random, st.integers(0, 2**32)),
)
def test_whatever_fails_every_record_of_a_key_comes_in_order_and_the_checkpoint_never_passes_one_that_is_not_done(
    lanes: int, bisect: bool, batch_size: int, records: list[tuple[str, bool]], choices: Any
) -> None:
    shard = mapping(lanes, batch_size=batch_size, bisect_batch_on_function_error=bisect)
    items, key_of = [], {}
    for number, (key, wanted) in enumerate(records, 1):
        key_of[number] = key
        items.append(item(number, lane_of(key, number, lanes), wanted=wanted))
    wanted_numbers = [item.sequence_number for item in items if item.is_wanted]
    done: set[int] = set()
    started_by_key: defaultdict[str, list[int]] = defaultdict(list)
    flying: list[Invoke] = []
    now = NOW
    for step in range(2000):
        # In the end all goes well, whatever the choices: some of them always fail.
        goes_well = step >= 1000
        if items and (goes_well or choices.random() < 0.5):
            count = choices.randint(1, 5)
            shard.add(items[:count], now)
            del items[:count]
        action = shard.next(now)
        if isinstance(action, Invoke):
            assert action.lane not in {other.lane for other in flying}
            for number in numbers(action):
                assert number not in done, "delivered again though it was passed"
                started_by_key[key_of[number]].append(number)
            flying.append(action)
        elif flying:
            call = flying.pop(choices.randrange(len(flying)))
            mine = numbers(call)
            how = 1.0 if goes_well else choices.random()
            if how < 0.2:
                shard.failed(now, call.lane)
            elif how < 0.3:
                shard.throttled(now, call.lane)
            elif how < 0.6:
                failed = choices.choice(mine)
                done |= {number for number in mine if number < failed}
                shard.answered({"batchItemFailures": [{"itemIdentifier": str(failed)}]}, now, call.lane)
            else:
                done |= set(mine)
                shard.answered(None, now, call.lane)
        elif not items and done == set(wanted_numbers):
            break
        else:
            now += 1
        passed = shard.checkpoint or 0
        assert all(number in done for number in wanted_numbers if number <= passed)
    assert done == set(wanted_numbers)
    assert shard.checkpoint == (len(records) or None)
    for key, started in started_by_key.items():
        first_times = list(dict.fromkeys(started))
        assert first_times == sorted(first_times), f"{key} ran {started}"

"""The limits of a shard, on a clock of the test's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits_buckets import CallLimit, ReadLimit, WriteLimit

MIB = 1024 * 1024
STEPS = st.lists(st.floats(0, 2, allow_nan=False), min_size=1, max_size=60)


class TestReads:
    def test_five_go_in_a_second_and_the_sixth_a_second_after_the_first(self) -> None:
        limit = ReadLimit()

        assert [limit.take(0.1 * n) for n in range(6)] == [True] * 5 + [False]
        assert not limit.take(0.99)
        assert limit.take(1.0)
        assert not limit.take(1.05)

    def test_one_that_was_refused_does_not_count(self) -> None:
        limit = ReadLimit()
        for _ in range(5):
            limit.take(0)
        for n in range(100):
            assert not limit.take(n / 101)

        assert [limit.take(1) for _ in range(6)] == [True] * 5 + [False]

    def test_10_mib_close_the_shard_for_five_seconds(self) -> None:
        limit = ReadLimit()
        assert limit.take(100)
        limit.brought(100, 10 * MIB)

        assert not limit.take(100)
        assert not limit.take(104.99)
        assert limit.take(105)

    def test_2_mib_a_second_go_on_for_ever(self) -> None:
        limit = ReadLimit()
        for n in range(500):
            assert limit.take(n / 4)
            limit.brought(n / 4, MIB // 2)

    def test_readers_together_get_no_more_than_one_alone(self) -> None:
        limit, brought = ReadLimit(), 0
        for tenth in range(1000):
            for _ in range(3):
                if limit.take(tenth / 10):
                    limit.brought(tenth / 10, MIB)
                    brought += MIB

        assert 0.8 * 200 * MIB < brought <= (200 + 2 + 1) * MIB

    @given(STEPS)
    def test_no_second_has_more_than_five(self, steps: list[float]) -> None:
        limit, now, taken = ReadLimit(), 0.0, []
        for step in steps:
            now += step / 5
            if limit.take(now):
                taken.append(now)

        assert all(later - earlier >= 1 for earlier, later in zip(taken, taken[5:], strict=False))


class TestWrites:
    def test_a_thousand_records_a_second(self) -> None:
        limit = WriteLimit()

        assert sum(limit.take(0, 10) for _ in range(1500)) == 1000
        assert sum(limit.take(0.25, 10) for _ in range(1500)) == 250

    def test_a_mebibyte_a_second_and_a_smaller_one_may_still_fit(self) -> None:
        limit = WriteLimit()
        assert limit.take(0, 3 * MIB // 4)

        assert not limit.take(0, MIB // 2)
        assert limit.take(0, MIB // 4)
        assert not limit.take(0, 1)
        assert limit.take(0.5, MIB // 2)

    def test_nothing_is_saved_up_for_longer_than_a_second(self) -> None:
        limit = WriteLimit()
        limit.take(0, 10)

        assert sum(limit.take(3600, 10) for _ in range(3000)) == 1000

    def test_a_large_record_goes_when_the_shard_has_rested_and_is_made_up_for(self) -> None:
        limit = WriteLimit()
        assert limit.take(0, 10 * MIB)

        assert not limit.take(8.9, 1)
        assert limit.take(9.5, MIB // 2)
        assert not limit.take(9.5, 10 * MIB)
        assert not limit.take(10.4, 10 * MIB)
        assert limit.take(10.5, 10 * MIB)

    def test_what_came_unasked_counts_too(self) -> None:
        limit = WriteLimit()
        limit.charge(0, 2 * MIB)

        assert not limit.take(0.9, 1)
        assert limit.take(1.5, 1)

    @given(STEPS, st.integers(1, 2 * MIB))
    def test_a_long_run_has_no_more_than_its_seconds_and_one(self, steps: list[float], size: int) -> None:
        limit, now, taken = WriteLimit(), 0.0, 0
        for step in steps:
            now += step
            taken += sum(limit.take(now, size) for _ in range(3))

        assert taken * size <= (now + 1) * MIB + size


@pytest.mark.parametrize("most", [1, 20])
def test_calls_of_an_account(most: int) -> None:
    limit = CallLimit(most)

    assert [limit.take(0) for _ in range(most + 1)] == [True] * most + [False]
    assert [limit.take(1) for _ in range(most + 1)] == [True] * most + [False]

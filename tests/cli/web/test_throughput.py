"""A shard's throughput from a short look."""

from __future__ import annotations

import pytest

from streamkit.cli.web.throughput import Arrival, next_limit, rate_of, rest_after


def test_of_all_that_arrived_in_a_window_the_rate_is_their_number_by_its_length() -> None:
    arrivals = [Arrival(100.0 + n, 50) for n in range(10)]

    rate = rate_of(arrivals, 100.0, 110.0, is_whole=True)

    assert (rate.records, rate.bytes, rate.is_estimate) == (1.0, 50.0, False)


def test_a_look_that_did_not_see_all_counts_up_to_its_last_record_and_says_that_it_estimates() -> None:
    arrivals = [Arrival(100.0 + n / 10, 50) for n in range(1, 11)]

    rate = rate_of(arrivals, 100.0, 110.0, is_whole=False)

    assert rate.records == pytest.approx(10.0)
    assert rate.is_estimate


def test_records_of_one_moment_make_no_endless_rate() -> None:
    assert rate_of([Arrival(100.0, 1)] * 2, 100.0, 110.0, is_whole=False).records == pytest.approx(2000.0)


def test_nothing_arrived() -> None:
    assert rate_of([], 100.0, 110.0, is_whole=True).records == 0


@pytest.mark.parametrize(
    ("sizes", "before", "limit"),
    [
        ([], None, 2),
        ([], 50, 50),
        ([10] * 5, 150, 200),
        ([1024] * 2, 100, 128),
        ([1024] * 200, 200, 128),
        ([10 * 1024 * 1024], 2, 1),
        ([100 * 1024], 1, 1),
        ([0], 150, 200),
    ],
)
def test_the_next_look_asks_for_about_128_kib(sizes: list[int], before: int | None, limit: int) -> None:
    assert next_limit([Arrival(0.0, size) for size in sizes], before) == limit


def test_a_few_small_records_make_the_next_look_no_more_than_twice_as_large() -> None:
    limits = [2]
    while limits[-1] < 200:
        limits.append(next_limit([Arrival(0.0, 20)] * limits[-1], limits[-1]))

    assert limits == [2, 4, 8, 16, 32, 64, 128, 200]


def test_one_large_record_in_the_first_moment_makes_no_rate_that_a_shard_does_not_take() -> None:
    rate = rate_of([Arrival(100.001, 1024 * 1024)], 100.0, 110.0, is_whole=False)

    assert (rate.records, rate.bytes) == (1.0, 1024 * 1024)


@pytest.mark.parametrize("size", [1, 1024, 100 * 1024, 1024 * 1024, 10 * 1024 * 1024])
def test_looks_take_a_fiftieth_of_a_shards_bytes_however_large_records_become(size: int) -> None:
    # Small ones for ten minutes, and then as large as they are.
    limit, now, seconds = 2, 0.0, 3600.0
    taken: list[int] = []
    while now < 600.0:
        limit, now = next_limit([Arrival(now, 20)] * limit, limit), now + 10.0
    while now < 600.0 + seconds:
        count = max(1, min(limit, 10 * 1024 * 1024 // size))
        limit = next_limit([Arrival(now, size)] * count, limit)
        taken.append(count * size)
        now += max(10.0, rest_after(taken[-1]))

    assert limit == max(1, min(200, 128 * 1024 // size))
    # One look, at most, finds out how large they are.
    assert all(size_taken <= max(size, 128 * 1024) for size_taken in taken[1:])
    assert sum(taken[:-1]) <= seconds * 2 * 1024 * 1024 / 50

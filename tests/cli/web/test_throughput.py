"""A shard's throughput from a short look."""

from __future__ import annotations

import pytest

from streamkit.cli.web.throughput import Arrival, next_limit, rate_of


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
    [([], None, 2), ([], 50, 50), ([10] * 5, 2, 200), ([1024] * 2, 2, 128), ([10 * 1024 * 1024], 2, 2), ([0], 2, 200)],
)
def test_the_next_look_asks_for_about_128_kib(sizes: list[int], before: int | None, limit: int) -> None:
    assert next_limit([Arrival(0.0, size) for size in sizes], before) == limit

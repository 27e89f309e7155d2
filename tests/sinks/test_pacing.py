"""Pace and RequestSize: less after a refusal, more again with success."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamkit.sinks.pacing import Pace, RequestSize

from .conftest import Clock


def test_nothing_is_waited_for_while_all_is_well(clock: Clock) -> None:
    pace = Pace()
    pace.went_well()

    assert (pace.wait(), pace.gap) == (0, 0)


def test_each_refusal_doubles_the_gap_up_to_ten_seconds(clock: Clock) -> None:
    pace = Pace()
    gaps = []
    for _ in range(8):
        pace.slow_down()
        gaps.append(pace.gap)
        assert pace.gap / 2 <= pace.wait() <= pace.gap

    assert gaps == [0.25, 0.5, 1, 2, 4, 8, 10, 10]


def test_time_that_passes_anyway_counts(clock: Clock) -> None:
    pace = Pace()
    for _ in range(8):
        pace.slow_down()
    clock.now += 10

    assert pace.wait() == 0
    assert pace.gap == 10, "and the gap is what the next request is followed by"


def test_success_brings_the_full_pace_back_in_twenty_requests(clock: Clock) -> None:
    pace = Pace()
    for _ in range(8):
        pace.slow_down()
    gaps = [pace.gap]
    while pace.gap:
        pace.went_well()
        gaps.append(pace.gap)

    assert gaps == sorted(gaps, reverse=True)
    assert len(gaps) - 1 == 20
    assert sum(gaps) < 30


def test_a_refusal_of_long_ago_says_nothing(clock: Clock) -> None:
    pace = Pace()
    for _ in range(8):
        pace.slow_down()
    clock.now += 301
    pace.slow_down()

    assert pace.gap == 0.25


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(st.tuples(st.booleans(), st.floats(0, 1000))))
def test_whatever_happens_it_never_asks_for_more_than_ten_seconds(
    clock: Clock, events: list[tuple[bool, float]]
) -> None:
    pace = Pace()
    for is_well, seconds in events:
        (pace.went_well if is_well else pace.slow_down)()
        assert 0 <= pace.wait() <= 10
        clock.now += seconds


def test_a_size_is_halved_from_what_was_sent_and_grows_by_steps() -> None:
    size = RequestSize(1000, least=100, step=150)
    size.too_large(600)
    assert size.bytes == 300
    size.too_large(900)
    assert size.bytes == 150
    size.too_large(150)
    assert size.bytes == 100
    size.went_well(40)
    assert size.bytes == 100, "a request of less than half shows nothing"
    for _ in range(7):
        size.went_well(size.bytes)
    assert size.bytes == 1000


def test_a_small_request_was_not_refused_for_its_size() -> None:
    size = RequestSize(1000, least=100, step=150)
    size.too_large(100)
    assert size.bytes == 1000

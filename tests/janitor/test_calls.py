from __future__ import annotations

import pytest

from streamkit.janitor.calls import Pace


def test_calls_are_as_far_apart_as_the_rate_says() -> None:
    pace = Pace(5)
    assert pace.wait(100.0) == 0
    pace.began(100.0)

    assert pace.wait(100.0) == pytest.approx(0.2)
    assert pace.wait(100.15) == pytest.approx(0.05)
    assert pace.wait(107.0) == 0


def test_a_throttle_doubles_the_gap_up_to_ten_seconds_and_answers_shorten_it_to_what_the_rate_says() -> None:
    pace = Pace(5)
    gaps = []
    for _ in range(8):
        pace.throttled(100.0)
        gaps.append(round(pace.wait(100.0), 2))
    assert gaps == [0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10]

    for _ in range(100):
        pace.answered()

    assert pace.gap == pytest.approx(0.2)


@pytest.mark.parametrize(("asked", "wait"), [(7.0, 7.0), (0.1, 0.4), (3600.0, 60.0)])
def test_what_lambda_asks_to_wait_is_waited_for_a_minute_at_most(asked: float, wait: float) -> None:
    pace = Pace(5)

    pace.throttled(100.0, asked)

    assert pace.wait(100.0) == pytest.approx(wait)

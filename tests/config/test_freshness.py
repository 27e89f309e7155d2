"""When a source is asked again, by the wall clock."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from streamkit.config.freshness import Freshness


def test_one_that_was_never_asked_is_due_and_not_expired() -> None:
    fresh = Freshness(60)

    assert fresh.is_due(1000)
    assert not fresh.is_expired(1000)


@given(chance=st.floats(0, 1), life=st.floats(1, 86_400))
def test_an_answer_is_due_within_the_second_half_of_its_life(chance: float, life: float) -> None:
    fresh = Freshness(life)
    fresh.answered(1000, chance)

    assert not fresh.is_due(1000 + life * 0.499)
    assert fresh.is_due(1000 + life)
    assert not fresh.is_expired(1000 + life * 0.999)
    assert fresh.is_expired(1001 + life)


def test_a_thousand_that_started_together_do_not_ask_together() -> None:
    chance = random.Random(7)
    due = []
    for _ in range(1000):
        fresh = Freshness(60)
        fresh.answered(0, chance.random())
        due.append(fresh.due_at)

    # Of 30 seconds: a tenth more than a thirtieth of them in the busiest would be 37; SSM allows 40 a second by default.
    busiest = max(sum(1 for at in due if second <= at < second + 1) for second in range(60))
    assert busiest < 55
    assert min(due) >= 30
    assert max(due) <= 60


def test_failures_are_asked_again_less_and_less_often_and_once_a_life_at_least() -> None:
    fresh = Freshness(60)
    pauses = []
    now = 0.0
    for _ in range(9):
        fresh.failed(now, 1.0)
        pauses.append(fresh.due_at - now)
        now = fresh.due_at

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    fresh.answered(now, 1.0)
    fresh.failed(now, 1.0)
    assert fresh.due_at - now == 1


def test_a_failure_keeps_the_age_of_the_answer() -> None:
    fresh = Freshness(60)
    fresh.answered(0, 1.0)
    fresh.failed(59, 1.0)

    assert fresh.is_expired(60)


def test_one_that_was_frozen_is_asked_again_at_once_and_one_that_hangs_less_and_less_often() -> None:
    fresh = Freshness(60)
    fresh.lost(100, 1.0)
    assert fresh.is_due(100)

    fresh.lost(110, 1.0)
    assert not fresh.is_due(110)
    assert fresh.is_due(112)


def test_a_clock_that_was_set_back_makes_it_due_and_expired() -> None:
    fresh = Freshness(60)
    fresh.answered(10_000, 1.0)

    assert fresh.is_due(9_000)
    assert fresh.is_expired(9_000)

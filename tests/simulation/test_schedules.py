"""Ten thousand seeded schedules over shipped code. A failing one says its seed: ``make simulate SEED=…``."""

from __future__ import annotations

import logging

import pytest

from .schedule import schedule
from .world import Violation

SCHEDULES = 10_000
_CHUNK = 250


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    # Thousands of expected failures; keeping their lines would cost more than the schedules.
    caplog.set_level(logging.CRITICAL, "streamkit")


@pytest.mark.parametrize("first", range(0, SCHEDULES, _CHUNK))
def test_no_schedule_breaks_a_guarantee(first: int) -> None:
    for seed in range(first, first + _CHUNK):
        try:
            schedule(seed).run()
        except Violation as violation:
            raise AssertionError(f"{violation}; replay it: make simulate SEED={seed}") from violation


@pytest.mark.parametrize("seed", range(40))
def test_a_seed_is_the_same_schedule_whenever_it_is_played(seed: int) -> None:
    first, second = schedule(seed), schedule(seed)
    first.run()
    second.run()

    assert first.trace == second.trace

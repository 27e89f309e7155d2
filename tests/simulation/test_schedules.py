"""Two thousand seeded schedules over shipped code. A failing one says its seed: ``python -m tests.simulation SEED``."""

from __future__ import annotations

import logging

import pytest

from .world import Violation, World

SCHEDULES = 2000
_CHUNK = 100


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    # Thousands of expected failures; keeping their lines would cost more than the schedules.
    caplog.set_level(logging.CRITICAL, "streamkit")


@pytest.mark.parametrize("first", range(0, SCHEDULES, _CHUNK))
def test_no_schedule_breaks_a_guarantee(first: int) -> None:
    for seed in range(first, first + _CHUNK):
        try:
            World(seed).run()
        except Violation as violation:
            raise AssertionError(f"{violation}; replay it: python -m tests.simulation {seed}") from violation

"""0 missing and 0 repeated rows, wherever it crashes. `python -m tests.exactly_once` runs the same with larger numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import count
from typing import TYPE_CHECKING

import pytest

from .kills import kill
from .schedules import in_memory, on_a_server
from .world import BOUNDARIES, FAULTS

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_a_thousand_crashes_at_step_boundaries_leave_each_row_once() -> None:
    tally = in_memory(count(), crashes=1000)

    assert tally.wrong == {}
    assert tally.crashes.total() >= 1000
    assert tally.crashes.keys() == set(BOUNDARIES)
    assert tally.faults.keys() == FAULTS.keys()


def test_crashes_before_a_real_server_leave_each_row_once(bigquery_server: BigQueryServer) -> None:
    tally = on_a_server(count(1_000_000), bigquery_server, crashes=40)

    assert tally.wrong == {}
    assert tally.rows > 100


def test_processes_that_are_killed_leave_each_row_once(bigquery_server: BigQueryServer, moto_endpoint: str) -> None:
    killed = kill(3, bigquery_server, moto_endpoint)

    assert killed.wrong == []
    # A slow machine gets less far before it is killed.
    assert killed.rows > 10
    assert killed.left.total() == 3

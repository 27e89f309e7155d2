"""Which requests go wrong."""

from __future__ import annotations

from typing import Any

import pytest
from limits_faults import Faults, Injector


def drawn(faults: Faults, count: int = 2000, operation: str = "GetRecords") -> list[str | None]:
    injector = Injector(faults)
    return [injector.fault(operation) for _ in range(count)]


def test_a_seed_repeats_what_goes_wrong_and_another_does_not() -> None:
    faults = Faults(throttle=0.2, error=0.2, drop=0.2, lose=0.2, seed=7)

    assert drawn(faults) == drawn(faults)
    assert drawn(faults) != drawn(Faults(throttle=0.2, error=0.2, drop=0.2, lose=0.2, seed=8))


def test_the_parts_are_those_that_were_asked_for() -> None:
    found = drawn(Faults(throttle=0.1, error=0.2, drop=0.3, lose=0.4), 20_000)

    for kind, part in ("throttle", 0.1), ("error", 0.2), ("drop", 0.3), ("lose", 0.4):
        assert found.count(kind) / 20_000 == pytest.approx(part, abs=0.02)
    assert found.count(None) < 20


def test_only_the_operations_that_were_named() -> None:
    faults = Faults(error=1, operations=frozenset(["PutRecord"]))

    assert drawn(faults, 3) == [None] * 3
    assert drawn(faults, 3, "PutRecord") == ["error"] * 3


def test_after_so_many_there_are_no_more() -> None:
    assert drawn(Faults(drop=1, times=2), 4) == ["drop", "drop", None, None]


def test_records_of_putrecords_are_throttled_one_by_one() -> None:
    injector = Injector(Faults(throttle=0.5, times=3))

    assert injector.fault("PutRecords") is None
    assert sum(injector.throttles("PutRecords") for _ in range(100)) == 3


def test_latency_is_up_to_what_was_asked_for() -> None:
    injector = Injector(Faults(latency=2))
    waits = [injector.latency("GetRecords") for _ in range(1000)]

    assert 0 <= min(waits) < 0.1
    assert 1.9 < max(waits) <= 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"throttle": 1.1},
        {"drop": -0.1},
        {"throttle": 0.6, "error": 0.6},
        {"latency": -1},
        {"times": 0},
        {"delay": 1},
        {"throttle": "often"},
        {"drop": float("nan")},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"throttle|latency|times|delay|drop"):
        Faults.of(wrong)

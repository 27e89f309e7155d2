"""What is at fault in a request that is refused whole is found, and its neighbours are taken."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from streamkit.sinks.halves import in_halves


class Service:
    """Refuses a request that has one of ``bad`` in it, and answers no more than ``answers`` of them."""

    def __init__(self, bad: set[int], answers: int = 1_000_000) -> None:
        self.requests: list[list[int]] = []
        self.taken: list[int] = []
        self._bad = bad
        self._answers = answers

    def ask(self, items: Sequence[int]) -> dict[int, str] | str:
        self.requests.append(list(items))
        if self._bad.intersection(items):
            return "at fault"
        self.taken += items
        return {}

    def stopped(self) -> str | None:
        return "too late" if len(self.requests) >= self._answers else None


@given(st.integers(1, 70), st.sets(st.integers(0, 69)))
def test_those_at_fault_are_found_alone_and_all_others_are_taken_once_and_in_order(count: int, bad: set[int]) -> None:
    service = Service(bad)
    bad = bad & set(range(count))

    found = in_halves(range(count), service.ask, service.stopped)

    assert found == dict.fromkeys(bad, "at fault")
    assert service.taken == [n for n in range(count) if n not in bad]
    assert len(service.requests) <= max(2 * count - 1, 1)


def test_one_of_a_thousand_takes_a_few_requests() -> None:
    service = Service({700})

    assert in_halves(range(1024), service.ask, service.stopped) == {700: "at fault"}
    assert len(service.requests) == 21


@given(st.integers(1, 40), st.sets(st.integers(0, 39)), st.integers(0, 30))
def test_when_it_is_stopped_it_asks_no_more_and_all_that_was_not_asked_for_is_told(
    count: int, bad: set[int], answers: int
) -> None:
    service = Service(bad, answers)

    found = in_halves(range(count), service.ask, service.stopped)

    # The first request is made in any case.
    assert len(service.requests) <= max(answers, 1)
    assert sorted([*found, *service.taken]) == list(range(count))
    assert all(n in bad for n, trouble in found.items() if trouble == "at fault")


def test_what_is_known_of_each_is_not_asked_again() -> None:
    asked: list[int] = []

    def ask(items: Sequence[str]) -> dict[int, str] | str:
        asked.append(len(items))
        return "at fault" if len(items) == 4 else {1: f"not {items[1]}"}

    assert in_halves("abcd", ask, lambda: None) == {1: "not b", 3: "not d"}
    assert asked == [4, 2, 2]

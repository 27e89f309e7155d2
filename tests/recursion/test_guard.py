"""The guard of a chain: what it admits, and that of all copies one works at a time."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from streamkit.cells.change import Clock
from streamkit.cells.memory import MemoryCells
from streamkit.recursion.guard import Guard, HopHeld, Place, admit, stuck_since
from streamkit.recursion.hop import Hop

NOW = 1000.0
RUNNING = Place(7, "a", "r", NOW + 60)
DEAD = Place(7, "a", "r", NOW - 60)


@pytest.mark.parametrize(
    ("place", "hop", "after", "request_id", "verdict"),
    [
        (None, 0, "", "r", "take"),
        (None, 7, "gone", "r", "take"),
        # Another delivery of the same hop.
        (RUNNING, 7, "", "r", "wait"),
        (RUNNING, 7, "", "other", "leave"),
        (RUNNING, 7, "", "", "leave"),
        (DEAD, 7, "", "r", "take"),
        (DEAD, 7, "", "other", "take"),
        (Place(7, "a", "r", NOW - 4.9), 7, "", "r", "wait"),
        # The next hop.
        (RUNNING, 8, "a", "next", "take"),
        (RUNNING, 8, "another's", "next", "leave"),
        (DEAD, 8, "another's", "next", "take"),
        # What is over.
        (RUNNING, 6, "", "r", "leave"),
        (DEAD, 6, "", "r", "leave"),
        (Place(7, "a", "r", NOW - 60, is_handed=True), 7, "", "r", "leave"),
        (Place(7, "a", "r", NOW + 60, is_handed=True), 8, "a", "next", "take"),
        (Place(7, "a", "r", NOW - 60, is_done=True), 7, "", "r", "leave"),
        (Place(7, "a", "r", NOW - 60, is_done=True), 8, "a", "next", "leave"),
    ],
)
def test_who_may_go_on(place: Place | None, hop: int, after: str, request_id: str, verdict: str) -> None:
    assert admit(place, hop, after, "me", request_id, NOW) == verdict


def test_who_has_taken_the_place_and_lost_the_answer_has_it() -> None:
    assert admit(Place(7, "me", "r", NOW + 60), 7, "", "me", "r", NOW) == "take"


class Time:
    """A clock that goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now = NOW

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.now, self.sleep)


def hop(number: int, after: str = "") -> Hop:
    return Hop(task="export", chain="c", number=number, started=0, after=after)


def test_a_try_behind_one_that_died_waits_until_that_one_is_over_for_certain() -> None:
    time = Time()
    guard = Guard(MemoryCells(), time.clock)
    assert guard.take(hop(0), "r", NOW + 100, NOW + 900)

    assert guard.take(hop(0), "r", NOW + 100, NOW + 900)

    assert NOW + 105 <= time.now <= NOW + 116


def test_a_try_that_can_not_wait_so_long_is_an_error_so_that_lambda_comes_again() -> None:
    time = Time()
    guard = Guard(MemoryCells(), time.clock)
    guard.take(hop(0), "r", NOW + 100, NOW + 900)

    with pytest.raises(HopHeld, match="another try of hop 0"):
        guard.take(hop(0), "r", NOW + 100, NOW + 50)

    assert time.now < NOW + 50


def test_a_try_behind_one_that_said_that_it_failed_begins_at_once() -> None:
    time = Time()
    guard = Guard(MemoryCells(), time.clock)
    owner = guard.take(hop(0), "r", NOW + 100, NOW + 900)
    assert owner
    guard.give_up(hop(0), owner, NOW + 900)

    assert guard.take(hop(0), "r", NOW + 100, NOW + 900)

    assert time.now == NOW


DAY = 86_400.0


@pytest.mark.parametrize(
    ("place", "since"),
    [
        # Somebody works, or Lambda may try it again.
        (Place(5, "a", "r", NOW + 60), None),
        (Place(5, "a", "r", NOW - 3600), None),
        (Place(5, "a", "r", -5, failed_at=NOW - 3600), None),
        (Place(5, "a", "r", NOW - 3600, is_handed=True), None),
        # Nobody comes by himself.
        (Place(5, "a", "r", NOW - DAY), NOW - DAY),
        (Place(5, "a", "r", -5, failed_at=NOW - DAY), NOW - DAY),
        (Place(5, "a", "r", NOW - DAY, is_handed=True), NOW - DAY),
        # It is done.
        (Place(5, "a", "r", NOW - DAY, is_done=True), None),
    ],
)
def test_a_place_is_stuck_when_lambda_does_not_try_it_any_more(place: Place, since: float | None) -> None:
    assert stuck_since(place, NOW) == since


def test_a_chain_that_is_started_anew_while_it_is_stuck_is_an_error_in_the_log_that_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    time, cells = Time(), MemoryCells()
    guard = Guard(cells, time.clock)
    owner = guard.take(hop(5), "r", NOW + 100, NOW + 900)
    assert owner
    guard.give_up(hop(5), owner, NOW + 900)

    # Lambda's own tries are yet to come.
    time.now = NOW + 60
    assert guard.take(hop(0), "new", time.now + 100, time.now + 50) is None
    assert caplog.text == ""

    time.now = NOW + DAY
    assert guard.take(hop(0), "newer", time.now + 100, time.now + 50) is None
    (record,) = caplog.records
    assert (record.levelname, "held at hop 5, over since 1970-01-01T00:16:40Z" in record.getMessage()) == (
        "ERROR",
        True,
    )
    assert hop(0).key in record.getMessage()


@dataclass
class Try:
    """A try of a hop that has begun. ``ends`` is when Lambda ends it."""

    hop: Hop
    request: str
    ends: float
    owner: str | None = None
    said: set[str] = field(default_factory=set)


#: How often each is drawn, of 100.
ACTIONS = {"deliver": 32, "redeliver": 10, "hand over": 16, "note": 4, "finish": 1, "die": 5, "fail": 4, "wait": 28}


@pytest.mark.parametrize("seed", range(100))
def test_of_all_copies_one_works_at_a_time_and_none_behind_the_end(seed: int) -> None:
    """Copies are delivered in any order, again and twice; they die, fail, hand over twice, and pause between any two acts."""
    time = Time()
    cells = MemoryCells()
    guard = Guard(cells, time.clock)
    events: list[tuple[Hop, str]] = [(hop(0), "r0")]
    working: list[Try] = []
    is_done = False

    def alive() -> list[Try]:
        return [one for one in working if time.now < one.ends]

    draw = random.Random(seed)
    for action in draw.choices(list(ACTIONS), list(ACTIONS.values()), k=300):
        # The latest events more than the old ones.
        which, seconds = min(int(draw.expovariate(0.5)), len(events) - 1), draw.uniform(1, 60)
        mine = alive()
        one = mine[which % len(mine)] if mine else None
        if action in ("deliver", "redeliver"):
            what, request = events[-1 - which]
            if action == "redeliver":
                request = f"copy{which}"
            # It can't wait: with no time left, that is HopHeld.
            try:
                owner = guard.take(what, request, time.now + 100, time.now)
            except HopHeld:
                continue
            if owner is None:
                continue
            assert not is_done, "a chain that is done goes on"
            # Whoever has handed over works no more.
            assert [other for other in alive() if "handed" not in other.said] == []
            assert all(other.hop.number <= what.number for other in working), "a chain goes back"
            working.append(Try(what, request, time.now + 100, owner))
        elif action == "wait":
            time.now += seconds
        elif one is None or one.owner is None:
            continue
        elif action == "hand over":
            one.said.add("handed")
            events.append((hop(one.hop.number + 1, one.owner), f"r{len(events)}"))
        elif action == "note" and "handed" in one.said:
            guard.hand_over(one.hop, one.owner, time.now)
        elif action == "finish" and "handed" not in one.said:
            guard.finish(one.hop, one.owner, time.now)
            working.remove(one)
            is_done = True
        elif action == "fail":
            # Handed over or not: where the answer was lost, it does not know.
            guard.give_up(one.hop, one.owner, time.now)
            working.remove(one)
        elif action == "die":
            working.remove(one)


def test_the_places_of_two_chains_and_two_tasks_are_apart() -> None:
    cells, time = MemoryCells(), Time()
    for what in (
        hop(0),
        Hop(task="export", chain="d", number=0, started=0),
        Hop(task="other", chain="c", number=0, started=0),
    ):
        assert Guard(cells, time.clock).take(what, "r", NOW + 100, NOW)


def test_a_place_that_somebody_else_has_written_is_an_error_that_says_what_to_do() -> None:
    class Odd(MemoryCells):
        def put(self, key: str, value: dict[str, Any], version: str, **seen: Any) -> bool:
            return super().put(key, {"hop": "x"}, version, **seen)

    guard = Guard(Odd(), Time().clock)
    guard.take(hop(0), "r", NOW + 100, NOW)

    with pytest.raises(Exception, match="delete that item"):
        guard.take(hop(0), "r", NOW + 100, NOW)

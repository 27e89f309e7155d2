"""What is asked of the endpoint, and how often."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from streamkit.cli.web.watch import Schedule, Task, Watch
from streamkit.errors import StreamkitError


def task(name: str, every: float = 4.0, run: Callable[[], float | None] = lambda: None) -> Task:
    return Task(name, every, run)


class TestSchedule:
    def test_the_task_that_has_waited_longest_is_next(self) -> None:
        schedule, tasks = Schedule(), [task("a"), task("b")]
        first = schedule.next(tasks, 100.0)
        assert first is not None
        schedule.went_well(first, 100.0)

        second = schedule.next(tasks, 100.1)

        assert second is not None
        assert {first.name, second.name} == {"a", "b"}
        schedule.went_well(second, 100.1)
        assert schedule.next(tasks, 103.9) is None
        assert schedule.next(tasks, 104.0) is first

    def test_what_fails_is_asked_for_less_and_less_often_and_at_once_again_when_it_went_well(self) -> None:
        schedule, one = Schedule(), task("a")
        waits = []
        now = 0.0
        for _ in range(8):
            schedule.failed(one, now, "throttled")
            due = next(after for after in range(1, 1000) if schedule.next([one], now + after))
            waits.append(due)
            now += due

        assert waits == [8, 16, 32, 64, 120, 120, 120, 120]
        assert schedule.error("a") == "throttled"
        schedule.went_well(one, now)
        assert schedule.next([one], now + 4) is one
        assert schedule.error("a") == ""

    def test_a_task_that_is_gone_is_forgotten_with_its_error(self) -> None:
        schedule = Schedule()
        schedule.failed(task("a"), 0.0, "throttled")

        schedule.next([task("b")], 1.0)

        assert schedule.error("a") == ""

    def test_nothing_to_do_is_nothing_due(self) -> None:
        assert Schedule().next([], 0.0) is None


class TestWatch:
    def test_nothing_is_asked_for_until_somebody_looks(self) -> None:
        ran: list[float] = []
        watch = Watch(lambda: [task("a", 0.0, lambda: ran.append(time.monotonic()))], lambda: len(ran))
        watch.start()
        time.sleep(0.5)
        before = len(ran)

        watch.look()
        time.sleep(1.6)
        watch.end()

        assert before == 0
        # Eight a second at most, though the task is always due.
        assert 3 <= len(ran) <= 14
        assert all(later - one >= 0.12 for one, later in pairwise(ran))
        assert watch.calls_a_second() == pytest.approx(len(ran) / 10, abs=0.11)

    def test_what_one_task_raises_is_told_and_the_others_go_on(self) -> None:
        ran: list[str] = []

        def fails() -> None:
            raise StreamkitError("there is no such stream here: check the name")

        watch = Watch(
            lambda: [task("bad", 0.2, fails), task("good", 0.2, lambda: ran.append("good"))], lambda: len(ran)
        )
        watch.start()
        watch.look()
        time.sleep(1.5)
        watch.end()

        assert watch.error("bad") == "there is no such stream here: check the name"
        assert watch.error("good") == ""
        assert len(ran) > 2

    def test_a_task_of_many_requests_is_followed_by_a_pause_for_all_of_them(self) -> None:
        ran: list[float] = []
        watch = Watch(lambda: [task("a", 0.0, lambda: ran.append(time.monotonic()))], lambda: 10 * len(ran), speed=5.0)
        watch.start()
        watch.look()
        time.sleep(1.2)
        watch.end()

        # Ten requests take 1.25 of its seconds, which are a quarter of one of ours.
        assert 2 <= len(ran) <= 5
        assert all(later - one >= 0.24 for one, later in pairwise(ran))
        assert watch.calls_a_second() == len(ran)

    def test_a_task_can_ask_for_a_longer_rest_than_its_time(self) -> None:
        ran: list[float] = []

        def run() -> float:
            ran.append(time.monotonic())
            return 10.0

        watch = Watch(lambda: [task("a", 0.5, run)], lambda: 0, speed=20.0)
        watch.start()
        watch.look()
        give_up_at = time.monotonic() + 30.0
        while len(ran) < 2:
            assert time.monotonic() < give_up_at
            # For this watch somebody who has looked 0.75 s ago is away.
            watch.look()
            time.sleep(0.02)
        watch.end()

        assert ran[1] - ran[0] >= 0.5

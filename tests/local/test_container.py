"""Container runs one invocation at a time, and counts its time from its beginning."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from streamkit.local.container import Container


def test_invocations_wait_for_each_other() -> None:
    running: list[int] = []
    most: list[int] = []
    together = threading.Barrier(4)

    def function(event: Any, context: Any) -> Any:
        running.append(event)
        most.append(len(running))
        threading.Event().wait(0.05)
        running.remove(event)
        return event

    container = Container(function, timeout=60)
    answers: list[Any] = []

    def call(n: int) -> None:
        together.wait(30)
        answers.append(container(n))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(answers) == [0, 1, 2, 3]
    assert most == [1, 1, 1, 1]


def test_an_answer_after_the_time_out_is_none() -> None:
    def slow(event: Any, context: Any) -> str:
        while context.get_remaining_time_in_millis() > 0:
            pass
        return "too late"

    with pytest.raises(TimeoutError, match=r"after its time-out of 0\.01 s"):
        Container(slow, timeout=0.01)({})


def test_each_invocation_is_announced_before_it_begins() -> None:
    happened: list[str] = []
    container = Container(lambda event, context: happened.append("run"), 60, lambda event: happened.append(event))

    container("an event")

    assert happened == ["an event", "run"]


def test_an_invocation_has_its_whole_time_however_long_it_waited() -> None:
    is_running, may_end = threading.Event(), threading.Event()
    remaining: list[int] = []

    def function(event: Any, context: Any) -> None:
        remaining.append(context.get_remaining_time_in_millis())
        if event == "first":
            is_running.set()
            may_end.wait(30)

    container = Container(function, timeout=30)
    first = threading.Thread(target=container, args=("first",))
    first.start()
    is_running.wait(30)
    second = threading.Thread(target=container, args=("second",))
    second.start()
    second.join(0.3)

    may_end.set()
    first.join(30)
    second.join(30)

    assert remaining[1] > 29_800

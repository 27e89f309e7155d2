"""Container runs one invocation at a time, and counts its time from its beginning."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from streamkit.letters import function_name
from streamkit.local.container import Container
from streamkit.local.context import CalledOff, RealContext


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


def test_calls_have_their_turn_in_their_order() -> None:
    happened: list[str] = []
    may_end = threading.Event()

    def function(event: Any, context: Any) -> None:
        happened.append(event)
        may_end.wait(30)

    container = Container(function, timeout=60)
    threads = []
    for n in range(5):
        threads.append(threading.Thread(target=container, args=(str(n),)))
        threads[-1].start()
        while container._calls <= n:
            threading.Event().wait(0.001)

    may_end.set()
    for thread in threads:
        thread.join(30)

    assert happened == ["0", "1", "2", "3", "4"]


def test_an_invocation_that_raises_gives_its_turn_away() -> None:
    def function(event: Any, context: Any) -> None:
        raise ValueError(event)

    container = Container(function, timeout=60)

    for event in ("first", "second"):
        with pytest.raises(ValueError, match=event):
            container(event)


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


def test_the_context_has_the_name_that_the_function_has_here() -> None:
    seen: list[Any] = []

    Container(lambda event, context: seen.append(context), timeout=60, name="app.orders:handler")({})

    (context,) = seen
    assert context.function_name == "app.orders:handler"
    # The part after a colon would be a version.
    assert function_name(context.invoked_function_arn) == "app.orders.handler"
    assert context.log_group_name == "/aws/lambda/app.orders:handler"


def test_the_time_of_an_invocation_begins_when_its_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    is_running, may_end = threading.Event(), threading.Event()

    class Clock(RealContext):
        def __init__(self, timeout: float, **named: Any) -> None:
            happened.append("time begins")
            super().__init__(timeout, **named)

    def function(event: Any, context: Any) -> None:
        is_running.set()
        may_end.wait(30)
        happened.append("ends")

    monkeypatch.setattr("streamkit.local.container.RealContext", Clock)
    container = Container(function, timeout=30)
    threads = [threading.Thread(target=container, args=({},)) for _ in range(2)]
    for thread in threads:
        thread.start()

    is_running.wait(30)
    threads[1].join(0.1)
    may_end.set()
    for thread in threads:
        thread.join(30)

    assert happened == ["time begins", "ends", "time begins", "ends"]


def test_what_is_called_off_while_it_waits_for_its_turn_does_not_begin_and_holds_up_nobody() -> None:
    called: list[str] = []
    container = Container(lambda event, context: called.append(event), timeout=60)

    with pytest.raises(CalledOff):
        container("late", RealContext(60, is_called_off=lambda: True))
    container("next", RealContext(60))

    assert called == ["next"]

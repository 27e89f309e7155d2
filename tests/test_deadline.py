from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.deadline import Deadline


class Context:
    """Lambda's context on a clock that the test moves."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def get_remaining_time_in_millis(self) -> float:
        return self.left * 1000


def taking(context: Context, seconds: float) -> Callable[[float], None]:
    def call(until: float) -> None:
        context.left -= seconds

    return call


@pytest.fixture
def monotonic(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr("streamkit.deadline.time.monotonic", lambda: 1000.0)
    return 1000.0


class TestRemaining:
    def test_is_what_the_context_says_in_seconds(self) -> None:
        context = Context(60)
        deadline = Deadline(context, 1.0)

        context.left = 12.5

        assert deadline.remaining() == 12.5

    @pytest.mark.parametrize("context", [None, object(), {}])
    def test_is_without_end_where_the_context_does_not_say(self, context: Any) -> None:
        deadline = Deadline(context, 1.0)

        assert deadline.remaining() == math.inf
        assert deadline.of_request() == math.inf
        assert deadline.request("a sink", lambda until: until) == math.inf
        assert deadline.allows_another()


class TestAnotherRecord:
    def test_starts_while_the_margin_is_left(self) -> None:
        context = Context(1.0)
        deadline = Deadline(context, 1.0)

        assert deadline.allows_another()
        context.left = 0.999
        assert not deadline.allows_another()

    def test_needs_the_time_of_the_longest_record_so_far(self) -> None:
        context = Context(6.0)
        deadline = Deadline(context, 1.0)

        deadline.longest_record = 5.0
        assert deadline.allows_another()
        deadline.longest_record = 5.5
        assert not deadline.allows_another()

    def test_needs_the_time_of_the_longest_request_to_each_sink(self) -> None:
        context = Context(60)
        deadline = Deadline(context, 1.0)
        search, warehouse = object(), object()

        for sink, seconds in ((search, 2), (search, 4), (search, 3), (warehouse, 5)):
            deadline.request(sink, taking(context, seconds))

        assert deadline.reserve == 1.0 + 4 + 5
        context.left = 10.0
        assert deadline.allows_another()
        context.left = 9.9
        assert not deadline.allows_another()

    def test_needs_the_time_of_a_request_that_failed_too(self) -> None:
        context = Context(60)
        deadline = Deadline(context, 1.0)

        def time_out(until: float) -> None:
            context.left -= 20
            raise TimeoutError

        with pytest.raises(TimeoutError):
            deadline.request("a sink", time_out)

        assert deadline.reserve == 21.0


class TestARequest:
    def test_leaves_half_the_margin_to_answer_with(self, monotonic: float) -> None:
        assert Deadline(Context(60), 2.0).of_request() == monotonic + 59

    def test_gets_half_of_what_is_left_where_that_is_less(self, monotonic: float) -> None:
        assert Deadline(Context(0.8), 2.0).of_request() == monotonic + 0.4

    def test_may_have_a_deadline_that_is_past(self, monotonic: float) -> None:
        assert Deadline(Context(-3), 1.0).of_request() < monotonic

    @given(st.floats(0, 900), st.floats(0, 900))
    def test_never_gets_the_time_to_answer_in(self, left: float, margin: float) -> None:
        before = time.monotonic()
        until = Deadline(Context(left), margin).of_request()

        assert before <= until <= time.monotonic() + left

    def test_gives_what_the_call_gives(self) -> None:
        assert Deadline(Context(60), 1.0).request("a sink", lambda until: "answer") == "answer"

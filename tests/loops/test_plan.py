from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.errors import ConfigurationError
from streamkit.loops.plan import Depth, Limits, Scale, scaled, steps
from streamkit.loops.token import SLACK, Token

NOW = 1000.0
LIMITS = Limits(least=1, most=5, per_loop=100, calm=300, oldest=60)
NONE = Depth(0, 0)


def over_time(depths: list[Depth], limits: Limits = LIMITS, age: float = 0.0) -> list[int]:
    """The targets, a look each minute."""
    scale, found = None, []
    for minute, depth in enumerate(depths):
        scale = scaled(scale, depth, age, limits, NOW + 60 * minute)
        found.append(scale.target)
    return found


@pytest.mark.parametrize(
    ("depth", "target"),
    [
        *((NONE, 1), (Depth(1, 0), 1), (Depth(100, 0), 1), (Depth(101, 0), 2), (Depth(50, 51), 2), (Depth(450, 0), 5)),
        (Depth(10**9, 0), 5),
    ],
)
def test_as_many_loops_as_there_is_work_for_at_once(depth: Depth, target: int) -> None:
    assert over_time([depth]) == [target]


def test_none_where_there_is_nothing_and_none_is_the_least() -> None:
    assert over_time([NONE], Limits()) == [0]
    assert over_time([Depth(1, 0)], Limits()) == [1]


def test_down_by_one_at_a_time_when_fewer_have_done_for_a_while() -> None:
    assert over_time([Depth(450, 0), *[NONE] * 30]) == [*[5] * 6, *[4] * 5, *[3] * 5, *[2] * 5, *[1] * 10]


def test_a_queue_that_comes_and_goes_ends_no_loop() -> None:
    depths = [Depth(450, 0) if minute % 5 == 0 else NONE for minute in range(60)]

    assert over_time(depths) == [5] * 60


def test_messages_that_wait_for_too_long_add_a_loop_a_minute() -> None:
    assert over_time([Depth(10, 0)] * 6, age=61) == [2, 3, 4, 5, 5, 5]
    assert over_time([Depth(10, 0)] * 3, age=60) == [1, 1, 1]
    assert over_time([NONE] * 3, age=61) == [1, 1, 1], "nothing waits"


def test_another_look_at_the_same_time_changes_nothing_more() -> None:
    scale = Scale(5, NOW - 300, 5)
    once = scaled(scale, NONE, 0, LIMITS, NOW)

    assert once.target == 4
    assert scaled(once, NONE, 0, LIMITS, NOW) == once


def test_two_supervisors_that_look_at_old_messages_add_one_loop() -> None:
    scale, found = Scale(1), []
    for second in (0, 0, 0, 3, 29, 60, 60, 64):
        scale = scaled(scale, Depth(10, 0), 61, LIMITS, NOW + second)
        found.append(scale.target)

    assert found == [2, 2, 2, 2, 2, 3, 3, 3]
    assert scale.lower_since is None, "one less would not do"


def test_a_loop_more_that_was_added_by_a_clock_before_its_time_hinders_none() -> None:
    assert scaled(Scale(2, None, 2, NOW + 600), Depth(10, 0), 61, LIMITS, NOW).target == 3


@given(
    before=st.builds(
        Scale,
        st.integers(0, 6),
        st.none() | st.floats(0, 2 * NOW),
        st.integers(0, 6),
        st.none() | st.floats(0, 2 * NOW),
    ),
    depth=st.builds(Depth, st.integers(0, 2000), st.integers(0, 2000)),
    age=st.floats(0, 1e6),
    calm=st.sampled_from([0.0, 300.0]),
)
def test_a_look_twice_is_one(before: Scale, depth: Depth, age: float, calm: float) -> None:
    limits = Limits(least=1, most=5, per_loop=100, calm=calm, oldest=60)
    once = scaled(before, depth, age, limits, NOW)

    again = scaled(once, depth, age, limits, NOW)

    assert again.target == once.target
    assert scaled(again, depth, age, limits, NOW) == again


def test_a_clock_that_goes_back_only_makes_it_wait() -> None:
    assert scaled(Scale(5, NOW + 600, 5), NONE, 0, LIMITS, NOW) == Scale(5, NOW, 5)


def test_limits_that_were_changed_count_at_once() -> None:
    assert scaled(Scale(5, None, 5), Depth(450, 0), 0, Limits(least=0, most=2), NOW) == Scale(2, None, 5)
    assert scaled(Scale(0, None, 0), NONE, 0, Limits(least=3), NOW).target == 3


@given(
    depths=st.lists(st.builds(Depth, st.integers(0, 2000), st.integers(0, 2000)), max_size=30),
    least=st.integers(0, 5),
    more=st.integers(0, 5),
    age=st.floats(0, 1e6),
)
def test_the_limits_are_kept_and_it_never_falls_by_more_than_one(
    depths: list[Depth], least: int, more: int, age: float
) -> None:
    targets = over_time(depths, Limits(least=least, most=max(least + more, 1), oldest=60), age)

    assert all(least <= target <= max(least + more, 1) for target in targets)
    assert all(after >= before - 1 for before, after in itertools.pairwise(targets))


@pytest.mark.parametrize(
    ("options", "variable"),
    [
        *(({"least": -1}, "LOOPS_LEAST"), ({"least": 11}, "LOOPS_LEAST"), ({"most": 0}, "LOOPS_MOST")),
        *(({"most": 1001}, "LOOPS_MOST"), ({"per_loop": 0}, "LOOP_MESSAGES"), ({"calm": -1}, "LOOP_CALM")),
        *(({"oldest": 0}, "LOOP_OLDEST"), ({"calm": math.nan}, "LOOP_CALM"), ({"oldest": math.nan}, "LOOP_OLDEST")),
    ],
)
def test_limits_that_can_not_be_are_refused(options: dict[str, float], variable: str) -> None:
    ((name, value),) = options.items()
    with pytest.raises(ConfigurationError, match=rf"^loops: {name} \({variable}\) is .*; got {value!r}$"):
        Limits(**options)  # type: ignore[arg-type]  # That is the point.


def test_each_token_has_what_is_to_be_done_with_it() -> None:
    held, dead = Token(1, "a", NOW + 60), Token(1, "a", NOW - SLACK)
    told = Token(1, "a", NOW + 60, is_wanted=False)
    handed, lost = Token(1, until=NOW + 60), Token(1, until=NOW - SLACK)

    below = steps([None, Token(3), held, dead, told, handed, lost], 7, NOW)
    above = steps([None, Token(3), held, dead, told, handed, lost], 0, NOW)

    assert (below.start, below.restart, below.want, below.retire, below.clear) == ([0, 1], [3, 6], [4], [], [])
    assert (above.start, above.restart, above.want, above.retire, above.clear) == ([], [], [], [2, 5], [3, 6])

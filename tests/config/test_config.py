"""What a program reads, whatever its sources do; on a clock that is moved by hand."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from streamkit import Unavailable
from streamkit.config import Config, Environment, Secret, Setting
from streamkit.errors import ConfigurationError, ConfigurationMissing
from streamkit.testing import MemoryParameters

from .sources import Clock, HeldParameters, settle

HIDDEN = "hunter2-and-more"


@pytest.fixture
def clock() -> Clock:
    return Clock()


def config_of(*sources: Any, clock: Clock, **options: Any) -> Config:
    """Due at three quarters of its life."""
    return Config(*sources, clock=clock, **{"chance": lambda: 0.5, **options})


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


class TestWhileTheSourcesAnswer:
    def test_nothing_is_asked_before_a_value_is_read(self, clock: Clock) -> None:
        source = MemoryParameters({"limit": "10"})
        config_of(source, clock=clock).integer("limit")
        settle()

        assert source.asked == []

    def test_the_first_read_asks_for_all_that_is_declared_at_once(self, clock: Clock) -> None:
        source = MemoryParameters({"limit": "10", "db/host": "there"})
        config = config_of(source, clock=clock)
        limit, host = config.integer("limit"), config.text("db/host")

        assert (limit.value, host.value) == (10, "there")
        assert source.asked == [("limit", "db/host")]

    def test_a_fresh_value_costs_a_look_at_the_clock_and_nothing_else(self, clock: Clock) -> None:
        source = MemoryParameters({"limit": "10"})
        limit = config_of(source, clock=clock).integer("limit")
        _ = limit.value
        settle()
        before = clock.calls

        assert [limit.value for _ in range(100)] == [10] * 100

        assert clock.calls - before == 100
        assert len(source.asked) == 1

    def test_a_value_that_is_due_is_asked_for_in_the_background_and_the_read_does_not_wait(self, clock: Clock) -> None:
        source = HeldParameters({"limit": "10"})
        limit = config_of(source, clock=clock, life=60).integer("limit")
        _ = limit.value
        source.put("limit", "20")
        source.let_go.clear()
        clock.advance(46)

        began = time.monotonic()
        assert [limit.value for _ in range(5000)] == [10] * 5000
        assert time.monotonic() - began < 1
        assert len(source.asked) == 2

        source.let_go.set()
        settle()
        assert limit.value == 20

    def test_a_change_is_followed_within_a_life_even_by_one_that_reads_seldom(self, clock: Clock) -> None:
        source = MemoryParameters({"limit": "10"})
        limit = config_of(source, clock=clock, life=60, wait=30).integer("limit")
        _ = limit.value
        source.put("limit", "20")

        clock.advance(3600)

        assert limit.value == 20

    def test_without_a_wait_that_one_gets_what_there_is_and_the_new_one_next(self, clock: Clock) -> None:
        source = MemoryParameters({"limit": "10"})
        limit = config_of(source, clock=clock, life=60, wait=0).integer("limit")
        _ = limit.value
        source.put("limit", "20")
        clock.advance(3600)

        assert limit.value == 10
        settle()
        assert limit.value == 20

    def test_what_is_declared_later_is_asked_for_when_it_is_read(self, clock: Clock) -> None:
        source = MemoryParameters({"limit": "10", "other": "x"})
        config = config_of(source, clock=clock)
        assert config.integer("limit").value == 10

        assert config.text("other").value == "x"
        assert source.asked == [("limit",), ("limit", "other")]

    def test_what_is_declared_while_sources_are_asked_is_asked_for_next(self, clock: Clock) -> None:
        first, second = MemoryParameters({"limit": "10"}), HeldParameters({"other": "x"})
        config = config_of(first, second, clock=clock, patience=30)
        second.let_go.clear()
        assert config.integer("limit").value == 10
        other = config.text("other")
        threading.Timer(0.1, second.let_go.set).start()

        assert other.value == "x"
        assert second.asked == [("limit",), ("limit", "other")]

    def test_many_threads_that_begin_together_ask_once(self, clock: Clock) -> None:
        source = HeldParameters({"limit": "10"})
        limit = config_of(source, clock=clock, patience=30).integer("limit")
        source.let_go.clear()
        with ThreadPoolExecutor(8) as pool:
            reads = [pool.submit(lambda: limit.value) for _ in range(8)]
            time.sleep(0.05)
            source.let_go.set()

            assert [read.result() for read in reads] == [10] * 8
        assert len(source.asked) == 1

    def test_a_clock_that_is_set_back_makes_it_ask_again(self, clock: Clock) -> None:
        source = MemoryParameters({"limit": "10"})
        limit = config_of(source, clock=clock, wait=30).integer("limit")
        _ = limit.value
        source.put("limit", "20")

        clock.advance(-86_400)

        assert limit.value == 20

    def test_load_reads_all_and_names_the_first_that_is_missing(self, clock: Clock) -> None:
        config = config_of(MemoryParameters({"limit": "10"}), clock=clock)
        config.integer("limit")
        config.load()
        config.text("db/host")

        with pytest.raises(ConfigurationMissing, match="db/host"):
            config.load()


class TestWhileASourceFails:
    def test_stale_values_are_served_however_long_it_lasts_and_the_new_ones_when_it_is_over(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = MemoryParameters({"limit": "10"})
        limit = config_of(source, clock=clock, life=60).integer("limit")
        _ = limit.value
        source.put("limit", "20")
        source.fail(ConnectionError("throttled"))

        for _ in range(360):
            clock.advance(60)
            assert limit.value == 10
            settle()
        assert (
            "the memory can't be asked for parameters, and what it had 60 s ago stays: ConnectionError: throttled"
            in (errors_in(caplog)[0])
        )
        source.fail(None)
        clock.advance(60)
        _ = limit.value
        settle()

        assert limit.value == 20
        assert "the memory answers again" in caplog.text

    def test_it_is_asked_less_and_less_often_and_once_a_life(self, clock: Clock) -> None:
        source = MemoryParameters({"limit": "10"})
        limit = config_of(source, clock=clock, life=60, chance=lambda: 1.0).integer("limit")
        _ = limit.value
        source.fail(ConnectionError("throttled"))
        clock.advance(60)
        for _ in range(600):
            _ = limit.value
            settle()
            clock.advance(1)

        # At once, then after 1, 2, 4, 8, 16 and 32 s, and each 60 s; and a second for each to be taken over.
        assert 12 <= len(source.asked) - 1 <= 16

    def test_a_value_past_its_life_waits_once_for_each_time_that_is_asked(self, clock: Clock) -> None:
        source = HeldParameters({"limit": "10"})
        limit = config_of(source, clock=clock, life=60, wait=0.3).integer("limit")
        _ = limit.value
        source.let_go.clear()
        clock.advance(60)

        began = time.monotonic()
        assert [limit.value for _ in range(5000)] == [10] * 5000
        took = time.monotonic() - began

        source.let_go.set()
        assert 0.3 <= took < 2

    def test_a_first_request_that_fails_is_an_error_that_says_which_and_why(self, clock: Clock) -> None:
        source = MemoryParameters({"limit": "10"})
        source.fail(ConnectionError("throttled"))
        limit = config_of(source, clock=clock).integer("limit")

        with pytest.raises(
            ConfigurationMissing,
            match="there is no value for the parameter limit: the memory could not be asked: ConnectionError: throttled",
        ) as raised:
            _ = limit.value
        assert isinstance(raised.value, Unavailable), "no record is at fault"
        assert isinstance(raised.value, ConfigurationError)

        source.fail(None)
        clock.advance(1)
        assert limit.value == 10

    def test_until_it_is_to_be_asked_again_each_read_raises_at_once(self, clock: Clock) -> None:
        source = MemoryParameters()
        source.fail(ConnectionError("throttled"))
        limit = config_of(source, clock=clock).integer("limit")

        for _ in range(1000):
            with pytest.raises(ConfigurationMissing):
                _ = limit.value

        assert len(source.asked) == 1

    def test_a_first_request_that_hangs_is_an_error_in_time_and_the_next_reads_do_not_wait(self, clock: Clock) -> None:
        source = HeldParameters({"limit": "10"})
        source.let_go.clear()
        limit = config_of(source, clock=clock, patience=0.3).integer("limit")

        began = time.monotonic()
        for _ in range(1000):
            with pytest.raises(ConfigurationMissing, match=r"no answer from the memory within 0\.3 s"):
                _ = limit.value
        took = time.monotonic() - began

        assert 0.3 <= took < 2
        source.let_go.set()
        settle()
        assert limit.value == 10

    @pytest.mark.parametrize("is_held", [True, False])
    def test_a_first_request_that_fails_or_hangs_gives_the_default_and_the_value_is_a_change(
        self, clock: Clock, is_held: bool
    ) -> None:
        source = HeldParameters({"limit": "20"})
        if is_held:
            source.let_go.clear()
        else:
            source.fail(ConnectionError("throttled"))
        limit = config_of(source, clock=clock, patience=0.1).integer("limit", default=10)
        changes: list[tuple[int, int]] = []
        limit.on_change(lambda new, old: changes.append((new, old)))
        assert limit.value == 10

        source.fail(None)
        source.let_go.set()
        settle()
        clock.advance(1)
        _ = limit.value
        settle()

        assert limit.value == 20
        assert changes == [(20, 10)]

    def test_the_sources_below_stand_in_for_one_that_has_never_answered(self, clock: Clock) -> None:
        above, below = MemoryParameters({"limit": "20"}), MemoryParameters({"limit": "10"})
        above.fail(ConnectionError("throttled"))
        limit = config_of(above, below, clock=clock, wait=30).integer("limit")

        assert limit.value == 10
        above.fail(None)
        clock.advance(60)
        assert limit.value == 20

    def test_a_source_above_that_has_answered_does_not_wait_for_one_that_hangs(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ORDERS_LIMIT", "30")
        source = HeldParameters({"limit": "10", "other": "x"})
        source.let_go.clear()
        config = config_of(Environment("ORDERS_"), source, clock=clock, patience=10)
        limit, other = config.integer("limit"), config.text("other")

        began = time.monotonic()
        assert limit.value == 30
        assert time.monotonic() - began < 5

        source.let_go.set()
        assert other.value == "x"

    def test_one_that_fails_keeps_no_other_from_being_followed(self, clock: Clock) -> None:
        one, other = MemoryParameters({"one": "1"}), MemoryParameters({"other": "1"})
        config = config_of(one, other, clock=clock, wait=30)
        first, second = config.integer("one"), config.integer("other")
        assert (first.value, second.value) == (1, 1)
        one.fail(ConnectionError("throttled"))
        other.put("other", "2")

        clock.advance(60)

        assert (first.value, second.value) == (1, 2)

    def test_one_that_hangs_for_good_has_two_threads_and_is_asked_again_when_they_end(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        hanging, other = HeldParameters({"limit": "1"}), MemoryParameters({"other": "1"})
        config = config_of(hanging, other, clock=clock, life=60, wait=0)
        limit, beside = config.integer("limit"), config.integer("other")
        assert (limit.value, beside.value) == (1, 1)
        hanging.let_go.clear()
        hanging.put("limit", "2")
        before = len(hanging.asked)

        try:
            for n in range(20):
                other.put("other", f"{n}")
                clock.advance(80)
                assert limit.value == 1
            settled_by = time.monotonic() + 20
            while beside.value != 19 and time.monotonic() < settled_by:
                clock.advance(80)
                _ = beside.value
                time.sleep(0.02)

            assert beside.value == 19, "the sources behind it are asked all the same"
            assert len(hanging.asked) - before == 2
            assert "2 requests to it have not come back yet, so no other is made" in caplog.text
        finally:
            hanging.let_go.set()
            settle()
        clock.advance(80)
        _ = limit.value
        settle()
        assert limit.value == 2

    def test_a_thread_that_can_not_be_started_is_a_failure_as_any(
        self, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = MemoryParameters({"limit": "10"})
        limit = config_of(source, clock=clock).integer("limit")

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(ConfigurationMissing, match="can't start new thread"):
                _ = limit.value

        clock.advance(1)
        assert limit.value == 10


class TestWhileAContainerIsFrozen:
    def test_a_request_that_was_half_way_is_made_anew_and_its_late_answer_is_not_used(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = HeldParameters({"limit": "10"})
        limit = config_of(source, clock=clock, life=60, wait=30).integer("limit")
        _ = limit.value
        clock.advance(50)
        old = threading.Event()
        source.let_go, new = old, source.let_go
        source.put("limit", "15")
        assert limit.value == 10  # Its request is on its way, with 15 as its answer, when the container is frozen.
        for thread in threading.enumerate():
            assert thread.name != "streamkit-config" or thread.is_alive()

        clock.advance(3600)
        source.let_go = new
        source.put("limit", "20")
        began = time.monotonic()
        assert limit.value == 20
        assert time.monotonic() - began < 10
        assert "the container was frozen meanwhile" in caplog.text

        old.set()
        settle()
        assert limit.value == 20
        assert errors_in(caplog) == []

    def test_an_answer_that_came_before_the_freeze_is_taken_over_after_it(self, clock: Clock) -> None:
        source = MemoryParameters({"limit": "10"})
        limit = config_of(source, clock=clock, life=3600).integer("limit")
        _ = limit.value
        source.put("limit", "20")
        clock.advance(3000)
        assert limit.value == 10
        settle()

        clock.advance(300)

        assert limit.value == 20
        assert len(source.asked) == 2

    def test_one_answer_before_and_one_after_are_not_mixed(self, clock: Clock) -> None:
        one, other = MemoryParameters({"one": "1"}), HeldParameters({"other": "1"})
        config = config_of(one, other, clock=clock, life=60, wait=30)
        first, second = config.integer("one"), config.integer("other")
        assert (first.value, second.value) == (1, 1)
        old, new = threading.Event(), other.let_go
        other.let_go = old
        clock.advance(50)
        _ = first.value
        while not other.asked[1:]:
            time.sleep(0.01)
        clock.advance(7200)
        one.put("one", "2")
        other.put("other", "2")
        other.let_go = new
        old.set()
        settle()

        assert (first.value, second.value) == (2, 2)


class Limits(msgspec.Struct):
    most: int


class TestWhatCanNotBeUsed:
    def test_the_last_good_value_stays_and_the_fault_is_told_once_without_the_value(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = MemoryParameters({"limits": '{"most": 1}'})
        limits = config_of(source, clock=clock, wait=30).value("limits", type=Limits)
        assert limits.value == Limits(1)

        source.put("limits", f'{{"most": "{HIDDEN}"}}')
        for _ in range(5):
            clock.advance(60)
            assert limits.value == Limits(1)
        source.put("limits", '{"most": 2}')
        clock.advance(60)

        assert limits.value == Limits(2)
        assert errors_in(caplog) == [
            "the parameter limits (version 2) can't be used, so its last good value stays: it is no Limits: "
            "Expected `int`, got `str` - at `$.most`"
        ]
        assert HIDDEN not in caplog.text

    def test_a_fault_that_comes_again_after_it_was_mended_is_told_again(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = MemoryParameters({"limit": "1"})
        limit = config_of(source, clock=clock, wait=30).integer("limit")
        _ = limit.value
        for text in ("x", "1", "x"):
            source.put("limit", text)
            clock.advance(60)
            assert limit.value == 1

        assert len(errors_in(caplog)) == 2

    def test_a_first_value_that_is_none_is_the_default_or_an_error(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        config = config_of(MemoryParameters({"limit": "many"}), clock=clock)
        limit, bounded = config.integer("limit"), config.integer("limit", default=3)

        assert bounded.value == 3
        with pytest.raises(ConfigurationMissing, match=r"parameter limit: it is no whole number \(version 1\)"):
            _ = limit.value
        assert "so its default is used: it is no whole number" in caplog.text

    def test_one_that_no_source_has_is_an_error_that_says_what_to_do(self, clock: Clock) -> None:
        config = config_of(Environment("NOBODYS_"), MemoryParameters(), clock=clock)

        with pytest.raises(
            ConfigurationMissing,
            match=r"parameter limit: the environment \(NOBODYS_LIMIT\) and the memory has none of this name. Put it",
        ):
            _ = config.integer("limit").value

    def test_one_that_is_removed_is_its_default_again(self, clock: Clock) -> None:
        source = MemoryParameters({"limit": "20"})
        limit = config_of(source, clock=clock, wait=30).integer("limit", default=10)
        changes: list[tuple[int, int]] = []
        limit.on_change(lambda new, old: changes.append((new, old)))
        assert limit.value == 20

        source.remove("limit")
        clock.advance(60)

        assert limit.value == 10
        assert changes == [(10, 20)]

    def test_one_that_is_removed_and_has_no_default_stays_and_is_told_once(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = MemoryParameters({"limit": "20"})
        limit = config_of(source, clock=clock, wait=30).integer("limit")
        _ = limit.value
        source.remove("limit")
        for _ in range(3):
            clock.advance(60)
            assert limit.value == 20

        assert errors_in(caplog) == [
            "the parameter limit is gone from the memory, and has no default: its last value stays"
        ]

    def test_what_is_made_of_a_value_is_made_once_for_each_change(self, clock: Clock) -> None:
        source = MemoryParameters({"limits": '{"most": 1}'})
        made: list[Limits] = []

        def make(limits: Limits) -> str:
            made.append(limits)
            return f"at most {1 // limits.most}"

        limits = config_of(source, clock=clock, wait=30).value("limits", type=Limits, then=make)
        for _ in range(3):
            assert limits.value == "at most 1"
            source.put("limits", '{"most": 1}')
            clock.advance(60)
        assert len(made) == 1

        source.put("limits", '{"most": 0}')
        clock.advance(60)
        assert limits.value == "at most 1", "what can't be made of it is a fault of the value"


class Picky(msgspec.Struct):
    """A type with a check of its own, which raises what msgspec makes no error of its own of."""

    most: int

    def __post_init__(self) -> None:
        if self.most > 9:
            raise KeyError(HIDDEN)


class Uneven:
    """A value that can't be compared, as numpy's arrays."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> Any:
        raise ValueError("the truth of it is ambiguous")

    __hash__ = None  # type: ignore[assignment]  # As an array has none.


class TestTypesOfTheUsers:
    """One setting whose type fails is no fault of the others, which are read, followed and told of as ever."""

    def test_an_error_of_its_own_is_a_fault_of_the_value_and_of_no_other(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = MemoryParameters({"a": "1", "limits": '{"most": 1}', "z": "1"})
        config = config_of(source, clock=clock, wait=30)
        before, limits, after = config.integer("a"), config.value("limits", type=Picky), config.integer("z")
        heard: list[int] = []
        before.on_change(lambda new, old: heard.append(new))
        assert limits.value.most == 1

        for name, text in (("a", "2"), ("limits", '{"most": 10}'), ("z", "2")):
            source.put(name, text)
        clock.advance(60)

        assert after.value == 2
        assert (before.value, limits.value.most, heard) == (2, 1, [2])
        assert errors_in(caplog) == [
            "the parameter limits (version 3) can't be used, so its last good value stays: "
            "it is no Picky: its type raised KeyError"
        ]

    def test_of_a_secret_nothing_of_that_error_is_told(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        source = MemoryParameters()
        source.put("limits", '{"most": 10}', is_secret=True)
        with pytest.raises(ConfigurationMissing) as raised:
            _ = config_of(source, clock=clock).secret("limits", type=Picky).value
        assert HIDDEN not in str(raised.value) + caplog.text

    def test_values_that_can_not_be_compared_are_changed_when_their_text_is(self, clock: Clock) -> None:
        source = MemoryParameters({"a": "one", "z": "1"})
        config = config_of(source, clock=clock, wait=30)
        uneven, other = config.value("a", type=str, then=Uneven), config.integer("z")
        heard: list[str] = []
        uneven.on_change(lambda new, old: heard.append(new.text))
        assert uneven.value.text == "one"

        source.put("a", "two")
        source.put("z", "2")
        clock.advance(60)

        assert other.value == 2
        assert (uneven.value.text, heard) == ("two", ["two"])

    def test_a_default_that_stays_is_no_change_though_it_can_not_be_compared(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        source = MemoryParameters({"z": "1"})
        source.fail(ConnectionError("throttled"))
        config = config_of(source, clock=clock, wait=30)
        uneven = config.value("a", type=str, then=Uneven, default=Uneven("default"))
        other = config.integer("z", default=0)
        heard: list[str] = []
        uneven.on_change(lambda new, old: heard.append(new.text))
        assert uneven.value.text == "default"

        source.fail(None)
        clock.advance(60)
        _ = uneven.value
        settle()

        assert (uneven.value.text, other.value) == ("default", 1), "the source has answered"
        assert heard == []
        assert "the parameter a has changed" not in caplog.text


class TestSecrets:
    def test_a_secret_is_read_as_one_and_never_logged(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        source = MemoryParameters()
        source.put("password", HIDDEN, is_secret=True)
        config = config_of(source, clock=clock, wait=30)
        password = config.secret("password")

        @password.on_change
        def fail(new: Secret[str], old: Secret[str]) -> None:
            raise ValueError(f"I tell: {new.reveal()} and {old.reveal()[:5]}")

        assert password.value.reveal() == HIDDEN
        source.put("password", f"{HIDDEN}-two", is_secret=True)
        clock.advance(60)

        assert password.value.reveal() == f"{HIDDEN}-two"
        assert errors_in(caplog) == [
            f"a listener of the parameter password has failed: ValueError (test_config.py:{fail.__code__.co_firstlineno + 2})"
        ]
        assert "hunter" not in caplog.text + repr(password) + repr(config) + repr(vars(config))

    def test_one_that_is_read_as_something_else_is_refused(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = MemoryParameters()
        source.put("password", HIDDEN, is_secret=True)
        source.put("keys/a", HIDDEN, is_secret=True)
        config = config_of(source, clock=clock)

        for setting in (config.text("password"), config.value("password", type=str), config.hierarchy("keys")):
            with pytest.raises(ConfigurationMissing, match=r"it is a secret: read it with config\.secret") as raised:
                _ = setting.value
            assert HIDDEN not in str(raised.value)
        assert config.hierarchy("keys", secrets=True).value["a"].reveal() == HIDDEN
        assert HIDDEN not in caplog.text

    def test_one_of_a_type_is_hidden_whole_and_what_is_wrong_with_it_is_not_told(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = MemoryParameters()
        source.put("limits", '{"most": 7}', is_secret=True)
        limits: Setting[Secret[Limits]] = config_of(source, clock=clock, wait=30).secret("limits", type=Limits)
        assert limits.value.reveal().most == 7

        source.put("limits", f'{{"{HIDDEN}": 7}}', is_secret=True)
        clock.advance(60)
        _ = limits.value

        assert "it is not of its type; what it is instead is not told of a secret" in caplog.text
        assert HIDDEN not in caplog.text

    def test_a_default_is_hidden_too(self, clock: Clock) -> None:
        config = config_of(MemoryParameters(), clock=clock)

        assert config.secret("password", default=HIDDEN).value == Secret(HIDDEN)
        assert config.secret("other", default=Secret(HIDDEN)).value == Secret(HIDDEN)


class TestListeners:
    def test_one_that_raises_is_logged_without_the_value_and_changes_nothing(
        self, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        source = MemoryParameters({"host": "old-host"})
        host = config_of(source, clock=clock, wait=30).text("host")
        heard: list[str] = []

        def fail(new: str, old: str) -> None:
            raise ValueError(f"no such host: {new!r}, it was {old}")

        host.on_change(fail)
        host.on_change(lambda new, old: heard.append(new))
        _ = host.value
        source.put("host", "new-host")
        clock.advance(60)

        assert host.value == "new-host"
        assert heard == ["new-host"]
        assert (
            "a listener of the parameter host has failed: ValueError: no such host: <value>, it was <value>"
            in caplog.text
        )
        assert "new-host" not in caplog.text

    def test_it_runs_where_the_value_is_read_and_may_read_itself(self, clock: Clock) -> None:
        source = MemoryParameters({"one": "1", "other": "1"})
        config = config_of(source, clock=clock, wait=30)
        one, other = config.integer("one"), config.integer("other")
        heard: list[tuple[int, int, str]] = []
        one.on_change(lambda new, old: heard.append((one.value, other.value, threading.current_thread().name)))
        _ = one.value
        source.put("one", "2")
        source.put("other", "2")
        clock.advance(60)

        _ = other.value

        assert heard == [(2, 2, threading.current_thread().name)]

    def test_a_new_version_of_the_same_text_is_no_change(self, clock: Clock) -> None:
        source = MemoryParameters({"limit": "1"})
        limit = config_of(source, clock=clock, wait=30).integer("limit")
        heard: list[int] = []
        limit.on_change(lambda new, old: heard.append(new))
        _ = limit.value
        for text in ("1", " 1 "):
            source.put("limit", text)
            clock.advance(60)
            assert limit.value == 1

        assert heard == []

    def test_the_log_tells_which_version_is_followed(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO)
        source = MemoryParameters({"limit": "1"})
        limit = config_of(source, clock=clock, wait=30).integer("limit")
        _ = limit.value
        source.put("limit", "424242")
        clock.advance(60)
        _ = limit.value

        assert "the parameter limit has changed: version 2" in caplog.text
        assert "424242" not in caplog.text


class TestHierarchies:
    def test_all_that_lies_under_a_name_of_all_sources_and_the_first_wins(self, clock: Clock) -> None:
        above = MemoryParameters({"routes/a": "1"})
        below = MemoryParameters({"routes/a": "7", "routes/b/c": "2", "routesx": "9"})
        config = config_of(above, below, clock=clock)

        assert config.hierarchy("routes", type=int).value == {"a": 1, "b/c": 2}

    def test_one_that_can_not_be_used_keeps_all_of_them(self, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        source = MemoryParameters({"routes/a": "1"})
        routes = config_of(source, clock=clock, wait=30).hierarchy("routes", type=int)
        _ = routes.value
        source.put("routes/a", "2")
        source.put("routes/b", "x")
        clock.advance(60)

        assert routes.value == {"a": 1}
        assert "routes/b: it is no" in caplog.text

    def test_where_nothing_is_there_it_is_empty_or_its_default(self, clock: Clock) -> None:
        config = config_of(MemoryParameters(), clock=clock)

        assert config.hierarchy("routes").value == {}
        assert config.hierarchy("others", default={"a": "b"}).value == {"a": "b"}


class TestDeclarations:
    @pytest.mark.parametrize("name", ["", "/limit", "limit/", "a//b", "a b", "../a", "a/..", "a/./b", "ü", "a*"])
    def test_a_name_that_no_source_could_have_is_told(self, name: str) -> None:
        with pytest.raises(ConfigurationError, match="a parameter is named by"):
            Config(MemoryParameters()).text(name)

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"life": 0}, "life is a number of seconds, 1 or more"),
            ({"life": float("inf")}, "life is"),
            ({"patience": -1}, "patience is"),
            ({"wait": True}, "wait is"),
        ],
    )
    def test_an_option_out_of_range_is_told(self, options: dict[str, Any], why: str) -> None:
        with pytest.raises(ConfigurationError, match=why):
            Config(MemoryParameters(), **options)

    def test_sources_are_sources(self) -> None:
        with pytest.raises(ConfigurationError, match="Config needs a source"):
            Config()
        with pytest.raises(ConfigurationError, match=r"Config takes sources, .* got str"):
            Config("/shop/orders")  # type: ignore[arg-type]  # It is what is refused.

    def test_each_kind(self) -> None:
        config = Config(
            MemoryParameters({"t": "a", "ts": "a,b", "i": "1", "n": "1.5", "b": "on", "v": '{"most": 3}', "s": "x"})
        )

        assert config.text("t").value == "a"
        assert config.texts("ts").value == ("a", "b")
        assert config.integer("i", at_least=1, at_most=1).value == 1
        assert config.number("n", at_least=1).value == 1.5
        assert config.boolean("b").value is True
        assert config.value("v", type=Limits).value == Limits(3)
        assert config.secret("s").value.reveal() == "x"
        assert config.integer("none", default=None).value is None  # type: ignore[arg-type]  # A default may be anything.

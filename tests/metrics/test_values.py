from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit import Record, RecordProcessor, Write, lambda_handler, metrics
from streamkit.fanout import FanOut
from streamkit.metrics.emf import EmbeddedMetrics
from streamkit.metrics.monitoring import MonitoringLines
from streamkit.metrics.report import Report
from streamkit.metrics.values import MOST_NAMES, MOST_VALUES, Values
from streamkit.testing import MemorySink, kinesis_event

from .conftest import Lines
from .lines import metrics_of, units_of

Line = Callable[[], dict[str, Any]]
SUCCESS: dict[str, list[Any]] = {"batchItemFailures": []}


def processor(work: Callable[[Record], Any], at_once: int = 1) -> RecordProcessor:
    class Works(RecordProcessor):
        name = "works"
        concurrency = at_once

        def process(self, record: Record) -> None:
            work(record)

    return Works()


def invoke(work: Callable[[Record], Any], count: int = 1, at_once: int = 1) -> Any:
    return lambda_handler(processor(work, at_once))(kinesis_event(range(count)), None)


def pretending(kind: type) -> Any:
    """What says that it is one, as a mock with a ``spec`` does."""

    class Pretends:
        __class__ = kind

    return Pretends()


@pytest.mark.usefixtures("on_lambda")
class TestCount:
    def test_adds_up_in_the_invocation_s_line(self, lines: Lines) -> None:
        def work(record: Record) -> None:
            metrics.count("orders.paid")
            metrics.count("orders.cents", 250)
            metrics.count("orders.weight", 0.5)

        invoke(work, 4)

        (text,) = lines()
        found = metrics_of(text)
        assert (found["orders.paid"], found["orders.cents"], found["orders.weight"]) == (4, 1000, 2.0)
        assert units_of(text)["orders.paid"] == "Count"

    def test_begins_anew_with_each_invocation(self, line: Line) -> None:
        handler = lambda_handler(processor(lambda record: metrics.count("seen")))
        handler(kinesis_event(range(3)), None)
        line()

        handler(kinesis_event(range(2)), None)

        assert line()["seen"] == 2

    def test_is_of_the_invocation_whatever_thread_runs_the_record(self, line: Line) -> None:
        def work(record: Record) -> None:
            for _ in range(500):
                metrics.count("seen")
                metrics.latency("took", 1)

        invoke(work, 16, at_once=8)

        of = line()
        assert of["seen"] == 8000
        assert of["took"] == {"Min": 1, "Max": 1, "Sum": 8000, "Count": 8000}

    def test_is_of_all_branches_of_a_fan_out(self, line: Line) -> None:
        branches = []
        for name in ("a", "b"):
            branch = processor(lambda record: metrics.count("seen"))
            branch.name = name
            branches.append(branch)

        lambda_handler(FanOut(*branches))(kinesis_event(range(3)), None)

        assert line()["seen"] == 6

    def test_is_of_the_function_that_is_called_by_another_s_record(self, lines: Lines) -> None:
        inner = lambda_handler(processor(lambda record: metrics.count("inner")))

        def work(record: Record) -> None:
            metrics.count("outer")
            inner(kinesis_event([1, 2]), None)
            metrics.count("outer")

        invoke(work)

        first, second = map(json.loads, lines())
        assert (first["inner"], first.get("outer")) == (2, None)
        assert (second["outer"], second.get("inner")) == (2, None)

    def test_of_a_thread_of_one_s_own_is_outside(self, line: Line) -> None:
        def work(record: Record) -> None:
            thread = threading.Thread(target=metrics.count, args=("lost",))
            thread.start()
            thread.join()
            metrics.count("kept")

        invoke(work)

        of = line()
        assert of["kept"] == 1
        assert "lost" not in of

    def test_counts_in_an_invocation_that_raises(self, line: Line) -> None:
        class Works(RecordProcessor):
            name = "works"

            def process(self, record: Record) -> None:
                metrics.count("seen")
                raise ValueError("no")

        event = {"Records": [{"Sns": {"Message": "a", "MessageId": "m"}, "EventSource": "aws:sns"}]}
        with pytest.raises(Exception, match="m failed"):
            lambda_handler(Works)(event, None)

        assert line()["seen"] == 1


@pytest.mark.usefixtures("on_lambda")
class TestLatency:
    def test_measures_a_block(self, lines: Lines) -> None:
        def work(record: Record) -> None:
            with metrics.latency("call"):
                time.sleep(0.01)

        invoke(work, 3)

        (text,) = lines()
        values = metrics_of(text)["call"]
        assert len(values) == 3
        assert all(10 <= value < 1000 for value in values)
        assert units_of(text)["call"] == "Milliseconds"

    def test_measures_a_block_that_raises_and_the_exception_passes(self, line: Line) -> None:
        def work(record: Record) -> None:
            with pytest.raises(KeyError, match="x"), metrics.latency("call"):
                raise KeyError("x")

        invoke(work)

        assert len(line()["call"]) == 1

    def test_measures_each_call_of_a_function(self, line: Line) -> None:
        @metrics.latency("factorial")
        def factorial(n: int) -> int:
            """n!"""
            time.sleep(0.002)
            return 1 if n == 0 else n * factorial(n - 1)

        results = []
        invoke(lambda record: results.append(factorial(4)))

        assert results == [24]
        assert factorial.__doc__ == "n!"
        # Each call has those within it.
        values = line()["factorial"]
        assert len(values) == 5
        assert values == sorted(values)
        assert values[-1] >= 10

    def test_measures_a_function_by_its_own_name_where_none_is_given(self, line: Line) -> None:
        class Prices:
            @metrics.latency
            def of(self, weight: int) -> int:
                return 2 * weight

        results = []
        invoke(lambda record: results.append(Prices().of(21)))

        assert results == [42]
        assert Prices.of.__name__ == "of"
        assert len(line()["Prices.of"]) == 1

    def test_takes_a_time_that_was_measured_elsewhere(self, line: Line) -> None:
        invoke(lambda record: metrics.latency("call", 12.5))

        assert line()["call"] == [12.5]

    def test_measures_within_a_process_that_yields(self, line: Line) -> None:
        class Works(RecordProcessor):
            name = "works"
            sink = MemorySink()

            def process(self, record: Record) -> Iterator[Write]:
                with metrics.latency("call"):
                    yield self.sink.item(1)

        lambda_handler(Works)(kinesis_event([1]), None)

        assert len(line()["call"]) == 1

    @pytest.mark.parametrize("count", [MOST_VALUES, MOST_VALUES + 1])
    def test_is_all_its_values_up_to_the_format_s_hundred_and_then_what_they_come_to(
        self, count: int, line: Line
    ) -> None:
        invoke(lambda record: metrics.latency("call", record.json() + 1), count)

        found = line()["call"]
        if count == MOST_VALUES:
            assert found == list(range(1, 101))
        else:
            assert found == {"Min": 1, "Max": 101, "Sum": 101 * 102 / 2, "Count": 101}


class TestOutsideOfAnInvocation:
    def test_nothing_happens(self, on_lambda: None, lines: Lines) -> None:
        metrics.count("seen")
        metrics.count("", float("nan"))
        metrics.latency("took", 1)
        with metrics.latency("took"):
            pass

        invoke(lambda record: None)

        (text,) = lines()
        assert "seen" not in metrics_of(text)

    def test_nothing_happens_where_metrics_are_off(self, lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
        def work(record: Record) -> None:
            metrics.count("seen")
            metrics.count("no name", -1)
            with metrics.latency("took"):
                pass

        assert invoke(work) == SUCCESS

        assert lines() == []
        assert caplog.records == []


@pytest.mark.usefixtures("on_lambda")
class TestWhatCanNotBeCounted:
    @pytest.mark.parametrize(
        "value",
        [
            *(-1, -(10**400), 10**400, -5e-324, 1.1e100, float("nan"), float("inf"), float("-inf")),
            *("7", b"7", None, [1], {}, 1 + 2j, Decimal(1), Fraction(1), object(), int),
            *(pytest.param(pretending(int), id="pretends int"), pytest.param(pretending(float), id="pretends float")),
        ],
    )
    def test_is_left_out_logged_once_and_counted_and_the_record_is_none_the_worse(
        self, value: Any, line: Line, caplog: pytest.LogCaptureFixture
    ) -> None:
        def work(record: Record) -> None:
            metrics.count("seen", value)
            metrics.count("seen", 1)

        assert invoke(work, 3) == SUCCESS

        of = line()
        assert (of["seen"], of["MetricErrors"]) == (3, 3)
        assert len([one for one in caplog.records if "a value of the metric seen" in one.message]) == 1

    @pytest.mark.parametrize("value", [-1, float("nan"), 10**400, "7", Decimal(1)])
    def test_is_left_out_of_times_too(self, value: Any, line: Line) -> None:
        def work(record: Record) -> None:
            metrics.latency("call", value)
            metrics.latency("call", 1)

        assert invoke(work, 3) == SUCCESS

        of = line()
        assert (of["call"], of["MetricErrors"]) == ([1, 1, 1], 3)

    @pytest.mark.parametrize(
        ("name", "called"),
        [
            ("with space", "with_space"),
            ("a|b,c#d:e", "a_b_c_d_e"),
            ("line\nbreak", "line_break"),
            ("naïve", "na_ve"),
            ("7up", "user.7up"),
            ("_aws", "user._aws"),
            ("Records", "user.Records"),
            ("FunctionName", "user.FunctionName"),
            ("HeartbeatAge", "user.HeartbeatAge"),
            ("streamkit.records", "user.streamkit.records"),
            ("streamkit.mine", "user.streamkit.mine"),
            ("Streamkit.Records", "user.Streamkit.Records"),
            ("streamkit_records", "user.streamkit_records"),
            ("streamkit/records", "user.streamkit_records"),
            ("audit/Failed", "audit_Failed"),
            ("\udc80", "user._"),
            ("x" * 500, "x" * 200),
        ],
    )
    def test_by_its_name_has_another_one(
        self, name: str, called: str, lines: Lines, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert invoke(lambda record: metrics.count(name), 3) == SUCCESS

        (text,) = lines()
        assert metrics_of(text)[called] == 3
        assert len([one for one in caplog.records if "can't be the name of a metric" in one.message]) == 1

    @pytest.mark.parametrize(
        "name", ["", None, 7, b"x", ["x"], {}, {"x"}, float("nan"), pytest.param(pretending(str), id="pretends")]
    )
    def test_has_no_name_at_all(self, name: Any, lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
        def work(record: Record) -> None:
            metrics.count(name)
            metrics.latency(name, 1)
            with metrics.latency(name):
                pass

        assert invoke(work) == SUCCESS

        (text,) = lines()
        assert metrics_of(text)["MetricErrors"] == 3
        assert caplog.text.count("the name of a metric is a text that is not empty") == 1

    def test_is_none_for_a_name_that_is_more_than_a_text(self, lines: Lines) -> None:
        class Hostile(str):
            __hash__ = None  # type: ignore[assignment]  # So it is in no dict.

            def __eq__(self, other: object) -> bool:
                raise ValueError("no")

            def __str__(self) -> str:
                raise ValueError("no")

        class Kind(StrEnum):
            PAID = "orders.paid"

        def work(record: Record) -> None:
            metrics.count(Hostile("hostile"))
            metrics.latency(Hostile("hostile.call"), 1)
            metrics.count(Kind.PAID)
            metrics.count("orders.paid")

        assert invoke(work, 2) == SUCCESS

        (text,) = lines()
        found = metrics_of(text)
        assert (found["hostile"], found["hostile.call"], found["orders.paid"]) == (2, [1, 1], 4)
        assert "MetricErrors" not in found

    def test_can_be_counted_by_a_handler_of_the_log(self, line: Line, request: pytest.FixtureRequest) -> None:
        class Counts(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                metrics.count("warnings")

        handler = Counts()
        log = logging.getLogger("streamkit")
        log.addHandler(handler)
        request.addfinalizer(lambda: log.removeHandler(handler))
        thread = threading.Thread(target=lambda: invoke(lambda record: metrics.count("seen", -1), 3), daemon=True)
        thread.start()

        thread.join(20)

        assert not thread.is_alive(), "it waits for itself"
        assert line()["warnings"] == 1

    def test_is_a_time_that_is_none(self, line: Line, caplog: pytest.LogCaptureFixture) -> None:
        assert invoke(lambda record: metrics.latency("call", None), 2) == SUCCESS  # type: ignore[call-overload]  # As who measures nothing may do.

        of = line()
        assert of["MetricErrors"] == 2
        assert "call" not in of
        assert caplog.text.count("a value of the metric call is a number") == 1

    def test_is_what_is_a_count_already(self, line: Line, caplog: pytest.LogCaptureFixture) -> None:
        def work(record: Record) -> None:
            metrics.count("seen")
            metrics.latency("seen", 5)

        assert invoke(work) == SUCCESS

        assert line()["seen"] == 1
        assert "seen is a count and a latency" in caplog.text

    def test_is_a_name_for_each_customer(self, lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
        assert invoke(lambda record: metrics.count(f"customer.{record.json()}"), 2 * MOST_NAMES) == SUCCESS

        together: dict[str, Any] = {}
        for text in lines():
            together |= metrics_of(text)
        assert sum(name.startswith("customer.") for name in together) == MOST_NAMES
        assert len([one for one in caplog.records if "at most 500 metrics of its own" in one.message]) == 1


class Float64(float):
    """As NumPy's is; and nothing that it says of itself is to be trusted."""

    def _refuse(self, *_: object) -> Any:
        raise ValueError("no")

    __float__ = __round__ = __repr__ = __str__ = __add__ = __radd__ = _refuse
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _refuse


class Whole(int):
    """As an ``IntEnum``'s member is."""

    def _refuse(self, *_: object) -> Any:
        raise ValueError("no")

    __int__ = __index__ = __round__ = __repr__ = __str__ = __add__ = __radd__ = _refuse
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _refuse


FLOAT64, WHOLE = pytest.param(Float64(1), id="float64"), pytest.param(Whole(1), id="whole")


class TestWhatIsMoreThanANumber:
    """It counts as the number that it is, in each format."""

    @pytest.mark.parametrize("value", [FLOAT64, WHOLE, True])
    @pytest.mark.parametrize("times", [1, MOST_VALUES + 1])
    def test_is_in_the_line(self, value: Any, times: int, on_lambda: None, lines: Lines) -> None:
        def work(record: Record) -> None:
            metrics.count("seen", value)
            metrics.latency("call", value)

        assert invoke(work, times) == SUCCESS

        (text,) = lines()
        found = metrics_of(text)
        assert found["seen"] == times
        assert found["call"] == ([1] if times == 1 else {"Min": 1, "Max": 1, "Sum": times, "Count": times})

    @pytest.mark.parametrize("value", [FLOAT64, WHOLE, True, -0.0, 0, 1, 1.5, 10**30, 1e100, 10**100])
    def test_is_exact_in_what_is_kept(self, value: Any) -> None:
        values = Values(lambda about, fault: pytest.fail(fault))

        for _ in range(2):
            values.count("seen", value)
            values.latency("call", value)

        held = values.latencies["call"]
        assert type(values.counts["seen"]) in (int, float)
        assert {type(one) for one in (*held.values, held.least, held.most, held.total)} == {float}
        assert "-" not in str(held.values)


class TestALineOfMany:
    def test_has_a_hundred_metrics_and_the_rest_is_in_further_ones(self, on_lambda: None, lines: Lines) -> None:
        invoke(lambda record: metrics.count(f"kind.{record.json()}"), 250)

        written = lines()
        assert [len(metrics_of(text)) for text in written[:-1]] == [100, 100]
        together: dict[str, Any] = {}
        for text in written:
            found = metrics_of(text)
            assert not found.keys() & together.keys()
            together |= found
        assert {name for name in together if name.startswith("kind.")} == {f"kind.{n}" for n in range(250)}

    def test_is_within_cloudwatch_s_size_at_its_longest(self, on_lambda: None, lines: Lines) -> None:
        def work(record: Record) -> None:
            for n in range(MOST_VALUES):
                metrics.latency("x" * 190 + f".{record.json()}", 123_456_789.123 + n)

        invoke(work, 200)

        assert sum(len(metrics_of(text)) for text in lines()) > 200


NAMES = st.text(max_size=300) | st.sampled_from(["Records", "seen", "_aws", "a.b"])
NUMBERS = (
    st.floats()
    | st.integers()
    | st.integers(max_value=10**110)
    | st.booleans()
    | st.floats().map(Float64)
    | st.integers(min_value=0, max_value=10**6)
)


@given(calls=st.lists(st.tuples(st.sampled_from(["count", "latency"]), NAMES, NUMBERS), max_size=150))
def test_whatever_is_counted_makes_lines_that_keep_to_both_formats(calls: list[tuple[str, str, Any]]) -> None:
    complaints: list[str] = []
    values = Values(lambda about, fault: complaints.append(fault))
    for kind, name, value in calls:
        getattr(values, kind)(name, value)
    report = Report("p", None, 1.7e9, {"Records": 1}, {}, {}, values)

    for text in EmbeddedMetrics().lines(report).splitlines():
        metrics_of(text)
    for text in MonitoringLines().lines(report).splitlines():
        mark, at, number, kind, name, tags = text.split("|")
        assert (mark, at, tags) == ("MONITORING", "1700000000", "#function:function,processor:p")
        assert kind in ("count", "gauge", "histogram")
        assert float(number) >= 0
        assert name.isascii()
    assert not [complaint for complaint in complaints if "\n" in complaint]

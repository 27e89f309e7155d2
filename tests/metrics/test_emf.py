from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from streamkit import (
    Block,
    Divert,
    Park,
    Record,
    RecordProcessor,
    Reject,
    Retry,
    Unavailable,
    Write,
    kpl,
    lambda_handler,
)
from streamkit.errors import BatchFailed, StreamkitError
from streamkit.fanout import FanOut
from streamkit.ledgers.memory import MemoryLedger
from streamkit.metrics.names import BRANCH, FIGURES
from streamkit.policy import Policy
from streamkit.progress.memory import MemoryProgress
from streamkit.testing import EventSourceMapping, MemoryQueue, MemorySink, kinesis_event

from .conftest import Lines
from .lines import metrics_of, units_of

Line = Callable[[], dict[str, Any]]
SUCCESS: dict[str, list[Any]] = {"batchItemFailures": []}


class Context:
    """As Lambda's, with 10 seconds left for ever."""

    function_name = "by-context"
    function_version = "7"
    aws_request_id = "c6af9ac6-7b61-11e6-9a41-93e8deadbeef"

    def get_remaining_time_in_millis(self) -> int:
        return 10_000


class Orders(RecordProcessor):
    """Does with a record what its payload says."""

    name = "orders"

    def __init__(self, on_failure: Policy | None = None, name: str = "orders") -> None:
        self.sink = MemorySink()
        self.on_failure = on_failure or Block()
        self.name = name

    def process(self, record: Record) -> Iterator[Write]:
        match record.data:
            case b"reject":
                raise Reject("it can't be right")
            case b"fail":
                raise ValueError("no")
            case b"away":
                raise Unavailable("payments")
            case b"slow":
                time.sleep(0.02)
        yield self.sink.item(record.data)


class Clock:
    """A context with a clock of the test's own."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


def invoke(source: Any, payloads: Sequence[Any], context: Any = None, **options: Any) -> Any:
    return lambda_handler(source)(kinesis_event(payloads, **options), context)


def figures(of: dict[str, Any]) -> dict[str, int]:
    """What became of the records, without what is 0."""
    return {name: of[name] for name in BRANCH if of[name]}


class TestTheSetting:
    def test_is_on_where_lambda_runs_the_function(self, on_lambda: None, lines: Lines) -> None:
        invoke(Orders, [b"a"])

        assert len(lines()) == 1

    def test_is_off_everywhere_else(self, lines: Lines) -> None:
        invoke(Orders, [b"a"])

        assert lines() == []

    def test_turns_metrics_off(self, on_lambda: None, monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
        monkeypatch.setenv("STREAMKIT_METRICS", "off")

        invoke(Orders, [b"a"])

        assert lines() == []

    def test_turns_them_on(self, monkeypatch: pytest.MonkeyPatch, lines: Lines) -> None:
        monkeypatch.setenv("STREAMKIT_METRICS", "emf")

        invoke(Orders, [b"a"])

        assert len(lines()) == 1

    def test_that_is_none_is_said_and_changes_nothing(
        self, on_lambda: None, monkeypatch: pytest.MonkeyPatch, lines: Lines, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("STREAMKIT_METRICS", "yes")

        assert invoke(Orders, [b"a"]) == SUCCESS

        assert len(lines()) == 1
        assert "STREAMKIT_METRICS is one of emf, monitoring, otlp, off; got 'yes', and emf is used" in caplog.text

    def test_of_the_engine_for_tests_is_off(self, lines: Lines) -> None:
        mapping = EventSourceMapping(lambda_handler(Orders), batch_size=10)
        mapping.put(b"a", "key")

        mapping.run_until_idle()

        assert mapping.invocations
        assert lines() == []


@pytest.mark.usefixtures("on_lambda")
class TestALine:
    def test_is_one_for_an_invocation_and_of_the_format(self, lines: Lines) -> None:
        handler = lambda_handler(Orders)

        for _ in range(3):
            handler(kinesis_event([b"a", b"bcd"]), Context())

        written = lines()
        assert len(written) == 3
        for text in written:
            assert metrics_of(text)["Records"] == 2

    def test_has_the_names_and_units_that_are_documented(self, lines: Lines) -> None:
        invoke(Orders, [b"a"], Context())

        (text,) = lines()
        assert units_of(text) == {name: FIGURES[name] for name in metrics_of(text)}
        assert set(FIGURES) - set(metrics_of(text)) == {
            *("SettleTime", "ProgressTime", "ParkTime", "ClaimTime", "ParkedKeys", "OldestParkedAge"),
            *("HeartbeatAge", "HeartbeatFailures", "MetricErrors", "CircuitOpen", "Probes"),
        }

    def test_has_one_set_of_two_dimensions(self, line: Line) -> None:
        invoke(Orders, [b"a"])

        of = line()
        (directive,) = of["_aws"]["CloudWatchMetrics"]
        assert directive["Namespace"] == "streamkit"
        assert directive["Dimensions"] == [["FunctionName", "Processor"]]
        assert (of["FunctionName"], of["Processor"]) == ("orders-indexer", "orders")

    def test_says_which_invocation_it_was(self, line: Line) -> None:
        before = time.time()
        invoke(Orders, [b"a"], Context(), stream="shop", shard_id="shardId-000000000007")

        of = line()
        assert of["RequestId"] == Context.aws_request_id
        assert of["FunctionVersion"] == "7"
        assert (of["Source"], of["Shard"]) == ("kinesis", "shop/shardId-000000000007")
        assert before - 1 <= of["_aws"]["Timestamp"] / 1000 <= time.time()

    def test_takes_the_function_s_name_from_the_context_where_the_environment_has_none(
        self, monkeypatch: pytest.MonkeyPatch, line: Line
    ) -> None:
        monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME")
        monkeypatch.setenv("STREAMKIT_METRICS", "emf")

        invoke(Orders, [b"a"], Context())

        assert line()["FunctionName"] == "by-context"

    @pytest.mark.parametrize("name", ["é\n{}\udc80", " ", "x" * 5000, '"}{"_aws":'])
    def test_is_sound_whatever_the_processor_is_called(self, name: str, lines: Lines) -> None:
        invoke(Orders(name=name), [b"a"])

        (text,) = lines()
        assert metrics_of(text)["Records"] == 1

    def test_never_has_a_payload_or_a_key(self, lines: Lines, caplog: pytest.LogCaptureFixture) -> None:
        keys = ["secret-key-0", "secret-key-1", "secret-key-2"]
        payloads = [b"secret-payload", b"reject", b"fail"]

        invoke(Orders(Divert(MemoryQueue(), MemoryQueue())), payloads, partition_keys=keys)
        with pytest.raises(StreamkitError):
            lambda_handler(Orders)({"Records": [{"secret": "secret"}]}, None)

        text = "\n".join(lines())
        assert text.count("\n") == 1
        assert "secret" not in text

    def test_is_written_by_print_s_own_way_so_that_lambda_passes_it_on_as_it_is(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        output = io.StringIO()
        monkeypatch.setattr(sys, "stdout", output)

        invoke(Orders, [b"a"])

        assert re.fullmatch(r"\{.*\}\n", output.getvalue())

    def test_marks_the_first_batch_of_a_container(self, line: Line) -> None:
        handler = lambda_handler(Orders)
        cold = []
        for _ in range(3):
            handler(kinesis_event([b"a"]), None)
            cold.append(line()["ColdStart"])

        assert cold == [1, 0, 0]

    def test_is_not_written_for_a_ping_which_is_the_cold_start_that_nobody_waited_for(
        self, lines: Lines, line: Line
    ) -> None:
        handler = lambda_handler(Orders)

        handler({"source": "aws.events"}, None)
        assert lines() == []
        handler(kinesis_event([b"a"]), None)

        assert line()["ColdStart"] == 0

    def test_marks_no_container_that_was_provisioned(self, monkeypatch: pytest.MonkeyPatch, line: Line) -> None:
        monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "provisioned-concurrency")

        invoke(Orders, [b"a"])

        assert line()["ColdStart"] == 0


@pytest.mark.usefixtures("on_lambda")
class TestWhatBecameOfTheRecords:
    @pytest.mark.parametrize(
        ("policy", "payloads", "expected"),
        [
            (Block(), [b"a", b"b"], {}),
            (Block(), [b"a", b"fail", b"b"], {"Failed": 1, "Unsettled": 2}),
            (Block(), [b"a", b"away", b"b"], {"Unavailable": 1, "Unsettled": 2}),
            (Block(MemoryQueue()), [b"reject", b"b"], {"Failed": 1, "DeadLettered": 1}),
            (Divert(MemoryQueue()), [b"fail", b"b", b"fail"], {"Failed": 2, "Retried": 2}),
            (
                Divert(MemoryQueue(), MemoryQueue()),
                [b"fail", b"reject", b"b"],
                {"Failed": 2, "Retried": 1, "DeadLettered": 1},
            ),
        ],
    )
    def test_is_counted(self, policy: Policy, payloads: list[bytes], expected: dict[str, int], line: Line) -> None:
        invoke(Orders(policy), payloads)

        of = line()
        assert figures(of) == expected
        assert of["Records"] == len(payloads)

    def test_tells_what_was_parked_behind_a_failure_from_the_failure(self, line: Line) -> None:
        park = Park(MemoryQueue(fifo=True), MemoryLedger())

        invoke(Orders(park), [b"fail", b"x", b"y", b"z"], partition_keys=["a", "a", "b", "a"])

        assert figures(line()) == {"Failed": 1, "Retried": 3}

    def test_tells_how_many_keys_are_parked_and_for_how_long_the_oldest(self, line: Line) -> None:
        park = Park(MemoryQueue(fifo=True), MemoryLedger())

        invoke(Orders(park), [b"fail", b"fail", b"x"], partition_keys=["a", "b", "c"])
        before = line()
        time.sleep(0.05)
        invoke(Orders(park), [b"x"], partition_keys=["c"])
        after = line()

        assert (before["ParkedKeys"], before["OldestParkedAge"]) == (0, 0)
        assert after["ParkedKeys"] == 2
        assert 50 <= after["OldestParkedAge"] < 60_000

    def test_tells_of_parked_keys_when_the_queue_brings_one_back_and_the_stream_is_quiet(self, line: Line) -> None:
        queue = MemoryQueue(fifo=True)
        park = Park(queue, MemoryLedger())
        invoke(Orders(park), [b"fail", b"fail"], partition_keys=["a", "b"])
        line()
        time.sleep(0.05)

        queue.deliver(lambda_handler(Orders(park)), most=1)

        of = line()
        assert (of["Source"], of["ParkedKeys"]) == ("sqs", 2)
        assert 50 <= of["OldestParkedAge"] < 60_000

    def test_tells_that_nothing_is_parked_any_more_when_the_queue_is_through(self, line: Line) -> None:
        queue = MemoryQueue(fifo=True)
        park = Park(queue, MemoryLedger())
        invoke(Orders(park), [b"fail"], partition_keys=["a"])
        line()

        class Healed(Orders):
            def process(self, record: Record) -> Iterator[Write]:
                yield self.sink.item(record.data)

        queue.deliver(lambda_handler(Healed(park)))

        assert (of := line())["ParkedKeys"] == 0
        assert of["OldestParkedAge"] == 0

    def test_tells_nothing_of_parked_keys_where_nobody_parks(self, line: Line) -> None:
        invoke(Orders(), [b"a"])

        assert "ParkedKeys" not in line()

    def test_tells_of_a_circuit_from_the_first_request_without_an_answer_on(self, line: Line) -> None:
        class Service(MemorySink):
            has_breaker = True

        orders, clock = Orders(), Clock()
        orders.sink = Service()
        handler = lambda_handler(orders)
        said = []
        for is_down, pause in [
            (False, 0),
            (True, 0),
            (True, 0),
            (True, 0),
            (True, 0),
            (True, 2),
            (False, 4),
            (False, 0),
        ]:
            orders.sink.fail(OSError("refused") if is_down else None)
            clock.seconds += pause
            handler(kinesis_event([b"a"]), clock)
            of = line()
            said.append((of.get("CircuitOpen"), of.get("Probes"), of["Unavailable"]))

        assert said == [
            (None, None, 0),
            *[(0, 0, 1), (0, 0, 1), (1, 0, 1)],
            *[(1, 0, 1), (1, 1, 1)],
            *[(0, 1, 0), (0, 0, 0)],
        ]

    def test_counts_a_queue_that_refuses_as_a_failure_that_stays(self, line: Line) -> None:
        queue = MemoryQueue()
        queue.refuse()

        invoke(Orders(Divert(queue)), [b"a", b"fail"])

        assert figures(line()) == {"Failed": 1, "Unsettled": 1}

    def test_counts_what_a_sink_refuses(self, line: Line) -> None:
        orders = Orders()
        orders.sink.refuse(lambda item: "failed" if item == b"b" else None)

        invoke(orders, [b"a", b"b", b"c"])

        assert figures(line()) == {"Failed": 1, "Unsettled": 1}

    def test_counts_data_that_can_not_be_decoded(self, line: Line) -> None:
        event = kinesis_event([b"a", b"b"])
        event["Records"][1]["kinesis"]["data"] = "***"

        lambda_handler(Orders(Block(MemoryQueue())))(event, None)

        assert figures(line()) == {"Failed": 1, "DeadLettered": 1}

    def test_counts_what_an_earlier_delivery_has_done(self, line: Line) -> None:
        orders = Orders()
        orders.progress = MemoryProgress()
        orders.ordering = "none"
        handler, event = lambda_handler(orders), kinesis_event([b"a", b"fail", b"b"])

        handler(event, None)
        first = line()
        handler(event, None)
        second = line()

        assert figures(first) == {"Failed": 1, "Unsettled": 1}
        assert figures(second) == {"Failed": 1, "Unsettled": 1, "DuplicatesSkipped": 2}
        assert "ProgressTime" in second

    def test_is_counted_on_the_retry_path_too(self, line: Line) -> None:
        retries, letters = MemoryQueue(), MemoryQueue()
        handler = lambda_handler(Orders(Divert(retries, letters, attempts=1, backoff=0)))
        handler(kinesis_event([b"fail"]), None)
        line()

        retries.deliver(handler)

        of = line()
        assert figures(of) == {"Failed": 1, "DeadLettered": 1}
        assert of["Source"] == "sqs"
        assert of["Bytes"] > 0
        assert "OldestRecordAge" not in of
        assert "BatchUse" not in of

    def test_counts_no_message_that_came_early_as_a_failure(self, line: Line) -> None:
        class Later(RecordProcessor):
            name = "orders"
            on_failure = Divert(retries := MemoryQueue(), MemoryQueue())

            def process(self, record: Record) -> None:
                raise Retry(3600)

        handler = lambda_handler(Later)
        handler(kinesis_event([b"a"]), None)
        assert figures(line()) == {"Failed": 1, "Retried": 1}
        # Past SQS's longest delay, and before the time that was asked for.
        Later.retries.advance(900)

        Later.retries.deliver(handler)

        assert figures(line()) == {"Retried": 1}

    def test_counts_user_records_of_an_aggregate(self, line: Line) -> None:
        users = [kpl.UserRecord(b"x" * 10, f"k{n}") for n in range(7)]

        invoke(Orders, [kpl.aggregate(users)])

        assert line()["Records"] == 7

    @pytest.mark.parametrize("size", [0, 1, 2, 3, 100, 5000])
    def test_knows_the_bytes_to_two_a_record(self, size: int, line: Line) -> None:
        invoke(Orders, [b"x" * size] * 5)

        assert 5 * size <= line()["Bytes"] <= 5 * (size + 2)

    def test_estimates_the_bytes_of_many_by_a_hundred_of_them(self, line: Line) -> None:
        payloads = [b"x" * (300 + n % 200) for n in range(1777)]

        invoke(Orders, payloads)

        assert line()["Bytes"] == pytest.approx(sum(map(len, payloads)), rel=0.05)


@pytest.mark.usefixtures("on_lambda")
class TestTimes:
    def test_are_told_by_stage(self, line: Line) -> None:
        class SlowSink(MemorySink):
            def write(self, writes: Sequence[Write], *, deadline: float) -> Any:
                time.sleep(0.05)
                return super().write(writes, deadline=deadline)

        class SlowQueue(MemoryQueue):
            def send(self, messages: Any, *, deadline: float) -> Any:
                time.sleep(0.03)
                return super().send(messages, deadline=deadline)

        orders = Orders(Divert(SlowQueue()))
        orders.sink = SlowSink()

        invoke(orders, [b"slow", b"fail"], Context())

        of = line()
        assert of["DeliverTime"] >= 50
        assert of["SettleTime"] >= 30
        assert 20 <= of["ProcessTime"] < 50
        stages = [of[name] for name in of if name.endswith("Time")]
        assert of["Duration"] == pytest.approx(sum(stages), abs=0.1)
        assert of["TimeUse"] == pytest.approx(100 * of["Duration"] / 10_000, abs=0.01)

    def test_leave_out_stages_that_were_none(self, line: Line) -> None:
        invoke(Orders, [b"a"])

        assert {name for name in line() if name.endswith("Time")} == {"DecodeTime", "ProcessTime", "DeliverTime"}

    def test_have_no_share_of_a_time_that_has_no_end(self, line: Line) -> None:
        invoke(Orders, [b"a"], None)

        assert "TimeUse" not in line()

    def test_have_the_age_of_the_oldest_record(self, line: Line) -> None:
        event = kinesis_event([b"a", b"b"])
        for raw, age in zip(event["Records"], (90, 5), strict=True):
            raw["kinesis"]["approximateArrivalTimestamp"] = time.time() - age

        lambda_handler(Orders)(event, None)

        assert line()["OldestRecordAge"] == pytest.approx(90_000, abs=1000)

    @pytest.mark.parametrize("arrived", [None, "x", True, float("nan"), 1e300, {}, 1e10])
    def test_take_any_time_of_arrival(self, arrived: Any, lines: Lines) -> None:
        event = kinesis_event([b"a"])
        event["Records"][0]["kinesis"]["approximateArrivalTimestamp"] = arrived

        lambda_handler(Orders)(event, None)

        (text,) = lines()
        assert metrics_of(text).get("OldestRecordAge", 0) == 0


@pytest.mark.usefixtures("on_lambda")
class TestTheUseOfABatch:
    def test_is_its_share_of_the_batch_size_that_is_told(self, monkeypatch: pytest.MonkeyPatch, line: Line) -> None:
        monkeypatch.setenv("STREAMKIT_BATCH_SIZE", "10")

        invoke(Orders, [b"a"] * 4)

        assert line()["BatchUse"] == 40

    def test_is_its_share_of_lambda_s_event_where_that_is_larger(self, line: Line) -> None:
        invoke(Orders, [b"x" * 3 * 1_048_576])

        # 3 MiB are 4 MiB of base64, of an event of 6 MiB.
        assert line()["BatchUse"] == pytest.approx(66.67, abs=0.1)

    @pytest.mark.parametrize("text", ["0", "-1", "many"])
    def test_says_what_is_no_batch_size(
        self, text: str, monkeypatch: pytest.MonkeyPatch, line: Line, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("STREAMKIT_BATCH_SIZE", text)

        invoke(Orders, [b"a"] * 4)

        assert line()["BatchUse"] < 1
        assert "STREAMKIT_BATCH_SIZE is a whole number, 1 or more" in caplog.text


@pytest.mark.usefixtures("on_lambda")
class TestAnInvocationThatRaises:
    def test_has_its_line_and_its_own_exception(self, line: Line) -> None:
        event = {"Records": [{"Sns": {"Message": "fail", "MessageId": "m"}, "EventSource": "aws:sns"}]}

        with pytest.raises(BatchFailed, match="m failed") as raised:
            lambda_handler(Orders)(event, None)

        assert raised.value.__context__ is None
        of = line()
        assert (of["Errors"], of["Error"]) == (1, "BatchFailed")
        assert figures(of) == {"Failed": 1, "Unsettled": 1}
        assert of["Bytes"] == 4

    def test_has_it_where_the_processor_can_not_be_made(self, line: Line) -> None:
        def broken() -> RecordProcessor:
            raise KeyError("secret")

        with pytest.raises(KeyError, match="secret"):
            lambda_handler(broken)(kinesis_event([b"a", b"b"]), None)

        of = line()
        assert (of["Errors"], of["Error"], of["Processor"], of["Records"]) == (1, "KeyError", "unknown", 2)

    @pytest.mark.parametrize("event", [{"Records": 7}, {"Records": [None]}, {"Records": [{"kinesis": 3}]}, [], "x", 7])
    def test_has_it_whatever_the_event_is(self, event: Any, lines: Lines) -> None:
        with pytest.raises(StreamkitError):
            lambda_handler(Orders)(event, None)

        (text,) = lines()
        assert metrics_of(text)["Errors"] == 1


class Broken(io.StringIO):
    def write(self, text: str) -> int:
        raise OSError("the pipe is gone")


@pytest.mark.usefixtures("on_lambda")
class TestMetricsThatFail:
    def test_change_no_answer_and_are_logged_once_and_counted(
        self, monkeypatch: pytest.MonkeyPatch, line: Line, caplog: pytest.LogCaptureFixture
    ) -> None:
        handler = lambda_handler(Orders)
        with monkeypatch.context() as broken:
            broken.setattr(sys, "stdout", Broken())
            for _ in range(3):
                assert handler(kinesis_event([b"a"]), None) == SUCCESS

        handler(kinesis_event([b"a"]), None)
        after = line()
        handler(kinesis_event([b"a"]), None)

        assert after["MetricErrors"] == 3
        assert "MetricErrors" not in line()
        assert len([one for one in caplog.records if "metrics have failed" in one.message]) == 1

    def test_change_no_answer_where_nothing_can_be_told_of_an_invocation(
        self, monkeypatch: pytest.MonkeyPatch, lines: Lines, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(raws: list[Any]) -> float:
            raise OverflowError("no such time")

        monkeypatch.setattr("streamkit.metrics.metering.oldest_age", broken)

        assert invoke(Orders, [b"a"]) == SUCCESS

        assert lines() == []
        assert "metrics have failed" in caplog.text

    def test_leave_an_exception_as_it_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdout", Broken())

        with pytest.raises(StreamkitError, match="not an event that streamkit knows") as raised:
            lambda_handler(Orders)({"Records": 7}, None)

        assert raised.value.__context__ is None


@pytest.mark.usefixtures("on_lambda")
class TestAFanOut:
    def test_has_one_line_with_what_is_of_each_branch(self, lines: Lines) -> None:
        fan = FanOut(Orders(name="search"), Orders(Divert(MemoryQueue()), name="audit"), name="all")

        invoke(fan, [b"a", b"slow", b"fail"], Context())

        (text,) = lines()
        of = json.loads(text)
        assert of["Processor"] == "all"
        assert of["Records"] == 3
        assert figures(of) == {"Failed": 2, "Retried": 1, "Unsettled": 1}
        assert figures(of["Branches"]["search"]) == {"Failed": 1, "Unsettled": 1}
        assert figures(of["Branches"]["audit"]) == {"Failed": 1, "Retried": 1}
        assert of["Branches"]["search"]["ProcessTime"] >= 20
        assert of["Branches"]["audit"]["SettleTime"] > 0
        of_branches = {name: value for name, value in metrics_of(text).items() if "/" in name}
        assert of_branches == {"search/Failed": 1, "search/Unsettled": 1, "audit/Failed": 1, "audit/Retried": 1}

    def test_has_none_of_a_branch_where_all_goes_well(self, lines: Lines) -> None:
        invoke(FanOut(Orders(name="search"), Orders(name="audit")), [b"a"])

        (text,) = lines()
        assert set(metrics_of(text)) <= set(FIGURES)

    def test_of_one_branch_has_the_line_of_its_processor(self, line: Line) -> None:
        invoke(FanOut(Orders(name="search")), [b"a"])

        of = line()
        assert of["Processor"] == "search"
        assert "Branches" not in of

    def test_counts_the_records_of_a_branch_that_can_not_be_made(self, line: Line) -> None:
        class Away(Orders):
            name = "away"

            def __init__(self) -> None:
                raise OSError("no such service")

        invoke(FanOut(Orders, Away), [b"a", b"b"])

        of = line()
        assert figures(of["Branches"]["away"]) == {"Unavailable": 2, "Unsettled": 2}
        assert figures(of["Branches"]["orders"]) == {}

    def test_has_no_line_for_a_ping(self, lines: Lines) -> None:
        lambda_handler(FanOut(Orders, Orders(name="b")))({}, None)

        assert lines() == []

    def test_of_more_branches_than_a_line_takes_has_further_lines(self, lines: Lines) -> None:
        fan = FanOut(*(Orders(Divert(MemoryQueue()), name=f"branch-{n}") for n in range(60)))

        invoke(fan, [b"fail"])

        written = lines()
        assert len(written) == 2
        together: dict[str, Any] = {}
        for text in written:
            found = metrics_of(text)
            assert not found.keys() & together.keys()
            together |= found
        assert sum(name.endswith("/Failed") for name in together) == 60
        assert together["Failed"] == 60


COLD_START = """
import sys
from streamkit import RecordProcessor, lambda_handler

class Orders(RecordProcessor):
    name = "orders"
    def process(self, record):
        return None

lambda_handler(Orders)({event!r}, None)
print("\\n".join(sys.modules), file=sys.stderr)
"""


def _modules(setting: str) -> set[str]:
    ran = subprocess.run(
        [sys.executable, "-c", COLD_START.format(event=kinesis_event([b"{}"]))],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={"STREAMKIT_METRICS": setting, "PATH": ""},
        timeout=120,
    )
    return set(ran.stderr.split())


def test_a_cold_start_imports_what_metrics_need_and_only_where_they_are_on() -> None:
    off, on = _modules("off"), _modules("emf")

    assert {name for name in off if name.startswith("streamkit.metrics")} == {"streamkit.metrics"}
    assert {name for name in on - off if not name.startswith("streamkit.metrics")} == set()
    assert "socket" not in on


def test_nothing_of_an_invocation_stays(on_lambda: None, line: Line, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    handler = lambda_handler(Orders)
    handler(kinesis_event([b"fail", b"a"]), None)
    line()

    handler(kinesis_event([b"a"]), None)

    assert figures(line()) == {}

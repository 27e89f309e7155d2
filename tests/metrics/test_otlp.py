from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from streamkit import Divert, Park, Record, RecordProcessor, lambda_handler, metrics
from streamkit.errors import ConfigurationError
from streamkit.fanout import FanOut
from streamkit.heartbeat import payload
from streamkit.ledgers.memory import MemoryLedger
from streamkit.metrics.otlp import MOST_SERIES, OtlpTarget, headers_of
from streamkit.metrics.report import Report
from streamkit.metrics.values import BOUNDS, Values
from streamkit.policy import Policy
from streamkit.testing import MemoryQueue, kinesis_event

from ..outside_server import OutsideServer
from .conftest import Lines

SUCCESS: dict[str, list[Any]] = {"batchItemFailures": []}


class Context:
    """With so many seconds left, for ever."""

    def __init__(self, seconds: float = 10) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        return int(self._seconds * 1000)


class Orders(RecordProcessor):
    name = "orders"

    def __init__(self, name: str = "orders") -> None:
        self.name = name
        self.on_failure: Policy = Divert(MemoryQueue())

    def process(self, record: Record) -> None:
        metrics.count("orders.paid", 2)
        metrics.count("orders.weight", 0.5)
        metrics.latency("payments.call", 12.5)
        if record.data == b"fail":
            raise ValueError("no")


@pytest.fixture
def server(on_lambda: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[OutsideServer]:
    with OutsideServer().running() as running:
        monkeypatch.setenv("STREAMKIT_OTLP_ENDPOINT", running.url)
        monkeypatch.delenv("OTEL_EXPORTER_OTLP_HEADERS", raising=False)
        yield running


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each invocation may push."""
    monkeypatch.setattr("streamkit.metrics.otlp.INTERVAL", 0.0)


def parsed(body: bytes) -> Any:
    """The request, by OpenTelemetry's own definition: JSON that breaks it raises, and so does a field that it does not know."""
    return json_format.Parse(body, ExportMetricsServiceRequest())


def series(body: bytes) -> dict[tuple[str, str, str], Any]:
    """The points by name, processor and branch."""
    (of_resource,) = parsed(body).resource_metrics
    (of_scope,) = of_resource.scope_metrics
    found: dict[tuple[str, str, str], Any] = {}
    for metric in of_scope.metrics:
        for point in getattr(metric, metric.WhichOneof("data")).data_points:
            attributes = {one.key: one.value.string_value for one in point.attributes}
            key = metric.name, attributes.get("processor", ""), attributes.get("branch", "")
            assert key not in found
            found[key] = (metric, point)
    return found


def sums(body: bytes) -> dict[str, float]:
    """The sums of the processor itself."""
    return {
        name: point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
        for (name, _, branch), (metric, point) in series(body).items()
        if metric.WhichOneof("data") == "sum" and not branch
    }


class TestAPush:
    def test_has_the_figures_of_the_invocation(self, server: OutsideServer, lines: Lines) -> None:
        lambda_handler(Orders)(kinesis_event([b"a", b"fail", b"b"]), Context())

        (request,) = server.requests
        assert (request.method, request.path) == ("POST", "/v1/metrics")
        assert request.headers["content-type"] == "application/json"
        found = sums(request.body)
        assert found["streamkit.invocations"] == 1
        assert found["streamkit.records"] == 3
        assert (found["streamkit.failed"], found["streamkit.retried"], found["streamkit.dead_lettered"]) == (1, 1, 0)
        assert (found["orders.paid"], found["orders.weight"]) == (6, 1.5)
        (text,) = lines()
        assert json.loads(text)["Records"] == 3

    def test_says_whose_figures_they_are(self, server: OutsideServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_REGION", "eu-west-1")

        lambda_handler(Orders)(kinesis_event([b"a"]), Context())
        lambda_handler(Orders)(kinesis_event([b"a"]), Context())

        resources = []
        for request in server.requests:
            (of_resource,) = parsed(request.body).resource_metrics
            resources.append({one.key: one.value.string_value for one in of_resource.resource.attributes})
        first, second = resources
        assert first["service.name"] == first["faas.name"] == "orders-indexer"
        assert first["cloud.region"] == "eu-west-1"
        # Two containers are two instances, or the sums of one would stand for those of the other.
        assert first["service.instance.id"] != second["service.instance.id"]

    def test_is_cumulative(self, server: OutsideServer, no_waiting: None) -> None:
        handler = lambda_handler(Orders)
        before = time.time_ns()

        for _ in range(3):
            handler(kinesis_event([b"a", b"b"]), Context())

        bodies = [request.body for request in server.requests]
        assert [sums(body)["streamkit.records"] for body in bodies] == [2, 4, 6]
        starts, ends = set(), []
        for body in bodies:
            for metric, point in series(body).values():
                kind = metric.WhichOneof("data")
                if kind == "gauge":
                    continue
                data = getattr(metric, kind)
                assert data.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
                assert kind == "histogram" or data.is_monotonic
                starts.add(point.start_time_unix_nano)
                ends.append(point.time_unix_nano)
        (start,) = starts
        assert before <= start <= min(ends)
        assert max(ends) <= time.time_ns()

    def test_has_users_own_never_in_a_series_of_streamkits(self, server: OutsideServer) -> None:
        class Counts(RecordProcessor):
            name = "orders"

            def process(self, record: Record) -> None:
                metrics.count("streamkit.records", 100)
                metrics.latency("streamkit.duration", 1e9)

        lambda_handler(Counts)(kinesis_event([b"a", b"b"]), Context())

        body = server.requests[0].body
        found = sums(body)
        assert (found["streamkit.records"], found["user.streamkit.records"]) == (2, 200)
        assert series(body)["streamkit.duration", "orders", ""][1].count == 1
        assert series(body)["streamkit.latency.user.streamkit.duration", "orders", ""][1].count == 2

    def test_has_histograms_of_times_and_gauges_of_shares(self, server: OutsideServer, no_waiting: None) -> None:
        handler = lambda_handler(Orders)
        handler(kinesis_event([b"a"]), Context())
        handler(kinesis_event([b"a", b"b"]), Context())

        found = series(server.requests[-1].body)
        metric, point = found["streamkit.latency.payments.call", "orders", ""]
        assert metric.unit == "ms"
        assert (point.count, point.sum, point.min, point.max) == (3, 37.5, 12.5, 12.5)
        assert tuple(point.explicit_bounds) == BOUNDS
        assert len(point.bucket_counts) == len(BOUNDS) + 1
        # (10, 25]
        assert list(point.bucket_counts) == [3 if n == 4 else 0 for n in range(len(BOUNDS) + 1)]
        assert found["streamkit.duration", "orders", ""][1].count == 2
        assert found["streamkit.process_time", "orders", ""][0].WhichOneof("data") == "histogram"
        for name in ("oldest_record_age", "time_use", "batch_use"):
            assert found[f"streamkit.{name}", "orders", ""][0].WhichOneof("data") == "gauge"

    def test_has_no_series_of_two_kinds_where_a_name_is_a_count_in_one_invocation_and_a_time_in_another(
        self, server: OutsideServer, no_waiting: None
    ) -> None:
        class Both(RecordProcessor):
            name = "both"

            def process(self, record: Record) -> None:
                if record.data == b"count":
                    metrics.count("call")
                else:
                    metrics.latency("call", 12.5)

        handler = lambda_handler(Both)
        for data in (b"count", b"time"):
            handler(kinesis_event([data]), Context())

        (of_resource,) = parsed(server.requests[-1].body).resource_metrics
        (of_scope,) = of_resource.scope_metrics
        kinds: dict[str, set[str]] = {metric.name: set() for metric in of_scope.metrics}
        for metric in of_scope.metrics:
            kinds[metric.name].add(metric.WhichOneof("data"))
        assert {name: kind for name, kind in kinds.items() if len(kind) > 1} == {}
        assert (kinds["call"], kinds["streamkit.latency.call"]) == ({"sum"}, {"histogram"})

    def test_has_gauges_of_what_is_parked_which_come_down_again(self, server: OutsideServer, no_waiting: None) -> None:
        ledger = MemoryLedger()
        orders = Orders()
        orders.on_failure = Park(MemoryQueue(fifo=True), ledger)
        handler = lambda_handler(orders)
        levels = []
        for payloads, keys in ([b"fail"] * 2, ["a", "b"]), ([b"a"], ["c"]), ([b"a"], ["c"]):
            handler(kinesis_event(payloads, partition_keys=keys), Context())
            found = series(server.requests[-1].body)
            assert found["streamkit.oldest_parked_age", "orders", ""][0].WhichOneof("data") == "gauge"
            metric, point = found["streamkit.parked_keys", "orders", ""]
            assert metric.WhichOneof("data") == "gauge"
            levels.append(point.as_int)
            if len(levels) == 2:
                release(ledger)

        assert levels == [0, 2, 0]

    def test_has_a_gauge_only_where_it_was_seen_since_the_last(
        self, server: OutsideServer, no_waiting: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HEARTBEAT_MAX_AGE", "1e12")
        handler = lambda_handler(Orders)
        beat = payload(1_764_432_000.0)
        server.answer = 503
        handler(kinesis_event([beat]), Context())
        server.answer = 200

        for _ in range(2):
            handler(kinesis_event([b"a"]), Context())

        names = [{name for name, _, _ in series(request.body)} for request in server.requests]
        assert ["streamkit.heartbeat_age" in one for one in names] == [True, True, False]
        assert all("streamkit.oldest_record_age" in one for one in names)

    def test_has_what_is_of_each_branch(self, server: OutsideServer) -> None:
        fan = FanOut(Orders("a"), Orders("b"), name="fan")

        lambda_handler(fan)(kinesis_event([b"a", b"fail"]), Context())

        found = series(server.requests[0].body)
        assert found["streamkit.failed", "fan", ""][1].as_int == 2
        for branch in ("a", "b"):
            assert found["streamkit.branch.failed", "fan", branch][1].as_int == 1

    def test_of_any_processor_s_name_is_sound(self, server: OutsideServer) -> None:
        lambda_handler(Orders('é"\udc80\n'))(kinesis_event([b"a"]), Context())

        assert sums(server.requests[0].body)["streamkit.records"] == 1

    def test_has_a_very_large_count_as_a_double(self) -> None:
        values = Values(lambda about, fault: None)
        values.count("large", 10**30)
        target = OtlpTarget("http://localhost", {})

        target.add(Report("orders", None, 0.0, {}, {}, {}, values))

        assert sums(target.encoded())["large"] == 1e30

    def test_goes_on_after_a_value_of_a_type_that_is_more_than_a_number(
        self, server: OutsideServer, no_waiting: None
    ) -> None:
        class Float64(float):
            pass

        class Weighs(RecordProcessor):
            name = "weighs"

            def process(self, record: Record) -> None:
                metrics.count("weight", Float64(record.data))
                metrics.latency("call", Float64(record.data))

        handler = lambda_handler(Weighs)
        for _ in range(2):
            assert handler(kinesis_event([b"0.5"]), Context()) == SUCCESS

        assert [sums(request.body)["weight"] for request in server.requests] == [0.5, 1.0]
        assert series(server.requests[-1].body)["streamkit.latency.call", "weighs", ""][1].max == 0.5


class TestTheEndpoint:
    @pytest.mark.parametrize(
        ("path", "asked"),
        [
            ("", "/v1/metrics"),
            ("/", "/v1/metrics"),
            ("/api/v1/otlp", "/api/v1/otlp/v1/metrics"),
            ("/otlp/v1/metrics", "/otlp/v1/metrics"),
            ("/otlp?tenant=7", "/otlp/v1/metrics?tenant=7"),
        ],
    )
    def test_is_a_base_as_opentelemetry_has_it(
        self, path: str, asked: str, server: OutsideServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STREAMKIT_OTLP_ENDPOINT", server.url + path)

        lambda_handler(Orders)(kinesis_event([b"a"]), Context())

        assert [request.path for request in server.requests] == [asked]

    def test_gets_the_headers(self, server: OutsideServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20c2VjcmV0, X-Tenant = 7 ")

        lambda_handler(Orders)(kinesis_event([b"a"]), Context())

        (request,) = server.requests
        assert (request.headers["authorization"], request.headers["x-tenant"]) == ("Basic c2VjcmV0", "7")

    @pytest.mark.parametrize("text", ["secret", "=secret", "a b=secret", "a=secret%0d%0aX: y", "a=%C3%A9secret", "é=x"])
    def test_is_not_used_with_headers_that_are_none(
        self, text: str, server: OutsideServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(ConfigurationError):
            headers_of(text)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", text)

        assert lambda_handler(Orders)(kinesis_event([b"a"]), Context()) == SUCCESS

        assert server.requests == []
        assert "STREAMKIT_OTLP_ENDPOINT is not used" in caplog.text
        assert "secret" not in caplog.text

    def test_that_is_none_is_said_once_and_the_lines_go_on(
        self, on_lambda: None, monkeypatch: pytest.MonkeyPatch, lines: Lines, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("STREAMKIT_OTLP_ENDPOINT", "collector:4318")
        handler = lambda_handler(Orders)

        for _ in range(3):
            assert handler(kinesis_event([b"a"]), Context()) == SUCCESS

        assert len(lines()) == 3
        assert caplog.text.count("STREAMKIT_OTLP_ENDPOINT is not used") == 1

    def test_is_all_that_is_written_to_where_that_is_the_setting(
        self, server: OutsideServer, monkeypatch: pytest.MonkeyPatch, lines: Lines
    ) -> None:
        monkeypatch.setenv("STREAMKIT_METRICS", "otlp")

        lambda_handler(Orders)(kinesis_event([b"a"]), Context())

        assert len(server.requests) == 1
        assert lines() == []

    def test_is_not_called_where_metrics_are_off(
        self, server: OutsideServer, monkeypatch: pytest.MonkeyPatch, lines: Lines
    ) -> None:
        monkeypatch.setenv("STREAMKIT_METRICS", "off")

        lambda_handler(Orders)(kinesis_event([b"a"]), Context())

        assert server.requests == []
        assert lines() == []


class TestPushes:
    def test_are_one_in_ten_seconds_and_lose_nothing(self) -> None:
        with OutsideServer().running() as server:
            now = [100.0]
            target = OtlpTarget(server.url, {}, clock=lambda: now[0])
            for _ in range(25):
                target.add(report(records=1))
                target.push(remaining=10)
                now[0] += 1

            assert [sums(request.body)["streamkit.records"] for request in server.requests] == [1, 11, 21]

    def test_that_fail_lose_nothing_and_become_fewer(self, caplog: pytest.LogCaptureFixture) -> None:
        with OutsideServer().running() as server:
            now = [0.0]
            target = OtlpTarget(server.url, {}, clock=lambda: now[0])
            server.answer = 503
            at = []
            while now[0] < 1000:
                target.add(report(records=1))
                asked = len(server.requests)
                is_taken = target.push(remaining=10)
                if len(server.requests) > asked:
                    at.append(now[0])
                    assert not is_taken
                now[0] += 10
            server.answer = 200
            now[0] += 160
            target.add(report(records=1))

            assert target.push(remaining=10)

            # 10 s doubled at each failure, up to 160 s.
            assert at[:6] == [0, 20, 60, 140, 300, 460]
            assert sums(server.requests[-1].body)["streamkit.records"] == 101
            assert len([one for one in caplog.records if "the OTLP endpoint could not be reached" in one.message]) == 1

    def test_that_fail_are_counted_and_change_no_answer(
        self, server: OutsideServer, no_waiting: None, lines: Lines, caplog: pytest.LogCaptureFixture
    ) -> None:
        server.answer = 500
        handler = lambda_handler(Orders)

        for _ in range(3):
            assert handler(kinesis_event([b"a"]), Context()) == SUCCESS

        found = [json.loads(text).get("MetricErrors", 0) for text in lines()]
        assert found == [0, 1, 1]

    def test_take_no_longer_than_half_a_second(self, server: OutsideServer) -> None:
        release = threading.Event()
        server.answer = lambda _: release.wait(10)
        started = time.monotonic()

        assert lambda_handler(Orders)(kinesis_event([b"a"]), Context()) == SUCCESS

        assert time.monotonic() - started < 1.5
        release.set()

    @pytest.mark.parametrize(("remaining", "longest"), [(0.4, 0.15), (0.29, 0.0), (0.0, 0.0), (-1.0, 0.0)])
    def test_never_pass_the_end_of_the_invocation(self, remaining: float, longest: float) -> None:
        with OutsideServer().running() as server:
            release = threading.Event()
            server.answer = lambda _: release.wait(10)
            target = OtlpTarget(server.url, {})
            target.add(report(records=1))
            started = time.monotonic()

            target.push(remaining)

            # With so much more as a busy machine takes to come back.
            assert time.monotonic() - started < longest + 0.2
            assert len(server.requests) <= (longest > 0)
            release.set()

    def test_are_made_once_the_outcomes_are_final_and_for_an_invocation_that_raises(
        self, server: OutsideServer
    ) -> None:
        event = {"Records": [{"Sns": {"Message": "fail", "MessageId": "m"}, "EventSource": "aws:sns"}]}

        with pytest.raises(Exception, match="m failed"):
            lambda_handler(Orders)(event, Context())

        found = sums(server.requests[0].body)
        assert (found["streamkit.errors"], found["streamkit.failed"], found["streamkit.unsettled"]) == (1, 1, 1)

    def test_do_not_fail_with_standard_output(self, server: OutsideServer, monkeypatch: pytest.MonkeyPatch) -> None:
        class Gone:
            def write(self, text: str) -> None:
                raise OSError("the pipe is gone")

        monkeypatch.setattr("sys.stdout", Gone())

        assert lambda_handler(Orders)(kinesis_event([b"a"]), Context()) == SUCCESS

        assert sums(server.requests[0].body)["streamkit.records"] == 1


def test_names_that_never_repeat_fill_no_container(caplog: pytest.LogCaptureFixture) -> None:
    target = OtlpTarget("http://localhost", {})
    for n in range(30):
        values = Values(lambda about, fault: None)
        for m in range(100):
            values.count(f"name.{n}.{m}", 1)
        values.count("name.0.0", 1)
        target.add(Report("orders", None, 0.0, {"Records": 1}, {}, {}, values))

    found = sums(target.encoded())
    assert len(found) == MOST_SERIES
    # What is known goes on.
    assert (found["name.0.0"], found["streamkit.records"]) == (31, 30)
    assert len([one for one in caplog.records if "at most 2000 series" in one.message]) == 1


def test_nothing_is_called_and_nothing_imported_for_it_where_it_is_not_set(
    on_lambda: None, lines: Lines, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network call")

    caplog.set_level(logging.INFO)
    monkeypatch.delenv("STREAMKIT_OTLP_ENDPOINT", raising=False)
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("streamkit.outside.Caller.call", refuse)

    lambda_handler(Orders)(kinesis_event([b"a"]), Context())

    (text,) = lines()
    assert "MetricErrors" not in json.loads(text)


def release(ledger: MemoryLedger) -> None:
    """As when the queue's messages are done."""
    never = float("inf")
    for group in ledger.parked("orders", deadline=never):
        ledger.remove("orders", group, {}, before=never, deadline=never)


def report(*, records: int) -> Report:
    complain: Callable[[str, str], None] = lambda about, fault: None  # noqa: E731
    return Report("orders", None, 0.0, {"Records": records}, {}, {}, Values(complain))

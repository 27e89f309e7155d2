"""Lines as they are logged: what is read of them, and that nothing of them raises."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamkit import Record, RecordProcessor, lambda_handler, metrics
from streamkit.logs.delivery import Delivery, LogEvent, read_deliveries
from streamkit.logs.document import MOST_FIELDS, document_of, index_of, template_of
from streamkit.logs.line import Line, parse
from streamkit.logs.measures import REPORTED, Measure, measures_in
from streamkit.logs.reading import Logged, logged_in
from streamkit.logs.report import Report
from streamkit.logs.sample import Sample, sample_of
from streamkit.metrics.monitoring import MonitoringLines
from streamkit.metrics.report import Report as Written
from streamkit.metrics.values import Values
from streamkit.testing import logs_data, logs_event

ID = "8476a536-e9f4-11e8-9739-2dfe598c3fcd"
AT = 1_767_225_600_000
SOME = {"a": "true", "b": "c"}
START = f"START RequestId: {ID} Version: 12\n"
END = f"END RequestId: {ID}\n"
REPORT = (
    f"REPORT RequestId: {ID}\tDuration: 12.34 ms\tBilled Duration: 169 ms\tMemory Size: 128 MB\tMax Memory Used: 64 MB\t"
    "Init Duration: 156.08 ms\t\nXRAY TraceId: 1-5bef\tSegmentId: 3f\tSampled: true\t\n"
)
TIMED_OUT = f"2026-01-01T00:00:03.005Z {ID} Task timed out after 3.00 seconds\n\n"


def logged(*lines: str, **options: Any) -> list[Logged]:
    return [one for delivery in read_deliveries(logs_data(lines, **options)) for one in logged_in(delivery)]


def platform(kind: str, **record: Any) -> str:
    return json.dumps({"time": "2026-01-01T00:00:00.000Z", "type": f"platform.{kind}", "record": record})


class TestOfLambda:
    def test_start_and_end(self) -> None:
        start, end = parse(START), parse(END)
        assert (start.kind, start.request_id, start.version) == ("start", ID, "12")
        assert (end.kind, end.request_id) == ("end", ID)
        assert parse(f"START RequestId: {ID} Version: $LATEST").version == "$LATEST"

    def test_a_report(self) -> None:
        line = parse(REPORT)
        assert line.kind == "report"
        assert line.request_id == ID
        assert line.report == Report(ID, 12.34, 169.0, 128.0, 64.0, 156.08)

    def test_a_report_of_a_failure(self) -> None:
        line = parse(REPORT.replace("\t\nXRAY", "\tStatus: error\tError Type: Runtime.ExitError\t\nXRAY"))
        assert line.report is not None
        assert (line.level, line.error_type, line.report.status) == ("ERROR", "Runtime.ExitError", "error")
        assert line.report.is_error
        assert not line.report.is_timeout

    def test_a_report_of_a_snapshot_that_was_restored(self) -> None:
        line = parse(
            f"REPORT RequestId: {ID}\tDuration: 1.00 ms\tRestore Duration: 250.5 ms\tBilled Restore Duration: 3 ms"
        )
        assert line.report is not None
        assert line.report.restore == 250.5

    def test_a_time_out(self) -> None:
        line = parse(TIMED_OUT)
        assert (line.kind, line.level, line.request_id) == ("timeout", "ERROR", ID)
        assert line.message == "Task timed out after 3.00 seconds"

    @pytest.mark.parametrize(
        ("text", "kind"),
        [
            (
                "INIT_START Runtime Version: python:3.13.v30\tRuntime Version ARN: arn:aws:lambda:eu-west-1::runtime:07a\n",
                "init",
            ),
            ("INIT_REPORT Init Duration: 10005.31 ms\tPhase: init\tStatus: timeout\n", "init"),
            ("RESTORE_START Runtime Version: python:3.13.v30", "init"),
            ("EXTENSION\tName: insights\tState: Ready\tEvents: [INVOKE,SHUTDOWN]\n", "extension"),
            ("TELEMETRY\tName: otel\tState: Subscribed\tTypes: [Platform, Function]\n", "extension"),
            ("LOGS\tName: shipper\tState: Subscribed\tTypes: [Platform]", "extension"),
            ("EXTENSION of the deadline", "message"),
            ("REPORT of the day", "message"),
            ("START", "message"),
        ],
    )
    def test_its_other_lines(self, text: str, kind: str) -> None:
        assert parse(text).kind == kind

    def test_its_lines_as_json(self) -> None:
        start = parse(platform("start", requestId=ID, version="7"))
        assert (start.kind, start.request_id, start.version) == ("start", ID, "7")
        assert parse(platform("runtimeDone", requestId=ID, status="success")).kind == "end"
        assert parse(platform("initStart", phase="init")).kind == "init"
        assert parse(platform("restoreReport")).kind == "init"
        assert parse(platform("extension", name="x")).kind == "extension"
        assert parse(platform("fault")).kind == "platform"

    def test_its_report_as_json(self) -> None:
        metrics = {
            *(("durationMs", 12.34), ("billedDurationMs", 13), ("memorySizeMB", 128), ("maxMemoryUsedMB", 64)),
            ("initDurationMs", 156.08),
        }
        line = parse(platform("report", requestId=ID, metrics=dict(metrics), status="timeout"))
        assert line.report == Report(ID, 12.34, 13.0, 128.0, 64.0, 156.08, None, "timeout")
        assert line.report is not None
        assert line.report.is_timeout

    def test_its_report_of_another_form_has_what_can_be_read(self) -> None:
        line = parse(
            platform("report", requestId=7, metrics={"durationMs": "12", "billedDurationMs": True}, status=["x"])
        )
        assert line.report == Report()
        assert parse(platform("report", metrics="none")).report == Report()

    def test_a_process_that_has_ended_is_an_error_of_its_request(self) -> None:
        text = f"RequestId: {ID} Error: Runtime exited with error: signal: killed\nRuntime.ExitError\n"
        line = parse(text)
        assert (line.kind, line.level, line.request_id, line.message) == ("message", "ERROR", ID, text)


class TestOfPrograms:
    def test_python(self) -> None:
        line = parse(
            f"[WARNING]\t2026-01-01T00:00:00.123Z\t{ID}\tlate: x-correlation-id=abc-1, x-correlation-user-id: u7\n"
        )
        assert (line.kind, line.level, line.request_id) == ("message", "WARN", ID)
        assert line.message.startswith("late: ")
        assert line.correlation == {"x-correlation-id": "abc-1", "x-correlation-user-id": "u7"}

    def test_python_outside_of_a_request(self) -> None:
        line = parse("[INFO]\t2026-01-01T00:00:00.123Z\t\tloading")
        assert (line.level, line.request_id, line.message) == ("INFO", "", "loading")

    def test_node(self) -> None:
        line = parse(f"2026-01-01T00:00:00.123Z\t{ID}\tERROR\tboom\n    at index.js:1")
        assert (line.level, line.request_id, line.message) == ("ERROR", ID, "boom\n    at index.js:1")
        assert parse("2026-01-01T00:00:00.123Z\tundefined\tINFO\tloading").request_id == ""

    def test_json_within_what_node_logs(self) -> None:
        line = parse(f'2026-01-01T00:00:00.123Z\t{ID}\tINFO\t{{"message": "hi", "level": 50, "n": 7}}')
        assert (line.level, line.request_id, line.message, line.fields) == ("ERROR", ID, "hi", {"n": 7})

    def test_json_of_lambdas_own_format(self) -> None:
        said = {
            "timestamp": "2026-01-01T00:00:00Z",
            "level": "INFO",
            "message": "hi",
            "logger": "root",
            "requestId": ID,
        }
        line = parse(json.dumps(said | {"order": {"id": 7}}))
        assert (line.level, line.message, line.logger, line.request_id) == ("INFO", "hi", "root", ID)
        assert line.fields == {"order": {"id": 7}}

    def test_json_of_powertools(self) -> None:
        said = {
            "level": "ERROR",
            "message": "boom",
            "service": "payment",
            "function_name": "orders",
            "function_request_id": ID,
            "xray_trace_id": "1-5bef",
            "correlation_id": "abc",
            "exception_name": "ValueError",
        }
        line = parse(json.dumps(said))
        assert (line.function, line.request_id, line.trace_id) == ("orders", ID, "1-5bef")
        assert line.error_type == "ValueError"
        assert line.correlation == {"x-correlation-id": "abc"}
        assert line.fields == {"service": "payment"}

    def test_json_of_streamkits_own_log_fields(self) -> None:
        said = {"correlation_id": "abc", "x-correlation-user-id": "u", "call-chain-length": "2", "traceparent": "00-1"}
        line = parse(json.dumps({"message": "hi", **said}))
        assert line.correlation == {
            "x-correlation-id": "abc",
            "x-correlation-user-id": "u",
            "call-chain-length": "2",
            "traceparent": "00-1",
        }

    def test_what_is_of_another_type_than_its_name_says_stays_a_field(self) -> None:
        line = parse('{"message": {"a": 1}, "requestId": 7, "level": ["x"], "correlation_id": {"b": 2}, "name": null}')
        assert line.kind == "message"
        assert (line.request_id, line.level, line.correlation) == ("", "", {})
        assert line.fields == {
            "message": {"a": 1},
            "requestId": 7,
            "level": ["x"],
            "correlation_id": {"b": 2},
            "name": None,
        }

    def test_what_is_longer_than_its_name_has_room_for_stays_a_field(self) -> None:
        said = {"requestId": "r" * 300, "level": "l" * 30, "x-correlation-id": "c" * 300, "timestamp": {"a": 1}}
        line = parse(json.dumps(said))
        assert (line.request_id, line.level, line.correlation) == ("", "", {})
        assert line.fields == said

    @pytest.mark.parametrize(
        "text",
        [
            *("ERROR: no", "[ERROR] no", "ERROR no"),
            # Python's logging with a time, and as its documentation has it; loguru; Java's.
            *("2026-01-01 00:00:00,123 ERROR no", "2026-01-01 00:00:00,123 - orders.api - ERROR - no"),
            *("2026-01-01 00:00:00.123 | ERROR    | orders:run:7 - no", "2026-01-01T00:00:00.123+01:00 [ERROR] no"),
        ],
    )
    def test_a_level_in_front_of_a_plain_line(self, text: str) -> None:
        line = parse(text)
        assert (line.level, line.message) == ("ERROR", text)

    @pytest.mark.parametrize(
        "text",
        [
            "INFORMATION is power",
            "2026-01-01 00:00:00 an ERROR",
            "2026-01-01 - ERROR",
            "Error in the flow",
            "{not json}",
            "{",
            "",
            "\n",
            "[]",
            "7",
        ],
    )
    def test_a_plain_line_is_its_message(self, text: str) -> None:
        assert parse(text) == Line(kind="message", message=text)


class TestRequests:
    def test_a_line_is_of_the_request_that_has_started(self) -> None:
        ids = [one.line.request_id for one in logged("before", START, "within", END, REPORT, "after")]
        assert ids == ["", ID, ID, ID, ID, ""]

    def test_what_a_line_says_itself_wins(self) -> None:
        _, line = logged(START, '{"message": "hi", "requestId": "another"}')
        assert line.line.request_id == "another"

    def test_nothing_is_carried_over_from_one_delivery_to_the_next(self) -> None:
        (delivery,) = read_deliveries(logs_data([START]))
        list(logged_in(delivery))
        assert logged("alone")[0].line.request_id == ""


class TestSamples:
    @pytest.mark.parametrize(
        ("text", "sample"),
        [
            ("MONITORING|1767225600|1|count|orders.paid", Sample("orders.paid", 1.0, "Count", 1767225600.0, {})),
            ("MONITORING|1767225600000|1.5|histogram|t|#a,b:c\n", Sample("t", 1.5, "Milliseconds", 1767225600.0, SOME)),
            ("MONITORING|0|-2|gauge|t|#a:b:c", Sample("t", -2.0, "None", None, {"a": "b:c"})),
            ("MONITORING||3|Bytes|t|", Sample("t", 3.0, "Bytes", None, {})),
        ],
    )  # fmt: skip
    def test_a_line_is_a_sample(self, text: str, sample: Sample) -> None:
        assert sample_of(text) == sample
        assert parse(text).kind == "metric"

    @pytest.mark.parametrize(
        "text",
        [
            "MONITORING",
            "MONITORING|1|1|count",
            "MONITORING|1|1|count|",
            "MONITORING|x|1|count|t",
            "MONITORING|1|nan|count|t",
            "MONITORING|1|inf|count|t",
            "MONITORING|1|1e300|count|t",
            "MONITORING|1|one|count|t",
            "MONITORING|1|1|furlongs|t",
            "MONITORING|1|1|count|:t",
            " MONITORING|1|1|count|t",
            "MONITORING|1|1|count|t|#" + "x" * 9000,
        ],
    )
    def test_what_is_no_sound_one_is_a_message(self, text: str) -> None:
        assert sample_of(text) is None
        assert parse(text).kind == "message"
        assert measures_in(logged(text)[0]) == []

    def test_names_and_tags_are_what_cloudwatch_takes(self) -> None:
        tags = ",".join(f"{n}é:{'v' * 2000}" for n in range(3))
        sample = sample_of(f"MONITORING|1767225600|1|count|näme|#{tags},:x,,é: ")
        assert sample is not None
        assert sample.name == "n_me"
        assert list(sample.tags) == ["0_", "1_", "2_", "_"]
        assert {len(value) for value in sample.tags.values()} == {1024, 4}

    def test_what_streamkit_writes_is_what_is_read(self) -> None:
        complaints: list[tuple[str, str]] = []
        values = Values(lambda *complaint: complaints.append(complaint))
        values.count("orders.paid", 3)
        values.latency("payments", 12.5)
        figures = {"Records": 10, "Duration": 7.25, "TimeUse": 0, "Failed": 0, "Bytes": 2048}
        text = MonitoringLines().lines(Written("my shop", None, AT / 1000 + 0.9, dict(figures), {}, {}, values))

        found = [sample for line in text.splitlines() if (sample := sample_of(line)) is not None]

        assert len(found) == len(text.splitlines())
        assert [(one.name, one.value, one.unit) for one in found] == [
            ("streamkit.records", 10.0, "Count"),
            ("streamkit.duration", 7.25, "Milliseconds"),
            ("streamkit.time_use", 0.0, "None"),
            ("streamkit.bytes", 2048.0, "Count"),
            ("orders.paid", 3.0, "Count"),
            ("payments", 12.5, "Milliseconds"),
        ]
        assert {one.time for one in found} == {AT / 1000}
        assert found[0].tags == {"function": "function", "processor": "my_shop"}
        assert complaints == []

    def test_what_an_invocation_prints_is_what_is_read(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("STREAMKIT_METRICS", "monitoring")
        event = logs_event([START])

        class Orders(RecordProcessor):
            name = "orders"

            def process(self, record: Record) -> None:
                metrics.count("orders.paid", 2)

        lambda_handler(Orders)(event)

        lines = capsys.readouterr().out.splitlines()
        found = {one.line.sample.name: one.line.sample for one in logged(*lines) if one.line.sample}
        assert len(found) == len(lines)
        assert (found["orders.paid"].value, found["streamkit.records"].value) == (2.0, 1.0)
        assert found["streamkit.bytes"].value == len(event["awslogs"]["data"]) * 3 // 4


class TestMeasures:
    def test_a_report_is_measured(self) -> None:
        (one,) = logged(REPORT)
        of = {"FunctionName": "orders"}
        assert measures_in(one) == [
            Measure("Duration", 12.34, "Milliseconds", AT / 1000, of),
            Measure("BilledDuration", 169.0, "Milliseconds", AT / 1000, of),
            Measure("MemorySize", 128.0, "Megabytes", AT / 1000, of),
            Measure("MaxMemoryUsed", 64.0, "Megabytes", AT / 1000, of),
            Measure("InitDuration", 156.08, "Milliseconds", AT / 1000, of),
            Measure("MemoryUse", 50.0, "Percent", AT / 1000, of),
            Measure("ColdStarts", 1.0, "Count", AT / 1000, of),
        ]

    def test_a_warm_start_is_none_of_the_cold(self) -> None:
        (one,) = logged(f"REPORT RequestId: {ID}\tDuration: 1 ms")
        assert {one.name: one.value for one in measures_in(one)} == {"Duration": 1.0, "ColdStarts": 0.0}

    @pytest.mark.parametrize("lines", [(TIMED_OUT,), (TIMED_OUT, REPORT), (f"{REPORT[:-1]}",)])
    def test_a_time_out_counts_once(self, lines: tuple[str, ...]) -> None:
        with_status = tuple(line.replace("\t\nXRAY", "\tStatus: timeout\t\nXRAY") for line in lines)
        names = [measure.name for one in logged(*with_status) for measure in measures_in(one)]
        assert names.count("TimeOuts") == 1

    def test_two_time_outs_are_two(self) -> None:
        names = [
            measure.name for one in logged(TIMED_OUT, TIMED_OUT.replace("8476", "9999")) for measure in measures_in(one)
        ]
        assert names == ["TimeOuts", "TimeOuts"]

    def test_a_failure_counts_where_it_is_told(self) -> None:
        (one,) = logged(platform("report", requestId=ID, metrics={}, status="success"))
        (two,) = logged(platform("report", requestId=ID, metrics={}, status="error"))
        assert [m.value for m in measures_in(one) if m.name == "Failures"] == [0.0]
        assert [m.value for m in measures_in(two) if m.name == "Failures"] == [1.0]

    def test_every_name_that_can_be_chosen_is_measured(self) -> None:
        full = REPORT.replace("\t\nXRAY", "\tRestore Duration: 7 ms\tStatus: timeout\t\nXRAY")
        assert {measure.name for measure in measures_in(logged(full)[0])} == set(REPORTED)

    def test_a_report_of_no_function_is_not_measured(self) -> None:
        (one,) = logged(REPORT, log_group="/ecs/web", log_stream="web")
        assert measures_in(one) == []

    def test_the_time_of_a_custom_metric_is_its_own_unless_that_can_not_be(self) -> None:
        times = [
            measures_in(one)[0].time
            for one in logged(
                f"MONITORING|{AT // 1000 - 60}|1|count|t", "MONITORING|1000000000|1|count|t", "MONITORING|0|1|count|t"
            )
        ]
        assert times == [AT / 1000 - 60, (AT + 1) / 1000, (AT + 2) / 1000]

    def test_a_custom_metric_in_json_is_one(self) -> None:
        (one,) = logged(json.dumps({"level": "INFO", "message": "MONITORING|0|1|count|t|#a:b"}))
        assert measures_in(one) == [Measure("t", 1.0, "Count", AT / 1000, {"a": "b"}, is_custom=True)]


class TestDocuments:
    def test_a_line_is_a_document(self) -> None:
        (one,) = logged(REPORT)
        assert document_of(one) == {
            "@timestamp": AT,
            "message": REPORT,
            "kind": "report",
            "request_id": ID,
            "function": "orders",
            "version": "$LATEST",
            "instance": "0123456789abcdef0123456789abcdef",
            "account": "123456789012",
            "log_group": "/aws/lambda/orders",
            "log_stream": "2026/01/01/[$LATEST]0123456789abcdef0123456789abcdef",
            "duration_ms": 12.34,
            "billed_duration_ms": 169.0,
            "memory_size_mb": 128.0,
            "max_memory_used_mb": 64.0,
            "init_duration_ms": 156.08,
        }

    def test_its_index_is_of_the_day_in_utc(self) -> None:
        assert index_of("logs", AT - 1) == "logs-2025.12.31"
        assert index_of("logs", AT) == "logs-2026.01.01"
        assert index_of("logs", 0) == "logs-1970.01.01"

    def test_fields_are_texts_by_their_paths(self) -> None:
        fields = {
            "order": {"id": 7, "lines": [1, "b", True, None], "deep": {"a": {"b": {"c": {"d": {"e": 1}}}}}},
            "mixed": [{"a": 1}, 2],
            "none": None,
            "huge": 10**40,
            "a.b": 1.5,
            "": "empty",
            "\0": "zero",
        }
        (one,) = logged(json.dumps({"message": "hi", **fields}))
        document = document_of(one)
        assert document["fields"] == {
            "order.id": "7",
            "order.lines": ["1", "b", "true"],
            "order.deep.a.b.c.d": '{"e":1}',
            "mixed": '[{"a":1},2]',
            "huge": str(10**40),
            "a_b": "1.5",
            "_": "empty",
        }
        # Two names have become one.
        assert document["line"] == one.event.message

    def test_of_a_line_with_too_much_the_document_has_the_whole_line(self) -> None:
        many = json.dumps({f"n{n}": n for n in range(1000)})
        long = json.dumps({"text": "x" * 100_000})
        for line in (many, long):
            (one,) = logged(line)
            document = document_of(one)
            assert len(document["fields"]) <= MOST_FIELDS
            assert max(len(value) for value in document["fields"].values()) <= 4000
            assert document["line"] == line
        assert "line" not in document_of(logged('{"a": 1}')[0])

    def test_every_field_has_a_place_in_the_template(self) -> None:
        known = template_of("logs")["template"]["mappings"]["properties"]
        full = json.dumps(
            {"message": "m", "level": "INFO", "logger": "l", "xray_trace_id": "t", "errorType": "e", "requestId": ID}
        )
        followed = json.dumps({"message": "m", "correlation_id": "c", "n": 1})
        reported = REPORT.replace("\t\nXRAY", "\tRestore Duration: 7 ms\tStatus: timeout\t\nXRAY")
        named = {name for one in logged(full, followed, reported) for name in document_of(one)}
        assert named == known.keys()

    def test_fields_of_any_name_are_of_the_type_that_the_server_has_for_them(self) -> None:
        for flat in ("flat_object", "flattened"):
            known = template_of("logs", flat=flat)["template"]["mappings"]["properties"]
            assert known["fields"] == known["correlation"] == {"type": flat}


LOGGED_TEXT = st.one_of(
    st.text(max_size=300),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=6),
        max_leaves=20,
    ).map(json.dumps),
    st.builds(
        lambda head, tail: head + tail,
        st.sampled_from(
            [
                *("START RequestId: ", "END RequestId: ", "REPORT RequestId: ", "MONITORING|", "EXTENSION\tName: "),
                *(
                    "[INFO]\t2026-01-01T00:00:00.000Z\t",
                    "2026-01-01T00:00:00.000Z\tid\tINFO\t",
                    "{",
                    "x-correlation-id=",
                ),
                *('{"type":"platform.report","record":{', '{"message":"MONITORING|1|1|count|'),
            ]
        ),
        st.text(max_size=100),
    ),
)


class TestHostile:
    @given(LOGGED_TEXT)
    @example("{" * 100_000 + "}")
    @example('{"a":' * 5000 + "1" + "}" * 5000)
    @example('{"a":' + "9" * 5000 + "}")
    @example("x-correlation-id=" * 10_000)
    @example("REPORT RequestId: " + "\t" * 100_000)
    @example("REPORT RequestId: a" + "\tA: b" * 100_000)
    @example("\u2028MONITORING|1|1|count|a")
    def test_no_line_raises_and_each_is_a_document(self, text: str) -> None:
        event = LogEvent("1", AT, text)
        delivery = Delivery("DATA_MESSAGE", "/aws/lambda/orders", "s", "1", [], [event])
        for one in logged_in(delivery):
            document = document_of(one)
            assert document.get("message", "") == one.line.message
            json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
            for measure in measures_in(one):
                assert measure.name
                assert measure.value == measure.value
                assert all(name.isascii() and name.isprintable() for name in measure.dimensions)

    def test_a_line_of_a_megabyte_is_read_in_time(self) -> None:
        import time

        begun = time.process_time()
        for text in ("x" * 1_048_576, "x-correlation-" * 70_000, '{"a":"' + "x" * 1_048_000 + '"}', "\t" * 1_048_576):
            parse(text)
        assert time.process_time() - begun < 1

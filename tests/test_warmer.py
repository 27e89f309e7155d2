"""The warmer, against a server that has containers as Lambda has them: one event at a time each; a new one when all have one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.warmer import handler as deployed
from streamkit import Record, RecordProcessor, lambda_handler
from streamkit.errors import ConfigurationError, StreamkitError
from streamkit.testing import kinesis_event
from streamkit.warmer import MOST_PINGS, Answer, Warmer, summed_up

from .sinks.aws_proxy import client_of


class Orders(RecordProcessor):
    name = "orders"

    def process(self, record: Record) -> None: ...


class Lambda:
    """Its functions' containers run the real handler. ``limit`` is how many a function may have."""

    def __init__(self) -> None:
        self.idle: dict[str, list[Any]] = {}
        self.made: dict[str, int] = {}
        self.limit = 1000
        self.start_time = 0.0
        #: Ends all starts.
        self.is_over = threading.Event()
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.events: list[tuple[str, str, bytes]] = []
        self.connections = 0
        self._lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                with service._lock:
                    service.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                name = unquote(self.path.split("/")[3])
                kind = self.headers.get("X-Amz-Invocation-Type", "")
                with service._lock:
                    service.events.append((name, kind, body))
                status, headers, content = service.answers.get(name) or service.invoke(name, body)
                self.send_response(status)
                for header, value in headers.items():
                    self.send_header(header, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def invoke(self, name: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        with self._lock:
            idle = self.idle.setdefault(name, [])
            container = idle.pop() if idle else None
            if container is None:
                if self.made.get(name, 0) >= self.limit:
                    return 429, {"x-amzn-ErrorType": "TooManyRequestsException"}, b'{"message": "busy"}'
                self.made[name] = self.made.get(name, 0) + 1
        if container is None:
            self.is_over.wait(self.start_time)
            container = lambda_handler(Orders)
        try:
            return 200, {}, json.dumps(container(json.loads(body))).encode()
        finally:
            with self._lock:
                idle.append(container)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambda]:
    service = Lambda()
    monkeypatch.delenv("HOLD", raising=False)
    yield service
    service.close()


class Context:
    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return int((self._end - time.monotonic()) * 1000)


def warm(service: Lambda, monkeypatch: pytest.MonkeyPatch, targets: dict[str, int], **variables: str) -> dict[str, Any]:
    monkeypatch.setenv("TARGETS", json.dumps(targets))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    client = client_of(service.endpoint, "lambda")
    try:
        return Warmer(client)({}, Context(5))
    finally:
        client.close()


def test_n_pings_meet_n_containers(service: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    report = warm(service, monkeypatch, {"orders:live": 8}, HOLD="500")

    assert report == {"orders:live": {"sent": 8, "answered": 8, "containers": 8, "cold": 8, "faults": {}}}
    assert service.made == {"orders:live": 8}
    assert {(kind, body) for _, kind, body in service.events} == {
        ("RequestResponse", b'{"streamkit": "warm", "hold": 500}')
    }


def test_they_are_warm_the_next_time_and_no_more_are_made(service: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    warm(service, monkeypatch, {"orders": 5}, HOLD="500")

    report = warm(service, monkeypatch, {"orders": 5})["orders"]

    assert (report["cold"], service.made) == (0, {"orders": 5})
    assert service.idle["orders"][0](kinesis_event([b"a"])) == {"batchItemFailures": []}


def test_several_functions_are_warmed_together(service: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()

    report = warm(service, monkeypatch, {"a": 2, "arn:aws:lambda:us-east-1:1:function:b:live": 3}, HOLD="1000")

    assert time.monotonic() - began < 2.5
    assert [one["containers"] for one in report.values()] == [2, 3]


def test_a_function_that_is_busy_is_not_pressed(service: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    service.limit = 0

    report = warm(service, monkeypatch, {"orders": 3})

    assert report["orders"]["faults"] == {"TooManyRequestsException": 3}
    assert len(service.events) == 3


def test_one_that_does_not_answer_in_time_is_told_and_waited_for_no_longer(
    service: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.start_time = 30.0
    monkeypatch.setenv("TARGETS", '{"slow": 2, "quick": 1}')
    service.answers = {"quick": (200, {}, b'{"container": "c", "cold": false}')}
    client = client_of(service.endpoint, "lambda")
    began = time.monotonic()

    with pytest.raises(StreamkitError, match="no ping was answered by slow: no answer in time"):
        Warmer(client)({}, Context(2))

    assert time.monotonic() - began < 2
    service.is_over.set()
    client.close()


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ((404, {"x-amzn-ErrorType": "ResourceNotFoundException"}, b"{}"), "ResourceNotFoundException"),
        ((403, {"x-amzn-ErrorType": "AccessDeniedException"}, b"{}"), "AccessDeniedException"),
        (
            (200, {"X-Amz-Function-Error": "Unhandled"}, b'{"errorType": "KeyError", "errorMessage": "secret"}'),
            "KeyError",
        ),
        ((200, {"X-Amz-Function-Error": "Unhandled"}, b'["odd"]'), "FunctionError"),
        ((200, {"X-Amz-Function-Error": "Unhandled"}, b'{"errorType": "a\\nb"}'), "a_b"),
        ((200, {}, b"no json"), "JSONDecodeError"),
        ((500, {"x-amzn-ErrorType": "ServiceException"}, b"{}"), "ServiceException"),
    ],
)
def test_a_function_that_answers_no_ping_is_an_error_that_names_it_and_why(
    service: Lambda, monkeypatch: pytest.MonkeyPatch, answer: Any, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    service.answers = {"wrong": answer}

    with pytest.raises(StreamkitError, match=rf"no ping was answered by wrong: {fault}\. TARGETS names") as error:
        warm(service, monkeypatch, {"wrong": 2, "orders": 1})

    assert "secret" not in str(error.value)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["Target"]: line["PingFailures"] for line in lines} == {"wrong": 2, "orders": 0}


def test_a_function_that_is_no_streamkits_is_counted_by_its_answers(
    service: Lambda, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.answers = {"plain": (200, {}, b"null"), "odd": (200, {}, b'{"container": 7, "cold": "yes"}')}

    report = warm(service, monkeypatch, {"plain": 2, "odd": 1})

    for one in report.values():
        assert (one["answered"], one["containers"], one["cold"]) == (one["sent"], 0, 0)


def test_each_function_has_a_line_that_cloudwatch_takes_metrics_of(
    service: Lambda, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "warmer")
    warm(service, monkeypatch, {"orders:live": 1})

    (line,) = map(json.loads, capsys.readouterr().out.splitlines())

    (described,) = line["_aws"]["CloudWatchMetrics"]
    assert described["Dimensions"] == [["FunctionName", "Target"]]
    assert {one["Name"]: line[one["Name"]] for one in described["Metrics"]} == {
        "WarmContainers": 1,
        "ColdContainers": 1,
        "PingFailures": 0,
    }
    assert (line["FunctionName"], line["Target"]) == ("warmer", "orders:live")


def test_its_connections_are_open_for_the_next_run(service: Lambda, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": service.endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "TARGETS": '{"orders": 4}',
        "HOLD": "300",
    }.items():
        monkeypatch.setenv(name, value)
    warmer = Warmer()

    for _ in range(3):
        assert warmer({}, Context(10))["orders"]["containers"] == 4

    assert service.connections == 4


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *(
            ("TARGETS", ""),
            ("TARGETS", "orders"),
            ("TARGETS", "{}"),
            ("TARGETS", '["orders"]'),
            ("TARGETS", '{"a": 0}'),
        ),
        *(("TARGETS", '{"a": "3"}'), ("TARGETS", f'{{"a": {MOST_PINGS}, "b": 1}}'), ("TARGETS", "[" * 100_000)),
        *(("HOLD", "-1"), ("HOLD", "1001"), ("HOLD", "0.5"), ("HOLD", "٣"), ("HOLD", "9" * 5000)),
    ],
)
def test_a_variable_that_is_wrong_is_named_and_nothing_is_sent(
    service: Lambda, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    with pytest.raises(ConfigurationError, match=variable):
        warm(service, monkeypatch, {"orders": 1}, **{variable: value})

    assert service.events == []


@pytest.mark.parametrize("count", ["0", "201", '"3"', "true", "null", "[]", "9" * 30])
def test_of_targets_the_function_whose_number_is_wrong_is_named(
    service: Lambda, monkeypatch: pytest.MonkeyPatch, count: str
) -> None:
    targets = f'{{"orders:live": 3, "stock:live": {count}, "prices": 1}}'

    with pytest.raises(ConfigurationError, match=r"from 1 to 200; that of 'stock:live' is none"):
        warm(service, monkeypatch, {"orders": 1}, TARGETS=targets)

    assert service.events == []


@given(
    st.lists(
        st.builds(Answer, st.sampled_from(["", "a", "b"]), st.booleans(), st.sampled_from(["", "Busy"])), max_size=20
    )
)
def test_what_was_answered_and_what_was_not_are_all_that_was_sent(answers: list[Answer]) -> None:
    found = summed_up(25, answers)

    assert found["answered"] + sum(found["faults"].values()) == 25
    assert found["cold"] <= found["containers"] <= found["answered"]


def test_the_deployed_function_is_a_warmer() -> None:
    assert isinstance(deployed, Warmer)

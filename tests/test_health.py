"""What a container says of itself when it is asked how it is, and what it never says."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from processors.bigquery import BigQueryProcessor
from processors.cloudsearch import CloudSearchProcessor
from streamkit import Block, Divert, Record, RecordProcessor, Write, lambda_handler
from streamkit.breaker import FAILURES
from streamkit.claims.s3 import S3Claims
from streamkit.errors import ConfigurationError, DecodeError, SinkError, Unavailable
from streamkit.fanout import FanOut
from streamkit.idempotency import Idempotency
from streamkit.marks.dynamodb import DynamoDbMarks
from streamkit.processor import RecordProcessor as Base
from streamkit.progress.dynamodb import DynamoDbProgress
from streamkit.queues.sqs import SqsQueue
from streamkit.sinks.cloudsearch import CloudSearchSink
from streamkit.sinks.sqs import SqsSink
from streamkit.testing import MemoryQueue, MemorySink, kinesis_event
from streamkit.version import VERSION

HEALTH = {"streamkit": "health"}
SECRET = "hunter2-the-secret"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What was connected to."""
    tried: list[Any] = []

    def refuse(_: socket.socket, address: Any) -> None:
        tried.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield tried
    assert tried == []


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RETRIES", "DEAD", "CLAIMS", "SEARCH", "OUT", "TABLE", "MARKS", "LEDGER"):
        monkeypatch.delenv(name, raising=False)


class Orders(RecordProcessor):
    name = "orders"
    on_failure = Divert(
        SqsQueue.from_env("RETRIES", claims=S3Claims.from_env("CLAIMS")), dead_letters=SqsQueue.from_env("DEAD")
    )
    progress = DynamoDbProgress.from_env("TABLE")
    search = CloudSearchSink.from_env("SEARCH")
    out = SqsSink.from_env("OUT")
    charged = Idempotency(DynamoDbMarks.from_env("MARKS"), "charged", lease=60)
    plain = MemorySink()

    def process(self, record: Record) -> Write:
        return self.plain.item(record.data)


def of(answer: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts of the only processor, by their place."""
    (processor,) = answer["processors"]
    return {part["at"]: part for part in processor["parts"]}


def test_it_is_one_value_of_json_with_all_there_is_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "flights")
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_VERSION", "7")
    handler = lambda_handler(Orders)
    handler({"streamkit": "warm"})
    time.sleep(0.01)

    answer = handler(HEALTH)

    assert json.loads(json.dumps(answer)) == answer
    assert answer["streamkit"] == VERSION
    assert (answer["function"], answer["function_version"]) == ("flights", "7")
    assert answer["container"] == handler({"streamkit": "warm"})["container"]
    assert (answer["cold"], answer["invocations"], answer["initialization"]) == (False, 2, "on-demand")
    assert answer["age_seconds"] >= 0.01
    (processor,) = answer["processors"]
    assert (processor["name"], processor["policy"], processor["made"]) == ("orders", "Divert", False)


def test_each_part_is_there_and_one_that_is_not_configured_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUT", "https://sqs.eu-west-1.amazonaws.com/123456789012/out")
    monkeypatch.setenv("TABLE", "progress")

    answer = lambda_handler(Orders)(HEALTH)

    parts = of(answer)
    assert {at: (part["role"], part["kind"], part["configured"]) for at, part in parts.items()} == {
        "progress": ("progress", "DynamoDbProgress", True),
        "search": ("sink", "CloudSearchSink", False),
        "out": ("sink", "SqsSink", True),
        "charged.store": ("marks", "DynamoDbMarks", False),
        "plain": ("sink", "MemorySink", True),
        "on_failure.queue": ("queue", "SqsQueue", False),
        "on_failure.queue.claims": ("claims", "S3Claims", False),
        "on_failure.dead_letters": ("queue", "SqsQueue", False),
    }
    variables = {at: part.get("reason", "") for at, part in parts.items()}
    for at, variable in {"search": "SEARCH", "on_failure.queue": "RETRIES", "charged.store": "MARKS"}.items():
        assert f"the environment variable {variable} is not set" in variables[at]
    assert not answer["healthy"]


def test_it_is_healthy_where_all_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RETRIES", "DEAD", "OUT"):
        monkeypatch.setenv(name, f"https://sqs.eu-west-1.amazonaws.com/123456789012/{name}")
    for name in ("CLAIMS", "TABLE", "MARKS"):
        monkeypatch.setenv(name, name.lower())
    monkeypatch.setenv("SEARCH", "doc-orders-abc.eu-west-1.cloudsearch.amazonaws.com")

    answer = lambda_handler(Orders)(HEALTH)

    assert answer["healthy"]
    assert not [part for part in of(answer).values() if "reason" in part]


def test_an_open_circuit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Down(MemorySink):
        has_breaker = True

        def write(self, *_: Any, **__: Any) -> Any:
            raise ConnectionError(SECRET)

    class ToDown(RecordProcessor):
        name = "to-down"

        def __init__(self) -> None:
            self.sink = Down()

        def process(self, record: Record) -> Write:
            return self.sink.item(record.data)

    handler = lambda_handler(ToDown)
    circuits = []
    for _ in range(FAILURES + 1):
        handler(kinesis_event([b"a"]))
        circuits.append(of(handler(HEALTH))["sink"]["circuit"])

    assert circuits == ["closed", "closed", "open", "open"]
    answer = handler(HEALTH)
    assert not answer["healthy"]
    assert SECRET not in json.dumps(answer)


def test_nothing_is_made_unless_it_is_asked_for() -> None:
    made: list[str] = []

    class Made(RecordProcessor):
        name = "made"

        def __init__(self) -> None:
            made.append("made")
            self.queue = MemoryQueue()

        def process(self, record: Record) -> None: ...

    handler = lambda_handler(Made)

    assert of(handler(HEALTH)) == {}
    assert made == []
    answer = handler({**HEALTH, "build": True})

    assert list(of(answer)) == ["queue"]
    assert answer["processors"][0]["made"]


@pytest.mark.parametrize("source", [lambda: Orders(), Orders(), Orders])
def test_whatever_a_handler_is_made_of(source: Any) -> None:
    handler = lambda_handler(source)

    before, after = handler(HEALTH), handler({**HEALTH, "build": True})

    assert [one["name"] for one in before["processors"]] == ["orders" if not is_factory(source) else ""]
    assert [one["name"] for one in after["processors"]] == ["orders"]


def is_factory(source: Any) -> bool:
    return not isinstance(source, type | Base)


def test_of_a_fan_out_each_branch_is_told() -> None:
    class Audit(RecordProcessor):
        name = "audit"
        on_failure = Block(SqsQueue.from_env("DEAD"))

        def process(self, record: Record) -> None: ...

    handler = lambda_handler(lambda: FanOut(Orders, Audit))
    assert handler(HEALTH)["processors"] == [{"name": "", "healthy": True, "made": False, "policy": None, "parts": []}]

    answer = handler({**HEALTH, "build": True})

    assert [(one["name"], one["policy"], one["made"]) for one in answer["processors"]] == [
        ("orders", "Divert", True),
        ("audit", "Block", True),
    ]


@pytest.mark.parametrize("source", [FanOut(Orders), lambda: FanOut(Orders)])
def test_of_a_fan_out_that_is_there_its_classes_are_told(source: Any) -> None:
    handler = lambda_handler(source)
    handler({"streamkit": "warm", "build": True})

    assert [one["name"] for one in handler(HEALTH)["processors"]] == ["orders"]


class TestWhatCanNotBeMade:
    def test_is_no_error_of_the_ping_but_what_it_tells(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PARKED_TABLE", "parked")
        monkeypatch.delenv("RETRY_QUEUE_URL", raising=False)

        answer = lambda_handler(CloudSearchProcessor)({**HEALTH, "build": True})

        assert not answer["healthy"]
        assert answer["fault"].startswith("ConfigurationError: PARKED_TABLE is set")

    @pytest.mark.parametrize("kind", [PermissionError, Unavailable])
    def test_by_an_error_of_somebody_elses_tells_its_kind_alone(self, kind: type[Exception]) -> None:
        def make() -> Orders:
            raise kind(SECRET)

        answer = lambda_handler(make)({**HEALTH, "build": True})

        assert answer["fault"] == kind.__name__
        assert SECRET not in json.dumps(answer)

    def test_by_a_value_of_the_environment_does_not_quote_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RETRY_BACKOFF_SECONDS", SECRET)
        monkeypatch.setenv("RETRY_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/123456789012/q")
        monkeypatch.setenv("BIGQUERY_TABLE", "shop.flights")

        answer = lambda_handler(BigQueryProcessor)({**HEALTH, "build": True})

        assert answer["fault"] == "ConfigurationError: RETRY_BACKOFF_SECONDS is a number of seconds, 0 or more; got '…'"


def test_no_value_of_the_environment_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {name: f"{SECRET}-{name}" for name in ("RETRIES", "DEAD", "CLAIMS", "SEARCH", "OUT", "TABLE", "MARKS")}
    for name, value in {**values, "AWS_SECRET_ACCESS_KEY": f"{SECRET}-key"}.items():
        monkeypatch.setenv(name, value)

    text = json.dumps(lambda_handler(Orders)({**HEALTH, "build": True}))

    assert SECRET not in text


def test_no_payload_is_in_it() -> None:
    class Failing(RecordProcessor):
        name = "failing"
        on_failure = Divert(MemoryQueue())

        def process(self, record: Record) -> None:
            raise ValueError(record.data)

    handler = lambda_handler(Failing)
    handler(kinesis_event([SECRET.encode()]))

    assert SECRET not in json.dumps(handler(HEALTH))


def test_no_property_of_a_users_own_is_asked() -> None:
    class Lazy(Orders):
        @property
        def registry(self) -> Any:
            raise ConfigurationError("connects when asked for")

    assert "registry" not in of(lambda_handler(Lazy)(HEALTH))


@pytest.mark.parametrize("kind", [KeyError, SinkError, Unavailable, DecodeError])
@pytest.mark.parametrize("name", ["place", "table", "bucket", "_url"])
def test_of_a_part_of_a_users_own_that_fails_the_kind_of_its_error_is_told_alone(
    name: str, kind: type[Exception]
) -> None:
    def fail(self: Any) -> str:
        raise kind(SECRET)

    broken = type("Broken", (MemorySink,), {name: fail if name == "_url" else property(fail)})

    class Own(RecordProcessor):
        name = "own"
        out = broken()

    answer = lambda_handler(Own)(HEALTH)

    (part,) = answer["processors"][0]["parts"]
    assert (part["configured"], part["reason"]) == (False, kind.__name__)
    assert not answer["healthy"]
    assert SECRET not in json.dumps(answer)


@pytest.mark.parametrize("name", ["claims", "plans", "store"])
def test_what_has_no_part_to_give_does_not_fail_the_ping(name: str) -> None:
    def fail(self: Any) -> str:
        raise KeyError(SECRET)

    unready = type("Unready", (), {name: property(fail)})()

    class Own(RecordProcessor):
        name = "own"
        other = unready
        out = MemorySink()

    answer = lambda_handler(Own)(HEALTH)

    assert answer["healthy"]
    assert [part["at"] for part in answer["processors"][0]["parts"]] == ["out"]


def test_the_function_of_dead_letters_answers_too() -> None:
    from processors.dead_letters import DeadLetters

    function = DeadLetters()

    assert function({"streamkit": "warm"})["cold"]
    assert function(HEALTH)["invocations"] == 2

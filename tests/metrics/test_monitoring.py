from __future__ import annotations

import re
import time
from typing import Any

import pytest

from streamkit import Divert, Park, Record, RecordProcessor, lambda_handler, metrics
from streamkit.fanout import FanOut
from streamkit.heartbeat import payload
from streamkit.ledgers.memory import MemoryLedger
from streamkit.policy import Policy
from streamkit.testing import MemoryQueue, kinesis_event

from .conftest import Lines

# As the documentation of Datadog's forwarder has it.
FORM = re.compile(
    r"MONITORING\|(\d{10})\|([0-9.e+]+)\|(count|gauge|histogram|check)\|([A-Za-z][A-Za-z0-9_.]{0,199})\|#(.+)"
)


@pytest.fixture(autouse=True)
def monitoring(on_lambda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMKIT_METRICS", "monitoring")


class Context:
    def get_remaining_time_in_millis(self) -> int:
        return 10_000


class Orders(RecordProcessor):
    name = "orders"

    def __init__(self, name: str = "orders") -> None:
        self.name = name
        self.on_failure: Policy = Divert(MemoryQueue())

    def process(self, record: Record) -> None:
        metrics.count("orders.paid", 2)
        metrics.latency("payments.call", 12.5)
        if record.data == b"fail":
            raise ValueError("no")


def read(texts: list[str]) -> dict[tuple[str, str], tuple[str, list[float]]]:
    """Type and values, by name and tags."""
    found: dict[tuple[str, str], tuple[str, list[float]]] = {}
    for text in texts:
        match = FORM.fullmatch(text)
        assert match, text
        at, value, kind, name, tags = match.groups()
        assert abs(int(at) - time.time()) < 60
        assert found.setdefault((name, tags), (kind, []))[0] == kind
        found[name, tags][1].append(float(value))
    return found


def test_each_figure_that_is_not_0_has_a_line_of_the_form(lines: Lines) -> None:
    lambda_handler(Orders)(kinesis_event([b"a", b"fail", b"b"]), None)

    found = read(lines())
    tags = "function:orders-indexer,processor:orders"
    assert {name_tags[1] for name_tags in found} == {tags}
    assert found["streamkit.records", tags] == ("count", [3])
    assert found["streamkit.failed", tags] == ("count", [1])
    assert found["streamkit.retried", tags] == ("count", [1])
    assert found["streamkit.cold_start", tags] == ("count", [1])
    assert found["streamkit.process_time", tags][0] == "histogram"
    assert ("streamkit.dead_lettered", tags) not in found


def test_users_own_are_lines_by_their_own_names(lines: Lines) -> None:
    lambda_handler(Orders)(kinesis_event([b"a", b"b"]), None)

    found = read(lines())
    tags = "function:orders-indexer,processor:orders"
    assert found["orders.paid", tags] == ("count", [4])
    assert found["payments.call", tags] == ("histogram", [12.5, 12.5])


def test_users_own_never_are_a_series_of_streamkits(lines: Lines) -> None:
    class Counts(RecordProcessor):
        name = "orders"

        def process(self, record: Record) -> None:
            metrics.count("streamkit.records", 100)
            metrics.latency("streamkit.duration", 1e9)

    lambda_handler(Counts)(kinesis_event([b"a", b"b"]), None)

    found = read(lines())
    tags = "function:orders-indexer,processor:orders"
    assert found["streamkit.records", tags] == ("count", [2])
    assert found["user.streamkit.records", tags] == ("count", [200])
    assert max(found["streamkit.duration", tags][1]) < 1e9
    assert found["user.streamkit.duration", tags] == ("histogram", [1e9, 1e9])


def test_more_than_a_hundred_times_are_what_they_come_to(lines: Lines) -> None:
    lambda_handler(Orders)(kinesis_event([b"a"] * 101), None)

    found = read(lines())
    tags = "function:orders-indexer,processor:orders"
    assert found["streamkit.latency.payments.call.count", tags] == ("count", [101])
    for part in ("avg", "min", "max"):
        assert found[f"streamkit.latency.payments.call.{part}", tags] == ("gauge", [12.5])


def test_what_many_times_come_to_is_never_a_user_s_own_metric(lines: Lines) -> None:
    class Counts(RecordProcessor):
        name = "orders"

        def process(self, record: Record) -> None:
            metrics.latency("call", 12.5)
            metrics.count("call.count", 7)
            metrics.latency("call.max", 1)
            metrics.count("streamkit.latency.call.count", 1000)

    lambda_handler(Counts)(kinesis_event([b"a"] * 101), None)

    found = read(lines())
    tags = "function:orders-indexer,processor:orders"
    assert found["call.count", tags] == ("count", [707])
    assert found["streamkit.latency.call.count", tags] == ("count", [101])
    assert found["streamkit.latency.call.max", tags] == ("gauge", [12.5])
    assert found["streamkit.latency.call.max.max", tags] == ("gauge", [1])


def test_a_branch_is_a_tag(lines: Lines) -> None:
    lambda_handler(FanOut(Orders("a"), Orders("b"), name="fan"))(kinesis_event([b"fail"]), None)

    found = read(lines())
    values = {key[1].rpartition(":")[2]: found[key][1] for key in found if key[0].endswith("failed")}
    assert values == {"fan": [2], "a": [1], "b": [1]}
    assert ("streamkit.branch.failed", "function:orders-indexer,processor:a") in found


def test_shares_ages_and_levels_are_gauges_and_have_a_line_at_0_too(
    lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEARTBEAT_MAX_AGE", "1e12")
    orders = Orders()
    orders.on_failure = Park(MemoryQueue(fifo=True), MemoryLedger())
    handler = lambda_handler(orders)
    tags = "function:orders-indexer,processor:orders"

    handler(kinesis_event([b"fail", b"a", payload(1_764_432_000.0)]), None)
    found = read(lines())
    assert found["streamkit.parked_keys", tags] == ("gauge", [0])
    assert found["streamkit.oldest_parked_age", tags] == ("gauge", [0])
    time.sleep(0.01)
    handler(kinesis_event([b"b"], partition_keys=["another"]), Context())
    found |= read(lines())

    assert found["streamkit.parked_keys", tags] == ("gauge", [1])
    gauges = {name.removeprefix("streamkit.") for (name, _), (kind, _) in found.items() if kind == "gauge"}
    ages = {"oldest_record_age", "oldest_parked_age", "heartbeat_age"}
    assert gauges == {*ages, "parked_keys", "time_use", "batch_use"}
    assert found["streamkit.oldest_parked_age", tags][1] >= [10]


@pytest.mark.parametrize("name", ["a|b", "a,b#c", "a\nb", "é", " "])
def test_a_tag_can_not_break_the_form(name: str, lines: Lines) -> None:
    lambda_handler(Orders(name))(kinesis_event([b"a"]), None)

    for key in read(lines()):
        processor = key[1].rpartition("processor:")[2]
        assert re.fullmatch(r"[A-Za-z0-9_]+", processor)


def test_nothing_of_it_is_json(lines: Lines) -> None:
    lambda_handler(Orders)(kinesis_event([b"a"]), None)

    texts: list[Any] = lines()
    assert texts
    assert not [text for text in texts if "{" in text]

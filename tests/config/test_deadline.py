"""A value that does not come is waited for no longer than the invocation has time, wherever in it the value is read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from streamkit import Record, RecordProcessor, lambda_handler
from streamkit.config import Config
from streamkit.errors import BatchFailed, ConfigurationMissing
from streamkit.fanout import FanOut
from streamkit.local.context import RealContext
from streamkit.recursion import Done, LongTask, long_task_handler
from streamkit.testing import kinesis_event, window_event
from streamkit.window import Window, WindowProcessor

from .sources import HeldParameters, settle

# Of the invocation, in seconds. The config would wait for a minute.
TIMEOUT = 1.0


@pytest.fixture
def config() -> Iterator[Config]:
    """Of a source that hangs."""
    source = HeldParameters({"limit": "10"})
    source.let_go.clear()
    yield Config(source, patience=60)
    source.let_go.set()
    settle()


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 20


def processor_of(config: Config) -> type[RecordProcessor]:
    class Early(RecordProcessor):
        name = "early"
        limit = config.integer("limit")

        def __init__(self) -> None:
            config.load()

        def process(self, record: Record) -> None:
            raise AssertionError("it was never made")

    return Early


def test_in_a_constructor(config: Config) -> None:
    context = RealContext(TIMEOUT)
    with pytest.raises(ConfigurationMissing, match="limit"):
        lambda_handler(processor_of(config))(kinesis_event(["a"]), context)
    assert context.get_remaining_time_in_millis() > 0


def test_in_a_constructor_that_only_a_factory_knows(config: Config) -> None:
    early, context = processor_of(config), RealContext(TIMEOUT)
    with pytest.raises(ConfigurationMissing, match="limit"):
        lambda_handler(lambda: early())(kinesis_event(["a"]), context)
    assert context.get_remaining_time_in_millis() > 0


def test_in_the_constructor_of_a_branch(config: Config) -> None:
    class Other(RecordProcessor):
        name = "other"

        def process(self, record: Record) -> None:
            return None

    context = RealContext(TIMEOUT)
    answer = lambda_handler(FanOut(processor_of(config), Other))(kinesis_event(["a"]), context)
    assert len(answer["batchItemFailures"]) == 1
    assert context.get_remaining_time_in_millis() > 0


def test_in_a_constructor_that_a_ping_has_called_for(config: Config) -> None:
    context = RealContext(TIMEOUT)
    answer: Any = lambda_handler(processor_of(config))({"streamkit": "health", "build": True}, context)
    assert "ConfigurationMissing" in str(answer)
    assert context.get_remaining_time_in_millis() > 0


def test_at_the_end_of_a_window(config: Config) -> None:
    class Counts(WindowProcessor):
        name = "counts"
        limit = config.integer("limit")

        def aggregate(self, record: Record, state: Any) -> None:
            state["count"] = state.get("count", 0) + 1

        def finish(self, window: Window, state: Any) -> None:
            _ = self.limit.value

    context = RealContext(TIMEOUT)
    with pytest.raises(BatchFailed, match="limit"):
        lambda_handler(Counts)(window_event(kinesis_event(["a"]), is_final=True), context)
    assert context.get_remaining_time_in_millis() > 0


def test_in_a_step_of_a_long_task(config: Config) -> None:
    class Export(LongTask):
        name = "export"
        limit = config.integer("limit")

        def step(self, cursor: Any, context: Any) -> Any:
            return Done(self.limit.value)

    context = RealContext(TIMEOUT)
    with pytest.raises(ConfigurationMissing, match="limit"):
        long_task_handler(Export)({}, context)
    assert context.get_remaining_time_in_millis() > 0


def test_the_next_invocation_has_a_time_of_its_own(config: Config) -> None:
    class Late(RecordProcessor):
        name = "late"
        limit = config.integer("limit", default=1)
        waited: list[float] = []

        def __init__(self) -> None:
            began = time.monotonic()
            _ = self.limit.value
            self.waited.append(time.monotonic() - began)

        def process(self, record: Record) -> None:
            return None

    assert lambda_handler(Late)(kinesis_event(["a"]), RealContext(TIMEOUT)) == {"batchItemFailures": []}
    (waited,) = Late.waited
    assert 0.1 < waited < TIMEOUT

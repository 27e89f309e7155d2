"""The handlers, invoked in this process with the settings of a stage's functions, against the services of the stage."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from processors.bigquery import BigQueryProcessor
from processors.cloudsearch import CloudSearchProcessor
from streamkit import RecordProcessor, lambda_handler
from streamkit.testing import kinesis_event

from ..acceptance.world import World, eventually

# The first of them waits for the stage: servers start, packages are built, stacks are made.
pytestmark = pytest.mark.timeout(900)

Invoke = Callable[[list[Any]], Any]


@pytest.fixture
def shard() -> str:
    """Of its own for each test, and so are the ids of what it writes."""
    return f"shardId-{uuid.uuid4().int % 10**12:012}"


@pytest.fixture
def invoke(
    world: World, shard: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Invoke]:
    """Invokes the processor of the mark ``of`` as its function is deployed."""
    function, processor = request.node.get_closest_marker("of").args
    for name, value in world.environment(function).items():
        monkeypatch.setenv(name, value)
    if world.stage == "local":
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", world.warehouse._connection.API_BASE_URL)
        for name, value in {
            "ACCESS_KEY_ID": "nobody",
            "SECRET_ACCESS_KEY": "nothing",
            "DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(f"AWS_{name}", value)
    else:
        monkeypatch.setenv("AWS_PROFILE", os.environ["PROFILE"])
        monkeypatch.setenv("AWS_DEFAULT_REGION", os.environ["REGION"])
        monkeypatch.delenv(
            "GOOGLE_CREDENTIALS", raising=False
        )  # They are the role's, which this process does not have.
    handler = lambda_handler(processor)
    yield lambda events: handler(kinesis_event(events, shard_id=shard))
    handler.close()


def of(function: str, processor: type[RecordProcessor]) -> pytest.MarkDecorator:
    return pytest.mark.of(function, processor)


@of("flights", BigQueryProcessor)
def test_rows_are_written_and_a_repeat_writes_none(world: World, invoke: Invoke, shard: str) -> None:
    events = [{"id": f"{shard}-{n}", "origin": "DEN", "delay": n} for n in range(5)]

    assert invoke(events) == {"batchItemFailures": []}
    assert invoke(events) == {"batchItemFailures": []}

    wanted = [event["id"] for event in events]
    assert eventually(lambda: world.rows("flights", shard), lambda rows: len(rows) >= 5) == wanted


@of("flights", BigQueryProcessor)
def test_a_row_that_can_never_be_is_a_dead_letter(world: World, invoke: Invoke, shard: str) -> None:
    events = [{"id": f"{shard}-{n}", "origin": "DEN", "delay": "late" if n == 1 else n} for n in range(3)]

    assert invoke(events) == {"batchItemFailures": []}

    letters: list[dict[str, Any]] = []

    def look() -> list[dict[str, Any]]:
        letters.extend(world.dead_letters("flights", shard))
        return letters

    assert len(eventually(look, bool)) == 1
    assert len(eventually(lambda: world.rows("flights", shard), lambda rows: len(rows) >= 2)) == 2


@of("airports", CloudSearchProcessor)
def test_documents_are_there_and_one_that_comes_again_takes_the_place_of_the_first(
    world: World, invoke: Invoke, shard: str
) -> None:
    word = shard.replace("-", "").lower()
    airport = {"iata": word, "name": f"{word} old", "city": "Denver", "state": "CO"}

    assert invoke([airport, {**airport, "name": f"{word} new"}]) == {"batchItemFailures": []}

    assert eventually(lambda: world.found(f"{word} new"), bool) == [word]
    assert world.found(f"{word} old") == []

"""processors.backfill: the objects that are there, line by line into a stream, over as many invocations as that takes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from processors.backfill import Backfill, handler
from streamkit.cells.dynamodb import DynamoDbCells
from streamkit.errors import ConfigurationError, StreamkitError
from streamkit.recursion import LongTaskHandler, long_task_handler
from tests.lambda_server import LambdaServer, lambda_client
from tests.sinks.aws_proxy import client_of

from .test_objects import records

_names = (f"backfill-{n}" for n in itertools.count())


class World:
    """A bucket, a stream, a table and a queue of dead letters on moto; the function behind a server that invokes it, each
    time in a container of its own.
    """

    def __init__(self, moto: str, server: LambdaServer, client: Any) -> None:
        self.name = next(_names)
        self.moto = moto
        self.server = server
        self.s3 = client_of(moto, "s3")
        self.s3.create_bucket(Bucket=self.name)
        client_of(moto, "kinesis").create_stream(StreamName=self.name, ShardCount=1)
        DynamoDbCells(self.name, client=client_of(moto, "dynamodb")).create_table()
        self.queue = client_of(moto, "sqs").create_queue(QueueName=self.name)["QueueUrl"]
        server.functions["backfill"] = lambda event, context: long_task_handler(Backfill, client=client)(event, context)

    def put(self, **objects: bytes) -> None:
        for key, content in objects.items():
            self.s3.put_object(Bucket=self.name, Key=f"in/{key}", Body=content)

    def run(self, **event: Any) -> list[Any]:
        """The answer of each invocation, None for one that failed."""
        before = len(self.server.invocations)
        self.server.accept("backfill", json.dumps(event).encode())
        self.server.wait()
        return [one.answer for one in self.server.invocations[before:]]

    @property
    def lines(self) -> list[bytes]:
        return [data for _, data in records(self.moto, self.name)]


@pytest.fixture
def world(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for variable in ("LINE_KEY", "MOST_BYTES", "MOST_LINES", "RETRY_QUEUE_URL", "DEAD_LETTER_QUEUE_URL"):
        monkeypatch.delenv(variable, raising=False)
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "nobody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)
    # Less than the margin: each invocation has time for its first step, and no other.
    server = LambdaServer(timeout=60)
    with server.running() as endpoint:
        client = lambda_client(endpoint)
        made = World(moto_endpoint, server, client)
        for variable in ("BUCKET", "STREAM", "CHAINS_TABLE"):
            monkeypatch.setenv(variable, made.name)
        monkeypatch.setenv("PREFIX", "in/")
        yield made
        client.close()


def test_every_line_of_every_object_is_put_over_as_many_invocations_as_it_takes(world: World) -> None:
    world.put(a=b"1\n2\n", b=b"3\n", **{"c d+é": b"4\n"})
    world.s3.put_object(Bucket=world.name, Key="other/x", Body=b"not of the prefix\n")

    answers = world.run()

    assert [(one["hop"], one["state"]) for one in answers] == [
        *((0, "passed on"), (1, "passed on"), (2, "passed on"), (3, "done"))
    ]
    assert answers[-1]["result"] == {"objects": 3}
    assert world.lines == [b"1", b"2", b"3", b"4"]


def test_in_one_container_a_page_is_listed_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put(**{f"{n}": b"x\n" for n in range(5)})
    task = Backfill()
    lists = 0
    next_page = task._s3.until

    def counted(deadline: float) -> Any:
        nonlocal lists
        lists += 1
        return next_page(deadline)

    monkeypatch.setattr(task._s3, "until", counted)
    cursor = task.start({})
    for _ in range(5):
        cursor = task.step(cursor, None)
    done = task.step(cursor, None)
    task.close()

    assert done.result == {"objects": 5}
    # And once more for what may have come behind the last.
    assert lists == 2


def test_an_invocation_that_fails_behind_an_object_begins_with_it_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put(a=b"1\n", b=b"2\n", c=b"3\n")
    step, failures = Backfill.step, iter([False, True])

    def fails_once(self: Backfill, cursor: Any, context: Any) -> Any:
        found = step(self, cursor, context)
        if next(failures, False):
            raise StreamkitError("its time was up")
        return found

    monkeypatch.setattr(Backfill, "step", fails_once)

    answers = world.run()

    assert answers[-1]["result"] == {"objects": 3}
    # At least once: it was put before the step failed.
    assert world.lines == [b"1", b"2", b"2", b"3"]


def test_a_second_start_by_the_same_id_does_nothing(world: World) -> None:
    world.put(a=b"1\n")

    world.run(id="2025")

    assert [one["state"] for one in world.run(id="2025")] == ["left"]
    assert world.lines == [b"1"]


def test_a_start_may_name_fewer_and_never_more_than_it_may_read(world: World) -> None:
    world.put(a1=b"1\n", a2=b"2\n", b1=b"3\n")

    world.run(prefix="in/a", after="in/a1")

    assert world.lines == [b"2"]
    for event in ({"prefix": "other/"}, {"prefix": ""}):
        with pytest.raises(ConfigurationError, match="begins with PREFIX"):
            Backfill().start(event)


@pytest.mark.parametrize("event", [{"Records": []}, {"prefix": 7}, {"detail": {}}, [], None])
def test_any_other_event_starts_nothing(world: World, event: Any) -> None:
    with pytest.raises(ConfigurationError, match="none of a backfill's"):
        Backfill().chain(event)


def test_what_can_never_be_loaded_is_a_dead_letter_and_the_rest_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", world.queue)
    monkeypatch.setenv("LINE_KEY", "id")
    world.put(a=b"no json\n", b=b'{"id": 1}\n')

    assert world.run()[-1]["result"] == {"objects": 2}

    assert world.lines == [b'{"id": 1}']
    (letter,) = client_of(world.moto, "sqs").receive_message(QueueUrl=world.queue)["Messages"]
    assert "line 1 of s3://" in letter["Body"]


def test_without_dead_letters_it_ends_there_with_the_cursor_from_which_it_can_go_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINE_KEY", "id")
    world.put(a=b'{"id": 1}\n', b=b"no json\n", c=b'{"id": 3}\n')

    world.run()

    (event,) = world.server.given_up
    assert event["cursor"]["after"] == "in/a"
    world.put(b=b'{"id": 2}\n')
    world.run(**event)
    assert world.lines == [b'{"id": 1}', b'{"id": 2}', b'{"id": 3}']


def test_a_line_without_the_field_of_its_key_ends_it_for_the_setting_may_be_wrong(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEAD_LETTER_QUEUE_URL", world.queue)
    monkeypatch.setenv("LINE_KEY", "idd")
    world.put(a=b'{"id": 1}\n')

    assert world.run() == [None, None, None]

    assert len(world.server.given_up) == 1
    assert world.lines == []


def test_a_bucket_without_any_object_of_the_prefix_is_done_at_once(world: World) -> None:
    assert [(one["state"], one["result"]) for one in world.run()] == [("done", {"objects": 0})]


def test_the_deployed_function_is_one() -> None:
    assert isinstance(handler, LongTaskHandler)

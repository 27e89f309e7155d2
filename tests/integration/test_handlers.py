"""The handlers, invoked in this process with the settings of a stage's functions, against the services of the stage."""

from __future__ import annotations

import base64
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from processors.bigquery import BigQueryProcessor
from processors.bigquery_exactly_once import BigQueryExactlyOnceProcessor
from processors.cloudsearch import CloudSearchProcessor
from processors.dead_letters import DeadLetters
from processors.fanout import fan_out
from processors.heartbeat import Heartbeat
from processors.opensearch import OpenSearchProcessor
from streamkit import RecordProcessor, lambda_handler
from streamkit.fanout import FanOut
from streamkit.heartbeat import is_heartbeat
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
def as_deployed(world: World, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives this process the variables of a function of the stage, by its name, and who may use its services."""

    def set_up(function: str) -> None:
        for name, value in (world.environment(function) | dict(world.emulators)).items():
            monkeypatch.setenv(name, value)
        if world.stage == "local":
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

    return set_up


@pytest.fixture
def invoke(
    world: World, shard: str, request: pytest.FixtureRequest, as_deployed: Callable[[str], None]
) -> Iterator[Invoke]:
    """Invokes the processor of the mark ``of`` as its function is deployed."""
    function, processor = request.node.get_closest_marker("of").args
    if function not in world.functions:
        pytest.skip(f"the stage {world.stage} has no function {function}")
    as_deployed(function)
    handler = lambda_handler(processor)
    yield lambda events: handler(kinesis_event(events, shard_id=shard))
    handler.close()


def of(function: str, processor: type[RecordProcessor] | Callable[[], FanOut]) -> pytest.MarkDecorator:
    return pytest.mark.of(function, processor)


def letters_of(world: World, function: str, text: str) -> list[dict[str, Any]]:
    """The dead letters with ``text`` in them, once there are some."""
    letters: list[dict[str, Any]] = []

    def look() -> list[dict[str, Any]]:
        letters.extend(world.dead_letters(function, text))
        return letters

    return eventually(look, bool)


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

    assert len(letters_of(world, "flights", shard)) == 1
    assert len(eventually(lambda: world.rows("flights", shard), lambda rows: len(rows) >= 2)) == 2


@of("exact", BigQueryExactlyOnceProcessor)
def test_rows_are_written_exactly_once_though_a_batch_comes_again_as_a_part_of_a_longer_one(
    world: World, invoke: Invoke, shard: str
) -> None:
    events = [{"id": f"{shard}-{n}", "origin": "DEN", "delay": n} for n in range(5)]

    assert invoke(events[:3]) == {"batchItemFailures": []}
    assert invoke(events) == {"batchItemFailures": []}

    wanted = [event["id"] for event in events]
    assert eventually(lambda: world.rows("exact", shard), lambda rows: len(rows) >= 5) == wanted
    plans = world.session.client("dynamodb").scan(TableName=os.environ["PLANS_TABLE"], ConsistentRead=True)["Items"]
    assert shard in repr(plans), "which is how the second batch knows what the first has written"


@of("airports", CloudSearchProcessor)
def test_documents_are_there_and_one_that_comes_again_takes_the_place_of_the_first(
    world: World, invoke: Invoke, shard: str
) -> None:
    word = shard.replace("-", "").lower()
    airport = {"iata": word, "name": f"{word} old", "city": "Denver", "state": "CO"}

    assert invoke([airport, {**airport, "name": f"{word} new"}]) == {"batchItemFailures": []}

    assert eventually(lambda: world.found(f"{word} new"), bool) == [word]
    assert world.found(f"{word} old") == []


@of("places", OpenSearchProcessor)
def test_documents_are_in_the_index_and_an_older_version_changes_none(world: World, invoke: Invoke, shard: str) -> None:
    if world.index is None:
        pytest.skip("only an index of this machine can be looked into")
    word = shard.replace("-", "").lower()
    new, old = ({"iata": word, "name": f"{word} {n}", "updated_at": n} for n in (2, 1))

    assert invoke([new]) == {"batchItemFailures": []}
    assert invoke([old]) == {"batchItemFailures": []}

    assert eventually(lambda: world.indexed("places", word), bool) == {word: {"iata": word, "name": f"{word} 2"}}


@of("fan", fan_out)
def test_events_are_handed_on_to_the_target_of_their_route(world: World, invoke: Invoke, shard: str) -> None:
    events = [{"type": "order", "id": f"{shard}-{n}"} for n in range(12)]
    orders = world.session.client("sqs").get_queue_url(QueueName="orders")["QueueUrl"]
    found: list[dict[str, Any]] = []

    assert invoke(events) == {"batchItemFailures": []}

    def look() -> list[dict[str, Any]]:
        found.extend(world.messages(orders, shard))
        return found

    eventually(look, lambda messages: len(messages) >= 12)
    assert sorted(found, key=lambda event: int(event["id"].rpartition("-")[2])) == events


def test_what_lambda_gave_up_is_fetched_from_the_stream_and_is_a_dead_letter(
    world: World, as_deployed: Callable[[str], None], shard: str
) -> None:
    # Of the kind that its mapping lets through; the deployed function makes a row of it, too.
    event = {"type": "flight", "id": f"{shard}-0", "origin": "DEN", "delay": 5}
    kinesis = world.session.client("kinesis")
    stream = kinesis.describe_stream_summary(StreamName=f"streamkit-{world.stage}")["StreamDescriptionSummary"]
    put = kinesis.put_record(StreamARN=stream["StreamARN"], Data=json.dumps(event).encode(), PartitionKey=shard)
    # As "Retain discarded batch records" in AWS's Lambda guide has it.
    at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
    document = {
        "requestContext": {
            "requestId": str(uuid.uuid4()),
            "functionArn": f"arn:aws:lambda:us-east-1:123456789012:function:streamkit-{world.stage}-flights",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 3,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "1", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": at,
        "KinesisBatchInfo": {
            "shardId": put["ShardId"],
            "startSequenceNumber": put["SequenceNumber"],
            "endSequenceNumber": put["SequenceNumber"],
            "approximateArrivalOfFirstRecord": at,
            "approximateArrivalOfLastRecord": at,
            "batchSize": 1,
            "streamArn": stream["StreamARN"],
        },
    }
    message = {"messageId": "m", "eventSource": "aws:sqs", "body": json.dumps(document), "attributes": {}}
    as_deployed("flights-dead-letters")
    function = DeadLetters()

    assert function({"Records": [message]}) == {"batchItemFailures": []}

    function.close()
    (letter,) = letters_of(world, "flights", shard)
    assert json.loads(base64.b64decode(letter["data"])) == event
    assert (letter["processor"], letter["sequence_number"]) == ("flights", put["SequenceNumber"])
    assert letter["failures"][-1]["type"] == "RetryAttemptsExhausted"


def test_each_open_shard_of_the_stream_gets_a_heartbeat(world: World, as_deployed: Callable[[str], None]) -> None:
    kinesis, stream = world.session.client("kinesis"), f"streamkit-{world.stage}"
    shards = [
        shard["ShardId"]
        for shard in kinesis.list_shards(StreamName=stream)["Shards"]
        if "EndingSequenceNumber" not in shard["SequenceNumberRange"]
    ]
    iterators = {
        shard: kinesis.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="LATEST")["ShardIterator"]
        for shard in shards
    }
    before = time.time()
    as_deployed("heartbeat")

    assert Heartbeat()({}) == {"shards": len(shards)}

    after = time.time()
    found: dict[str, list[bytes]] = {shard: [] for shard in shards}

    def look() -> bool:
        for shard, iterator in iterators.items():
            answer = kinesis.get_records(ShardIterator=iterator)
            iterators[shard] = answer["NextShardIterator"]
            found[shard] += [record["Data"] for record in answer["Records"] if is_heartbeat(record["Data"])]
        return all(found.values())

    assert eventually(look, bool)
    for beats in found.values():
        # The deployed one may have put its own.
        assert any(before - 0.01 <= json.loads(beat)["sent_at"] <= after + 0.01 for beat in beats)

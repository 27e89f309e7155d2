"""The daemon's records through a handler and back, whatever fails."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit import Block, Divert, Record, RecordProcessor, lambda_handler
from streamkit.fanout import FanOut
from streamkit.kcl.protocol import Position, Received
from streamkit.kcl.records import event_of, settled
from streamkit.progress.memory import MemoryProgress
from streamkit.testing import MemoryQueue

ARN = "arn:aws:kinesis:us-east-1:123456789012:stream/orders"


def received(*positions: tuple[int, int]) -> list[Received]:
    return [
        Received(str(number), base64.b64encode(f"{number}:{sub}".encode()).decode(), f"key-{sub}", 1_000, sub)
        for number, sub in positions
    ]


def processor(failing: set[str], ran: list[str], **options: Any) -> RecordProcessor:
    class Orders(RecordProcessor):
        def process(self, record: Record) -> None:
            ran.append(record.event_id)
            if record.data.decode() in failing:
                raise ValueError

    made = Orders()
    for name, value in {"name": "orders", **options}.items():
        setattr(made, name, value)
    return made


# Numbers of any distance, of which each has up to four records.
positions = st.dictionaries(st.integers(1, 10**56), st.integers(1, 4), min_size=1, max_size=6).map(
    lambda sizes: [(number, sub) for number in sorted(sizes) for sub in range(sizes[number])]
)


@given(st.data())
def test_what_a_handlers_answer_settles_ends_just_before_the_lowest_record_that_failed(data: st.DataObject) -> None:
    chosen = data.draw(positions)
    # As after a checkpoint within the first aggregate.
    chosen = chosen[data.draw(st.integers(0, min(3, len(chosen) - 1))) :]
    failing = {f"{number}:{sub}" for number, sub in chosen if data.draw(st.booleans())}
    progress = data.draw(st.booleans())
    one = processor(failing, [], on_failure=Block(), progress=MemoryProgress() if progress else None)
    records = received(*chosen)

    answer = lambda_handler(one)(event_of(records, stream_arn=ARN, shard_id="shard"), None)

    count = settled(answer, [record.position for record in records])
    expected = next((n for n, (number, sub) in enumerate(chosen) if f"{number}:{sub}" in failing), len(chosen))
    assert count == expected


def test_with_progress_what_is_behind_a_failed_record_of_an_aggregate_does_not_run_again() -> None:
    ran: list[str] = []
    failing = {"10:1"}
    handler = lambda_handler(processor(failing, ran, progress=MemoryProgress()))
    records = received((10, 0), (10, 1), (10, 2), (11, 0))

    count = settled(handler(event_of(records, stream_arn=ARN, shard_id="s"), None), [one.position for one in records])
    failing.clear()
    left = records[count:]
    count += settled(handler(event_of(left, stream_arn=ARN, shard_id="s"), None), [one.position for one in left])

    assert count == 4
    assert ran == [f"orders/s:{one}" for one in ("10:0", "10:1", "10:2", "11:0", "10:1")]


def test_branches_are_settled_as_far_as_the_last_of_them() -> None:
    first = processor({"10:2"}, [], name="first", progress=MemoryProgress())
    second = processor({"10:1"}, [], name="second", progress=MemoryProgress())
    records = received((10, 0), (10, 1), (10, 2), (11, 0))

    answer = lambda_handler(FanOut(first, second))(event_of(records, stream_arn=ARN, shard_id="s"), None)

    assert settled(answer, [one.position for one in records]) == 1


def test_a_record_that_a_queue_has_taken_is_settled() -> None:
    queue = MemoryQueue()
    handler = lambda_handler(processor({"10:1"}, [], on_failure=Divert(queue)))
    records = received((10, 0), (10, 1), (11, 0))

    assert (
        settled(handler(event_of(records, stream_arn=ARN, shard_id="s"), None), [one.position for one in records]) == 3
    )
    assert len(queue) == 1


def answer_of(*failures: Any) -> dict[str, Any]:
    return {"batchItemFailures": list(failures)}


@pytest.mark.parametrize(
    ("answer", "count"),
    [
        (None, 5),
        ({}, 5),
        (answer_of(), 5),
        (answer_of({"itemIdentifier": "20"}), 3),
        # One that does not know of places: all of an aggregate.
        (answer_of({"itemIdentifier": "10"}), 0),
        (answer_of({"itemIdentifier": "20"}, {"itemIdentifier": "10", "subSequenceNumber": 2}), 2),
        (answer_of({"itemIdentifier": "10", "subSequenceNumber": 2}, {"itemIdentifier": "10"}), 0),
        (answer_of({"itemIdentifier": "10", "subSequenceNumber": "2"}), 0),
        (answer_of({"itemIdentifier": "10", "subSequenceNumber": -1}), 0),
        # What Lambda takes for a failure of the whole batch.
        (answer_of({"itemIdentifier": "30"}), 0),
        (answer_of({"itemIdentifier": ""}), 0),
        (answer_of({"subSequenceNumber": 1}), 0),
        (answer_of(7), 0),
        ("done", 0),
        (7, 0),
        ([{"itemIdentifier": "20"}], 0),
    ],
)
def test_any_other_answer_means_what_it_means_to_lambda(answer: Any, count: int) -> None:
    chosen: Sequence[Position] = [Position(*one) for one in ((10, 0), (10, 1), (10, 2), (20, 0), (20, 1))]

    assert settled(answer, chosen) == count


def test_the_event_is_lambdas_with_the_place_beside_the_number() -> None:
    record = Received("10", "YQ==", "k", 1_767_225_600_123, 2)

    event = event_of([record], stream_arn=ARN, shard_id="shardId-000000000007")

    assert event == {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "k",
                    "sequenceNumber": "10",
                    "subSequenceNumber": 2,
                    "data": "YQ==",
                    "approximateArrivalTimestamp": 1_767_225_600.123,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": "shardId-000000000007:10",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::000000000000:role/function",
                "awsRegion": "us-east-1",
                "eventSourceARN": ARN,
            }
        ]
    }


def test_what_the_daemon_does_not_know_is_not_in_the_event() -> None:
    event = event_of([Received("10")], stream_arn=ARN, shard_id="s")

    assert event["Records"][0]["kinesis"] == {
        "kinesisSchemaVersion": "1.0",
        "sequenceNumber": "10",
        "subSequenceNumber": 0,
    }

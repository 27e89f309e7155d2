"""The JSON of a record in an event, by the fast way and by the plain one."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pybase64
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.local.documents import EventRecords, kinesis_record, raw_record

ARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders"
SHARD = "shardId-000000000003"


def encoded(raw: dict[str, Any], arn: str = ARN) -> bytes:
    return EventRecords(arn, SHARD).encoded(raw)


@given(
    data=st.binary(max_size=50),
    # All that UTF-8 can carry: quotes, backslashes, control characters, other planes.
    key=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    number=st.integers(0, 2**186),
    arrived_at=st.floats(0, 4e9) | st.integers(0, 4_000_000_000) | st.integers(0, 4 * 10**12).map(lambda ms: ms / 1000),
)
def test_a_record_is_encoded_as_the_plain_way_does(
    data: bytes, key: str | None, number: int, arrived_at: float
) -> None:
    plain = kinesis_record(
        stream_arn=ARN,
        shard_id=SHARD,
        sequence_number=str(number),
        data=data,
        partition_key=key or None,
        arrived_at=arrived_at,
    )
    raw = {
        "SequenceNumber": str(number),
        "Data": pybase64.b64encode_as_string(data),
        "ApproximateArrivalTimestamp": arrived_at,
        "PartitionKey": key,
    }

    assert encoded(raw) == msgspec.json.encode(plain)
    assert json.loads(encoded(raw)) == plain


def test_a_record_may_lack_its_key() -> None:
    raw = {"SequenceNumber": "7", "Data": "QQ==", "ApproximateArrivalTimestamp": 1_700_000_000.5}

    assert "partitionKey" not in json.loads(encoded(raw))["kinesis"]


def test_a_record_read_by_fan_out_names_the_consumer() -> None:
    raw = {"SequenceNumber": "7", "Data": "QQ==", "ApproximateArrivalTimestamp": 1_700_000_000.5}
    consumer = f"{ARN}/consumer/orders-reader:1700000000"

    record = json.loads(encoded(raw, consumer))

    assert (record["eventSourceARN"], record["awsRegion"]) == (consumer, "eu-west-1")


@pytest.mark.parametrize("arrived_at", [1_700_000_000.25, datetime.fromtimestamp(1_700_000_000.25, UTC)])
def test_a_record_of_boto3_gets_the_form_of_kinesis(arrived_at: object) -> None:
    record = {
        "SequenceNumber": "7",
        "Data": b"\x00\xff",
        "ApproximateArrivalTimestamp": arrived_at,
        "PartitionKey": "k",
    }

    assert raw_record(record) == {
        "SequenceNumber": "7",
        "Data": "AP8=",
        "ApproximateArrivalTimestamp": 1_700_000_000.25,
        "PartitionKey": "k",
    }

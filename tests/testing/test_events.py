"""``kinesis_event``: the event of a batch, as Lambda sends it."""

from __future__ import annotations

import base64
import json

import pytest

from streamkit.event import decode
from streamkit.testing import kinesis_event


def test_a_record_has_what_lambda_gives_it() -> None:
    event = kinesis_event(
        [b"\xff\x00"], partition_keys=["key"], shard_id="shardId-000000000006", stream="orders", start=41
    )

    (record,) = event["Records"]
    assert record["kinesis"].pop("approximateArrivalTimestamp") == pytest.approx(1_767_225_600)
    assert record["kinesis"] == {
        "kinesisSchemaVersion": "1.0",
        "partitionKey": "key",
        "sequenceNumber": "41",
        "data": base64.b64encode(b"\xff\x00").decode(),
    }
    assert record["eventSource"] == "aws:kinesis"
    assert record["eventVersion"] == "1.0"
    assert record["eventID"] == "shardId-000000000006:41"
    assert record["eventName"] == "aws:kinesis:record"
    assert record["invokeIdentityArn"].startswith("arn:aws:iam::")
    assert record["eventSourceARN"] == f"arn:aws:kinesis:{record['awsRegion']}:000000000000:stream/orders"


def test_it_is_json_and_a_fresh_one_each_time() -> None:
    event = kinesis_event(["a"])

    assert json.loads(json.dumps(event)) == event
    event["Records"][0]["kinesis"]["data"] = "changed"
    assert kinesis_event(["a"]) != event


def test_payloads_are_bytes_text_or_anything_that_is_json() -> None:
    event = kinesis_event([b"raw", bytearray(b"mutable"), memoryview(b"view"), "ö", {"total": 2**70}, [1], None])

    assert [record.data for record in decode(event).records] == [
        b"raw",
        b"mutable",
        b"view",
        "ö".encode(),
        b'{"total":1180591620717411303424}',
        b"[1]",
        b"null",
    ]


def test_sequence_numbers_go_up_by_one_from_the_start_which_is_a_number_or_a_text() -> None:
    for start in (9, "9"):
        event = kinesis_event("abc", start=start)

        assert [record["kinesis"]["sequenceNumber"] for record in event["Records"]] == ["9", "10", "11"]


def test_by_default_a_sequence_number_is_as_long_as_those_of_kinesis_and_each_record_has_a_key_of_its_own() -> None:
    event = kinesis_event("ab")

    assert [len(record["kinesis"]["sequenceNumber"]) for record in event["Records"]] == [56, 56]
    assert [record["kinesis"]["partitionKey"] for record in event["Records"]] == ["key-0", "key-1"]


def test_a_key_that_is_none_is_left_out_of_the_event() -> None:
    event = kinesis_event("ab", partition_keys=[None, "k"])

    assert ["partitionKey" in record["kinesis"] for record in event["Records"]] == [False, True]


def test_as_many_keys_as_payloads_are_asked_for() -> None:
    with pytest.raises(ValueError, match="2 payloads"):
        kinesis_event("ab", partition_keys=["k"])


def test_no_payloads_make_an_empty_batch() -> None:
    assert kinesis_event([]) == {"Records": []}

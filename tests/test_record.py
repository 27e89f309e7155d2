from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit import DecodeError, Record, Reject, Retry, StreamkitError, Unavailable, kpl
from streamkit.event import decode
from streamkit.testing import kinesis_event

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def record_of(data: bytes, **options: Any) -> Record:
    return decode(kinesis_event([data], **options)).records[0]


class TestData:
    @given(st.binary(max_size=2000).filter(lambda data: not data.startswith(kpl.MAGIC)))
    def test_is_the_payload_that_was_put(self, payload: bytes) -> None:
        assert record_of(payload).data == payload

    def test_is_decoded_once(self) -> None:
        record = record_of(b"payload")

        assert record.data is record.data

    def test_can_have_ten_mebibytes(self) -> None:
        payload = bytes(range(256)) * (10 * 1024 * 4)

        assert len(record_of(payload).data) == 10 * 1024 * 1024

    @pytest.mark.parametrize(
        "text", ["%%%", "YQ", "YQ=", "YQ==YQ==", "Y Q==", "YQ==\n", "Y\u00e9==", "\ud800aaa", "YWJj-_=="]
    )
    def test_that_is_not_base64_is_a_decode_error_each_time(self, text: str) -> None:
        event = kinesis_event([b"x"])
        event["Records"][0]["kinesis"]["data"] = text
        record = decode(event).records[0]

        for _ in range(2):
            with pytest.raises(DecodeError, match="not valid base64") as caught:
                _ = record.data
            assert caught.value.event_id == record.event_id
            assert caught.value.__cause__ is None
        with pytest.raises(DecodeError, match="not valid base64"):
            record.json()
        assert record.undecoded == text


class TestJson:
    @given(json_values)
    def test_is_what_was_put(self, value: Any) -> None:
        record = record_of(json.dumps(value).encode())

        assert record.json() == value

    def test_is_parsed_once(self) -> None:
        record = record_of(b'{"a": [1]}')

        assert record.json() is record.json()

    def test_null_is_parsed_once_too(self) -> None:
        record = record_of(b"null")

        assert record.json() is None
        assert record.json() is None

    @pytest.mark.parametrize("number", [2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**40, -(10**400)])
    def test_integers_are_exact_at_any_size(self, number: int) -> None:
        parsed = record_of(str(number).encode()).json()

        assert parsed == number
        assert type(parsed) is int

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"NaN",
            b'{"a": Infinity}',
            b"-Infinity",
            b"1e999",
            b"[1,]",
            b"{} {}",
            b"\xff\xfe",
            b'"\xff"',
            b'"\\ud800"',
            b"\xef\xbb\xbf{}",
            b"1" * 5000,
            b"[" * 100_000,
        ],
        ids=lambda payload: repr(payload[:12]),
    )
    def test_what_is_not_json_is_a_decode_error(self, payload: bytes) -> None:
        record = record_of(payload)

        with pytest.raises(DecodeError, match="not JSON") as caught:
            record.json()

        assert caught.value.event_id == record.event_id
        assert record.data == payload

    def test_an_error_never_quotes_the_payload(self) -> None:
        with pytest.raises(DecodeError) as caught:
            record_of(b'{"card": "4111-1111", "pin": oops}').json()

        assert "4111" not in str(caught.value)
        assert "oops" not in str(caught.value)


class TestDecode:
    def test_gives_what_the_function_makes_of_the_bytes(self) -> None:
        class Order(msgspec.Struct):
            id: str

        assert record_of(b'{"id": "a"}').decode(msgspec.json.Decoder(Order).decode) == Order("a")

    def test_an_error_of_the_function_is_a_decode_error(self) -> None:
        record = record_of(b"many")

        with pytest.raises(DecodeError, match="ValueError") as caught:
            record.decode(int)

        assert isinstance(caught.value.__cause__, ValueError)
        assert caught.value.event_id == record.event_id

    @pytest.mark.parametrize("error", [Reject("no"), Retry(5), Unavailable("the registry"), StreamkitError("other")])
    def test_streamkits_own_errors_pass(self, error: StreamkitError) -> None:
        def fail(data: bytes) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            record_of(b"x").decode(fail)

        assert caught.value is error

    def test_what_stops_the_process_passes(self) -> None:
        def stop(data: bytes) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            record_of(b"x").decode(stop)


class TestPosition:
    def test_of_a_stream_record_is_that_of_the_event(self) -> None:
        event = kinesis_event([b"x"], partition_keys=["k"], shard_id="shardId-000000000003", stream="orders", start=7)
        event["Records"][0]["kinesis"]["approximateArrivalTimestamp"] = 1_700_000_000.123

        record = decode(event).records[0]

        assert record.event_id == "orders/shardId-000000000003:7:0"
        assert record.source == "kinesis"
        assert record.attempt == 1
        assert record.partition_key == "k"
        assert record.explicit_hash_key is None
        assert record.sequence_number == "7"
        assert record.sub_sequence_number == 0
        assert record.shard_id == "shardId-000000000003"
        assert record.stream_arn is not None
        assert record.stream_arn.endswith(":stream/orders")
        assert record.approximate_arrival_timestamp == datetime(2023, 11, 14, 22, 13, 20, 123_000, UTC)

    def test_with_enhanced_fan_out_names_the_stream_and_not_the_consumer(self) -> None:
        event = kinesis_event([b"x"], stream="orders", start=7)
        event["Records"][0]["eventSourceARN"] += "/consumer/search:1700000000"

        record = decode(event).records[0]

        assert record.event_id.startswith("orders/")
        assert record.stream_arn is not None
        assert record.stream_arn.endswith(":stream/orders")

    @pytest.mark.parametrize("key", [None, ""])
    def test_a_record_without_a_partition_key_has_none(self, key: str | None) -> None:
        event = kinesis_event([b"x"], partition_keys=[None])
        if key is not None:
            event["Records"][0]["kinesis"]["partitionKey"] = key

        assert decode(event).records[0].partition_key is None

    def test_of_a_message_that_never_was_in_a_stream_is_none(self) -> None:
        message = {"messageId": "m-1", "body": "x", "eventSource": "aws:sqs"}

        record = decode({"Records": [message]}).records[0]

        assert record.event_id == "m-1"
        assert (record.source, record.attempt) == ("sqs", 2)
        facts = (record.partition_key, record.explicit_hash_key, record.sequence_number, record.sub_sequence_number)
        assert facts == (None, None, None, None)
        assert (record.shard_id, record.stream_arn, record.approximate_arrival_timestamp) == (None, None, None)


class TestARecord:
    @pytest.mark.parametrize("field", ["data", "event_id", "partition_key", "sequence_number", "attempt", "note"])
    def test_can_not_be_changed(self, field: str) -> None:
        record = record_of(b"x")

        with pytest.raises(AttributeError):
            setattr(record, field, "other")

    def test_prints_its_id_and_not_its_payload(self) -> None:
        record = record_of(b"4111-1111")

        text = f"{record!r} {record}"

        assert record.event_id in text
        assert "4111" not in text
        assert base64.b64encode(b"4111-1111").decode() not in text

    def test_equals_itself_only(self) -> None:
        event = kinesis_event([b"x"])
        one, other = decode(event).records[0], decode(event).records[0]

        assert one != other
        assert len({one, other}) == 2

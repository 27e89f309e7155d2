"""Each form that AWS gives to what it gives up, as its guides and services write it."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.claims.base import Claim
from streamkit.envelope import Envelope, Failure
from streamkit.errors import Unavailable, UnknownVersion
from streamkit.letters import Discarded, Message, Stored, Unreadable, deduplication_id, died_at, notified, read
from streamkit.testing import kinesis_event

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:orders:live"
ENVELOPE = Envelope(
    event_id="orders/shardId-000000000000:7:0",
    source="kinesis",
    processor="orders",
    data=b'{"id": 7}',
    partition_key="c-7",
    sequence_number="7",
    sub_sequence_number=0,
    attempts=3,
    failures=(Failure(attempt=2, type="KeyError", message="KeyError: 'total'", time="2026-05-01T12:00:00.000Z"),),
)


def document(**batch: Any) -> dict[str, Any]:
    """A failure document, as AWS's guide shows it for SQS."""
    return {
        "requestContext": {
            "requestId": "c9b8fa9f-5a7f-xmpl-af9c-0c604cde93a5",
            "functionArn": FUNCTION,
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 3,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2026-05-01T12:30:00.000Z",
        "KinesisBatchInfo": {
            "shardId": "shardId-000000000001",
            "startSequenceNumber": "49601189658422359378836298521827638475320189012309704722",
            "endSequenceNumber": "49601189658422359378836298522902373528957594348623495186",
            "approximateArrivalOfFirstRecord": "2026-05-01T12:00:00.043Z",
            "approximateArrivalOfLastRecord": "2026-05-01T12:00:01.043Z",
            "batchSize": 500,
            "streamArn": "arn:aws:kinesis:us-east-1:123456789012:stream/orders",
        }
        | batch,
    }


def sns_record(message: str) -> dict[str, Any]:
    return {"EventSource": "aws:sns", "EventVersion": "1.0", "Sns": {"MessageId": "m-1", "Message": message}}


def notification(message: str) -> str:
    topic = "arn:aws:sns:us-east-1:123456789012:discarded"
    return json.dumps({"Type": "Notification", "MessageId": "n-1", "TopicArn": topic, "Message": message})


def message(body: Any, **facts: Any) -> Message:
    return Message(id="message-1", body=body if isinstance(body, str) else json.dumps(body), **facts)


class TestAFailureDocument:
    def test_tells_which_records_it_is_about(self) -> None:
        (found,) = read(message(document()))

        assert isinstance(found, Discarded)
        assert (found.stream, found.region, found.shard_id) == ("orders", "us-east-1", "shardId-000000000001")
        assert found.first == "49601189658422359378836298521827638475320189012309704722"
        assert (found.batch_size, found.invocations, found.records) == (500, 3, None)
        assert found.failure().type == "RetryAttemptsExhausted"
        assert found.failure().message.endswith("after 3 invocations: its function had failed")

    def test_within_a_notification_is_the_same(self) -> None:
        assert read(message(notification(json.dumps(document())))) == read(message(document()))

    def test_of_records_too_old_has_no_answer_of_the_function(self) -> None:
        old = document()
        del old["responseContext"]
        old["requestContext"]["condition"] = "RecordAgeExceeded"

        (found,) = read(message(old))

        assert isinstance(found, Discarded)
        assert found.failure().message.endswith("they were older than the mapping allows")

    def test_numbers_of_any_length_make_a_range(self) -> None:
        (found,) = read(message(document(startSequenceNumber="9", endSequenceNumber="10")))

        assert isinstance(found, Discarded)
        assert (found.first, found.last) == ("9", "10")

    def test_whose_time_is_none_is_of_its_last_record(self) -> None:
        (found,) = read(message(document() | {"timestamp": "yesterday"}))

        assert isinstance(found, Discarded)
        assert found.failure().time == "2026-05-01T12:00:01.043Z"

    def test_from_s3_has_its_records(self) -> None:
        event = kinesis_event([{"id": 1}, {"id": 2}])

        (found,) = read(message(document() | {"payload": json.dumps(event)}))

        assert isinstance(found, Discarded)
        assert found.records == event["Records"]

    @pytest.mark.parametrize(
        ("batch", "why"),
        [
            ({"streamArn": "arn:aws:dynamodb:us-east-1:1:table/orders"}, "streamArn"),
            ({"startSequenceNumber": "9" * 60}, "ends before it begins"),
            ({"startSequenceNumber": "10", "endSequenceNumber": "9"}, "ends before it begins"),
            ({"startSequenceNumber": None}, "one end"),
            ({"startSequenceNumber": "12; DROP"}, "fault"),
            ({"startSequenceNumber": "9" * 5000}, "fault"),
            ({"batchSize": "many"}, "fault"),
            ({"batchSize": -1}, "fault"),
            ({"shardId": "../../etc"}, "fault"),
        ],
    )
    def test_with_a_fault_is_unreadable(self, batch: dict[str, Any], why: str) -> None:
        with pytest.raises(Unreadable, match=why):
            read(message(document(**batch)))

    def test_whose_payload_was_cut_off_is_unreadable(self) -> None:
        with pytest.raises(Unreadable, match="payload is not JSON"):
            read(message(document() | {"payload": '{"Records": [{"kinesis"'}))


class TestWhatLambdaGaveUp:
    def test_an_sns_event_in_a_functions_dead_letter_queue_is_its_envelope_with_the_error(self) -> None:
        attributes = {"RequestID": "r-1", "ErrorCode": "200", "ErrorMessage": "'total'"}

        (found,) = read(
            message({"Records": [sns_record(ENVELOPE.encode())]}, attributes=attributes, sent_at=1_777_636_800.0)
        )

        assert isinstance(found, Envelope)
        assert (found.event_id, found.data, found.processor) == (ENVELOPE.event_id, ENVELOPE.data, "orders")
        assert [(one.type, one.message) for one in found.failures] == [
            ("KeyError", "KeyError: 'total'"),
            ("Lambda200", "given up by Lambda: 'total'"),
        ]
        assert found.failures[-1].time == "2026-05-01T12:00:00.000Z"
        assert found.attempts == ENVELOPE.attempts + 1

    def test_the_latest_ten_failures_are_kept(self) -> None:
        often = ENVELOPE.failures * 10

        (found,) = read(message({"Records": [sns_record(msgspec.structs.replace(ENVELOPE, failures=often).encode())]}))

        assert isinstance(found, Envelope)
        assert [one.type for one in found.failures] == ["KeyError"] * 9 + ["Lambda"]

    @pytest.mark.parametrize("count", [10**30, 1000, 0, -5, True, "3", None])
    def test_a_count_that_is_none_is_one_invocation(self, count: Any) -> None:
        context = {"condition": "RetriesExhausted", "approximateInvokeCount": count, "functionArn": FUNCTION}

        (found,) = read(message({"requestContext": context, "requestPayload": {"Records": [sns_record("x")]}}))

        assert isinstance(found, Envelope)
        assert found.attempts == 1

    def test_an_event_with_a_damaged_envelope_is_unreadable_and_no_record_of_its_own(self) -> None:
        with pytest.raises(Unreadable, match="a message in its event: an envelope of version 1 with a fault"):
            read(message({"Records": [sns_record('{"streamkit_envelope": 1, "event_id": 7}')]}))

    def test_an_event_whose_claim_cannot_be_read_now_is_not_given_up(self) -> None:
        claim = Claim(bucket="claims", key="k", event_id=ENVELOPE.event_id, bytes=1, sha256="0").encode()

        def fetch(claim: Claim) -> str:
            raise Unavailable("S3")

        with pytest.raises(Unavailable, match="S3"):
            read(message({"Records": [sns_record(claim)]}), fetch=fetch)

    def test_through_a_topic_the_error_is_in_the_notification(self) -> None:
        event = json.dumps({"Records": [sns_record(ENVELOPE.encode())]})
        attributes = {"ErrorCode": {"Type": "String", "Value": "200"}, "ErrorMessage": {"Type": "String", "Value": "x"}}
        facts = {"MessageAttributes": attributes, "Timestamp": "2026-05-01T12:30:00.000Z"}

        (in_a_queue,) = read(message(json.loads(notification(event)) | facts))
        (in_a_function,) = read(notified({"MessageId": "m-1", "Message": event} | facts))

        for found in (in_a_queue, in_a_function):
            assert isinstance(found, Envelope)
            assert (found.failures[-1].type, found.failures[-1].message) == ("Lambda200", "given up by Lambda: x")
            assert found.failures[-1].time == "2026-05-01T12:30:00.000Z"

    def test_a_notification_that_is_a_record_itself_keeps_its_id(self) -> None:
        (found,) = read(message({"Records": [sns_record("plain")]}), processor="audit")

        assert isinstance(found, Envelope)
        assert (found.event_id, found.data, found.processor, found.source) == ("m-1", b"plain", "audit", "sns")

    def test_the_json_of_an_on_failure_destination_is_its_events_records(self) -> None:
        body = {
            "version": "1.0",
            "timestamp": "2026-05-01T12:00:00.000Z",
            "requestContext": {
                "requestId": "r-1",
                "functionArn": FUNCTION,
                "condition": "RetriesExhausted",
                "approximateInvokeCount": 3,
            },
            "requestPayload": {"Records": [sns_record("plain")]},
            "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
            "responsePayload": {"errorMessage": "no total\nsecret", "errorType": "ValueError", "stackTrace": []},
        }

        (found,) = read(message(body))

        assert isinstance(found, Envelope)
        assert (found.event_id, found.processor, found.attempts) == ("m-1", "orders", 3)
        assert found.failures == (
            Failure(
                attempt=None,
                type="ValueError",
                message="RetriesExhausted: ValueError: no total",
                time="2026-05-01T12:00:00.000Z",
            ),
        )

    def test_an_sqs_events_body_is_a_record_too(self) -> None:
        event = {
            "Records": [{"eventSource": "aws:sqs", "messageId": "q-1", "body": ENVELOPE.encode(), "attributes": {}}]
        }

        (found,) = read(message(event))

        assert isinstance(found, Envelope)
        assert found.event_id == ENVELOPE.event_id


class TestOthers:
    def test_an_envelope_is_itself(self) -> None:
        assert read(message(ENVELOPE.encode())) == [ENVELOPE]

    def test_a_notification_in_s3_names_the_object_as_it_is_there(self) -> None:
        s3 = {
            "bucket": {"name": "discarded"},
            "object": {"key": "aws/lambda/a+b/2026-05-01T12.00%3A00", "versionId": "v"},
        }

        assert read(message({"Records": [{"eventSource": "aws:s3", "s3": s3}]})) == [
            Stored("discarded", "aws/lambda/a b/2026-05-01T12.00:00", "v")
        ]

    def test_the_test_event_of_s3_is_nothing(self) -> None:
        assert read(message({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "discarded"})) == []

    def test_a_claim_is_the_envelope_that_it_stands_for(self) -> None:
        claim = Claim(bucket="claims", key="k", event_id=ENVELOPE.event_id, bytes=1, sha256="0")

        assert read(message(claim.encode()), fetch=lambda asked: {claim: ENVELOPE.encode()}[asked]) == [ENVELOPE]

    @pytest.mark.parametrize(
        "body", ["plain", '{"id": 1}', json.dumps({"Records": [sns_record("x")]}), notification("x")]
    )
    def test_what_a_queues_redrive_policy_has_moved_is_a_record_whatever_it_looks_like(self, body: str) -> None:
        (found,) = read(message(body, was_moved=True, sent_at=1_777_636_800.0))

        assert isinstance(found, Envelope)
        assert (found.event_id, found.source) == ("message-1", "sqs")
        assert found.data == body.encode()

    def test_what_lambda_alone_writes_is_no_record_though_it_was_moved(self) -> None:
        key = "aws/lambda/f5b1/shardId-000000000000/2026/05/01/2026-05-01T12.00.00-5a7f"
        where = {"bucket": {"name": "discarded"}, "object": {"key": key}}
        context = {"functionArn": FUNCTION, "condition": "RetriesExhausted"}
        destination = {"requestContext": context, "requestPayload": {"Records": [sns_record(ENVELOPE.encode())]}}

        stored = read(message({"Records": [{"eventSource": "aws:s3", "s3": where}]}, was_moved=True))

        assert stored == [Stored("discarded", key)]
        assert read(message(destination, was_moved=True)) == read(message(destination))

    @pytest.mark.parametrize(
        "body",
        [
            {"Records": [{"eventSource": "aws:s3", "s3": {"bucket": {"name": "b"}, "object": {"key": "orders/7"}}}]},
            {"Records": [{"eventSource": "aws:s3", "s3": 7}]},
            {"requestContext": {}, "requestPayload": {"Records": [sns_record("x")]}},
            {"requestContext": {"functionArn": FUNCTION, "condition": "c"}, "requestPayload": 7},
        ],
    )
    def test_what_only_looks_like_that_is_a_record(self, body: dict[str, Any]) -> None:
        (found,) = read(message(body, was_moved=True))

        assert isinstance(found, Envelope)
        assert found.data == json.dumps(body).encode()

    def test_a_message_of_a_fifo_queue_that_was_moved_has_its_group_for_a_key(self) -> None:
        (found,) = read(message("plain", was_moved=True, group="c-7"))

        assert isinstance(found, Envelope)
        assert found.partition_key == "c-7"

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "plain",
            "[1, 2]",
            "{}",
            '{"Records": []}',
            '{"Records": [7]}',
            '{"Records": [{"eventSource": "aws:s3"}]}',
            '{"Records": [{"eventSource": "aws:dynamodb"}]}',
            '{"Records": [{"eventSource": "aws:kinesis", "kinesis": 7}]}',
            '{"requestPayload": 7, "requestContext": {}}',
            '{"DDBStreamBatchInfo": {}}',
            '{"streamkit_envelope": 1, "event_id": 7}',
            '{"streamkit_claim": 1}',
            "[" * 100_000,
            '{"a":' * 100_000,
        ],
    )
    def test_what_is_none_of_them_is_unreadable(self, body: str) -> None:
        with pytest.raises(Unreadable):
            read(message(body))

    def test_an_envelope_of_the_future_says_so(self) -> None:
        with pytest.raises(UnknownVersion):
            read(message('{"streamkit_envelope": 2}'))

    def test_a_record_that_could_not_be_read_back_is_unreadable_at_once(self) -> None:
        event = kinesis_event([{"id": 1}])
        event["Records"][0]["kinesis"]["sequenceNumber"] = 12

        with pytest.raises(Unreadable, match="a record in it"):
            read(message({"requestPayload": event, "requestContext": {}}))

    def test_notifications_nested_without_end_are_refused(self) -> None:
        body = "x"
        for _ in range(12):
            body = notification(body)

        with pytest.raises(Unreadable, match="notifications within"):
            read(message(body))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                (
                    *(
                        "Records",
                        "KinesisBatchInfo",
                        "requestPayload",
                        "requestContext",
                        "Sns",
                        "s3",
                        "kinesis",
                        "Message",
                    ),
                    *(
                        "Type",
                        "TopicArn",
                        "eventSource",
                        "EventSource",
                        "body",
                        "messageId",
                        "payload",
                        "streamkit_envelope",
                    ),
                )
            ),
            inner | st.sampled_from(["aws:sns", "aws:sqs", "aws:kinesis", "aws:s3", "Notification", document()]),
            max_size=6,
        )
    ),
    max_leaves=25,
)


@settings(max_examples=400)
@given(value=json_values, moved=st.booleans())
def test_whatever_a_message_holds_it_is_read_or_refused_and_what_is_read_can_be_read_back(
    value: Any, moved: bool
) -> None:
    try:
        found = read(message(json.dumps(value), was_moved=moved))
    except (Unreadable, UnknownVersion):
        return

    for one in found:
        if isinstance(one, Envelope):
            assert read(message(one.encode())) == [one]


def test_a_letter_that_was_put_back_and_came_again_has_another_deduplication_id() -> None:
    once = ENVELOPE.put_back()

    assert deduplication_id(ENVELOPE) == deduplication_id(ENVELOPE)
    assert len({deduplication_id(ENVELOPE), deduplication_id(once), deduplication_id(once.put_back())}) == 3


@pytest.mark.parametrize(
    "other",
    [
        {"data": b"{}"},
        {"processor": "invoices"},
        {"event_id": "orders/shardId-000000000000:7:1"},
        {"failures": (msgspec.structs.replace(ENVELOPE.failures[0], time="2026-05-01T12:00:01.000Z"),)},
    ],
)
def test_letters_that_are_not_the_same_have_other_deduplication_ids(other: dict[str, Any]) -> None:
    assert deduplication_id(msgspec.structs.replace(ENVELOPE, **other)) != deduplication_id(ENVELOPE)


@pytest.mark.parametrize(
    "moment", ["9999-12-31T23:59:59-23:00", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00+23:00", "soon", ""]
)
def test_a_time_that_cannot_be_shown_is_none(moment: str) -> None:
    failure = msgspec.structs.replace(ENVELOPE.failures[0], time=moment)

    assert died_at(msgspec.structs.replace(ENVELOPE, failures=(failure,))) is None


def test_a_time_without_a_zone_is_utc_wherever_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    failure = msgspec.structs.replace(ENVELOPE.failures[0], time="2026-05-01T12:00:00")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert died_at(msgspec.structs.replace(ENVELOPE, failures=(failure,))) == 1_777_636_800.0
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_letter_that_is_put_back_has_its_attempts_before_it_and_its_failures_kept() -> None:
    again = msgspec.structs.replace(ENVELOPE, not_before=1e10, parked_at=1.0).put_back()

    assert (again.attempts, again.not_before, again.parked_at, again.redrives) == (0, None, None, 1)
    assert (again.failures, again.data, again.event_id) == (ENVELOPE.failures, ENVELOPE.data, ENVELOPE.event_id)
    assert base64.b64decode(json.loads(again.encode())["data"]) == ENVELOPE.data

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit import StreamkitError, kpl
from streamkit.claims.base import Claim
from streamkit.envelope import Envelope, UnknownVersion
from streamkit.errors import BatchFailed, DecodeError
from streamkit.event import OPENED, Batch, QueuedRecord, decode, is_warm_up, made_no_progress, response
from streamkit.heartbeat import HEARTBEAT, payload
from streamkit.outcome import DONE, NOT_STARTED, Failed, Held, NotStarted, Outcome, Settled, Unavailable
from streamkit.testing import kinesis_event

BEAT = payload(1_764_432_000.123)


def aggregate(*data: bytes, key: str = "inner") -> bytes:
    return kpl.aggregate(kpl.UserRecord(content, key) for content in data)


def sqs_message(message_id: str, body: str, group: str | None = None, queue: str = "retries.fifo") -> dict[str, Any]:
    return {
        "messageId": message_id,
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1"} | ({} if group is None else {"MessageGroupId": group}),
        "eventSource": "aws:sqs",
        "eventSourceARN": f"arn:aws:sqs:us-east-1:000000000000:{queue}",
    }


def sns_event(body: str, message_id: str = "n-1") -> dict[str, Any]:
    return {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": message_id, "Message": body}}]}


def payloads(batch: Batch) -> list[bytes | None]:
    return [record.data if record.damage is None else None for record in batch.records]


class TestAKinesisEvent:
    def test_is_its_records_in_their_order(self) -> None:
        batch = decode(kinesis_event([b"a", b"b", b""]))

        assert batch.source == "kinesis"
        assert payloads(batch) == [b"a", b"b", b""]
        assert batch.outcomes == [NOT_STARTED] * 3

    def test_without_records_is_an_empty_batch(self) -> None:
        batch = decode({"Records": []})

        assert batch.records == []
        assert response(batch) == {"batchItemFailures": []}

    def test_an_aggregate_is_opened_in_its_place(self) -> None:
        batch = decode(kinesis_event([b"a", aggregate(b"b", b"c"), b"d"], start=10))

        assert payloads(batch) == [b"a", b"b", b"c", b"d"]
        assert [record.sequence_number for record in batch.records] == ["10", "11", "11", "12"]
        assert [record.sub_sequence_number for record in batch.records] == [0, 0, 1, 0]
        assert [record.event_id.rpartition(":")[2] for record in batch.records] == ["0", "0", "1", "0"]
        assert len({record.event_id for record in batch.records}) == 4

    def test_a_user_record_has_the_keys_that_it_was_put_with(self) -> None:
        user = kpl.UserRecord(b"b", "inner", explicit_hash_key="77")

        (record,) = decode(kinesis_event([kpl.aggregate([user])], partition_keys=["outer"])).records

        assert record.partition_key == "inner"
        assert record.explicit_hash_key == "77"

    def test_an_aggregate_without_user_records_is_nothing_to_do(self) -> None:
        empty_table = b"\x0a\x01k"
        empty = kpl.MAGIC + empty_table + _md5(empty_table)

        batch = decode(kinesis_event([b"a", empty]))

        assert payloads(batch) == [b"a"]

    @pytest.mark.parametrize("where", [0, 1, 2])
    @pytest.mark.parametrize("damage", ["checksum", "truncated", "magic only", "index", "base64"])
    def test_a_damaged_aggregate_is_an_error_of_what_is_damaged_only(self, damage: str, where: int) -> None:
        whole = aggregate(b"b", b"c")
        data = [b"x", b"y"]
        data.insert(where, whole)
        event = kinesis_event(data)
        kinesis = event["Records"][where]["kinesis"]
        broken = {
            "checksum": whole[:-1] + bytes([whole[-1] ^ 1]),
            "truncated": whole[:-20],
            "magic only": kpl.MAGIC,
            "index": _with_a_bad_index(whole),
            "base64": whole,
        }[damage]
        kinesis["data"] = base64.b64encode(broken).decode() + ("*" if damage == "base64" else "")

        batch = decode(event)

        neighbours = [data for data in payloads(batch) if data in (b"x", b"y")]
        assert neighbours == [b"x", b"y"]
        damaged = [outcome for outcome in batch.outcomes if outcome is not NOT_STARTED]
        assert len(damaged) == 1
        assert isinstance(damaged[0], Failed)
        assert isinstance(damaged[0].error, DecodeError)
        index = batch.outcomes.index(damaged[0])
        assert damaged[0].error.event_id == batch.records[index].event_id
        assert batch.records[index].undecoded is not None
        if damage == "index":
            assert payloads(batch)[where : where + 2] == [None, b"c"]
        else:
            assert batch.records[index].undecoded == kinesis["data"]

    def test_where_lenient_a_damaged_aggregate_is_plain_data(self) -> None:
        broken = aggregate(b"b", b"c")[:-1] + b"?"

        batch = decode(kinesis_event([broken]), lenient=True)

        assert payloads(batch) == [broken]
        assert batch.outcomes == [NOT_STARTED]

    @pytest.mark.parametrize("data", [None, 7, b"eA==", [], {}])
    def test_a_record_whose_data_is_no_text_fails_alone(self, data: Any) -> None:
        event = kinesis_event([b"a", b"b", b"c"])
        event["Records"][1]["kinesis"]["data"] = data

        batch = decode(event)

        assert payloads(batch) == [b"a", None, b"c"]
        assert isinstance(batch.outcomes[1], Failed)
        assert [batch.outcomes[0], batch.outcomes[2]] == [NOT_STARTED] * 2

    def test_a_record_without_data_fails_alone(self) -> None:
        event = kinesis_event([b"a", b"b"])
        del event["Records"][0]["kinesis"]["data"]

        batch = decode(event)

        assert payloads(batch) == [None, b"b"]
        assert isinstance(batch.outcomes[0], Failed)

    @pytest.mark.parametrize("missing", ["kinesis", "sequenceNumber", "eventID"])
    def test_a_record_that_no_answer_could_name_is_an_error_of_the_event(self, missing: str) -> None:
        event = kinesis_event([b"a", b"b"])
        raw = event["Records"][1]
        del raw["kinesis"]["data"]
        (raw["kinesis"] if missing == "sequenceNumber" else raw).pop(missing)

        with pytest.raises(StreamkitError, match="record 1 of the event"):
            decode(event)

    def test_a_damaged_aggregate_without_an_event_id_is_an_error_of_the_event(self) -> None:
        event = kinesis_event([kpl.MAGIC])
        del event["Records"][0]["eventID"]

        with pytest.raises(StreamkitError, match="record 0 of the event has no sequence number or event id"):
            decode(event)


class TestAnEventWhoseAggregatesWereOpenedBefore:
    """As the Kinesis Client Library does it: each record says its place in its aggregate."""

    @staticmethod
    def event(*records: tuple[int, int, bytes]) -> dict[str, Any]:
        event = kinesis_event([data for _, _, data in records], shard_id="shard", stream="orders")
        for raw, (number, sub, _) in zip(event["Records"], records, strict=True):
            raw["kinesis"] |= {"sequenceNumber": str(number), OPENED: sub}
            raw["eventID"] = f"shard:{number}"
        return event

    def test_is_the_same_records_as_that_of_the_whole(self) -> None:
        opened = decode(self.event((10, 0, b"a"), (11, 0, b"b"), (11, 1, b"c"))).records
        whole = decode(
            kinesis_event([b"a", aggregate(b"b", b"c")], start=10, shard_id="shard", stream="orders")
        ).records

        for one, other in zip(opened, whole, strict=True):
            assert one.event_id == other.event_id
            assert one.data == other.data
            assert (one.sequence_number, one.sub_sequence_number) == (other.sequence_number, other.sub_sequence_number)

    def test_can_begin_within_an_aggregate(self) -> None:
        batch = decode(self.event((11, 2, b"c"), (11, 3, b"d")))

        assert [record.event_id for record in batch.records] == ["orders/shard:11:2", "orders/shard:11:3"]

    def test_has_no_aggregate_in_it_whatever_a_record_looks_like(self) -> None:
        nested = aggregate(b"a", b"b")
        damaged = nested[:-1] + b"\0"

        batch = decode(self.event((10, 0, nested), (11, 0, damaged), (11, 1, damaged), (12, 3, damaged)))

        assert payloads(batch) == [nested, damaged, damaged, damaged]

    def test_has_a_damaged_one_where_a_record_stands_alone(self) -> None:
        damaged = aggregate(b"a", b"b")[:-1] + b"\0"
        event = self.event((10, 0, b"a"), (11, 0, damaged), (12, 0, b"c"))

        assert payloads(decode(event)) == [b"a", None, b"c"]
        assert payloads(decode(event, lenient=True)) == [b"a", damaged, b"c"]

    @pytest.mark.parametrize("lenient", [False, True])
    def test_has_a_heartbeat_where_a_record_stands_alone(self, lenient: bool) -> None:
        batch = decode(self.event((10, 0, b"a"), (11, 0, BEAT), (12, 0, BEAT[:-1]), (13, 0, BEAT)), lenient=lenient)

        assert payloads(batch) == [b"a", BEAT, BEAT[:-1], BEAT]
        assert batch.heartbeats == [1, 3]
        assert batch.outcomes == [NOT_STARTED, HEARTBEAT, NOT_STARTED, HEARTBEAT]

    def test_has_no_heartbeat_among_the_records_of_an_aggregate(self) -> None:
        batch = decode(self.event((10, 2, BEAT), (11, 0, BEAT), (11, 1, BEAT), (12, 0, b"c")))

        assert batch.heartbeats == []
        assert batch.outcomes == [NOT_STARTED] * 4

    @pytest.mark.parametrize("place", [None, "0", 0.0, True, [], {}])
    def test_with_a_place_that_is_none_fails_that_record_alone(self, place: Any) -> None:
        event = self.event((10, 0, b"a"), (11, 1, b"b"))
        event["Records"][1]["kinesis"][OPENED] = place

        batch = decode(event)

        assert batch.outcomes[0] is NOT_STARTED
        assert isinstance(batch.outcomes[1], Failed)

    def test_is_answered_with_the_lowest_place_too(self) -> None:
        batch = decode(self.event((9, 0, b"a"), (10, 0, b"b"), (10, 1, b"c"), (10, 2, b"d"), (11, 0, b"e")))
        batch.outcomes[:] = [DONE, DONE, Failed(ValueError()), DONE, NOT_STARTED]

        assert response(batch) == {"batchItemFailures": [{"itemIdentifier": "10", OPENED: 1}]}

    def test_makes_progress_within_an_aggregate(self) -> None:
        batch = decode(self.event((10, 0, b"a"), (10, 1, b"b")))
        batch.outcomes[:] = [DONE, NotStarted()]

        assert made_no_progress(batch) is None


class TestAnSqsEvent:
    def test_a_message_without_the_mark_is_a_record_itself(self) -> None:
        batch = decode({"Records": [sqs_message("m-1", "héllo"), sqs_message("m-2", "{}", group="g")]})

        assert batch.source == "sqs"
        assert payloads(batch) == ["héllo".encode(), b"{}"]
        assert [record.event_id for record in batch.records] == ["m-1", "m-2"]
        assert [record.partition_key for record in batch.records] == [None, "g"]
        assert [batch.key(index, "key") for index in range(2)] == [None, "g"]

    def test_a_group_on_a_standard_queue_is_for_fairness_and_keeps_no_order(self) -> None:
        batch = decode({"Records": [sqs_message("m-1", "a", group="tenant", queue="retries")]})

        assert batch.key(0, "key") is None
        assert batch.records[0].partition_key is None

    def test_an_envelope_is_the_record_that_it_holds(self) -> None:
        event = kinesis_event([b"a"], partition_keys=["k"], start=7)
        first = decode(event).records[0]
        envelope = Envelope.of(first, "orders").failed(first, ValueError("bad"), counts=False)

        (record,) = decode({"Records": [sqs_message("m-1", envelope.encode(), group="digest")]}).records

        assert record.data == b"a"
        assert record.event_id == first.event_id
        assert record.attempt == 2
        assert (record.partition_key, record.sequence_number, record.sub_sequence_number) == ("k", "7", 0)
        assert (record.shard_id, record.stream_arn) == (first.shard_id, first.stream_arn)
        assert record.approximate_arrival_timestamp == first.approximate_arrival_timestamp
        assert isinstance(record, QueuedRecord)
        assert (record.group, record.message_id) == ("digest", "m-1")

    def test_an_envelope_of_an_unknown_version_is_unavailable(self) -> None:
        body = '{"streamkit_envelope": 2, "data": {"anything": []}}'

        batch = decode({"Records": [sqs_message("m-1", body), sqs_message("m-2", "b")]})

        assert isinstance(batch.outcomes[0], Unavailable)
        assert isinstance(batch.outcomes[0].error, UnknownVersion)
        assert batch.outcomes[1] is NOT_STARTED

    def test_an_envelope_with_a_fault_fails_alone_and_keeps_its_text(self) -> None:
        body = '{"streamkit_envelope": 1, "data": 7}'

        batch = decode({"Records": [sqs_message("m-1", body), sqs_message("m-2", "b")]})

        assert isinstance(batch.outcomes[0], Failed)
        assert isinstance(batch.outcomes[0].error, DecodeError)
        assert batch.records[0].undecoded == body
        assert batch.records[0].event_id == "m-1"
        assert batch.outcomes[1] is NOT_STARTED

    @pytest.mark.parametrize("broken", [{"body": "x"}, {"messageId": "m"}, {"messageId": "m", "body": None}])
    def test_a_message_that_no_answer_could_name_is_an_error_of_the_event(self, broken: dict[str, Any]) -> None:
        with pytest.raises(StreamkitError, match="message 1 of the event"):
            decode({"Records": [sqs_message("m-1", "a"), broken]})


class TestANotificationInAQueue:
    """What a queue gets that subscribes to a topic, without raw delivery."""

    ENVELOPE = Envelope(event_id="e", source="kinesis", processor="p", data=b"data", attempts=1).encode()

    def notification(self, message: str, **others: Any) -> str:
        return json.dumps({"Type": "Notification", "MessageId": "n-1", "TopicArn": "arn", "Message": message} | others)

    def test_around_an_envelope_is_the_record_in_it(self) -> None:
        (record,) = decode({"Records": [sqs_message("m-1", self.notification(self.ENVELOPE))]}).records

        assert (record.event_id, record.data, record.source, record.attempt) == ("e", b"data", "sqs", 3)

    def test_around_a_claim_is_the_body_that_it_stands_for(self) -> None:
        claim = Claim(bucket="b", key="k", event_id="e", bytes=1, sha256="")
        fetched: list[Claim] = []

        def fetch(claim: Claim) -> str:
            fetched.append(claim)
            return self.ENVELOPE

        (record,) = decode({"Records": [sqs_message("m-1", self.notification(claim.encode()))]}, fetch=fetch).records

        assert (record.event_id, record.data) == ("e", b"data")
        assert fetched == [claim]

    @pytest.mark.parametrize("message", ["plain", '{"x": "streamkit_envelope"}', "streamkit_claim"])
    def test_around_anything_else_is_itself_the_data(self, message: str) -> None:
        body = self.notification(message)

        (record,) = decode({"Records": [sqs_message("m-1", body)]}).records

        assert (record.event_id, record.data) == ("m-1", body.encode())

    @pytest.mark.parametrize("change", [{"Type": "Other", "Notification": 1}, {"TopicArn": None}, {"Message": 7}])
    def test_is_what_sns_sends_and_nothing_like_it(self, change: dict[str, Any]) -> None:
        body = self.notification(self.ENVELOPE, **change)

        (record,) = decode({"Records": [sqs_message("m-1", body)]}).records

        assert record.data == body.encode()

    def test_of_an_unknown_version_stays_where_it_is(self) -> None:
        newer = self.ENVELOPE.replace(":1,", ":2,", 1)

        batch = decode({"Records": [sqs_message("m-1", self.notification(newer))]})

        assert isinstance(batch.outcomes[0], Unavailable)


class TestAnSnsEvent:
    def test_is_one_record_without_an_attempt(self) -> None:
        (record,) = decode(sns_event("hello")).records

        assert (record.data, record.event_id) == (b"hello", "n-1")
        assert (record.source, record.attempt) == ("sns", None)


class TestAnotherEvent:
    @pytest.mark.parametrize(
        "event",
        [
            7,
            "text",
            [],
            [1],
            {"detail": {}},
            {"Records": None},
            {"Records": {}},
            {"Records": [None]},
            {"Records": [{}]},
        ],
    )
    def test_is_an_error_that_says_what_to_do(self, event: Any) -> None:
        with pytest.raises(StreamkitError, match="trigger the function by a Kinesis stream"):
            decode(event)

    def test_its_source_is_named(self) -> None:
        with pytest.raises(StreamkitError, match="aws:dynamodb"):
            decode({"Records": [{"eventSource": "aws:dynamodb"}]})

    def test_one_of_any_length_makes_no_long_message(self) -> None:
        with pytest.raises(StreamkitError, match=r"aws:x+'") as caught:
            decode({"Records": [{"eventSource": "aws:" + "x" * 10_000}]})
        assert len(str(caught.value)) < 300

    def test_its_values_are_not(self) -> None:
        with pytest.raises(StreamkitError) as caught:
            decode({"detail": "4111-1111"})

        assert "detail" in str(caught.value)
        assert "4111" not in str(caught.value)


class TestAWarmUpPing:
    @pytest.mark.parametrize(
        "event",
        [
            None,
            {},
            {"source": "aws.events", "detail-type": "Scheduled Event"},
            {"source": "aws.scheduler"},
            {"source": "serverless-plugin-warmup"},
            {"warmer": True, "concurrency": 3},
            {"warmup": 1},
            {"warm-up": "yes"},
            {"ping": True},
        ],
    )
    def test_is_nothing_at_all_or_what_warmers_send(self, event: Any) -> None:
        assert is_warm_up(event)

    @pytest.mark.parametrize(
        "event", [{"Records": []}, {"Records": [], "ping": True}, {"detail": 1}, [], "", {"ping": False}]
    )
    def test_is_nothing_else(self, event: Any) -> None:
        assert not is_warm_up(event)


# What may be anywhere in an event: JSON of any shape, and now and then what should be there.
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just("84maw"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kinesis", "data", "sequenceNumber", "eventID", "body", "Sns"]), inner)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
MISSING = object()
_fields = [
    "data",
    "sequenceNumber",
    "partitionKey",
    "approximateArrivalTimestamp",
    "kinesis",
    "eventID",
    "eventSourceARN",
]


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, Any]]:
    return draw(st.lists(st.tuples(st.sampled_from(_fields), anything | st.just(MISSING)), min_size=1, max_size=2))


class TestHostileEvents:
    @given(anything | st.fixed_dictionaries({"Records": anything | st.lists(anything, max_size=3)}))
    def test_of_any_shape_raise_nothing_but_streamkits_errors(self, event: Any) -> None:
        try:
            batch = decode(event)
        except StreamkitError:
            return
        assert len(batch.records) == len(batch.outcomes)

    @given(st.sampled_from(["aws:kinesis", "aws:sqs", "aws:sns"]), st.lists(anything, max_size=3), anything)
    def test_of_a_known_source_raise_nothing_but_streamkits_errors(
        self, source: str, raws: list[Any], body: Any
    ) -> None:
        first = {
            "eventSource": source,
            "kinesis": body,
            "body": body,
            "messageId": "m",
            "attributes": body,
            "Sns": body,
        }
        try:
            batch = decode({"Records": [first, *raws]})
        except StreamkitError:
            return
        assert len(batch.records) == len(batch.outcomes)

    @given(st.integers(0, 2), damages())
    def test_a_damaged_record_does_not_cost_its_neighbours(self, where: int, damage: list[tuple[str, Any]]) -> None:
        event = kinesis_event([b"first", b"second", b"third"])
        raw = event["Records"][where]
        for field, value in damage:
            target = raw if field in ("kinesis", "eventID", "eventSourceARN") else raw.get("kinesis")
            if isinstance(target, dict):
                target.pop(field, None)
                if value is not MISSING:
                    target[field] = value
        expected = [b"first", b"second", b"third"]
        del expected[where]

        try:
            batch = decode(event)
        except StreamkitError as error:
            assert f"record {where} " in str(error)  # noqa: PT017  # The other way out is checked below.
            return

        kept = [
            record.data
            for record, outcome in zip(batch.records, batch.outcomes, strict=True)
            if outcome is NOT_STARTED and record._raw is not raw  # type: ignore[attr-defined]
        ]
        assert kept == expected

    @given(st.text(st.characters()))
    def test_any_text_is_a_message(self, body: str) -> None:
        batch = decode(
            {"Records": [sqs_message("m-1", "before"), sqs_message("m-2", body), sqs_message("m-3", "after")]}
        )

        assert [record.event_id for record in batch.records] == ["m-1", "m-2", "m-3"]
        assert payloads(batch)[::2] == [b"before", b"after"]

    @given(
        st.dictionaries(st.sampled_from([*Envelope.__struct_fields__, "other"]), anything), st.sampled_from([1, 1.0])
    )
    def test_any_envelope_is_a_record_or_a_failure_of_its_own(self, fields: dict[str, Any], version: float) -> None:
        body = json.dumps(fields | {"streamkit_envelope": version})

        batch = decode({"Records": [sqs_message("m-1", body), sqs_message("m-2", "after")]})

        assert len(batch.records) == 2
        assert batch.records[1].data == b"after"
        assert isinstance(batch.outcomes[0], NotStarted | Failed)

    @given(st.lists(st.binary(max_size=40), min_size=1, max_size=4), st.data())
    def test_an_aggregate_with_any_byte_changed_loses_no_neighbour(
        self, contents: list[bytes], data: st.DataObject
    ) -> None:
        whole = bytearray(aggregate(*contents))
        where = data.draw(st.integers(0, len(whole) - 1))
        whole[where] ^= data.draw(st.integers(1, 255))

        batch = decode(kinesis_event([b"before", bytes(whole), b"after"]))

        assert payloads(batch)[0] == b"before"
        assert payloads(batch)[-1] == b"after"
        # Plain data where the magic is gone, else a failure.
        middle = batch.outcomes[1]
        assert batch.records[1].data == bytes(whole) if middle is NOT_STARTED else isinstance(middle, Failed)


OUTCOMES: list[Outcome] = [
    DONE,
    Settled("the retry queue"),
    NOT_STARTED,
    Failed(ValueError("bad")),
    Held("other"),
    Unavailable(OSError("down")),
]
UNSETTLED = (NotStarted, Failed, Held, Unavailable)


class TestTheAnswer:
    @given(st.lists(st.tuples(st.integers(0, 10**30), st.sampled_from(OUTCOMES)), min_size=1, max_size=20))
    def test_of_a_stream_is_the_lowest_unsettled_number_compared_as_an_integer(
        self, records: list[tuple[int, Outcome]]
    ) -> None:
        event = kinesis_event([b"x"] * len(records))
        for raw, (number, _) in zip(event["Records"], records, strict=True):
            raw["kinesis"]["sequenceNumber"] = str(number)
        batch = decode(event)
        batch.outcomes[:] = [outcome for _, outcome in records]

        answer = response(batch)

        unsettled = [number for number, outcome in records if isinstance(outcome, UNSETTLED)]
        expected = [{"itemIdentifier": str(min(unsettled))}] if unsettled else []
        assert answer == {"batchItemFailures": expected}

    def test_numbers_of_different_lengths_are_not_compared_as_text(self) -> None:
        event = kinesis_event([b"x", b"y"], start=9)
        batch = decode(event)
        batch.outcomes[:] = [Failed(ValueError()), NOT_STARTED]

        assert response(batch) == {"batchItemFailures": [{"itemIdentifier": "9"}]}

    @pytest.mark.parametrize("failed", [0, 1, 2])
    def test_of_an_aggregate_is_the_number_of_the_whole(self, failed: int) -> None:
        batch = decode(kinesis_event([b"a", aggregate(b"b", b"c", b"d")], start=10))
        batch.outcomes[:] = [DONE] * 4
        batch.outcomes[1 + failed] = Failed(ValueError())

        assert response(batch) == {"batchItemFailures": [{"itemIdentifier": "11"}]}

    @given(st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=10))
    def test_of_a_queue_is_every_unsettled_message(self, outcomes: list[Outcome]) -> None:
        batch = decode({"Records": [sqs_message(f"m-{n}", "x") for n in range(len(outcomes))]})
        batch.outcomes[:] = outcomes

        answer = response(batch)

        unsettled = [f"m-{n}" for n, outcome in enumerate(outcomes) if isinstance(outcome, UNSETTLED)]
        assert [failure["itemIdentifier"] for failure in answer["batchItemFailures"]] == unsettled

    @pytest.mark.parametrize("outcome", OUTCOMES)
    def test_of_a_topic_is_an_exception_where_a_record_is_unsettled(self, outcome: Outcome) -> None:
        batch = decode(sns_event("hello"))
        batch.outcomes[:] = [outcome]

        if isinstance(outcome, UNSETTLED):
            with pytest.raises(BatchFailed, match="n-1"):
                response(batch)
        else:
            assert response(batch) == {"batchItemFailures": []}

    def test_does_not_change_the_event(self) -> None:
        event = kinesis_event([b"a", aggregate(b"b")])
        before = copy.deepcopy(event)

        response(decode(event))

        assert event == before


class TestNoProgress:
    def test_is_a_batch_that_ran_out_of_time_within_its_first_aggregate(self) -> None:
        batch = decode(kinesis_event([aggregate(b"a", b"b", b"c"), b"d"]))
        batch.outcomes[0] = DONE

        assert made_no_progress(batch) is batch.records[1]

    @pytest.mark.parametrize(
        "outcomes",
        [
            [DONE, DONE, DONE, NOT_STARTED],
            [DONE, Failed(ValueError()), NOT_STARTED, NOT_STARTED],
            [DONE, DONE, DONE, DONE],
        ],
    )
    def test_is_no_other_batch(self, outcomes: list[Outcome]) -> None:
        batch = decode(kinesis_event([aggregate(b"a", b"b", b"c"), b"d"]))
        batch.outcomes[:] = outcomes

        assert made_no_progress(batch) is None


def _md5(message: bytes) -> bytes:
    import hashlib

    return hashlib.md5(message, usedforsecurity=False).digest()


def _with_a_bad_index(whole: bytes) -> bytes:
    """The aggregate, its first user record's partition key index outside the table and its checksum right."""
    message = whole[4:-16]
    header = message.index(b"\x1a")
    changed = message[: header + 2] + b"\x08\x63" + message[header + 4 :]
    return kpl.MAGIC + changed + _md5(changed)

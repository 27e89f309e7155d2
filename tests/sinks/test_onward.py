"""The sinks to AWS's services against moto, through a proxy that fails as the services do."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest

from streamkit import Block, Record, RecordProcessor, Reject, Unavailable, Write, correlation, lambda_handler
from streamkit.errors import ConfigurationError
from streamkit.event import decode
from streamkit.sinks.aws import AwsSink
from streamkit.sinks.events import EventBridgeSink
from streamkit.sinks.functions import LambdaSink
from streamkit.sinks.kinesis import KinesisSink
from streamkit.sinks.s3 import S3Sink
from streamkit.sinks.sns import SnsSink
from streamkit.sinks.sqs import SqsSink
from streamkit.testing import MemoryQueue, kinesis_event
from streamkit.testing.contracts import stamp

from .aws_proxy import AwsProxy, Request, client_of, drop, fail_entries, lose_the_answer, refuse

MEBIBYTE = 1_048_576
THROTTLED = "ProvisionedThroughputExceededException"


@pytest.fixture
def proxy(moto_endpoint: str) -> Iterator[AwsProxy]:
    proxy = AwsProxy(moto_endpoint)
    yield proxy
    proxy.close()


@pytest.fixture
def client(proxy: AwsProxy) -> Callable[[str], Any]:
    return lambda service: client_of(proxy.endpoint, service)


@pytest.fixture
def moto(moto_endpoint: str) -> Callable[[str], Any]:
    return lambda service: client_of(moto_endpoint, service)


def soon(seconds: float = 20.0) -> float:
    return time.monotonic() + seconds


def kinds(sink: AwsSink, writes: Sequence[Write], deadline: float | None = None) -> list[str]:
    """What became of each write: "taken", or the kind of its refusal."""
    refusals = list(sink.write(writes, deadline=soon() if deadline is None else deadline))
    assert all(isinstance(refusal.error, Exception) for refusal in refusals)
    by_id = {id(refusal.write): refusal.kind for refusal in refusals}
    assert len(by_id) == len(refusals), "one refusal for each"
    return [by_id.get(id(write), "taken") for write in writes]


def record(data: Any, key: str | None = "key") -> Record:
    return decode(kinesis_event([data], partition_keys=[key])).records[0]


class TestWhatFollowsAnEvent:
    """Each entry of a request carries what its own record is followed by, where the client is told to."""

    @pytest.fixture
    def queue(self, moto: Callable[[str], Any]) -> str:
        return str(moto("sqs").create_queue(QueueName=uuid.uuid4().hex)["QueueUrl"])

    def sent(self, sink: AwsSink, *ids: str) -> None:
        class Onward(RecordProcessor):
            name = "onward"

            def process(self, record: Record) -> Write:
                return sink.onward(record)

        event = kinesis_event([{"__context__": {"x-correlation-id": one}} for one in ids])
        assert lambda_handler(Onward)(event) == {"batchItemFailures": []}

    def test_in_a_request_of_many(self, queue: str, client: Callable[[str], Any], moto: Callable[[str], Any]) -> None:
        self.sent(SqsSink(queue, client=correlation.instrument(client("sqs"))), "r-1", "r-2")

        received = moto("sqs").receive_message(
            QueueUrl=queue, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=1
        )["Messages"]
        assert sorted(
            (
                json.loads(one["Body"])["__context__"]["x-correlation-id"],
                one["MessageAttributes"]["x-correlation-id"]["StringValue"],
            )
            for one in received
        ) == [("r-1", "r-1"), ("r-2", "r-2")]

    def test_in_calls_at_once(self, client: Callable[[str], Any], proxy: AwsProxy, moto: Callable[[str], Any]) -> None:
        bucket = uuid.uuid4().hex
        moto("s3").create_bucket(Bucket=bucket)
        seen: list[str] = []
        s3 = client("s3")
        s3.meta.events.register(
            "before-parameter-build.s3.PutObject", lambda **_: seen.append(correlation.current().id)
        )
        self.sent(S3Sink(bucket, client=s3), "r-1", "r-2", "r-3")

        assert sorted(seen) == ["r-1", "r-2", "r-3"]

    def test_what_has_gone_through_too_many_functions_is_not_sent(
        self, queue: str, client: Callable[[str], Any], proxy: AwsProxy
    ) -> None:
        sink = SqsSink(queue, client=client("sqs"))

        class Onward(RecordProcessor):
            name = "onward"
            on_failure = Block(dead_letters=MemoryQueue())

            def process(self, record: Record) -> Write:
                return sink.onward(record)

        lambda_handler(Onward)(kinesis_event([{"__context__": {"call-chain-length": 9}}]))

        assert len(proxy.requests) == 0
        dead_letters = Onward.on_failure.dead_letters
        assert isinstance(dead_letters, MemoryQueue)
        assert ["gone through 10 functions" in letter.failures[0].message for letter in dead_letters] == [True]


class TestKinesis:
    @pytest.fixture
    def stream(self, moto: Callable[[str], Any]) -> str:
        name = uuid.uuid4().hex
        moto("kinesis").create_stream(StreamName=name, ShardCount=1)
        return name

    @pytest.fixture
    def sink(self, stream: str, client: Callable[[str], Any]) -> KinesisSink:
        return KinesisSink(stream, client=client("kinesis"))

    def read(self, moto: Callable[[str], Any], stream: str) -> list[tuple[str, str]]:
        kinesis = moto("kinesis")
        start = kinesis.get_shard_iterator(
            StreamName=stream, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
        )
        found = kinesis.get_records(ShardIterator=start["ShardIterator"], Limit=10_000)["Records"]
        return [(one["PartitionKey"], one["Data"].decode()) for one in found]

    def writes(self, sink: KinesisSink, *keys: str) -> list[Write]:
        return stamp(sink.record(f"{n}", key) for n, key in enumerate(keys))

    def test_takes_one_record_of_each_key_in_a_request(self, sink: KinesisSink, proxy: AwsProxy) -> None:
        assert set(kinds(sink, self.writes(sink, "a", "b", "a", "c", "a"))) == {"taken"}

        keys = [[entry["PartitionKey"] for entry in request.json["Records"]] for request in proxy.requests]
        assert keys == [["a", "b", "c"], ["a"], ["a"]]

    def test_sends_a_throttled_record_again_before_the_next_of_its_key(
        self, sink: KinesisSink, stream: str, proxy: AwsProxy, moto: Callable[[str], Any]
    ) -> None:
        proxy.script = [fail_entries({0: (THROTTLED, False)}), fail_entries({0: (THROTTLED, False)})]

        assert set(kinds(sink, self.writes(sink, "a", "b", "a", "b"))) == {"taken"}

        assert [text for key, text in self.read(moto, stream) if key == "a"] == ["0", "2"]
        assert [text for key, text in self.read(moto, stream) if key == "b"] == ["1", "3"]

    def test_refuses_what_follows_a_refused_record_of_its_key(
        self, sink: KinesisSink, stream: str, proxy: AwsProxy, moto: Callable[[str], Any]
    ) -> None:
        proxy.script = [fail_entries({0: ("KMSDisabledException", False)})]

        outcomes = kinds(sink, self.writes(sink, "a", "b", "a", "b"))

        assert outcomes == ["unavailable", "taken", "unavailable", "taken"]
        assert "a" not in [key for key, _ in self.read(moto, stream)]

    def test_refuses_what_is_throttled_until_the_deadline(self, sink: KinesisSink, proxy: AwsProxy) -> None:
        proxy.always = fail_entries({0: (THROTTLED, False)})

        assert kinds(sink, self.writes(sink, "a", "a"), soon(0.5)) == ["unavailable"] * 2

    def test_lets_a_key_go_on_past_a_record_that_can_never_be_taken(
        self, stream: str, client: Callable[[str], Any], moto: Callable[[str], Any]
    ) -> None:
        sink = KinesisSink(stream, record_bytes=2 * MEBIBYTE, client=client("kinesis"))
        writes = stamp([sink.record("0", "a"), sink.record(bytes(MEBIBYTE + 1), "a"), sink.record("2", "a")])

        assert kinds(sink, writes) == ["taken", "invalid", "taken"]
        assert self.read(moto, stream) == [("a", "0"), ("a", "2")]

    def test_finds_the_one_that_the_whole_request_was_refused_for(
        self, stream: str, client: Callable[[str], Any], moto: Callable[[str], Any]
    ) -> None:
        sink = KinesisSink(stream, record_bytes=2 * MEBIBYTE, client=client("kinesis"))
        writes = stamp(sink.record(bytes(MEBIBYTE + 1) if n == 5 else f"{n}", f"key-{n}") for n in range(9))

        assert kinds(sink, writes) == ["taken"] * 5 + ["invalid"] + ["taken"] * 3
        assert len(self.read(moto, stream)) == 8

    def test_halves_of_a_request_that_is_refused_whole_are_not_begun_after_the_deadline(
        self, sink: KinesisSink, proxy: AwsProxy
    ) -> None:
        proxy.always = refuse(400, "ValidationException")

        # The first is tried in any case.
        assert kinds(sink, self.writes(sink, *"abcd"), time.monotonic() - 1) == ["unavailable"] * 4
        assert len(proxy.requests) == 1
        assert kinds(sink, self.writes(sink, *"abcd")) == ["invalid"] * 4

    def test_repeats_what_it_got_no_answer_for(
        self, sink: KinesisSink, stream: str, proxy: AwsProxy, moto: Callable[[str], Any]
    ) -> None:
        proxy.script = [lose_the_answer]

        assert kinds(sink, self.writes(sink, "a", "a")) == ["taken", "taken"]

        assert self.read(moto, stream) == [("a", "0"), ("a", "0"), ("a", "1")], (
            "a repeat, and no loss; the order is kept"
        )

    @pytest.mark.parametrize(
        ("status", "code"), [(500, "InternalFailure"), (400, THROTTLED), (400, "KMSThrottlingException"), (503, "")]
    )
    def test_tries_again_what_may_pass(self, status: int, code: str, sink: KinesisSink, proxy: AwsProxy) -> None:
        proxy.script = [refuse(status, code), refuse(status, code)]

        assert kinds(sink, self.writes(sink, "a")) == ["taken"]
        assert len(proxy.requests) == 3

    @pytest.mark.parametrize(
        ("status", "code"),
        [(400, "AccessDeniedException"), (400, "ExpiredTokenException"), (400, "KMSDisabledException")],
    )
    def test_asks_once_where_the_deployment_is_at_fault_and_no_record(
        self, status: int, code: str, sink: KinesisSink, proxy: AwsProxy
    ) -> None:
        proxy.always = refuse(status, code)

        assert kinds(sink, self.writes(sink, "a", "b")) == ["unavailable"] * 2
        assert len(proxy.requests) == 1

    def test_finds_no_fault_with_records_where_the_stream_is_not_there(self, client: Callable[[str], Any]) -> None:
        sink = KinesisSink("nowhere", client=client("kinesis"))

        assert kinds(sink, self.writes(sink, "a", "b")) == ["unavailable"] * 2

    def test_finds_no_fault_with_records_where_the_streams_name_is_none(
        self, proxy: AwsProxy, sink: KinesisSink
    ) -> None:
        message = "1 validation error detected: Value 'a b' at 'streamName' failed to satisfy constraint"
        proxy.always = refuse(400, "ValidationException", message)

        assert kinds(sink, self.writes(sink, "a", "b")) == ["unavailable"] * 2

    def test_does_not_ask_for_more_than_the_first_request_when_the_deadline_is_past(
        self, sink: KinesisSink, proxy: AwsProxy
    ) -> None:
        assert kinds(sink, self.writes(sink, "a", "a", "a"), time.monotonic() - 1) == [
            "taken",
            "unavailable",
            "unavailable",
        ]
        assert len(proxy.requests) == 1

    def test_names_the_stream_by_its_arn_too(
        self, stream: str, client: Callable[[str], Any], moto: Callable[[str], Any]
    ) -> None:
        sink = KinesisSink(f"arn:aws:kinesis:us-east-1:123456789012:stream/{stream}", client=client("kinesis"))

        assert kinds(sink, self.writes(sink, "a")) == ["taken"]
        assert self.read(moto, stream) == [("a", "0")]

    @pytest.mark.parametrize(
        ("data", "key", "hash_key"),
        [
            (b"a", "", None),
            (b"a", "k" * 257, None),
            (b"a", None, None),
            (b"a", "\ud800", None),
            (object(), "k", None),
            ("\ud800", "k", None),
            (bytes(MEBIBYTE), "k", None),
            (b"a", "k", "x"),
            (b"a", "k", str(2**128)),
        ],
    )
    def test_rejects_what_kinesis_would_always_refuse(
        self, data: Any, key: Any, hash_key: Any, sink: KinesisSink
    ) -> None:
        with pytest.raises(Reject):
            sink.record(data, key, explicit_hash_key=hash_key)

    def test_hands_a_record_on_under_its_keys(self, sink: KinesisSink, stream: str, moto: Callable[[str], Any]) -> None:
        assert kinds(sink, stamp([sink.onward(record(b"\x00\xff", "k"))])) == ["taken"]
        without_a_key = record(b"a", None)
        write = sink.onward(without_a_key)

        assert self.read_bytes(moto, stream) == [("k", b"\x00\xff")]
        assert write.payload[1] == without_a_key.event_id

    def test_hands_no_record_on_to_its_own_stream(self, client: Callable[[str], Any]) -> None:
        own = record(b"a")
        sink = KinesisSink(own.stream_arn or "", client=client("kinesis"))

        with pytest.raises(Unavailable, match="it would come back for ever"):
            sink.onward(own)

    def read_bytes(self, moto: Callable[[str], Any], stream: str) -> list[tuple[str, bytes]]:
        kinesis = moto("kinesis")
        start = kinesis.get_shard_iterator(
            StreamName=stream, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON"
        )
        found = kinesis.get_records(ShardIterator=start["ShardIterator"])["Records"]
        return [(one["PartitionKey"], one["Data"]) for one in found]


class TestSqs:
    def queue(self, moto: Callable[[str], Any], **attributes: str) -> str:
        name = uuid.uuid4().hex + (".fifo" if attributes else "")
        url: str = moto("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    @pytest.fixture
    def url(self, moto: Callable[[str], Any]) -> str:
        return self.queue(moto)

    @pytest.fixture
    def sink(self, url: str, client: Callable[[str], Any]) -> SqsSink:
        return SqsSink(url, client=client("sqs"))

    @pytest.fixture
    def fifo(self, moto: Callable[[str], Any], client: Callable[[str], Any]) -> SqsSink:
        return SqsSink(self.queue(moto, FifoQueue="true"), client=client("sqs"))

    def sent(self, proxy: AwsProxy) -> list[list[str]]:
        return [[entry["MessageBody"] for entry in request.json["Entries"]] for request in proxy.requests]

    def test_tells_the_entries_of_a_request_apart(self, sink: SqsSink, proxy: AwsProxy) -> None:
        proxy.script = [
            fail_entries(
                {
                    0: ("InvalidMessageContents", True),
                    1: ("InternalError", False),
                    2: ("KMS.AccessDeniedException", True),
                    3: ("SomethingNew", True),
                }
            )
        ]

        outcomes = kinds(sink, stamp(sink.message(f"{n}") for n in range(5)))

        assert outcomes == ["invalid", "taken", "unavailable", "failed", "taken"]
        assert self.sent(proxy)[1:] == [["1"]], "what may pass is sent again, and nothing else"

    def test_takes_silence_for_no_confirmation(self, sink: SqsSink, proxy: AwsProxy) -> None:
        def silent(request: Request) -> Any:
            return 200, {"Content-Type": "application/x-amz-json-1.0"}, b'{"Successful": [], "Failed": []}'

        proxy.always = silent

        assert kinds(sink, stamp([sink.message("a")]), soon(0.5)) == ["unavailable"]

    def test_has_requests_of_ten_messages_and_a_mebibyte(self, sink: SqsSink, proxy: AwsProxy) -> None:
        small, large = [sink.message("a") for _ in range(12)], [sink.message("x" * 400_000) for _ in range(3)]

        assert set(kinds(sink, stamp([*small, *large]))) == {"taken"}

        assert [len(request) for request in self.sent(proxy)] == [10, 4, 1]

    def test_keeps_the_order_of_a_group_one_message_after_another(self, fifo: SqsSink, proxy: AwsProxy) -> None:
        writes = stamp(fifo.message(f"{n}", group=group) for n, group in enumerate(["g", "h", "g"]))
        proxy.script = [fail_entries({0: ("InternalError", False)})]

        assert set(kinds(fifo, writes)) == {"taken"}

        assert self.sent(proxy) == [["0", "1"], ["0"], ["2"]]

    def test_sends_nothing_of_a_group_after_a_refusal(self, fifo: SqsSink, proxy: AwsProxy) -> None:
        writes = stamp(fifo.message(f"{n}", group="g") for n in range(2))
        proxy.script = [fail_entries({0: ("SomethingNew", True)})]

        assert kinds(fifo, writes) == ["failed", "unavailable"]
        assert len(proxy.requests) == 1

    def test_dedupes_by_the_write_id_and_groups_by_the_records_key(self, fifo: SqsSink, proxy: AwsProxy) -> None:
        writes = [fifo.onward(record(b"a", "customer@example.org")) for _ in range(2)]
        for n, write in enumerate(writes):
            write._record, write._processor, write._n = record(b"a", "customer@example.org"), "p", n

        assert kinds(fifo, writes) == kinds(fifo, writes) == ["taken"] * 2

        entries = [entry for request in proxy.requests for entry in request.json["Entries"]]
        assert len({entry["MessageGroupId"] for entry in entries}) == 1
        assert "@" not in entries[0]["MessageGroupId"]
        ids = [entry["MessageDeduplicationId"] for entry in entries]
        assert len(set(ids)) == 2
        assert ids[:2] == ids[2:], "a repeat has the ids that it had"

    def test_has_attributes_and_a_delay(
        self, sink: SqsSink, url: str, proxy: AwsProxy, moto: Callable[[str], Any]
    ) -> None:
        writes = stamp([sink.message("a", attributes={"type": "order", "raw": b"\x00"}), sink.message("b", delay=1.2)])

        assert set(kinds(sink, writes)) == {"taken"}

        assert proxy.requests[0].json["Entries"][1]["DelaySeconds"] == 2
        (message,) = moto("sqs").receive_message(QueueUrl=url, MessageAttributeNames=["All"])["Messages"]
        assert message["MessageAttributes"]["type"]["StringValue"] == "order"
        assert message["MessageAttributes"]["raw"]["BinaryValue"] == b"\x00"

    def test_finds_the_queue_of_an_arn_once(self, url: str, proxy: AwsProxy, client: Callable[[str], Any]) -> None:
        sink = SqsSink(f"arn:aws:sqs:us-east-1:123456789012:{url.rpartition('/')[2]}", client=client("sqs"))

        assert kinds(sink, stamp([sink.message("a")])) == kinds(sink, stamp([sink.message("b")])) == ["taken"]
        assert [request.headers["X-Amz-Target"].rpartition(".")[2] for request in proxy.requests] == [
            "GetQueueUrl",
            "SendMessageBatch",
            "SendMessageBatch",
        ]

    def test_finds_no_fault_with_messages_where_the_queue_is_not_there(self, client: Callable[[str], Any]) -> None:
        for place in ("arn:aws:sqs:us-east-1:123456789012:nowhere", "http://127.0.0.1/123456789012/nowhere"):
            sink = SqsSink(place, client=client("sqs"))

            assert kinds(sink, stamp([sink.message("a"), sink.message("b")])) == ["unavailable"] * 2

    @pytest.mark.parametrize(
        "arguments",
        [
            {"body": ""},
            {"body": "\x00"},
            {"body": b"\xff"},
            {"body": "x" * (MEBIBYTE + 1)},
            {"body": "a", "delay": 901},
            {"body": "a", "group": "with space"},
            {"body": "a", "attributes": {"AWS.x": "1"}},
            {"body": "a", "attributes": {"a..b": "1"}},
            {"body": "a", "attributes": {"a": ""}},
            {"body": "a", "attributes": {str(n): "1" for n in range(11)}},
            {"body": object()},
        ],
    )
    def test_rejects_what_sqs_would_always_refuse(self, arguments: dict[str, Any], sink: SqsSink) -> None:
        with pytest.raises(Reject):
            sink.message(arguments.pop("body"), **arguments)


class TestSns:
    @pytest.fixture
    def sink(self, moto: Callable[[str], Any], client: Callable[[str], Any]) -> SnsSink:
        return SnsSink(moto("sns").create_topic(Name=uuid.uuid4().hex)["TopicArn"], client=client("sns"))

    def test_tells_the_entries_of_a_request_apart(self, sink: SnsSink, proxy: AwsProxy) -> None:
        proxy.script = [
            fail_entries({0: ("InvalidParameter", True), 1: ("InternalError", False), 2: ("AuthorizationError", True)})
        ]

        outcomes = kinds(sink, stamp(sink.message(f"{n}") for n in range(4)))

        assert outcomes == ["invalid", "taken", "unavailable", "taken"]
        assert len(proxy.requests) == 2

    def test_has_requests_of_256_kib(self, sink: SnsSink, proxy: AwsProxy) -> None:
        assert set(kinds(sink, stamp(sink.message("x" * 100_000) for _ in range(3)))) == {"taken"}
        assert len(proxy.requests) == 2

    @pytest.mark.parametrize("subject", ["", "two\nlines", "é", "x" * 101])
    def test_rejects_a_subject_that_sns_would_refuse(self, subject: str, sink: SnsSink) -> None:
        with pytest.raises(Reject, match="a subject has"):
            sink.message("a", subject=subject)

    def test_rejects_what_is_too_large_for_the_topic(self, sink: SnsSink) -> None:
        with pytest.raises(Reject, match="takes messages of 262,144 bytes"):
            sink.message("x" * 262_145)


class TestEventBridge:
    @pytest.fixture
    def sink(self, moto: Callable[[str], Any], client: Callable[[str], Any]) -> EventBridgeSink:
        bus = uuid.uuid4().hex
        moto("events").create_event_bus(Name=bus)
        return EventBridgeSink(bus, source="shop", detail_type="order", client=client("events"))

    def test_tells_the_entries_of_a_request_apart(self, sink: EventBridgeSink, proxy: AwsProxy) -> None:
        proxy.script = [
            fail_entries(
                {
                    0: ("MalformedDetail", True),
                    1: ("ThrottlingException", False),
                    2: ("InternalFailure", False),
                    3: ("NotAuthorizedForSourceException", True),
                }
            )
        ]

        outcomes = kinds(sink, stamp(sink.event({"n": n}) for n in range(5)))

        assert outcomes == ["invalid", "taken", "taken", "unavailable", "taken"]
        assert [len(request.json["Entries"]) for request in proxy.requests] == [5, 2]

    def test_says_what_the_event_is(self, sink: EventBridgeSink, proxy: AwsProxy) -> None:
        at = datetime(2026, 1, 2, tzinfo=UTC)

        write = sink.event(b'{"n": 9007199254740993}', detail_type="other", source="else", resources=["r"], time=at)
        assert kinds(sink, stamp([write])) == ["taken"]

        (entry,) = proxy.requests[0].json["Entries"]
        assert (entry["Source"], entry["DetailType"], entry["Resources"]) == ("else", "other", ["r"])
        assert entry["Detail"] == '{"n": 9007199254740993}', "as it came"
        assert entry["Time"] == at.timestamp()

    def test_hands_a_record_on_with_its_time_of_arrival(self, sink: EventBridgeSink, proxy: AwsProxy) -> None:
        handed = record({"n": 1})

        assert kinds(sink, stamp([sink.onward(handed)])) == ["taken"]

        (entry,) = proxy.requests[0].json["Entries"]
        assert handed.approximate_arrival_timestamp is not None
        assert (entry["Detail"], entry["Time"]) == ('{"n":1}', handed.approximate_arrival_timestamp.timestamp())

    @pytest.mark.parametrize("detail", [[], "text", b"[]", b"\xff", None, {"a": object()}])
    def test_rejects_a_detail_that_is_no_json_object(self, detail: Any, sink: EventBridgeSink) -> None:
        with pytest.raises(Reject):
            sink.event(detail)

    def test_rejects_what_is_too_large(self, client: Callable[[str], Any]) -> None:
        sink = EventBridgeSink("bus", event_bytes=262_144, client=client("events"))

        with pytest.raises(Reject, match="takes events of 262,144 bytes"):
            sink.event({"a": "x" * 262_144})

    def test_rejects_a_source_that_is_aws_own(self, sink: EventBridgeSink) -> None:
        with pytest.raises(Reject, match="does not begin with aws"):
            sink.event({}, source="aws.s3")
        with pytest.raises(ConfigurationError, match="does not begin with aws"):
            EventBridgeSink("bus", source="aws.s3")


def answer(status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> Callable[[Request], Any]:
    return lambda request: (status, headers or {}, body)


class TestLambda:
    """Its answers are made by the proxy, in the form of the service."""

    @pytest.fixture
    def sink(self, client: Callable[[str], Any]) -> LambdaSink:
        return LambdaSink("mailer", client=client("lambda"))

    def test_invokes_once_for_each_write(self, sink: LambdaSink, proxy: AwsProxy) -> None:
        proxy.always = answer(202)

        assert set(kinds(sink, stamp(sink.invocation({"n": n}) for n in range(20)))) == {"taken"}

        assert sorted(request.json["n"] for request in proxy.requests) == list(range(20))
        assert {request.headers["X-Amz-Invocation-Type"] for request in proxy.requests} == {"Event"}
        assert proxy.requests[0].path.endswith("/functions/mailer/invocations")

    @pytest.mark.parametrize(
        ("status", "code", "tries"),
        [(429, "TooManyRequestsException", 3), (500, "ServiceException", 3), (502, "EC2ThrottledException", 3)],
    )
    def test_tries_again_what_may_pass(
        self, status: int, code: str, tries: int, sink: LambdaSink, proxy: AwsProxy
    ) -> None:
        proxy.script, proxy.always = [refuse(status, code)] * 2, answer(202)

        assert kinds(sink, stamp([sink.invocation({})])) == ["taken"]
        assert len(proxy.requests) == tries

    @pytest.mark.parametrize(
        ("status", "code", "kind"),
        [
            (400, "InvalidRequestContentException", "invalid"),
            (413, "RequestTooLargeException", "invalid"),
            (404, "ResourceNotFoundException", "unavailable"),
            (403, "AccessDeniedException", "unavailable"),
        ],
    )
    def test_asks_once_where_the_answer_would_be_the_same(
        self, status: int, code: str, kind: str, sink: LambdaSink, proxy: AwsProxy
    ) -> None:
        proxy.always = refuse(status, code)

        assert kinds(sink, stamp([sink.invocation({})])) == [kind]
        assert len(proxy.requests) == 1

    def test_takes_the_function_s_own_error_for_a_failure_where_it_waits(
        self, client: Callable[[str], Any], proxy: AwsProxy
    ) -> None:
        sink = LambdaSink("mailer", wait=True, client=client("lambda"))
        proxy.always = answer(200, {"X-Amz-Function-Error": "Unhandled"}, b'{"errorMessage": "secret"}')

        (refusal,) = sink.write(stamp([sink.invocation({})]), deadline=soon())

        assert refusal.kind == "failed"
        assert "secret" not in str(refusal.error)
        assert proxy.requests[0].headers["X-Amz-Invocation-Type"] == "RequestResponse"

    def test_repeats_a_lost_answer(self, sink: LambdaSink, proxy: AwsProxy) -> None:
        proxy.script, proxy.always = [drop], answer(202)

        assert kinds(sink, stamp([sink.invocation({})])) == ["taken"]
        assert len(proxy.requests) == 2

    def test_refuses_what_there_is_no_time_for(self, client: Callable[[str], Any], proxy: AwsProxy) -> None:
        sink = LambdaSink("mailer", concurrency=1, client=client("lambda"))
        proxy.always = answer(202)

        outcomes = kinds(sink, stamp(sink.invocation({"n": n}) for n in range(3)), time.monotonic() - 1)

        assert outcomes == ["taken", "unavailable", "unavailable"]

    @pytest.mark.parametrize(("waits", "most"), [(False, MEBIBYTE), (True, 6 * MEBIBYTE)])
    def test_rejects_what_lambda_would_always_refuse(self, waits: bool, most: int) -> None:
        sink = LambdaSink("mailer", wait=waits)

        sink.invocation(json.dumps("x" * (most - 2)))
        for payload in (json.dumps("x" * (most - 1)), "no JSON", b"\xff", object()):
            with pytest.raises(Reject):
                sink.invocation(payload)

    def test_has_no_concurrency_below_one(self) -> None:
        with pytest.raises(ConfigurationError, match="a whole number of calls at once"):
            LambdaSink("mailer", concurrency=0)


class TestS3:
    @pytest.fixture
    def bucket(self, moto: Callable[[str], Any]) -> str:
        name = uuid.uuid4().hex
        moto("s3").create_bucket(Bucket=name)
        return name

    @pytest.fixture
    def sink(self, bucket: str, client: Callable[[str], Any]) -> S3Sink:
        return S3Sink(bucket, prefix="orders/", client=client("s3"))

    def objects(self, moto: Callable[[str], Any], bucket: str) -> dict[str, bytes]:
        s3 = moto("s3")
        keys = [found["Key"] for found in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]
        return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def test_puts_each_write_under_its_id(self, sink: S3Sink, bucket: str, moto: Callable[[str], Any]) -> None:
        writes = stamp([sink.object("a"), sink.object("b")], processor="archive +ü")

        assert set(kinds(sink, writes)) == {"taken"}
        assert set(kinds(sink, writes)) == {"taken"}

        assert self.objects(moto, bucket) == {
            "orders/stream/shardId-000000000000:event-0:0/archive%20%2B%C3%BC/0": b"a",
            "orders/stream/shardId-000000000000:event-1:0/archive%20%2B%C3%BC/0": b"b",
        }

    def test_puts_a_write_whose_id_is_too_long_under_a_digest_of_it(
        self, sink: S3Sink, bucket: str, moto: Callable[[str], Any]
    ) -> None:
        writes = stamp([sink.object("a"), sink.object("b")], processor="p" * 1100)

        assert set(kinds(sink, writes)) == {"taken"}
        assert sorted(self.objects(moto, bucket).values()) == [b"a", b"b"]

    def test_makes_the_writes_of_one_key_one_after_another_so_that_the_last_stands(
        self, sink: S3Sink, bucket: str, proxy: AwsProxy, moto: Callable[[str], Any]
    ) -> None:
        proxy.script = [refuse(503, "SlowDown")] * 3
        writes = stamp(sink.object(f"{n}", key="one") for n in range(10))

        assert set(kinds(sink, writes)) == {"taken"}
        assert self.objects(moto, bucket) == {"orders/one": b"9"}

    def test_puts_nothing_of_a_key_after_a_refusal(
        self, sink: S3Sink, bucket: str, proxy: AwsProxy, moto: Callable[[str], Any]
    ) -> None:
        proxy.script = [refuse(403, "AccessDenied")]
        writes = stamp(sink.object(f"{n}", key="one") for n in range(2))

        assert kinds(sink, writes) == ["unavailable", "unavailable"]
        assert self.objects(moto, bucket) == {}

    @pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (400, "RequestTimeout")])
    def test_tries_again_what_may_pass(self, status: int, code: str, sink: S3Sink, proxy: AwsProxy) -> None:
        proxy.script = [refuse(status, code)]

        assert kinds(sink, stamp([sink.object("a")])) == ["taken"]

    def test_repeats_a_lost_answer_and_the_object_is_there_once(
        self, sink: S3Sink, bucket: str, proxy: AwsProxy, moto: Callable[[str], Any]
    ) -> None:
        proxy.script = [lose_the_answer]

        assert kinds(sink, stamp([sink.object("a")])) == ["taken"]
        assert len(self.objects(moto, bucket)) == 1

    def test_finds_no_fault_with_records_where_the_bucket_is_not_there(self, client: Callable[[str], Any]) -> None:
        sink = S3Sink("nowhere-at-all", client=client("s3"))

        assert kinds(sink, stamp([sink.object("a")])) == ["unavailable"]

    def test_is_named_by_an_arn_with_a_prefix_too(
        self, bucket: str, client: Callable[[str], Any], moto: Callable[[str], Any]
    ) -> None:
        sink = S3Sink(f"arn:aws:s3:::{bucket}/raw/", client=client("s3"))

        assert kinds(sink, stamp([sink.object("a", key="k")])) == ["taken"]
        assert set(self.objects(moto, bucket)) == {"raw/k"}

    @pytest.mark.parametrize("key", ["", "k" * 1020, "\ud800"])
    def test_rejects_a_key_that_s3_can_not_have(self, key: str, sink: S3Sink) -> None:
        with pytest.raises(Reject):
            sink.object("a", key=key)


SINKS: list[tuple[type[AwsSink], Callable[[Any], Write]]] = [
    (KinesisSink, lambda sink: sink.record("a", "k")),
    (SqsSink, lambda sink: sink.message("a")),
    (SnsSink, lambda sink: sink.message("a")),
    (EventBridgeSink, lambda sink: sink.event({})),
    (LambdaSink, lambda sink: sink.invocation({})),
    (S3Sink, lambda sink: sink.object("a")),
]


@pytest.mark.parametrize(("kind", "make"), SINKS)
class TestEach:
    def test_reads_the_environment_on_first_use_and_says_who_wants_what(
        self, kind: type[AwsSink], make: Callable[[Any], Write], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("TARGET", raising=False)

        class Forward:
            target = kind.from_env("TARGET")

        with pytest.raises(ConfigurationError, match=r"TARGET is not set; Forward.target needs the"):
            Forward.target.write(stamp([make(Forward.target)]), deadline=soon())

    def test_shows_no_payload_in_an_error(
        self, kind: type[AwsSink], make: Callable[[Any], Write], proxy: AwsProxy, client: Callable[[str], Any]
    ) -> None:
        code = next(iter(sorted(kind._content_codes - {"ParamValidationError"})))
        proxy.always = refuse(400, code, "Value 'customer@example.org' at 'partitionKey' is wrong")
        sink = kind(
            "arn:aws:x:us-east-1:1:target" if kind in (SqsSink, SnsSink) else "target", client=client(kind._service)
        )
        if isinstance(sink, SqsSink):
            sink._url = "http://127.0.0.1/1/target"

        (refusal,) = sink.write(stamp([make(sink)]), deadline=soon())

        assert refusal.kind == "invalid"
        assert "example.org" not in str(refusal.error)
        assert code in str(refusal.error)

    def test_asks_once_where_there_are_no_credentials(
        self, kind: type[AwsSink], make: Callable[[Any], Write], proxy: AwsProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            monkeypatch.setenv(name, "/nowhere")
        # It remembers the credentials of an earlier test.
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        sink = kind("target")

        (refusal,) = sink.write(stamp([make(sink)]), deadline=soon())

        assert refusal.kind == "unavailable"
        assert type(refusal.error).__name__ == "NoCredentialsError"
        assert proxy.requests == []
        sink.close()

    def test_imports_boto3_at_its_first_delivery_only(self, kind: type[AwsSink], make: Callable[[Any], Write]) -> None:
        import subprocess
        import sys

        code = f"""
import sys
from {kind.__module__} import {kind.__name__}
{kind.__name__}.from_env("TARGET")
assert not {{"boto3", "botocore", "tenacity"}} & set(sys.modules)
"""
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

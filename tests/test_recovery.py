"""The records of failure documents, fetched from streams and buckets on moto, and from a server that refuses as Kinesis does."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config

from streamkit import kpl
from streamkit.claims.base import Claim
from streamkit.envelope import Envelope
from streamkit.errors import StreamkitError, Unavailable
from streamkit.event import decode
from streamkit.heartbeat import payload
from streamkit.letters import Message, Stored, Unreadable
from streamkit.local.destinations import destination
from streamkit.local.documents import kinesis_record
from streamkit.local.filters import Filters
from streamkit.recovery import GONE, Recovery, Refused

from .test_letters import ENVELOPE, document

Clients = Callable[[str, str], Any]


@pytest.fixture(scope="module")
def clients(moto_endpoint: str) -> Iterator[Clients]:
    made: dict[str, Any] = {}

    def client(service: str, region: str) -> Any:
        assert region in ("", "us-east-1")
        if service not in made:
            made[service] = connect(service, moto_endpoint)
        return made[service]

    yield client
    for one in made.values():
        one.close()


def connect(service: str, endpoint: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


class Stream:
    """A stream of one shard with records in it."""

    def __init__(self, clients: Clients) -> None:
        self.kinesis = clients("kinesis", "")
        self.name = f"recovery-{uuid.uuid4().hex}"
        self.kinesis.create_stream(StreamName=self.name, ShardCount=1)
        self.kinesis.get_waiter("stream_exists").wait(StreamName=self.name, WaiterConfig={"Delay": 1})
        self.arn = self.kinesis.describe_stream_summary(StreamName=self.name)["StreamDescriptionSummary"]["StreamARN"]
        self.shard = "shardId-000000000000"

    def put(self, *data: bytes, key: str = "c-1") -> list[str]:
        """Their sequence numbers."""
        return [
            self.kinesis.put_record(StreamName=self.name, Data=one, PartitionKey=key)["SequenceNumber"] for one in data
        ]

    def document(self, first: str, last: str, size: int, **facts: Any) -> dict[str, Any]:
        where = {"shardId": self.shard, "streamArn": self.arn, "batchSize": size}
        return document(**where, startSequenceNumber=first, endSequenceNumber=last, **facts)


@pytest.fixture
def stream(clients: Clients) -> Stream:
    return Stream(clients)


def message(body: Any) -> Message:
    return Message(id="message-1", body=json.dumps(body))


def test_exactly_the_records_of_the_batch_come_back_under_the_ids_that_the_function_saw(
    stream: Stream, clients: Clients
) -> None:
    stream.put(b"before")
    numbers = stream.put(b'{"id": 1}', b"\xff\x00", b'{"id": 3}')
    stream.put(b"after")

    recovered = Recovery(clients).letters(message(stream.document(numbers[0], numbers[-1], 3)))

    assert (recovered.gone, recovered.surplus) == (0, 0)
    assert [envelope.data for envelope in recovered.envelopes] == [b'{"id": 1}', b"\xff\x00", b'{"id": 3}']
    event = {
        "Records": [
            kinesis_record(
                stream_arn=stream.arn,
                shard_id=stream.shard,
                sequence_number=number,
                data=b"",
                partition_key="c-1",
                arrived_at=0,
            )
            for number in numbers
        ]
    }
    assert [one.event_id for one in recovered.envelopes] == [one.event_id for one in decode(event).records]
    first = recovered.envelopes[0]
    assert (first.source, first.processor, first.partition_key) == ("kinesis", "orders", "c-1")
    assert (first.sequence_number, first.shard_id, first.stream_arn) == (numbers[0], stream.shard, stream.arn)
    assert first.failures[0].type == "RetryAttemptsExhausted"
    assert first.correlation == {"lambda_request_id": "c9b8fa9f-5a7f-xmpl-af9c-0c604cde93a5"}
    assert first.approximate_arrival_timestamp is not None


def test_aggregates_are_opened(stream: Stream, clients: Clients) -> None:
    users = [kpl.UserRecord(b"a", "k-1"), kpl.UserRecord(b"b", "k-2", "7")]
    (number,) = stream.put(kpl.aggregate(users))

    recovered = Recovery(clients, processor="audit").letters(message(stream.document(number, number, 1)))

    assert [(one.data, one.partition_key, one.explicit_hash_key) for one in recovered.envelopes] == [
        (b"a", "k-1", None),
        (b"b", "k-2", "7"),
    ]
    assert [one.event_id.rpartition(":")[2] for one in recovered.envelopes] == ["0", "1"]
    assert {one.processor for one in recovered.envelopes} == {"audit"}
    assert recovered.surplus == 0


def test_a_damaged_aggregate_keeps_what_came_in_its_place(stream: Stream, clients: Clients) -> None:
    (number,) = stream.put(kpl.MAGIC + b"damage")

    (letter,) = Recovery(clients).letters(message(stream.document(number, number, 1))).envelopes

    assert letter.data is None
    assert letter.undecoded


def test_a_shard_that_is_gone_has_nothing_more(stream: Stream, clients: Clients) -> None:
    stream.shard = "shardId-000000000099"

    assert Recovery(clients).letters(message(stream.document("1", "2", 2))).gone == 2


def test_of_a_stream_that_is_not_there_nothing_is_called_gone(stream: Stream, clients: Clients) -> None:
    stream.arn = stream.arn.replace(stream.name, "elsewhere")

    with pytest.raises(Refused, match="not found"):
        Recovery(clients).letters(message(stream.document("1", "2", 2)))


class TestARangeWithOtherRecords:
    """A mapping with a filter or parallel lanes leaves out records within the range of a batch."""

    def test_is_taken_whole_and_every_letter_says_so(self, stream: Stream, clients: Clients) -> None:
        numbers = stream.put(b'{"kind": "buy"}', b'{"kind": "sell"}', b'{"kind": "buy"}')

        recovered = Recovery(clients).letters(message(stream.document(numbers[0], numbers[-1], 2)))

        assert (len(recovered.envelopes), recovered.surplus, recovered.gone) == (3, 1, 0)
        assert all("1 record more than its batch had" in one.failures[0].message for one in recovered.envelopes)

    def test_is_cut_to_the_batch_by_the_mappings_own_filter(self, stream: Stream, clients: Clients) -> None:
        numbers = stream.put(b'{"kind": "buy"}', b'{"kind": "sell"}', b'{"kind": "buy"}')
        filters = Filters([{"data": {"kind": ["buy"]}}])

        recovered = Recovery(clients, filters=filters).letters(message(stream.document(numbers[0], numbers[-1], 2)))

        assert (len(recovered.envelopes), recovered.surplus, recovered.gone) == (2, 0, 0)

    @pytest.mark.parametrize("has_filter", [True, False])
    def test_has_no_letter_for_a_heartbeat_which_the_batch_had_counted(
        self, stream: Stream, clients: Clients, has_filter: bool
    ) -> None:
        given = [b'{"kind": "buy", "n": 1}', payload(1764432000.0), b'{"kind": "buy", "n": 2}']
        numbers = stream.put(*given)
        filters = Filters([{"data": {"kind": ["buy"]}}, {"data": {"streamkit_heartbeat": [1]}}])

        recovery = Recovery(clients, filters=filters if has_filter else None)
        recovered = recovery.letters(message(stream.document(numbers[0], numbers[-1], 3)))

        assert [one.data for one in recovered.envelopes] == [given[0], given[2]]
        assert (recovered.surplus, recovered.gone) == (0, 0)

    def test_that_has_nothing_but_heartbeats_is_no_letter(self, stream: Stream, clients: Clients) -> None:
        (number,) = stream.put(payload(1764432000.0))

        assert Recovery(clients).letters(message(stream.document(number, number, 1))).envelopes == []

    def test_is_not_called_gone_for_a_filter_that_is_not_the_mappings(self, stream: Stream, clients: Clients) -> None:
        numbers = stream.put(b'{"kind": "buy"}', b'{"kind": "sell"}')
        filters = Filters([{"data": {"kind": ["lend"]}}])

        with pytest.raises(StreamkitError, match="give the mapping's own"):
            Recovery(clients, filters=filters).letters(message(stream.document(numbers[0], numbers[-1], 2)))


class TestS3:
    def test_a_document_there_has_its_records_whatever_became_of_the_stream(
        self, stream: Stream, clients: Clients, moto_endpoint: str
    ) -> None:
        bucket = f"discarded-{uuid.uuid4().hex}"
        s3 = clients("s3", "")
        s3.create_bucket(Bucket=bucket)
        raws = [
            kinesis_record(
                stream_arn=stream.arn,
                shard_id=stream.shard,
                sequence_number=str(number),
                data=b"%d" % number,
                partition_key=None,
                arrived_at=1_777_636_800.0,
            )
            for number in (7, 8)
        ]
        destination(f"arn:aws:s3:::{bucket}", client=s3)(stream.document("7", "8", 2), raws)
        (held,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
        where = {"bucket": {"name": bucket}, "object": {"key": held["Key"].replace(":", "%3A")}}

        recovered = Recovery(clients).letters(message({"Records": [{"eventSource": "aws:s3", "s3": where}]}))

        assert [(one.data, one.partition_key) for one in recovered.envelopes] == [(b"7", None), (b"8", None)]
        assert recovered.gone == 0

    def test_an_object_that_is_not_there_any_more_is_unreadable(self, clients: Clients) -> None:
        clients("s3", "").create_bucket(Bucket="empty-bucket")

        with pytest.raises(Unreadable, match="there is no object s3://empty-bucket/k"):
            Recovery(clients).stored(Stored("empty-bucket", "k"))

    def test_an_object_larger_than_any_document_is_unreadable(
        self, clients: Clients, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("streamkit.recovery._LARGEST_OBJECT", 5)
        clients("s3", "").create_bucket(Bucket="large-bucket")
        clients("s3", "").put_object(Bucket="large-bucket", Key="k", Body=b"sixsix")

        with pytest.raises(Unreadable, match="more than 5 bytes"):
            Recovery(clients).stored(Stored("large-bucket", "k"))

    @pytest.mark.parametrize(
        ("facts", "why"),
        [
            ({"sha256": "0" * 64}, "not what was put there: s3://claimed-bucket/k"),
            ({"bytes": 1}, "not what was put there: s3://claimed-bucket/k"),
            ({"key": "other"}, "there is no object s3://claimed-bucket/other"),
        ],
    )
    def test_a_body_that_is_not_the_one_that_was_claimed_is_unreadable(
        self, clients: Clients, facts: dict[str, Any], why: str
    ) -> None:
        body = ENVELOPE.encode()
        clients("s3", "").create_bucket(Bucket="claimed-bucket")
        clients("s3", "").put_object(Bucket="claimed-bucket", Key="k", Body=body.encode())
        sound = {"bytes": len(body), "sha256": hashlib.sha256(body.encode()).hexdigest(), "key": "k"}

        def claim(**facts: Any) -> str:
            return Claim(bucket="claimed-bucket", event_id=ENVELOPE.event_id, **{**sound, **facts}).encode()

        assert Recovery(clients).letters(Message(id="m-1", body=claim())).envelopes == [ENVELOPE]
        with pytest.raises(Unreadable, match=why):
            Recovery(clients).letters(Message(id="m-1", body=claim(**facts)))
        with pytest.raises(Unavailable, match="in another bucket than mine"):
            Recovery(clients, claims_bucket="mine").letters(Message(id="m-1", body=claim()))


def test_an_object_that_is_cut_off_on_its_way_is_asked_for_again() -> None:
    content = json.dumps(document()).encode()
    promised = [content[:100], content]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(promised.pop(0))
            self.close_connection = True

        def log_message(self, *args: Any) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    client = connect("s3", f"http://127.0.0.1:{server.server_port}")
    try:
        text = Recovery(lambda service, region: client, sleep=lambda seconds: None).text(Stored("bucket", "key"))
    finally:
        client.close()
        server.shutdown()
        thread.join()
        server.server_close()

    assert text == content.decode()
    assert promised == []


class Refusing:
    """Kinesis's JSON protocol: each call is answered by the next of ``script``, a status and a body. A last error is repeated;
    after a last page there is nothing.
    """

    def __init__(self, script: list[tuple[int, dict[str, Any]]]) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.calls.append((self.headers["X-Amz-Target"].rpartition(".")[2], body))
                is_repeated = len(script) == 1 and script[0][0] >= 400
                status, answer = (script[0] if is_repeated else script.pop(0)) if script else page()
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                return

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> Refusing:
        self._thread.start()
        self.client = connect("kinesis", f"http://127.0.0.1:{self._server.server_port}")
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


THROTTLE = (400, {"__type": "ProvisionedThroughputExceededException", "message": "Rate exceeded"})
ITERATOR = (200, {"ShardIterator": "i"})


def page(*numbers: int, behind: int = 0) -> tuple[int, dict[str, Any]]:
    records = [
        {"SequenceNumber": str(one), "Data": "eA==", "PartitionKey": "k", "ApproximateArrivalTimestamp": 1_777_636_800}
        for one in numbers
    ]
    return 200, {"Records": records, "NextShardIterator": "n", "MillisBehindLatest": behind}


class Clock:
    """Moves when something sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def recovered_from(script: list[tuple[int, dict[str, Any]]], size: int = 3) -> tuple[list[Envelope], Refusing]:
    """The letters of a document about the records 1 to 3, of a batch of ``size``."""
    clock = Clock()
    stream_arn = "arn:aws:kinesis:us-east-1:123456789012:stream/orders"
    body = document(startSequenceNumber="1", endSequenceNumber="3", batchSize=size, streamArn=stream_arn)
    with Refusing(script) as kinesis:
        recovery = Recovery(lambda service, region: kinesis.client, sleep=clock.sleep, clock=lambda: clock.now)
        return recovery.letters(message(body)).envelopes, kinesis


def test_a_throttle_is_waited_out() -> None:
    letters, _ = recovered_from([THROTTLE, ITERATOR, THROTTLE, THROTTLE, page(1, 2, 3)])

    assert [one.sequence_number for one in letters] == ["1", "2", "3"]


def test_a_throttle_that_does_not_end_is_unavailable_and_nothing_is_called_gone() -> None:
    with pytest.raises(Unavailable, match="orders/shardId"):
        recovered_from([ITERATOR, page(1, behind=5), THROTTLE])


def test_empty_pages_are_read_past_while_the_shard_is_behind() -> None:
    letters, _ = recovered_from([ITERATOR, page(behind=5), page(behind=4), page(1, behind=3), page(2, 3, behind=1)])

    assert [one.sequence_number for one in letters] == ["1", "2", "3"]


def test_an_iterator_that_has_expired_is_replaced_behind_what_was_read() -> None:
    expired = (400, {"__type": "ExpiredIteratorException", "message": "Iterator expired"})

    letters, kinesis = recovered_from([ITERATOR, page(1, 2, behind=5), expired, ITERATOR, page(3)])

    assert [one.sequence_number for one in letters] == ["1", "2", "3"]
    iterators = [body for name, body in kinesis.calls if name == "GetShardIterator"]
    assert iterators[1]["ShardIteratorType"] == "AFTER_SEQUENCE_NUMBER"
    assert iterators[1]["StartingSequenceNumber"] == "2"


def test_a_number_that_the_shard_does_not_take_any_more_is_looked_for_from_its_oldest_record() -> None:
    invalid = (400, {"__type": "InvalidArgumentException", "message": "StartingSequenceNumber is invalid"})

    letters, kinesis = recovered_from([invalid, ITERATOR, page(0, behind=1), page(2, 3, 4)])

    assert [one.sequence_number for one in letters[:2]] == ["2", "3"]
    assert letters[-1].failures[-1].type == GONE
    assert kinesis.calls[1][1]["ShardIteratorType"] == "TRIM_HORIZON"


def test_no_permission_is_no_reason_to_call_anything_gone() -> None:
    denied = (400, {"__type": "AccessDeniedException", "message": "no"})

    with pytest.raises(Refused, match="AccessDenied"):
        recovered_from([ITERATOR, denied])


def test_what_retention_has_taken_is_said_with_its_count_and_range() -> None:
    letters, _ = recovered_from([ITERATOR, page(3, 4)])

    found, gone = letters
    assert (found.data, found.sequence_number) == (b"x", "3")
    assert (gone.data, gone.failures[-1].type) == (None, GONE)
    assert "2 records of the batch's 3" in gone.failures[-1].message
    assert "(from 1 to 2)" in gone.failures[-1].message
    assert gone.event_id == "orders/shardId-000000000001:1-3:gone"


def test_a_first_record_that_is_not_there_is_gone_even_where_others_make_up_the_count() -> None:
    letters, _ = recovered_from([ITERATOR, page(2, 3)], size=2)

    assert "1 record of the batch's 2" in letters[-1].failures[-1].message


@pytest.mark.parametrize("limit", ["_MOST_RECORDS", "_MOST_BYTES"])
def test_a_range_of_more_than_there_is_memory_for_is_refused(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"streamkit.recovery.{limit}", 2)

    with pytest.raises(StreamkitError, match=r"too much to be taken at once.*from 1 to 3"):
        recovered_from([ITERATOR, page(1, 2, 3)])


def test_all_of_it_can_be_gone() -> None:
    letters, _ = recovered_from([ITERATOR, page(4, 5)])

    (gone,) = letters
    assert "3 records of the batch's 3" in gone.failures[-1].message
    assert "(from 1 to 3)" in gone.failures[-1].message

"""The limits proxy in front of moto, as boto3 sees it, on a clock of the test's own; and before scripted endpoints."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import cbor2
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError
from limits_proxy import Faults, LimitsProxy, ShardCounts
from limits_wire import CBOR, decode
from urllib3.exceptions import ProtocolError

from tests.local.kinesis_endpoint import Endpoint, event

FIRST, SECOND = "shardId-000000000000", "shardId-000000000001"
#: Hashes of the first and of the second of two shards.
IN_FIRST, IN_SECOND = "0", str(2**127)
MIB = 1024 * 1024
THROTTLED = "ProvisionedThroughputExceededException"


class Time:
    """A clock that stands still but for ``pass_``."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


def connect(endpoint: str, service: str = "kinesis") -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
        config=Config(retries={"total_max_attempts": 1}, proxies={}, max_pool_connections=50, inject_host_prefix=False),
    )


@pytest.fixture(scope="module")
def direct(moto_endpoint: str) -> Iterator[Any]:
    """The endpoint itself, without limits."""
    client = connect(moto_endpoint)
    yield client
    client.close()


@pytest.fixture
def stream(direct: Any) -> str:
    name = f"limits-{uuid.uuid4().hex}"
    direct.create_stream(StreamName=name, ShardCount=2)
    direct.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    return name


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def proxy(moto_endpoint: str, clock: Time) -> Iterator[LimitsProxy]:
    with LimitsProxy(moto_endpoint, clock=clock) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: LimitsProxy) -> Iterator[Any]:
    client = connect(proxy.endpoint)
    yield client
    client.close()


def iterator(client: Any, stream: str, shard: str = FIRST) -> str:
    answer = client.get_shard_iterator(StreamName=stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    return str(answer["ShardIterator"])


def code_of(call: Callable[[], Any]) -> str:
    """What it was refused with; "" when it was not."""
    try:
        call()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return ""


def read_all(direct: Any, stream: str, shard: str = FIRST) -> list[bytes]:
    answer = direct.get_records(ShardIterator=iterator(direct, stream, shard))
    return [record["Data"] for record in answer["Records"]]


def entries(count: int, where: str = IN_FIRST, data: bytes = b"x") -> list[dict[str, Any]]:
    return [{"Data": data, "PartitionKey": "k", "ExplicitHashKey": where} for _ in range(count)]


class TestReads:
    def test_the_sixth_of_a_second_is_refused_whoever_asks(
        self, proxy: LimitsProxy, client: Any, stream: str, clock: Time
    ) -> None:
        other = connect(proxy.endpoint)
        iterators = [iterator(one, stream) for one in (client, other)]

        def read(n: int) -> str:
            return code_of(lambda: (client, other)[n % 2].get_records(ShardIterator=iterators[n % 2]))

        assert [read(n) for n in range(7)] == [""] * 5 + [THROTTLED] * 2
        assert code_of(lambda: client.get_records(ShardIterator=iterator(client, stream, SECOND))) == ""
        clock.pass_(1)
        assert read(0) == ""
        counts = proxy.counts(stream)
        assert counts[FIRST] == ShardCounts(reads=6, throttled_reads=2, iterators=2)
        assert counts[SECOND] == ShardCounts(reads=1, iterators=1)
        other.close()

    def test_of_many_at_once_five_go(self, proxy: LimitsProxy, client: Any, stream: str) -> None:
        position = iterator(client, stream)

        with ThreadPoolExecutor(20) as pool:
            codes = list(pool.map(lambda _: code_of(lambda: client.get_records(ShardIterator=position)), range(40)))

        assert Counter(codes) == {"": 5, THROTTLED: 35}

    def test_10_mib_are_brought_and_close_the_shard_for_five_seconds(
        self, client: Any, direct: Any, proxy: LimitsProxy, stream: str, clock: Time
    ) -> None:
        for n in range(10):
            direct.put_record(StreamName=stream, Data=bytes([n]) * (MIB - 1), PartitionKey="k", ExplicitHashKey="0")

        answer = client.get_records(ShardIterator=iterator(client, stream))

        assert [record["Data"][0] for record in answer["Records"]] == [*range(10)]
        assert proxy.counts(stream)[FIRST].read_bytes == 10 * MIB
        following = answer["NextShardIterator"]
        clock.pass_(4.9)
        assert code_of(lambda: client.get_records(ShardIterator=following)) == THROTTLED
        clock.pass_(0.1)
        assert client.get_records(ShardIterator=following)["Records"] == []

    def test_an_iterator_ends_after_five_minutes_unless_it_is_renewed(
        self, client: Any, stream: str, clock: Time
    ) -> None:
        first = iterator(client, stream)
        clock.pass_(299)
        following = client.get_records(ShardIterator=first)["NextShardIterator"]
        clock.pass_(299)
        assert code_of(lambda: client.get_records(ShardIterator=following)) == ""
        clock.pass_(300)
        assert code_of(lambda: client.get_records(ShardIterator=following)) == "ExpiredIteratorException"

    def test_an_iterator_of_unknown_origin_has_expired(self, client: Any, direct: Any, stream: str) -> None:
        elsewhere = iterator(direct, stream)

        assert code_of(lambda: client.get_records(ShardIterator=elsewhere)) == "ExpiredIteratorException"

    def test_five_iterators_a_second_of_a_shard(self, proxy: LimitsProxy, client: Any, stream: str) -> None:
        codes = [code_of(lambda: iterator(client, stream)) for _ in range(6)]

        assert codes == [""] * 5 + [THROTTLED]
        assert proxy.counts(stream)[FIRST] == ShardCounts(iterators=5, throttled_iterators=1)

    def test_a_wrong_request_is_the_endpoints_to_refuse(self, client: Any, proxy: LimitsProxy) -> None:
        assert code_of(lambda: iterator(client, "no-such-stream")) == "ResourceNotFoundException"
        assert code_of(lambda: client.put_record(StreamName="no", Data=b"x", PartitionKey="k")) == (
            "ResourceNotFoundException"
        )
        assert proxy.total("no") == ShardCounts()

    def test_streams_are_those_of_their_region(self, proxy: LimitsProxy, client: Any, stream: str) -> None:
        elsewhere = boto3.client(
            "kinesis",
            endpoint_url=proxy.endpoint,
            region_name="eu-west-1",
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
        )
        elsewhere.create_stream(StreamName=stream, ShardCount=1)
        for one in client, elsewhere:
            position = iterator(one, stream)
            assert [code_of(lambda: one.get_records(ShardIterator=position)) for _ in range(5)] == [""] * 5  # noqa: B023

        assert proxy.counts(stream)[FIRST].reads == 10
        assert set(proxy.report()["streams"]) == {f"us-east-1/{stream}", f"eu-west-1/{stream}"}
        elsewhere.close()


class TestWrites:
    def test_a_thousand_records_a_second_and_what_is_refused_is_not_written(
        self, proxy: LimitsProxy, client: Any, direct: Any, stream: str, clock: Time
    ) -> None:
        for _ in range(2):
            assert client.put_records(StreamName=stream, Records=entries(500))["FailedRecordCount"] == 0

        refused = client.put_records(StreamName=stream, Records=entries(3, data=b"late"))

        assert refused["FailedRecordCount"] == 3
        assert {record["ErrorCode"] for record in refused["Records"]} == {THROTTLED}
        assert code_of(lambda: client.put_record(StreamName=stream, **entries(1, data=b"late")[0])) == THROTTLED
        assert code_of(lambda: client.put_record(StreamName=stream, **entries(1, IN_SECOND)[0])) == ""
        clock.pass_(0.25)
        assert client.put_records(StreamName=stream, Records=entries(300))["FailedRecordCount"] == 50
        assert read_all(direct, stream) == [b"x"] * 1250
        assert proxy.counts(stream) == {
            FIRST: ShardCounts(written_records=1250, written_bytes=2500, throttled_records=54),
            SECOND: ShardCounts(written_records=1, written_bytes=2),
        }

    def test_the_records_of_a_full_shard_fail_and_the_others_are_told_in_their_places(
        self, client: Any, direct: Any, stream: str
    ) -> None:
        client.put_records(StreamName=stream, Records=entries(2, data=b"f" * (MIB // 2 - 1)))
        mixed = [
            {"Data": str(n).encode(), "PartitionKey": "k", "ExplicitHashKey": IN_SECOND if n % 2 else IN_FIRST}
            for n in range(6)
        ]

        answer = client.put_records(StreamName=stream, Records=mixed)

        assert answer["FailedRecordCount"] == 3
        assert [record.get("ErrorCode") for record in answer["Records"]] == [THROTTLED, None] * 3
        assert all(FIRST in record["ErrorMessage"] for record in answer["Records"][::2])
        assert [record["ShardId"] for record in answer["Records"][1::2]] == [SECOND] * 3
        assert read_all(direct, stream, SECOND) == [b"1", b"3", b"5"]
        assert len(read_all(direct, stream)) == 2

    def test_bytes_count_with_their_keys_and_a_smaller_record_may_still_fit(self, client: Any, stream: str) -> None:
        sizes = [MIB // 2, MIB // 2 + 1, MIB // 2 - 2]
        records = [{"Data": b"d" * (size - 1), "PartitionKey": "k", "ExplicitHashKey": "0"} for size in sizes]

        answer = client.put_records(StreamName=stream, Records=records)

        assert [record.get("ErrorCode") for record in answer["Records"]] == [None, THROTTLED, None]
        one = {"Data": b"", "PartitionKey": "é", "ExplicitHashKey": "0"}
        assert code_of(lambda: client.put_record(StreamName=stream, **one)) == ""
        assert code_of(lambda: client.put_record(StreamName=stream, **one)) == THROTTLED

    def test_a_key_is_the_shards_that_the_endpoint_puts_it_into(
        self, proxy: LimitsProxy, client: Any, direct: Any, stream: str
    ) -> None:
        records = [{"Data": b"x", "PartitionKey": f"key-{n}é"} for n in range(400)]
        client.put_records(StreamName=stream, Records=[*records, *entries(1, str(2**127 - 2)), *entries(1, IN_SECOND)])

        counts = proxy.counts(stream)
        assert counts[FIRST].written_records == len(read_all(direct, stream))
        assert counts[SECOND].written_records == len(read_all(direct, stream, SECOND))
        assert min(count.written_records for count in counts.values()) > 100
        # Had one been foretold wrongly, the map would have been thrown away.
        assert proxy.report()["latency_in_seconds"]["ListShards"]["calls"] == 1
        client.put_records(StreamName=stream, Records=records)
        assert proxy.report()["latency_in_seconds"]["ListShards"]["calls"] == 1

    @pytest.mark.parametrize("through_the_proxy", [True, False])
    def test_a_stream_that_was_split_has_the_limits_of_its_new_shards(
        self, clock: Time, through_the_proxy: bool
    ) -> None:
        # moto goes on writing into the shard that was split.
        shards = [shard("parent", 0, 2**128 - 1)]

        def split(arguments: dict[str, Any]) -> dict[str, Any]:
            shards[0]["SequenceNumberRange"]["EndingSequenceNumber"] = "9"
            shards.extend([shard("low", 0, 2**127 - 1), shard("high", 2**127, 2**128 - 1)])
            return {}

        def put(arguments: dict[str, Any]) -> dict[str, Any]:
            (into, *_) = [one for one in shards if "EndingSequenceNumber" not in one["SequenceNumberRange"]]
            told = [{"SequenceNumber": "1", "ShardId": into["ShardId"]} for _ in arguments["Records"]]
            return {"FailedRecordCount": 0, "Records": told}

        endpoint = Endpoint(ListShards=lambda arguments: {"Shards": shards}, SplitShard=split, PutRecords=put)
        with endpoint.client() as behind, LimitsProxy(behind.meta.endpoint_url, clock=clock) as proxy:
            client = connect(proxy.endpoint)
            client.put_records(StreamName="s", Records=entries(500))
            (client if through_the_proxy else behind).split_shard(
                StreamName="s", ShardToSplit="parent", NewStartingHashKey=str(2**127)
            )

            failed = [client.put_records(StreamName="s", Records=entries(400))["FailedRecordCount"] for _ in range(4)]
            client.close()

        # What went by the old map is charged where it came to.
        assert failed == [0, 0, 200, 400]
        assert proxy.counts("s")["parent"].written_records == 500
        assert proxy.counts("s")["low"].written_records == 1000

    def test_a_record_without_a_key_is_charged_to_the_shard_that_the_answer_names(self, clock: Time) -> None:
        endpoint = Endpoint(
            ListShards=lambda arguments: {"Shards": [shard(FIRST, 0, 2**128 - 1)]},
            PutRecords=lambda arguments: {
                "FailedRecordCount": 0,
                "Records": [{"SequenceNumber": "1", "ShardId": FIRST}] * len(arguments["Records"]),
            },
        )
        with endpoint.client() as behind, LimitsProxy(behind.meta.endpoint_url, clock=clock) as proxy:
            answers = [post(proxy, "PutRecords", StreamName="s", Records=[{"Data": "eA=="}] * 500) for _ in range(2)]
            keyed = post(proxy, "PutRecords", StreamName="s", Records=[{"Data": "eA==", "PartitionKey": "k"}])

        assert [answer["FailedRecordCount"] for answer in answers] == [0, 0]
        assert keyed["FailedRecordCount"] == 1
        assert proxy.counts("s")[FIRST].written_records == 1000

    def test_what_the_endpoint_refuses_itself_is_among_the_failures(self, clock: Time) -> None:
        def put(arguments: dict[str, Any]) -> dict[str, Any]:
            told = [{"SequenceNumber": "1", "ShardId": FIRST} for _ in arguments["Records"]]
            told[1] = {"ErrorCode": "InternalFailure", "ErrorMessage": "no"}
            return {"FailedRecordCount": 1, "Records": told, "EncryptionType": "NONE"}

        endpoint = Endpoint(ListShards=lambda arguments: {"Shards": [shard(FIRST, 0, 2**128 - 1)]}, PutRecords=put)
        with endpoint.client() as behind, LimitsProxy(behind.meta.endpoint_url, clock=clock) as proxy:
            client = connect(proxy.endpoint)
            records = [entries(1, data=b"d" * size)[0] for size in (10, MIB, 10, 10)]
            answer = client.put_records(StreamName="s", Records=records)
            client.close()

        assert answer["FailedRecordCount"] == 2
        assert [record.get("ErrorCode") for record in answer["Records"]] == [None, THROTTLED, "InternalFailure", None]
        assert answer["EncryptionType"] == "NONE"
        assert [len(asked["Records"]) for asked in endpoint.asked("PutRecords")] == [3]
        assert proxy.counts("s")[FIRST].written_records == 2

    def test_the_shards_are_listed_page_by_page_and_closed_ones_take_nothing(self, clock: Time) -> None:
        half = 2**127
        pages: dict[str | None, dict[str, Any]] = {
            None: {"Shards": [{**shard("closed", 0, 2 * half - 1), "ended": True}], "NextToken": "two"},
            "two": {"Shards": [shard("high", half, 2 * half - 1)], "NextToken": "three"},
            "three": {"Shards": [shard("low", 0, half - 1)]},
        }
        pages[None]["Shards"][0]["SequenceNumberRange"]["EndingSequenceNumber"] = "9"
        endpoint = Endpoint(
            ListShards=lambda arguments: pages[arguments.get("NextToken")],
            PutRecord=lambda arguments: {"SequenceNumber": "1", "ShardId": "low"},
        )
        with endpoint.client() as behind, LimitsProxy(behind.meta.endpoint_url, clock=clock) as proxy:
            client = connect(proxy.endpoint)
            codes = [
                code_of(lambda: client.put_record(StreamName="s", **entries(1, data=b"d" * (MIB // 2))[0]))
                for _ in range(2)
            ]
            client.close()

        assert codes == ["", THROTTLED]
        assert proxy.counts("s")["low"].throttled_records == 1
        assert endpoint.asked("ListShards") == [{"StreamName": "s"}, {"NextToken": "two"}, {"NextToken": "three"}]


def shard(shard_id: str, start: int, end: int) -> dict[str, Any]:
    return {
        "ShardId": shard_id,
        "HashKeyRange": {"StartingHashKey": str(start), "EndingHashKey": str(end)},
        "SequenceNumberRange": {"StartingSequenceNumber": "0"},
    }


def post(proxy: LimitsProxy, operation: str, **arguments: Any) -> Any:
    """A request of no SDK's."""
    headers = {"X-Amz-Target": f"Kinesis_20131202.{operation}", "Content-Type": "application/x-amz-json-1.1"}
    return asked(proxy, "POST", "/", json.dumps(arguments), headers)[1]


def asked(
    proxy: LimitsProxy, method: str, path: str, body: str | bytes = "", headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_describing_has_the_limits_of_an_account(proxy: LimitsProxy, client: Any, stream: str, clock: Time) -> None:
    def summary() -> str:
        return code_of(lambda: client.describe_stream_summary(StreamName=stream))

    assert [summary() for _ in range(21)] == [""] * 20 + ["LimitExceededException"]
    assert code_of(lambda: client.describe_stream(StreamName=stream)) == ""
    clock.pass_(1)
    assert summary() == ""
    assert proxy.report()["throttled_calls"] == {"DescribeStreamSummary": 1}


class TestFaults:
    def put(self, client: Any, stream: str, data: str) -> Any:
        return client.put_record(StreamName=stream, **entries(1, data=data.encode())[0])

    def test_a_dropped_request_is_not_carried_out_and_one_whose_answer_is_lost_is(
        self, proxy: LimitsProxy, client: Any, direct: Any, stream: str
    ) -> None:
        proxy.inject(Faults(drop=1, times=1))
        with pytest.raises(ConnectionClosedError):
            self.put(client, stream, "dropped")
        proxy.inject(Faults(lose=1, times=1))
        with pytest.raises(ConnectionClosedError):
            self.put(client, stream, "lost")
        self.put(client, stream, "told")

        assert read_all(direct, stream) == [b"lost", b"told"]
        assert proxy.injected() == {"drop": 1, "lose": 1}

    def test_errors_and_throttles_are_kinesiss_own(self, proxy: LimitsProxy, client: Any, stream: str) -> None:
        position = iterator(client, stream)
        proxy.inject(Faults(error=1, times=1))
        with pytest.raises(ClientError) as failed:
            client.get_records(ShardIterator=position)
        proxy.inject(Faults(throttle=1, operations=frozenset(["GetRecords"]), times=1))

        assert failed.value.response["Error"]["Code"] == "InternalFailure"
        assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
        assert code_of(lambda: self.put(client, stream, "x")) == ""
        assert code_of(lambda: client.get_records(ShardIterator=position)) == THROTTLED
        assert code_of(lambda: client.get_records(ShardIterator=position)) == ""
        assert proxy.counts(stream)[FIRST].throttled_reads == 1
        proxy.inject(Faults(throttle=1))
        assert code_of(lambda: client.list_shards(StreamName=stream)) == "LimitExceededException"

    def test_records_of_one_request_are_throttled_each_by_itself(
        self, proxy: LimitsProxy, client: Any, direct: Any, stream: str
    ) -> None:
        proxy.inject(Faults(throttle=0.3, seed=3))
        records = [entries(1, data=str(n).encode())[0] for n in range(200)]

        answer = client.put_records(StreamName=stream, Records=records)

        failed = [n for n, record in enumerate(answer["Records"]) if "ErrorCode" in record]
        assert len(failed) == answer["FailedRecordCount"] == proxy.injected()["throttle"]
        assert 30 < len(failed) < 90
        assert read_all(direct, stream) == [str(n).encode() for n in range(200) if n not in failed]

    def test_latency_waits_before_the_endpoint_is_asked(self, proxy: LimitsProxy, client: Any, stream: str) -> None:
        def put() -> None:
            with suppress(ClientError, ConnectionClosedError):  # As the proxy ends meanwhile.
                self.put(client, stream, "x")

        proxy.inject(Faults(latency=3600))
        waiting = threading.Thread(target=put)

        waiting.start()
        waiting.join(0.5)

        assert waiting.is_alive()
        assert "PutRecord" not in proxy.report()["latency_in_seconds"]
        # The end of the proxy ends the wait too.
        proxy.__exit__()
        waiting.join(60)
        assert not waiting.is_alive()


class TestControl:
    def test_the_counts_are_json(self, proxy: LimitsProxy, client: Any, stream: str, clock: Time) -> None:
        position = iterator(client, stream)
        for _ in range(6):
            code_of(lambda: client.get_records(ShardIterator=position))
        clock.pass_(3)
        client.put_records(StreamName=stream, Records=entries(2))

        status, report = asked(proxy, "GET", "/_limits")

        assert status == 200
        counts = report["streams"][f"us-east-1/{stream}"][FIRST]
        assert (counts["reads"], counts["throttled_reads"], counts["written_records"]) == (5, 1, 2)
        assert counts["seconds"] == {
            "0": {"iterators": 1, "reads": 5, "throttled_reads": 1},
            "3": {"written_records": 2, "written_bytes": 4},
        }
        assert report["for_seconds"] == 3
        assert report["latency_in_seconds"]["GetRecords"]["calls"] == 5
        assert (
            0
            < report["latency_in_seconds"]["GetRecords"]["p50"]
            <= report["latency_in_seconds"]["GetRecords"]["longest"]
        )

    def test_faults_can_be_ordered_and_called_off_and_all_begun_anew(
        self, proxy: LimitsProxy, client: Any, stream: str
    ) -> None:
        position = iterator(client, stream)
        assert asked(proxy, "POST", "/_limits/faults", '{"error": 1, "operations": ["GetRecords"]}') == (200, {})
        assert code_of(lambda: client.get_records(ShardIterator=position)) == "InternalFailure"
        assert asked(proxy, "POST", "/_limits/faults", "{}") == (200, {})
        for _ in range(5):
            code_of(lambda: client.get_records(ShardIterator=position))
        assert asked(proxy, "POST", "/_limits/reset") == (200, {})

        assert code_of(lambda: client.get_records(ShardIterator=position)) == ""
        assert proxy.total(stream) == ShardCounts(reads=1)

    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("POST", "/_limits/faults", '{"error": 2}', 400),
            ("POST", "/_limits/faults", '{"eror": 1}', 400),
            ("POST", "/_limits/faults", "no JSON", 400),
            ("GET", "/_limits/nothing", "", 404),
            ("GET", "/_limits/reset", "", 404),
        ],
    )
    def test_what_it_does_not_know_is_refused(
        self, proxy: LimitsProxy, method: str, path: str, body: str, status: int
    ) -> None:
        assert asked(proxy, method, path, body)[0] == status


class TestTransport:
    def test_other_services_pass_as_they_are(self, proxy: LimitsProxy) -> None:
        sqs = connect(proxy.endpoint, "sqs")
        url = sqs.create_queue(QueueName=f"limits-{uuid.uuid4().hex}")["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="é")
        s3 = connect(proxy.endpoint, "s3")
        bucket = f"limits-{uuid.uuid4().hex}"
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key="a/b", Body=bytes(range(256)) * 100)

        assert sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "é"
        assert s3.get_object(Bucket=bucket, Key="a/b")["Body"].read() == bytes(range(256)) * 100
        assert s3.head_object(Bucket=bucket, Key="a/b")["ContentLength"] == 25_600
        s3.delete_object(Bucket=bucket, Key="a/b")
        assert code_of(lambda: s3.get_object(Bucket=bucket, Key="a/b")) == "NoSuchKey"
        sqs.close()
        s3.close()

    def test_a_subscription_passes_as_it_comes_and_is_no_read(self, clock: Time) -> None:
        go_on = threading.Event()

        def events(arguments: dict[str, Any]) -> Iterator[bytes]:
            yield event([], ContinuationSequenceNumber="1")
            assert go_on.wait(60)
            yield event([], ContinuationSequenceNumber="2")

        endpoint = Endpoint(SubscribeToShard=events)
        with endpoint.client() as behind, LimitsProxy(behind.meta.endpoint_url, clock=clock) as proxy:
            client = connect(proxy.endpoint)
            arn = "arn:aws:kinesis:us-east-1:123456789012:stream/s/consumer/c:1"
            answer = client.subscribe_to_shard(
                ConsumerARN=arn, ShardId=FIRST, StartingPosition={"Type": "TRIM_HORIZON"}
            )
            numbers = []
            for one in answer["EventStream"]:
                numbers.append(one["SubscribeToShardEvent"]["ContinuationSequenceNumber"])
                go_on.set()  # Only once the first has come through.
            client.close()

        assert numbers == ["1", "2"]
        assert proxy.total("s") == ShardCounts()

    def test_a_subscription_ends_with_the_proxy(self, clock: Time) -> None:
        over = threading.Event()

        def events(arguments: dict[str, Any]) -> Iterator[bytes]:
            yield event([], ContinuationSequenceNumber="1")
            over.wait(60)

        endpoint = Endpoint(SubscribeToShard=events)
        with endpoint.client() as behind:
            with LimitsProxy(behind.meta.endpoint_url, clock=clock) as proxy:
                client = connect(proxy.endpoint)
                arn = "arn:aws:kinesis:us-east-1:123456789012:stream/s/consumer/c:1"
                answer = client.subscribe_to_shard(
                    ConsumerARN=arn, ShardId=FIRST, StartingPosition={"Type": "TRIM_HORIZON"}
                )
                events_of = iter(answer["EventStream"])
                assert "SubscribeToShardEvent" in next(events_of)
            # It does not wait for the endpoint, which has not ended it.
            with pytest.raises(ProtocolError):
                next(events_of)
            over.set()
            client.close()

    def test_an_answer_that_leaves_records_out_is_none(self, clock: Time) -> None:
        endpoint = Endpoint(
            ListShards=lambda arguments: {"Shards": [shard(FIRST, 0, 2**128 - 1)]},
            PutRecords=lambda arguments: {"FailedRecordCount": 0, "Records": []},
        )
        with endpoint.client() as behind, LimitsProxy(behind.meta.endpoint_url, clock=clock) as proxy:
            client = connect(proxy.endpoint)
            code = code_of(lambda: client.put_records(StreamName="s", Records=entries(1)))
            client.close()

        assert code == "ServiceUnavailable"

    def test_cbor_is_limited_as_json_is(self, clock: Time) -> None:
        with CborKinesis() as endpoint, LimitsProxy(endpoint.url, clock=clock) as proxy:

            def ask(operation: str, **arguments: Any) -> tuple[int, Any]:
                connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
                headers = {
                    "X-Amz-Target": f"Kinesis_20131202.{operation}",
                    "Content-Type": "application/x-amz-cbor-1.1",
                }
                connection.request("POST", "/", cbor2.dumps(arguments), headers)
                answer = connection.getresponse()
                assert answer.headers["Content-Type"] == "application/x-amz-cbor-1.1"
                value = decode(CBOR, answer.read())
                connection.close()
                return answer.status, value

            records = [{"Data": b"\x00" * (MIB // 2), "PartitionKey": key} for key in "abc"]
            status, told = ask("PutRecords", StreamName="s", Records=records)
            _, position = ask("GetShardIterator", StreamName="s", ShardId=FIRST, ShardIteratorType="LATEST")
            reads = [ask("GetRecords", ShardIterator=position["ShardIterator"]) for _ in range(6)]

        assert status == 200
        # Half a MiB and a key twice is more than one MiB.
        assert [record.get("ErrorCode") for record in told["Records"]] == [None, THROTTLED, THROTTLED]
        assert told["FailedRecordCount"] == 2
        assert [status for status, _ in reads] == [200] * 5 + [400]
        assert reads[5][1]["__type"] == THROTTLED
        assert reads[0][1]["Records"][0]["Data"] == b"\xff\x00"
        assert proxy.counts("s")[FIRST].read_bytes == 5 * 3

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("application/x-amz-json-1.1", b"{"),
            ("application/x-amz-json-1.1", b"[]"),
            ("application/x-amz-json-1.1", b"\xff"),
            ("application/x-amz-cbor-1.1", b"\xa1"),
            ("application/x-amz-cbor-1.1", b"\xff"),
            ("application/x-www-form-urlencoded", b"Action=GetRecords"),
            ("", b"{}"),
        ],
    )
    def test_what_it_cant_read_is_refused_and_not_passed(
        self, proxy: LimitsProxy, content_type: str, body: bytes
    ) -> None:
        headers = {"X-Amz-Target": "Kinesis_20131202.GetRecords", "Content-Type": content_type}

        status, told = asked(proxy, "POST", "/", body, headers)

        assert (status, told["__type"]) == (400, "SerializationException")
        assert proxy.report()["latency_in_seconds"] == {}

    def test_a_body_without_a_length_is_refused(self, proxy: LimitsProxy) -> None:
        assert asked(proxy, "POST", "/", headers={"Transfer-Encoding": "chunked"})[0] == 411
        assert asked(proxy, "POST", "/", headers={"Content-Length": "-1"})[0] == 411
        assert asked(proxy, "POST", "/", headers={"Content-Length": "99999999999"})[0] == 413

    def test_an_endpoint_that_is_not_there_is_unavailable(self, clock: Time) -> None:
        with Endpoint().client() as behind:
            gone = behind.meta.endpoint_url
        with LimitsProxy(gone, clock=clock) as proxy:
            client = connect(proxy.endpoint)
            with pytest.raises(ClientError) as failed:
                client.list_streams()
            client.close()

        assert failed.value.response["Error"]["Code"] == "ServiceUnavailable"
        assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503

    def test_an_answer_that_is_none_is_unavailable(self, clock: Time) -> None:
        with Endpoint(GetShardIterator=lambda arguments: b"{").client() as behind:
            with LimitsProxy(behind.meta.endpoint_url, clock=clock) as proxy:
                client = connect(proxy.endpoint)
                assert code_of(lambda: iterator(client, "s")) == "ServiceUnavailable"
                client.close()

    @pytest.mark.parametrize("wrong", ["https://127.0.0.1:1", "127.0.0.1:1", "http://", "http://127.0.0.1:1/path"])
    def test_an_endpoint_that_it_cant_be_in_front_of(self, wrong: str) -> None:
        with pytest.raises(ValueError, match="http://host:port"):
            LimitsProxy(wrong)

    def test_it_runs_by_itself_until_it_is_told_to_stop(self, moto_endpoint: str, stream: str) -> None:
        script = Path(sys.modules["limits_proxy"].__file__ or "")
        command = [sys.executable, str(script), "--upstream", moto_endpoint, "--faults", '{"error": 1, "times": 1}']
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            endpoint = process.stdout.readline().strip()
            assert endpoint.startswith("http://127.0.0.1:")
            client = connect(endpoint)
            codes = [code_of(lambda: client.list_shards(StreamName=stream)) for _ in range(2)]
            client.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0

        assert codes == ["InternalFailure", ""]

    @pytest.mark.parametrize("faults", ["{", '{"error": 3}'])
    def test_its_options_are_checked(self, faults: str) -> None:
        script = Path(sys.modules["limits_proxy"].__file__ or "")
        command = [sys.executable, str(script), "--upstream", "http://127.0.0.1:1", "--faults", faults]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

        assert ran.returncode == 2
        assert "Traceback" not in ran.stderr


class CborKinesis:
    """An endpoint with one shard that speaks CBOR only, and takes whatever is put."""

    def __enter__(self) -> CborKinesis:
        answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "ListShards": lambda arguments: {"Shards": [shard(FIRST, 0, 2**128 - 1)]},
            "GetShardIterator": lambda arguments: {"ShardIterator": "i"},
            "GetRecords": lambda arguments: {
                "Records": [
                    {
                        "Data": b"\xff\x00",
                        "PartitionKey": "k",
                        "SequenceNumber": "1",
                        # In milliseconds, as Kinesis has it; the tag says seconds, and no date has so many.
                        "ApproximateArrivalTimestamp": cbor2.CBORTag(1, 1_764_262_000_123),
                    }
                ],
                "NextShardIterator": "i",
            },
            "PutRecords": lambda arguments: {
                "FailedRecordCount": 0,
                "Records": [{"SequenceNumber": "1", "ShardId": FIRST} for _ in arguments["Records"]],
            },
        }

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                assert self.headers["Content-Type"] == "application/x-amz-cbor-1.1"
                arguments = cbor2.loads(self.rfile.read(int(self.headers["Content-Length"])))
                body = cbor2.dumps(answers[self.headers["X-Amz-Target"].partition(".")[2]](arguments))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-amz-cbor-1.1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # The name is the base class's.
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

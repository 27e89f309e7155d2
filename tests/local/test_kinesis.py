"""A stream read from a real endpoint (moto), and from one that answers what moto does not."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pybase64
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError, ReadTimeoutError
from botocore.parsers import ResponseParserError

from streamkit.errors import ConfigurationError
from streamkit.local.feed import Page, Position, Shard
from streamkit.local.kinesis import KinesisStream, PollingFeed
from streamkit.local.subscription import SubscriptionFeed
from tests.local.kinesis_endpoint import Endpoint, Refusal
from tests.local.test_runner import connect

FIRST = "shardId-000000000000"
START = Position("TRIM_HORIZON")


@pytest.fixture(scope="module")
def client(moto_endpoint: str) -> Iterator[Any]:
    client = connect(moto_endpoint)
    yield client
    client.close()


def create(client: Any, shards: int = 1) -> str:
    name = f"kinesis-{uuid.uuid4().hex}"
    client.create_stream(StreamName=name, ShardCount=shards)
    client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    return name


def put(client: Any, stream: str, *texts: str) -> list[int]:
    answers = [client.put_record(StreamName=stream, Data=text.encode(), PartitionKey=text) for text in texts]
    return [int(answer["SequenceNumber"]) for answer in answers]


def texts_of(page: Page) -> list[str]:
    return [pybase64.b64decode(record["Data"]).decode() for record in page.records]


def record(number: int, **rest: Any) -> dict[str, Any]:
    return {
        "SequenceNumber": str(number),
        "Data": "YQ==",
        "ApproximateArrivalTimestamp": 1_700_000_000.25,
        "PartitionKey": "k",
        **rest,
    }


def polled(answer: Callable[[dict[str, Any]], Any]) -> Endpoint:
    """An endpoint with one shard, whose GetRecords is ``answer``."""
    return Endpoint(GetShardIterator=lambda arguments: {"ShardIterator": "iterator"}, GetRecords=answer)


class TestPolling:
    def test_reads_a_shard_from_its_start_and_then_what_comes(self, client: Any) -> None:
        stream = create(client)
        numbers = put(client, stream, "a", "é")
        feed = PollingFeed(client, stream, FIRST)

        first, nothing = feed.read(START), feed.read(START)
        put(client, stream, "c")
        last = feed.read(START)

        assert texts_of(first) == ["a", "é"]
        assert [int(record["SequenceNumber"]) for record in first.records] == numbers
        assert [record["PartitionKey"] for record in first.records] == ["a", "é"]
        assert all(abs(record["ApproximateArrivalTimestamp"] - time.time()) < 60 for record in first.records)
        assert texts_of(nothing) == []
        assert texts_of(last) == ["c"]
        assert not last.has_ended

    def test_begins_after_a_sequence_number(self, client: Any) -> None:
        stream = create(client)
        first, _ = put(client, stream, "a", "b")

        page = PollingFeed(client, stream, FIRST).read(Position("AFTER_SEQUENCE_NUMBER", first))

        assert texts_of(page) == ["b"]

    def test_begins_at_a_time(self, client: Any) -> None:
        stream = create(client)
        put(client, stream, "a")

        before = PollingFeed(client, stream, FIRST).read(Position("AT_TIMESTAMP", timestamp=time.time() - 3600))
        after = PollingFeed(client, stream, FIRST).read(Position("AT_TIMESTAMP", timestamp=time.time() + 3600))

        assert (texts_of(before), texts_of(after)) == (["a"], [])

    def test_begins_at_what_comes_from_now_on(self, client: Any) -> None:
        stream = create(client)
        put(client, stream, "a")
        feed = PollingFeed(client, stream, FIRST)

        nothing = feed.read(Position("LATEST"))
        put(client, stream, "b")

        assert (texts_of(nothing), texts_of(feed.read(Position("LATEST")))) == ([], ["b"])

    def test_says_how_far_it_is_behind_and_that_the_shard_has_ended(self) -> None:
        answers = iter(
            [
                {"Records": [record(1)], "NextShardIterator": "next", "MillisBehindLatest": 1500},
                {"Records": [record(2)], "NextShardIterator": None, "MillisBehindLatest": 0, "ChildShards": []},
            ]
        )
        endpoint = polled(lambda arguments: next(answers))
        with endpoint.client() as client:
            feed = PollingFeed(client, "orders", FIRST)

            assert feed.read(START) == Page([record(1)], 1.5)
            assert feed.read(START) == Page([record(2)], 0.0, has_ended=True)

        assert [asked["ShardIterator"] for asked in endpoint.asked("GetRecords")] == ["iterator", "next"]
        assert {asked["Limit"] for asked in endpoint.asked("GetRecords")} == {10_000}

    def test_an_iterator_that_has_expired_is_replaced_by_one_at_the_position(self) -> None:
        iterators = iter(["old", "new"])

        def get_records(arguments: dict[str, Any]) -> Any:
            if arguments["ShardIterator"] == "old":
                raise Refusal("ExpiredIteratorException")
            return {"Records": [record(8)], "NextShardIterator": "next"}

        endpoint = Endpoint(
            GetShardIterator=lambda arguments: {"ShardIterator": next(iterators)}, GetRecords=get_records
        )
        with endpoint.client() as client:
            page = PollingFeed(client, "orders", FIRST).read(Position("AFTER_SEQUENCE_NUMBER", 7))

        assert page == Page([record(8)])
        assert (
            endpoint.asked("GetShardIterator")
            == [
                {
                    "StreamName": "orders",
                    "ShardId": FIRST,
                    "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
                    "StartingSequenceNumber": "7",
                }
            ]
            * 2
        )

    def test_what_came_since_latest_is_read_though_the_first_iterator_expired(self) -> None:
        answers = iter(
            [{"Records": [], "NextShardIterator": "next"}, Refusal("ExpiredIteratorException"), {"Records": []}]
        )

        def get_records(arguments: dict[str, Any]) -> Any:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        endpoint = polled(get_records)
        began_at = time.time()
        with endpoint.client() as client:
            feed = PollingFeed(client, "orders", FIRST)
            for _ in range(2):
                feed.read(Position("LATEST"))

        first, second = endpoint.asked("GetShardIterator")
        assert first["ShardIteratorType"] == "LATEST"
        assert second["ShardIteratorType"] == "AT_TIMESTAMP"
        assert began_at - 1 <= second["Timestamp"] <= time.time()

    @pytest.mark.parametrize(
        "refusal", [Refusal("ProvisionedThroughputExceededException"), Refusal("InternalFailure", 500)], ids=str
    )
    def test_an_error_is_raised_as_boto3_has_it_and_the_next_read_goes_on(self, refusal: Refusal) -> None:
        answers = iter([refusal, {"Records": [record(1)], "NextShardIterator": "next"}])

        def get_records(arguments: dict[str, Any]) -> Any:
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

        with polled(get_records).client() as client:
            feed = PollingFeed(client, "orders", FIRST)

            with pytest.raises(ClientError) as caught:
                feed.read(START)
            page = feed.read(START)

        assert caught.value.response["Error"]["Code"] == refusal.code
        assert page == Page([record(1)])


class TestTheFormOfRecords:
    """They come out the same, whether streamkit or boto3 has parsed them."""

    @pytest.fixture(params=["taken out before parsing", "parsed by boto3"])
    def read(self, request: pytest.FixtureRequest) -> Callable[[Any], Page]:
        def read(answer: Any) -> Page:
            with polled(lambda arguments: answer).client() as client:
                feed = PollingFeed(client, "orders", FIRST)
                if request.param == "parsed by boto3":
                    # A botocore without the event.
                    client.meta.events.unregister(
                        "before-parse.kinesis.GetRecords", unique_id="streamkit.local.kinesis"
                    )
                return feed.read(START)

        return read

    @pytest.mark.parametrize("arrived_at", [1_700_000_000.25, 1_700_000_000, "2023-11-14T22:13:20.250Z"], ids=str)
    def test_times_are_seconds(self, read: Callable[[Any], Page], arrived_at: object) -> None:
        page = read({"Records": [record(1, ApproximateArrivalTimestamp=arrived_at)]})

        (seconds,) = [record["ApproximateArrivalTimestamp"] for record in page.records]
        assert isinstance(seconds, float)
        assert seconds == (1_700_000_000 if arrived_at == 1_700_000_000 else 1_700_000_000.25)

    def test_a_record_may_have_no_key(self, read: Callable[[Any], Page]) -> None:
        no_key = record(1)
        del no_key["PartitionKey"]

        page = read({"Records": [no_key, record(2, PartitionKey=None), record(3, PartitionKey="")]})

        assert [record.get("PartitionKey") or None for record in page.records] == [None, None, None]

    def test_what_kinesis_may_add_changes_nothing(self, read: Callable[[Any], Page]) -> None:
        page = read({"Records": [record(1, EncryptionType="KMS")], "NextShardIterator": "next", "Added": {"later": 1}})

        assert page == Page([record(1)])

    def test_an_answer_that_is_no_json_raises_what_may_pass(self, read: Callable[[Any], Page]) -> None:
        with pytest.raises(ResponseParserError) as caught:
            read(b'{"Records": [')

        assert KinesisStream(None, "orders").may_pass(caught.value)


def test_boto3_is_spared_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(record: Any) -> Any:
        raise AssertionError("boto3 has parsed the records")

    monkeypatch.setattr("streamkit.local.kinesis.raw_record", never)
    with polled(lambda arguments: {"Records": [record(1)], "NextShardIterator": "next"}).client() as client:
        page = PollingFeed(client, "orders", FIRST).read(START)

    assert page == Page([record(1)])


def test_other_uses_of_the_client_get_what_boto3_gives() -> None:
    with polled(lambda arguments: {"Records": [record(1)], "NextShardIterator": "next"}).client() as client:
        PollingFeed(client, "orders", FIRST).read(START)

        answer = client.get_records(ShardIterator="iterator")

    (own,) = answer["Records"]
    assert own["Data"] == b"a"
    assert own["ApproximateArrivalTimestamp"] == datetime.fromtimestamp(1_700_000_000.25, UTC)


class TestTheStream:
    def test_knows_its_arn_and_its_retention(self, client: Any) -> None:
        name = create(client)
        client.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=48)

        stream = KinesisStream(client, name)

        assert stream.arn == client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
        assert stream.event_source_arn == stream.arn
        assert stream.retention == 48 * 3600
        assert stream.name == name

    def test_asks_about_itself_once(self) -> None:
        summary = {"StreamARN": "arn:aws:kinesis:us-east-1:123456789012:stream/orders", "RetentionPeriodHours": 24}
        endpoint = Endpoint(DescribeStreamSummary=lambda arguments: {"StreamDescriptionSummary": summary})
        with endpoint.client() as client:
            stream = KinesisStream(client, "orders")

            assert (stream.arn, stream.event_source_arn, stream.retention) == (summary["StreamARN"],) * 2 + (86_400,)

        assert endpoint.requests == [("DescribeStreamSummary", {"StreamName": "orders"})]

    def test_lists_the_shards_of_all_pages_with_their_parents_as_long_as_those_are_listed(self) -> None:
        pages: dict[str | None, dict[str, Any]] = {
            None: {
                "Shards": [{"ShardId": "a"}, {"ShardId": "b", "ParentShardId": "gone"}],
                "NextToken": "more",
            },
            "more": {
                "Shards": [
                    {"ShardId": "c", "ParentShardId": "a"},
                    {"ShardId": "d", "ParentShardId": "a", "AdjacentParentShardId": "b"},
                ],
            },
        }
        whole: dict[str, Any] = {"HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"}}
        whole["SequenceNumberRange"] = {"StartingSequenceNumber": "1"}

        def list_shards(arguments: dict[str, Any]) -> Any:
            page = pages[arguments.get("NextToken")]
            return {**page, "Shards": [{**shard, **whole} for shard in page["Shards"]]}

        endpoint = Endpoint(ListShards=list_shards)
        with endpoint.client() as client:
            shards = KinesisStream(client, "orders").shards()

        assert shards == [Shard("a"), Shard("b"), Shard("c", ("a",)), Shard("d", ("a", "b"))]
        assert endpoint.asked("ListShards") == [{"StreamName": "orders"}, {"NextToken": "more"}]

    def test_lists_what_a_split_has_made(self, client: Any) -> None:
        name = create(client)
        client.split_shard(StreamName=name, ShardToSplit=FIRST, NewStartingHashKey=str(2**127))

        shards = KinesisStream(client, name).shards()

        assert [shard.parents for shard in shards] == [(), (FIRST,), (FIRST,)]

    def test_is_read_by_polling_or_by_its_consumer(self, client: Any) -> None:
        consumer = "arn:aws:kinesis:us-east-1:123456789012:stream/orders/consumer/reader:1700000000"

        by_polling, by_consumer = (
            KinesisStream(client, "orders"),
            KinesisStream(client, "orders", consumer_arn=consumer),
        )

        assert isinstance(by_polling.feed(FIRST), PollingFeed)
        assert isinstance(by_consumer.feed(FIRST), SubscriptionFeed)
        assert by_consumer.event_source_arn == consumer


def error(code: str, status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetRecords")


class TestWhatMayPass:
    @pytest.mark.parametrize(
        "passing",
        [
            *map(error, ("ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException")),
            *map(error, ("ThrottlingException", "ResourceInUseException", "InternalFailureException")),
            *map(error, ("ExpiredIteratorException",)),
            error("InternalFailure", 500),
            error("ServiceUnavailable", 503),
            error("TooManyRequests", 429),
            EndpointConnectionError(endpoint_url="http://nobody"),
            ReadTimeoutError(endpoint_url="http://nobody"),
            ConnectionResetError("gone"),
            TimeoutError(),
            ResponseParserError("cut off"),
        ],
        ids=repr,
    )
    def test_throttles_outages_and_broken_answers(self, passing: Exception) -> None:
        assert KinesisStream(None, "orders").may_pass(passing)

    @pytest.mark.parametrize(
        ("failure", "is_throttle"),
        [
            *((error(f"{name}Exception"), True) for name in ("ProvisionedThroughputExceeded", "LimitExceeded")),
            *((error(f"{name}Exception"), True) for name in ("Throttling", "KMSThrottling")),
            (error("TooManyRequests", 429), True),
            (error("ResourceInUseException"), False),
            (error("InternalFailure", 500), False),
            (EndpointConnectionError(endpoint_url="http://nobody"), False),
            (TimeoutError(), False),
        ],
        ids=repr,
    )
    def test_throttles_are_told_apart(self, failure: Exception, is_throttle: bool) -> None:
        assert KinesisStream(None, "orders").is_throttle(failure) is is_throttle

    @pytest.mark.parametrize(
        "lasting",
        [
            *map(error, ("ResourceNotFoundException", "AccessDeniedException", "InvalidArgumentException")),
            ParamValidationError(report="wrong"),
            ValueError("a mistake"),
        ],
        ids=repr,
    )
    def test_not_what_is_wrong_with_the_call(self, lasting: Exception) -> None:
        assert not KinesisStream(None, "orders").may_pass(lasting)


def test_the_form_of_the_scripted_answers_is_that_of_the_endpoint(client: Any) -> None:
    """What these tests script as Kinesis's JSON is what moto sends, but for the time's form."""
    stream = create(client)
    put(client, stream, "a")
    bodies: list[bytes] = []
    client.meta.events.register(
        "before-parse.kinesis.GetRecords", lambda response_dict, **_: bodies.append(response_dict["body"])
    )
    iterator = client.get_shard_iterator(StreamName=stream, ShardId=FIRST, ShardIteratorType="TRIM_HORIZON")
    client.get_records(ShardIterator=iterator["ShardIterator"])

    (sent,) = json.loads(bodies[0])["Records"]
    assert set(record(1)) <= set(sent)
    assert isinstance(sent["ApproximateArrivalTimestamp"], int | float | str)


@pytest.mark.parametrize("arn", ["arn:aws:x", "arn:aws:kinesis:us-east-1:1:stream/other/consumer/me:1", "me"])
def test_a_consumer_of_another_stream_is_refused(arn: str) -> None:
    with pytest.raises(ConfigurationError, match="is not the ARN of a consumer of the stream orders"):
        KinesisStream(None, "orders", consumer_arn=arn)

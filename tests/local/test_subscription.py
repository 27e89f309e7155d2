"""A shard by enhanced fan-out, from an endpoint that speaks the encoding of event streams over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pybase64
import pytest
from botocore.exceptions import ClientError, ResponseStreamingError

from streamkit.local.feed import Page, Position
from streamkit.local.kinesis import KinesisStream
from streamkit.local.subscription import SubscriptionFeed
from tests.local.kinesis_endpoint import Dies, Endpoint, Refusal, event, refused_event

CONSUMER = "arn:aws:kinesis:us-east-1:123456789012:stream/orders/consumer/reader:1700000000"
SHARD = "shardId-000000000000"
START = Position("TRIM_HORIZON")
LONG = 60.0

Subscription = Callable[[], Iterable[bytes]]


def record(number: int, data: bytes = b"a") -> dict[str, Any]:
    return {
        "SequenceNumber": str(number),
        "Data": pybase64.b64encode_as_string(data),
        "ApproximateArrivalTimestamp": 1_700_000_000.25,
        "PartitionKey": "k",
    }


def events(*numbers: int) -> list[bytes]:
    """An event for each number, with the record of that number."""
    return [event([record(number)], ContinuationSequenceNumber=str(number)) for number in numbers]


END = event([], ContinuationSequenceNumber=None, ChildShards=[])


def subscriptions(*scripts: Any) -> Endpoint:
    """An endpoint where each script is one subscription: its frames, and an Exception where it is to break."""
    left = iter(scripts)

    def subscribe(arguments: dict[str, Any]) -> Iterator[bytes]:
        script = next(left)
        if isinstance(script, Exception):
            raise script
        return frames_of(script)

    return Endpoint(SubscribeToShard=subscribe)


def frames_of(script: Iterable[Any]) -> Iterator[bytes]:
    for frame in script:
        if isinstance(frame, Exception):
            raise frame
        if isinstance(frame, threading.Event):
            frame.wait(LONG)
        else:
            yield frame


def started(endpoint: Endpoint) -> list[Any]:
    return [asked["StartingPosition"] for asked in endpoint.asked("SubscribeToShard")]


def read_until(feed: SubscriptionFeed, is_so: Callable[[list[Page]], bool], position: Position = START) -> list[Page]:
    """The pages of ``feed`` that brought something, or raise what a read raises."""
    pages: list[Page] = []
    end = time.monotonic() + LONG
    while not is_so(pages):
        assert time.monotonic() < end, f"after {pages}"
        page = feed.read(position)
        if page.records or page.has_ended:
            pages.append(page)
        else:
            time.sleep(0.002)
    return pages


def has_ended(pages: list[Page]) -> bool:
    return bool(pages) and pages[-1].has_ended


def has_read(count: int) -> Callable[[list[Page]], bool]:
    return lambda pages: len(numbers_of(pages)) >= count


def numbers_of(pages: list[Page]) -> list[int]:
    return [int(record["SequenceNumber"]) for page in pages for record in page.records]


def feed_of(client: Any) -> SubscriptionFeed:
    return SubscriptionFeed(client, CONSUMER, SHARD, between_calls=0)


def test_brings_the_records_in_order_and_the_end_of_the_shard() -> None:
    endpoint = subscriptions([*events(1, 2), event([record(3)], ContinuationSequenceNumber="3"), END])
    with endpoint.client() as client:
        pages = read_until(feed := feed_of(client), has_ended)

        assert feed.read(START).has_ended

    assert [record for page in pages for record in page.records] == [record(1), record(2), record(3)]
    assert endpoint.asked("SubscribeToShard") == [
        {"ConsumerARN": CONSUMER, "ShardId": SHARD, "StartingPosition": {"Type": "TRIM_HORIZON"}}
    ]


def test_the_shard_has_ended_where_its_children_are_named() -> None:
    child = {
        "ShardId": "child",
        "ParentShards": [SHARD],
        "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "9"},
    }
    last = event([record(1)], ContinuationSequenceNumber="1", ChildShards=[child])
    with subscriptions([last]).client() as client:
        pages = read_until(feed_of(client), has_ended)

    assert numbers_of(pages) == [1]


def test_a_record_of_ten_mebibytes_is_read_whole() -> None:
    big = record(2, bytes(range(256)) * 4 * 10 * 1024)
    frames = [*events(1), event([big], ContinuationSequenceNumber="2"), *events(3), END]
    with subscriptions(frames).client() as client:
        pages = read_until(feed_of(client), has_ended)

    assert numbers_of(pages) == [1, 2, 3]
    (read,) = (one for page in pages for one in page.records if one["SequenceNumber"] == "2")
    assert read["Data"] == big["Data"]


def test_says_how_far_it_is_behind() -> None:
    hold = threading.Event()
    late = event([record(1)], ContinuationSequenceNumber="1", MillisBehindLatest=2500)
    with subscriptions([late, hold]).client() as client:
        feed = feed_of(client)
        (page,) = read_until(feed, has_read(1))

        assert page.behind == 2.5
        assert page.as_of is not None
        # Nothing has come since, and nobody knows.
        assert feed.read(START) == Page([], behind=None)
        feed.close()
        hold.set()


def test_a_subscription_that_breaks_where_a_closed_shard_has_no_more_is_its_end() -> None:
    endpoint = Endpoint(
        SubscribeToShard=lambda arguments: broken(),
        GetShardIterator=lambda arguments: {"ShardIterator": "it"},
        GetRecords=lambda arguments: {"Records": [], "MillisBehindLatest": 0},
    )
    with endpoint.client() as client:
        pages = read_until(feed_of(client), has_ended, Position("AFTER_SEQUENCE_NUMBER", 7))

    assert numbers_of(pages) == []
    assert endpoint.asked("GetShardIterator") == [
        {
            "StreamARN": CONSUMER.partition("/consumer/")[0],
            "ShardId": SHARD,
            "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
            "StartingSequenceNumber": "7",
        }
    ]


def test_a_subscription_that_breaks_where_the_shard_goes_on_is_an_error() -> None:
    endpoint = Endpoint(
        SubscribeToShard=lambda arguments: broken(),
        GetShardIterator=lambda arguments: {"ShardIterator": "it"},
        GetRecords=lambda arguments: {"Records": [], "NextShardIterator": "it", "MillisBehindLatest": 0},
    )
    with endpoint.client() as client, pytest.raises(ResponseStreamingError):
        read_until(feed_of(client), has_ended)


def broken() -> Iterable[bytes]:
    return frames_of([Dies])


@pytest.mark.parametrize(
    ("position", "starting"),
    [
        (Position("LATEST"), {"Type": "LATEST"}),
        (Position("AFTER_SEQUENCE_NUMBER", 7), {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "7"}),
        (Position("AT_TIMESTAMP", timestamp=1_700_000_000.0), {"Type": "AT_TIMESTAMP", "Timestamp": 1_700_000_000}),
    ],
)
def test_begins_at_the_position(position: Position, starting: dict[str, Any]) -> None:
    endpoint = subscriptions([END])
    with endpoint.client() as client:
        read_until(feed_of(client), has_ended, position)

    assert started(endpoint) == [starting]


class TestASubscriptionThatEnds:
    def test_is_renewed_without_loss_or_repeat(self) -> None:
        endpoint = subscriptions(events(1, 2), events(3), [END])
        with endpoint.client() as client:
            pages = read_until(feed_of(client), has_ended)

        assert numbers_of(pages) == [1, 2, 3]
        assert started(endpoint)[1:] == [
            {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "2"},
            {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "3"},
        ]

    def test_goes_on_from_where_an_idle_shard_was_looked_at_last(self) -> None:
        endpoint = subscriptions([event([], ContinuationSequenceNumber="9")], [END])
        with endpoint.client() as client:
            read_until(feed_of(client), has_ended)

        assert started(endpoint)[1] == {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "9"}

    def test_at_latest_goes_on_from_its_beginning_where_no_event_came(self) -> None:
        endpoint = subscriptions([], [END])
        began_at = time.time()
        with endpoint.client() as client:
            read_until(feed_of(client), has_ended, Position("LATEST"))

        renewed = started(endpoint)[1]
        assert renewed["Type"] == "AT_TIMESTAMP"
        assert began_at - 1 <= renewed["Timestamp"] <= time.time()

    def test_is_not_renewed_sooner_than_kinesis_allows(self) -> None:
        endpoint = subscriptions(events(1), [END])
        with endpoint.client() as client:
            feed = SubscriptionFeed(client, CONSUMER, SHARD, between_calls=LONG)
            read_until(feed, has_read(1))
            thread = feed._thread
            assert thread is not None
            feed.close()
            thread.join(LONG)

        assert not thread.is_alive()
        assert len(endpoint.requests) == 1


class TestAnError:
    @pytest.mark.parametrize("code", ["ResourceInUseException", "LimitExceededException", "ResourceNotFoundException"])
    def test_of_the_call_is_raised_by_a_read_and_the_next_begins_anew(self, code: str) -> None:
        endpoint = subscriptions(Refusal(code), [*events(8), END])
        with endpoint.client() as client:
            feed = feed_of(client)

            with pytest.raises(ClientError) as caught:
                read_until(feed, has_ended)
            pages = read_until(feed, has_ended, Position("AFTER_SEQUENCE_NUMBER", 7))

        assert caught.value.response["Error"]["Code"] == code
        assert KinesisStream(None, "orders").may_pass(caught.value) == (code != "ResourceNotFoundException")
        assert numbers_of(pages) == [8]
        assert started(endpoint)[1] == {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "7"}

    @pytest.mark.parametrize("code", ["InternalFailureException", "ResourceInUseException", "KMSThrottlingException"])
    def test_in_the_stream_is_raised_after_the_records_before_it(self, code: str) -> None:
        with subscriptions([*events(1), refused_event(code)]).client() as client:
            feed = feed_of(client)
            pages = read_until(feed, has_read(1))

            with pytest.raises(ClientError) as caught:
                read_until(feed, has_ended)

        assert numbers_of(pages) == [1]
        assert caught.value.response["Error"]["Code"] == code
        assert KinesisStream(None, "orders").may_pass(caught.value)

    def test_of_a_connection_that_dies_may_pass(self) -> None:
        cut = events(2)[0][:-9]
        endpoint = subscriptions([*events(1), cut, Dies()], [*events(2), END])
        with endpoint.client() as client:
            feed = feed_of(client)
            pages = read_until(feed, has_read(1))

            with pytest.raises(ResponseStreamingError) as caught:
                read_until(feed, has_ended)
            pages += read_until(feed, has_ended, Position("AFTER_SEQUENCE_NUMBER", 1))

        assert KinesisStream(None, "orders").may_pass(caught.value)
        assert numbers_of(pages) == [1, 2]

    def test_of_a_damaged_frame_may_pass(self) -> None:
        (frame,) = events(1)
        damaged = frame[:-6] + bytes([frame[-6] ^ 1]) + frame[-5:]
        with subscriptions([damaged]).client() as client:
            with pytest.raises(ResponseStreamingError) as caught:
                read_until(feed_of(client), has_ended)

        assert KinesisStream(None, "orders").may_pass(caught.value)

    def test_at_latest_loses_nothing_that_came_since_the_beginning(self) -> None:
        endpoint = subscriptions([Dies()], [END])
        with endpoint.client() as client:
            feed = feed_of(client)
            with pytest.raises(ResponseStreamingError):
                read_until(feed, has_ended, Position("LATEST"))
            read_until(feed, has_ended, Position("LATEST"))

        assert [starting["Type"] for starting in started(endpoint)] == ["LATEST", "AT_TIMESTAMP"]


class TestWhatIsHeld:
    def test_is_bounded_and_the_rest_stays_in_the_connection(self) -> None:
        sent = 0
        large = bytes(2 * 1024 * 1024)

        def many() -> Iterator[bytes]:
            nonlocal sent
            for number in range(1, 31):
                yield event([record(number, large)], ContinuationSequenceNumber=str(number))
                sent = number
            yield END

        with subscriptions(many()).client() as client:
            feed = feed_of(client)
            feed.read(START)
            # Until nothing more is taken in: then the reader has all that it may hold.
            before = -1
            while sent == 0 or before != sent:
                before = sent
                time.sleep(0.3)
            held, sent_unread = len(feed._records), sent
            pages = read_until(feed, has_ended)

        # A record is 2.7 MiB of base64: two of them are enough, and the connection's buffers take a few more.
        assert held == 2
        assert sent_unread < 30
        assert numbers_of(pages) == list(range(1, 31))


class TestClosing:
    def test_ends_a_thread_that_waits_for_the_endpoint(self) -> None:
        hold = threading.Event()
        endpoint = subscriptions([*events(1), hold])
        with endpoint.client() as client:
            feed = feed_of(client)
            read_until(feed, has_read(1))
            thread = feed._thread
            assert thread is not None

            feed.close()
            thread.join(LONG / 4)
            is_alive = thread.is_alive()
            hold.set()

        assert not is_alive

    def test_ends_a_thread_that_has_no_room(self) -> None:
        large = bytes(4 * 1024 * 1024)
        script = [event([record(number, large)], ContinuationSequenceNumber=str(number)) for number in (1, 2)]
        with subscriptions([*script, END]).client() as client:
            feed = feed_of(client)
            feed.read(START)
            thread = feed._thread
            assert thread is not None
            while not feed._records:
                time.sleep(0.002)

            feed.close()
            thread.join(LONG)

        assert not thread.is_alive()

    def test_before_the_first_read_begins_nothing(self) -> None:
        endpoint = subscriptions()
        with endpoint.client() as client:
            feed = feed_of(client)
            feed.close()

            assert feed.read(START) == Page([], behind=None)

        assert endpoint.requests == []

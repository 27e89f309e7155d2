"""What subscriptions deliver, however it comes; and what is none."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit import Block, Divert, Record, RecordProcessor, Reject, Unavailable, lambda_handler
from streamkit.errors import BatchFailed, ConfigurationError, DecodeError, StreamkitError
from streamkit.event import decode
from streamkit.logs.delivery import Delivery, deliveries_of, read_deliveries
from streamkit.logs.origin import Origin, origin_of
from streamkit.testing import MemoryQueue, kinesis_event, logs_data, logs_event

LINES = ["one", "zwei ☃", '{"level": "INFO"}']


def messages(deliveries: list[Delivery]) -> list[list[str]]:
    return [[event.message for event in delivery.log_events] for delivery in deliveries]


def in_event(event: Any) -> list[list[str]]:
    return [found for record in decode(event).records for found in messages(deliveries_of(record))]


class TestWays:
    def test_directly(self) -> None:
        (record,) = decode(logs_event(LINES)).records

        (delivery,) = deliveries_of(record)

        assert (record.source, record.attempt) == ("logs", None)
        assert delivery.is_data
        assert (delivery.owner, delivery.log_group) == ("123456789012", "/aws/lambda/orders")
        assert delivery.subscription_filters == ["streamkit-logs"]
        assert messages([delivery]) == [LINES]
        assert delivery.log_events[1].timestamp == 1_767_225_600_001

    def test_through_a_stream(self) -> None:
        assert in_event(kinesis_event([logs_data(["a"]), logs_data(["b"])])) == [["a"], ["b"]]

    def test_several_members_of_gzip_in_one_record(self) -> None:
        assert messages(read_deliveries(logs_data(["a"]) + logs_data(["b", "c"]))) == [["a"], ["b", "c"]]

    @pytest.mark.parametrize("between", [b"", b"\n", b" \r\n\t"])
    def test_several_objects_one_after_another(self, between: bytes) -> None:
        texts = [gzip.decompress(logs_data([line])) for line in "abc"]
        assert messages(read_deliveries(between.join(texts) + b"\n")) == [["a"], ["b"], ["c"]]
        assert messages(read_deliveries(gzip.compress(between.join(texts)))) == [["a"], ["b"], ["c"]]

    def test_one_delivery_in_several_members(self) -> None:
        text = gzip.decompress(logs_data(LINES))
        assert messages(read_deliveries(gzip.compress(text[:50]) + gzip.compress(text[50:]))) == [LINES]

    def test_out_of_what_lambda_has_given_up(self) -> None:
        given_up = {
            "version": "1.0",
            "requestContext": {"condition": "RetriesExhausted"},
            "requestPayload": logs_event(LINES),
        }
        assert messages(read_deliveries(json.dumps(given_up).encode())) == [LINES]
        assert messages(read_deliveries(json.dumps(logs_event(LINES)).encode())) == [LINES]

    def test_out_of_a_retry_queue(self) -> None:
        queue, seen = MemoryQueue(), []

        class Once(RecordProcessor):
            name = "once"
            on_failure = Divert(queue)

            def process(self, record: Record) -> None:
                seen.append((record.event_id, messages(deliveries_of(record))))
                if record.attempt is None:
                    raise RuntimeError("not yet")

        function = lambda_handler(Once)
        assert function(logs_event(LINES)) == {"batchItemFailures": []}
        queue.advance(60)
        queue.deliver(function)

        assert seen == [seen[0]] * 2
        assert seen[0][1] == [LINES]

    @pytest.mark.parametrize(
        "control",
        [
            # As CloudWatch Logs puts it into a stream, again and again.
            b'{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs","logGroup":"","logStream":"","subscriptionFilters":[],'
            b'"logEvents":[{"id":"","timestamp":1480444320000,"message":"CWL CONTROL MESSAGE: Checking health of destination '
            b'Kinesis stream."}]}',
            gzip.decompress(logs_data(["reachable?"], message_type="CONTROL_MESSAGE")),
        ],
    )
    def test_a_control_message_has_no_data(self, control: bytes) -> None:
        for data in (control, gzip.compress(control)):
            (delivery,) = read_deliveries(data)
            assert not delivery.is_data
            assert delivery.log_events == []

        with_data = read_deliveries(logs_data(["a"]) + gzip.compress(control) + logs_data(["b"]))
        assert messages(with_data) == [["a"], [], ["b"]]


class TestAnswers:
    def test_the_id_is_that_of_the_delivery_at_each_of_lambdas_tries(self) -> None:
        ids = [decode(logs_event(lines)).records[0].event_id for lines in (LINES, LINES, ["other"])]
        assert ids[0] == ids[1] != ids[2]
        assert ids[0].startswith("logs/")

    @pytest.mark.parametrize("error", [RuntimeError("no"), Unavailable("no")])
    def test_what_fails_raises_and_lambda_delivers_it_again(self, error: Exception) -> None:
        class Fails(RecordProcessor):
            name = "fails"

            def process(self, record: Record) -> None:
                raise error

        with pytest.raises(BatchFailed, match="logs/"):
            lambda_handler(Fails)(logs_event(LINES))

    def test_what_is_no_base64_goes_to_dead_letters_as_it_came(self) -> None:
        letters = MemoryQueue()

        class Reads(RecordProcessor):
            name = "reads"
            on_failure = Block(letters)

            def process(self, record: Record) -> None:
                deliveries_of(record)

        assert lambda_handler(Reads)({"awslogs": {"data": "n&t base64"}}) == {"batchItemFailures": []}
        (letter,) = letters
        assert letter.undecoded == "n&t base64"

    def test_an_event_without_data_is_no_event(self) -> None:
        with pytest.raises(StreamkitError, match="has no data"):
            decode({"awslogs": {}})
        with pytest.raises(StreamkitError, match="streamkit knows"):
            decode({"awslogs": "text"})


class TestHostile:
    def test_a_bomb_is_rejected_before_it_is_unpacked(self) -> None:
        bomb = gzip.compress(gzip.compress(b"0" * 50_000_000))
        with pytest.raises(Reject, match="more than 10,000 bytes"):
            read_deliveries(gzip.compress(b"0" * 50_000_000), 10_000)
        # What is packed twice is no delivery, and is not unpacked twice.
        with pytest.raises(DecodeError, match="no delivery of CloudWatch Logs"):
            read_deliveries(bomb)

    def test_the_limit_is_of_all_members_together(self) -> None:
        member = logs_data(["x" * 1000])
        with pytest.raises(Reject, match="more than 3,000 bytes"):
            read_deliveries(member * 3, 3000)

    def test_the_limit_is_of_all_events_in_one_record_together(self) -> None:
        event = json.dumps({"requestPayload": logs_event(["x" * 1000])}).encode()
        size = len(gzip.decompress(logs_data(["x" * 1000])))

        assert messages(read_deliveries(event * 3, 3 * size)) == [["x" * 1000]] * 3
        with pytest.raises(Reject, match=f"more than {3 * size - 1:,} bytes"):
            read_deliveries(event * 3, 3 * size - 1)
        # What they stand in is unpacked, too.
        with pytest.raises(Reject, match=f"more than {size + 100:,} bytes"):
            read_deliveries(gzip.compress(event), size + 100)

    @pytest.mark.parametrize(
        ("data", "why"),
        [
            (b"", "it is empty"),
            (gzip.compress(b"", mtime=0), "it is empty"),
            (b"plain", "JSONDecodeError"),
            (b"[]", "Expected `object`"),
            (b'{"logGroup": "a"}', "missing required field `messageType`"),
            (b"[" * 100_000, "RecursionError"),
            (logs_data(["a"])[:-9], "ends early"),
            (logs_data(["a"])[:20] + b"xxxx" + logs_data(["a"])[24:], "damaged"),
            (gzip.decompress(logs_data(["a"])) + b"tail", "JSONDecodeError"),
            (gzip.decompress(logs_data(["a"], start=-5)), "Expected `int` >= 0"),
            (gzip.decompress(logs_data(["a"], start=10**18)), "Expected `int` <= 253402300799999"),
            (json.dumps({"requestPayload": {"awslogs": {"data": "?"}}}).encode(), "Error"),
        ],
    )
    def test_what_is_no_delivery_is_told_without_what_is_in_it(self, data: bytes, why: str) -> None:
        with pytest.raises(DecodeError, match=why):
            read_deliveries(data)

    def test_events_within_events_end(self) -> None:
        event: Any = logs_event(["a"])
        for _ in range(2):
            event = {"awslogs": {"data": base64.b64encode(json.dumps(event).encode()).decode()}}
        with pytest.raises(DecodeError, match="an event within an event"):
            read_deliveries(json.dumps(event).encode())

    def test_what_is_no_sound_text_in_it_is_replaced(self) -> None:
        text = gzip.decompress(logs_data(["good", "BAD"]))
        assert messages(read_deliveries(text.replace(b"BAD", b"\xff\xfe"))) == [["good", "\ufffd\ufffd"]]
        assert messages(read_deliveries(text.replace(b"BAD", rb"a\ud800b"))) == [["good", "a?b"]]

    def test_a_limit_below_one_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="1 or more"):
            read_deliveries(b"", 0)

    @given(st.binary(max_size=300))
    def test_whatever_the_bytes_are_nothing_else_is_raised(self, data: bytes) -> None:
        for content in (data, gzip.compress(data), b"\x1f\x8b" + data):
            with contextlib.suppress(DecodeError, Reject):
                read_deliveries(content, 10_000)


@pytest.mark.parametrize(
    ("group", "stream", "origin"),
    [
        ("/aws/lambda/orders", "2026/11/30/[$LATEST]0a1b", Origin("orders", "$LATEST", "0a1b")),
        ("/aws/lambda/orders", "2026/11/30/[12]0a1b", Origin("orders", "12", "0a1b")),
        ("/shared", "2026/11/30/orders[12][0a1b]", Origin("orders", "12", "0a1b")),
        ("/shared", "2026/11/30/orders[$LATEST]0a1b", Origin("orders", "$LATEST", "0a1b")),
        ("/aws/lambda/us-east-1.edge", "2026/11/30/[1]0a1b", Origin("edge", "1", "0a1b")),
        ("/aws/lambda/orders", "a stream of somebody's own", Origin("orders")),
        ("/ecs/web", "web/web/0a1b", Origin()),
        ("", "", Origin()),
    ],
)
def test_a_function_is_known_by_its_group_and_stream(group: str, stream: str, origin: Origin) -> None:
    assert origin_of(group, stream) == origin

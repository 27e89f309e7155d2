"""What is read of a record, whatever brought it, and what hostile input comes to."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit import correlation, kpl
from streamkit.correlation.capture import MOST_IDS, from_fields
from streamkit.correlation.value import Correlation, settings
from streamkit.envelope import Envelope
from streamkit.errors import ConfigurationError
from streamkit.event import decode
from streamkit.record import Record
from streamkit.testing import kinesis_event
from streamkit.wrapper import wrap

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
XRAY = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    correlation.configure(longest_chain=10, debug_rate=0.0)


def record_of(payload: Any) -> Record:
    return decode(kinesis_event([payload])).records[0]


def message(body: str, attributes: Any = None, system: Any = None) -> dict[str, Any]:
    return {
        "messageId": "m-1",
        "body": body,
        "attributes": system or {},
        "messageAttributes": attributes or {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:q",
    }


def attributes(**values: str) -> dict[str, Any]:
    return {name.replace("_", "-"): {"dataType": "String", "stringValue": value} for name, value in values.items()}


def of_message(raw: dict[str, Any]) -> Correlation:
    return correlation.of(decode({"Records": [raw]}).records[0])


class TestAStreamsRecord:
    def test_has_what_its_context_says_with_one_function_more_in_the_chain(self) -> None:
        context = {
            "x-correlation-id": "r-1",
            "X-Correlation-User-Id": "u-7",
            "traceparent": TRACE,
            "tracestate": "a=1, b=2",
            "debug-log-enabled": "true",
            "call-chain-length": 2,
            "awsRequestId": "not of the convention",
        }

        found = correlation.of(record_of({"id": 1, "__context__": context}))

        assert found.ids == {"x-correlation-id": "r-1", "x-correlation-user-id": "u-7"}
        assert (found.id, found.traceparent, found.tracestate) == ("r-1", TRACE, "a=1,b=2")
        assert (found.is_debug, found.call_chain_length) == (True, 3)

    def test_has_what_stands_at_the_top_of_its_object(self) -> None:
        found = correlation.of(record_of({"x-correlation-id": "r-1", "total": 5, "traceparent": TRACE}))

        assert (found.ids, found.traceparent) == ({"x-correlation-id": "r-1"}, TRACE)

    @pytest.mark.parametrize("payload", [b"\x00\x01", {"id": 1}, "no JSON", b"", [1], {"__context__": 7}])
    def test_is_followed_by_its_own_event_id_where_it_brings_none(self, payload: Any) -> None:
        record = record_of(payload)

        found = correlation.of(record)

        assert found.ids == {"x-correlation-id": record.event_id}
        assert (found.call_chain_length, found.is_debug, found.is_carried) == (1, False, False)

    def test_is_opened_out_of_the_binary_envelope(self) -> None:
        record = record_of(wrap(b'{"x-correlation-id":"r-1","call-chain-length":1}', b"\xff\x00"))

        assert correlation.of(record).id == "r-1"
        assert record.data == b"\xff\x00"
        assert correlation.of(record).call_chain_length == 2

    def test_of_json_in_the_binary_envelope_is_read_before_and_after_it_is_parsed(self) -> None:
        record = record_of(wrap(b'{"x-correlation-id":"r-1"}', b'{"id":1}'))

        assert record.json() == {"id": 1}
        assert correlation.of(record).id == "r-1"
        assert record.json() == {"id": 1}
        assert record.data == b'{"id":1}'

    def test_of_an_aggregate_is_opened_too(self) -> None:
        users = [
            kpl.UserRecord(wrap(b'{"x-correlation-id":"r-1"}', b"\x00"), "k"),
            kpl.UserRecord(b'{"__context__":{"x-correlation-id":"r-2"}}', "k"),
        ]

        records = decode(kinesis_event([kpl.aggregate(users)])).records

        assert [correlation.of(record).id for record in records] == ["r-1", "r-2"]
        assert records[0].data == b"\x00"

    @pytest.mark.parametrize(
        "data",
        [
            b"\xf5skc\x01",
            b"\xf5skc\x01\x00\x00\x00\x09{}",
            b"\xf5skc\x01\xff\xff\xff\xff{}",
            b"\xf5skc\x01\x00\x00\x00\x00",
            b"\xf5skc\x02\x00\x00\x00\x02{}data",
            b"\xf5skc\x01\x00\x00\x00\x02[]data",
        ],
    )
    def test_in_a_damaged_envelope_or_one_of_another_version_is_the_data_that_it_is(self, data: bytes) -> None:
        record = record_of(data)

        assert record.data == data
        assert not correlation.of(record).is_carried

    def test_whose_data_is_not_base64_has_its_event_id(self) -> None:
        event = kinesis_event([b""])
        event["Records"][0]["kinesis"]["data"] = "!"
        record = decode(event).records[0]

        assert correlation.of(record).id == record.event_id

    def test_is_not_parsed_unless_it_is_asked_for(self) -> None:
        record = record_of({"__context__": {"x-correlation-id": "r-1"}})

        record.json()

        assert record._correlation is None


class TestAMessage:
    def test_has_what_its_attributes_say(self) -> None:
        given = attributes(x_correlation_id="r-1", call_chain_length="4", traceparent=TRACE, debug_log_enabled="false")

        found = of_message(message("{}", given, {"AWSTraceHeader": XRAY}))

        assert (found.id, found.call_chain_length, found.traceparent, found.xray) == ("r-1", 5, TRACE, XRAY)

    def test_of_a_topic_has_those_of_its_notification(self) -> None:
        notification = {
            "MessageId": "m-1",
            "Message": "text",
            "MessageAttributes": {"x-correlation-id": {"Type": "String", "Value": "r-1"}},
        }

        record = decode({"Records": [{"EventSource": "aws:sns", "Sns": notification}]}).records[0]

        assert correlation.of(record).id == "r-1"

    def test_of_a_topic_in_a_queue_has_them_without_raw_delivery_too(self) -> None:
        body = {
            "Type": "Notification",
            "TopicArn": "arn:aws:sns:us-east-1:0:t",
            "Message": "text",
            "MessageAttributes": {"x-correlation-id": {"Type": "String", "Value": "r-1"}},
        }

        assert of_message(message(json.dumps(body))).id == "r-1"

    def test_without_attributes_has_what_its_body_says(self) -> None:
        found = of_message(message('{"__context__":{"x-correlation-id":"r-1","call-chain-length":"3"}}', None))

        assert (found.id, found.call_chain_length) == ("r-1", 4)

    def test_of_streamkits_own_has_what_its_envelope_says_and_counts_no_function_more(self) -> None:
        kept = {"x-correlation-id": "r-1", "call-chain-length": "3", "debug-log-enabled": "true"}
        envelope = Envelope(event_id="s/1:2:0", source="kinesis", processor="p", data=b"{}", correlation=kept)

        found = of_message(message(envelope.encode(), attributes(x_correlation_id="another")))

        assert (found.id, found.call_chain_length, found.is_debug) == ("r-1", 3, True)

    def test_in_an_envelope_that_keeps_nothing_has_what_its_data_says(self) -> None:
        data = b'{"__context__":{"x-correlation-id":"r-1"}}'
        envelope = Envelope(
            event_id="s/1:2:0", source="kinesis", processor="p", data=data, correlation={"lambda_request_id": "l-1"}
        )

        assert of_message(message(envelope.encode())).id == "r-1"


class TestXRay:
    def test_is_the_invocations_where_the_record_has_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("_X_AMZN_TRACE_ID", XRAY)

        assert correlation.of(record_of({})).xray == XRAY

    @pytest.mark.parametrize(
        "header",
        ["", "Root=1;x", XRAY + "\r\nX: y", XRAY + " ", "x" * 5000, "Root=1-zz-zz", XRAY + ";A=\x1b[2J", XRAY + ";A=é"],
    )
    def test_that_is_none_counts_as_not_there(self, header: str) -> None:
        assert of_message(message("{}", None, {"AWSTraceHeader": header})).xray is None

    @pytest.mark.parametrize(
        "header", [XRAY + ";Lineage=25:3bb4:0", "Self=1-67891233-abcdef012345678912345678;" + XRAY]
    )
    def test_may_have_more_fields(self, header: str) -> None:
        assert of_message(message("{}", None, {"AWSTraceHeader": header})).xray == header


class TestTheDebugFlag:
    def test_is_decided_once_and_the_same_at_every_redelivery(self) -> None:
        correlation.configure(debug_rate=0.5)
        event = kinesis_event([{"id": n} for n in range(200)])

        first = [correlation.of(record).is_debug for record in decode(event).records]
        again = [correlation.of(record).is_debug for record in decode(event).records]

        assert first == again
        assert 60 < sum(first) < 140

    def test_that_was_decided_before_stays_whatever_the_rate(self) -> None:
        correlation.configure(debug_rate=1.0)

        assert not correlation.of(record_of({"__context__": {"debug-log-enabled": "false"}})).is_debug
        assert correlation.of(record_of({})).is_debug

    @pytest.mark.parametrize(
        "options", [{"debug_rate": 2}, {"debug_rate": True}, {"longest_chain": 0}, {"longest_chain": "9"}]
    )
    def test_and_the_chain_have_settings_that_are_checked(self, options: Any) -> None:
        with pytest.raises(ConfigurationError):
            correlation.configure(**options)
        assert (settings.longest_chain, settings.debug_rate) == (10, 0.0)


class TestHostileInput:
    def test_a_value_is_cut_and_has_no_control_characters(self) -> None:
        found = from_fields({"x-correlation-id": "a\r\nSet-Cookie: b\x1b[2J\u202eé" + "x" * 1_000_000})

        assert len(found.id) == 256
        assert found.id.startswith("a??Set-Cookie: b?[2J??x")
        assert found.id.isprintable()
        assert found.id.isascii()

    def test_of_thousands_of_fields_twelve_ids_are_kept_and_the_first_of_all_among_them(self) -> None:
        given: dict[str, Any] = {f"x-correlation-n{n}": str(n) for n in range(5000)}

        found = correlation.of(record_of({"__context__": given, "x": 1}))
        flat = from_fields({**given, "x-correlation-id": "r-1"})

        assert len(found.ids) <= MOST_IDS
        assert len(flat.ids) == MOST_IDS
        assert flat.id == "r-1"

    @pytest.mark.parametrize("value", [None, [], {}, [["x"]], "", " ", "\x00"[:0], 10**30, {"a": 1}])
    def test_a_value_that_is_no_text_counts_as_not_there(self, value: Any) -> None:
        found = from_fields({"x-correlation-user": value}, own_id="own")

        assert found.ids == {"x-correlation-id": "own"}

    def test_numbers_and_truth_values_are_texts(self) -> None:
        found = from_fields({"x-correlation-a": 7, "x-correlation-b": True, "x-correlation-c": 1.5})

        assert found.ids == {"x-correlation-a": "7", "x-correlation-b": "true", "x-correlation-c": "1.5"}

    @pytest.mark.parametrize(
        "name", ["x-correlation-", "x-correlation-a b", "x-correlation-\n", "x-correlation-" + "a" * 51]
    )
    def test_a_name_that_is_none_counts_as_not_there(self, name: str) -> None:
        assert from_fields({name: "1"}).ids == {}

    @pytest.mark.parametrize(
        "value",
        [
            "",
            TRACE.upper(),
            "ff" + TRACE[2:],
            TRACE + "-00",
            TRACE.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
            TRACE.replace("00f067aa0ba902b7", "0" * 16),
            TRACE[:-1],
            "x" * 1_000_000,
            7,
        ],
    )
    def test_a_trace_parent_that_is_malformed_counts_as_not_there_and_its_state_with_it(self, value: Any) -> None:
        found = from_fields({"traceparent": value, "tracestate": "a=1"})

        assert (found.traceparent, found.tracestate) == (None, None)

    def test_a_trace_parent_of_a_later_version_is_read_as_the_first(self) -> None:
        assert from_fields({"traceparent": f"01{TRACE[2:]}-more"}).traceparent == TRACE
        assert from_fields({"traceparent": f"01{TRACE[2:]}more"}).traceparent is None

    @pytest.mark.parametrize("state", ["a", "a=1,=2", "A=1", "a=\x00", 7, "x" * 5000, "a=1,b=2\n=3"])
    def test_a_trace_state_that_is_malformed_is_left_out(self, state: Any) -> None:
        found = from_fields({"traceparent": TRACE, "tracestate": state})

        assert (found.traceparent, found.tracestate) == (TRACE, None)

    def test_a_trace_state_is_cut_to_whole_members(self) -> None:
        state = ",".join(f"k{n}={'v' * 100}" for n in range(10))

        found = from_fields({"traceparent": TRACE, "tracestate": state})

        assert found.tracestate == ",".join(f"k{n}={'v' * 100}" for n in range(4))

    @pytest.mark.parametrize(
        ("length", "read"),
        [
            (-5, 1),
            ("-5", 1),
            (10**30, 1_000_000),
            ("9" * 5000, 1_000_000),
            ("x", 1),
            (True, 1),
            (None, 1),
            (2.0, 1),
            ("٣", 1),
        ],
    )
    def test_a_length_of_the_chain_is_a_number_within_bounds(self, length: Any, read: int) -> None:
        assert from_fields({"call-chain-length": length}).call_chain_length == read

    @pytest.mark.parametrize(
        "payload",
        [
            b'{"__context__":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
            b'{"__context__":{"x-correlation-id":"' + b"x" * 1_000_000 + b'"}}',
            b'{"__context__":{"x-correlation-id":"\\ud800"}}',
            b'{"x-correlation-id":"\xff"}',
            b'{"__context__":{"x-correlation-id":"r-1"}',
            b'{"__context__":{"call-chain-length":' + b"9" * 5000 + b"}}",
            b"{" + b",".join(b'"x-correlation-%d":{}' % n for n in range(5000)) + b"}",
        ],
    )
    def test_a_payload_of_any_form_is_read_without_an_error(self, payload: bytes) -> None:
        record = record_of(payload)

        assert correlation.of(record).id == record.event_id

    @given(
        st.dictionaries(
            st.one_of(
                st.text(max_size=20),
                st.sampled_from(
                    ["x-correlation-id", "traceparent", "tracestate", "call-chain-length", "x-amzn-trace-id"]
                ),
            ),
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.text(), max_size=2)),
        )
    )
    def test_what_is_kept_is_printable_ascii_whatever_came(self, fields: dict[str, Any]) -> None:
        found = from_fields(fields, own_id="own")

        for name, value in found.fields().items():
            assert name.isascii()
            assert value.isascii()
            assert value.isprintable()
            assert 0 < len(value) <= 512
        assert found.id
        assert found.call_chain_length >= 1

    @given(
        st.recursive(st.one_of(st.none(), st.text(), st.integers()), lambda inner: st.dictionaries(st.text(), inner))
    )
    def test_an_event_with_anything_in_its_attributes_is_read(self, anything: Any) -> None:
        raw = message("{}")
        raw["messageAttributes"] = anything
        notification = {
            "EventSource": "aws:sns",
            "Sns": {"MessageId": "m", "Message": "x", "MessageAttributes": anything},
        }

        for one in (raw, notification):
            assert correlation.of(decode({"Records": [one]}).records[0]).ids


def test_the_data_of_the_event_that_is_decoded_stays_as_it_came() -> None:
    event = kinesis_event([wrap(b'{"x-correlation-id":"r"}', b"data")])

    correlation.of(decode(event).records[0])

    assert base64.b64decode(event["Records"][0]["kinesis"]["data"]).endswith(b"data")

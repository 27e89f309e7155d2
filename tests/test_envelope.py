from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamkit import kpl
from streamkit.envelope import MARK, VERSION, Envelope, UnknownVersion, open_envelope
from streamkit.errors import DecodeError, Retry
from streamkit.event import decode
from streamkit.record import Record
from streamkit.testing import kinesis_event

NOW = 1_700_000_000.0

envelopes = st.builds(
    Envelope,
    event_id=st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=1024),
    source=st.sampled_from(["kinesis", "sqs", "sns"]),
    processor=st.text(),
    data=st.none() | st.binary(),
    undecoded=st.none() | st.text(),
    partition_key=st.none() | st.text(),
    explicit_hash_key=st.none() | st.integers(0, 2**128 - 1).map(str),
    sequence_number=st.none() | st.integers(0, 10**56).map(str),
    sub_sequence_number=st.none() | st.integers(0, 10_000),
    shard_id=st.none() | st.text(),
    stream_arn=st.none() | st.text(),
    approximate_arrival_timestamp=st.none() | st.floats(0, 4e9),
    attempts=st.integers(0, 1000),
    not_before=st.none() | st.floats(0, 4e9),
    correlation=st.dictionaries(st.text(), st.text(), max_size=3),
)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamkit.envelope.time.time", lambda: NOW)


def record_of(data: bytes = b"payload", **options: Any) -> Record:
    return decode(kinesis_event([data], **options)).records[0]


def opened(body: str) -> Envelope:
    envelope = open_envelope(body)
    assert envelope is not None
    return envelope


class TestRoundTrip:
    @given(envelopes)
    def test_any_envelope_comes_back_as_it_was(self, envelope: Envelope) -> None:
        assert open_envelope(envelope.encode()) == envelope

    @given(envelopes)
    def test_the_text_is_ascii_on_one_line_and_marked(self, envelope: Envelope) -> None:
        body = envelope.encode()

        assert body.isascii()
        assert body.isprintable()
        assert json.loads(body)[MARK] == VERSION == 1

    @given(st.binary().filter(lambda data: not data.startswith(kpl.MAGIC)), st.text(min_size=1))
    def test_a_record_of_any_data_and_key_comes_back_as_it_was(self, data: bytes, key: str) -> None:
        record = record_of(data, partition_keys=[key])

        envelope = opened(Envelope.of(record, "orders").encode())

        assert envelope.data == data
        assert envelope.partition_key == key
        assert envelope.event_id == record.event_id

    @given(st.text(st.characters() | st.sampled_from("\ud800\udfff")))
    @example("\ud800")
    @example("\U0001f600 \udcff \U0001f600")
    def test_a_lone_surrogate_anywhere_does_not_make_it_unreadable(self, text: str) -> None:
        record = record_of()
        envelope = Envelope.of(record, text).failed(record, ValueError(text), counts=False)

        reopened = opened(envelope.encode())

        assert reopened.data == b"payload"
        assert len(reopened.failures) == 1


class TestOfARecord:
    def test_holds_the_record_and_where_it_came_from(self) -> None:
        record = record_of(b"payload", partition_keys=["k"], start=7, stream="orders")

        envelope = Envelope.of(record, "shop")

        assert envelope.event_id == "orders/shardId-000000000000:7:0"
        assert (envelope.source, envelope.processor) == ("kinesis", "shop")
        assert (envelope.data, envelope.undecoded) == (b"payload", None)
        assert (envelope.partition_key, envelope.sequence_number, envelope.sub_sequence_number) == ("k", "7", 0)
        assert envelope.shard_id == "shardId-000000000000"
        assert record.approximate_arrival_timestamp is not None
        assert envelope.approximate_arrival_timestamp == record.approximate_arrival_timestamp.timestamp()
        assert (envelope.attempts, envelope.failures, envelope.not_before) == (0, (), None)

    def test_keeps_what_could_not_be_decoded_as_text(self) -> None:
        event = kinesis_event([b"x"])
        event["Records"][0]["kinesis"]["data"] = "%%%"

        envelope = Envelope.of(decode(event).records[0], "shop")

        assert (envelope.data, envelope.undecoded) == (None, "%%%")
        assert opened(envelope.encode()) == envelope


class TestAFailure:
    def test_is_added_with_its_attempt_type_message_and_time(self) -> None:
        record = record_of()

        envelope = Envelope.of(record, "shop").failed(record, ValueError("total is missing"), counts=False)

        (failure,) = envelope.failures
        assert (failure.attempt, failure.type, failure.message) == (1, "ValueError", "ValueError: total is missing")
        assert failure.time.endswith("+00:00")

    def test_counts_or_does_not(self) -> None:
        record = record_of()
        envelope = Envelope.of(record, "shop")

        envelope = envelope.failed(record, ValueError(), counts=False)
        assert envelope.attempts == 0
        envelope = envelope.failed(record, ValueError(), counts=True)
        assert envelope.attempts == 1

    def test_only_the_latest_ten_are_kept(self) -> None:
        record = record_of()
        envelope = Envelope.of(record, "shop")

        for n in range(12):
            envelope = envelope.failed(record, ValueError(f"number {n}"), counts=True)

        assert envelope.attempts == 12
        assert [failure.message for failure in envelope.failures] == [f"ValueError: number {n}" for n in range(2, 12)]

    def test_its_message_does_not_hold_the_payload(self) -> None:
        record = record_of(b'{"card": "4111-1111"}')

        envelope = Envelope.of(record, "shop").failed(record, ValueError(record.data), counts=False)

        assert "4111" not in envelope.failures[0].message


class TestADelay:
    def test_within_the_queues_limit_is_the_messages(self) -> None:
        envelope, delay = Envelope.of(record_of(), "shop").delayed(900, 900.0)

        assert (envelope.not_before, delay) == (None, 900)
        assert envelope.early_by() == 0

    def test_beyond_the_queues_limit_is_a_not_before_time_too(self) -> None:
        envelope, delay = Envelope.of(record_of(), "shop").delayed(3600, 900.0)

        assert (envelope.not_before, delay) == (NOW + 3600, 900.0)
        assert envelope.early_by() == 3600

    def test_the_next_one_replaces_it(self) -> None:
        envelope, _ = Envelope.of(record_of(), "shop").delayed(3600, 900.0)

        envelope, delay = envelope.delayed(0, 900.0)

        assert (envelope.not_before, delay) == (None, 0)

    def test_that_is_over_lets_it_run(self) -> None:
        envelope = Envelope(event_id="e", source="sqs", processor="p", data=b"", not_before=NOW - 1)

        assert envelope.early_by() == 0


class TestOpening:
    @pytest.mark.parametrize(
        "body",
        [
            "",
            "text",
            "{}",
            "7",
            '{"data": "x"}',
            f"a text about {MARK}",
            f'["{MARK}"]',
            f'{{"note": "{MARK}"}}',
            f'{{"{MARK}": 1',
            f'{{"{MARK}": NaN}}',
            f'{{"nested": {{"{MARK}": 1}}}}',
        ],
    )
    def test_a_body_without_the_mark_is_none(self, body: str) -> None:
        assert open_envelope(body) is None

    @pytest.mark.parametrize("version", [0, 2, 99, -1, 1.5, "1", True, None, [1], {"v": 1}])
    def test_an_unknown_version_says_which(self, version: Any) -> None:
        with pytest.raises(UnknownVersion, match="reads version 1"):
            open_envelope(json.dumps({MARK: version, "data": {"new": "form"}}))

    @pytest.mark.parametrize(
        "change",
        [
            {"data": 7},
            {"data": "%%%"},
            {"source": "fax"},
            {"event_id": None},
            {"failures": [{"attempt": 1}]},
            {"not_before": "tomorrow"},
            {"attempts": math.pi},
            {"attempts": -1},
            {"attempts": 2**53 + 1},
            {"redrives": 2**63},
            {"not_before": 1e300},
            {"event_id": ""},
            {"event_id": "a\nERROR forged"},
            {"event_id": "a\x1b[2J"},
            {"event_id": "x" * 1025},
        ],
    )
    def test_a_fault_in_version_1_is_a_decode_error_without_the_payload(self, change: dict[str, Any]) -> None:
        record = record_of(b"4111-1111-4111-1111")
        fields = json.loads(Envelope.of(record, "shop").encode()) | change

        with pytest.raises(DecodeError, match="envelope of version 1") as caught:
            open_envelope(json.dumps(fields))

        assert "4111" not in str(caught.value)
        assert fields["data"] is None or str(fields["data"]) not in str(caught.value)

    @pytest.mark.parametrize("field", ["event_id", "source", "processor", "data"])
    def test_version_1_without_a_field_that_it_needs_is_a_decode_error(self, field: str) -> None:
        fields = json.loads(Envelope.of(record_of(), "shop").encode())
        del fields[field]

        with pytest.raises(DecodeError, match=field):
            open_envelope(json.dumps(fields))

    def test_fields_that_version_1_has_not_are_passed_over(self) -> None:
        envelope = Envelope.of(record_of(), "shop")
        fields = json.loads(envelope.encode()) | {"added_later": {"deep": [1, 2, {"x": None}]}}

        assert open_envelope(json.dumps(fields)) == envelope

    @pytest.mark.parametrize("body", ['{"new":%s,', '{"streamkit_envelope":1,"new":%s,'])
    def test_one_too_deep_to_look_into_is_a_decode_error_and_no_record_of_its_own(self, body: str) -> None:
        envelope = Envelope.of(record_of(), "shop").encode()

        with pytest.raises(DecodeError, match="too deep"):
            open_envelope(body % ("[" * 100_000 + "]" * 100_000) + envelope[1:])

    def test_the_longest_delay_of_all_ends_with_the_year_9999(self) -> None:
        envelope, _ = Envelope.of(record_of(), "shop").delayed(1e300, 900)

        assert opened(envelope.encode()).not_before == 253_402_300_799

    def test_retry_refuses_a_delay_that_no_envelope_could_hold(self) -> None:
        for delay in (-1, math.inf, math.nan):
            with pytest.raises(ValueError, match="seconds"):
                Retry(delay)


@pytest.mark.parametrize("page", ["semantics.md", "dead-letters.md"])
def test_the_pages_that_say_what_an_envelope_is_name_each_of_its_fields(page: str) -> None:
    text = (Path(__file__).resolve().parent.parent / "docs" / page).read_text()
    (table,) = re.findall(r"## The envelope, version 1\n(.*?)(?=\n## )", text, re.DOTALL)
    rows = [row for row in table.splitlines() if row.startswith("| `")]

    assert {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])} == set(
        Envelope.__struct_fields__
    )

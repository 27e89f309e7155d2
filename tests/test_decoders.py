"""No input of any shape raises anything but the documented errors: every reader of what comes from outside, by hypothesis.

Two kinds of input: values of any shape, and sound ones with a few places changed, which get further in.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pybase64
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamkit import DecodeError, Divert, Record, RecordProcessor, StreamkitError, lambda_handler
from streamkit.envelope import MARK, Envelope, UnknownVersion, open_envelope
from streamkit.errors import ConfigurationError
from streamkit.event import decode
from streamkit.handler import Handler
from streamkit.kpl import MAGIC, UserRecord, aggregate, deaggregate
from streamkit.local.documents import read_back
from streamkit.local.filters import Filters
from streamkit.local.mapping import read_answer
from streamkit.pattern import Pattern
from streamkit.progress.memory import MemoryProgress
from streamkit.testing import MemoryQueue, kinesis_event

HEAVY = settings(max_examples=300)

texts = st.text(st.characters()) | st.text(st.sampled_from('\ud800\udfff\0a1/:{"'), max_size=5)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([0, -1, 2**63, 2**64, 10**400, -(10**400)])
    | st.floats()
    | st.sampled_from([1e308, -1e308, 253402300800.0])
    | texts
    | st.sampled_from(["", "1", "-1", "1_0", "٣", "aws:kinesis", "aws:sqs", "aws:sns", "84maw", "84mawg=="])
)
#: What json.loads, with which Lambda's runtime reads its events, can give: NaN and lone surrogates too.
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all that is in a JSON value, the value itself first."""
    yield place
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in entries:
        yield from places(inner, (*place, name))


@st.composite
def changed(draw: st.DrawFn, sound: Any) -> Any:
    """A sound value, of a strategy, with up to three places in it replaced, left out or repeated."""
    value = copy.deepcopy(draw(sound))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from([place for place in places(value) if place] or [()]))
        if not place:
            return draw(values)
        holder = value
        for name in place[:-1]:
            holder = holder[name]
        change = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if change == "replace":
            holder[place[-1]] = draw(values)
        elif change == "remove":
            del holder[place[-1]]
        elif isinstance(holder, list):
            holder.append(copy.deepcopy(holder[place[-1]]))
        else:
            holder[draw(texts)] = draw(values)
    return value


@st.composite
def damaged(draw: st.DrawFn, sound: Any) -> bytes:
    """Sound bytes, of a strategy, cut, with bytes changed, put in or taken out."""
    content = bytearray(draw(sound))
    for _ in range(draw(st.integers(1, 4))):
        where = draw(st.integers(0, max(len(content) - 1, 0)))
        change = draw(st.sampled_from(["change", "insert", "delete", "cut"]))
        if change == "change" and content:
            content[where] = draw(st.integers(0, 255))
        elif change == "insert":
            content[where:where] = draw(st.binary(max_size=12))
        elif change == "delete":
            del content[where : where + draw(st.integers(1, 8))]
        else:
            del content[where:]
    return bytes(content)


# The KPL format.

messages = st.builds(
    lambda records: aggregate(records)[len(MAGIC) : -16],
    st.lists(
        st.builds(
            UserRecord,
            st.binary(max_size=40),
            st.sampled_from(["a", "ключ", "k" * 200]),
            st.none() | st.just("340282366920938463463374607431768211455"),
            st.sampled_from([(), (("t", None),), (("t", "v"), ("ü", ""))]),
        ),
        min_size=1,
        max_size=4,
    ),
)
# A number of ten bytes and more, in place of a size, an index or a header.
huge_varints = st.builds(
    lambda head, last: head + bytes([last]),
    st.binary(min_size=4, max_size=11).map(lambda content: bytes(byte | 128 for byte in content)),
    st.integers(0, 255),
)


def enveloped(message: bytes) -> bytes:
    """With the magic and the right checksum, so that the message is read."""
    return MAGIC + message + hashlib.md5(message).digest()


aggregates = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=60).map(lambda rest: MAGIC + rest),
    messages.map(enveloped),
    damaged(messages.map(enveloped)),
    damaged(messages).map(enveloped),
    st.lists(huge_varints | st.binary(max_size=3), max_size=6).map(lambda parts: enveloped(b"".join(parts))),
    st.builds(lambda before, varint, after: enveloped(before + varint + after), messages, huge_varints, messages),
)


@HEAVY
@given(aggregates)
@example(enveloped(b"\x1a" + b"\xff" * 9 + b"\x7f"))
@example(enveloped(b"\x0b" * 100_000))
def test_deaggregate_gives_records_or_a_decode_error(data: bytes) -> None:
    try:
        records = deaggregate(data)
    except DecodeError:
        assert data.startswith(MAGIC)
        assert deaggregate(data, lenient=True) is None
        return

    assert (records is None) is not data.startswith(MAGIC)
    assert [record.sub_sequence_number for record in records or []] == list(range(len(records or [])))


@HEAVY
@given(aggregates)
def test_deaggregate_raises_nothing_where_it_is_lenient(data: bytes) -> None:
    for record in deaggregate(data, lenient=True) or []:
        assert isinstance(record.data, bytes)
        assert record.error is None or isinstance(record.error, DecodeError)


# Records.


def records_of(data: Any) -> list[Record]:
    """The records of an event with one, whose data in the event is this text, or these bytes in base64."""
    event = kinesis_event([b""])
    event["Records"][0]["kinesis"]["data"] = pybase64.b64encode(data).decode() if isinstance(data, bytes) else data
    return decode(event).records


json_like = st.one_of(
    st.binary(max_size=60),
    damaged(values.map(lambda value: json.dumps(value).encode())),
    values.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.integers(1, 100_000).map(lambda depth: b"[" * depth),
    st.integers(1, 10_000).map(lambda digits: b"9" * digits),
    aggregates,
)


@HEAVY
@given(json_like | texts | texts.map(lambda text: "84maw" + text))
def test_data_and_json_of_a_record_are_values_or_decode_errors(data: bytes | str) -> None:
    for record in records_of(data):
        for read in (lambda r: r.data, Record.json, lambda r: r.decode(json.loads), lambda r: r.decode(int)):
            with suppress(DecodeError):
                read(record)


# Events.

ENVELOPE = Envelope(
    event_id="orders/shardId-000000000000:1:0",
    source="kinesis",
    processor="orders",
    data=b'{"id": 1}',
    partition_key="k",
    sequence_number="1",
    sub_sequence_number=0,
    shard_id="shardId-000000000000",
    stream_arn="arn:aws:kinesis:us-east-1:000000000000:stream/orders",
    approximate_arrival_timestamp=1_767_225_600.5,
    attempts=1,
    not_before=1.0,
    correlation={"trace": "1"},
).encode()
AGGREGATE = aggregate([UserRecord(b'{"id": 1}', "a"), UserRecord(b"not JSON", "b", "7")])
bodies = st.sampled_from([ENVELOPE, '{"id": 1}', "plain", ""]) | changed(st.just(json.loads(ENVELOPE))).map(json.dumps)


def sqs_event(bodies: list[str], queue: str) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": f"m-{n}",
                "body": body,
                "attributes": {"ApproximateReceiveCount": "1", "MessageGroupId": "g"},
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:us-east-1:000000000000:{queue}",
            }
            for n, body in enumerate(bodies)
        ]
    }


def sns_event(body: str) -> dict[str, Any]:
    return {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "n-1", "Message": body}}]}


sound_events = st.one_of(
    st.lists(st.sampled_from([b'{"id": 1}', b"\xff", AGGREGATE, AGGREGATE[:-1]]), min_size=1, max_size=3).map(
        kinesis_event
    ),
    st.builds(sqs_event, st.lists(bodies, min_size=1, max_size=3), st.sampled_from(["retries", "retries.fifo"])),
    st.builds(sns_event, bodies),
)
events = (
    changed(sound_events)
    | sound_events
    | values
    | st.builds(
        lambda source, raw: {"Records": [{"eventSource": source} | raw]}, scalars, st.dictionaries(texts, values)
    )
)


@HEAVY
@given(events, st.booleans())
def test_decode_gives_a_batch_or_a_streamkit_error(event: Any, lenient: bool) -> None:
    try:
        batch = decode(event, lenient=lenient)
    except StreamkitError:
        return

    assert len(batch.records) == len(batch.outcomes)


class Curious(RecordProcessor):
    """Looks at all that a record has, as a user may."""

    name = "curious"

    def process(self, record: Record) -> None:
        for name in ("event_id", "source", "attempt", "explicit_hash_key", "sub_sequence_number", "shard_id"):
            getattr(record, name)
        _ = record.partition_key, record.sequence_number, record.stream_arn, record.approximate_arrival_timestamp
        record.json()["id"]


class Diverting(Curious):
    on_failure = Divert(MemoryQueue(), dead_letters=MemoryQueue())


class Overlapping(Diverting):
    concurrency = 2


class Lenient(Curious):
    ordering = "shard"
    aggregates = "lenient"


class Remembering(Curious):
    progress = MemoryProgress()


HANDLERS = [lambda_handler(kind) for kind in (Curious, Diverting, Overlapping, Lenient, Remembering)]


@pytest.fixture
def no_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Thousands of failures would be thousands of lines."""
    with caplog.at_level(logging.CRITICAL, "streamkit"):
        yield


@settings(HEAVY, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(events, st.sampled_from(HANDLERS))
def test_a_handler_answers_or_raises_a_streamkit_error(no_log: None, event: Any, handler: Handler) -> None:
    try:
        answer = handler(event, None)
    except StreamkitError:
        return

    assert read_back(answer) == answer
    assert all(isinstance(failure["itemIdentifier"], str) for failure in answer["batchItemFailures"])


ODD: list[Any] = [
    *(None, True, 0, -1, 2**63, 10**400, 1.5, float("nan"), float("inf"), 1e300, -1e300),
    *("", "x", "٣", "\ud800", "9" * 5000, [], [[]], ["x"], {}, {"x": 1}),
]
ENVELOPE_EVENTS = [
    sqs_event([ENVELOPE, "x"], "retries"),
    sqs_event([ENVELOPE, "x"], "retries.fifo"),
    sns_event(ENVELOPE),
]


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: type(handler.processor).__name__)
@pytest.mark.parametrize("sound", [kinesis_event([b'{"id": 1}', AGGREGATE, b"x"]), *ENVELOPE_EVENTS])
def test_each_place_of_an_event_can_hold_anything(no_log: None, sound: Any, handler: Handler) -> None:
    for place in places(sound):
        for odd in ODD if place else ():
            event = copy.deepcopy(sound)
            holder = event
            for name in place[:-1]:
                holder = holder[name]
            holder[place[-1]] = odd
            with suppress(StreamkitError):
                assert isinstance(handler(event, None), dict)


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: type(handler.processor).__name__)
def test_each_field_of_an_envelope_can_hold_anything_and_costs_no_neighbour(no_log: None, handler: Handler) -> None:
    for field in json.loads(ENVELOPE):
        for odd in ODD:
            odd_one = json.dumps(json.loads(ENVELOPE) | {field: odd})
            answer = handler(sqs_event([odd_one, '{"id": 2}'], "retries"), None)
            assert {"itemIdentifier": "m-1"} not in answer["batchItemFailures"]


# Envelopes.


@HEAVY
@given(
    texts
    | texts.map(lambda text: f'{{"{MARK}": {text}}}')
    | values.map(lambda value: json.dumps({MARK: value}))
    | changed(st.just(json.loads(ENVELOPE))).map(json.dumps)
    | damaged(st.just(ENVELOPE.encode())).map(lambda body: body.decode("utf-8", "surrogateescape"))
)
@example(f'{{"{MARK}": {"9" * 5000}}}')
@example(f'{{"{MARK}": {"[" * 100_000}')
@example(ENVELOPE[:-1] + ', "new": ' + "[" * 100_000 + "]" * 100_000 + "}")
def test_open_envelope_gives_one_or_none_or_a_documented_error(body: str) -> None:
    try:
        envelope = open_envelope(body)
    except (DecodeError, UnknownVersion):
        return

    assert envelope is None or isinstance(envelope, Envelope)


# A function's answer.

numbers = st.lists(st.integers(0, 10**30), min_size=1, max_size=4, unique=True).map(sorted)


@HEAVY
@given(
    values.map(lambda value: json.loads(json.dumps(value)))
    | changed(
        st.builds(
            lambda names: {"batchItemFailures": [{"itemIdentifier": name} for name in names]},
            st.lists(st.integers(0, 5).map(str), max_size=3),
        )
    ),
    numbers,
    st.sampled_from(["batch_failed", "ignored"]),
)
def test_read_answer_gives_a_place_in_the_batch_or_none(answer: Any, numbers: list[int], unknown: Any) -> None:
    failed_at = read_answer(answer, numbers, unknown)

    assert failed_at is None or 0 <= failed_at <= len(numbers)


# Patterns and filters.

sound_patterns = st.sampled_from(
    [
        {"a": ["x", 1, None, True, {"prefix": "x"}], "b": {"c": [{"numeric": [">", 0, "<=", 5]}]}},
        {"$or": [{"a": [{"anything-but": ["x", "y"]}]}, {"b": {"c": [{"exists": False}]}}]},
        {"a": [{"anything-but": {"prefix": "x"}}, {"anything-but": 5}, {"equals-ignore-case": "x"}, {"suffix": "y"}]},
    ]
)
patterns = sound_patterns | changed(sound_patterns) | values | texts
names = st.sampled_from("abc")
objects = st.dictionaries(
    names,
    st.recursive(
        values, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=6
    ),
)


@HEAVY
@given(patterns, objects | values)
def test_a_pattern_matches_or_is_a_configuration_error(pattern: Any, event: Any) -> None:
    for given_as in (pattern, json.dumps(pattern)):
        try:
            compiled = Pattern(given_as)
        except ConfigurationError:
            continue
        assert compiled.matches(event) in (True, False)


@HEAVY
@given(
    st.lists(patterns.map(lambda pattern: {"data": pattern}), max_size=2)
    | values
    | values.map(lambda value: {"Filters": value})
    | changed(sound_patterns.map(lambda pattern: {"Filters": [{"Pattern": json.dumps({"data": pattern})}]})),
    json_like | objects.map(lambda value: json.dumps(value).encode()),
)
def test_filters_want_a_record_or_not_or_are_a_configuration_error(criteria: Any, data: bytes) -> None:
    try:
        filters = Filters(criteria)
    except ConfigurationError:
        return

    assert filters.wants(data) in (True, False)


@pytest.mark.parametrize("around", [b"[%b]", b'{"a":%b}'])
def test_data_of_any_depth_is_matched_or_dropped(around: bytes) -> None:
    filters = Filters(
        [{"data": {"a": [{"exists": False}], "b": {"c": [{"anything-but": 5}]}}}, {"data": {"a": {"a": [5]}}}]
    )
    opening, closing = around.split(b"%b")

    for depth in (1, 10, 100, 300, 500, 800, 1000, 3000, 100_000):
        assert filters.wants(opening * depth + b"5" + closing * depth) in (True, False)

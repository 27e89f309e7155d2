"""What is fuzzed: each target takes bytes of any kind, gives them to one reader of streamkit's, and asserts what holds of it.

An exception out of a target, other than those that the reader documents, is a finding. Targets keep no state between calls but
the handlers, which are to keep none. ``tests/fuzz/corpus/<target>`` holds inputs of each, and what was found by them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import inf
from typing import Any

import msgspec
import pybase64

from streamkit import (
    Block,
    DecodeError,
    Divert,
    Record,
    RecordProcessor,
    Reject,
    StreamkitError,
    b64,
    correlation,
    lambda_handler,
    positions,
)
from streamkit.claims.base import Claim
from streamkit.cli.journal import Journal, entry_of
from streamkit.cli.letter_list import _json_line, _letter, _line, _whole
from streamkit.cli.letters import Held
from streamkit.cli.put import Place, _field_of, _Line
from streamkit.cli.spool import Spool
from streamkit.cli.usage import moment, seconds
from streamkit.correlation.payload import attached
from streamkit.envelope import MARK, Envelope, UnknownVersion, open_envelope
from streamkit.errors import ConfigurationError, Unavailable
from streamkit.event import decode
from streamkit.kpl import MAGIC, UserRecord, aggregate, deaggregate
from streamkit.letters import Discarded, Message, Unreadable, deduplication_id, died_at, read
from streamkit.local.answer import read_answer
from streamkit.local.documents import EventRecords, event_of, failure_document, item_of, kinesis_record, read_back
from streamkit.local.filters import Filters
from streamkit.local.lane import Discard
from streamkit.logs.delivery import Delivery, LogEvent, read_deliveries
from streamkit.logs.document import document_of, index_of
from streamkit.logs.measures import measures_in
from streamkit.logs.reading import logged_in
from streamkit.pattern import Pattern
from streamkit.positions import MOST_BYTES, decode_entry, encode_entry
from streamkit.producer.future import Entry, PutFuture
from streamkit.producer.outbox import Outbox, Settings
from streamkit.producer.queues import Parcel
from streamkit.producer.shards import HASH_KEYS, Shard, ShardMap
from streamkit.progress.memory import MemoryProgress
from streamkit.recovery import Recovery
from streamkit.sinks.cloudwatch_metrics import CloudWatchMetricsSink
from streamkit.sinks.opensearch import OpenSearchSink
from streamkit.testing import MemoryQueue, kinesis_event
from streamkit.wrapper import MOST_CONTEXT, wrap

__all__ = ["TARGETS"]

ARN = "arn:aws:kinesis:us-east-1:000000000000:stream/orders"
SHARD = "shardId-000000000000"
NO_KEY = "\x00 no key"


def _assert_short(error: Exception, event_id: str | None = None) -> None:
    """A reason, and not the input; of a record, it names that."""
    assert len(str(error)) < 500
    assert event_id is None or (isinstance(error, DecodeError) and error.event_id == event_id)


def fuzz_aggregate(content: bytes) -> None:
    """A message of the KPL format, with the magic and the right checksum, so that it is read; as it is where it has a magic."""
    data = content if content.startswith(MAGIC) else MAGIC + content + hashlib.md5(content).digest()
    deaggregate(data, lenient=True)
    try:
        users = deaggregate(data)
    except DecodeError as error:
        _assert_short(error)
        return
    assert users is not None
    assert [user.sub_sequence_number for user in users] == list(range(len(users)))
    assert sum(len(user.data) for user in users) <= len(data)
    assert sum(user.error is not None for user in users) <= 100
    assert all(len(user.partition_key or "") <= 256 and len(user.explicit_hash_key or "") <= 39 for user in users)
    assert all(len(str(user.error)) < 500 for user in users if user.error is not None)
    with suppress(ValueError):  # Keys that no producer may put.
        assert deaggregate(aggregate(users)) == users


def fuzz_record(content: bytes) -> None:
    """Data of a record, as bytes and as the base64 text that it may be."""
    for encoded in (pybase64.b64encode(content).decode(), content.decode("latin-1")):
        event = kinesis_event([b""])
        event["Records"][0]["kinesis"]["data"] = encoded
        for record in decode(event).records:
            named = record.event_id
            try:
                record.data  # noqa: B018  # It is read when it is asked for.
                value = record.json()
            except DecodeError as error:
                _assert_short(error, named)
                continue
            # What is accepted, the standard library accepts too, and takes for the same.
            assert repr(json.loads(record.data)) == repr(value)


def fuzz_base64(content: bytes) -> None:
    """Both ways of decoding base64 say the same."""
    text = content.decode("utf-8", "surrogateescape")
    kept = b64._keeps_lock
    said: list[Any] = []
    try:
        for b64._keeps_lock in (False, True):
            try:
                said.append(b64.decode(text))
            except ValueError as error:
                said.append(str(error))
    finally:
        b64._keeps_lock = kept
    assert said[0] == said[1]


class Curious(RecordProcessor):
    """Looks at all that a record has, as a user may."""

    name = "curious"

    def process(self, record: Record) -> None:
        for name in ("event_id", "source", "attempt", "explicit_hash_key", "sub_sequence_number", "shard_id"):
            getattr(record, name)
        _ = record.partition_key, record.sequence_number, record.stream_arn, record.approximate_arrival_timestamp
        record.json()["id"]


def _diverting() -> RecordProcessor:
    """Anew each time: what its queues hold is looked at afterwards."""
    processor = Curious()
    processor.on_failure = Divert(MemoryQueue(), dead_letters=MemoryQueue())
    return processor


def _remembering() -> RecordProcessor:
    processor = Curious()
    processor.on_failure = Block(dead_letters=MemoryQueue())
    processor.progress = MemoryProgress()
    return processor


def _lenient() -> RecordProcessor:
    processor = Curious()
    processor.aggregates = "lenient"
    return processor


def fuzz_event(content: bytes) -> None:
    """An event, as Lambda's runtime gives it to a handler: what the standard library makes of JSON."""
    try:
        text = content.decode("utf-8", "surrogatepass")
        json.loads(text)
    except (ValueError, RecursionError):
        return
    for make in (_diverting, _remembering, _lenient):
        processor = make()
        try:
            answer = lambda_handler(processor)(json.loads(text), None)
        except StreamkitError:
            continue
        assert read_back(answer) == answer
        assert all(isinstance(failure["itemIdentifier"], str) for failure in answer["batchItemFailures"])
        for queue in (processor.on_failure.queue, processor.on_failure.dead_letters):
            for message in queue.messages if isinstance(queue, MemoryQueue) else ():
                message.body.encode("ascii")
                json.loads(message.body)


def _message_events(body: str) -> list[dict[str, Any]]:
    """An SQS message with this body, one with it in SNS's own JSON, and an SNS notification of it, a good one beside each."""
    wrapped = json.dumps({"Type": "Notification", "MessageId": "n-1", "Message": body})
    messages = [
        {
            "messageId": f"m-{n}",
            "body": text,
            "attributes": {"ApproximateReceiveCount": "1"},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:retries",
        }
        for n, text in enumerate([body, wrapped, '{"id": 1}'])
    ]
    notification = {"EventSource": "aws:sns", "Sns": {"MessageId": "n-1", "Message": body}}
    return [{"Records": messages}, {"Records": [notification]}]


def fuzz_envelope(content: bytes) -> None:
    """A message's body; without a mark in it, one is put before it, so that it is read as an envelope."""
    body = content.decode("utf-8", "surrogateescape")
    if MARK not in body:
        body = f'{{"{MARK}":1,{body}'
    try:
        envelope = open_envelope(body)
    except (DecodeError, UnknownVersion) as error:
        _assert_short(error)
    else:
        if envelope is not None:
            assert open_envelope(envelope.encode()) == envelope
            assert envelope.event_id.isprintable() or not envelope.event_id.isascii()
    sqs, sns = _message_events(body)
    answer = lambda_handler(_diverting())(sqs, None)
    assert {"itemIdentifier": "m-2"} not in answer["batchItemFailures"]
    with suppress(StreamkitError):
        lambda_handler(_diverting())(sns, None)


def fuzz_letters(content: bytes) -> None:
    """A message of a dead-letter queue and, behind a NUL, the body that it may claim; then all that is done with a letter."""
    body, _, claimed = content.decode("utf-8", "surrogateescape").partition("\x00")
    attributes = {"ErrorCode": "200", "ErrorMessage": body[:50]}

    def fetch(claim: Claim) -> str:
        if not claimed:
            raise DecodeError(f"its body is gone: there is no object {claim.place}", claim.event_id)
        return claimed

    for was_moved in (False, True):
        message = Message(id="m-1", body=body, attributes=attributes, sent_at=1.5, was_moved=was_moved)
        envelopes: list[Envelope] = []
        try:
            for given in read(message, fetch=fetch):
                if isinstance(given, Envelope):
                    envelopes.append(given)
                elif isinstance(given, Discarded) and given.records is not None:
                    envelopes += _nowhere.discarded(given).envelopes
        except (Unreadable, UnknownVersion, Unavailable) as error:
            _assert_short(error)
        _use(envelopes, message)


def _no_client(service: str, region: str) -> Any:
    raise AssertionError(f"{service} in {region} was asked for a document that has its records")


_nowhere = Recovery(_no_client)


def _use(envelopes: list[Envelope], message: Message) -> None:
    """What ``streamkit dead-letters`` and ``redrive`` do with letters."""
    spool, journal = Spool(), Journal(":memory:", "fuzz")
    try:
        for envelope in envelopes:
            assert open_envelope(envelope.encode()) == envelope
            assert all(len(failure.message) <= 500 for failure in envelope.failures[-1:])
            row = _letter(envelope, Held(message, "message m-1"))
            for shown in (
                _line(row, payload=True),
                *_whole(row, payload=True).splitlines(),
                _json_line(row, payload=True),
            ):
                assert shown.rstrip("\n").isprintable()
            died_at(envelope)
            again = envelope.put_back()
            assert deduplication_id(again) != deduplication_id(envelope)
            entry = entry_of(envelope)
            journal.confirm([entry], 2.0)
            assert journal.sent(entry)
            assert not journal.sent(entry_of(again))
            spool.add("m-1", envelope, entry, message.sent_at, was_sent=False)
        spool.arrange()
        count = 0
        while batch := spool.next(10):
            count += len(batch)
            spool.done([letter.number for letter in batch])
        assert count + spool.count("copy") <= len(envelopes)
        assert spool.settled() == (["m-1"] if envelopes else [])
    finally:
        spool.close()
        journal.close()


def fuzz_pattern(content: bytes) -> None:
    """A pattern and, behind a NUL, an event; also as the filter of a mapping, and the event as data."""
    pattern, _, data = content.partition(b"\x00")
    text = pattern.decode("utf-8", "replace")
    event: Any = None
    with suppress(ValueError, RecursionError):
        event = json.loads(data)
    try:
        compiled = Pattern(text)
    except ConfigurationError:
        compiled = None
    if compiled is not None:
        assert compiled.matches(event) in (True, False)
        assert Pattern(json.loads(text)).matches(event) is compiled.matches(event)
    try:
        filters = Filters([f'{{"data": {text}}}'])
    except ConfigurationError:
        return
    assert filters.wants(data) in (True, False)


def fuzz_answer(content: bytes) -> None:
    """A function's answer, and the batch that it is about."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError):
        return
    for numbers in ([1], [0, 5, 10**56]):
        for unknown in ("batch_failed", "ignored"):
            failed_at = read_answer(answer, numbers, unknown)
            assert failed_at is None or 0 <= failed_at <= len(numbers)


def fuzz_positions(content: bytes) -> None:
    """What a progress store gives back, inflated already, so that it is read."""
    most = positions.MOST_POSITIONS
    positions.MOST_POSITIONS = 10_000  # A few bytes make a million, and each input would take a second.
    try:
        entry = decode_entry(bytes([1, content[0] & 1]) + zlib.compress(content[1:]) if content else b"")
    except ValueError as error:
        _assert_short(error)
        return
    finally:
        positions.MOST_POSITIONS = most
    assert len(entry.positions) <= MOST_BYTES
    again = encode_entry(entry.positions, alone=entry.alone, most_bytes=MOST_BYTES * 2)
    if len(zlib.decompress(again[2:])) <= MOST_BYTES:
        assert decode_entry(again) == entry


def fuzz_put(content: bytes) -> None:
    """Lines, as ``streamkit put --json-key k`` reads them, packed into aggregates and not."""
    lines: list[_Line] = []
    for number, data in enumerate(content.split(b"\n")):
        try:
            key: str | None = _field_of(data, "k")
        except ValueError as error:
            _assert_short(error)
            key = None
        if data:
            lines.append(_Line(Place("-", number), data, key))
    by_key: dict[str | None, list[bytes]] = {}
    for line in lines:
        assert line.key is None or 1 <= len(line.key) <= 256
        by_key.setdefault(line.key, []).append(line.data)
    for packed in (False, True):
        put: dict[str | None, list[bytes]] = {}
        for record in _packed([Entry(line.data, line.key or NO_KEY, None, PutFuture(), 0.0) for line in lines], packed):
            content_of, key, _ = record.content()
            data = bytes(content_of)
            users = None if record.aggregation is None else deaggregate(data)
            for user in [UserRecord(data, key)] if users is None else users:
                put.setdefault(None if user.partition_key == NO_KEY else user.partition_key, []).append(user.data)
        assert put == by_key


def _packed(entries: list[Entry], is_aggregating: bool) -> Iterator[Parcel]:
    """As a producer sends them to one shard."""
    outbox = Outbox(Settings(is_aggregating=is_aggregating, linger=0.0, bytes_per_second=inf, records_per_second=inf))
    outbox.take_map(ShardMap([Shard(SHARD, 0, HASH_KEYS - 1)]), 0.0)
    outbox.add(entries)
    while request := outbox.take(0.0):
        yield from request.parcels
        outbox.answered(request, [{"ShardId": SHARD, "SequenceNumber": "1"}] * len(request.parcels), 0.0)


def fuzz_options(content: bytes) -> None:
    """Texts of the command line: times and spans of time."""
    text = content.decode("utf-8", "surrogateescape")
    for convert in (moment, seconds):
        with suppress(argparse.ArgumentTypeError):
            assert convert(text) is not None


def fuzz_documents(content: bytes) -> None:
    """A record of a stream through the engine's JSON, and the document about it once it was given up, back into a function."""
    key, _, data = content.partition(b"\x00")
    partition_key = key.decode("utf-8", "replace")[:256]
    number = int.from_bytes(data[:50], "big")
    arrived_at = int.from_bytes(data[-6:], "big") % 253_402_300_000_000 / 1000
    whole = kinesis_record(
        stream_arn=ARN,
        shard_id=SHARD,
        sequence_number=str(number),
        data=data,
        partition_key=partition_key or None,
        arrived_at=arrived_at,
    )
    raw = {
        "SequenceNumber": str(number),
        "Data": pybase64.b64encode(data).decode(),
        "ApproximateArrivalTimestamp": arrived_at,
        "PartitionKey": partition_key,
    }
    assert msgspec.json.decode(EventRecords(ARN, SHARD).encoded(raw)) == whole
    item = item_of(whole, arrived_at)
    batch = decode(event_of([item]), lenient=True)
    assert [record.sequence_number for record in batch.records] == [str(number)] * len(batch.records)
    for items in ((item,), ()):
        discard = Discard(items, "RetryAttemptsExhausted", 1)
        document = failure_document(discard, stream_arn=ARN, shard_id=SHARD, function_arn="f", now=arrived_at)
        assert read_back(document) == document
        for event in _message_events(json.dumps(document)):
            assert decode(event).records[0].json() == document


def fuzz_followed(content: bytes) -> None:
    """The data of a record, the context of its envelope, or the attributes of a message: what an event is followed by."""
    fields = {"x-correlation-id": "r-1", "call-chain-length": "2"}
    for data in (content, wrap(content, b"") if len(content) <= MOST_CONTEXT else content):
        _check_followed(correlation.of(decode(kinesis_event([data])).records[0]))
    text = content.decode("utf-8", "replace")
    attributes = {text[:64]: {"stringValue": text}} | {name: {"stringValue": text} for name in (*fields, "traceparent")}
    message = _message_events("{}")[0]
    message["Records"][0] |= {"messageAttributes": attributes, "attributes": {"AWSTraceHeader": text}}
    _check_followed(correlation.of(decode(message).records[0]))
    made = attached(content, fields, room=1_000)
    if made is not None:
        # Still JSON, or still in its envelope, and what was put in comes out.
        assert len(made) <= len(content) + 1_000
        found = correlation.of(decode(kinesis_event([made])).records[0])
        assert found.id
        assert found.call_chain_length >= 3


def _check_followed(found: correlation.Correlation) -> None:
    assert 1 <= len(found.ids) <= 12
    for name, value in found.log_fields().items():
        assert name.isascii()
        assert value.isascii()
        assert value.isprintable()
        assert len(value) <= 512


def fuzz_logs(content: bytes) -> None:
    """A delivery of CloudWatch Logs, and where it is none, a line of one: all that is made of it can be sent."""
    try:
        deliveries = read_deliveries(content, 1_000_000)
    except (DecodeError, Reject) as error:
        _assert_short(error)
        event = LogEvent("1", 1_767_225_600_000, content.decode("utf-8", "replace"))
        deliveries = [Delivery("DATA_MESSAGE", "/aws/lambda/orders", "2026/01/01/[1]a", "1", [], [event])]
    search, metrics = OpenSearchSink("search.example", "logs"), CloudWatchMetricsSink("shop")
    for logged in (one for delivery in deliveries for one in logged_in(delivery)):
        search.document(logged.event.id, document_of(logged), index=index_of("logs", logged.event.timestamp))
        for measure in measures_in(logged):
            metrics.value(
                measure.name, measure.value, unit=measure.unit, dimensions=measure.dimensions, time=measure.time
            )


TARGETS: dict[str, Callable[[bytes], None]] = {
    name.removeprefix("fuzz_"): target for name, target in list(globals().items()) if name.startswith("fuzz_")
}

#: An envelope, for inputs to begin with.
ENVELOPE = Envelope(
    event_id=f"orders/{SHARD}:1:0",
    source="kinesis",
    processor="orders",
    data=b'{"id": 1}',
    partition_key="k",
    sequence_number="1",
    sub_sequence_number=0,
    shard_id=SHARD,
    stream_arn=ARN,
    approximate_arrival_timestamp=1_767_225_600.5,
    attempts=1,
    not_before=1.0,
    correlation={"trace": "1"},
).encode()

"""What triggered the function, as records; and the outcomes, as the answer that the trigger understands.

| trigger | records | the answer names |
|---|---|---|
| Kinesis | each record of the shard, aggregates opened | the one lowest unsettled sequence number |
| SQS     | each message: an envelope's record, or the body | every unsettled message |
| SNS     | each notification, likewise | nothing: it raises, and Lambda delivers again |
| S3      | what happened to each object, as S3 tells it | nothing, likewise |
| Logs    | the one delivery of a subscription, as it came | nothing, likewise |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Literal

import msgspec
import pybase64

from . import errors, kpl
from .b64 import decode as b64decode
from .claims.base import MARK as CLAIM_MARK
from .claims.base import Claim, open_claim
from .envelope import MARK as ENVELOPE_MARK
from .envelope import Early, Envelope, open_envelope
from .errors import BatchFailed, DecodeError, StreamkitError, UnknownVersion
from .heartbeat import BASE64_PREFIX as HEARTBEAT_PREFIX
from .heartbeat import HEARTBEAT, is_heartbeat
from .outcome import DONE, NOT_STARTED, Failed, NotStarted, Outcome, Unavailable, is_settled
from .record import _UNPARSED, Record, Source
from .wrapper import MARK as WRAPPER_MARK
from .wrapper import unwrap

__all__ = [
    "OPENED",
    "Batch",
    "LogsRecord",
    "ObjectRecord",
    "OpenedRecord",
    "QueuedRecord",
    "StreamRecord",
    "decode",
    "decode_data",
    "is_warm_up",
    "response",
    "view",
]

#: ``batchItemFailures``; and ``state``, where the event is of a tumbling window.
Answer = dict[str, Any]
#: What fetches the body that a claim stands for.
Fetch = Callable[[Claim], str]

#: A field of a record's ``kinesis`` that Lambda does not send: the event's aggregates are open, and this is the record's place in
#: its own, from 0. All records of an event have it, or none. Where they do, the answer has it too, beside ``itemIdentifier``.
OPENED = "subSequenceNumber"

# A key of 1,024 bytes has three times as many with its escapes.
_LONGEST_NAME = 800
_TRIGGERS = (
    "trigger the function by a Kinesis stream, an SQS queue, an SNS topic, a bucket of S3 or a subscription of "
    "CloudWatch Logs"
)
# The name of X-Ray's header among what travelled beside a message.
_XRAY = "x-amzn-trace-id"

# What warmers send, by the field or the source that they send it with.
_WARM_UP_FIELDS = ("warmer", "warmup", "warm_up", "warm-up", "warm", "ping")
_WARM_UP_SOURCES = ("aws.events", "aws.scheduler", "serverless-plugin-warmup")


class StreamRecord(Record):
    """A record of a Kinesis event, or a user record of an aggregate in one. Facts are read from the event when asked for."""

    _raw: Any = None
    _user: kpl.UserRecord | None = None

    @property
    def event_id(self) -> str:
        raw, user = self._raw, self._user
        try:
            event_id = raw["eventID"]
        except KeyError:
            raise StreamkitError("a record of the event has no event id: this is not an event of Lambda's") from None
        return f"{_stream_of(raw.get('eventSourceARN'))}/{event_id}:{0 if user is None else user.sub_sequence_number}"

    @classmethod
    def _write_ids(cls, writes: Sequence[Any]) -> list[str]:
        # With every write it is asked for, and to call a property takes as long again as to make the text.
        ids, arn, stream = [], None, ""
        try:
            for write in writes:
                record = write._record
                if type(record) is not StreamRecord:
                    return super()._write_ids(writes)
                raw, user = record._raw, record._user
                if raw.get("eventSourceARN") != arn:
                    arn = raw["eventSourceARN"]
                    stream = _stream_of(arn)
                # Two texts, for one that tells them apart costs a tenth of the loop.
                if user is None:
                    ids.append(f"{stream}/{raw['eventID']}:0/{write._processor}/{write._n}")
                else:
                    ids.append(f"{stream}/{raw['eventID']}:{user.sub_sequence_number}/{write._processor}/{write._n}")
        except KeyError:
            return super()._write_ids(writes)
        return ids

    @property
    def source(self) -> Source:
        return "kinesis"

    @property
    def attempt(self) -> int | None:
        return 1

    @property
    def partition_key(self) -> str | None:
        user = self._user
        if user is not None and user.partition_key is not None:
            return user.partition_key
        key = self._raw["kinesis"].get("partitionKey")
        return key if type(key) is str and key else None

    @property
    def explicit_hash_key(self) -> str | None:
        return self._user.explicit_hash_key if self._user else None

    @property
    def sequence_number(self) -> str:
        number: str = self._raw["kinesis"]["sequenceNumber"]
        return number

    @property
    def sub_sequence_number(self) -> int:
        return self._user.sub_sequence_number if self._user else 0

    @property
    def shard_id(self) -> str:
        return str(self._raw.get("eventID", "")).partition(":")[0]

    @property
    def stream_arn(self) -> str:
        # With enhanced fan-out the event names the consumer: …:stream/orders/consumer/search:1700000000.
        arn = self._raw.get("eventSourceARN")
        return arn.partition("/consumer/")[0] if type(arn) is str else ""

    @property
    def approximate_arrival_timestamp(self) -> datetime | None:
        return _time(self._raw["kinesis"].get("approximateArrivalTimestamp"))

    @property
    def undecoded(self) -> str | None:
        if self._user is not None:
            return pybase64.b64encode(self._user.data).decode()
        data = self._raw["kinesis"].get("data")
        return data if isinstance(data, str) else None


class OpenedRecord(StreamRecord):
    """A record of an event whose aggregates were opened before (``OPENED``), as the Kinesis Client Library does it."""

    @property
    def event_id(self) -> str:
        return f"{super().event_id.removesuffix(':0')}:{self.sub_sequence_number}"

    @property
    def sub_sequence_number(self) -> int:
        number: int = self._raw["kinesis"][OPENED]
        return number


class QueuedRecord(Record):
    """A record that a queue or a topic brought: out of an envelope, or a message that is a record itself."""

    _source: Source = "sqs"
    _message_id: str = ""
    _group: str | None = None
    _body: str = ""
    _envelope: Envelope | None = None
    # What stood in the message in place of the body.
    _claim: Claim | None = None
    _sent_at: float | None = None
    # The message as Lambda's event has it.
    _raw: Any = None

    @property
    def envelope(self) -> Envelope | None:
        """The envelope that it came in, with its attempts so far; None where the message is a record itself."""
        return self._envelope

    @property
    def message_id(self) -> str:
        return self._message_id

    @property
    def body(self) -> str:
        """The message as it came."""
        return self._body

    @property
    def sent_at(self) -> float | None:
        """When SQS took the message, in seconds since the epoch; None where that is not told."""
        return self._sent_at

    @property
    def group(self) -> str | None:
        """The FIFO group that it has to keep order in."""
        return self._group

    @property
    def event_id(self) -> str:
        if self._envelope is not None:
            return self._envelope.event_id
        return self._claim.event_id if self._claim is not None else self._message_id

    @property
    def source(self) -> Source:
        return self._source

    @property
    def attempt(self) -> int | None:
        if self._source == "sns":
            return None
        return 2 + (self._envelope.attempts if self._envelope else 0)

    @property
    def partition_key(self) -> str | None:
        return self._envelope.partition_key if self._envelope else self._group

    @property
    def explicit_hash_key(self) -> str | None:
        return self._envelope.explicit_hash_key if self._envelope else None

    @property
    def sequence_number(self) -> str | None:
        return self._envelope.sequence_number if self._envelope else None

    @property
    def sub_sequence_number(self) -> int | None:
        return self._envelope.sub_sequence_number if self._envelope else None

    @property
    def shard_id(self) -> str | None:
        return self._envelope.shard_id if self._envelope else None

    @property
    def stream_arn(self) -> str | None:
        return self._envelope.stream_arn if self._envelope else None

    @property
    def approximate_arrival_timestamp(self) -> datetime | None:
        return _time(self._envelope.approximate_arrival_timestamp) if self._envelope else None

    @property
    def undecoded(self) -> str | None:
        return self._envelope.undecoded if self._envelope else self._body

    def _carried(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return self._envelope.correlation if self._envelope else {}, _attached(self._raw)


class ObjectRecord(Record):
    """What happened to one object in S3. The data is S3's own record of it, as JSON; ``streamkit.objects`` reads that."""

    # The record as Lambda's event has it.
    _raw: Any = None

    @property
    def event_id(self) -> str:
        """``<bucket>/<key>:<sequencer>``, the key with the escapes that S3 sends it with, and of a long one a digest; what has no
        sequencer has the event's name and the id of the request.
        """
        raw = self._raw
        what = raw["s3"]["object"]
        told = what.get("sequencer")
        if not isinstance(told, str):
            answers = raw.get("responseElements")
            request = answers.get("x-amz-request-id") if isinstance(answers, Mapping) else None
            told = f"{raw.get('eventName')}:{request or raw.get('eventTime')}"
        name: str = f"{raw['s3']['bucket']['name']}/{what['key']}"
        if len(name) > _LONGEST_NAME or not (name.isascii() and name.isprintable()):
            # An envelope's id has 1,024 characters at most, and none that a line of a log ends with.
            import hashlib

            name = f"s3/{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"
        return f"{name}:{told}"

    @property
    def source(self) -> Source:
        return "s3"

    @property
    def attempt(self) -> int | None:
        return None


class LogsRecord(Record):
    """What a subscription filter of CloudWatch Logs has delivered to the function itself: many log events, of one log stream. The
    data is gzip, as it comes through a stream; ``streamkit.logs`` reads both.
    """

    _digest: str = ""
    # As it came, in base64.
    _text: str = ""

    @property
    def event_id(self) -> str:
        """``logs/<SHA-256 of the delivery>``: the same at each of Lambda's tries."""
        return f"logs/{self._digest}"

    @property
    def source(self) -> Source:
        return "logs"

    @property
    def attempt(self) -> int | None:
        return None

    @property
    def undecoded(self) -> str | None:
        return self._text


class _Notification(msgspec.Struct):
    """What SNS delivers to a queue, without raw delivery."""

    Type: str
    TopicArn: str
    Message: str
    MessageAttributes: Any = None


_read_notification = msgspec.json.Decoder(_Notification).decode


class Batch(msgspec.Struct):
    """The records of one event in chronological order, and the outcome of each.

    An outcome is ``NOT_STARTED`` where the record is to be run, and another where decoding has decided already.
    """

    source: Literal["kinesis", "sqs", "sns", "s3", "logs"]
    records: list[Record]
    outcomes: list[Outcome]
    #: The indexes of those whose work or writes have failed in this invocation, wherever they are to go.
    failed: set[int] = msgspec.field(default_factory=set)
    #: The indexes of a stream's heartbeats, which are settled from the beginning.
    heartbeats: list[int] = msgspec.field(default_factory=list)
    #: Since when the oldest parked key is, in seconds since the epoch, where one was: as a stream's batch began, or as a queue's
    #: had run.
    parked_since: float | None = None
    #: How many keys were parked then; None where nobody parks, or the ledger could not be asked.
    parked_keys: int | None = None
    #: How many sinks' circuits were open when it was through, and how many probes it made; None where all have always answered.
    open_circuits: int | None = None
    probes: int = 0

    @property
    def is_asynchronous(self) -> bool:
        """Whether Lambda was given the event to deliver in its own time: it tries three times, and no answer names a record."""
        return self.source not in ("kinesis", "sqs")

    def is_done(self) -> bool:
        """Whether every record's work and writes are done: the usual case, told fast."""
        return self.outcomes.count(DONE) == len(self.outcomes)

    def key(self, index: int, ordering: str) -> str | None:
        """What the record at ``index`` keeps order within; None: nothing. A queue's order is that of its FIFO groups."""
        record = self.records[index]
        if isinstance(record, QueuedRecord):
            return record.group
        if ordering == "key":
            return record.partition_key
        return "" if ordering == "shard" else None


def is_warm_up(event: Any) -> bool:
    """Whether ``event`` is a ping of others that keeps a container warm: nothing at all, or what the usual warmers send."""
    if event is None or event == {}:
        return True
    if not isinstance(event, Mapping) or "Records" in event:
        return False
    return event.get("source") in _WARM_UP_SOURCES or any(event.get(field) for field in _WARM_UP_FIELDS)


def _fetch_nothing(claim: Claim) -> str:
    raise errors.Unavailable(f"nothing here fetches its body: {claim.place}")


def decode(event: Any, *, lenient: bool = False, fetch: Fetch = _fetch_nothing) -> Batch:
    """The records of a Kinesis, SQS, SNS, S3 or CloudWatch Logs event as Lambda sends it.

    A record whose data can't be decoded is in the batch, with its failure as its outcome. ``fetch`` gets the body that a
    message claims; what it finds unavailable is that record's outcome too. StreamkitError where the event
    is from another source, or is not of the form that Lambda gives.
    """
    raws = event.get("Records") if isinstance(event, Mapping) else None
    if not isinstance(raws, list):
        if isinstance(event, Mapping) and isinstance(logs := event.get("awslogs"), Mapping):
            return _decode_logs(logs)
        raise StreamkitError(f"this is not an event that streamkit knows ({_shape(event)}): {_TRIGGERS}")
    if not raws:
        return Batch("kinesis", [], [])
    source = _event_source(raws[0])
    if source == "aws:kinesis":
        if _is_opened(raws[0]):
            return _decode_opened(raws, lenient)
        return _decode_stream(raws, lenient)
    if source == "aws:sqs":
        return _decode_messages("sqs", raws, _sqs_record, fetch)
    if source == "aws:sns":
        return _decode_messages("sns", raws, _sns_record, fetch)
    if source == "aws:s3":
        return _decode_objects(raws)
    raise StreamkitError(f"records of the event source {str(source)[:60]!r} are not known to streamkit: {_TRIGGERS}")


def _decode_stream(raws: list[Any], lenient: bool) -> Batch:
    records: list[Record] = []
    damaged: list[int] = []
    heartbeats: list[int] = []
    prefixes = (kpl.BASE64_PREFIX, HEARTBEAT_PREFIX)
    append, make = records.append, StreamRecord
    for raw in raws:
        # The hot loop: what is not as it should be is found by what it raises.
        try:
            kinesis = raw["kinesis"]
            data, _ = kinesis["data"], kinesis["sequenceNumber"]
            if data.startswith(prefixes):
                raw["eventID"]  # What a damaged aggregate's error names.
                if data.startswith(HEARTBEAT_PREFIX) and (heartbeat := _heartbeat(data)) is not None:
                    heartbeats.append(len(records))
                    append(make(heartbeat, _UNPARSED, None, raw))
                    continue
                for record in _opened(raw, data, lenient):
                    if record.damage is not None:
                        damaged.append(len(records))
                    append(record)
            else:
                append(make(data, _UNPARSED, None, raw))
        except (KeyError, TypeError, AttributeError):
            damaged.append(len(records))
            append(_malformed(raw, len(records)))
    outcomes: list[Outcome] = [NOT_STARTED] * len(records)
    for index in damaged:
        outcomes[index] = _undecodable(records[index])
    for index in heartbeats:
        outcomes[index] = HEARTBEAT
    return Batch("kinesis", records, outcomes, heartbeats=heartbeats)


def _heartbeat(data: str) -> bytes | None:
    """The data of a heartbeat; None where it only begins as one."""
    try:
        content = pybase64.b64decode(data, validate=True)
    except ValueError:
        return None
    return content if is_heartbeat(content) else None


def _opened(raw: Any, data: str, lenient: bool) -> Iterator[StreamRecord]:
    """The user records of what looks like an aggregate."""
    try:
        content = pybase64.b64decode(data, validate=True)
        users = kpl.deaggregate(content, lenient=lenient)
    except DecodeError as error:
        yield StreamRecord(error, _UNPARSED, None, raw)
        return
    except ValueError:
        yield StreamRecord(DecodeError("the data is not valid base64"), _UNPARSED, None, raw)
        return
    if users is None:
        yield StreamRecord(content, _UNPARSED, None, raw)
        return
    for user in users:
        if user.data.startswith(WRAPPER_MARK) and user.error is None and (wrapped := unwrap(user.data)) is not None:
            yield StreamRecord(wrapped[1], _UNPARSED, wrapped[0], raw, user)
        else:
            yield StreamRecord(user.error or user.data, _UNPARSED, None, raw, user)


def _is_opened(raw: Mapping[str, Any]) -> bool:
    kinesis = raw.get("kinesis")
    return isinstance(kinesis, Mapping) and OPENED in kinesis


def _decode_opened(raws: list[Any], lenient: bool) -> Batch:
    """The records of an event whose aggregates are open. The data of each is a user's, whatever it looks like: but a record
    alone with its sequence number that looks like an aggregate was perhaps too damaged to be opened, and one that looks like
    a heartbeat was put as one.
    """
    records: list[Record] = []
    outcomes: list[Outcome] = []
    heartbeats: list[int] = []
    prefixes = (kpl.BASE64_PREFIX, HEARTBEAT_PREFIX)
    for index, raw in enumerate(raws):
        record: StreamRecord
        outcome: Outcome = NOT_STARTED
        try:
            kinesis = raw["kinesis"]
            data, sub = kinesis["data"], kinesis[OPENED]
            if type(sub) is not int:
                raise TypeError
            is_marked = data.startswith(prefixes)
        except (KeyError, TypeError, AttributeError):
            record = _malformed(raw, index)
        else:
            record = OpenedRecord(data, _UNPARSED, None, raw)
            if is_marked and sub == 0 and not _is_followed(raws, index):
                if data.startswith(kpl.BASE64_PREFIX):
                    record._data = _whole(data, lenient)
                elif (heartbeat := _heartbeat(data)) is not None:
                    record._data = heartbeat
                    outcome = HEARTBEAT
                    heartbeats.append(index)
        records.append(record)
        outcomes.append(outcome if record.damage is None else _undecodable(record))
    return Batch("kinesis", records, outcomes, heartbeats=heartbeats)


def _is_followed(raws: list[Any], index: int) -> bool:
    """Whether the record after this one has the same sequence number, and so both are of one aggregate."""
    if index + 1 == len(raws):
        return False
    try:
        return bool(raws[index + 1]["kinesis"]["sequenceNumber"] == raws[index]["kinesis"]["sequenceNumber"])
    except (KeyError, TypeError):
        return False


def _whole(data: str, lenient: bool) -> str | DecodeError:
    """``data``, or why it is a damaged aggregate."""
    try:
        kpl.deaggregate(pybase64.b64decode(data, validate=True), lenient=lenient)
    except DecodeError as error:
        return error
    except ValueError:
        return DecodeError("the data is not valid base64")
    return data


def _malformed(raw: Any, index: int) -> StreamRecord:
    """A record of the event without its data. It fails alone, as long as the answer can name it."""
    try:
        kinesis = raw["kinesis"]
        kinesis["sequenceNumber"], raw["eventID"]
    except (KeyError, TypeError):
        raise StreamkitError(
            f"record {index} of the event has no sequence number or event id, so no answer can name it: "
            "this is not an event of Lambda's"
        ) from None
    return StreamRecord(DecodeError("the record has no data"), _UNPARSED, None, raw)


def _decode_messages(
    source: Literal["sqs", "sns"], raws: list[Any], record_of: Callable[[Any], QueuedRecord], fetch: Fetch
) -> Batch:
    records: list[Record] = []
    outcomes: list[Outcome] = []
    for index, raw in enumerate(raws):
        try:
            record = record_of(raw)
        except (KeyError, TypeError, AttributeError):
            raise StreamkitError(
                f"message {index} of the event has no id or body, so no answer can name it: this is not an event of Lambda's"
            ) from None
        outcome: Outcome = NOT_STARTED
        try:
            record = _enveloped(_fetched(record, fetch))
        except (UnknownVersion, errors.Unavailable) as error:
            outcome = Unavailable(error)
        except DecodeError as error:
            record._data = error
        if record.damage is not None:
            outcome = _undecodable(record)
        elif source == "sqs" and record.envelope is not None and (early_by := record.envelope.early_by()):
            # From a topic it runs, early or not: to give it back would use up one of Lambda's three invocations, which are a
            # minute or two apart whatever was asked for, and the record could end without ever having run.
            outcome = Failed(Early(early_by))
        if type(record._data) is bytes and is_heartbeat(record._data):
            # Of a batch that Lambda has given up: it tells nothing any more, and is no record.
            outcome = HEARTBEAT
        records.append(record)
        outcomes.append(outcome)
    return Batch(source, records, outcomes)


def _decode_objects(raws: list[Any]) -> Batch:
    records: list[Record] = []
    for index, raw in enumerate(raws):
        try:
            record = ObjectRecord(msgspec.json.encode(raw), _UNPARSED, None, raw)
            record.event_id  # noqa: B018  # What names it, or nothing can.
        except (KeyError, TypeError, AttributeError):
            raise StreamkitError(
                f"record {index} of the event has no bucket or no key of an object, so nothing can name it: "
                "this is not an event of S3's"
            ) from None
        records.append(record)
    return Batch("s3", records, [NOT_STARTED] * len(records))


def _decode_logs(logs: Mapping[str, Any]) -> Batch:
    text = logs.get("data")
    if not isinstance(text, str):
        raise StreamkitError("the event of CloudWatch Logs has no data: this is not an event of Lambda's")
    import hashlib

    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return Batch("logs", [LogsRecord(text, _digest=digest, _text=text)], [NOT_STARTED])


def _sqs_record(raw: Any) -> QueuedRecord:
    body: str = raw["body"]
    # On a standard queue the group is for its fairness only, and promises no order.
    is_fifo = raw.get("eventSourceARN", "").endswith(".fifo")
    attributes = raw.get("attributes", {})
    group = attributes.get("MessageGroupId") if is_fifo else None
    return QueuedRecord(
        _bytes(body),
        _source="sqs",
        _message_id=_text(raw["messageId"]),
        _group=None if group is None else _text(group),
        _body=body,
        _sent_at=_milliseconds(attributes.get("SentTimestamp")) if is_fifo else None,
        _raw=raw,
    )


def _sns_record(raw: Any) -> QueuedRecord:
    body: str = raw["Sns"]["Message"]
    return QueuedRecord(_bytes(body), _source="sns", _message_id=_text(raw["Sns"]["MessageId"]), _body=body, _raw=raw)


def _attached(raw: Any) -> dict[str, Any]:
    """What a sender has attached to a message: its text attributes by name, and X-Ray's header."""
    attributes: Any = None
    system: Any = None
    if isinstance(raw, Mapping) and isinstance(notification := raw.get("Sns"), Mapping):
        attributes = notification.get("MessageAttributes")
    elif isinstance(raw, Mapping):
        attributes, system, body = raw.get("messageAttributes"), raw.get("attributes"), raw.get("body")
        if not attributes and isinstance(body, str) and '"Notification"' in body:
            # What a topic has put around the message, where its delivery to the queue is not raw.
            try:
                attributes = _read_notification(body).MessageAttributes
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                attributes = None
    found: dict[str, Any] = {}
    for name, one in attributes.items() if isinstance(attributes, Mapping) else ():
        if isinstance(one, Mapping) and isinstance(value := one.get("stringValue", one.get("Value")), str):
            found[name] = value
    if isinstance(system, Mapping) and "AWSTraceHeader" in system:
        found[_XRAY] = system["AWSTraceHeader"]
    return found


def _fetched(record: QueuedRecord, fetch: Fetch) -> QueuedRecord:
    """The record with the body that its message claims; the record as it is where the body is in the message."""
    claim = open_claim(record._body)
    if claim is None:
        if record._source == "sqs" and '"Notification"' in record._body:
            return _notified(record, fetch)
        return record
    # Whatever becomes of the body, this is the record of that event.
    record._claim = claim
    body = fetch(claim)
    return msgspec.structs.replace(record, _data=_bytes(body), _body=body)


def _notified(record: QueuedRecord, fetch: Fetch) -> QueuedRecord:
    """The record in what a topic has put around streamkit's own message, where its delivery to the queue is not raw. Around
    any other message it is the data that it always was.
    """
    try:
        notification = _read_notification(record._body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return record
    message = notification.Message
    if notification.Type != "Notification" or (ENVELOPE_MARK not in message and CLAIM_MARK not in message):
        return record
    inner = msgspec.structs.replace(record, _data=_bytes(message), _body=message)
    if open_claim(message) is not None:
        return _fetched(inner, fetch)
    return inner if open_envelope(message) is not None else record


def _enveloped(record: QueuedRecord) -> QueuedRecord:
    """The record in the envelope that is its body; the record as it is where the body is none."""
    envelope = open_envelope(record._body)
    if envelope is None:
        return record
    data = DecodeError("the data could not be decoded") if envelope.data is None else envelope.data
    return msgspec.structs.replace(record, _data=data, _envelope=envelope)


def decode_data(batch: Batch) -> None:
    """Decode the data of a stream's records here and now, for several to read. What can't be is left to who asks for it."""
    for record in batch.records:
        data = record._data
        if type(data) is str:
            try:
                content = b64decode(data)
            except ValueError:
                continue
            record._data = record._unwrapped(content) if content.startswith(WRAPPER_MARK) else content


def view(record: Record) -> Record:
    """The same record for another reader: what one makes of it, the other does not see. The bytes are shared."""
    if type(record) is StreamRecord:
        return StreamRecord(record._data, _UNPARSED, record._correlation, record._raw, record._user)
    return msgspec.structs.replace(record, _json=_UNPARSED)


def response(batch: Batch) -> Answer:
    """The answer to the trigger; BatchFailed where it can only be an exception.

    An identifier is left out only if its record is settled: nothing else lets a checkpoint pass or a message go.
    """
    outcomes = batch.outcomes
    if batch.is_done():
        return {"batchItemFailures": []}
    unsettled = [record for record, outcome in zip(batch.records, outcomes, strict=True) if not is_settled(outcome)]
    if not unsettled:
        return {"batchItemFailures": []}
    if batch.source == "kinesis":
        lowest = min((record.sequence_number or "" for record in unsettled), key=_position)
        failure: dict[str, Any] = {"itemIdentifier": lowest}
        if isinstance(unsettled[0], OpenedRecord):
            subs = [record.sub_sequence_number or 0 for record in unsettled if record.sequence_number == lowest]
            failure[OPENED] = min(subs)
        return {"batchItemFailures": [failure]}
    if batch.is_asynchronous:
        raise BatchFailed(f"{unsettled[0].event_id} failed; its reason is in the log. Lambda delivers it again")
    return {
        "batchItemFailures": [
            {"itemIdentifier": record.message_id} for record in unsettled if isinstance(record, QueuedRecord)
        ]
    }


def _position(sequence_number: Any) -> int:
    try:
        return int(_text(sequence_number))
    except (TypeError, ValueError):
        raise StreamkitError(
            "a record of the event has a sequence number that is none, so no answer can name the lowest: "
            "this is not an event of Lambda's"
        ) from None


def made_no_progress(batch: Batch) -> Record | None:
    """The record that the next invocation has to begin with again, where this one ran out of time within an aggregate
    at the start of its batch: it will run out of time there again, and for ever. None where that did not happen.
    """
    if batch.source != "kinesis" or not batch.records or isinstance(batch.records[0], OpenedRecord):
        return None
    first = batch.records[0].sequence_number
    for record, outcome in zip(batch.records, batch.outcomes, strict=True):
        if not is_settled(outcome):
            stuck = isinstance(outcome, NotStarted) and record.sequence_number == first
            return record if stuck else None
    return None


def _undecodable(record: Record) -> Failed:
    damage = record.damage
    return Failed(DecodeError(str(damage), record.event_id))


def _event_source(raw: Any) -> str | None:
    if not isinstance(raw, Mapping):
        return None
    source: str | None = raw.get("eventSource") or raw.get("EventSource")
    return source


def _stream_of(arn: object) -> str:
    return _stream_name(arn) if type(arn) is str else ""


@lru_cache(maxsize=64)
def _stream_name(arn: str) -> str:
    parts = arn.split("/")
    return parts[1] if len(parts) > 1 else ""


def _time(seconds: Any) -> datetime | None:
    """None too where it is no time: an envelope can hold any number there, and its record is none the worse for it."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _milliseconds(text: Any) -> float | None:
    """Seconds, of milliseconds as a text."""
    try:
        return int(text) / 1000
    except (TypeError, ValueError):
        return None


def _text(value: Any) -> str:
    """TypeError where it is none."""
    if not isinstance(value, str):
        raise TypeError
    return value


def _bytes(text: str) -> bytes:
    # A lone surrogate can come in JSON's escapes; it has no bytes, and must not take the other messages down.
    return text.encode("utf-8", "surrogatepass")


def _shape(event: Any) -> str:
    """What an event looks like, without its values."""
    if isinstance(event, Mapping):
        return "its fields are " + (", ".join(sorted(str(field) for field in event)[:10]) or "none")
    return f"a {type(event).__name__}"

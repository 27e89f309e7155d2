"""What a dead-letter queue holds, read: envelopes, and what AWS itself puts there.

| a message or an object | what it is read as |
|---|---|
| an envelope, or a claim whose body is one | that envelope |
| an SNS notification around one of the others | the other |
| a failure document of a Kinesis event source mapping | ``Discarded``: which records, and in S3 the records themselves |
| an event that Lambda gave up, as a function's dead-letter queue gets it (SNS, SQS or Kinesis) | an envelope for each record |
| the JSON of an on-failure destination, with ``requestPayload`` | an envelope for each record of that event |
| an S3 notification | ``Stored``: where the document is |
| anything else that a queue's own redrive policy has moved | an envelope with the message as its data |

Everything else raises ``Unreadable``, which says why: it stays where it is. Nothing here asks a service; ``recovery`` does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import unquote_plus

import msgspec

from .claims.base import Claim, open_claim
from .envelope import Envelope, Failure, open_envelope
from .errors import DecodeError, StreamkitError, Unavailable, UnknownVersion
from .event import QueuedRecord, decode
from .heartbeat import HEARTBEAT
from .outcome import Unavailable as Undecided
from .record import MOST_DIGITS, Record

__all__ = [
    "Discarded",
    "Given",
    "Message",
    "Stored",
    "Unreadable",
    "deduplication_id",
    "died_at",
    "function_name",
    "iso",
    "notified",
    "open_event",
    "read",
]

# What AWS nests: a notification around a document.
_DEEPEST = 4
# As long as a reason in an envelope may be (see streamkit.reason).
_LONGEST = 200
_STREAM_ARN = re.compile(r"arn:[\w-]+:kinesis:([\w-]+):(\d*):stream/([\w.-]{1,128})")
_json = msgspec.json.Decoder().decode


class Unreadable(StreamkitError):
    """A message that is none of those that this module knows, or is damaged. The text has nothing of its payload."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A text with what its queue says about it.

    ``attributes`` are the texts of its message attributes, where Lambda writes why it gave up. ``sent_at`` is in seconds since
    the epoch. ``was_moved``: a queue's own redrive policy has put it here, so it is a message of that queue, whatever it
    looks like, but for what Lambda alone writes. ``group`` is that of a FIFO queue.
    """

    id: str
    body: str
    attributes: Mapping[str, str] = {}
    sent_at: float | None = None
    was_moved: bool = False
    group: str | None = None


class Discarded(msgspec.Struct, frozen=True, kw_only=True):
    """A failure document: what an event source mapping has given up. ``first`` and ``last`` are None where there was no record.

    ``records`` are there in a document from S3, in the form of ``Records`` in Lambda's event; elsewhere a document has no data.
    """

    condition: str
    request_id: str
    function_arn: str
    invocations: int
    function_error: str | None
    time: str
    stream_arn: str
    shard_id: str
    first: str | None
    last: str | None
    first_arrival: str | None
    last_arrival: str | None
    batch_size: int
    records: list[Any] | None = None

    @property
    def stream(self) -> str:
        return self.stream_arn.partition("/")[2]

    @property
    def region(self) -> str:
        return self.stream_arn.split(":")[3]

    def failure(self, note: str = "") -> Failure:
        """How each of its records failed, as an envelope tells it."""
        ended = "its function had failed" if self.function_error else "its function had answered that they failed"
        if self.condition == "RecordAgeExceeded":
            ended = "they were older than the mapping allows"
        times = f"after {self.invocations} invocation{'' if self.invocations == 1 else 's'}"
        message = f"{self.condition}: given up by Lambda {times}: {ended}"
        return Failure(attempt=1, type=self.condition, message=message + note, time=self.time)


class Stored(msgspec.Struct, frozen=True):
    """An object in S3 that is to be read next."""

    bucket: str
    key: str
    version: str | None = None


Given = Envelope | Discarded | Stored
Fetch = Callable[[Claim], str]


def read(message: Message, *, processor: str = "", fetch: Fetch | None = None) -> list[Given]:
    """What ``message`` is. Empty where it is of no consequence, as the test event that S3 sends to a new destination.

    ``processor`` is the name for records whose message does not say in which they failed; by default the function's own name.
    ``fetch`` gets the text of a claim. Raises Unreadable and UnknownVersion, and what ``fetch`` raises.
    """
    return _read(message, processor, fetch, _DEEPEST)


def _read(message: Message, processor: str, fetch: Fetch | None, depth: int) -> list[Given]:
    body = _claimed(message.body, fetch)
    try:
        envelope = open_envelope(body)
    except DecodeError as error:
        raise Unreadable(str(error)) from None
    if envelope is not None:
        return [envelope]
    try:
        document = _json(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        document = None
    if isinstance(document, dict):
        if isinstance(document.get("KinesisBatchInfo"), dict):
            return [_discarded(document)]
        try:
            if _is_notification(document):
                if depth == 0:
                    raise Unreadable("notifications within notifications, more than AWS ever nests")
                return _read(notified(document, message), processor, fetch, depth - 1)
            if not message.was_moved or _is_lambdas_alone(document):
                return _of_lambda(document, message, processor, fetch)
        except Unreadable:
            if not message.was_moved:
                raise
    if message.was_moved:
        return [_message_as_record(message, processor)]
    raise Unreadable("it is neither an envelope nor a document of AWS's that streamkit knows")


def _is_notification(document: dict[str, Any]) -> bool:
    return (
        document.get("Type") == "Notification" and "TopicArn" in document and isinstance(document.get("Message"), str)
    )


def notified(notification: Mapping[str, Any], outer: Message | None = None) -> Message:
    """The message in an SNS notification, as a queue gets it or as ``Sns`` in Lambda's event has it: its attributes tell why
    Lambda gave up, where a function's dead-letter queue is a topic. ``outer`` is what the notification came in.
    """
    attributes = dict(outer.attributes) if outer is not None else {}
    named = notification.get("MessageAttributes")
    for name, value in named.items() if isinstance(named, Mapping) else ():
        text = value.get("Value") if isinstance(value, Mapping) else None
        if isinstance(text, str):
            attributes[str(name)] = text
    sent_at = outer.sent_at if outer is not None else None
    if sent_at is None:
        sent_at = _seconds(str(notification.get("Timestamp") or ""))
    name = str(notification["MessageId"]) if outer is None else outer.id
    return Message(id=name, body=notification["Message"], attributes=attributes, sent_at=sent_at)


def _is_lambdas_alone(document: dict[str, Any]) -> bool:
    """Whether nobody but Lambda writes such a thing: it was on its way to ``processors/dead_letters.py``, and is no record."""
    context = document.get("requestContext")
    if "requestPayload" in document and isinstance(context, dict):
        return "functionArn" in context and "condition" in context
    records = document.get("Records")
    return isinstance(records, list) and bool(records) and all(_is_of_lambdas_bucket(record) for record in records)


def _is_of_lambdas_bucket(record: Any) -> bool:
    """Whether it tells of an object with the key that Lambda gives to a document."""
    if not isinstance(record, dict) or record.get("eventSource") != "aws:s3":
        return False
    try:
        return _stored(record).key.startswith("aws/lambda/")
    except Unreadable:
        return False


def _claimed(body: str, fetch: Fetch | None) -> str:
    try:
        claim = open_claim(body)
        if claim is None:
            return body
        if fetch is None:
            raise Unavailable(f"its body is {claim.place}, and nothing here reads it")
        return fetch(claim)
    except DecodeError as error:
        raise Unreadable(str(error)) from None


def _of_lambda(document: dict[str, Any], message: Message, processor: str, fetch: Fetch | None) -> list[Given]:
    if "requestPayload" in document and isinstance(document.get("requestContext"), dict):
        failure, arn, count = _destination_failure(document, message)
        named = processor or function_name(arn)
        return list(_after_lambda(open_event(document["requestPayload"], named, fetch), failure, count))
    if document.get("Event") == "s3:TestEvent":
        return []
    records = document.get("Records")
    if not isinstance(records, list) or not records:
        known = [name for name in ("DDBStreamBatchInfo",) if name in document]
        what = (
            f"a document of AWS's with {known[0]}, which is not about Kinesis"
            if known
            else "a JSON object of no known form"
        )
        raise Unreadable(f"it is {what}")
    if isinstance(records[0], dict) and records[0].get("eventSource") == "aws:s3":
        return [_stored(record) for record in records]
    code = message.attributes.get("ErrorCode")
    text = _line(message.attributes.get("ErrorMessage", ""))
    failure = Failure(
        attempt=None,
        type="Lambda" if code is None else f"Lambda{_line(code)}",
        message=f"given up by Lambda: {text}" if text else "given up by Lambda",
        time=iso(message.sent_at),
    )
    return list(_after_lambda(open_event(document, processor, fetch), failure, 1))


def open_event(event: Any, processor: str, fetch: Fetch | None) -> list[Envelope]:
    """An envelope for each record of an event as Lambda sends it, and none for a stream's heartbeats, which nobody looks for.

    Unreadable where it is no event of Kinesis, SQS or SNS.
    """
    if not isinstance(event, dict) or not event.get("Records"):
        raise Unreadable("the event in it has no records")
    try:
        batch = decode(event) if fetch is None else decode(event, fetch=fetch)
    except UnknownVersion:
        raise
    except (StreamkitError, ValueError, TypeError, AttributeError) as error:
        raise Unreadable(f"the event in it: {error}") from None
    envelopes = []
    for record, outcome in zip(batch.records, batch.outcomes, strict=True):
        if outcome is HEARTBEAT:
            continue
        if isinstance(outcome, Undecided):
            raise outcome.error
        if isinstance(record, QueuedRecord) and record.damage is not None and record.envelope is None:
            raise Unreadable(f"a message in its event: {record.damage}")
        envelopes.append(_envelope_of(record, processor))
    return envelopes


def _envelope_of(record: Record, processor: str) -> Envelope:
    if isinstance(record, QueuedRecord) and record.envelope is not None:
        return record.envelope
    try:
        envelope = Envelope.of(record, processor)
        # What is written has to be read back one day: in a hostile event a number can stand for a text.
        return msgspec.convert(msgspec.to_builtins(envelope), Envelope)
    except (StreamkitError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unreadable(f"a record in it: {error}") from None


def _after_lambda(envelopes: list[Envelope], failure: Failure, count: int) -> list[Envelope]:
    return [
        msgspec.structs.replace(
            envelope, attempts=envelope.attempts + count, failures=(*envelope.failures, failure)[-10:]
        )
        for envelope in envelopes
    ]


def _destination_failure(document: dict[str, Any], message: Message) -> tuple[Failure, str, int]:
    context = document["requestContext"]
    answer = document.get("responsePayload")
    answer = answer if isinstance(answer, dict) else {}
    condition = _line(context.get("condition") or "RetriesExhausted")
    kind = _line(answer.get("errorType") or condition)
    text = _line(answer.get("errorMessage") or "")
    time = document.get("timestamp")
    if not isinstance(time, str) or _seconds(time) is None:
        time = iso(message.sent_at)
    count = context.get("approximateInvokeCount")
    count = count if isinstance(count, int) and not isinstance(count, bool) and 0 < count < 1000 else 1
    return (
        Failure(attempt=None, type=kind, message=f"{condition}: {kind}: {text}" if text else condition, time=time),
        str(context.get("functionArn") or ""),
        count,
    )


def _stored(record: Any) -> Stored:
    try:
        where = msgspec.convert(record["s3"], _S3)
    except (KeyError, TypeError, msgspec.MsgspecError):
        raise Unreadable("an S3 notification without its bucket or key") from None
    # S3 writes keys into notifications as forms do: a space is a plus sign.
    return Stored(where.bucket.name, unquote_plus(where.object.key), where.object.version)


class _Bucket(msgspec.Struct):
    name: str


class _Object(msgspec.Struct):
    key: str
    version: str | None = msgspec.field(name="versionId", default=None)


class _S3(msgspec.Struct):
    bucket: _Bucket
    object: _Object


_Number = Annotated[str, msgspec.Meta(pattern=rf"^[0-9]{{1,{MOST_DIGITS}}}\Z")]


class _Request(msgspec.Struct):
    condition: Annotated[str, msgspec.Meta(max_length=100)] = ""
    request_id: Annotated[str, msgspec.Meta(max_length=200)] = msgspec.field(name="requestId", default="")
    function_arn: str = msgspec.field(name="functionArn", default="")
    invocations: int = msgspec.field(name="approximateInvokeCount", default=0)


class _Response(msgspec.Struct):
    function_error: str | None = msgspec.field(name="functionError", default=None)


class _BatchInfo(msgspec.Struct):
    shard_id: Annotated[str, msgspec.Meta(pattern=r"^[a-zA-Z0-9_.-]{1,128}\Z")] = msgspec.field(name="shardId")
    stream_arn: str = msgspec.field(name="streamArn")
    batch_size: Annotated[int, msgspec.Meta(ge=0)] = msgspec.field(name="batchSize")
    first: _Number | None = msgspec.field(name="startSequenceNumber", default=None)
    last: _Number | None = msgspec.field(name="endSequenceNumber", default=None)
    first_arrival: str | None = msgspec.field(name="approximateArrivalOfFirstRecord", default=None)
    last_arrival: str | None = msgspec.field(name="approximateArrivalOfLastRecord", default=None)


class _Document(msgspec.Struct):
    batch: _BatchInfo = msgspec.field(name="KinesisBatchInfo")
    request: _Request = msgspec.field(name="requestContext")
    time: str = msgspec.field(name="timestamp", default="")
    response: _Response | None = msgspec.field(name="responseContext", default=None)
    payload: Any = None


def _discarded(document: dict[str, Any]) -> Discarded:
    try:
        parsed = msgspec.convert(document, _Document)
    except msgspec.MsgspecError as error:
        raise Unreadable(f"a failure document with a fault: {error}") from None
    batch, request = parsed.batch, parsed.request
    if not _STREAM_ARN.fullmatch(batch.stream_arn):
        raise Unreadable("a failure document whose streamArn is not that of a Kinesis stream")
    if (batch.first is None) != (batch.last is None):
        raise Unreadable("a failure document with one end of its range of records only")
    if batch.first is not None and batch.last is not None and int(batch.first) > int(batch.last):
        raise Unreadable("a failure document whose range of records ends before it begins")
    return Discarded(
        condition=_line(request.condition) or "Discarded",
        request_id=request.request_id,
        function_arn=request.function_arn,
        invocations=request.invocations,
        function_error=None if parsed.response is None else parsed.response.function_error,
        time=parsed.time if _seconds(parsed.time) is not None else batch.last_arrival or "",
        stream_arn=batch.stream_arn,
        shard_id=batch.shard_id,
        first=batch.first,
        last=batch.last,
        first_arrival=batch.first_arrival,
        last_arrival=batch.last_arrival,
        batch_size=batch.batch_size,
        records=_payload(parsed.payload),
    )


def _payload(payload: Any) -> list[Any] | None:
    """The records in a document from S3, where the event is a text; None where there is no payload."""
    if payload is None:
        return None
    if isinstance(payload, str):
        try:
            payload = _json(payload)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            raise Unreadable("a failure document whose payload is not JSON (cut off?)") from None
    records = payload.get("Records") if isinstance(payload, dict) else None
    if not isinstance(records, list):
        raise Unreadable("a failure document whose payload has no records")
    return records


def _message_as_record(message: Message, processor: str) -> Envelope:
    """What an event source of SQS makes of a message that is no envelope."""
    return Envelope(
        event_id=message.id,
        source="sqs",
        processor=processor,
        data=message.body.encode("utf-8", "surrogatepass"),
        partition_key=message.group,
        failures=(
            Failure(
                attempt=None,
                type="MovedByQueue",
                message="its queue's redrive policy has moved it here",
                time=iso(message.sent_at),
            ),
        ),
    )


def function_name(arn: str) -> str:
    """``orders`` for ``arn:aws:lambda:us-east-1:123456789012:function:orders:live``; empty where it is no such ARN."""
    parts = arn.split(":")
    return parts[6] if len(parts) >= 7 and parts[2] == "lambda" else ""


def died_at(envelope: Envelope) -> float | None:
    """When it failed last, in seconds since the epoch; None where it does not say."""
    return _seconds(envelope.failures[-1].time) if envelope.failures else None


def deduplication_id(envelope: Envelope) -> str:
    """What a FIFO queue may tell two sends of one letter by: the event, its data, how often it was put back, when it failed last.

    A letter that comes again after it was put back has another one, since it was put back once more; a queue must never drop it.
    """
    import hashlib

    failed_at = envelope.failures[-1].time if envelope.failures else ""
    text = f"{envelope.processor}\n{envelope.event_id} {envelope.redrives} {failed_at}\n"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass") + (envelope.data or b"")).hexdigest()


def iso(seconds: float | None) -> str:
    """ISO 8601 in UTC, to the millisecond; empty for None."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        iso(seconds)
    except (ValueError, OverflowError, OSError):
        return None  # Also where it lies before the first or behind the last year in UTC, and could not be shown.
    return seconds


def _line(text: Any) -> str:
    line = " ".join(str(text).encode("utf-8", "backslashreplace").decode().strip().partition("\n")[0].split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"

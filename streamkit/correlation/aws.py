"""AWS calls that carry what is followed, by botocore's event hooks: the client stays the user's own.

| call | where it goes |
|---|---|
| Kinesis ``PutRecord(s)`` | ``__context__`` of a JSON object; other data in the binary envelope, if asked for |
| SQS ``SendMessage(Batch)``, SNS ``Publish(Batch)`` | message attributes; SQS: ``AWSTraceHeader`` too |
| Lambda ``Invoke`` | ``__context__``; a synchronous call with another payload: the client context |
| EventBridge ``PutEvents`` | ``__context__`` of the detail, ``TraceHeader`` |
| Step Functions ``Start(Sync)Execution`` | ``__context__`` of the input, ``traceHeader`` |

Nothing that is added makes a call fail: what is not of the expected form stays as it is, and so does what would go over a
limit of the service that it kept before. Only EndlessChain is raised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from ..errors import EndlessChain
from .context import check, current, entries
from .onward import onward
from .payload import attached
from .value import CHAIN, XRAY, Correlation

__all__ = ["attach", "instrument_aws"]

log = logging.getLogger("streamkit")

_MIB = 1024 * 1024
# A service's limits, old and raised ones: what kept to one before keeps to it after.
_KINESIS_RECORD = (_MIB, 10 * _MIB)
_KINESIS_REQUEST = (5 * _MIB, 10 * _MIB)
_MESSAGES = (256 * 1024, _MIB)
_EVENTS = (256 * 1024, _MIB)
_INPUT = (256 * 1024,)
_PAYLOAD = (256 * 1024, _MIB, 6 * _MIB)
# Bytes of base64 that a client context may have.
_CLIENT_CONTEXT = 3583
# SQS takes ten attributes, and so does SNS where its delivery is raw.
_MOST_ATTRIBUTES = 10

Parameters = dict[str, Any]


class _Options(NamedTuple):
    field: bool
    envelope: bool


class _Call(NamedTuple):
    """A call: its service and operation as botocore's events name them, its list of entries, how an entry is sized, the limits of
    an entry and of the whole, and what makes an entry that carries something within so many bytes.
    """

    event: str
    entries: str | None
    size: Callable[[Parameters], int]
    most_entry: Sequence[int]
    most_request: Sequence[int]
    make: Callable[[Parameters, Correlation, _Options, int], Parameters]


def instrument_aws(client: Any, *, field: bool = True, envelope: bool = False) -> None:
    """Let a boto3 client, resource or session send what is followed. TypeError where it is none of them."""
    emitter = _emitter(client)
    options = _Options(field, envelope)
    for call in _CALLS:
        _register(emitter, f"before-parameter-build.{call.event}", partial(_before, call, options))
    for event in ("lambda.Invoke", "sns.Publish", "sns.PublishBatch"):
        _register(emitter, f"before-call.{event}", _add_header)


def attach(data: bytes, *, envelope: bool = False) -> bytes:
    """``data`` with what is followed in its ``__context__``; as it is where there is nothing to follow, or no place for it."""
    correlation = current()
    if not correlation.is_something:
        return data
    check(correlation)
    correlation = onward(correlation)
    room = _room(len(data), _KINESIS_RECORD)
    return attached(data, correlation.fields(), room=room, envelope=envelope) or data


def _emitter(client: Any) -> Any:
    client = getattr(getattr(client, "meta", None), "client", client)
    for emitter in (getattr(getattr(client, "meta", None), "events", None), getattr(client, "events", None)):
        if hasattr(emitter, "register") and hasattr(emitter, "unregister"):
            return emitter
    raise TypeError(
        f"correlation.instrument takes a boto3 client, resource or session, a requests.Session or an httpx client; got a "
        f"{type(client).__name__}"
    )


def _register(emitter: Any, event: str, handler: Callable[..., None]) -> None:
    name = f"streamkit-correlation-{event}"
    emitter.unregister(event, unique_id=name)
    emitter.register(event, handler, unique_id=name)


def _before(call: _Call, options: _Options, params: Any, **_: Any) -> None:
    """Before botocore checks the parameters of a call. They are the call's own; what they hold is the user's."""
    try:
        if call.entries is None:
            _add_to_one(call, options, params)
        else:
            _add_to_each(call, options, params, call.entries)
    except EndlessChain:
        raise
    except Exception as error:  # noqa: BLE001  # Whatever was in them, the call is the user's, and goes its way without.
        log.error("%s: nothing of what is followed could be added: %s", call.event, type(error).__name__)


def _add_to_one(call: _Call, options: _Options, params: Parameters) -> None:
    (correlation,) = _checked(entries(1))
    if correlation is not None:
        before = call.size(params)
        room = min(_room(before, call.most_entry), _room(before, call.most_request))
        params.update(call.make(params, correlation, options, room))


def _add_to_each(call: _Call, options: _Options, params: Parameters, name: str) -> None:
    given = params.get(name)
    if not isinstance(given, list | tuple) or not all(isinstance(entry, Mapping) for entry in given):
        return
    correlations = _checked(entries(len(given)))
    if not any(correlations):
        return
    sizes = [call.size(entry) for entry in given]
    room = _room(sum(sizes), call.most_request)
    made: list[Any] = []
    for entry, correlation, before in zip(given, correlations, sizes, strict=True):
        after = entry
        if correlation is not None:
            after = call.make(dict(entry), correlation, options, min(room, _room(before, call.most_entry)))
            room -= call.size(after) - before
        made.append(after)
    params[name] = made


def _checked(correlations: list[Correlation]) -> list[Correlation | None]:
    """What each is to carry; None: nothing. EndlessChain where one of them is not to be sent on."""
    made: list[Correlation | None] = []
    last: tuple[Correlation, Correlation | None] | None = None
    for correlation in correlations:
        # Most batches are of one event.
        if last is None or correlation is not last[0]:
            if correlation.is_something:
                check(correlation)
                last = correlation, onward(correlation)
            else:
                last = correlation, None
        made.append(last[1])
    return made


def _room(before: int, limits: Sequence[int]) -> int:
    """How many bytes can be added without going over a limit that was kept."""
    return next((limit - before for limit in limits if before <= limit), 0)


def _size(value: Any) -> int:
    """Bytes of a text or of bytes; 0 of anything else."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    return len(value) if isinstance(value, bytes | bytearray) else 0


# Payloads


def _with_field(value: Any, fields: dict[str, str], options: _Options, room: int) -> Any:
    """A payload that carries the fields, of the type that it had; None where it stays as it is."""
    if isinstance(value, bytes | bytearray):
        return attached(bytes(value), fields, room=room, field=options.field, envelope=options.envelope)
    if isinstance(value, str) and options.field:
        made = attached(value.encode(), fields, room=room)
        return None if made is None else made.decode()
    return None


def _without(correlation: Correlation, *names: str) -> dict[str, str]:
    return {name: value for name, value in correlation.fields().items() if name not in names}


def _kinesis(entry: Parameters, correlation: Correlation, options: _Options, room: int) -> Parameters:
    made = _with_field(entry.get("Data"), correlation.fields(), options, room)
    if made is not None:
        entry["Data"] = made
    return entry


def _event(entry: Parameters, correlation: Correlation, options: _Options, room: int) -> Parameters:
    made = _with_field(entry.get("Detail"), _without(correlation, XRAY), options._replace(envelope=False), room)
    if made is not None:
        room -= _size(made) - _size(entry.get("Detail"))
        entry["Detail"] = made
    if correlation.xray and "TraceHeader" not in entry and len(correlation.xray) <= room:
        entry["TraceHeader"] = correlation.xray
    return entry


def _execution(params: Parameters, correlation: Correlation, options: _Options, room: int) -> Parameters:
    fields = _without(correlation, XRAY)
    if "name" in params:
        # Started again under its name, it has to have the same input; a span is another each time.
        fields = {name: value for name, value in fields.items() if not name.startswith("trace")}
    made = _with_field(params.get("input"), fields, options._replace(envelope=False), room)
    if made is not None:
        params["input"] = made
    if correlation.xray:
        params.setdefault("traceHeader", correlation.xray)
    return params


def _invocation(params: Parameters, correlation: Correlation, options: _Options, room: int) -> Parameters:
    fields = _without(correlation, XRAY)
    made = _with_field(params.get("Payload"), fields, options._replace(envelope=False), room)
    if made is not None:
        params["Payload"] = made
    elif params.get("InvocationType", "RequestResponse") == "RequestResponse" and "ClientContext" not in params:
        import base64

        context = base64.b64encode(msgspec.json.encode({"custom": fields}))
        if len(context) <= _CLIENT_CONTEXT:
            params["ClientContext"] = context.decode()
    return params


def _add_header(params: Any, **_: Any) -> None:
    """X-Ray's header of the event that the request is of. botocore itself writes that of the invocation, where there is none."""
    try:
        xray = current().xray
        if xray and isinstance(headers := params.get("headers"), Mapping) and "X-Amzn-Trace-Id" not in headers:
            params["headers"]["X-Amzn-Trace-Id"] = quote(xray, safe="-=;:+&[]{}\"',")
    except Exception as error:  # noqa: BLE001  # As above.
        log.error("X-Ray's header could not be added: %s", type(error).__name__)


# Message attributes


def _message(entry: Parameters, correlation: Correlation, options: _Options, room: int) -> Parameters:
    """An SQS or SNS message with what is followed in its attributes, as far as there is room for it."""
    given = entry.get("MessageAttributes") or {}
    if not isinstance(given, Mapping) or "PhoneNumber" in entry:
        return entry
    attributes = dict(given)
    names = {name.lower(): name for name in given if isinstance(name, str)}
    for name, value in _without(correlation, XRAY).items():
        is_there = name in names
        if is_there and not (name == CHAIN and _is_longer(value, given[names[name]])):
            continue
        attribute = {"DataType": "String", "StringValue": value}
        needed = _attribute_size(name, attribute)
        if is_there:
            # Passed on as it came, it would go round for ever.
            attributes[names[name]] = attribute
        elif len(attributes) < _MOST_ATTRIBUTES and needed <= room:
            attributes[name] = attribute
            room -= needed
    if attributes:
        entry["MessageAttributes"] = attributes
    return entry


def _queued(entry: Parameters, correlation: Correlation, options: _Options, room: int) -> Parameters:
    entry = _message(entry, correlation, options, room)
    system = entry.get("MessageSystemAttributes") or {}
    # It has no part in the message's size.
    if correlation.xray and isinstance(system, Mapping) and "AWSTraceHeader" not in system:
        header = {"DataType": "String", "StringValue": correlation.xray}
        entry["MessageSystemAttributes"] = {**system, "AWSTraceHeader": header}
    return entry


def _is_longer(ours: str, attribute: Any) -> bool:
    theirs = attribute.get("StringValue") if isinstance(attribute, Mapping) else None
    if not isinstance(theirs, str) or not (theirs.isascii() and theirs.isdigit()) or len(theirs) > 9:
        return not isinstance(theirs, str) or len(theirs) <= 9
    return int(ours) > int(theirs)


def _attribute_size(name: Any, attribute: Any) -> int:
    if not isinstance(attribute, Mapping):
        return 0
    value = attribute.get("StringValue") or attribute.get("BinaryValue")
    return _size(name) + _size(attribute.get("DataType")) + _size(value)


def _message_size(body: str, entry: Parameters) -> int:
    attributes = entry.get("MessageAttributes")
    sizes = [_attribute_size(*one) for one in attributes.items()] if isinstance(attributes, Mapping) else []
    return _size(entry.get(body)) + sum(sizes)


def _kinesis_size(entry: Parameters) -> int:
    return _size(entry.get("Data")) + _size(entry.get("PartitionKey"))


def _event_size(entry: Parameters) -> int:
    return 14 + sum(_size(entry.get(name)) for name in ("Source", "DetailType", "Detail", "TraceHeader"))


def _size_of(name: str, params: Parameters) -> int:
    return _size(params.get(name))


_sqs_size = partial(_message_size, "MessageBody")
_sns_size = partial(_message_size, "Message")
_CALLS = [
    _Call("kinesis.PutRecord", None, _kinesis_size, _KINESIS_RECORD, _KINESIS_REQUEST, _kinesis),
    _Call("kinesis.PutRecords", "Records", _kinesis_size, _KINESIS_RECORD, _KINESIS_REQUEST, _kinesis),
    _Call("sqs.SendMessage", None, _sqs_size, _MESSAGES, _MESSAGES, _queued),
    _Call("sqs.SendMessageBatch", "Entries", _sqs_size, _MESSAGES, _MESSAGES, _queued),
    _Call("sns.Publish", None, _sns_size, _MESSAGES, _MESSAGES, _message),
    _Call("sns.PublishBatch", "PublishBatchRequestEntries", _sns_size, _MESSAGES, _MESSAGES, _message),
    _Call("lambda.Invoke", None, partial(_size_of, "Payload"), _PAYLOAD, _PAYLOAD, _invocation),
    _Call("eventbridge.PutEvents", "Entries", _event_size, _EVENTS, _EVENTS, _event),
    _Call("sfn.StartExecution", None, partial(_size_of, "input"), _INPUT, _INPUT, _execution),
    _Call("sfn.StartSyncExecution", None, partial(_size_of, "input"), _INPUT, _INPUT, _execution),
]

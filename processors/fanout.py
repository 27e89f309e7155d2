"""One function hands a stream's records on to many: streams, queues, topics, buses, functions and buckets.

Deploy it with the handler ``processors.fanout.handler``. Set up by

    ROUTES                   required: JSON, a list of routes (below)
    PROGRESS_TABLE           DynamoDB; without it what one target has not taken is repeated to all of them
    RETRY_QUEUE_URL          SQS, shared by all routes; without it a failed event holds the shard for all of them
    DEAD_LETTER_QUEUE_URL    SQS, shared likewise; without it nothing is ever given up
    RETRY_BACKOFF_SECONDS, CLAIMS_BUCKET    as of every processor here
    CARRY_CORRELATION        "true": what an event is followed by goes on, in attributes, headers and the __context__ of JSON
                             objects, and counts this function; without it records are handed on as they came

A route is an object:

    name        required, persistent: it keys write ids, progress and envelopes
    to          required: the target's ARN (of a queue its URL will do)
    pattern     an event pattern: which records go there; without it all of them (docs/fanout.md)
    source, detail_type    of an event bus
    prefix      of a bucket's keys

    [{"name": "audit", "to": "arn:aws:sqs:eu-west-1:123456789012:audit"},
     {"name": "orders", "to": "arn:aws:events:eu-west-1:123456789012:event-bus/shop",
      "pattern": {"data": {"type": ["order"]}}, "source": "shop", "detail_type": "order"}]

Each route is a branch of a ``FanOut``: a target that is down or slow keeps no other from getting its records, or gets them twice.
All of it is read at the first invocation; a route that is wrong fails the invocation, with an error that names it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from streamkit import lambda_handler
from streamkit.errors import ConfigurationError
from streamkit.fanout import FanOut
from streamkit.forward import Forward, Rule
from streamkit.progress.base import ProgressStore

from .base import EventProcessor
from .settings import true_or_false

if TYPE_CHECKING:
    from streamkit.sinks.aws import AwsSink

__all__ = ["RouteProcessor", "fan_out", "handler"]


class _Route(msgspec.Struct, forbid_unknown_fields=True):
    name: Annotated[str, msgspec.Meta(min_length=1)]
    to: str
    pattern: dict[str, Any] | None = None
    source: str | None = None
    detail_type: str | None = None
    prefix: str | None = None


class RouteProcessor(Forward, EventProcessor):
    """One route: a ``Forward`` whose policy the environment says."""

    def __init__(self, name: str, rule: Rule) -> None:
        EventProcessor.__init__(self)
        Forward.__init__(self, rule, name=name)


def fan_out() -> FanOut:
    """The fan-out that the environment describes. ConfigurationError, with the route at fault, where it describes none."""
    text = os.environ.get("ROUTES")
    if not text:
        raise ConfigurationError(
            "the environment variable ROUTES is not set; processors.fanout needs a JSON list of routes in it: "
            '[{"name": "audit", "to": "arn:aws:sqs:…"}]'
        )
    try:
        entries = msgspec.json.decode(text, type=list[msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigurationError(f"ROUTES is no JSON list: {error}") from None
    if not entries:
        raise ConfigurationError("ROUTES is an empty list: name at least one route")
    return FanOut(*(_branch(n, entry) for n, entry in enumerate(entries, 1)), progress=_progress(), name=_name())


def _branch(number: int, entry: msgspec.Raw) -> RouteProcessor:
    where = f"ROUTES, entry {number}"
    try:
        route = msgspec.json.decode(entry, type=_Route)
        where += f" ({route.name})"
        sink = _sink(route)
        if true_or_false("CARRY_CORRELATION"):
            sink.carry_on()
        return RouteProcessor(route.name, Rule(sink, route.pattern))
    except (msgspec.MsgspecError, ConfigurationError) as error:
        raise ConfigurationError(f"{where}: {error}") from None


def _sink(route: _Route) -> AwsSink:
    """The sink of a route's target, by its ARN. Only the module of its service is imported."""
    service = "sqs" if route.to.startswith(("https://", "http://")) else _service_of(route.to)
    options: dict[str, Any] = {}
    if service == "events":
        options = {key: value for key in ("source", "detail_type") if (value := getattr(route, key)) is not None}
    elif service == "s3" and route.prefix is not None:
        options = {"prefix": route.prefix}
    unused = [
        field
        for field in ("source", "detail_type", "prefix")
        if getattr(route, field) is not None and field not in options
    ]
    if unused:
        raise ConfigurationError(f'"{unused[0]}" means nothing to a target of {service}')
    if service == "kinesis":
        from streamkit.sinks.kinesis import KinesisSink

        return KinesisSink(route.to)
    if service == "sqs":
        from streamkit.sinks.sqs import SqsSink

        return SqsSink(route.to)
    if service == "sns":
        from streamkit.sinks.sns import SnsSink

        return SnsSink(route.to)
    if service == "lambda":
        from streamkit.sinks.functions import LambdaSink

        return LambdaSink(route.to)
    if service == "events":
        from streamkit.sinks.events import EventBridgeSink

        return EventBridgeSink(route.to, **options)
    from streamkit.sinks.s3 import S3Sink

    return S3Sink(route.to, **options)


# What an ARN of each service has in its last part, but for what comes before the colon of a function.
_RESOURCES = {"kinesis": "stream/", "sqs": "", "sns": "", "lambda": "function:", "events": "event-bus/", "s3": ""}


def _service_of(arn: str) -> str:
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn":
        raise ConfigurationError(
            f'"to" is the ARN of a target, as arn:aws:sqs:eu-west-1:123456789012:audit; got {arn!r}'
        )
    service, resource = parts[2], parts[5]
    form = _RESOURCES.get(service)
    if form is None:
        raise ConfigurationError(f"no sink is for {service!r} of {arn}: there are {', '.join(_RESOURCES)}")
    if not resource.startswith(form) or not resource.removeprefix(form):
        raise ConfigurationError(f"{arn} is no target of {service}: its last part is {form or 'a name'}…")
    return service


def _progress() -> ProgressStore | None:
    if not os.environ.get("PROGRESS_TABLE"):
        return None
    from streamkit.progress.dynamodb import DynamoDbProgress

    return DynamoDbProgress.from_env("PROGRESS_TABLE")


def _name() -> str:
    return os.environ.get("PROCESSOR_NAME") or "fanout"


handler = lambda_handler(fan_out)

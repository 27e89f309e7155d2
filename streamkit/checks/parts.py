"""What a processor uses of AWS: queues, topics, tables, buckets, parameters and what its sinks write to, and what it has to be
allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from ..errors import ConfigurationError
from ..processor import RecordProcessor, attributes_of
from ..queues.base import Queue
from ..sinks.base import Sink
from .deployment import Home

__all__ = ["Need", "Part", "parts_of", "queue_arn"]


class Need(msgspec.Struct, frozen=True):
    """Actions on one resource."""

    actions: tuple[str, ...]
    resource: str
    #: The resource's own policy may allow it.
    has_own_policy: bool = False


class Part(msgspec.Struct, frozen=True):
    """``role``: ``retry queue``, ``dead letters``, ``ledger``, ``progress``, ``claims``, ``sink``, ``plans``, ``marks``
    or ``parameters``. ``name`` is what people call it: ``orders's retry queue``.

    ``place``: the URL, ARN, name or bucket that it has in the function's environment; empty where ``fault`` says why.
    ``arn``: of that place; empty where it has none, as a table of BigQuery's.
    """

    role: str
    name: str
    processor: RecordProcessor
    value: Any
    place: str = ""
    arn: str = ""
    needs: tuple[Need, ...] = ()
    fault: str = ""
    #: Whether it is known what it needs.
    is_known: bool = True


class _Kind(msgspec.Struct, frozen=True):
    """How the place of a class's instance is read, and what it needs there."""

    place: Callable[[Any], str]
    arn: Callable[[str, Home], str]
    actions: tuple[str, ...]


def parts_of(processor: RecordProcessor, home: Home) -> list[Part]:
    """Called in the function's environment: it reads the variables that ``from_env`` names."""
    return list(_parts_of(processor, home))


def _parts_of(processor: RecordProcessor, home: Home) -> Iterator[Part]:
    policy = processor.on_failure
    for role, queue in (("retry queue", policy.queue), ("dead letters", policy.dead_letters)):
        if queue is None:
            continue
        yield _part(role, processor, queue, home)
        claims = getattr(queue, "claims", None)
        if claims is not None:
            yield _claims(role, processor, claims, home)
    if policy.ledger is not None:
        yield _part("ledger", processor, policy.ledger, home)
    if processor.progress is not None:
        yield _part("progress", processor, processor.progress, home)
    seen: set[int] = {id(policy.queue), id(policy.dead_letters)}
    for value in attributes_of(processor):
        if id(value) in seen or isinstance(value, type):
            continue
        seen.add(id(value))
        if isinstance(value, Sink):
            for sink in _sinks_of(value):
                yield _part("sink", processor, sink, home)
            plans = getattr(value, "_plans", None)
            if plans is not None:
                yield _part("plans", processor, plans, home)
        elif _class_of(value) == "streamkit.idempotency.Idempotency":
            yield _part("marks", processor, value.store, home)
        elif isinstance(value, Queue):
            yield _part("queue", processor, value, home)
        elif _class_of(value) in ("streamkit.config.setting.Setting", "streamkit.config.config.Config"):
            config = getattr(value, "config", value)
            if value is config or id(config) not in seen:
                seen.add(id(config))
                for source in config.sources:
                    yield _parameters(processor, source, config.names, home)


def _sinks_of(sink: Sink) -> list[Any]:
    """The sink itself, or the two that one of log lines has."""
    if _class_of(sink) != "streamkit.logs.sink.LogSink":
        return [sink]
    return [one for one in (getattr(sink, "documents", None), getattr(sink, "metrics", None)) if one is not None]


def _part(role: str, processor: RecordProcessor, value: Any, home: Home) -> Part:
    kind = next((_KINDS[one] for one in _classes_of(value) if one in _KINDS), None)
    owner = f" {type(value).__name__}" if role in ("sink", "queue") else ""
    name = f"{processor.name}'s {role}{owner}"
    if kind is None:
        # What streamkit.testing has, and what needs Google's permission, is nothing of AWS's.
        is_elsewhere = any(
            one.startswith(("streamkit.testing.", "streamkit.sinks.bigquery")) for one in _classes_of(value)
        )
        is_memory = ".memory." in _class_of(value)
        return Part(role, name, processor, value, is_known=is_elsewhere or is_memory)
    try:
        place = kind.place(value)
    except ConfigurationError as error:
        return Part(role, name, processor, value, fault=str(error))
    arn = kind.arn(place, home)
    needs: list[Need] = []
    if kind.actions and not arn:
        return Part(role, name, processor, value, place, is_known=False)
    if kind.actions:
        has_own_policy = ":cloudsearch:" in arn
        needs.append(Need(kind.actions, arn + _objects(value), has_own_policy))
    if _SEARCH in _classes_of(value):
        needs += _search_needs(value, arn)
    if _METRICS in _classes_of(value):
        # It names no resource.
        needs.append(Need(("cloudwatch:PutMetricData",), "*"))
    if _class_of(value) == "streamkit.sinks.cloudsearch.CloudSearchSink":
        # A domain's own policy is of its documents and searches, and not of its configuration.
        needs += (Need((action,), arn, action == "cloudsearch:search") for action in value.also_needs)
    if _class_of(value) == "streamkit.sinks.sqs.SqsSink" and place.startswith("arn:"):
        needs.append(Need(("sqs:GetQueueUrl",), arn))
    return Part(role, name, processor, value, place, arn, tuple(needs))


def _claims(role: str, processor: RecordProcessor, claims: Any, home: Home) -> Part:
    name = f"{processor.name}'s claims of its {role}"
    if _class_of(claims) != "streamkit.claims.s3.S3Claims":
        return Part("claims", name, processor, claims, is_known=".testing." in _class_of(claims))
    try:
        bucket = str(claims.bucket)
    except ConfigurationError as error:
        return Part("claims", name, processor, claims, fault=str(error))
    arn = _bucket_arn(bucket, home)
    objects = f"{arn}/{claims._prefix}{_ANY_OBJECT}"
    # Who only sends never reads; the retry queue's messages come back to this function.
    needs = [Need(("s3:PutObject",) if role == "dead letters" else ("s3:PutObject", "s3:GetObject"), objects)]
    if role != "dead letters":
        needs.append(Need(("s3:ListBucket",), arn))
    return Part("claims", name, processor, claims, bucket, arn, tuple(needs))


def _parameters(processor: RecordProcessor, source: Any, names: Sequence[str], home: Home) -> Part:
    name = f"{processor.name}'s parameters of {source.label}"
    if _class_of(source) == "streamkit.config.appconfig.AppConfig":
        ids = source.application, source.environment, source.profile
        place = "/".join(ids)
        if not all(map(_APPCONFIG_ID.fullmatch, ids)):
            # Its ARN has ids, and may be named by names.
            return Part("parameters", name, processor, source, place, is_known=False)
        resource = "application/{}/environment/{}/configuration/{}".format(*ids)
        actions = ("appconfig:StartConfigurationSession", "appconfig:GetLatestConfiguration")
        arn = home.arn("appconfig", resource)
        return Part("parameters", name, processor, source, place, arn, (Need(actions, arn),))
    if _class_of(source) != "streamkit.config.ssm.SsmParameters":
        is_here = _class_of(source).startswith(("streamkit.config.", "streamkit.testing."))
        return Part("parameters", name, processor, source, is_known=is_here)
    try:
        path = str(source.path)
    except ConfigurationError as error:
        return Part("parameters", name, processor, source, fault=str(error))
    arn = home.arn("ssm", f"parameter{path}")
    needs = [
        Need(("ssm:GetParametersByPath",), f"{arn}/{one.removesuffix('/')}")
        if one.endswith("/")
        else Need(("ssm:GetParameters",), f"{arn}/{one}")
        for one in names
    ]
    return Part("parameters", name, processor, source, path, arn, tuple(needs))


_APPCONFIG_ID = re.compile("[a-z0-9]{4,7}")
#: Stands for the rest of any key, so that only a pattern with a star is of it.
_ANY_OBJECT = "any-object"


def _objects(sink: Any) -> str:
    """Of a bucket the objects are what is written, behind their prefix."""
    if _class_of(sink) != "streamkit.sinks.s3.S3Sink":
        return ""
    folder = sink.place.removeprefix("arn:aws:s3:::").partition("/")[2]
    return f"/{folder}{sink._prefix}{_ANY_OBJECT}"


def _class_of(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _classes_of(value: Any) -> list[str]:
    return [f"{one.__module__}.{one.__qualname__}" for one in type(value).__mro__]


def queue_arn(place: str, home: Home) -> str:
    """The ARN of a queue by its URL, wherever that is served; an ARN is one already. Empty for what is neither."""
    if place.startswith("arn:"):
        return place
    host, _, path = place.partition("://")[2].partition("/")
    parts = [part for part in path.split("/") if part]
    if len(parts) < 2:
        return ""
    service, _, rest = host.partition(".")
    region = rest.partition(".")[0] if service == "sqs" else home.region
    return f"arn:{home.partition}:sqs:{region}:{parts[-2]}:{parts[-1]}"


def _table_arn(place: str, home: Home) -> str:
    return place if place.startswith("arn:") else home.arn("dynamodb", f"table/{place}")


def _stream_arn(place: str, home: Home) -> str:
    return place if place.startswith("arn:") else home.arn("kinesis", f"stream/{place}")


def _bus_arn(place: str, home: Home) -> str:
    return place if place.startswith("arn:") else home.arn("events", f"event-bus/{place}")


def _function_arn(place: str, home: Home) -> str:
    if place.startswith("arn:"):
        return place
    return home.arn("lambda", f"function:{place.rpartition('function:')[2]}")


def _bucket_arn(place: str, home: Home) -> str:
    return home.arn("s3", place.removeprefix("arn:aws:s3:::").partition("/")[0])


def _domain_arn(place: str, home: Home) -> str:
    """``doc-<domain>-<id>.<region>.cloudsearch.amazonaws.com``; empty where it has no such form."""
    host = place.partition("://")[2] or place
    first, _, rest = host.partition(".")
    domain = first.removeprefix("doc-").rpartition("-")[0]
    if not first.startswith("doc-") or not domain or ".cloudsearch." not in f".{rest}":
        return ""
    return f"arn:{home.partition}:cloudsearch:{rest.partition('.')[0]}:{home.account}:domain/{domain}"


def _search_arn(place: str, home: Home) -> str:
    """``search-<domain>-<id>.<region>.es.amazonaws.com`` and Serverless's hosts; empty for a server of one's own."""
    host = (place.partition("://")[2] or place).partition("/")[0].partition(":")[0]
    labels = host.split(".")
    if host.endswith((".amazonaws.com", ".amazonaws.com.cn")) and len(labels) > 4:
        region, service = labels[1], labels[2]
    elif host.endswith(".on.aws") and len(labels) == 5:
        service, region = labels[1], labels[2]
    else:
        return ""
    if service == "aoss":
        return f"arn:{home.partition}:aoss:{region}:{home.account}:collection/{labels[0]}"
    name = labels[0].removeprefix("search-").removeprefix("vpc-").rpartition("-")[0]
    return f"arn:{home.partition}:es:{region}:{home.account}:domain/{name}" if service in ("es", "aos") and name else ""


def _search_needs(sink: Any, arn: str) -> list[Need]:
    """Of a domain by its paths; of a collection one action, beside the collection's own data access policy."""
    if not arn or sink._authorization is not None or sink._client is not None:
        return []
    if ":aoss:" in arn:
        return [Need(("aoss:APIAccessAll",), arn)]
    # A domain has an access policy of its own.
    needs = [Need(("es:ESHttpPost",), f"{arn}/{sink.index}/_bulk", True)]
    if sink._template is not None:
        needs.append(Need(("es:ESHttpPut",), f"{arn}/_index_template/{sink._template_name}", True))
    return needs


def _place(value: Any) -> str:
    return str(value.place)


def _table(value: Any) -> str:
    return str(value.table)


_SEARCH = "streamkit.sinks.opensearch.OpenSearchSink"
_METRICS = "streamkit.sinks.cloudwatch_metrics.CloudWatchMetricsSink"
#: By the names of classes, so that none has to be imported: who uses one has imported it.
_KINDS = {
    "streamkit.queues.sqs.SqsQueue": _Kind(_place, queue_arn, ("sqs:SendMessage",)),
    "streamkit.queues.sns.SnsTopic": _Kind(_place, lambda place, home: place, ("sns:Publish",)),
    "streamkit.ledgers.dynamodb.DynamoDbLedger": _Kind(
        _table, _table_arn, ("dynamodb:Query", "dynamodb:GetItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem")
    ),
    "streamkit.progress.dynamodb.DynamoDbProgress": _Kind(_table, _table_arn, ("dynamodb:Query", "dynamodb:PutItem")),
    "streamkit.plans.dynamodb.DynamoDbPlans": _Kind(_table, _table_arn, ("dynamodb:GetItem", "dynamodb:PutItem")),
    "streamkit.marks.dynamodb.DynamoDbMarks": _Kind(
        _table, _table_arn, ("dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem")
    ),
    "streamkit.sinks.kinesis.KinesisSink": _Kind(_place, _stream_arn, ("kinesis:PutRecords",)),
    "streamkit.sinks.sqs.SqsSink": _Kind(_place, queue_arn, ("sqs:SendMessage",)),
    "streamkit.sinks.sns.SnsSink": _Kind(_place, lambda place, home: place, ("sns:Publish",)),
    "streamkit.sinks.events.EventBridgeSink": _Kind(_place, _bus_arn, ("events:PutEvents",)),
    "streamkit.sinks.functions.LambdaSink": _Kind(_place, _function_arn, ("lambda:InvokeFunction",)),
    "streamkit.sinks.s3.S3Sink": _Kind(_place, _bucket_arn, ("s3:PutObject",)),
    "streamkit.sinks.cloudsearch.CloudSearchSink": _Kind(
        lambda sink: str(sink._url()), _domain_arn, ("cloudsearch:document",)
    ),
    # What is asked of it depends on where it is: see _search_needs.
    _SEARCH: _Kind(lambda sink: str(sink._url()), _search_arn, ()),
    _METRICS: _Kind(lambda sink: str(sink._namespace), lambda place, home: "", ()),
    # The database's own permission, not AWS's; but its variable has to be there.
    "streamkit.sinks.graph.GraphSink": _Kind(lambda sink: str(sink._url()), lambda place, home: "", ()),
    # Google's permission, not AWS's; but its variable has to be there.
    "streamkit.sinks.bigquery.BigQuerySink": _Kind(_table, lambda place, home: "", ()),
}

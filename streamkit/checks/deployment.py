"""How a function is deployed, as facts: the same whether a template or AWS told them.

Texts may have marks of what is not known yet (``unknown``). ``where`` is the line of the template, or the call of AWS's
that changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from .unknown import ACCOUNT, PARTITION, REGION, is_known, is_same

__all__ = [
    "Alias",
    "Deployment",
    "Function",
    "Home",
    "KeyFacts",
    "Logging",
    "OwnPolicy",
    "PackageFacts",
    "PlaceFacts",
    "QueueFacts",
    "Role",
    "Setting",
    "SourceMapping",
    "Statement",
    "Subscription",
    "TableFacts",
    "Unread",
    "is_handler",
    "name_of_function",
    "qualifier_of_function",
]


class Setting(msgspec.Struct, frozen=True):
    """A value as it stands: a text of a template or a value of AWS's. ``where`` it is set, or could be."""

    value: Any
    where: str

    @property
    def is_set(self) -> bool:
        return self.value is not None

    @property
    def is_known(self) -> bool:
        return _is_known(self.value)

    def number(self, default: int) -> int | None:
        """None where it is not known, or no number."""
        if self.value is None:
            return default
        try:
            return int(self.value)
        except (TypeError, ValueError):
            return None

    def flag(self, default: bool) -> bool | None:
        """None where it is not known, or no boolean."""
        if self.value is None:
            return default
        return {"true": True, "yes": True, "false": False, "no": False}.get(str(self.value).lower())

    def text(self) -> str:
        """Empty where it is not set."""
        return "" if self.value is None or isinstance(self.value, list | dict) else str(self.value)


def _is_known(value: Any) -> bool:
    if isinstance(value, str):
        return is_known(value)
    if isinstance(value, Mapping):
        return all(map(_is_known, value.values()))
    return all(map(_is_known, value)) if isinstance(value, list | tuple) else True


class Home(msgspec.Struct, frozen=True):
    """Where the function is."""

    partition: str = PARTITION
    region: str = REGION
    account: str = ACCOUNT

    def arn(self, service: str, resource: str) -> str:
        if service == "s3":
            return f"arn:{self.partition}:s3:::{resource}"
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


class Alias(msgspec.Struct, frozen=True):
    """An alias of a function. ``reference``: what a mapping has to write as its FunctionName."""

    name: str
    reference: str


#: Nothing is known of it, or nothing is set.
_NOT_SET = Setting(None, "")


class Logging(msgspec.Struct, frozen=True, kw_only=True):
    """A function's LoggingConfig: its format, the levels of the function's own lines and of Lambda's, the log group's name."""

    format: Setting = _NOT_SET
    level: Setting = _NOT_SET
    system_level: Setting = _NOT_SET
    group: Setting = _NOT_SET


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """``name`` is the function's own, ``label`` what people call it there: its logical id, or its name."""

    name: str
    label: str
    where: str
    handler: str = ""
    timeout: Setting
    environment: Mapping[str, str] = {}
    environment_where: str = ""
    recursive_loop: Setting
    #: The ARN of its dead-letter queue or its on-failure destination, for asynchronous invocations.
    on_failure: Setting
    logging: Logging = Logging()
    #: As ``python3.13``, and a list of one.
    runtime: Setting = _NOT_SET
    architectures: Setting = _NOT_SET
    #: ReservedConcurrentExecutions.
    concurrency: Setting = _NOT_SET
    aliases: tuple[Alias, ...] = ()

    @property
    def log_group(self) -> str:
        return self.logging.group.text() or f"/aws/lambda/{self.name}"


class SourceMapping(msgspec.Struct, frozen=True, kw_only=True):
    """An event source mapping; ``settings`` by AWS's names. ``qualifier``: the alias or version that it triggers, if any."""

    label: str
    where: str
    function: str
    qualifier: str = ""
    source: str
    settings: Mapping[str, Setting] = {}

    @property
    def service(self) -> str:
        """``kinesis``, ``sqs``, …; empty where it is not known."""
        parts = self.source.split(":")
        return parts[2] if len(parts) > 2 and is_known(parts[2]) else ""

    @property
    def stream(self) -> str:
        """The stream's ARN, where the source is one of its consumers too."""
        return self.source.partition("/consumer/")[0]

    def setting(self, name: str) -> Setting:
        return self.settings.get(name, Setting(None, self.where))

    @property
    def reports(self) -> bool | None:
        """Whether partial answers are on; None where that is not known."""
        types = self.setting("FunctionResponseTypes")
        if isinstance(types.value, list) and "ReportBatchItemFailures" in types.value:
            return True
        return False if types.is_known else None

    @property
    def on_failure(self) -> Setting:
        """The destination's ARN."""
        config = self.setting("DestinationConfig")
        inner: Any = config.value
        for name in ("OnFailure", "Destination"):
            inner = inner.get(name) if isinstance(inner, Mapping) else None if inner is None else inner
        return Setting(inner or None, config.where)


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """One statement of IAM's, each of its lists as it is written."""

    effect: Literal["Allow", "Deny"]
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    not_resources: tuple[str, ...] = ()
    has_condition: bool = False
    where: str = ""
    #: Of a resource's own policy whom it is for: AWS's principals, without services. All, where it does not name any.
    principals: tuple[str, ...] = ("*",)
    #: NotPrincipal: it is for all but some.
    is_for_others: bool = False
    #: Its condition is that the request came without TLS, which none of boto3's does.
    is_of_plain_http: bool = False


class OwnPolicy(msgspec.Struct, frozen=True):
    """The policy of a resource itself; without statements where it has none. ``is_whole``: all of it could be read."""

    statements: tuple[Statement, ...] = ()
    is_whole: bool = True

    def __add__(self, other: OwnPolicy) -> OwnPolicy:
        return OwnPolicy(self.statements + other.statements, self.is_whole and other.is_whole)


class QueueFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An SQS queue. ``redrive``: the redrive policy's ``deadLetterTargetArn`` and ``maxReceiveCount``."""

    arn: str
    label: str
    where: str
    fifo: bool
    visibility: Setting
    retention: Setting
    dead_letters: Setting
    max_receive_count: Setting
    kms_key: Setting
    policy: OwnPolicy = OwnPolicy()


class PlaceFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A stream, a topic or a bucket, as far as it is looked at."""

    arn: str
    where: str
    #: As a queue's: an id, an alias, or the ARN of either; not set where there is none, or AWS's own.
    kms_key: Setting
    #: How many shards of a stream are open; None where that is not known.
    shards: int | None = None
    #: Of a stream in hours; not set of anything else.
    retention: Setting = _NOT_SET
    policy: OwnPolicy = OwnPolicy()


class KeyFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A key of KMS. ``names``: what it is called by, beside its ARN. ``is_awss``: AWS's own, which needs no permission."""

    arn: str
    names: tuple[str, ...]
    policy: OwnPolicy
    is_awss: bool = False


class TableFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A DynamoDB table: its key's attributes, and the attribute that ends its items."""

    name: str
    where: str
    #: Attribute and kind, as ``("shard", "HASH")``; None where that is not known.
    keys: tuple[tuple[str, str], ...] | None
    expiry: Setting


class PackageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A zip of code, as far as it tells for which Python and which architecture it was built; each with a file that shows it.

    ``extensions``: by the module's name its compiled variants, as ``(Python, architecture, file)``; empty where a file fits any.
    """

    path: str
    where: str
    extensions: Mapping[str, tuple[tuple[str, str, str], ...]]
    #: Bytecode that has no source beside it, and the cache of what has: by the Python's version, as ``3.13``.
    bytecode: Mapping[str, str]
    cache: Mapping[str, str]


class Subscription(msgspec.Struct, frozen=True):
    """Who gets what is published to a topic: ``endpoint`` is an ARN of a function or a queue."""

    topic: str
    protocol: str
    endpoint: str
    where: str

    def is_to(self, function: str) -> bool:
        """Whether it invokes the function of that name."""
        return self.protocol == "lambda" and name_of_function(self.endpoint) == function


class Unread(msgspec.Struct, frozen=True):
    """What gives or takes permissions, and can't be read."""

    what: str
    where: str


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """What the function may do. ``where`` a statement can be added. ``arn`` is empty where it is not known."""

    where: str
    arn: str = ""
    statements: tuple[Statement, ...] = ()
    unread: tuple[Unread, ...] = ()


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """``function`` and all that is around it. ``mappings``: those of other functions too, where they read a queue of it."""

    function: Function
    role: Role
    home: Home = Home()
    mappings: tuple[SourceMapping, ...] = ()
    functions: tuple[Function, ...] = ()
    queues: tuple[QueueFacts, ...] = ()
    places: tuple[PlaceFacts, ...] = ()
    keys: tuple[KeyFacts, ...] = ()
    tables: tuple[TableFacts, ...] = ()
    subscriptions: tuple[Subscription, ...] = ()
    #: Whether a queue or a mapping that is not here is nowhere: AWS knows all, a template is one of several.
    is_complete: bool = False
    #: What could not be looked into, and why.
    unread: tuple[Unread, ...] = ()
    #: What the processor names and AWS does not have.
    missing: tuple[Unread, ...] = ()
    #: What a template names and does not have, as a whole sentence.
    unresolved: tuple[Unread, ...] = ()
    #: The names of a template's log groups; None where nobody looked.
    log_groups: tuple[str, ...] | None = None
    #: The function's zip, where it is here to be looked at.
    package: PackageFacts | None = None

    def own_mappings(self, *services: str) -> list[SourceMapping]:
        return [one for one in self.mappings if one.function == self.function.name and one.service in services]

    def readers_of(self, arn: str) -> list[SourceMapping]:
        return [one for one in self.mappings if is_same(one.source, arn)]

    def queue(self, arn: str) -> QueueFacts | None:
        return next((queue for queue in self.queues if is_same(queue.arn, arn)), None)

    def place(self, arn: str) -> PlaceFacts | None:
        return next((place for place in self.places if is_same(place.arn, arn)), None)

    def key_of(self, arn: str) -> str:
        """What the key of a queue, a stream, a topic or a bucket is called; empty where it has none, or none is known."""
        found = self.queue(arn) or self.place(arn)
        return "" if found is None else found.kms_key.text()

    def key(self, name: str) -> KeyFacts | None:
        return next((key for key in self.keys if name in key.names or is_same(key.arn, name)), None)

    def table(self, name: str) -> TableFacts | None:
        plain = name.rpartition("table/")[2]
        return next((table for table in self.tables if table.name == plain), None)

    def function_named(self, name: str) -> Function | None:
        return next((one for one in (self.function, *self.functions) if one.name == name), None)


def is_handler(written: str, wanted: str) -> bool:
    """Whether a function's Handler is that module's: a folder of the package may stand before it."""
    dotted = written.replace("/", ".")
    return dotted == wanted or dotted.endswith(f".{wanted}")


def name_of_function(reference: str) -> str:
    """The name in a function's ARN, partial ARN or name with a qualifier."""
    _, found, rest = reference.rpartition(":function:")
    return (rest if found else reference).partition(":")[0]


def qualifier_of_function(reference: str) -> str:
    """The alias or version in a function's ARN, partial ARN or name; empty for none and for $LATEST, which is the same."""
    _, found, rest = reference.rpartition(":function:")
    qualifier = (rest if found else reference).partition(":")[2]
    return "" if qualifier == "$LATEST" else qualifier

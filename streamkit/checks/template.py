"""A SAM or CloudFormation template, read as the deployment that it would make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..errors import ConfigurationError, StreamkitError
from .deployment import (
    Alias,
    Deployment,
    Function,
    KeyFacts,
    Logging,
    OwnPolicy,
    PackageFacts,
    PlaceFacts,
    QueueFacts,
    Setting,
    SourceMapping,
    Subscription,
    TableFacts,
    Unread,
    is_handler,
    name_of_function,
    qualifier_of_function,
)
from .intrinsics import Intrinsics, Resource
from .nodes import Node, parsed
from .package import read_package
from .references import unresolved
from .roles import RoleReader
from .statements import own_policy
from .unknown import ACCOUNT, Unknowns, is_known, may_be

__all__ = ["read_template"]

_FUNCTIONS = ("AWS::Lambda::Function", "AWS::Serverless::Function")
_TABLES = ("AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable", "AWS::Serverless::SimpleTable")
#: What else may be encrypted by a key of one's own, with the way to the key.
_WAY_TO_KEY = {
    "AWS::Kinesis::Stream": ("StreamEncryption", "KeyId"),
    "AWS::SNS::Topic": ("KmsMasterKeyId",),
    "AWS::S3::Bucket": (
        *("BucketEncryption", "ServerSideEncryptionConfiguration", "ServerSideEncryptionByDefault", "KMSMasterKeyID"),
    ),
}
#: The policies of a resource itself, with the property that names it.
_POLICIES = {
    "AWS::SQS::Queue": {"AWS::SQS::QueuePolicy": "Queues", "AWS::SQS::QueueInlinePolicy": "Queue"},
    "AWS::SNS::Topic": {"AWS::SNS::TopicPolicy": "Topics", "AWS::SNS::TopicInlinePolicy": "TopicArn"},
    "AWS::S3::Bucket": {"AWS::S3::BucketPolicy": "Bucket"},
    "AWS::Kinesis::Stream": {"AWS::Kinesis::ResourcePolicy": "ResourceArn"},
}
#: What an on-demand stream begins with.
_ON_DEMAND_SHARDS = 4
_ACCOUNTS = own_policy(
    {"Statement": {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "kms:*", "Resource": "*"}}, ""
)
#: SAM's events that are event source mappings, with the property that names their source.
_PULLED = {
    "Kinesis": "Stream",
    "SQS": "Queue",
    "DynamoDB": "Stream",
    "MSK": "Stream",
    "MQ": "Broker",
    "DocumentDB": "Cluster",
}


def read_template(
    path: str, handler: str, *, function: str = "", parameters: Mapping[str, str] | None = None
) -> tuple[Deployment, Unknowns]:
    """The deployment of the function with this ``handler`` (``orders.handler``), or of the logical id ``function``.

    StreamkitError for what is no template; ConfigurationError where it is not told which function is meant.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise StreamkitError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StreamkitError(f"{path} is no template: it is not UTF-8") from None
    root = parsed(text, path)
    intrinsics = Intrinsics(root, path, parameters or {})
    reader = _Reader(intrinsics, intrinsics.get(root, "Globals", "Function"))
    deployment = reader.deployment(reader.chosen(handler, function))
    return msgspec.structs.replace(deployment, unresolved=unresolved(root, path)), intrinsics.unknowns


class _Reader:
    def __init__(self, template: Intrinsics, globals_: Node | None) -> None:
        self._template = template
        self._globals = globals_
        self._functions = {resource.logical_id: self._function(resource) for resource in template.of_kind(*_FUNCTIONS)}
        self._unread: list[Unread] = []

    def chosen(self, handler: str, wanted: str) -> str:
        """The logical id of the function that is meant."""
        there = ", ".join(self._functions) or "none"
        path = self._template.path
        if wanted:
            if wanted not in self._functions:
                raise ConfigurationError(f"{path} has no function {wanted}: there are {there}")
            return wanted
        fitting = [name for name, one in self._functions.items() if is_handler(one.handler, handler)]
        streams = [name for name in fitting if self._reads_a_stream(name)]
        for found in (fitting, streams):
            if len(found) == 1:
                return found[0]
        if fitting:
            raise ConfigurationError(
                f"{path} has several functions with the handler {handler}: choose one by --function: "
                f"{', '.join(fitting)}"
            )
        if len(self._functions) == 1:
            return next(iter(self._functions))
        raise ConfigurationError(
            f"{path} has no function with the handler {handler}: choose one by --function: {there}"
        )

    def deployment(self, logical_id: str) -> Deployment:
        template = self._template
        function = self._functions[logical_id]
        role = RoleReader(template, self._own).role(template.resources[logical_id])
        mappings, subscriptions = self._mappings(), self._subscriptions()
        package = self._package(template.resources[logical_id])
        return Deployment(
            function=function,
            functions=tuple(one for name, one in self._functions.items() if name != logical_id),
            role=role,
            home=template.home,
            mappings=tuple(mappings),
            queues=tuple(map(self._queue, template.of_kind("AWS::SQS::Queue"))),
            places=tuple(map(self._place, template.of_kind(*_WAY_TO_KEY))),
            keys=tuple(map(self._key, template.of_kind("AWS::KMS::Key"))),
            tables=tuple(map(self._table, template.of_kind(*_TABLES))),
            subscriptions=tuple(subscriptions),
            unread=tuple(self._unread),
            package=package,
            log_groups=tuple(map(template.name_of, template.of_kind("AWS::Logs::LogGroup"))),
        )

    def _package(self, resource: Resource) -> PackageFacts | None:
        """The zip that the template names by its path, which is from the template's folder, where it is there."""
        template = self._template
        node = self._own(resource, "CodeUri" if resource.kind == "AWS::Serverless::Function" else "Code")
        name = template.text(node)
        path = Path(template.path).parent / name
        if node is None or not name.endswith(".zip") or "://" in name or not is_known(name) or not path.is_file():
            return None
        try:
            return read_package(path, template.where(node))
        except StreamkitError as error:
            self._unread.append(Unread(str(error), template.where(node)))
            return None

    def _reads_a_stream(self, logical_id: str) -> bool:
        name = self._functions[logical_id].name
        return any(one.function == name and one.service == "kinesis" for one in self._mappings())

    def _own(self, resource: Resource, *path: str) -> Node | None:
        """A property of a function, or what SAM's Globals say of it."""
        found = self._template.property(resource, *path)
        if found is None and resource.kind == "AWS::Serverless::Function":
            return self._template.get(self._globals, *path)
        return found

    def _setting(self, node: Node | None, otherwise: str) -> Setting:
        if node is None:
            return Setting(None, otherwise)
        return Setting(self._template.plain(node), self._template.where(node))

    def _function(self, resource: Resource) -> Function:
        template = self._template
        where = template.where(resource.node)
        variables: dict[str, str] = {}
        places = [template.property(resource, "Environment", "Variables")]
        if resource.kind == "AWS::Serverless::Function":
            places.insert(0, template.get(self._globals, "Environment", "Variables"))
        for node in places:
            if node is not None and isinstance(node.value, dict):
                values = {name: template.plain(value) for name, value in node.value.items()}
                variables |= {name: str(value) for name, value in values.items() if value is not None}
        here = next((template.where(node) for node in reversed(places) if node is not None), where)
        return Function(
            name=template.name_of(resource),
            label=resource.logical_id,
            where=where,
            handler=template.text(self._own(resource, "Handler")),
            timeout=self._setting(self._own(resource, "Timeout"), where),
            environment=variables,
            environment_where=here,
            recursive_loop=self._setting(self._own(resource, "RecursiveLoop"), where),
            on_failure=self._setting(self._failure_target(resource), where),
            logging=self._logging(resource, where),
            runtime=self._setting(self._own(resource, "Runtime"), where),
            architectures=self._setting(self._own(resource, "Architectures"), where),
            concurrency=self._setting(self._own(resource, "ReservedConcurrentExecutions"), where),
            aliases=tuple(self._aliases(resource)),
        )

    def _logging(self, resource: Resource, where: str) -> Logging:
        def setting(name: str) -> Setting:
            return self._setting(self._own(resource, "LoggingConfig", name), where)

        return Logging(
            format=setting("LogFormat"),
            level=setting("ApplicationLogLevel"),
            system_level=setting("SystemLogLevel"),
            group=setting("LogGroup"),
        )

    def _aliases(self, resource: Resource) -> Iterator[Alias]:
        template = self._template
        if published := self._published(resource):
            yield Alias(published, f"!Ref {resource.logical_id}.Alias")
        for alias in template.of_kind("AWS::Lambda::Alias"):
            function = template.text(template.property(alias, "FunctionName"))
            if name_of_function(function) == template.name_of(resource):
                yield Alias(template.text(template.property(alias, "Name")), f"!Ref {alias.logical_id}")

    def _published(self, resource: Resource) -> str:
        """The alias that SAM makes, and that all of the function's events go to; empty for none."""
        if resource.kind != "AWS::Serverless::Function":
            return ""
        return self._template.text(self._own(resource, "AutoPublishAlias"))

    def _failure_target(self, resource: Resource) -> Node | None:
        for path in (
            ("DeadLetterConfig", "TargetArn"),
            ("DeadLetterQueue", "TargetArn"),
            ("EventInvokeConfig", "DestinationConfig", "OnFailure"),
        ):
            if (found := self._own(resource, *path)) is not None:
                return found
        name = self._template.name_of(resource)
        for config in self._template.of_kind("AWS::Lambda::EventInvokeConfig"):
            if name_of_function(self._template.text(self._template.property(config, "FunctionName"))) == name:
                return self._template.property(config, "DestinationConfig", "OnFailure", "Destination")
        return None

    def _mappings(self) -> list[SourceMapping]:
        template = self._template
        mappings = []
        for resource in template.of_kind("AWS::Lambda::EventSourceMapping"):
            properties = template.property(resource)
            function = template.text(template.property(resource, "FunctionName"))
            source = template.text(template.property(resource, "EventSourceArn"))
            mappings.append(self._mapping(resource.logical_id, resource.node, properties, function, source))
        for resource, label, event, kind in self._events():
            if kind in _PULLED:
                source = template.text(template.get(event, "Properties", _PULLED[kind]))
                properties = template.get(event, "Properties")
                mappings.append(self._mapping(label, event, properties, self._triggered(resource), source))
        return mappings

    def _mapping(self, label: str, node: Node, properties: Node | None, function: str, source: str) -> SourceMapping:
        settings = {}
        if properties is not None and isinstance(properties.value, dict):
            settings = {name: self._setting(value, "") for name, value in properties.value.items()}
        settings = {name: setting for name, setting in settings.items() if setting.is_set}
        return SourceMapping(
            label=label,
            where=self._template.where(node),
            function=name_of_function(function),
            qualifier=qualifier_of_function(function),
            source=source,
            settings=settings,
        )

    def _invoked(self, resource: Resource) -> str:
        return self._template.home.arn("lambda", f"function:{self._triggered(resource)}")

    def _triggered(self, resource: Resource) -> str:
        """What SAM's events of a function trigger: its alias, where SAM makes one."""
        published = self._published(resource)
        return self._template.name_of(resource) + (f":{published}" if published else "")

    def _events(self) -> list[tuple[Resource, str, Node, str]]:
        """SAM's events: their function, label, node and type."""
        found = []
        for resource in self._template.of_kind("AWS::Serverless::Function"):
            events = self._template.property(resource, "Events")
            if events is None or not isinstance(events.value, dict):
                continue
            for name, event in events.value.items():
                kind = self._template.text(self._template.get(event, "Type"))
                found.append((resource, f"{resource.logical_id}.{name}", event, kind))
        return found

    def _subscriptions(self) -> list[Subscription]:
        template = self._template
        found = []

        def add(node: Node, topic: Any, protocol: Any, endpoint: Any) -> None:
            found.append(Subscription(str(topic or ""), str(protocol or ""), str(endpoint or ""), template.where(node)))

        for resource in template.of_kind("AWS::SNS::Subscription"):
            values = (
                template.plain(template.property(resource, name)) for name in ("TopicArn", "Protocol", "Endpoint")
            )
            add(resource.node, *values)
        for resource in template.of_kind("AWS::SNS::Topic"):
            for node in template.items(template.property(resource, "Subscription")):
                protocol, endpoint = (template.plain(template.get(node, name)) for name in ("Protocol", "Endpoint"))
                add(node, template.arn_of(resource), protocol, endpoint)
        for resource, label, event, kind in self._events():
            if kind != "SNS":
                continue
            if template.get(event, "Properties", "SqsSubscription") is not None:
                self._unread.append(Unread(f"{label}: the queue of its SqsSubscription", template.where(event)))
                continue
            add(event, template.plain(template.get(event, "Properties", "Topic")), "lambda", self._invoked(resource))
        return found

    def _queue(self, resource: Resource) -> QueueFacts:
        template = self._template
        where = template.where(resource.node)
        name = template.name_of(resource)
        redrive = template.property(resource, "RedrivePolicy")
        there = where if redrive is None else template.where(redrive)

        def setting(*path: str) -> Setting:
            return self._setting(template.property(resource, *path), there if path[0] == "RedrivePolicy" else where)

        return QueueFacts(
            arn=template.arn_of(resource),
            label=resource.logical_id,
            where=where,
            fifo=name.endswith(".fifo") or setting("FifoQueue").flag(default=False) is True,
            visibility=setting("VisibilityTimeout"),
            retention=setting("MessageRetentionPeriod"),
            dead_letters=setting("RedrivePolicy", "deadLetterTargetArn"),
            max_receive_count=setting("RedrivePolicy", "maxReceiveCount"),
            kms_key=setting("KmsMasterKeyId"),
            policy=self._policy_of(resource),
        )

    def _policy_of(self, resource: Resource) -> OwnPolicy:
        """What the template has as the policy of a queue, a topic, a bucket or a stream itself, with the lines of statements."""
        template = self._template
        arn, reference = template.arn_of(resource), template.text(Node({"Ref": Node(resource.logical_id, 0)}, 0))
        found = OwnPolicy()
        kinds = _POLICIES[resource.kind]
        for policy in template.of_kind(*kinds):
            named = [template.text(node) for node in template.items(template.property(policy, kinds[policy.kind]))]
            answers = [may_be(one, whole) for one in named for whole in (reference, arn)]
            if set(answers) <= {False}:
                continue
            made = self._statements(policy)
            if not made.is_whole:
                self._leave(f"what the policy {policy.logical_id} denies: it can't be read whole", policy)
            if True not in answers:
                # What may be of this one counts as well; but that it denies something is not told.
                allowing = tuple(one for one in made.statements if one.effect == "Allow")
                if len(allowing) < len(made.statements):
                    self._leave(f"what the policy {policy.logical_id} denies: whose it is, is not known", policy)
                made = OwnPolicy(allowing, made.is_whole)
            found += made
        return found

    def _leave(self, what: str, resource: Resource) -> None:
        unread = Unread(what, self._template.where(resource.node))
        if unread not in self._unread:
            self._unread.append(unread)

    def _statements(self, policy: Resource) -> OwnPolicy:
        template = self._template
        document = template.property(
            policy, "PolicyDocument" if policy.kind != "AWS::Kinesis::ResourcePolicy" else "ResourcePolicy"
        )
        found = OwnPolicy()
        for node in template.items(template.get(document, "Statement")):
            found += own_policy({"Statement": template.plain(node)}, template.where(node))
        return found

    def _place(self, resource: Resource) -> PlaceFacts:
        template = self._template
        node = template.property(resource)
        for name in _WAY_TO_KEY[resource.kind]:
            # Lists here have one rule, which is all that AWS takes.
            node = next(iter(template.items(template.get(node, name))), None)
        where = template.where(resource.node)
        key = self._setting(node, where)
        return PlaceFacts(
            arn=template.arn_of(resource),
            where=where,
            kms_key=key,
            shards=self._shards(resource),
            retention=self._setting(template.property(resource, "RetentionPeriodHours"), where),
            policy=self._policy_of(resource),
        )

    def _shards(self, resource: Resource) -> int | None:
        template = self._template
        if template.text(template.property(resource, "StreamModeDetails", "StreamMode")) == "ON_DEMAND":
            return _ON_DEMAND_SHARDS
        return self._setting(template.property(resource, "ShardCount"), "").number(0) or None

    def _key(self, resource: Resource) -> KeyFacts:
        template = self._template
        arn = template.arn_of(resource)
        names = [template.name_of(resource)]
        for alias in template.of_kind("AWS::KMS::Alias"):
            if template.text(template.property(alias, "TargetKeyId")) in (arn, names[0]):
                name = template.name_of(alias)
                names += [name, template.home.arn("kms", name)]
        document = template.property(resource, "KeyPolicy")
        # Without one KMS writes one that leaves it to the account.
        policy = _ACCOUNTS if document is None else own_policy(template.plain(document), template.where(document))
        return KeyFacts(arn=arn, names=tuple(names), policy=policy)

    def _table(self, resource: Resource) -> TableFacts:
        template = self._template
        where = template.where(resource.node)
        keys: tuple[tuple[str, str], ...] | None = None
        if resource.kind == "AWS::Serverless::SimpleTable":
            name = template.text(template.property(resource, "PrimaryKey", "Name")) or "id"
            keys = ((name, "HASH"),) if is_known(name) else None
        else:
            parts = template.plain(template.property(resource, "KeySchema"))
            if isinstance(parts, list) and all(isinstance(part, dict) for part in parts):
                keys = tuple((str(part.get("AttributeName")), str(part.get("KeyType"))) for part in parts)
                keys = keys if all(is_known(name) and is_known(kind) for name, kind in keys) else None
        expiry = template.property(resource, "TimeToLiveSpecification")
        is_on = self._setting(template.get(expiry, "Enabled"), where).flag(default=expiry is not None)
        attribute = None if is_on is False else template.get(expiry, "AttributeName")
        return TableFacts(
            name=template.name_of(resource), where=where, keys=keys, expiry=self._setting(attribute, where)
        )

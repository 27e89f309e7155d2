"""A function as it runs in AWS, read by AWS's own answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from ..aws import code_of
from ..errors import StreamkitError
from .deployed_places import PlaceReader, service_of
from .deployed_role import DENIED, NOT_THERE, read_role
from .deployment import (
    Alias,
    Deployment,
    Function,
    Home,
    Logging,
    QueueFacts,
    Setting,
    SourceMapping,
    Subscription,
    TableFacts,
    Unread,
    name_of_function,
    qualifier_of_function,
)
from .parts import Part
from .statements import own_policy
from .unknown import is_same_home

__all__ = ["Account"]

T = TypeVar("T")

_NO_QUEUE = ("NonExistentQueue", "QueueDoesNotExist")
_TABLE_ROLES = ("ledger", "progress", "plans", "marks")
# AWS's names of a mapping's settings that a rule looks at, and the options of its command.
_OPTIONS = {
    "BatchSize": "batch-size",
    "MaximumBatchingWindowInSeconds": "maximum-batching-window-in-seconds",
    "ParallelizationFactor": "parallelization-factor",
    "BisectBatchOnFunctionError": "bisect-batch-on-function-error",
    "MaximumRetryAttempts": "maximum-retry-attempts",
    "MaximumRecordAgeInSeconds": "maximum-record-age-in-seconds",
    "TumblingWindowInSeconds": "tumbling-window-in-seconds",
    "FunctionResponseTypes": "function-response-types",
    "FilterCriteria": "filter-criteria",
    "DestinationConfig": "destination-config",
    "Enabled": "enabled",
}


class Account:
    """``client_of(service)`` gives boto3's client. ``function`` is a name or an ARN, with or without an alias behind it.

    What this user may not look at is noted, and not guessed. What goes wrong otherwise is boto3's error.
    """

    def __init__(self, client_of: Callable[[str], Any], function: str) -> None:
        self._client_of = client_of
        self._given = function
        self._unread: list[Unread] = []
        self._missing: list[Unread] = []
        self._clients: dict[str, Any] = {}

    def deployment(self) -> Deployment:
        """The function, its mappings and its role. StreamkitError where there is no such function."""
        try:
            config = self._lambda.get_function_configuration(FunctionName=self._given)
        except self._lambda.exceptions.ResourceNotFoundException:
            raise StreamkitError(
                f"there is no function {self._given} here: check the name, --region, --profile and --endpoint-url; "
                "`aws lambda list-functions` names those there are"
            ) from None
        arn = config["FunctionArn"].split(":")
        home = Home(arn[1], arn[3], arn[4])
        function = self._with_releases(self._function(config))
        listed = self._listed(f"the mappings of {self._given}", FunctionName=self._given) or []
        is_alias = ":" in self._given.rpartition("function:")[2]
        if is_alias:
            # Those that pass it by.
            listed += self._listed(f"the mappings of {function.name}", FunctionName=function.name) or []
        mappings = tuple(self._mapping(one) for one in {one["UUID"]: one for one in listed}.values())
        if not mappings and not is_alias:
            self._unread.append(
                Unread(
                    f"mappings of an alias, which are not {self._given}'s: name them by {self._given}:ALIAS",
                    function.where,
                )
            )
        role = msgspec.structs.replace(
            read_role(self._client("iam"), config.get("Role", "")), arn=config.get("Role", "")
        )
        return Deployment(
            function=function, role=role, home=home, mappings=mappings, is_complete=True, unread=tuple(self._unread)
        )

    def completed(self, deployment: Deployment, parts: Sequence[Part]) -> Deployment:
        """``deployment`` with the queues, topics and tables that the processor turned out to use, who reads them, and with
        what is encrypted and by which key.
        """
        self._unread, self._missing = [], []
        subscriptions: list[Subscription] = []
        queues = [mapping.source for mapping in deployment.own_mappings("sqs")]
        for part in parts:
            service = part.arn.split(":")[2:3]
            if part.role in ("retry queue", "dead letters") and service == ["sqs"]:
                queues.append(part.arn)
            elif part.role == "retry queue" and service == ["sns"]:
                subscriptions += self._subscriptions(part)
        queues += [one.endpoint for one in subscriptions if one.protocol == "sqs"]
        others = self._others(deployment, parts)
        facts = self._queues([*queues, *(arn for arn in others if service_of(arn) == "sqs")])
        reader = PlaceReader(self._client, self._asked)
        places = [place for place in map(reader.place, others) if place is not None]
        settings = [queue.kms_key for queue in facts] + [place.kms_key for place in places]
        keys = dict.fromkeys(setting.text() for setting in settings if setting.is_set)
        readers, knows_all = self._readers(queues)
        own = {mapping.label for mapping in deployment.mappings}
        mappings = (*deployment.mappings, *(one for one in readers if one.label not in own))
        names = {one.function for one in mappings}
        names |= {name_of_function(one.endpoint) for one in subscriptions if one.protocol == "lambda"}
        functions = (self._other_function(name) for name in sorted(names - {deployment.function.name}))
        tables = [self._table(part) for part in parts if part.role in _TABLE_ROLES and part.place]
        return msgspec.structs.replace(
            deployment,
            mappings=mappings,
            functions=tuple(one for one in functions if one is not None),
            queues=tuple(facts),
            places=tuple(places),
            keys=tuple(key for key in map(reader.key, keys) if key is not None),
            tables=tuple(one for one in tables if one is not None),
            subscriptions=tuple(subscriptions),
            is_complete=knows_all,
            unread=(*deployment.unread, *self._unread),
            missing=tuple(self._missing),
        )

    def _others(self, deployment: Deployment, parts: Sequence[Part]) -> list[str]:
        """The ARNs of what the function reads and writes, and Lambda for it; of this region, where this client can ask."""
        own = [one for one in deployment.mappings if one.function == deployment.function.name]
        used = [one.stream for one in own] + [one.on_failure.text() for one in own]
        used += [deployment.function.on_failure.text(), *(part.arn for part in parts)]
        home = deployment.home
        return [
            arn
            for arn in dict.fromkeys(used)
            if service_of(arn) == "s3" or (service_of(arn) and is_same_home(arn.split(":")[3], home.region))
        ]

    @property
    def _lambda(self) -> Any:
        return self._client("lambda")

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._client_of(service)
        return self._clients[service]

    def _function(self, config: dict[str, Any]) -> Function:
        name = config["FunctionName"]
        change = f"aws lambda update-function-configuration --function-name {name}"
        loops = f"aws lambda put-function-recursion-config --function-name {name} --recursive-loop"
        recursive = self._asked(
            f"RecursiveLoop of {name}", loops, lambda: self._lambda.get_function_recursion_config(FunctionName=name)
        )
        return Function(
            name=name,
            label=name,
            where=change,
            handler=config.get("Handler", ""),
            timeout=Setting(config.get("Timeout"), f"{change} --timeout"),
            environment=config.get("Environment", {}).get("Variables", {}),
            environment_where=f"{change} --environment",
            recursive_loop=Setting((recursive or {}).get("RecursiveLoop"), loops),
            on_failure=Setting(self._failure_target(name, config), f"{change} --dead-letter-config"),
            logging=_logging(config.get("LoggingConfig", {}), f"{change} --logging-config"),
        )

    def _with_releases(self, function: Function) -> Function:
        """With its aliases, and the concurrency that is kept for it."""
        name = function.name
        listed = self._asked(
            f"the aliases of {name}", f"aws lambda list-aliases --function-name {name}", self._aliases_of(name)
        )
        change = f"aws lambda put-function-concurrency --function-name {name} --reserved-concurrent-executions"
        kept = self._asked(
            f"the concurrency of {name}", change, lambda: self._lambda.get_function_concurrency(FunctionName=name)
        )
        return msgspec.structs.replace(
            function,
            aliases=tuple(Alias(alias, f"{name}:{alias}") for alias in listed or ()),
            concurrency=Setting((kept or {}).get("ReservedConcurrentExecutions"), change),
        )

    def _aliases_of(self, name: str) -> Callable[[], list[str]]:
        def ask() -> list[str]:
            pages = self._lambda.get_paginator("list_aliases").paginate(FunctionName=name)
            return [one["Name"] for page in pages for one in page["Aliases"]]

        return ask

    def _failure_target(self, name: str, config: dict[str, Any]) -> str | None:
        target: str | None = config.get("DeadLetterConfig", {}).get("TargetArn")
        if target:
            return target
        answer = self._asked(
            f"the on-failure destination of {name}",
            f"aws lambda put-function-event-invoke-config --function-name {name}",
            lambda: self._lambda.get_function_event_invoke_config(FunctionName=name),
            is_optional=True,
        )
        found: str | None = (answer or {}).get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
        return found

    def _other_function(self, name: str) -> Function | None:
        what = f"the function {name}"
        config = self._asked(what, what, lambda: self._lambda.get_function_configuration(FunctionName=name))
        return None if config is None else self._function(config)

    def _listed(self, what: str, **query: str) -> list[dict[str, Any]] | None:
        def ask() -> list[dict[str, Any]]:
            pages = self._lambda.get_paginator("list_event_source_mappings").paginate(**query)
            return [one for page in pages for one in page["EventSourceMappings"]]

        return self._asked(what, "aws lambda list-event-source-mappings", ask)

    def _mapping(self, written: dict[str, Any]) -> SourceMapping:
        uuid = written["UUID"]
        change = f"aws lambda update-event-source-mapping --uuid {uuid}"
        values = {name: written.get(name) for name in _OPTIONS if name != "Enabled"}
        values["Enabled"] = written.get("State", "Enabled") not in ("Disabled", "Disabling")
        settings = {name: Setting(value, f"{change} --{_OPTIONS[name]}") for name, value in values.items()}
        # It can't be changed, only be made anew.
        start = f"aws lambda create-event-source-mapping, in place of {uuid}, --starting-position"
        for name in ("StartingPosition", "StartingPositionTimestamp"):
            settings[name] = Setting(written.get(name), start)
        function = written.get("FunctionArn", "")
        settings["FunctionName"] = Setting(function, f"{change} --function-name")
        return SourceMapping(
            label=f"the mapping {uuid}",
            where=change,
            function=name_of_function(function),
            qualifier=qualifier_of_function(function),
            source=written.get("EventSourceArn", ""),
            settings=settings,
        )

    def _readers(self, queues: Iterable[str]) -> tuple[list[SourceMapping], bool]:
        """The mappings of these queues, whosever they are; and whether all of them could be asked for."""
        found: dict[str, SourceMapping] = {}
        knows_all = True
        for arn in dict.fromkeys(queues):
            listed = self._listed(f"who reads {arn}", EventSourceArn=arn)
            knows_all = knows_all and listed is not None
            for one in listed or ():
                mapping = self._mapping(one)
                found[mapping.label] = mapping
        return list(found.values()), knows_all

    def _queues(self, arns: Iterable[str]) -> list[QueueFacts]:
        """These queues, and those that their redrive policies move messages to."""
        facts: dict[str, QueueFacts | None] = {}
        waiting = list(dict.fromkeys(arns))
        while waiting:
            arn = waiting.pop(0)
            if arn in facts or len(arn.split(":")) != 6:
                continue
            facts[arn] = queue = self._queue(arn)
            if queue is not None and queue.dead_letters.is_set:
                waiting.append(queue.dead_letters.text())
        return [queue for queue in facts.values() if queue is not None]

    def _queue(self, arn: str) -> QueueFacts | None:
        account, name = arn.split(":")[4:]

        def ask() -> dict[str, str]:
            sqs = self._client("sqs")
            url = sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
            attributes: dict[str, str] = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            return {**attributes, "url": url}

        written = self._asked(f"the queue {arn}", f"the queue {name}", ask)
        if written is None:
            return None
        change = f"aws sqs set-queue-attributes --queue-url {written['url']} --attributes"
        redrive = json.loads(written.get("RedrivePolicy") or "{}")
        return QueueFacts(
            arn=arn,
            label=name,
            where=change,
            fifo=name.endswith(".fifo"),
            visibility=Setting(written.get("VisibilityTimeout"), f"{change} VisibilityTimeout"),
            retention=Setting(written.get("MessageRetentionPeriod"), f"{change} MessageRetentionPeriod"),
            dead_letters=Setting(redrive.get("deadLetterTargetArn"), f"{change} RedrivePolicy"),
            max_receive_count=Setting(redrive.get("maxReceiveCount"), f"{change} RedrivePolicy"),
            kms_key=Setting(written.get("KmsMasterKeyId") or None, f"{change} KmsMasterKeyId"),
            policy=own_policy(json.loads(written.get("Policy") or "{}"), change),
        )

    def _subscriptions(self, part: Part) -> list[Subscription]:
        def ask() -> list[Subscription]:
            pages = self._client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=part.arn)
            listed = [one for page in pages for one in page["Subscriptions"]]
            return [
                Subscription(part.arn, one["Protocol"], one["Endpoint"], f"the subscription {one['SubscriptionArn']}")
                for one in listed
            ]

        return self._asked(f"the topic {part.arn}", part.name, ask) or []

    def _table(self, part: Part) -> TableFacts | None:
        name = part.place.rpartition("table/")[2]

        def ask() -> TableFacts:
            dynamodb = self._client("dynamodb")
            keys = dynamodb.describe_table(TableName=part.place)["Table"]["KeySchema"]
            expiry = dynamodb.describe_time_to_live(TableName=part.place)["TimeToLiveDescription"]
            is_on = expiry.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
            change = f"aws dynamodb update-time-to-live --table-name {name}"
            return TableFacts(
                name=name,
                where=f"the table {name}",
                keys=tuple((key["AttributeName"], key["KeyType"]) for key in keys),
                expiry=Setting(expiry.get("AttributeName") if is_on else None, change),
            )

        return self._asked(f"the table {name}", part.name, ask)

    def _asked(self, what: str, where: str, ask: Callable[[], T], *, is_optional: bool = False) -> T | None:
        """The answer; None where this user may not ask, which is noted, or where there is no such thing: an error, unless it
        ``is_optional``.
        """
        from botocore.exceptions import ClientError

        try:
            return ask()
        except ClientError as error:
            code = code_of(error)
            if is_optional and code in NOT_THERE:
                return None
            if code in DENIED:
                self._unread.append(Unread(f"{what}: this user may not look at it ({code})", where))
            elif code.endswith(_NO_QUEUE) or (code in NOT_THERE and "recursion" not in where):
                self._missing.append(Unread(what, where))
            elif code in NOT_THERE:
                self._unread.append(Unread(f"{what}: nothing here knows of it ({code})", where))
            else:
                raise
            return None


def _logging(config: dict[str, Any], change: str) -> Logging:
    return Logging(
        format=Setting(config.get("LogFormat"), change),
        level=Setting(config.get("ApplicationLogLevel"), change),
        system_level=Setting(config.get("SystemLogLevel"), change),
        group=Setting(config.get("LogGroup"), change),
    )

"""Where the function's role does not allow what streamkit and Lambda ask for in its name."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .deployment import Deployment, OwnPolicy, SourceMapping
from .parts import Need
from .report import Subject
from .statements import Verdict, decided, denied_by, leaves_it_to_roles, may_allow
from .unknown import hangs_on_a_value, is_known

__all__ = ["check_permissions"]

_OF_STREAMS = tuple(
    f"kinesis:{one}"
    for one in ("GetRecords", "GetShardIterator", "DescribeStream", "DescribeStreamSummary", "ListShards")
)
_OF_QUEUES = ("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes")
#: What an action needs of the key of what it is done to.
_OF_KEYS = {
    "kinesis:GetRecords": ("kms:Decrypt",),
    "kinesis:PutRecords": ("kms:GenerateDataKey",),
    "s3:GetObject": ("kms:Decrypt",),
    "s3:PutObject": ("kms:GenerateDataKey",),
    "sns:Publish": ("kms:GenerateDataKey", "kms:Decrypt"),
    "sqs:ReceiveMessage": ("kms:Decrypt",),
    "sqs:SendMessage": ("kms:GenerateDataKey", "kms:Decrypt"),
}
#: What goes wrong where a part of this role can't be used.
_COSTS = {
    "retry queue": "what fails can't be put aside, and holds its shard",
    "dead letters": "what is given up can't be put aside, and stays where it is",
    "ledger": "no record starts",
    "progress": "nothing that was done is known when a batch comes again, so all of it runs again",
    "claims": "what is too large for its queue stays where it is",
    "plans": "no row is written",
    "marks": "no effect is done",
    "sink": "nothing is written, and the records stay where they are",
    "queue": "nothing is sent",
    "parameters": "it has no value but its default, and where there is none the records stay where they are",
}


_NO_LOG = "no line of the log is kept, so what failed, and the metrics that are printed, are lost without a word"


class _Wanted(msgspec.Struct, frozen=True):
    who: str
    need: Need
    cost: str


def check_permissions(subject: Subject) -> None:
    """Every action on every resource that the function, or its mappings, will ask for."""
    report, role = subject.report, subject.deployment.role
    for unread in role.unread:
        report.not_checked(unread.where, f"what {unread.what} allows or forbids: it is not here to read")
    for part in subject.parts:
        if not part.is_known:
            what = (
                f"what is at {part.place}" if part.place else "what permissions it needs: it is nothing of streamkit's"
            )
            report.not_checked(part.name, what)
    for wanted in _with_keys(subject):
        verdicts = {action: decided(role.statements, action, wanted.need.resource) for action in wanted.need.actions}
        _tell(wanted, verdicts, subject)
        _tell_denials(wanted, subject)
    _log_group(subject)


def _with_keys(subject: Subject) -> Iterator[_Wanted]:
    """And of what is encrypted with a key of one's own, the key."""
    for wanted in _wanted(subject):
        yield wanted
        needed = [one for action in wanted.need.actions for one in _OF_KEYS.get(action, ())]
        key = subject.deployment.key_of(_owner(wanted.need.resource)) if needed else ""
        if key and not _is_awss(key, subject):
            actions = tuple(dict.fromkeys(needed))
            yield msgspec.structs.replace(wanted, need=Need(actions, _resource_of_key(key, actions, subject)))


def _owner(resource: str) -> str:
    """The bucket of an object; anything else itself."""
    return resource.partition("/")[0] if resource.split(":")[2:3] == ["s3"] else resource


def _is_awss(key: str, subject: Subject) -> bool:
    """AWS's own keys let all of the account use them, by the service that they are for."""
    known = subject.deployment.key(key)
    return key.rpartition(":")[2].startswith("alias/aws/") or (known is not None and known.is_awss)


def _resource_of_key(key: str, actions: tuple[str, ...], subject: Subject) -> str:
    """The ARN of the key, as far as it is known. A value that nobody gave may be an id or an ARN: the one that is allowed."""
    known = subject.deployment.key(key)
    if known is not None:
        return known.arn
    if key.startswith("arn:"):
        return key
    arn = subject.deployment.home.arn("kms", key if key.startswith("alias/") else f"key/{key}")
    statements = subject.deployment.role.statements
    is_allowed = any(decided(statements, action, key).kind == "allowed" for action in actions)
    return key if not is_known(key) and is_allowed else arn


def _wanted(subject: Subject) -> Iterator[_Wanted]:
    deployment = subject.deployment
    seen: set[tuple[str, str]] = set()
    for part in subject.parts:
        for need in part.needs:
            # Branches that share a queue need it once.
            if (one := (need.resource, " ".join(need.actions))) not in seen:
                seen.add(one)
                yield _Wanted(part.name, need, _COSTS[part.role])
    for mapping in deployment.mappings:
        if mapping.function == deployment.function.name:
            yield from _of_mapping(mapping, subject)
    given_up = _of_destination(deployment.function.on_failure.text())
    if given_up is not None:
        yield _Wanted(deployment.function.label, given_up, "what Lambda gives up is dropped")
    yield _of_log(deployment)


def _of_log(deployment: Deployment) -> _Wanted:
    """IAM asks for these of a log stream, so a group's ARN alone, without ``:*``, allows neither."""
    streams = deployment.home.arn("logs", f"log-group:{deployment.function.log_group}:log-stream:any-object")
    need = Need(("logs:CreateLogStream", "logs:PutLogEvents"), streams)
    return _Wanted(f"{deployment.function.label}'s log", need, _NO_LOG)


def _log_group(subject: Subject) -> None:
    """Lambda makes the group itself, in the name of the role, where nobody has."""
    deployment, role = subject.deployment, subject.deployment.role
    group = deployment.function.log_group
    there = deployment.log_groups
    if there is None or group in there or any(map(hangs_on_a_value, (group, *there))):
        return
    resource = deployment.home.arn("logs", f"log-group:{group}")
    verdicts = [decided(role.statements, "logs:CreateLogGroup", f"{resource}{end}").kind for end in ("", ":any-object")]
    if set(verdicts) <= {"missing", "denied"} and not role.unread:
        subject.report.warning(
            role.where,
            f"the template has no log group {group}, and nothing in the role allows logs:CreateLogGroup: unless it is there "
            f"already, {_NO_LOG}. Add an AWS::Logs::LogGroup with this LogGroupName, or allow it",
        )


def _of_mapping(mapping: SourceMapping, subject: Subject) -> Iterator[_Wanted]:
    if mapping.service == "kinesis":
        yield _Wanted(mapping.label, Need(_OF_STREAMS, mapping.stream), "Lambda can't read the stream")
        if mapping.source != mapping.stream:
            yield _Wanted(
                mapping.label, Need(("kinesis:SubscribeToShard",), mapping.source), "Lambda can't read the stream"
            )
    elif mapping.service == "sqs":
        yield _Wanted(mapping.label, Need(_OF_QUEUES, mapping.source), "Lambda can't read the queue")
    if need := _of_destination(mapping.on_failure.text()):
        yield _Wanted(f"{mapping.label}'s OnFailure", need, "what Lambda gives up is lost without a word")


def _of_destination(arn: str) -> Need | None:
    service = (arn.split(":") + [""] * 3)[2]
    if service == "s3":
        return Need(("s3:PutObject",), f"{arn}/aws/lambda/any-object")
    action = {"sqs": "sqs:SendMessage", "sns": "sns:Publish"}.get(service)
    return Need((action,), arn) if action else None


def _may_by_own_policy(need: Need, action: str, subject: Subject) -> bool:
    """Whether the policy of the resource itself may allow it, for all that is known here."""
    deployment = subject.deployment
    if action.startswith("kms:"):
        key = deployment.key(need.resource)
        return (
            key is None
            or may_allow(key.policy, action, key.arn)
            or not leaves_it_to_roles(key.policy, action, key.arn, deployment.home.account)
        )
    found = _own_policy(need.resource, subject)
    return need.has_own_policy or (found is not None and may_allow(found[0], action, need.resource))


def _shown(wanted: _Wanted) -> str:
    return wanted.need.resource.replace("any-object", "*")


def _own_policy(resource: str, subject: Subject) -> tuple[OwnPolicy, str] | None:
    """The policy of a queue, a topic, a bucket, a stream or a key itself, and the ARN that this has there."""
    deployment = subject.deployment
    if resource.split(":")[2:3] == ["kms"]:
        key = deployment.key(resource)
        return None if key is None else (key.policy, key.arn)
    found = deployment.queue(resource) or deployment.place(_owner(resource))
    return None if found is None else (found.policy, resource)


def _tell_denials(wanted: _Wanted, subject: Subject) -> None:
    deployment, report = subject.deployment, subject.report
    found = _own_policy(wanted.need.resource, subject)
    if found is None:
        return
    policy, resource = found
    verdicts = {
        action: denied_by(policy, action, resource, deployment.role.arn, deployment.home.account)
        for action in wanted.need.actions
    }
    for kind in ("denied", "maybe"):
        actions = [action for action, verdict in verdicts.items() if verdict is not None and verdict.kind == kind]
        if not actions:
            continue
        verdict = verdicts[actions[0]]
        assert verdict is not None
        assert verdict.statement is not None  # Both kinds have one.
        where, named = verdict.statement.where, " and ".join(actions)
        if kind == "denied":
            report.error(
                where,
                f"{wanted.who} needs {named} on {_shown(wanted)}, whose own policy denies it to this role, whatever the "
                f"role allows: {wanted.cost}. Leave the role out of this statement",
            )
        else:
            report.not_checked(where, f"whether {wanted.who} may {named} on {_shown(wanted)}: {verdict.why}")


def _tell(wanted: _Wanted, verdicts: dict[str, Verdict], subject: Subject) -> None:
    report, role = subject.report, subject.deployment.role
    for action, verdict in verdicts.items():
        if verdict.kind == "denied" and verdict.statement is not None:
            report.error(
                verdict.statement.where,
                f"{wanted.who} needs {action} on {_shown(wanted)}, and this statement denies it: "
                f"{wanted.cost}. Leave it out of the "
                "statement",
            )
        elif verdict.kind == "maybe" and verdict.statement is not None:
            report.not_checked(
                verdict.statement.where, f"whether {wanted.who} may {action} on {_shown(wanted)}: {verdict.why}"
            )
    missing = [action for action, verdict in verdicts.items() if verdict.kind == "missing"]
    if not missing:
        return
    open_ = missing if role.unread else [one for one in missing if _may_by_own_policy(wanted.need, one, subject)]
    if open_:
        who = role.unread[0].what if role.unread else "the resource's own policy"
        report.not_checked(
            role.where,
            f"{wanted.who} needs {' and '.join(open_)} on {_shown(wanted)}: nothing that was read allows it; {who} may",
        )
    missing = [action for action in missing if action not in open_]
    if not missing:
        return
    resource = _shown(wanted)
    if resource == "*":
        # A star alone is an alias to YAML.
        resource = "'*'"
    resource = resource if is_known(resource) else f"!Sub '{resource}'"
    report.error(
        role.where,
        f"nothing in the role allows {' and '.join(missing)} for {wanted.who}: {wanted.cost}. Add "
        f"{{Effect: Allow, Action: [{', '.join(missing)}], Resource: {resource}}}",
    )

"""Which log groups are subscribed, and what that takes: decided from what CloudWatch Logs says of a group, without asking it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from ..errors import ConfigurationError

__all__ = ["RETENTIONS", "Group", "Plan", "Wanted", "group_of", "is_candidate", "plan"]

#: Days that CloudWatch Logs can keep a group's lines for; 0 leaves them as they are.
RETENTIONS = (
    *(0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827),
    *(2192, 2557, 2922, 3288, 3653),
)
# Subscription filters that a group can have.
_MOST_FILTERS = 2

Finding = Literal["subscribed", "changed", "as wanted", "own", "loop", "full", "passed over"]


class Group(msgspec.Struct, frozen=True):
    """What is known of a log group. ``kind`` is its class: ``STANDARD``, or one that takes no subscription filter."""

    name: str
    retention: int | None = None
    kind: str = "STANDARD"


class Wanted(msgspec.Struct, frozen=True):
    """What is wanted of every group whose name matches one of ``include`` and none of ``exclude``, patterns with ``*`` and ``?``.

    ``own`` are the groups of who reads and who subscribes: they are never subscribed, whatever the patterns say. ``role`` is
    what CloudWatch Logs puts records into a stream with; empty for a function.
    """

    destination: str
    own: frozenset[str]
    filter_name: str = "streamkit-logs"
    pattern: str = ""
    role: str = ""
    retention: int = 0
    include: tuple[str, ...] = ("/aws/lambda/*",)
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.retention not in RETENTIONS:
            raise ConfigurationError(
                f"a retention is one of {', '.join(map(str, RETENTIONS))} days; got {self.retention}"
            )
        service = self.destination.split(":", 3)[2:3]
        if service not in (["lambda"], ["kinesis"]) or not self.destination.startswith("arn:"):
            raise ConfigurationError(
                f"the destination is the ARN of a function or of a Kinesis stream; got {self.destination!r}"
            )
        if (service == ["kinesis"]) != bool(self.role):
            raise ConfigurationError("a stream as destination takes the ARN of a role, and a function takes none")
        if not self.own:
            raise ConfigurationError(
                "name the log groups of the functions that read what is subscribed: without that they would read their own"
            )


class Plan(msgspec.Struct, frozen=True):
    """``puts_filter`` and ``puts_retention`` are what is to be done; ``why`` is for who reads the log."""

    finding: Finding
    puts_filter: bool = False
    puts_retention: bool = False
    why: str = ""


def group_of(answer: Mapping[str, Any]) -> Group:
    """A group as DescribeLogGroups has it."""
    return Group(answer["logGroupName"], answer.get("retentionInDays"), answer.get("logGroupClass") or "STANDARD")


def is_candidate(group: Group, wanted: Wanted) -> bool:
    """Whether its filters have to be looked at: what the patterns name, and what must never be subscribed."""
    return group.name in wanted.own or _is_named(group.name, wanted)


def plan(group: Group, filters: Sequence[Mapping[str, Any]], wanted: Wanted) -> Plan:
    """What to do with a group that has these filters, as DescribeSubscriptionFilters has them."""
    if group.name in wanted.own:
        looping = [one["filterName"] for one in filters if _goes_to(one, wanted.destination)]
        if looping:
            return Plan(
                "loop",
                why=f"{group.name} is subscribed to its own reader, which is a loop. Remove it: aws logs "
                f"delete-subscription-filter --log-group-name {group.name} --filter-name {looping[0]}",
            )
        return Plan("own")
    if not _is_named(group.name, wanted):
        return Plan("passed over")
    puts_retention = bool(wanted.retention) and group.retention is None
    if group.kind != "STANDARD":
        why = f"{group.name} is of the class {group.kind}, which takes no subscription filter"
        return Plan("passed over", puts_retention=puts_retention, why=why)
    named = next((one for one in filters if one["filterName"] == wanted.filter_name), None)
    if named is not None:
        is_as_wanted = (
            named.get("destinationArn") == wanted.destination
            and (named.get("filterPattern") or "") == wanted.pattern
            and (named.get("roleArn") or "") == wanted.role
        )
        if is_as_wanted:
            return Plan("as wanted", puts_retention=puts_retention)
        return Plan("changed", puts_filter=True, puts_retention=puts_retention)
    if any(_goes_to(one, wanted.destination) for one in filters):
        # By another name: two would deliver each line twice.
        return Plan("as wanted", puts_retention=puts_retention)
    if len(filters) >= _MOST_FILTERS:
        why = f"{group.name} has {len(filters)} subscription filters already, and takes no more: remove one of them"
        return Plan("full", puts_retention=puts_retention, why=why)
    return Plan("subscribed", puts_filter=True, puts_retention=puts_retention)


def _is_named(name: str, wanted: Wanted) -> bool:
    from fnmatch import fnmatchcase

    return any(fnmatchcase(name, pattern) for pattern in wanted.include) and not any(
        fnmatchcase(name, pattern) for pattern in wanted.exclude
    )


def _goes_to(one: Mapping[str, Any], destination: str) -> bool:
    """Whether a filter delivers there, to whichever version or alias of a function."""
    parts = [str(arn).split(":")[:7] for arn in (one.get("destinationArn"), destination)]
    return parts[0] == parts[1]

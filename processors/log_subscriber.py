"""Subscribes log groups to the function (or the stream) that reads them, and sets their retention where nobody has.

Deploy it with the handler ``processors.log_subscriber.handler``, behind a schedule of EventBridge, which has it look at all
groups; and behind a rule for CloudTrail's ``CreateLogGroup``, where the account has a trail, for new groups at once. Set up by

    DESTINATION_ARN    required: of the function, or of the Kinesis stream
    OWN_GROUPS         log groups that are never subscribed, with commas between: those of the functions that read what is
                       subscribed. This function's own, and /aws/lambda/NAME of a function as destination, are known
    ROLE_ARN           of a stream: the role by which CloudWatch Logs puts records into it
    FILTER_NAME        default "streamkit-logs"
    FILTER_PATTERN     default "", every line; "?ERROR ?REPORT ?MONITORING" is fewer
    INCLUDE            patterns of names, with commas between; default "/aws/lambda/*"
    EXCLUDE            patterns of names that are left out; default none
    RETENTION_DAYS     of groups that have none; default 0, which leaves them as they are
    DRY_RUN            "true": say what would be done, and do nothing; default "false"

What it does is done again without harm. What there is no time for goes on in another invocation of this function, which it makes
itself. Groups that could not be dealt with are in the log, and make it raise when the others are done: the last invocation, for
all before it. One that has made the next never raises, for Lambda would repeat it, and what goes on would go on three times. Nor
does one that has no answer to that: the next may be made, and where it is not, the schedule's next goes through all groups again.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from streamkit.aws import Clients, code_of, from_environment, may_pass, repeat_until
from streamkit.errors import ConfigurationError, StreamkitError
from streamkit.health import answer_to
from streamkit.logs.subscriptions import Group, Plan, Wanted, group_of, is_candidate, plan
from streamkit.reason import reason
from streamkit.warm import Container

from .settings import named, true_or_false, whole_number

__all__ = ["LogSubscriber", "handler", "wanted_by_environment"]

log = logging.getLogger("streamkit")

_OWNER = "processors.log_subscriber"
# Seconds: of one call and its repeats; what is kept to hand on what is left; and what there is where nobody says.
_PATIENCE, _MARGIN, _DEFAULT = 8.0, 10.0, 60.0
# Lambda stops what calls itself for the 16th time or so.
_MOST_HOPS = 12
_PAGE = 50
# Groups that an error names.
_NAMED = 5
# Another call of somebody's for the same group is under way; and too many calls at once.
_PASSING = ("OperationAbortedException", "LimitExceededException")
_GONE = "ResourceNotFoundException"


class LogSubscriber:
    """The function. ``logs`` and ``functions`` are for tests: boto3's clients of CloudWatch Logs and of Lambda."""

    def __init__(self, logs: Any = None, functions: Any = None) -> None:
        self._logs = Clients("logs", _OWNER, logs)
        self._functions = Clients("lambda", _OWNER, functions)
        self._container = Container()

    def __call__(self, event: Any, context: Any = None) -> dict[str, Any]:
        """How many groups were found in which state. StreamkitError where some could not be dealt with, once all are through:
        those of the invocations before this one too, where they have gone on here. To a ping what that asks for.
        """
        if (answer := answer_to(event, self._container)) is not None:
            return answer
        wanted, is_dry = wanted_by_environment(), true_or_false("DRY_RUN")
        remaining: Callable[[], float] | None = getattr(context, "get_remaining_time_in_millis", None)
        seconds = _DEFAULT if remaining is None else remaining() / 1000
        run = _Run(self._logs, wanted, time.monotonic() + max(seconds - _MARGIN, 1.0), is_dry=is_dry)
        created, left = _created(event), None
        if created is not None:
            run.one(created)
        else:
            left = run.all(_place(event))
        log.info("%s: %s%s", _OWNER, "would have " if is_dry else "", run.counts)
        if left is not None:
            self._go_on(left, event, context)
        elif run.failed:
            raise StreamkitError(_failures(run.failed, run.failed_first))
        return run.counts

    def _go_on(self, left: _Place, event: Any, context: Any) -> None:
        hop = event.get("hop", 0) if isinstance(event, dict) else 0
        hop = hop if isinstance(hop, int) else 0
        arn = getattr(context, "invoked_function_arn", None)
        if hop >= _MOST_HOPS or not arn:
            text = "there was no time for all log groups, and nothing goes on: give the function more time"
            raise StreamkitError(f"{text}; {_failures(left.failed, left.failed_first)}" if left.failed else text)
        payload = msgspec.json.encode({"resume": left, "hop": hop + 1})
        client = self._functions.until(time.monotonic() + _MARGIN / 2)
        try:
            client.invoke(FunctionName=arn, InvocationType="Event", Payload=payload)["Payload"].close()
        except Exception as error:
            if not _may_be_made(error):
                raise
            log.error(
                "%s: there was no answer to the invocation that goes on (%s); if it is not made, the schedule's next begins anew",
                _OWNER,
                reason(error),
            )


def _failures(count: int, first: list[str]) -> str:
    return f"{count} log groups could not be dealt with, among them {', '.join(first)}: the log has why"


def _may_be_made(error: Exception) -> bool:
    """Whether Lambda may have taken the request: it was sent, and had no answer, or none that says."""
    from botocore.exceptions import HTTPClientError

    answer = getattr(error, "response", None)
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) if isinstance(answer, dict) else 0
    return isinstance(error, HTTPClientError) or status >= 500


class _Place(msgspec.Struct, frozen=True):
    """How far it has come: the token of a page, None for the first, and the last group that is done. Groups come by name. And how
    many up to there could not be dealt with, with the names of the first of them.
    """

    token: str | None = None
    after: str = ""
    failed: int = 0
    failed_first: list[str] = []


class _Run:
    """One invocation's work."""

    def __init__(self, clients: Clients, wanted: Wanted, deadline: float, *, is_dry: bool) -> None:
        self._clients = clients
        self._wanted = wanted
        self._deadline = deadline
        self._is_dry = is_dry
        self.counts: dict[str, int] = {}
        self.failed = 0
        self.failed_first: list[str] = []

    def one(self, name: str) -> None:
        """The group of this name. One that is gone again is none."""
        for group in self._page(None, name)[0]:
            if group.name == name:
                self._deal_with(group)

    def all(self, place: _Place) -> _Place | None:
        """All groups behind ``place``, page by page, and one in any case: how far it has come, None at the end."""
        token, after = place.token, place.after
        self.failed, self.failed_first = place.failed, list(place.failed_first)
        is_first = True
        while True:
            groups, following = self._page(token, None)
            for group in groups:
                if group.name <= place.after:
                    continue
                if not is_first and time.monotonic() >= self._deadline:
                    return _Place(token, after, self.failed, self.failed_first)
                self._deal_with(group)
                is_first, after = False, group.name
            if following is None:
                return None
            token = following

    def _page(self, token: str | None, prefix: str | None) -> tuple[list[Group], str | None]:
        asked: dict[str, Any] = {"limit": _PAGE}
        if token is not None:
            asked["nextToken"] = token
        if prefix is not None:
            asked["logGroupNamePrefix"] = prefix
        answer = self._call(lambda client: client.describe_log_groups(**asked))
        return [group_of(one) for one in answer["logGroups"]], answer.get("nextToken")

    def _deal_with(self, group: Group) -> None:
        if not is_candidate(group, self._wanted):
            self._count("passed over")
            return
        try:
            found = plan(group, list(self._filters(group)), self._wanted)
            self._carry_out(group, found)
        except Exception as error:  # noqa: BLE001  # One group's trouble keeps no other from its subscription.
            if code_of(error) == _GONE and not self._is_destination(error):
                self._count("gone")
                return
            self._fail(group)
            self._count("failed")
            log.error("%s: %s: %s", _OWNER, group.name, reason(error))

    def _is_destination(self, error: Exception) -> bool:
        return "destination" in str(error).lower()

    def _filters(self, group: Group) -> Iterator[dict[str, Any]]:
        asked: dict[str, Any] = {"logGroupName": group.name}
        while True:
            answer = self._call(partial(_described_filters, asked))
            yield from answer["subscriptionFilters"]
            if not (token := answer.get("nextToken")):
                return
            asked = {**asked, "nextToken": token}

    def _carry_out(self, group: Group, found: Plan) -> None:
        wanted = self._wanted
        if found.puts_filter and not self._is_dry:
            asked = {
                "logGroupName": group.name,
                "filterName": wanted.filter_name,
                "filterPattern": wanted.pattern,
                "destinationArn": wanted.destination,
                **({"roleArn": wanted.role} if wanted.role else {}),
            }
            self._call(lambda client: client.put_subscription_filter(**asked))
        if found.puts_retention:
            self._count("retention set")
            if not self._is_dry:
                days = wanted.retention
                self._call(lambda client: client.put_retention_policy(logGroupName=group.name, retentionInDays=days))
        self._count(found.finding)
        if found.finding in ("loop", "full"):
            self._fail(group)
            log.error("%s: %s", _OWNER, found.why)
        elif found.puts_filter or found.puts_retention:
            done: list[str] = [found.finding] if found.puts_filter else []
            done += [f"kept for {wanted.retention} days"] if found.puts_retention else []
            verb = "would be " if self._is_dry else ""
            log.info("%s: %s: %s%s", _OWNER, group.name, verb, " and ".join(done))

    def _fail(self, group: Group) -> None:
        self.failed += 1
        if len(self.failed_first) < _NAMED:
            self.failed_first.append(group.name)

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def _call(self, call: Callable[[Any], Any]) -> Any:
        """The answer. What may pass is asked again for a while; the last error is raised."""
        deadline = min(time.monotonic() + _PATIENCE, self._deadline + _MARGIN / 2)
        answers: list[Any] = []
        errors: list[Exception] = []

        def ask() -> bool:
            try:
                answers.append(call(self._clients.until(deadline)))
            except Exception as error:  # noqa: BLE001  # Raised below, unless a repeat is answered.
                errors.append(error)
                return not (may_pass(error) or code_of(error) in _PASSING)
            return True

        repeat_until(deadline, ask)
        if answers:
            return answers[0]
        raise errors[-1]


def _described_filters(asked: dict[str, Any], client: Any) -> Any:
    return client.describe_subscription_filters(**asked)


def wanted_by_environment() -> Wanted:
    """What the environment says. ConfigurationError, with the variable's name, where it is wrong."""
    destination = from_environment("DESTINATION_ARN", _OWNER, "the ARN of a function or a Kinesis stream")
    own = set(_listed("OWN_GROUPS"))
    parts = destination.split(":")
    if parts[2:3] == ["lambda"] and len(parts) > 6:
        own.add(f"/aws/lambda/{parts[6]}")
    elif not own:
        raise ConfigurationError(
            "OWN_GROUPS is not set; with a stream as DESTINATION_ARN it names the log groups of the functions that read the "
            "stream, which would read their own lines for ever"
        )
    if group := os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME"):
        own.add(group)
    days = whole_number("RETENTION_DAYS", 0, least=0)
    with named("DESTINATION_ARN", "ROLE_ARN", "RETENTION_DAYS"):
        return Wanted(
            destination,
            frozenset(own),
            filter_name=os.environ.get("FILTER_NAME") or "streamkit-logs",
            pattern=os.environ.get("FILTER_PATTERN") or "",
            role=os.environ.get("ROLE_ARN") or "",
            retention=days,
            include=tuple(_listed("INCLUDE")) or ("/aws/lambda/*",),
            exclude=tuple(_listed("EXCLUDE")),
        )


def _listed(variable: str) -> list[str]:
    return [part.strip() for part in (os.environ.get(variable) or "").split(",") if part.strip()]


def _place(event: Any) -> _Place:
    """Where an earlier invocation has left off."""
    resume = event.get("resume") if isinstance(event, dict) else None
    return msgspec.convert(resume, _Place) if resume is not None else _Place()


def _created(event: Any) -> str | None:
    """The group that CloudTrail tells of, where it tells of one that was made."""
    detail = event.get("detail") if isinstance(event, dict) else None
    if not isinstance(detail, dict) or detail.get("eventName") != "CreateLogGroup":
        return None
    asked = detail.get("requestParameters")
    name = asked.get("logGroupName") if isinstance(asked, dict) else None
    return name if isinstance(name, str) and name else None


handler = LogSubscriber()

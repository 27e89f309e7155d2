"""Which log groups are subscribed, decided without asking anybody."""

from __future__ import annotations

from typing import Any

import pytest

from streamkit.errors import ConfigurationError
from streamkit.logs.subscriptions import RETENTIONS, Group, Plan, Wanted, group_of, is_candidate, plan

READER = "arn:aws:lambda:eu-west-1:123456789012:function:logs"
STREAM = "arn:aws:kinesis:eu-west-1:123456789012:stream/logs"
ROLE = "arn:aws:iam::123456789012:role/logs"
OWN = frozenset({"/aws/lambda/logs", "/aws/lambda/subscriber"})
WANTED = Wanted(READER, OWN, retention=30, exclude=("/aws/lambda/secret-*",))


def one(name: str = "streamkit-logs", destination: str = READER, pattern: str = "", **more: Any) -> dict[str, Any]:
    return {"filterName": name, "destinationArn": destination, "filterPattern": pattern, **more}


def finding(group: Group, *filters: dict[str, Any], wanted: Wanted = WANTED) -> tuple[str, bool, bool]:
    found = plan(group, filters, wanted)
    return found.finding, found.puts_filter, found.puts_retention


ORDERS = Group("/aws/lambda/orders")
KEPT = Group("/aws/lambda/orders", 7)


def test_a_group_without_filters_is_subscribed_and_kept_for_as_long_as_is_wanted() -> None:
    assert finding(ORDERS) == ("subscribed", True, True)


def test_a_retention_that_somebody_has_set_stays() -> None:
    assert finding(KEPT) == ("subscribed", True, False)


def test_no_retention_is_set_where_none_is_wanted() -> None:
    assert finding(ORDERS, wanted=Wanted(READER, OWN)) == ("subscribed", True, False)


def test_one_that_is_as_wanted_is_left_alone() -> None:
    assert finding(KEPT, one()) == ("as wanted", False, False)
    assert finding(KEPT, one("somebody's", "arn:aws:lambda:eu-west-1:123456789012:function:x"), one()) == (
        "as wanted",
        False,
        False,
    )


@pytest.mark.parametrize(
    "other",
    [
        one(destination="arn:aws:lambda:eu-west-1:123456789012:function:old"),
        one(pattern="ERROR"),
        one(roleArn=ROLE),
        one(destination=f"{READER}:live"),
    ],
)
def test_our_own_filter_is_changed_where_it_is_another(other: dict[str, Any]) -> None:
    assert finding(KEPT, other) == ("changed", True, False)


@pytest.mark.parametrize("destination", [READER, f"{READER}:live", f"{READER}:12"])
def test_one_that_goes_there_by_another_name_is_not_doubled(destination: str) -> None:
    assert finding(KEPT, one("by hand", destination)) == ("as wanted", False, False)


def test_one_with_two_filters_takes_no_more_and_is_told() -> None:
    others = [one(name, f"arn:aws:lambda:eu-west-1:123456789012:function:{name}") for name in "ab"]
    found = plan(ORDERS, others, WANTED)
    assert (found.finding, found.puts_filter, found.puts_retention) == ("full", False, True)
    assert "/aws/lambda/orders has 2 subscription filters already" in found.why


@pytest.mark.parametrize("name", sorted(OWN))
def test_its_own_are_never_subscribed_whatever_the_patterns_say(name: str) -> None:
    assert finding(Group(name), wanted=Wanted(READER, OWN, include=("*",), retention=30)) == ("own", False, False)
    assert is_candidate(Group(name), Wanted(READER, OWN, include=("/nothing",)))


def test_a_loop_that_somebody_has_made_is_told_with_what_ends_it() -> None:
    found = plan(Group("/aws/lambda/logs"), [one("by hand", f"{READER}:live")], WANTED)
    assert found == Plan(
        "loop",
        why="/aws/lambda/logs is subscribed to its own reader, which is a loop. Remove it: aws logs delete-subscription-filter "
        "--log-group-name /aws/lambda/logs --filter-name by hand",
    )


@pytest.mark.parametrize("name", ["/aws/lambda/secret-keys", "/ecs/web", "orders", ""])
def test_what_no_pattern_names_is_passed_over(name: str) -> None:
    assert finding(Group(name)) == ("passed over", False, False)
    assert not is_candidate(Group(name), WANTED)


@pytest.mark.parametrize("kind", ["INFREQUENT_ACCESS", "DELIVERY"])
def test_a_class_that_takes_no_filter_has_its_retention_set(kind: str) -> None:
    assert finding(Group("/aws/lambda/orders", None, kind)) == ("passed over", False, True)


def test_what_is_planned_is_as_wanted_when_it_was_done() -> None:
    assert finding(Group("/aws/lambda/orders", 30), one()) == ("as wanted", False, False)


def test_a_group_is_read_as_aws_tells_it() -> None:
    assert group_of({"logGroupName": "a", "arn": "x", "retentionInDays": 5}) == Group("a", 5)
    assert group_of({"logGroupName": "a", "logGroupClass": "DELIVERY"}) == Group("a", None, "DELIVERY")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"retention": 2}, "a retention is one of 0, 1, 3"),
        ({"destination": "logs"}, "the ARN of a function or of a Kinesis stream"),
        ({"destination": "arn:aws:s3:::bucket"}, "the ARN of a function or of a Kinesis stream"),
        ({"destination": STREAM}, "takes the ARN of a role"),
        ({"role": ROLE}, "a function takes none"),
        ({"own": frozenset()}, "would read their own"),
    ],
)
def test_what_can_not_be_wanted_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        Wanted(**{"destination": READER, "own": OWN, **options})


def test_a_stream_takes_a_role() -> None:
    wanted = Wanted(STREAM, OWN, role=ROLE)
    assert finding(KEPT, one(destination=STREAM, roleArn=ROLE), wanted=wanted) == ("as wanted", False, False)
    assert finding(KEPT, one(destination=STREAM), wanted=wanted) == ("changed", True, False)


def test_the_retentions_are_those_of_the_service() -> None:
    import re

    import botocore.session

    model = botocore.session.get_session().get_service_model("logs")
    told = re.findall(r"\d+", re.sub(r"<[^>]+>", "", model.shape_for("Days").documentation))
    assert set(map(str, RETENTIONS)) - {"0"} <= set(told)

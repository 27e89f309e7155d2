"""Both ways of deploy/logs.yaml and log-subscriber.yaml: directly, and through a stream."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.conditions import without_what_is_left_out
from deploy.validate import HERE, all_transformed
from processors.log_subscriber import wanted_by_environment

from .alarms import fires

GIVEN = {"Stage": "dev", "CodeBucket": "b", "CodeKey": "k"}
STREAM = "arn:${AWS::Partition}:kinesis:${AWS::Region}:${AWS::AccountId}:stream/streamkit-${Stage}-logs"


@pytest.fixture(scope="module")
def templates() -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the reader, and of the subscriber."""
    reader, subscriber = all_transformed([(HERE / "logs.yaml", {}), (HERE / "log-subscriber.yaml", {})])
    return reader, subscriber


def resources_of(template: dict[str, Any], given: dict[str, str]) -> dict[str, Any]:
    """Those that are made, with what their conditions choose in them."""
    kept = without_what_is_left_out(template, GIVEN | given)["Resources"]
    # What has a condition of its own tells whether that holds.
    holding = {one["Condition"] for one in kept.values() if "Condition" in one}
    return chosen(kept, holding)  # type: ignore[no-any-return]  # It is JSON.


def chosen(node: Any, holding: set[str]) -> Any:
    match node:
        case {"Fn::If": [condition, one, other]}:
            return chosen(one if condition in holding else other, holding)
        case dict():
            return {name: chosen(one, holding) for name, one in node.items()}
        case list():
            parts = [chosen(one, holding) for one in node]
            return [one for one in parts if one != {"Ref": "AWS::NoValue"}]
    return node


def statement(resource: dict[str, Any], sid: str) -> dict[str, Any]:
    (policy,) = resource["Properties"]["Policies"]
    (found,) = [one for one in policy["PolicyDocument"]["Statement"] if one.get("Sid") == sid]
    return found  # type: ignore[no-any-return]  # It is JSON.


def test_what_the_subscriber_puts_into_the_stream_is_what_the_reader_reads(
    templates: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    reader, subscriber = (
        resources_of(templates[0], {"Shards": "1"}),
        resources_of(templates[1], {"ThroughStream": "true"}),
    )
    name = reader["Deliveries"]["Properties"]["Name"]["Fn::Sub"]
    variables = subscriber["Subscriber"]["Properties"]["Environment"]["Variables"]
    mapping = reader["FromStream"]["Properties"]

    assert STREAM.endswith(f":stream/{name}")
    assert variables["DESTINATION_ARN"] == {"Fn::Sub": STREAM}
    assert statement(subscriber["PutRole"], "PutDeliveries")["Resource"] == {"Fn::Sub": STREAM}
    assert (
        mapping["EventSourceArn"]
        == {"Fn::GetAtt": ["Deliveries", "Arn"]}
        == statement(reader["Role"], "ReadDeliveries")["Resource"]
    )
    assert mapping["FunctionName"] == {"Ref": "Logs"}
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    # Lambda gives nothing up: what is unavailable waits, and the rest has a retry queue.
    assert (mapping["MaximumRetryAttempts"], mapping["MaximumRecordAgeInSeconds"]) == (-1, -1)


def test_cloudwatch_logs_is_given_the_role_that_puts_and_no_other(
    templates: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    subscriber = resources_of(templates[1], {"ThroughStream": "true"})
    role = {"Fn::GetAtt": ["PutRole", "Arn"]}
    (trust,) = subscriber["PutRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]

    assert subscriber["Subscriber"]["Properties"]["Environment"]["Variables"]["ROLE_ARN"] == role
    assert statement(subscriber["Role"], "LetCloudWatchLogsPut")["Resource"] == role
    assert trust["Principal"] == {"Service": "logs.amazonaws.com"}
    assert trust["Condition"]["StringLike"]["aws:SourceArn"]["Fn::Sub"].endswith("${AWS::AccountId}:*")


def test_directly_there_is_nothing_of_a_stream(templates: tuple[dict[str, Any], dict[str, Any]]) -> None:
    reader, subscriber = resources_of(templates[0], {}), resources_of(templates[1], {})
    variables = subscriber["Subscriber"]["Properties"]["Environment"]["Variables"]

    assert reader.keys().isdisjoint({"Deliveries", "DeliveriesPolicy", "FromStream", "BehindAlarm"})
    assert "PutRole" not in subscriber
    assert ":function:" in variables["DESTINATION_ARN"]["Fn::Sub"]
    assert variables["ROLE_ARN"] == ""


@pytest.mark.parametrize("through_stream", ["true", "false"])
def test_the_subscriber_takes_what_the_template_sets(
    templates: tuple[dict[str, Any], dict[str, Any]], monkeypatch: pytest.MonkeyPatch, through_stream: str
) -> None:
    subscriber = resources_of(templates[1], {"ThroughStream": through_stream})
    for name, value in subscriber["Subscriber"]["Properties"]["Environment"]["Variables"].items():
        text = value if isinstance(value, str) else value.get("Fn::Sub", "")
        if value == {"Fn::GetAtt": ["PutRole", "Arn"]}:
            text = "arn:aws:iam::123456789012:role/put"
        text = {"RETENTION_DAYS": "30"}.get(name, text)
        monkeypatch.setenv(name, text.replace("${AWS::Partition}", "aws").replace("${Stage}", "dev"))

    wanted = wanted_by_environment()

    assert (":stream/" in wanted.destination, bool(wanted.role)) == (through_stream == "true",) * 2
    assert "/aws/lambda/streamkit-dev-logs" in wanted.own, "its lines would come back to it for ever"


def test_an_hour_in_the_stream_is_an_alarm(templates: tuple[dict[str, Any], dict[str, Any]]) -> None:
    alarm = resources_of(templates[0], {"Shards": "1"})["BehindAlarm"]["Properties"]

    assert fires(alarm, {"IteratorAge": [3_700_000.0] * 3})
    assert not fires(alarm, {"IteratorAge": [60_000.0, 3_700_000.0, None]})

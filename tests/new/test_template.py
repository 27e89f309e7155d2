"""The template of a new project is that of streamkit's own functions (deploy/), but for what is said here."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.conditions import without_what_is_left_out
from deploy.validate import new_template, transformed
from streamkit.new.project import Project

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
#: The function of deploy/ that a project is like: retries by a queue, and nothing of one kind of function only.
HOLDS = {"HasQueue", "CallsItself", "HasEmail"}
#: Its words, and the project's.
WORDS = {
    "streamkit-${Stage}-${Name}": "orders-${Stage}",
    "alias/streamkit-${Stage}": "alias/orders-${Stage}",
    "streamkit-${Stage}-alarms": "orders-${Stage}-alarms",
    "log-group:/aws/lambda/streamkit-${Stage}-*": "log-group:/aws/lambda/orders-${Stage}",
    "streamkit ${Stage}": "orders ${Stage}",
    "${Name}": "orders-${Stage}",
}
PARAMETERS = {"Stream": "StreamArn", "AlarmTopic": "Alarms"}
#: Resource and property → why it may be another one than in deploy/.
MAY_DIFFER = {
    "Processor.Description": "it says which function",
    "Processor.CodeUri": "a file that sam deploy uploads, where deploy/ has what was promoted",
    "Processor.Handler": "it has one",
    "Processor.Runtime": "the Python that the project was made with",
    "Processor.MemorySize": "a number in place of a parameter",
    "Processor.Timeout": "a number in place of a parameter",
    "Processor.LoggingConfig.ApplicationLogLevel": "a level in place of a parameter",
    "Processor.DeploymentPreference.Type": "the one that rolls back, in place of a parameter",
    "Processor.DeadLetterQueue": "nothing invokes it asynchronously: it has no retry topic",
    "FromStream.DependsOn": "it has no retry topic",
    "FromStream.Enabled": "its retries have no other way to change to, for which it would have to be paused",
    "QueuesPolicy.Queues": "no topic puts anything into its dead letters, so they need no policy of their own",
    "Processor.Environment": "the names that its own module reads",
    "FromStream.BatchSize": "a number in place of a parameter",
    "FromStream.MaximumBatchingWindowInSeconds": "a number in place of a parameter",
    "FromStream.ParallelizationFactor": "a number in place of a parameter",
    "FromStream.MaximumRetryAttempts": "always -1, the default of deploy/",
    "FromStream.MaximumRecordAgeInSeconds": "the stream is somebody else's: OnFailure learns what it will forget",
    "LogGroup.RetentionInDays": "a number in place of a parameter",
    "FromRetries.ScalingConfig.MaximumConcurrency": "a number in place of a parameter",
    "Processor.DeploymentPreference.Alarms": "always, in place of a parameter",
    "Retries.QueueName": "a name to type, where deploy/ may have the queue of an earlier stack",
    "DeadLetters.QueueName": "a name to type, where deploy/ may have the queue of an earlier stack",
    "GivenUp.QueueName": "a name to type, where deploy/ may have the queue of an earlier stack",
    "Retries.VisibilityTimeout": "six times its one time-out",
    "Retries.RedrivePolicy": "the receives of its one time-out, and no parking",
    "GivenUp.VisibilityTimeout": "no function reads it",
    "AgeAlarm.AlarmDescription": "it says how long",
    "AgeAlarm.Threshold": "a number in place of a parameter",
    "FailuresAlarm.Threshold": "a number in place of a parameter",
    "NewVersionFailuresAlarm.Threshold": "a number in place of a parameter",
    "FailuresAlarm.Dimensions": "the name of its processor",
    "HeartbeatAlarm.Dimensions": "the name of its processor",
    "GivenUpAlarm.AlarmDescription": "somebody has to fetch the records: it has no function for that",
    **{
        f"GivenUpAlarm.{name}": "so one document is enough"
        for name in (
            *("MetricName", "Metrics", "Dimensions", "Namespace"),
            *("Statistic", "Period", "EvaluationPeriods"),
        )
    },
}
#: What is not in a project.
LEFT_OUT = {
    # Of other functions, and of other ways of retries.
    *("FromRetryTopic", "FromRetryTopicAllowed", "RetryTopic", "RetryTopicPolicy", "DeadLettersPolicy"),
    *("TopicWaitingAlarm", "TopicLossAlarm"),
    *("Parked", "ParkedDeadLetters", "ParkedDeadLettersAlarm", "OldestParkedAlarm", "Plans", "Progress"),
    # A person fetches what Lambda gave up.
    *("DeadLetterMaker", "FromGivenUp", "DeadLetterMakerRole", "DeadLetterMakerPolicy", "DeadLetterMakerLogGroup"),
    "Dashboard",
    # Statements by their ids.
    *("PublishRetries", "RetryTopics", "Rules", "ApiLogs"),
    # The stream is there already, and the stack stands alone.
    *("Stream", "StreamPolicy", "ThrottledWritesAlarm", "ThrottledReadsAlarm"),
    *("StreamParameter", "KeyParameter", "AlarmsParameter"),
}


class _Loader(yaml.SafeLoader):
    """Reads ``!Sub text`` as {"Sub": "text"}."""


def _tagged(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return {tag: loader.construct_scalar(node)}
    assert isinstance(node, yaml.SequenceNode)
    return {tag: loader.construct_sequence(node, deep=True)}


_Loader.add_multi_constructor("!", _tagged)


def resources(text: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.load(text, _Loader)["Resources"]
    return {name: plain(one) for name, one in read.items()}


def plain(value: Any) -> Any:
    """``value`` with its conditions decided, and in the project's words."""
    match value:
        case {"If": [condition, yes, no]}:
            return plain(yes if condition in HOLDS else no)
        case {"Ref": "Key"} | {"GetAtt": "Key.Arn"}:
            return "the key"
        case {"Ref": name}:
            return {"Ref": PARAMETERS.get(name, name)}
        case dict():
            made = {name: plain(one) for name, one in value.items()}
            return {name: one for name, one in made.items() if one != {"Ref": "AWS::NoValue"}}
        case list():
            kept = [one for one in value if not isinstance(one, dict) or one.get("Sid") not in LEFT_OUT]
            return [one for one in map(plain, kept) if one != {"Ref": "AWS::NoValue"}]
        case str():
            for word, own in WORDS.items():
                value = value.replace(word, own)
    return value


SIDS = set(re.findall(r"Sid: (\w+)", "".join((DEPLOY / one).read_text() for one in ("stream.yaml", "function.yaml"))))
OURS = {
    name: one
    for template in ("stream.yaml", "function.yaml")
    for name, one in resources((DEPLOY / template).read_text()).items()
}
THEIRS = resources(Project("orders").files["template.yaml"])


def differences(one: Any, other: Any, path: str) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            found
            for name in sorted(one.keys() | other.keys(), key=str)
            for found in differences(one.get(name), other.get(name), f"{path}.{name}".replace(".Properties", ""))
        ]
    if isinstance(one, list) and isinstance(other, list):
        # Their order means nothing here.
        return [] if sorted(map(str, one)) == sorted(map(str, other)) else [path]
    return [] if str(one) == str(other) else [path]


def test_it_has_what_deploy_has_and_nothing_else() -> None:
    assert OURS.keys() - LEFT_OUT == THEIRS.keys()
    assert OURS.keys() | SIDS >= LEFT_OUT


def test_the_properties_are_those_of_deploy_but_for_what_may_differ() -> None:
    found = {
        allowed(path)
        for name in THEIRS
        for path in differences(without_condition(OURS[name]), without_condition(THEIRS[name]), name)
    }

    assert found == MAY_DIFFER.keys()


@pytest.mark.parametrize("text", [(DEPLOY / "function.yaml").read_text(), Project("orders").files["template.yaml"]])
def test_what_is_lost_without_partial_answers_is_said_right_above_them(text: str) -> None:
    lines = [line.strip() for line in text.splitlines()]
    below = {line: after for line, after in pairwise(lines) if line.startswith("# Without it") and "batch" in line}

    assert set(below.values()) == {"FunctionResponseTypes: [ReportBatchItemFailures]"}
    # Of the stream, and of the retry queue.
    assert len(below) == 2


def test_the_retries_of_its_timeout_are_those_of_deploy() -> None:
    mapping = yaml.load((DEPLOY / "function.yaml").read_text(), _Loader)["Mappings"]["Visibility"]
    its = mapping[str(THEIRS["Processor"]["Properties"]["Timeout"])]
    retries = THEIRS["Retries"]["Properties"]

    assert retries["VisibilityTimeout"] == its["Seconds"]
    assert retries["RedrivePolicy"] == {
        "deadLetterTargetArn": {"GetAtt": "DeadLetters.Arn"},
        "maxReceiveCount": its["Receives"],
    }


def allowed(path: str) -> str:
    """The entry of MAY_DIFFER that a path is under; the path itself, where it is under none."""
    return next((entry for entry in MAY_DIFFER if f"{path}.".startswith(f"{entry}.")), path)


def without_condition(resource: dict[str, Any]) -> dict[str, Any]:
    """In deploy/ what belongs to one way of retries has one."""
    return {name: one for name, one in resource.items() if name != "Condition" or one == "HasEmail"}


@pytest.mark.parametrize("has", ["yes", "no"])
def test_a_heartbeat_is_missed_where_the_stream_has_some(has: str) -> None:
    parameters = {"Heartbeats": has, "HeartbeatUrlSecret": "orders/url" if has == "yes" else "", "Revision": "0123"}
    with new_template() as template:
        made = without_what_is_left_out(transformed(template, **parameters), parameters)

    if has == "no":
        assert "HeartbeatAlarm" not in made["Resources"]
        return
    alarm = made["Resources"]["HeartbeatAlarm"]["Properties"]
    assert alarm["Dimensions"] == [
        {"Name": "FunctionName", "Value": {"Ref": "Processor"}},
        # As its lines have it.
        {"Name": "Processor", "Value": "orders"},
    ]
    assert alarm["AlarmActions"] == [{"Ref": "Alarms"}]
    variables = made["Resources"]["Processor"]["Properties"]["Environment"]["Variables"]
    condition, url, nothing = variables["HEARTBEAT_URL"]["Fn::If"]
    assert (condition, nothing) == ("HasHeartbeatUrlSecret", {"Ref": "AWS::NoValue"})
    assert url == {"Fn::Sub": "{{resolve:secretsmanager:${HeartbeatUrlSecret}}}"}


def test_another_revision_is_another_version_and_a_deployment_without_one_is_refused() -> None:

    def made(**parameters: str) -> dict[str, Any]:
        with new_template() as template:
            transform: dict[str, Any] = transformed(template, **parameters)
            return transform

    first, second = made(Revision="0123456789abcdef"), made(Revision="fedcba9876543210")

    versions = [
        [name for name, one in template["Resources"].items() if one["Type"] == "AWS::Lambda::Version"]
        for template in (first, second)
    ]
    assert [len(found) for found in versions] == [1, 1]
    assert versions[0] != versions[1]
    assert first["Rules"]["Revision"]["Assertions"][0]["Assert"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "Revision"}, first["Parameters"]["Revision"]["Default"]]}]
    }

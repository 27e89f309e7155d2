"""An alias that rolls a new version out, and what triggers the function beside it."""

from __future__ import annotations

import pytest

from streamkit.finding import Finding

from .given import RIGHT, Check, changed, line_of, one

BEGIN, END = RIGHT.index("      Events:\n"), RIGHT.index("  Events:\n    Type")
MAPPING = """\
  FromStream:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Orders
      EventSourceArn: !GetAtt Events.Arn
      StartingPosition: TRIM_HORIZON
      FunctionResponseTypes: [ReportBatchItemFailures]
  FromRetries:
    Type: AWS::Lambda::EventSourceMapping
    Properties:
      FunctionName: !Ref Orders.Alias
      EventSourceArn: !GetAtt Retries.Arn
      FunctionResponseTypes: [ReportBatchItemFailures]
"""
READS = "        - arn:aws:iam::aws:policy/service-role/AWSLambdaKinesisExecutionRole\n        - AWSLambdaSQSQueueExecutionRole\n"
APART = changed("      Policies:\n", f"      Policies:\n{READS}", RIGHT[:BEGIN] + MAPPING + RIGHT[END:])
HANDLER = "      Handler: orders.handler\n"
#: The stream's mapping is of the function, and the queue's of the alias.
PASSED_BY = changed(HANDLER, f"{HANDLER}      AutoPublishAlias: live\n", APART)
LIVE = """\
  Version: {Type: AWS::Lambda::Version, Properties: {FunctionName: !Ref Orders}}
  Live:
    Type: AWS::Lambda::Alias
    Properties: {FunctionName: !Ref Orders, FunctionVersion: !GetAtt Version.Version, Name: live}
"""


def passing_by(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if "and not its alias" in finding.message]


def test_a_mapping_that_passes_the_alias_by_is_an_error_with_the_line_of_its_function(check: Check) -> None:
    finding = one(check(PASSED_BY), "and not its alias live")

    assert (finding.severity, finding.where) == ("error", line_of("FunctionName: !Ref Orders\n", PASSED_BY))
    assert finding.message.startswith("FromStream triggers Orders itself")
    assert finding.message.endswith("Write FunctionName: !Ref Orders.Alias")


@pytest.mark.parametrize(
    "function",
    ["!GetAtt Orders.Arn", "!Sub '${Orders}:$LATEST'", "!Sub '${Orders.Arn}'"],
)
def test_however_the_function_is_written(check: Check, function: str) -> None:
    text = changed("FunctionName: !Ref Orders\n", f"FunctionName: {function}\n", PASSED_BY)
    assert len(passing_by(check(text))) == 1


@pytest.mark.parametrize(
    "function",
    ["!Ref Orders.Alias", "!Sub '${Orders}:live'", "!Sub '${Orders.Arn}:live'", "!Join [':', [!Ref Orders, live]]"],
)
def test_a_mapping_of_the_alias(check: Check, function: str) -> None:
    assert check(changed("FunctionName: !Ref Orders\n", f"FunctionName: {function}\n", PASSED_BY)) == []


def test_without_an_alias_there_is_none_to_pass_by(check: Check) -> None:
    assert check(APART.replace("!Ref Orders.Alias", "!Ref Orders")) == []


def test_sams_events_are_of_the_alias_that_sam_makes(check: Check) -> None:
    assert check(changed(HANDLER, f"{HANDLER}      AutoPublishAlias: live\n")) == []
    assert check(changed("    Timeout: 60\n", "    Timeout: 60\n    AutoPublishAlias: live\n")) == []


def test_sams_events_pass_by_an_alias_that_the_template_makes_itself(check: Check) -> None:
    text = changed("  Retries:\n", f"{LIVE}  Retries:\n")

    found = passing_by(check(text))

    assert [(finding.severity, finding.where) for finding in found] == [
        ("error", line_of("        Stream:\n", text)),
        ("error", line_of("        Retry:\n", text)),
    ]
    assert "Write AutoPublishAlias: live in Orders" in found[0].message


@pytest.mark.parametrize("reference", ["!Ref Live", "!GetAtt Live.AliasArn"])
def test_an_alias_that_is_a_resource(check: Check, reference: str) -> None:
    text = changed("  Retries:\n", f"{LIVE}  Retries:\n", APART.replace("!Ref Orders.Alias", reference))
    assert one(check(text), "and not its alias live").message.endswith("Write FunctionName: !Ref Live")
    assert (
        check(changed("FunctionName: !Ref Orders\n      Event", f"FunctionName: {reference}\n      Event", text)) == []
    )


def test_the_alias_of_another_function_is_none_of_this_one(check: Check) -> None:
    other = "  Other: {Type: AWS::Serverless::Function, Properties: {Handler: mails.handler, AutoPublishAlias: live}}\n"
    text = changed("  Retries:\n", f"{other}  Retries:\n", APART.replace("!Ref Orders.Alias", "!Ref Orders"))
    assert check(text) == []


def test_a_topic_that_passes_the_alias_by(check: Check) -> None:
    subscription = """\
  Told:
    Type: AWS::SNS::Subscription
    Properties: {TopicArn: !Ref Topic, Protocol: lambda, Endpoint: !GetAtt Orders.Arn}
  Topic: {Type: AWS::SNS::Topic}
"""
    text = changed(
        "  Retries:\n", f"{subscription}  Retries:\n", PASSED_BY.replace("!Ref Orders\n", "!Ref Orders.Alias\n")
    )
    finding = one(check(text), "and not its alias live")
    assert (finding.severity, finding.where) == ("error", line_of("  Told:\n", text))
    assert check(text.replace("Endpoint: !GetAtt Orders.Arn", "Endpoint: !Ref Orders.Alias")) == []
    event = "        News: {Type: SNS, Properties: {Topic: !Ref Nobody}}\n"
    sams = changed("        Stream:\n", f"{event}        Stream:\n").replace(
        HANDLER, f"{HANDLER}      AutoPublishAlias: live\n"
    )
    assert passing_by(check(sams)) == []

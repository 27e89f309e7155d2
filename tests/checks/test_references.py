"""Names that a template has not: the deployment would fail."""

from __future__ import annotations

import pytest

from streamkit.finding import Finding

from .given import RIGHT, Check, changed, line_of, one


def unresolved(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if "the deployment fails" in finding.message]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("!Ref Retires", "!Ref Retires names no resource nor parameter"),
        ("!GetAtt Retires.QueueUrl", "!GetAtt Retires.QueueUrl names no resource of"),
        ("!GetAtt [Retires, QueueUrl]", "!GetAtt Retires.QueueUrl names no resource of"),
        ("{Fn::GetAtt: Retires.QueueUrl}", "!GetAtt Retires.QueueUrl names no resource of"),
        ("!Sub '${Retires}'", "${Retires} of !Sub names no"),
        ("!Sub ['${Retires.QueueUrl}/${Own}', {Own: x}]", "${Retires.QueueUrl} of !Sub names no resource of"),
        ("!If [IsGiven, !Ref Retires, x]", "!Ref Retires names no"),
    ],
)
def test_a_name_that_is_neither_resource_nor_parameter_is_an_error_with_one_that_is(
    check: Check, written: str, shown: str
) -> None:
    text = changed('TARGET: ""', f"TARGET: {written}")

    (finding,) = unresolved(check(text))

    assert (finding.severity, finding.where) == ("error", line_of("TARGET: ", text))
    assert shown in finding.message
    assert "Write Retries, or add Retires" in finding.message


def test_it_is_looked_for_in_all_of_the_template_and_told_once(check: Check) -> None:
    outputs = "Outputs:\n  One: {Value: !Ref Elsewhere}\n  Two: {Value: !Ref Elsewhere}\n"
    finding = one(unresolved(check(RIGHT + outputs)), "!Ref Elsewhere")
    assert finding.where == line_of("  One:", RIGHT + outputs)
    text = changed("  Retries:\n    Type", "  Retries:\n    DependsOn: [DeadLetters, Nothing]\n    Type")
    assert "DependsOn: Nothing names no resource" in one(unresolved(check(text)), "Nothing").message


def test_a_parameter_has_no_attributes(check: Check) -> None:
    text = changed('TARGET: ""', "TARGET: !GetAtt Given.Arn")
    assert one(unresolved(check(text)), "!GetAtt Given.Arn names no resource").severity == "error"


@pytest.mark.parametrize(
    "written",
    [
        "!Ref AWS::StackName",
        "!Ref 'AWS::NotificationARNs'",
        "!Sub '${AWS::StackId} ${Given} ${!Literal} ${Retries.Arn}'",
        "!Sub ['${Own.Name} ${Own}', {Own: x, Own.Name: y}]",
        "!Sub '${}'",
        "!Ref Orders.Alias",
        "!Sub '${Orders.Version}'",
        # What SAM makes.
        "!GetAtt OrdersRole.Arn",
        "!Ref OrdersAliaslive",
        "!Ref OrdersStream",
        "!Ref ServerlessRestApi",
        # What is there, though its condition does not hold.
        "!If [IsGiven, !Ref Perhaps, x]",
        "!ImportValue other-stack",
        "'{{resolve:ssm:Nothing}}'",
    ],
)
def test_what_the_template_has_or_sam_makes_is_no_finding(check: Check, written: str) -> None:
    text = changed("  Retries:\n", "  Perhaps: {Type: AWS::SNS::Topic, Condition: IsGiven}\n  Retries:\n")
    assert unresolved(check(changed('TARGET: ""', f"TARGET: {written}", text))) == []


@pytest.mark.parametrize(
    "macro",
    [
        ("Transform: AWS::Serverless-2016-10-31", "Transform: [AWS::Serverless-2016-10-31, Mine]"),
        ("Transform: AWS::Serverless-2016-10-31", "Transform: [AWS::LanguageExtensions, AWS::Serverless-2016-10-31]"),
        ("  Progress:\n", "  Fn::Transform: {Name: AWS::Include, Parameters: {Location: s3://x/y}}\n  Progress:\n"),
        ("  Progress:\n", "  Fn::ForEach::Queues: [Name, [A], {'${Name}': {Type: AWS::SQS::Queue}}]\n  Progress:\n"),
    ],
)
def test_where_a_macro_may_make_resources_nothing_is_said(check: Check, macro: tuple[str, str]) -> None:
    text = changed('TARGET: ""', "TARGET: !Ref Retires")
    assert unresolved(check(changed(*macro, text))) == []

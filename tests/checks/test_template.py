"""How a template is read: intrinsic functions, which function is meant, what is no template, and what is meant to do harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamkit.checks.deployment import Deployment
from streamkit.checks.nodes import parsed
from streamkit.checks.template import read_template
from streamkit.errors import ConfigurationError, StreamkitError

from .given import RIGHT, Check, changed, one, orders

FUNCTION = """\
Parameters:
  Given: {Type: String, Default: given}
  Many: {Type: CommaDelimitedList, Default: "a, b"}
  Secret: {Type: 'AWS::SSM::Parameter::Value<String>', Default: /secret}
  Nobody: {Type: String}
Mappings:
  Stages: {given: {queue: of-given}}
Conditions:
  Yes: !Equals [!Ref Given, given]
  No: !Not [!Condition Yes]
  Perhaps: !Equals [!Ref Nobody, x]
  Both: !And [!Condition Yes, !Condition Perhaps]
  Neither: !And [!Condition No, !Condition Perhaps]
  Either: !Or [!Condition Yes, !Condition Perhaps]
  Itself: !Not [!Condition Itself]
Resources:
  Work: {Type: AWS::SQS::Queue, Properties: {QueueName: work}}
  Made: {Type: AWS::SQS::Queue}
  Gone: {Type: AWS::SQS::Queue, Condition: No}
  Topic: {Type: AWS::SNS::Topic}
  Stream: {Type: AWS::Kinesis::Stream, Properties: {Name: events}}
  Circle: {Type: AWS::SQS::Queue, Properties: {QueueName: !Ref Circle}}
  Function:
    Type: AWS::Lambda::Function
    Properties:
      Handler: app/orders.handler
      Environment:
        Variables:
          VALUE: %s
"""


def read(text: str, folder: Path, **parameters: str) -> tuple[Deployment, Any]:
    path = folder / "template.yaml"
    path.write_text(text)
    return read_template(str(path), "orders.handler", parameters=parameters)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("text", "text"),
        ("012", "012"),
        ("2012-10-17", "2012-10-17"),
        ("true", "true"),
        ("!Ref Given", "given"),
        ("{Ref: Given}", "given"),
        ("!Sub '${Given}-${!Given}-${Nobody}'", "given-${Given}-${Nobody}"),
        ("!Sub ['${Inner}/${Given}', {Inner: !Ref Given}]", "given/given"),
        ("!Join ['-', [a, !Ref Given, !Ref Nobody]]", "a-given-${Nobody}"),
        ("!Join ['-', !Ref Many]", "a-b"),
        ("!Select [1, !Ref Many]", "b"),
        ("!Select [1, !Split ['/', 'a/b']]", "b"),
        ("!Select [7, !Ref Many]", "!Select of line 29"),
        ("!FindInMap [Stages, !Ref Given, queue]", "of-given"),
        ("!FindInMap [Stages, !Ref Nobody, queue]", "!FindInMap Stages.${Nobody}.queue"),
        ("!If [Yes, 'one', two]", "one"),
        ("!If [No, one, two]", "two"),
        ("!If [Perhaps, one, two]", "!If Perhaps"),
        ("!If [Both, one, two]", "!If Both"),
        ("!If [Neither, one, two]", "two"),
        ("!If [Either, one, two]", "one"),
        ("!If [Itself, one, two]", "!If Itself"),
        ("!If [Unheard, one, two]", "!If Unheard"),
        ("!Ref Secret", "${Secret}"),
        ("!Ref Unheard", "${Unheard}"),
        ("!ImportValue queue", "!ImportValue queue"),
        ("!Ref Work", "https://sqs.${AWS::Region}.amazonaws.com/${AWS::AccountId}/work"),
        ("!GetAtt Work.Arn", "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:work"),
        ("!GetAtt [Work, QueueName]", "work"),
        ("!GetAtt Made.QueueName", "${Made.QueueName}"),
        ("!Ref Gone", "${Gone}"),
        ("!Ref Circle", "https://sqs.${AWS::Region}.amazonaws.com/${AWS::AccountId}/https://sqs.${AWS::Region}.amazonaws.com/"
         "${AWS::AccountId}/${Circle.QueueName}"),
        ("!Sub '${Stream}/${Topic.TopicName}'", "events/${Topic.TopicName}"),
        ("!GetAZs ''", "!GetAZs "),
    ],
)  # fmt: skip
def test_a_value_is_what_the_template_makes_of_it(tmp_path: Path, written: str, value: str) -> None:
    deployment, unknowns = read(FUNCTION % written, tmp_path)

    assert unknowns.shown(deployment.function.environment["VALUE"]) == value


def test_no_value_is_no_variable_and_parameters_come_from_outside(tmp_path: Path) -> None:
    assert read(FUNCTION % "!Ref 'AWS::NoValue'", tmp_path)[0].function.environment == {}
    given = {"Given": "other", "Secret": "s", "AWS::Region": "eu-west-1", "AWS::AccountId": "123456789012"}
    deployment, _ = read(FUNCTION % "!Sub '${Given} ${Secret} ${AWS::Region} ${Work.QueueUrl}'", tmp_path, **given)
    value = "other s eu-west-1 https://sqs.eu-west-1.amazonaws.com/123456789012/work"
    assert deployment.function.environment["VALUE"] == value


def test_json_is_read_as_yaml_is(tmp_path: Path) -> None:
    body = {
        "Resources": {
            "F": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "Handler": "orders.handler",
                    "Environment": {"Variables": {"A": {"Fn::Sub": "${AWS::StackName}"}}},
                },
            }
        }
    }
    deployment, unknowns = read(json.dumps(body, indent="\t"), tmp_path)
    assert unknowns.shown(deployment.function.environment["A"]) == "${AWS::StackName}"
    assert deployment.function.where.endswith("template.yaml:3")


def test_anchors_and_merges_are_written_out(tmp_path: Path) -> None:
    text = FUNCTION % "x" + "          <<: &more {A: a, VALUE: y}\n          B: &b b\n          C: *b\n"
    assert read(text, tmp_path)[0].function.environment == {"VALUE": "x", "A": "a", "B": "b", "C": "b"}


def test_the_function_is_found_by_its_handler_or_named(tmp_path: Path) -> None:
    def function(name: str, handler: str) -> str:
        return f"  {name}: {{Type: AWS::Serverless::Function, Properties: {{Handler: {handler}}}}}\n"

    head = "Resources:\n"
    path = tmp_path / "template.yaml"

    def chosen(text: str, name: str = "") -> str:
        path.write_text(text)
        return read_template(str(path), "orders.handler", function=name)[0].function.label

    two = head + function("A", "src/orders.handler") + function("B", "mails.handler")
    assert chosen(two) == "A"
    assert chosen(two, "B") == "B"
    assert chosen(head + function("B", "mails.handler")) == "B"
    with pytest.raises(ConfigurationError, match=r"several functions .*: choose one by --function: A, C"):
        chosen(two + function("C", "orders.handler"))
    with pytest.raises(ConfigurationError, match=r"no function with the handler orders\.handler: .*: B, C"):
        chosen(head + function("B", "mails.handler") + function("C", "bills.handler"))
    with pytest.raises(ConfigurationError, match="has no function D: there are A, B"):
        chosen(two, "D")


BOMB = "Resources:\n  a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"  {name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is no template: a mapping"),
        ("[1, 2]", "is no template: a mapping"),
        ("just text", "is no template: a mapping"),
        ("a: b", "it has no Resources"),
        ("Resources: []", ":1: Resources is a mapping"),
        ("Resources:\n  A: {}", ":2: the resource A has no Type"),
        ("Resources:\n  A: [", "it is no YAML"),
        ("Resources: {}\n---\nResources: {}", "a template is one document"),
        ("Resources: {}\nResources: {}", ":2: Resources is there twice"),
        ("Resources: !!python/object/apply:os.system ['true']", "is none of CloudFormation's"),
        ("Resources: {? [a] : b}", "a key is a text"),
        ("Resources: &a {b: *a}", "stands within what it is of"),
        ("Resources: *nothing", "undefined alias|is of nothing"),
        ("Resources: {<<: text}", "<< takes mappings"),
        (BOMB, "aliases written out"),
        ("Resources: " + "[" * 101 + "]" * 101, "nested over 100 deep"),
        ("[" * 100_000, "nested over 100 deep|maximum nesting depth"),
        ("Resources: " + "!Sub " * 10, "it is no YAML"),
        ("\x00", "it is no YAML"),
        ("# " + "x" * 1_048_576, "has over 1,048,576 bytes"),
    ],
)
def test_what_is_no_template_or_is_meant_to_do_harm_is_an_error_with_its_line(
    text: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(StreamkitError, match=message):
        read(text, tmp_path)


def test_without_libyaml_all_is_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import yaml

    text = RIGHT + "  # ~\n  Nothing: ~\n  Merged: {<<: {a: b}}\n"
    by_c = parsed(text, "t")
    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    assert parsed(text, "t") == by_c
    assert by_c.value["Resources"].value["Nothing"].value is None
    for hostile in (BOMB, "[" * 100_000):
        with pytest.raises(StreamkitError, match=r"aliases written out|nested over 100 deep"):
            parsed(hostile, "t")


def test_a_text_that_grows_by_substitution_ends(tmp_path: Path) -> None:
    names = "".join(
        f"  Q{n}: "
        f"{{Type: AWS::SQS::Queue, Properties: {{QueueName: !Sub '${{Q{n + 1}.QueueName}}${{Q{n + 1}.QueueName}}'}}}}\n"
        for n in range(60)
    )
    text = f"Resources:\n{names}  Q60: {{Type: AWS::SQS::Queue, Properties: {{QueueName: x}}}}\n"
    text += "  F: {Type: AWS::Lambda::Function, Properties: {Handler: orders.handler}}\n"
    with pytest.raises(StreamkitError, match="has over 100,000 characters"):
        read(text, tmp_path)


@pytest.mark.parametrize("depth", [99])
def test_the_deepest_that_is_read_is_read(depth: int) -> None:
    assert parsed("a: " + "[" * depth + "]" * depth, "t").depth == depth + 1


@pytest.mark.parametrize(
    "odd",
    [
        "Timeout: [1]",
        "Timeout: {a: b}",
        "Environment: text",
        "Environment: {Variables: [a]}",
        "Role: {Ref: [a]}",
        "Handler: {Ref: {a: b}}",
        "DeadLetterConfig: !Sub [a]",
        "DeadLetterConfig: !Join x",
        "DeadLetterConfig: {Fn::GetAtt: {a: b}}",
        "DeadLetterConfig: !If x",
        "DeadLetterConfig: !Select x",
        "DeadLetterConfig: !Split x",
        "DeadLetterConfig: !FindInMap x",
        "DeadLetterConfig: {Fn::Transform: {Name: AWS::Include}}",
        "Policies: [[], {}, {Statement: text}, {Statement: [text]}, text, {SQSSendMessagePolicy: text}]",
        "Events: [a]",
        "Events: {A: text}",
        "Events: {A: {Type: Kinesis}, B: {Type: SQS, Properties: text}, C: {Type: [a]}}",
    ],
)
def test_what_is_in_an_odd_place_makes_findings_and_no_crash(check: Check, odd: str) -> None:
    name = odd.partition(":")[0]
    lines = changed("      Handler: orders.handler\n", f"      Handler: orders.handler\n      {odd}\n").split("\n")
    if name in ("Handler", "Environment", "Policies", "Events"):
        start = next(n for n, line in enumerate(lines) if line.startswith(f"      {name}:") and line.strip() != odd)
        end = next(n for n in range(start + 1, len(lines)) if not lines[n].startswith("        "))
        del lines[start:end]

    assert isinstance(check("\n".join(lines)), list)


def test_a_condition_on_a_resource_that_is_not_known_is_as_if_it_were_there(check: Check) -> None:
    text = changed("Conditions:\n", "Conditions:\n  Perhaps: !Equals [!Ref Nobody, x]\n")
    assert check(text.replace("  Retries:\n    Type", "  Retries:\n    Condition: Perhaps\n    Type", 1)) == []


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(StreamkitError, match="can't be read: No such file"):
        read_template(str(tmp_path / "nowhere.yaml"), "orders.handler")
    (tmp_path / "t.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(StreamkitError, match="it is not UTF-8"):
        read_template(str(tmp_path / "t.yaml"), "orders.handler")


def test_a_subscription_by_a_queue_of_sams_is_not_looked_into(check: Check) -> None:
    event = "        News:\n          Type: SNS\n          Properties: {Topic: !Ref Nobody, SqsSubscription: true}\n"
    text = changed("      Events:\n        Stream:\n", f"      Events:\n{event}        Stream:\n")
    assert one(check(text, orders), "not checked: Orders.News").severity == "note"


def test_the_right_template_is_read_as_it_stands(tmp_path: Path) -> None:
    deployment, _ = read(RIGHT, tmp_path)

    assert deployment.function.timeout.number(3) == 60
    assert sorted(mapping.service for mapping in deployment.mappings) == ["kinesis", "sqs"]
    assert [queue.label for queue in deployment.queues] == ["Retries", "DeadLetters"]

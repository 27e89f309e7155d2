"""What the templates promise, held to what SAM makes of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.conditions import without_what_is_left_out
from deploy.validate import HERE, SAM, problems_of, transformed

Template = dict[str, Any]
TEMPLATES = ("function.yaml", "stream.yaml", "code.yaml")


@pytest.fixture(scope="module")
def plain(function: Template) -> dict[str, Template]:
    """Each template; those that are no SAM have the same shape once their short tags are read."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    def tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:
        value: Any
        if isinstance(node, yaml.ScalarNode):
            value = loader.construct_scalar(node)
            if suffix == "GetAtt":
                value = value.split(".", 1)
        elif isinstance(node, yaml.SequenceNode):
            value = loader.construct_sequence(node, deep=True)
        else:
            assert isinstance(node, yaml.MappingNode)
            value = loader.construct_mapping(node, deep=True)
        return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}

    Loader.add_multi_constructor("!", tagged)
    made = {name: yaml.load((HERE / name).read_text(), Loader) for name in TEMPLATES[1:]}  # A SafeLoader.
    return {"function.yaml": function, **made}


def of_type(template: Template, *types: str) -> dict[str, Any]:
    found = {name: one["Properties"] for name, one in template["Resources"].items() if one["Type"] in types}
    assert found, f"no {types}"
    return found


def statements(template: Template) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each statement of each policy, those within conditions too, with its place."""

    def walk(place: str, node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        if isinstance(node, dict):
            if "Effect" in node:
                yield place, node
            for key, value in node.items():
                yield from walk(f"{place}.{key}", value)
        elif isinstance(node, list):
            for n, value in enumerate(node):
                yield from walk(f"{place}[{n}]", value)

    for name, resource in template["Resources"].items():
        yield from walk(name, resource["Properties"])


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_policy_allows_anything_on_everything(plain: dict[str, Template], name: str) -> None:
    looked_at = 0
    for place, statement in statements(plain[name]):
        if statement["Effect"] == "Deny" or place.startswith("Key.KeyPolicy"):
            continue  # In a key's own policy, "*" is the key.
        looked_at += 1
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not [action for action in actions if "*" in action], place
        if "AssumeRolePolicyDocument" in place or "Resource" not in statement:
            continue
        if statement["Resource"] == "*":
            assert all(action.startswith("xray:") for action in actions), f"{place}: these can name their resource"
    assert looked_at or name == "code.yaml"


def test_functions_have_a_role_of_their_own_and_no_managed_policy(function: Template) -> None:
    assert not [name for name, one in of_type(function, "AWS::IAM::Role").items() if "ManagedPolicyArns" in one]
    roles = [properties["Role"]["Fn::GetAtt"][0] for properties in of_type(function, "AWS::Lambda::Function").values()]
    assert len(set(roles)) == len(roles)


def test_what_moves_the_alias_may_move_this_one_alone_and_publish_nothing(function: Template) -> None:
    (group,) = of_type(function, "AWS::CodeDeploy::DeploymentGroup").values()
    role = function["Resources"][group["ServiceRoleArn"]["Fn::GetAtt"][0]]["Properties"]
    (policy,) = role["Policies"]
    alias, alarms = policy["PolicyDocument"]["Statement"]
    assert alias["Action"] == ["lambda:GetAlias", "lambda:UpdateAlias", "lambda:GetProvisionedConcurrencyConfig"]
    assert alias["Resource"] == [{"Fn::GetAtt": ["Processor", "Arn"]}, {"Fn::Sub": "${Processor.Arn}:live"}]
    assert alarms["Action"] == "cloudwatch:DescribeAlarms"
    (trusted,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trusted["Principal"] == {"Service": "codedeploy.amazonaws.com"}


def test_all_that_rests_is_encrypted_with_the_key_of_the_stage(plain: dict[str, Template]) -> None:
    function, stream = plain["function.yaml"], plain["stream.yaml"]
    key = {"Ref": "Key"}
    assert all(one["KmsMasterKeyId"] == key for one in of_type(function, "AWS::SQS::Queue").values())
    assert all(one["KmsMasterKeyId"] == key for one in of_type(function, "AWS::SNS::Topic").values())
    assert all(one["KmsKeyId"] == key for one in of_type(function, "AWS::Logs::LogGroup").values())
    assert all(one["KmsKeyArn"] == key for one in of_type(function, "AWS::Lambda::Function").values())
    for table in of_type(function, "AWS::DynamoDB::Table").values():
        assert table["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": key}
    for bucket in of_type(function, "AWS::S3::Bucket").values():
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
        assert all(bucket["PublicAccessBlockConfiguration"].values())
    (of_stream,) = of_type(stream, "AWS::Kinesis::Stream").values()
    assert of_stream["StreamEncryption"]["EncryptionType"] == "KMS"
    (topic,) = of_type(stream, "AWS::SNS::Topic").values()
    assert topic["KmsMasterKeyId"] == key
    assert of_type(stream, "AWS::KMS::Key")["Key"]["EnableKeyRotation"] is True


@pytest.mark.parametrize("name", TEMPLATES)
def test_queues_topics_buckets_and_streams_take_tls_only(plain: dict[str, Template], name: str) -> None:
    template = plain[name]
    types = ("AWS::SQS::Queue", "AWS::SNS::Topic", "AWS::S3::Bucket", "AWS::Kinesis::Stream")
    denied: set[str] = set()
    for policy in template["Resources"].values():
        if not policy["Type"].endswith("Policy") or "RoleName" in policy["Properties"]:
            continue
        for part in ("PolicyDocument", "ResourcePolicy"):
            for statement in policy["Properties"].get(part, {}).get("Statement", []):
                if statement["Effect"] == "Deny":
                    assert statement["Principal"] == "*"
                    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
                    whose = [policy["Properties"].get(of) for of in ("Queues", "Topics", "Bucket", "ResourceArn")]
                    denied |= set(re.findall(r'"(\w+)"', json.dumps(whose)))

    assert denied >= of_type(template, *types).keys()


def test_functions_log_json_for_so_long_are_traced_and_run_on_arm(function: Template) -> None:
    for properties in of_type(function, "AWS::Lambda::Function").values():
        assert properties["LoggingConfig"]["LogFormat"] == "JSON"
        assert properties["TracingConfig"] == {"Mode": "Active"}
        assert properties["Architectures"] == ["arm64"]
    assert all("RetentionInDays" in one for one in of_type(function, "AWS::Logs::LogGroup").values())


def test_a_function_may_call_itself_where_its_retries_come_back_to_it(function: Template) -> None:
    processor = function["Resources"]["Processor"]["Properties"]

    assert processor["RecursiveLoop"] == {"Fn::If": ["CallsItself", "Allow", "Terminate"]}


def test_every_setting_of_the_streams_mapping_is_said(function: Template) -> None:
    mapping = function["Resources"]["FromStream"]["Properties"]

    assert mapping.keys() >= {
        *("StartingPosition", "BatchSize", "MaximumBatchingWindowInSeconds", "ParallelizationFactor", "FilterCriteria"),
        *("FunctionResponseTypes", "BisectBatchOnFunctionError", "MaximumRetryAttempts", "MaximumRecordAgeInSeconds"),
        "DestinationConfig",
    }
    text = (HERE / "function.yaml").read_text()
    section = text[text.index("  FromStream:") : text.index("  FromRetries:")]
    assert section.count("      #") >= 6, "each is explained where it is"


def test_alarms_go_to_somebody(function: Template) -> None:
    alarms = of_type(function, "AWS::CloudWatch::Alarm")
    assert alarms.keys() >= {
        *("AgeAlarm", "HeartbeatAlarm", "ErrorsAlarm", "FailuresAlarm", "ThrottlesAlarm", "DeadLettersAlarm"),
        *("RetriesWaitingAlarm", "OldestParkedAlarm", "GivenUpAlarm"),
    }
    for name, alarm in alarms.items():
        if name.startswith("NewVersion"):
            # A part of what the alarm on all versions counts, over the same threshold: it has told already.
            of_all = alarms[name.removeprefix("NewVersion")]
            assert alarm["Threshold"] == of_all["Threshold"]
            assert alarm["EvaluationPeriods"] == of_all["EvaluationPeriods"]
        else:
            assert alarm["AlarmActions"] == [{"Ref": "AlarmTopic"}]


def test_a_new_version_is_taken_back_for_what_it_does_itself(function: Template) -> None:
    alarms = of_type(function, "AWS::CloudWatch::Alarm")
    (version,) = of_type(function, "AWS::Lambda::Version")
    (group,) = of_type(function, "AWS::CodeDeploy::DeploymentGroup").values()
    condition, alarmed, _ = group["AlarmConfiguration"]["Fn::If"]
    assert condition == "RollsBack"
    assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]

    names = [alarm["Name"]["Ref"] for alarm in alarmed["Alarms"]]

    assert names == ["NewVersionErrorsAlarm", "NewVersionFailuresAlarm"]
    number = {"Fn::GetAtt": [version, "Version"]}
    errors, failures = ({one["Name"]: one["Value"] for one in alarms[name]["Dimensions"]} for name in names)
    assert errors == {
        "FunctionName": {"Ref": "Processor"},
        "Resource": {"Fn::Sub": "${Processor}:live"},
        "ExecutedVersion": number,
    }
    assert failures == {"FunctionName": {"Ref": "Processor"}, "FunctionVersion": number}
    # An alarm that is only changed keeps its state: that of the version before would end the deployment.
    assert all("${Revision}" in alarms[name]["AlarmName"]["Fn::Sub"] for name in names)


def test_the_dashboard_is_json(function: Template) -> None:
    (dashboard,) = of_type(function, "AWS::CloudWatch::Dashboard").values()

    widgets = json.loads(re.sub(r"\$\{[^}]+\}", "1", dashboard["DashboardBody"]["Fn::Sub"]))["widgets"]

    assert [widget["properties"]["title"].partition(" ")[0] for widget in widgets] == [
        *("How", "Throughput", "What", "Duplicates", "Where", "Cost"),
    ]


def test_another_revision_is_another_version_and_the_same_is_none() -> None:
    SAM.set_up(lambda _: None)

    def version(**parameters: str) -> str:
        made = json.loads(transformed(HERE / "function.yaml", **parameters))
        (found,) = of_type(made, "AWS::Lambda::Version")
        return found

    first = version(Revision="0123456789abcdef", MemoryMegabytes="512")
    assert version(Revision="0123456789abcdef", MemoryMegabytes="512") == first
    assert version(Revision="fedcba9876543210", MemoryMegabytes="1024") != first


def test_a_setting_out_of_range_is_found_in_what_sam_makes(tmp_path: Path) -> None:
    SAM.set_up(lambda _: None)
    wrong = tmp_path / "function.yaml"
    wrong.write_text((HERE / "function.yaml").read_text().replace("BatchSize: !Ref BatchSize", "BatchSize: 10001"))

    assert "10001 is greater than the maximum of 10000" in problems_of(wrong)


def test_a_stack_of_less_is_smaller(function: Template) -> None:
    given = {"Stage": "dev", "Name": "orders", "Function": "cloudsearch", "CodeBucket": "b", "CodeKey": "k"}
    parked = without_what_is_left_out(function, given | {"RetriesBy": "park"})["Resources"].keys()
    blocked = without_what_is_left_out(function, given | {"RetriesBy": "none"})["Resources"].keys()

    assert parked - blocked == {
        *("Retries", "FromRetries", "Parked", "ParkedDeadLetters", "ParkedDeadLettersAlarm"),
        *("RetriesWaitingAlarm", "OldestParkedAlarm"),
    }
    assert parked.isdisjoint({"Plans", "Progress", "RetryTopic"})

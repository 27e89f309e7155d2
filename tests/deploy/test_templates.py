"""What the templates promise, held to what SAM makes of them."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.conditions import without_what_is_left_out
from deploy.stack import without_comments
from deploy.validate import HERE, SAM, all_transformed, new_template, problems_of, transformed
from streamkit.heartbeat import payload
from streamkit.local.filters import Filters
from streamkit.new.project import Project

Template = dict[str, Any]
NEW = "streamkit new"
TEMPLATES = (*sorted(path.name for path in HERE.glob("*.yaml")), NEW)
#: What lists of alarms, log groups, functions and layers need: AWS asks whether they may be made of all of the region.
LISTED = {
    *("cloudwatch:DescribeAlarms", "logs:DescribeLogGroups"),
    *("lambda:ListFunctions", "lambda:ListEventSourceMappings", "lambda:ListLayers", "lambda:ListLayerVersions"),
}


@pytest.fixture(scope="module")
def plain(function: Template) -> dict[str, Template]:
    """Each template as AWS deploys it: all of deploy/, and that of a new project."""
    with new_template() as new:
        others = {NEW: new, **{name: HERE / name for name in TEMPLATES if name not in ("function.yaml", NEW)}}
        made = all_transformed([(template, {}) for template in others.values()])
    return {"function.yaml": function, **dict(zip(others, made, strict=True))}


def of_type(template: Template, *types: str, at_least: int = 1) -> dict[str, Any]:
    found = {name: one["Properties"] for name, one in template["Resources"].items() if one["Type"] in types}
    assert len(found) >= at_least, f"no {types}"
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


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def is_wide(resource: Any) -> bool:
    """Whether it stands for things that nobody has named: ``*``, or an ARN whose own part begins with one."""
    text = resource if isinstance(resource, str) else resource.get("Fn::Sub", "") if isinstance(resource, dict) else ""
    if isinstance(text, list):
        text = text[0]
    text = re.sub(r"\$\{[^}]+\}", "x", text)
    if not text.startswith("arn:"):
        return text.startswith("*")
    # A name may have parts: function:NAME, alarm:NAME, log-group:NAME, table/NAME.
    named = re.split("[:/]", text.split(":", 5)[5])
    return named[0].startswith("*") or (len(named) > 1 and named[1].startswith("*"))


@pytest.mark.parametrize(
    ("resource", "wide"),
    [
        *(("*", True), ("arn:aws:s3:::*", True), ("arn:aws:sqs:eu-west-1:123456789012:*", True)),
        ({"Fn::Sub": "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:*"}, True),
        ({"Fn::Sub": "arn:aws:lambda:us-east-1:123456789012:function:orders-${Stage}"}, False),
        *(({"Fn::Sub": "${Claims.Arn}/streamkit-claims/*"}, False), ({"Ref": "Key"}, False)),
    ],
)
def test_a_resource_is_wide_where_it_names_none(resource: Any, wide: bool) -> None:
    assert is_wide(resource) is wide


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_policy_allows_anything_on_everything(plain: dict[str, Template], name: str) -> None:
    for place, statement in statements(plain[name]):
        assert not statement.keys() & {"NotAction", "NotResource", "NotPrincipal"}, place
        if statement["Effect"] == "Deny":
            continue
        actions, resources = listed(statement["Action"]), listed(statement.get("Resource", []))
        if statement.get("Sid") == "Account" and place.startswith("Key.KeyPolicy"):
            # Whom the account lets use the key: without it nobody could.
            assert statement["Principal"] == {
                "AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:root"},
            }
            continue
        assert not [action for action in actions if "*" in action], place
        if "Principal" in statement:
            assert "*" not in json.dumps(statement["Principal"]), place
        if place.startswith("Key.KeyPolicy"):
            assert statement["Condition"], f"{place}: a service may use the key for this account alone"
        elif actions == ["cloudwatch:PutMetricData"]:
            # It names no resources, and is restricted by namespaces that are named.
            (named,) = statement["Condition"]["StringEquals"].values()
            assert statement["Condition"]["StringEquals"].keys() == {"cloudwatch:namespace"}, place
            assert not [one for one in listed(named) if one != {"Ref": one.get("Ref")}], place
        elif [one for resource in resources for one in either(resource) if is_wide(one)]:
            assert set(actions) <= LISTED or all(action.startswith("xray:") for action in actions), place


@pytest.mark.parametrize("name", TEMPLATES)
def test_who_reads_a_queue_may_do_what_lambda_or_a_loop_does_and_no_more(plain: dict[str, Template], name: str) -> None:
    reading = {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"}
    for place, statement in statements(plain[name]):
        of_queues = {one for one in listed(statement["Action"]) if one.startswith("sqs:")}
        if statement["Effect"] == "Allow" and "Principal" not in statement and "sqs:SendMessage" not in of_queues:
            # The loops' supervisor looks at a queue, and reads none.
            assert of_queues in (set(), {"sqs:GetQueueAttributes"}, reading), place


@pytest.mark.parametrize("name", TEMPLATES)
def test_roles_have_no_managed_policies_and_trust_one_service_each(plain: dict[str, Template], name: str) -> None:
    for role in of_type(plain[name], "AWS::IAM::Role", at_least=0).values():
        assert not role.keys() & {"ManagedPolicyArns", "PermissionsBoundary"}
        (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
        assert trust["Principal"].keys() == {"Service"}
        assert isinstance(trust["Principal"]["Service"], str)


@pytest.mark.parametrize("name", TEMPLATES)
def test_functions_have_a_role_of_their_own(plain: dict[str, Template], name: str) -> None:
    functions = of_type(plain[name], "AWS::Lambda::Function", at_least=0).values()
    roles = [properties["Role"]["Fn::GetAtt"][0] for properties in functions]
    assert len(set(roles)) == len(roles)
    assert set(roles) <= of_type(plain[name], "AWS::IAM::Role", at_least=len(roles)).keys()


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


#: Where each type of resource says which key encrypts it.
KEYS = {
    "AWS::SQS::Queue": "KmsMasterKeyId",
    "AWS::SNS::Topic": "KmsMasterKeyId",
    "AWS::Logs::LogGroup": "KmsKeyId",
    "AWS::Lambda::Function": "KmsKeyArn",
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_all_that_rests_is_encrypted_with_the_key_of_the_stage(plain: dict[str, Template], name: str) -> None:
    template = plain[name]
    # A parameter, or a key that is made here.
    keys = ({"Ref": "Key"}, {"Fn::GetAtt": ["Key", "Arn"]})
    for kind, setting in KEYS.items():
        for place, one in of_type(template, kind, at_least=0).items():
            assert one[setting] in keys, place
    for table in of_type(template, "AWS::DynamoDB::Table", at_least=0).values():
        of_table = table["SSESpecification"]
        assert (of_table["SSEEnabled"], of_table["SSEType"], of_table["KMSMasterKeyId"] in keys) == (True, "KMS", True)
    for bucket in of_type(template, "AWS::S3::Bucket", at_least=0).values():
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        by = rule["ServerSideEncryptionByDefault"]
        assert by["SSEAlgorithm"] == "aws:kms"
        # All stages of the account share the packages: they are there before any stage's key.
        assert "KMSMasterKeyID" not in by if name == "code.yaml" else by["KMSMasterKeyID"] in keys
        assert all(bucket["PublicAccessBlockConfiguration"].values())
        assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    for stream in of_type(template, "AWS::Kinesis::Stream", at_least=0).values():
        assert stream["StreamEncryption"]["EncryptionType"] == "KMS"
        assert stream["StreamEncryption"]["KeyId"] in keys
    for key in of_type(template, "AWS::KMS::Key", at_least=0).values():
        assert key["EnableKeyRotation"] is True


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_key_may_be_used_for_the_log_groups_that_it_encrypts(plain: dict[str, Template], name: str) -> None:
    """CloudWatch Logs makes no group with a key whose policy does not know it."""
    of = plain[name] if name == NEW else plain["stream.yaml"]
    conditions = [
        one.get("Condition", {}).get("ArnLike", {}) for place, one in statements(of) if place.startswith("Key.")
    ]
    arns = [one["kms:EncryptionContext:aws:logs:arn"] for one in conditions if "aws:SourceArn" not in one and one]
    patterns = [one["Fn::Sub"].partition(":log-group:")[2] for one in arns]

    for place, group in of_type(plain[name], "AWS::Logs::LogGroup", at_least=0).items():
        assert [one for one in patterns if fnmatch.fnmatchcase(group["LogGroupName"]["Fn::Sub"], one)], place


#: By the type of the policy, all that AWS takes in one: of a topic, what carries data; of a stream, what its policy may name.
DENIED = {
    "AWS::SQS::QueuePolicy": {"sqs:*"},
    "AWS::SNS::TopicPolicy": {"sns:Publish"},
    "AWS::S3::BucketPolicy": {"s3:*"},
    "AWS::Kinesis::ResourcePolicy": {
        *("kinesis:PutRecord", "kinesis:PutRecords", "kinesis:GetRecords", "kinesis:GetShardIterator"),
        *("kinesis:DescribeStreamSummary", "kinesis:ListShards"),
    },
}


def all_of(policy: dict[str, Any]) -> Any:
    """The resources of a statement that is for the whole of what the policy belongs to."""
    properties = policy["Properties"]
    match policy["Type"]:
        case "AWS::SQS::QueuePolicy":
            return "*"
        case "AWS::SNS::TopicPolicy":
            (topic,) = properties["Topics"]
            return topic
        case "AWS::S3::BucketPolicy":
            bucket = properties["Bucket"]["Ref"]
            return [{"Fn::GetAtt": [bucket, "Arn"]}, {"Fn::Sub": f"${{{bucket}.Arn}}/*"}]
    return properties["ResourceArn"]


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
                    assert set(listed(statement["Action"])) == DENIED[policy["Type"]]
                    assert statement["Resource"] == all_of(policy)
                    whose = [policy["Properties"].get(of) for of in ("Queues", "Topics", "Bucket", "ResourceArn")]
                    denied |= set(re.findall(r'"(\w+)"', json.dumps(whose)))

    assert denied >= of_type(template, *types, at_least=0).keys()


@pytest.mark.parametrize("name", TEMPLATES)
def test_functions_log_json_for_so_long_are_traced_and_run_on_arm(plain: dict[str, Template], name: str) -> None:
    template = plain[name]
    groups = of_type(template, "AWS::Logs::LogGroup", at_least=0)
    for properties in of_type(template, "AWS::Lambda::Function", at_least=0).values():
        assert properties["LoggingConfig"]["LogFormat"] == "JSON"
        # Else Lambda makes one that keeps all for ever.
        assert properties["LoggingConfig"]["LogGroup"]["Ref"] in groups
        assert properties["TracingConfig"] == {"Mode": "Active"}
        assert properties["Architectures"] == ["arm64"]
    assert all("RetentionInDays" in one for one in groups.values())


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_holds_records_or_packages_outlives_its_stack(plain: dict[str, Template], name: str) -> None:
    kinds = ("AWS::SQS::Queue", "AWS::S3::Bucket", "AWS::Kinesis::Stream", "AWS::KMS::Key")
    kept = [one for one in plain[name]["Resources"].values() if one["Type"] in kinds]

    assert all((one["DeletionPolicy"], one["UpdateReplacePolicy"]) == ("Retain", "Retain") for one in kept)


@pytest.mark.parametrize("name", TEMPLATES[:-1])
def test_a_template_fits_into_a_request_and_says_the_same_without_its_comments(name: str) -> None:
    text = (HERE / name).read_text()
    sent = without_comments(text)

    assert "#" in text
    assert len(sent.encode()) <= 51_200, "CloudFormation takes a larger one by way of S3 only"
    assert events_of(sent) == events_of(text)


def events_of(text: str) -> list[str]:
    """What a reader of YAML sees, tags and all."""
    return [f"{type(one).__name__} {getattr(one, 'tag', '')} {getattr(one, 'value', '')}" for one in yaml.parse(text)]


def test_what_is_secret_comes_by_the_name_of_its_secret(function: Template) -> None:
    variables = function["Resources"]["Processor"]["Properties"]["Environment"]["Variables"]
    for variable, parameter in (
        ("HEARTBEAT_URL", "HeartbeatUrlSecret"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "OtlpHeadersSecret"),
    ):
        condition, resolved, _ = variables[variable]["Fn::If"]
        assert function["Conditions"][condition] == {"Fn::Not": [{"Fn::Equals": [{"Ref": parameter}, ""]}]}
        # CloudFormation reads it, and its change sets, its events and the stage's file have the name.
        assert resolved == {"Fn::Sub": f"{{{{resolve:secretsmanager:${{{parameter}}}}}}}"}
    # Where both are given one would count for nothing.
    (one,) = function["Rules"]["HeartbeatUrl"]["Assertions"]
    empty = [{"Fn::Equals": [{"Ref": name}, ""]} for name in ("HeartbeatUrl", "HeartbeatUrlSecret")]
    assert one["Assert"] == {"Fn::Or": empty}


def test_a_function_may_call_itself_where_its_retries_come_back_to_it(function: Template) -> None:
    processor = function["Resources"]["Processor"]["Properties"]

    assert processor["RecursiveLoop"] == {"Fn::If": ["CallsItself", "Allow", "Terminate"]}


def sends_to(template: Template, role: str) -> list[Any]:
    """What a role may send messages to or invoke, those within conditions too."""
    of_role = [one for one in statements(template) if one[0].partition(".")[0] == role]
    for name, policy in template["Resources"].items():
        if policy["Type"] == "AWS::IAM::RolePolicy" and policy["Properties"]["RoleName"] == {"Ref": role}:
            of_role += [one for one in statements(template) if one[0].partition(".")[0] == name]
    found = []
    for _, one in of_role:
        if {"sqs:SendMessage", "sns:Publish", "lambda:InvokeFunction"} & set(listed(one["Action"])):
            for resource in listed(one["Resource"]):
                found += either(resource)
    return found


def either(value: Any) -> list[Any]:
    """What a value may come to: both of what a condition decides."""
    if isinstance(value, dict) and "Fn::If" in value:
        return [one for branch in value["Fn::If"][1:] for part in listed(branch) for one in either(part)]
    return [value]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_function_that_may_call_itself_says_what_lambda_is_to_do_about_it(
    plain: dict[str, Template], name: str
) -> None:
    resources = plain[name]["Resources"]
    loops = {}
    for function, one in of_type(plain[name], "AWS::Lambda::Function", at_least=0).items():
        role = one["Role"]["Fn::GetAtt"][0]
        called = [{"Ref": function}, {"Ref": f"{function}Aliaslive"}]
        named = (
            "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:" + one["FunctionName"]["Fn::Sub"]
        )
        of_itself = [{"Fn::GetAtt": [function, "Arn"]}, {"Fn::Sub": named}]
        for trigger in (resource["Properties"] for resource in resources.values()):
            if trigger.get("FunctionName") in called and "EventSourceArn" in trigger:
                of_itself.append(trigger["EventSourceArn"])
            if trigger.get("Protocol") == "lambda" and trigger["Endpoint"] in called:
                of_itself.append(trigger["TopicArn"])
        if [place for place in sends_to(plain[name], role) if place in of_itself]:
            loops[function] = one.get("RecursiveLoop")

    assert loops == LOOPS.get(name, {})


#: What may call itself. Lambda stops it after some sixteen rounds where it is told nothing else.
LOOPS: dict[str, dict[str, Any]] = {
    "backfill.yaml": {"Backfill": "Allow"},
    "function.yaml": {"Processor": {"Fn::If": ["CallsItself", "Allow", "Terminate"]}},
    "logs.yaml": {"Logs": "Allow"},
    # It goes on twelve times at most.
    "log-subscriber.yaml": {"Subscriber": "Terminate"},
    "objects.yaml": {"Objects": "Allow"},
    "sqs-loop.yaml": {"Loop": "Allow"},
    NEW: {"Processor": "Allow"},
}


def test_every_setting_of_the_streams_mapping_is_said(function: Template) -> None:
    mapping = function["Resources"]["FromStream"]["Properties"]

    assert mapping.keys() >= {
        *("StartingPosition", "BatchSize", "MaximumBatchingWindowInSeconds", "ParallelizationFactor", "FilterCriteria"),
        *("FunctionResponseTypes", "BisectBatchOnFunctionError", "MaximumRetryAttempts", "MaximumRecordAgeInSeconds"),
        "DestinationConfig",
    }


MAPPINGS = {
    "function.yaml": {"FromStream", "FromRetries", "FromGivenUp"},
    "logs.yaml": {"FromStream", "FromRetries"},
    "objects.yaml": {"FromQueue"},
    NEW: {"FromStream", "FromRetries"},
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_setting_of_a_mapping_is_explained_where_it_is(name: str) -> None:
    text = Project("orders").files["template.yaml"] if name == NEW else (HERE / name).read_text()
    resources = re.split(r"^  (\w+):\n", text.partition("\nResources:\n")[2], flags=re.MULTILINE)
    mappings = {
        one: body.partition("    Properties:\n")[2].splitlines()
        for one, body in zip(resources[1::2], resources[2::2], strict=True)
        if "Type: AWS::Lambda::EventSourceMapping" in body
    }
    assert mappings.keys() == MAPPINGS.get(name, set())
    for mapping, lines in mappings.items():
        explained = {
            line.strip().partition(":")[0]: above.startswith("      # ") or " # " in line
            for above, line in pairwise(["", *lines])
            if re.match(r" {6}\w", line)
        }
        assert explained, mapping
        assert [one for one, is_explained in explained.items() if not is_explained] == [], mapping


def test_a_function_reads_the_parameters_of_its_own_path_and_decrypts_no_others(function: Template) -> None:
    arn = "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter/${ParametersPath}/*"
    policy = function["Resources"]["RolePolicy"]["Properties"]["PolicyDocument"]["Statement"]
    under = {one["Fn::If"][0]: one["Fn::If"][1:] for one in policy if "Fn::If" in one}
    variables = function["Resources"]["Processor"]["Properties"]["Environment"]["Variables"]
    nothing = {"Ref": "AWS::NoValue"}

    read, otherwise = under["HasParameters"]
    assert otherwise == nothing
    assert read["Action"] == ["ssm:GetParameters", "ssm:GetParametersByPath"]
    assert read["Resource"] == {"Fn::Sub": arn}
    assert variables["PARAMETERS"] == {"Fn::If": ["HasParameters", {"Fn::Sub": "/${ParametersPath}"}, nothing]}
    assert function["Conditions"]["HasParameters"] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "ParametersPath"}, ""]}]}
    decrypt, otherwise = under["HasParametersKey"]
    assert otherwise == nothing
    assert (decrypt["Action"], decrypt["Resource"]) == ("kms:Decrypt", {"Ref": "ParametersKey"})
    assert decrypt["Condition"] == {"StringLike": {"kms:EncryptionContext:PARAMETER_ARN": {"Fn::Sub": arn}}}
    assert [one for _, one in statements(function) if "ssm:" in json.dumps(one)] == [read, decrypt]


@pytest.mark.parametrize("name", ["objects.yaml", "backfill.yaml"])
def test_objects_that_a_key_of_ones_own_encrypts_can_be_read_and_that_key_does_nothing_else(
    plain: dict[str, Template], name: str
) -> None:
    template = plain[name]
    key = {"Ref": "BucketKey"}
    (statement,) = [one for _, one in statements(template) if one.get("Resource") == key]
    (policy,) = template["Resources"]["Role"]["Properties"]["Policies"]

    assert statement["Action"] == "kms:Decrypt"
    listed_there = policy["PolicyDocument"]["Statement"]
    assert {"Fn::If": ["HasBucketKey", statement, {"Ref": "AWS::NoValue"}]} in listed_there
    assert template["Conditions"]["HasBucketKey"] == {"Fn::Not": [{"Fn::Equals": [key, ""]}]}
    pattern = template["Parameters"]["BucketKey"]["AllowedPattern"]
    assert re.fullmatch(pattern, "arn:aws:kms:eu-west-1:123456789012:key/9a1b")
    assert re.fullmatch(pattern, "")
    assert re.fullmatch(pattern, "*") is None


@pytest.mark.parametrize("wrong", ["*", "shop/*", "/shop/orders", "shop/orders/", "shop//orders", "shop ${x}"])
def test_a_path_of_parameters_is_one_and_no_pattern(function: Template, wrong: str) -> None:
    pattern = function["Parameters"]["ParametersPath"]["AllowedPattern"]

    assert re.fullmatch(pattern, wrong) is None
    assert re.fullmatch(pattern, "shop/orders")
    assert re.fullmatch(pattern, "")


def test_what_lambda_gives_up_is_looked_for_by_the_filters_of_the_mapping(function: Template) -> None:
    mapping, maker = (function["Resources"][name]["Properties"] for name in ("FromStream", "DeadLetterMaker"))
    wanted = '{"data": {"type": ["flight"]}}'

    def found(value: Any) -> Any:
        if value == {"Ref": "Filter"}:
            return wanted
        if "Fn::FindInMap" in value:
            first, second, third = value["Fn::FindInMap"]
            return function["Mappings"][first][second][third]
        text, given = value["Fn::Sub"]
        for name, one in {"Filter": {"Ref": "Filter"}, **given}.items():
            text = text.replace(f"${{{name}}}", found(one))
        return text

    _, criteria, _ = mapping["FilterCriteria"]["Fn::If"]
    patterns = [found(one["Pattern"]) for one in criteria["Filters"]]
    _, passed, _ = maker["Environment"]["Variables"]["FILTER_CRITERIA"]["Fn::If"]
    assert json.loads(found(passed)) == [json.loads(one) for one in patterns]
    assert Filters(json.loads(found(passed))).wants(payload(1764432000.0)), "heartbeats count in a batch"


def test_an_outage_of_two_days_ends_no_message_of_the_retries_and_none_ends_unseen(function: Template) -> None:
    retries = of_type(function, "AWS::SQS::Queue")["Retries"]
    timeout = {"Ref": "TimeoutSeconds"}
    assert retries["VisibilityTimeout"] == {"Fn::FindInMap": ["Visibility", timeout, "Seconds"]}
    assert retries["RedrivePolicy"]["maxReceiveCount"] == {"Fn::FindInMap": ["Visibility", timeout, "Receives"]}
    times = function["Mappings"]["Visibility"]
    assert sorted(map(int, times)) == function["Parameters"]["TimeoutSeconds"]["AllowedValues"]
    for seconds, one in times.items():
        assert one["Seconds"] == 6 * int(seconds)
        assert one["Receives"] <= 1000, "SQS's most"
        # Its age goes on in the dead letters of a standard queue.
        assert 2 * 86_400 <= one["Receives"] * one["Seconds"] <= retries["MessageRetentionPeriod"] / 2


def test_the_way_by_a_topic_stands_before_any_version_publishes_whatever_retries_by_is(
    plain: dict[str, Template],
) -> None:
    resources = plain["function.yaml"]["Resources"]
    way = ("RetryTopic", "FromRetryTopic", "FromRetryTopicAllowed", "RetryTopicPolicy", "DeadLettersPolicy")
    assert not [name for name in way if "Condition" in resources[name]]
    (publish,) = [one for _, one in statements(plain["function.yaml"]) if one.get("Sid") == "PublishRetries"]
    assert publish in resources["RolePolicy"]["Properties"]["PolicyDocument"]["Statement"], "and under no condition"
    assert set(resources["FromStream"]["DependsOn"]) == {"FromRetryTopic", "FromRetryTopicAllowed"}
    alias = {"Ref": "ProcessorAliaslive"}
    assert resources["FromRetryTopic"]["Properties"]["Endpoint"] == alias
    assert resources["FromRetryTopicAllowed"]["Properties"]["FunctionName"] == alias


def test_what_a_topic_cannot_deliver_becomes_a_dead_letter(plain: dict[str, Template]) -> None:
    function = plain["function.yaml"]
    letters = {"Fn::GetAtt": ["DeadLetters", "Arn"]}
    subscription = function["Resources"]["FromRetryTopic"]
    assert subscription["Properties"]["RedrivePolicy"] == {"deadLetterTargetArn": letters}
    policy = function["Resources"][subscription["DependsOn"]]["Properties"]
    assert policy["Queues"] == [{"Ref": "DeadLetters"}]
    (allowed,) = [one for one in policy["PolicyDocument"]["Statement"] if one["Effect"] == "Allow"]
    assert (allowed["Principal"], allowed["Action"], allowed["Resource"]) == (
        *({"Service": "sns.amazonaws.com"}, "sqs:SendMessage"),
        letters,
    )
    assert allowed["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Ref": "RetryTopic"}}}
    # The queue is encrypted, so SNS needs the key as well.
    keys = [one for place, one in statements(plain["stream.yaml"]) if place.startswith("Key.")]
    (key,) = [one for one in keys if one["Principal"] == {"Service": "sns.amazonaws.com"}]
    assert set(key["Action"]) == {"kms:Decrypt", "kms:GenerateDataKey"}
    assert set(key["Condition"]["ArnLike"]) == {"aws:SourceArn"}


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


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_alarm_is_raised_to_nobody_and_no_dead_letter_without_one(plain: dict[str, Template], name: str) -> None:
    template = plain[name]
    alarms = of_type(template, "AWS::CloudWatch::Alarm", at_least=0)
    # They roll a version back, and what tells is the alarm on all versions.
    telling = {one: alarm for one, alarm in alarms.items() if not one.startswith("NewVersion")}
    for place, alarm in telling.items():
        (action,) = alarm["AlarmActions"]
        assert action in ({"Ref": "AlarmTopic"}, {"Ref": "Alarms"}), place
    for queue in of_type(template, "AWS::SQS::Queue", at_least=0):
        if queue.endswith("DeadLetters") or queue == "GivenUp":
            watched = {"Fn::GetAtt": [queue, "QueueName"]}
            assert [one for one in telling.values() if json.dumps(watched) in json.dumps(one)], queue


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
    def version(**parameters: str) -> str:
        made = transformed(HERE / "function.yaml", **parameters)
        (found,) = of_type(made, "AWS::Lambda::Version")
        return found

    first = version(Revision="0123456789abcdef", MemoryMegabytes="512")
    assert version(Revision="0123456789abcdef", MemoryMegabytes="512") == first
    assert version(Revision="fedcba9876543210", MemoryMegabytes="1024") != first


def test_a_setting_out_of_range_is_found_in_what_sam_makes(tmp_path: Path) -> None:
    SAM.set_up(lambda _: None)
    wrong = tmp_path / "function.yaml"
    wrong.write_text((HERE / "function.yaml").read_text().replace("BatchSize: !Ref BatchSize", "BatchSize: 10001"))

    assert "10001 is greater than the maximum of 10000" in problems_of([wrong])


def test_a_tool_that_ends_without_a_word_has_found_nothing_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SAM.set_up(lambda _: None)
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -KILL $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(type(SAM), "program", lambda self, name: killed)

    assert "cfn-lint ended with -9" in problems_of([HERE / "stream.yaml"])


def test_a_stack_of_less_is_smaller(function: Template) -> None:
    given = {"Stage": "dev", "Name": "orders", "Function": "cloudsearch", "CodeBucket": "b", "CodeKey": "k"}
    parked = without_what_is_left_out(function, given | {"RetriesBy": "park"})["Resources"].keys()
    blocked = without_what_is_left_out(function, given | {"RetriesBy": "none"})["Resources"].keys()

    assert parked - blocked == {
        *("Retries", "FromRetries", "Parked", "ParkedDeadLetters", "ParkedDeadLettersAlarm"),
        *("RetriesWaitingAlarm", "OldestParkedAlarm"),
    }
    assert parked.isdisjoint({"Plans", "Progress"})


def test_whoever_subscribes_log_groups_may_subscribe_no_reader_whatever_the_stage(plain: dict[str, Template]) -> None:
    subscriber = plain["log-subscriber.yaml"]
    (denied,) = [one for _, one in statements(subscriber) if one["Effect"] == "Deny"]
    (reader,) = of_type(plain["logs.yaml"], "AWS::Logs::LogGroup").values()
    name = reader["LogGroupName"]["Fn::Sub"].replace("${Stage}", "*")
    variables = of_type(subscriber, "AWS::Lambda::Function")["Subscriber"]["Environment"]["Variables"]

    assert denied["Action"] == "logs:PutSubscriptionFilter"
    assert [one["Fn::Sub"].partition(":log-group:")[2] for one in denied["Resource"]] == [name, f"{name}:*"]
    assert variables["EXCLUDE"]["Fn::Sub"].startswith(f"{name},")
    assert reader["LogGroupName"]["Fn::Sub"] in variables["OWN_GROUPS"]["Fn::Sub"].split(",")


def test_what_log_lines_lambda_gives_up_comes_back_to_the_same_function(plain: dict[str, Template]) -> None:
    resources = plain["logs.yaml"]["Resources"]
    queue = {"Fn::GetAtt": ["Retries", "Arn"]}
    assert resources["Tries"]["Properties"]["DestinationConfig"]["OnFailure"]["Destination"] == queue
    mapping = resources["FromRetries"]["Properties"]
    assert (mapping["EventSourceArn"], mapping["FunctionName"]) == (queue, {"Ref": "Logs"})
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    retries = resources["Retries"]["Properties"]
    assert retries["VisibilityTimeout"] == 6 * resources["Logs"]["Properties"]["Timeout"]
    assert retries["VisibilityTimeout"] * retries["RedrivePolicy"]["maxReceiveCount"] >= 2 * 86_400
    permission = resources["FromLogs"]["Properties"]
    assert permission["SourceAccount"] == {"Ref": "AWS::AccountId"}
    assert permission["SourceArn"]["Fn::Sub"].endswith("${AWS::AccountId}:log-group:*:*")


def test_a_janitor_that_only_reports_may_delete_nothing(plain: dict[str, Template]) -> None:
    template = plain["janitor.yaml"]
    (janitor,) = of_type(template, "AWS::Lambda::Function").values()
    (schedule,) = of_type(template, "AWS::Scheduler::Schedule").values()
    document = template["Resources"]["Role"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    deleting = [one for _, one in statements(template) if "Delete" in json.dumps(one.get("Action"))]
    conditional = [one["Fn::If"] for one in document if "Fn::If" in one]

    assert [(condition, otherwise) for condition, _, otherwise in conditional] == [
        ("Deletes", {"Ref": "AWS::NoValue"}),
        ("Deletes", {"Ref": "AWS::NoValue"}),
    ]
    assert [one for _, one, _ in conditional] == deleting
    assert template["Conditions"]["Deletes"] == {"Fn::Equals": [{"Ref": "Delete"}, "yes"]}
    assert template["Parameters"]["Delete"]["Default"] == "no"
    assert janitor["Environment"]["Variables"]["JANITOR_DELETE"] == {"Ref": "Delete"}
    condition, deletes, reports = schedule["Target"]["Input"]["Fn::If"]
    assert (condition, json.loads(deletes), json.loads(reports)) == ("Deletes", {"dry_run": False}, {"dry_run": True})


def test_a_janitor_looks_after_what_its_role_is_for(plain: dict[str, Template]) -> None:
    template = plain["janitor.yaml"]
    (janitor,) = of_type(template, "AWS::Lambda::Function").values()
    wanted = {"Fn::Sub": "${Prefix}*"}

    assert janitor["Environment"]["Variables"]["INCLUDE"] == wanted
    for _, one in statements(template):
        if one.get("Sid") in ("SeeWhoUsesThem", "SeeLayers", "DeleteVersions", "DeleteLayerVersions"):
            assert one["Resource"]["Fn::Sub"].rpartition(":")[2] == wanted["Fn::Sub"]

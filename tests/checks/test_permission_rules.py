"""What a role has to allow: each need, wildcards, Deny, conditions, and what can't be read."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from streamkit import Divert, Park, RecordProcessor
from streamkit.claims.s3 import S3Claims
from streamkit.config import Config, Environment
from streamkit.config.appconfig import AppConfig
from streamkit.config.ssm import SsmParameters
from streamkit.finding import Finding
from streamkit.idempotency import Idempotency
from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.logs.sink import LogSink
from streamkit.marks.dynamodb import DynamoDbMarks
from streamkit.plans.dynamodb import DynamoDbPlans
from streamkit.queues.sqs import SqsQueue
from streamkit.sinks.base import Sink, Write
from streamkit.sinks.bigquery import BigQuerySink
from streamkit.sinks.bigquery_exactly_once import BigQueryExactlyOnceSink
from streamkit.sinks.cloudsearch import CloudSearchSink
from streamkit.sinks.cloudwatch_metrics import CloudWatchMetricsSink
from streamkit.sinks.events import EventBridgeSink
from streamkit.sinks.functions import LambdaSink
from streamkit.sinks.kinesis import KinesisSink
from streamkit.sinks.opensearch import OpenSearchSink
from streamkit.sinks.s3 import S3Sink
from streamkit.sinks.sns import SnsSink
from streamkit.sinks.sqs import SqsSink

from .given import RIGHT, Check, changed, line_of, one, orders

POLICIES = RIGHT[RIGHT.index("      Policies:\n") : RIGHT.index("      Events:\n        Stream")]
LETTERS = """\
        - Statement:
            - Effect: Allow
              Action: sqs:SendMessage
              Resource: !GetAtt DeadLetters.Arn
"""


def allowing(*statements: str) -> str:
    """The right template with more statements."""
    return changed(LETTERS, LETTERS + "".join(f"        - Statement: [{one}]\n" for one in statements))


def test_what_nothing_allows_is_told_with_the_statement_to_add(check: Check) -> None:
    text = changed("        - SQSSendMessagePolicy: {QueueName: !GetAtt Retries.QueueName}\n", "")

    finding = one(check(text), "nothing in the role allows sqs:SendMessage for orders's retry queue")

    assert (finding.severity, finding.where) == ("error", line_of("      Policies:", text))
    arn = "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:${Retries.QueueName}"
    assert f"Add {{Effect: Allow, Action: [sqs:SendMessage], Resource: !Sub '{arn}'}}" in finding.message
    assert "holds its shard" in finding.message


def test_a_function_without_policies_may_nothing_but_what_sam_gives_its_events(check: Check) -> None:
    found = check(changed(POLICIES, ""))

    assert [finding.message.partition(":")[0] for finding in found] == ["nothing in the role allows sqs"] * 2 + [
        "nothing in the role allows dynamodb"
    ]


@pytest.mark.parametrize(
    "resource",
    [
        "'*'",
        "!GetAtt DeadLetters.Arn",
        "!Sub 'arn:aws:sqs:*:*:${DeadLetters.QueueName}'",
        "!Sub 'arn:aws:sqs:${AWS::Region}:${AWS::AccountId}:*'",
        "!Join [':', ['arn:aws:sqs', !Ref 'AWS::Region', '111122223333', !GetAtt DeadLetters.QueueName]]",
        "['arn:aws:sqs:::elsewhere', 'arn:aws:sqs:*']",
    ],
)
@pytest.mark.parametrize(
    "action", ["sqs:SendMessage", "sqs:Send*", "SQS:sendmessage", "'*'", "[sqs:GetQueueUrl, sqs:*]"]
)
def test_wildcards_of_actions_and_resources(check: Check, action: str, resource: str) -> None:
    text = changed("Action: sqs:SendMessage\n", f"Action: {action}\n")

    assert check(text.replace("Resource: !GetAtt DeadLetters.Arn", f"Resource: {resource}")) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Action: sqs:SendMessage\n", "Action: sqs:ReceiveMessage\n"),
        ("Resource: !GetAtt DeadLetters.Arn", "Resource: !GetAtt Events.Arn"),
        ("Action: sqs:SendMessage\n", "NotAction: sqs:*\n"),
        ("Resource: !GetAtt DeadLetters.Arn", "NotResource: !GetAtt DeadLetters.Arn"),
        ("Resource: !GetAtt DeadLetters.Arn", "Resource: 'arn:aws:sqs:*:*'\n              Sid: no"),
    ],
)
def test_what_is_of_something_else_does_not_count(check: Check, old: str, new: str) -> None:
    found = check(changed(old, new))

    if "'arn:aws:sqs:*:*'" in new:  # A star goes on over colons.
        assert found == []
    else:
        assert one(found, "sqs:SendMessage for orders's dead letters").severity == "error"


def test_not_action_and_not_resource_allow_all_the_rest(check: Check) -> None:
    assert check(changed("Action: sqs:SendMessage\n", "NotAction: iam:*\n")) == []
    assert check(changed("Resource: !GetAtt DeadLetters.Arn", "NotResource: !GetAtt Events.Arn")) == []
    other = changed("Resource: !GetAtt DeadLetters.Arn", "NotResource: !Ref Nobody")
    assert one(check(other), "its resource is not known").severity == "note"
    assert check(changed("Resource: !GetAtt DeadLetters.Arn", "NotResource: 'arn:aws:s3:::*'")) == []


def test_a_deny_wins_and_its_line_is_named(check: Check) -> None:
    text = allowing("{Effect: Deny, Action: 'sqs:*', Resource: '*'}")

    finding = one(check(text), "orders's retry queue needs sqs:SendMessage")

    assert (finding.severity, finding.where) == ("error", line_of("Effect: Deny", text))


def test_a_condition_may_not_hold(check: Check) -> None:
    condition = "Condition: {StringEquals: {'aws:SourceVpce': 'vpce-1'}}"
    conditional = changed("Effect: Allow\n", f"Effect: Allow\n              {condition}\n")
    found = one(check(conditional), "whether orders's dead letters may sqs:SendMessage")
    assert (found.severity, found.message.rpartition(": ")[2]) == ("note", "the statement has a condition")

    denied = allowing(f"{{Effect: Deny, Action: 'sqs:SendMessage', Resource: '*', {condition}}}")
    assert {finding.severity for finding in check(denied)} == {"note"}


def test_a_resource_that_nobody_knows_is_a_note(check: Check) -> None:
    text = changed("Resource: !GetAtt DeadLetters.Arn", "Resource: !Ref Nobody")
    assert one(check(text), "its resource is not known").severity == "note"
    named = "arn:aws:sqs:eu-west-1:111122223333:mine-*"
    assert one(check(text, Nobody=named), "its resource is not known").severity == "note"
    assert one(check(text, Nobody="arn:aws:sns:*:*:*"), "sqs:SendMessage for orders's dead letters").severity == "error"


@pytest.mark.parametrize(
    ("policy", "what"),
    [
        ("- arn:aws:iam::123456789012:policy/mine", "the managed policy arn:aws:iam::123456789012:policy/mine"),
        ("- SomePolicyOfSams: {QueueName: x}", "the policy SomePolicyOfSams"),
        ("- SQSSendMessagePolicy: {}", "the policy SQSSendMessagePolicy"),
    ],
)
def test_a_policy_that_is_not_here_makes_what_is_missing_a_note(check: Check, policy: str, what: str) -> None:
    found = check(changed(LETTERS, f"        {policy}\n"))

    assert {finding.severity for finding in found} == {"note"}
    assert one(found, f"not checked: what {what} allows or forbids")
    assert one(found, "orders's dead letters needs sqs:SendMessage")


@pytest.mark.parametrize(
    "policy",
    [
        "- AmazonSQSFullAccess",
        "- arn:aws:iam::aws:policy/AmazonSQSFullAccess",
        "- !Sub 'arn:${AWS::Partition}:iam::aws:policy/AdministratorAccess'",
        "- SQSSendMessagePolicy: {QueueName: !GetAtt DeadLetters.QueueName}",
        "- !Ref Managed",
    ],
)
def test_policies_that_are_named(check: Check, policy: str) -> None:
    managed = """\
  Managed:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      PolicyDocument: {Statement: {Effect: Allow, Action: sqs:SendMessage, Resource: '*'}}
"""
    assert check(changed("  Retries:\n", f"{managed}  Retries:\n", changed(LETTERS, f"        {policy}\n"))) == []


ROLE = """\
  Role:
    Type: AWS::IAM::Role
    Properties:
      ManagedPolicyArns:
        - arn:aws:iam::aws:policy/service-role/AWSLambdaKinesisExecutionRole
        - arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole
      Policies:
        - PolicyName: tables
          PolicyDocument:
            Statement: {Effect: Allow, Action: ['dynamodb:Query', 'dynamodb:PutItem'], Resource: !GetAtt Progress.Arn}
  Sending:
    Type: AWS::IAM::Policy
    Properties:
      Roles: [!Ref Role]
      PolicyDocument:
        Statement: {Effect: Allow, Action: sqs:SendMessage, Resource: [!GetAtt Retries.Arn, !GetAtt DeadLetters.Arn]}
"""
WITH_ROLE = changed(POLICIES, "      Role: !GetAtt Role.Arn\n").replace("  Retries:\n", f"{ROLE}  Retries:\n", 1)


def test_a_role_of_its_own_with_policies_of_each_kind(check: Check) -> None:
    assert check(WITH_ROLE) == []
    without = changed("      Roles: [!Ref Role]\n", "      Roles: [elsewhere]\n", WITH_ROLE)
    assert {finding.where for finding in check(without)} == {line_of("  Role:\n", WITH_ROLE)}


def test_a_mapping_needs_permissions_too(check: Check) -> None:
    stream = "        - arn:aws:iam::aws:policy/service-role/AWSLambdaKinesisExecutionRole\n"
    found = one(check(changed(stream, "", WITH_ROLE)), "Lambda can't read the stream")
    assert "kinesis:GetRecords and kinesis:GetShardIterator and kinesis:DescribeStream" in found.message
    queue = "        - arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole\n"
    assert "sqs:ReceiveMessage" in one(check(changed(queue, "", WITH_ROLE)), "Lambda can't read the queue").message
    destination = "StartingPosition: TRIM_HORIZON\n            MaximumRetryAttempts: 9\n"
    for arn, action in (("arn:aws:sns:eu-west-1:1:gone", "sns:Publish"), ("arn:aws:s3:::gone", "s3:PutObject")):
        line = f"            DestinationConfig: {{OnFailure: {{Destination: '{arn}'}}}}\n"
        text = changed("StartingPosition: TRIM_HORIZON\n", destination + line, WITH_ROLE)
        assert action in one(check(text), "what Lambda gives up is lost without a word").message


def test_a_role_and_a_boundary_that_are_not_here(check: Check) -> None:
    elsewhere = changed("!GetAtt Role.Arn", "arn:aws:iam::123456789012:role/elsewhere", WITH_ROLE)
    assert {finding.severity for finding in check(elsewhere)} == {"note"}
    bounded = changed(
        "      ManagedPolicyArns:\n",
        "      PermissionsBoundary: arn:aws:iam::1:policy/most\n      ManagedPolicyArns:\n",
        WITH_ROLE,
    )
    assert one(check(bounded), "the permissions boundary").severity == "note"


def with_own_policy(
    statement: str, queue: str = "Type: AWS::SQS::QueuePolicy, Properties: {Queues: [!Ref DeadLetters]"
) -> str:
    """A template whose role may not send to the dead letters, and whose dead letters have a policy of their own."""
    policy = f"  Letters: {{{queue}, PolicyDocument: {{Statement: {statement}}}}}}}\n"
    return changed("  Retries:\n", f"{policy}  Retries:\n", changed(LETTERS, ""))


@pytest.mark.parametrize(
    "statement",
    [
        "{Effect: Allow, Principal: '*', Action: 'sqs:*', Resource: '*', Condition: {Bool: {'aws:SecureTransport': 'true'}}}",
        "[{Effect: Allow, Principal: {AWS: !GetAtt Someone.Arn}, Action: sqs:SendMessage, Resource: !GetAtt DeadLetters.Arn}]",
        "{Effect: Allow, NotPrincipal: {AWS: 'arn:aws:iam::123456789012:role/other'}, Action: sqs:SendMessage}",
        "{Effect: Allow, Principal: {AWS: !Ref Nobody}, Action: !Ref Nobody, Resource: !Ref Nobody}",
        "{Effect: !Ref Nobody, Principal: '*', Action: sqs:SendMessage, Resource: '*'}",
        "!Ref Nobody",
    ],
)
def test_a_queue_with_a_policy_of_its_own_may_allow_it(check: Check, statement: str) -> None:
    assert one(check(with_own_policy(statement)), "the resource's own policy may").severity == "note"


@pytest.mark.parametrize(
    "queue",
    [
        "Type: AWS::SQS::QueuePolicy, Properties: {Queues: [!Ref Nobody]",
        "Type: AWS::SQS::QueuePolicy, Properties: {Queues: !Ref DeadLetters",
        "Type: AWS::SQS::QueueInlinePolicy, Properties: {Queue: !Ref DeadLetters",
    ],
)
def test_a_policy_of_that_queue_or_of_one_that_nobody_knows_may_allow_it(check: Check, queue: str) -> None:
    text = with_own_policy("{Effect: Allow, Principal: '*', Action: 'sqs:*', Resource: '*'}", queue)
    assert one(check(text), "the resource's own policy may").severity == "note"


@pytest.mark.parametrize(
    "statement",
    [
        "[]",
        "{Effect: Deny, Principal: '*', Action: 'sqs:*', Resource: '*', Condition: {Bool: {'aws:SecureTransport': 'false'}}}",
        "{Effect: Allow, Principal: '*', Action: sqs:ReceiveMessage, Resource: '*'}",
        "{Effect: Allow, Principal: '*', Action: sqs:SendMessage, Resource: !GetAtt Retries.Arn}",
        # To whom a topic, an event or an alarm belongs: no role.
        "{Effect: Allow, Principal: {Service: sns.amazonaws.com}, Action: sqs:SendMessage, Resource: '*'}",
        # An account leaves it to the policies of its roles.
        "{Effect: Allow, Principal: {AWS: !Sub 'arn:aws:iam::${AWS::AccountId}:root'}, Action: 'sqs:*', Resource: '*'}",
        "{Effect: Allow, Principal: {AWS: [!Ref 'AWS::AccountId', '123456789012']}, Action: 'sqs:*', Resource: '*'}",
    ],
)
def test_a_policy_of_a_queue_that_does_not_allow_it_to_the_role_changes_nothing(check: Check, statement: str) -> None:
    text = with_own_policy(statement)
    finding = one(check(text), "nothing in the role allows sqs:SendMessage for orders's dead letters")
    assert (finding.severity, finding.where) == ("error", line_of("      Policies:", text))


def test_the_policy_of_another_queue_changes_nothing(check: Check) -> None:
    other = "Type: AWS::SQS::QueuePolicy, Properties: {Queues: [!Ref Retries]"
    text = with_own_policy("{Effect: Allow, Principal: '*', Action: 'sqs:*', Resource: '*'}", other)
    assert one(check(text), "sqs:SendMessage for orders's dead letters").severity == "error"


def test_actions_that_nobody_knows_are_a_note(check: Check) -> None:
    text = changed("Action: sqs:SendMessage\n", "Action: !Ref Nobody\n")
    assert one(check(text), "its actions are not known").severity == "note"
    assert check(text, Nobody="sqs:*") == []


def test_a_queue_with_a_key_of_its_own_needs_the_key(check: Check) -> None:
    text = changed("      VisibilityTimeout: 360\n", "      VisibilityTimeout: 360\n      KmsMasterKeyId: alias/mine\n")
    assert one(check(text), "kms:GenerateDataKey and kms:Decrypt").severity == "note"
    assert check(text.replace("alias/mine", "alias/aws/sqs")) == []


@pytest.mark.parametrize("key", ["!GetAtt Key.Arn", "!Ref Key"])
def test_a_queue_with_a_key_of_the_template(check: Check, key: str) -> None:
    encrypted = f"      VisibilityTimeout: 360\n      KmsMasterKeyId: {key}\n"
    resource = "  Key: {Type: AWS::KMS::Key, Properties: {KeyPolicy: {}}}\n"
    text = changed("      VisibilityTimeout: 360\n", encrypted, changed("  Retries:\n", f"{resource}  Retries:\n"))
    assert one(check(text), "kms:GenerateDataKey and kms:Decrypt").severity == "note"

    given = '{Effect: Allow, Action: ["kms:Decrypt", "kms:GenerateDataKey"], Resource: !GetAtt Key.Arn}'
    assert check(changed(LETTERS, f"{LETTERS}        - Statement: [{given}]\n", text)) == []


ROOT = "{Effect: Allow, Principal: {AWS: !Sub 'arn:aws:iam::${AWS::AccountId}:root'}, Action: 'kms:*', Resource: '*'}"
KEY = """\
  Key:
    Type: AWS::KMS::Key
    Properties:
      KeyPolicy: {Statement: [%s]}
  Named:
    Type: AWS::KMS::Alias
    Properties: {AliasName: alias/mine, TargetKeyId: !Ref Key}
"""
STREAM = "    Properties: {ShardCount: 1}\n"


def encrypted_stream(key: str, policy: str = ROOT) -> str:
    encryption = f"    Properties: {{ShardCount: 1, StreamEncryption: {{EncryptionType: KMS, KeyId: {key}}}}}\n"
    return changed(STREAM, encryption, changed("  Retries:\n", f"{KEY % policy}  Retries:\n"))


@pytest.mark.parametrize("key", ["!Ref Key", "!GetAtt Key.Arn", "!GetAtt Key.KeyId", "alias/mine", "!Ref Named"])
def test_a_stream_with_a_key_of_its_own_can_not_be_read_without_the_key(check: Check, key: str) -> None:
    text = encrypted_stream(key)

    finding = one(check(text), "nothing in the role allows kms:Decrypt for Orders.Stream: Lambda can't read the stream")

    assert (finding.severity, finding.where) == ("error", line_of("      Policies:", text))
    arn = "arn:${AWS::Partition}:kms:${AWS::Region}:${AWS::AccountId}:key/${Key}"
    assert f"Add {{Effect: Allow, Action: [kms:Decrypt], Resource: !Sub '{arn}'}}" in finding.message
    for allowed in (
        "- Statement: [{Effect: Allow, Action: 'kms:Decrypt', Resource: !GetAtt Key.Arn}]",
        "- KMSDecryptPolicy: {KeyId: !Ref Key}",
    ):
        assert check(changed(LETTERS, f"{LETTERS}        {allowed}\n", text)) == []


@pytest.mark.parametrize(
    "key", ["alias/aws/kinesis", "!Sub 'arn:aws:kms:${AWS::Region}:${AWS::AccountId}:alias/aws/kinesis'"]
)
def test_awss_own_keys_need_nothing(check: Check, key: str) -> None:
    assert check(encrypted_stream(key)) == []


@pytest.mark.parametrize(
    ("policy", "severity"),
    [
        (ROOT, "error"),
        (ROOT.replace("!Sub 'arn:aws:iam::${AWS::AccountId}:root'", "['123456789012']"), "error"),
        (
            f"{ROOT}, {{Effect: Allow, Principal: {{Service: logs.amazonaws.com}}, Action: 'kms:*', Resource: '*'}}",
            "error",
        ),
        ("", "note"),
        (ROOT.replace("kms:*", "kms:Describe*"), "note"),
        (ROOT.replace("Resource: '*'", "Resource: '*', Condition: {Bool: {'aws:SecureTransport': 'true'}}"), "note"),
        (f"{ROOT}, {{Effect: Allow, Principal: {{AWS: !Ref Nobody}}, Action: 'kms:Decrypt', Resource: '*'}}", "note"),
    ],
)
def test_what_a_key_leaves_to_the_account_the_role_has_to_allow(check: Check, policy: str, severity: str) -> None:
    assert one(check(encrypted_stream("!Ref Key", policy)), "kms:Decrypt").severity == severity


def test_another_accounts_root_leaves_nothing_to_this_account(check: Check) -> None:
    text = encrypted_stream("!Ref Key", ROOT.replace("${AWS::AccountId}", "111122223333"))
    assert one(check(text, orders, **{"AWS::AccountId": "123456789012"}), "kms:Decrypt").severity == "note"


def test_a_key_without_a_policy_has_that_of_kms(check: Check) -> None:
    text = changed("    Properties:\n      KeyPolicy: {Statement: []}\n", "", encrypted_stream("!Ref Key", ""))
    assert one(check(text), "kms:Decrypt").severity == "error"


def test_a_key_that_a_parameter_names_is_allowed_by_the_same_parameter(check: Check) -> None:
    text = encrypted_stream("!Ref Nobody")
    assert one(check(text), "kms:Decrypt").severity == "note"
    given = f"{LETTERS}        - Statement: [{{Effect: Allow, Action: 'kms:Decrypt', Resource: !Ref Nobody}}]\n"
    assert check(changed(LETTERS, given, text)) == []


def test_what_lambda_gives_up_goes_nowhere_without_the_key_of_its_destination(check: Check) -> None:
    places = """\
  Gone: {Type: AWS::SQS::Queue, Properties: {KmsMasterKeyId: !Ref Key}}
  News: {Type: AWS::SNS::Topic, Properties: {KmsMasterKeyId: !Ref Key}}
  Archive:
    Type: AWS::S3::Bucket
    Properties:
      BucketEncryption:
        ServerSideEncryptionConfiguration:
          - ServerSideEncryptionByDefault: {SSEAlgorithm: 'aws:kms', KMSMasterKeyID: !GetAtt Key.Arn}
"""
    text = changed("  Retries:\n", f"{KEY % ROOT}{places}  Retries:\n")
    start = "            StartingPosition: TRIM_HORIZON\n"
    sending = f"{LETTERS}        - Statement: [{{Effect: Allow, Action: ['sqs:*', 'sns:*', 's3:*'], Resource: '*'}}]\n"
    for place, actions in (
        ("!GetAtt Gone.Arn", "kms:GenerateDataKey and kms:Decrypt"),
        ("!Ref News", "kms:GenerateDataKey and kms:Decrypt"),
        ("!GetAtt Archive.Arn", "kms:GenerateDataKey"),
    ):
        settings = f"MaximumRecordAgeInSeconds: 82800, DestinationConfig: {{OnFailure: {{Destination: {place}}}}}"
        lines = settings.replace(", D", "\n            D")
        found = check(changed(start, f"{start}            {lines}\n", changed(LETTERS, sending, text)))
        finding = one(found, f"nothing in the role allows {actions} for Orders.Stream's OnFailure:")
        assert finding.severity == "error"
        assert "what Lambda gives up is lost without a word" in finding.message


def test_a_topic_and_a_stream_that_are_written_to_need_their_key_too(check: Check) -> None:
    text = (
        encrypted_stream("!Ref Key")
        .replace('TARGET: ""', "TARGET: !Ref Events")
        .replace(
            "  Retries:\n", "  Topic: {Type: AWS::SNS::Topic, Properties: {KmsMasterKeyId: !Ref Key}}\n  Retries:\n", 1
        )
    )
    topic = text.replace("TARGET: !Ref Events", "TARGET: !Ref Topic")

    found = check(text, lambda: orders(copies=KinesisSink.from_env("TARGET")))
    assert one(found, "kms:GenerateDataKey for orders's sink KinesisSink").severity == "error"
    found = check(topic, lambda: orders(news=SnsSink.from_env("TARGET")))
    assert one(found, "kms:GenerateDataKey and kms:Decrypt for orders's sink SnsSink").severity == "error"


class Unheard(Sink):
    def write(self, writes: object, *, deadline: float) -> list[Write]:  # type: ignore[override]  # It is never called.
        return []


@pytest.mark.parametrize(
    ("sink", "actions", "resource"),
    [
        (KinesisSink("copies"), "kinesis:PutRecords", "kinesis:${AWS::Region}:${AWS::AccountId}:stream/copies"),
        (
            SqsSink("https://sqs.eu-west-1.amazonaws.com/123456789012/work"),
            "sqs:SendMessage",
            "sqs:eu-west-1:123456789012:work",
        ),
        (
            SqsSink("arn:aws:sqs:eu-west-1:123456789012:work"),
            "sqs:GetQueueUrl",
            "arn:aws:sqs:eu-west-1:123456789012:work",
        ),
        (SnsSink("arn:aws:sns:eu-west-1:123456789012:news"), "sns:Publish", "arn:aws:sns:eu-west-1:123456789012:news"),
        (EventBridgeSink("shop"), "events:PutEvents", "event-bus/shop"),
        (LambdaSink("mailer"), "lambda:InvokeFunction", "function:mailer"),
        (S3Sink("archive", prefix="orders/"), "s3:PutObject", "s3:::archive/orders/*"),
        (CloudWatchMetricsSink("shop"), "cloudwatch:PutMetricData", "Resource: '*'"),
        (
            BigQueryExactlyOnceSink("shop.orders", DynamoDbPlans("plans")),
            "dynamodb:GetItem and dynamodb:PutItem",
            "table/plans",
        ),
        (
            Idempotency(DynamoDbMarks("marks"), "charged", lease=60),
            "dynamodb:PutItem and dynamodb:UpdateItem and dynamodb:DeleteItem",
            "table/marks",
        ),
    ],
)
def test_each_sink_and_store_needs_its_own_actions(check: Check, sink: object, actions: str, resource: str) -> None:
    def writing() -> RecordProcessor:
        if isinstance(sink, BigQueryExactlyOnceSink):
            exact: RecordProcessor = type(
                "Exact", (RecordProcessor,), {"name": "orders", "ordering": "shard", "target": sink}
            )()
            return exact
        return orders(target=sink)

    found = [finding for finding in check(make=writing) if f"allows {actions} for" in finding.message]
    assert [finding.severity for finding in found] == ["error"]
    assert resource in found[0].message

    listed = ", ".join(f"'{action}'" for action in (*actions.split(" and "), "sqs:SendMessage"))
    assert not any(
        "allows" in finding.message
        for finding in check(allowing(f"{{Effect: Allow, Action: [{listed}], Resource: '*'}}"), writing)
    )


def test_each_parameter_and_each_hierarchy_needs_its_own_permission(check: Check) -> None:
    config = Config(Environment(), SsmParameters("/shop/orders"))
    limit, _ = config.integer("limit"), config.hierarchy("routes")

    held: list[dict[str, object]] = [{"config": config}, {"limit": limit}, {"limit": limit, "config": config}]
    for attributes in held:

        def reading(attributes: dict[str, object] = attributes) -> RecordProcessor:
            return orders(**attributes)

        found = [finding for finding in check(make=reading) if "ssm:" in finding.message]
        assert [(finding.severity, finding.message.partition(", and")[0]) for finding in found] == [
            (
                "error",
                f"nothing in the role allows {action} for orders's parameters of SSM /shop/orders: it has no value but "
                "its default",
            )
            for action in ("ssm:GetParameters", "ssm:GetParametersByPath")
        ]
        assert [finding.message.rpartition("parameter")[2] for finding in found] == [
            "/shop/orders/limit'}",
            "/shop/orders/routes'}",
        ]
        under = "arn:${AWS::Partition}:ssm:${AWS::Region}:${AWS::AccountId}:parameter/shop/orders/*"
        covered = allowing(f"{{Effect: Allow, Action: ['ssm:GetParameters*'], Resource: !Sub '{under}'}}")
        assert not any("ssm:" in finding.message for finding in check(covered, reading))
        others = covered.replace("parameter/shop/orders/*", "parameter/shop/others/*")
        assert len([finding for finding in check(others, reading) if "ssm:" in finding.message]) == 2


def test_a_path_of_parameters_that_the_environment_lacks_is_told(check: Check) -> None:
    def reading() -> RecordProcessor:
        return orders(limit=Config(SsmParameters.from_env("PARAMETERS")).integer("limit"))

    assert "SsmParameters needs a path" in one(check(make=reading), "PARAMETERS is not set").message


def test_appconfig_needs_its_own_permission_where_it_is_named_by_ids(check: Check) -> None:
    def reading(*ids: str) -> RecordProcessor:
        return orders(config=Config(AppConfig(*ids)))

    found = one(check(make=lambda: reading("abc1234", "def5678", "ghi9012")), "appconfig:")
    assert found.severity == "error"
    assert "appconfig:StartConfigurationSession and appconfig:GetLatestConfiguration" in found.message
    assert "application/abc1234/environment/def5678/configuration/ghi9012" in found.message

    assert one(check(make=lambda: reading("shop", "production", "orders")), "shop/production/orders").severity == "note"


def test_the_ledger_and_claims_need_theirs(check: Check) -> None:
    def parking() -> RecordProcessor:
        queue, letters = (SqsQueue.from_env(name, claims=S3Claims("large")) for name in ("RETRIES", "DEAD_LETTERS"))
        return orders(on_failure=Park(queue, DynamoDbLedger("parked"), letters))

    messages = [finding.message for finding in check(make=parking) if "role allows" in finding.message]

    assert [message.partition(" for ")[0].removeprefix("nothing in the role allows ") for message in messages] == [
        "s3:PutObject and s3:GetObject",
        "s3:ListBucket",
        "s3:PutObject",
        "dynamodb:Query and dynamodb:GetItem and dynamodb:UpdateItem and dynamodb:DeleteItem",
    ]
    assert "s3:::large/streamkit-claims/*" in messages[0]
    covered = allowing("{Effect: Allow, Action: ['s3:*', 'dynamodb:*'], Resource: ['arn:aws:s3:::large*', '*']}")
    assert not any("role allows" in finding.message for finding in check(covered, parking))
    # A pattern that is of some objects only is not of all.
    some = allowing(
        "{Effect: Allow, Action: 's3:*', Resource: ['arn:aws:s3:::large', 'arn:aws:s3:::large/streamkit-claims/a']}"
    )
    assert any("s3:PutObject and s3:GetObject" in finding.message for finding in check(some, parking))


BUCKET = "  Claims: {Type: AWS::S3::Bucket}\n"


@pytest.mark.parametrize(
    ("bucket", "arn"),
    [
        ("!Ref Claims", "${Claims.Arn}"),
        ("!Ref Nobody", "arn:aws:s3:::${Nobody}"),
        ("large", "arn:${AWS::Partition}:s3:::large"),
    ],
)
def test_claims_that_go_behind_another_prefix_than_the_role_has(check: Check, bucket: str, arn: str) -> None:
    def claiming(prefix: str = "streamkit-claims/") -> RecordProcessor:
        queue, letters = (
            SqsQueue.from_env(name, claims=S3Claims.from_env("TARGET", prefix=prefix))
            for name in ("RETRIES", "DEAD_LETTERS")
        )
        return orders(on_failure=Divert(queue, letters))

    def allowed(objects: str) -> str:
        actions = "['s3:PutObject', 's3:GetObject']"
        text = allowing(
            f"{{Effect: Allow, Action: {actions}, Resource: !Sub '{arn}/{objects}'}}",
            f"{{Effect: Allow, Action: 's3:ListBucket', Resource: !Sub '{arn}'}}",
        )
        return changed("  Retries:\n", f"{BUCKET}  Retries:\n", changed('TARGET: ""', f"TARGET: {bucket}", text))

    finding = one(
        check(allowed("other/*"), claiming), "s3:PutObject and s3:GetObject for orders's claims of its retry queue"
    )
    assert (finding.severity, "/streamkit-claims/*" in finding.message) == ("error", True)
    assert check(allowed("streamkit-claims/*"), claiming) == []
    assert check(allowed("*"), claiming) == []
    assert check(allowed("other/*"), lambda: claiming("other/")) == []
    assert one(check(allowed("other/*"), lambda: claiming("")), "s3:PutObject and s3:GetObject").severity == "error"


def test_a_name_that_may_be_another_is_still_no_finding(check: Check) -> None:
    text = changed("Resource: !GetAtt DeadLetters.Arn", "Resource: !Sub 'arn:aws:sqs:*:*:*-${Nobody}'")
    assert one(check(text), "its resource is not known").severity == "note"


TLS = "Condition: {Bool: {'aws:SecureTransport': 'false'}}"
#: Of each kind of place: its resource, its policy, what writes there, and the action.
PLACES = {
    "a queue": (
        "",
        "Type: AWS::SQS::QueuePolicy, Properties: {Queues: [!Ref DeadLetters], PolicyDocument",
        "!Ref DeadLetters",
        None,
        "sqs:SendMessage",
    ),
    "a topic": (
        "  Place: {Type: AWS::SNS::Topic}\n",
        "Type: AWS::SNS::TopicPolicy, Properties: {Topics: [!Ref Place], PolicyDocument",
        "!Ref Place",
        SnsSink,
        "sns:Publish",
    ),
    "a bucket": (
        "  Place: {Type: AWS::S3::Bucket}\n",
        "Type: AWS::S3::BucketPolicy, Properties: {Bucket: !Ref Place, PolicyDocument",
        "!Ref Place",
        S3Sink,
        "s3:PutObject",
    ),
    "a stream": (
        "  Place: {Type: AWS::Kinesis::Stream}\n",
        "Type: AWS::Kinesis::ResourcePolicy, Properties: {ResourceArn: !GetAtt Place.Arn, ResourcePolicy",
        "!Ref Place",
        KinesisSink,
        "kinesis:PutRecords",
    ),
}
EVERYBODY = "{Effect: Deny, Principal: '*', Action: '*', Resource: '*'}"


def denying(check: Check, place: str, statement: str = EVERYBODY, may: str = "'*'") -> list[Finding]:
    """A function whose role may all of ``may``, and a place with a policy of its own."""
    resource, policy, target, sink, _ = PLACES[place]
    text = changed('TARGET: ""', f"TARGET: {target}", allowing(f"{{Effect: Allow, Action: {may}, Resource: '*'}}"))
    text = changed(
        "  Retries:\n",
        f"{resource}  Denying: {{{policy}: {{Statement: [\n    {statement}\n  ]}}}}}}\n  Retries:\n",
        text,
    )
    return check(text, lambda: orders(target=sink.from_env("TARGET")) if sink else orders())


@pytest.mark.parametrize("place", PLACES)
def test_a_policy_of_a_place_that_denies_it_whatever_the_role_allows(check: Check, place: str) -> None:
    finding = one(denying(check, place), "whose own policy denies it to this role")

    assert finding.severity == "error"
    assert f"needs {PLACES[place][4]} on " in finding.message
    text = (check.folder / "template.yaml").read_text()
    assert finding.where == line_of(f"    {EVERYBODY}", text)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "statement",
    [
        EVERYBODY.replace("Resource: '*'", f"Resource: '*', {TLS}"),
        EVERYBODY.replace("'*', Action", "{Service: sns.amazonaws.com}, Action"),
        EVERYBODY.replace(
            "Action: '*'", "Action: ['sqs:DeleteQueue', 's3:DeleteObject', 'sns:Subscribe', 'kinesis:DeleteStream']"
        ),
        EVERYBODY.replace("Resource: '*'", "Resource: 'arn:aws:sqs:eu-west-1:111122223333:elsewhere'"),
    ],
)
def test_a_deny_that_is_of_something_else_is_none(check: Check, place: str, statement: str) -> None:
    assert denying(check, place, statement) == []


def test_whether_another_role_is_the_one_that_sam_makes_is_not_known(check: Check) -> None:
    other = EVERYBODY.replace("'*', Action", "{AWS: 'arn:aws:iam::111122223333:role/other'}, Action")
    assert {finding.severity for finding in denying(check, "a queue", other)} == {"note"}


@pytest.mark.parametrize(
    "principal", ["{AWS: '*'}", "{AWS: [!GetAtt OrdersRole.Arn]}", "{AWS: !Sub 'arn:aws:iam::${AWS::AccountId}:root'}"]
)
def test_whom_a_deny_hits(check: Check, principal: str) -> None:
    found = denying(check, "a queue", EVERYBODY.replace("'*', Action", f"{principal}, Action"))
    assert one(found, "whose own policy denies it").severity == "error"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (
            "Resource: '*'",
            "Resource: '*', Condition: {StringNotEquals: {'aws:SourceVpce': vpce-1}}",
            "its Deny has a condition",
        ),
        ("Principal: '*'", "NotPrincipal: {AWS: 'arn:aws:iam::111122223333:root'}", "whom or what its Deny is for"),
        ("Principal: '*'", "Principal: {AWS: 'arn:aws:iam::111122223333:root'}", "whom or what its Deny is for"),
        ("Principal: '*'", "Principal: {AWS: !Ref Nobody}", "whom or what its Deny is for"),
        ("Resource: '*'", "Resource: !Ref Nobody", "whom or what its Deny is for"),
    ],
)
@pytest.mark.parametrize("place", PLACES)
def test_a_deny_that_may_not_hold_is_a_note(check: Check, place: str, old: str, new: str, why: str) -> None:
    found = denying(check, place, EVERYBODY.replace(old, new))
    assert {finding.severity for finding in found} == {"note"}
    assert why in one(found, "whether orders's").message


def test_a_role_of_the_template_and_another_one_of_it(check: Check) -> None:
    other = "  Other: {Type: AWS::IAM::Role}\n"
    statement = EVERYBODY.replace("'*', Action", "{AWS: !GetAtt Role.Arn}, Action")
    deny = f"  Denying: {{{PLACES['a queue'][1]}: {{Statement: {statement}}}}}}}\n"
    text = changed("  Retries:\n", f"{other}{deny}  Retries:\n", WITH_ROLE)
    assert one(check(text), "orders's dead letters needs sqs:SendMessage").severity == "error"
    assert check(text.replace("{AWS: !GetAtt Role.Arn}", "{AWS: !GetAtt Other.Arn}")) == []


def test_a_key_that_denies_it(check: Check) -> None:
    deny = EVERYBODY.replace("Action: '*'", "Action: kms:Decrypt")
    text = changed(
        LETTERS,
        f"{LETTERS}        - Statement: [{{Effect: Allow, Action: 'kms:*', Resource: '*'}}]\n",
        encrypted_stream("!Ref Key", f"{ROOT}, {deny}"),
    )
    assert one(check(text), "Orders.Stream needs kms:Decrypt on ").severity == "error"


@pytest.mark.parametrize("place", ["a topic", "a bucket", "a stream"])
def test_a_policy_of_a_place_may_allow_what_the_role_does_not(check: Check, place: str) -> None:
    allow = EVERYBODY.replace("Deny", "Allow")
    assert one(denying(check, place, allow, may="'sqs:*'"), "the resource's own policy may").severity == "note"
    nobody = EVERYBODY.replace(", Action", f", {TLS}, Action")
    assert one(denying(check, place, nobody, may="'sqs:*'"), "nothing in the role allows").severity == "error"


def test_what_can_not_be_read_of_a_policy_is_a_note(check: Check) -> None:
    assert (
        one(denying(check, "a topic", "!Ref Nobody"), "what the policy Denying denies: it can't be read").severity
        == "note"
    )
    of_nobody = with_own_policy(EVERYBODY, "Type: AWS::SQS::QueuePolicy, Properties: {Queues: [!Ref Nobody]")
    text = changed("        - DynamoDBCrudPolicy", f"{LETTERS}        - DynamoDBCrudPolicy", of_nobody)
    found = check(text)
    assert one(found, "what the policy Letters denies: whose it is, is not known").severity == "note"
    assert {finding.severity for finding in found} == {"note"}


def test_a_domain_of_cloudsearch_may_have_a_policy_of_its_own(check: Check) -> None:
    search = CloudSearchSink("https://doc-shop-abc123.eu-west-1.cloudsearch.amazonaws.com")
    found = one(check(make=lambda: orders(search=search)), "cloudsearch:document")
    assert found.severity == "note"
    assert "cloudsearch:eu-west-1:" in found.message
    assert "domain/shop" in found.message


@pytest.mark.parametrize(
    "host",
    [
        "search-my-shop-abc123.eu-west-1.es.amazonaws.com",
        "https://vpc-my-shop-abc123.eu-west-1.es.amazonaws.com:443/",
        "search-my-shop-abc123.aos.eu-west-1.on.aws",
    ],
)
def test_a_domain_of_opensearch_is_allowed_by_its_paths_and_may_have_a_policy_of_its_own(
    check: Check, host: str
) -> None:
    search = OpenSearchSink(host, "orders", template={}, template_name="shop")
    found = check(make=lambda: orders(search=search))
    assert {finding.severity for finding in found} == {"note"}
    assert "es:eu-west-1:" in one(found, "es:ESHttpPost").message
    assert "domain/my-shop/orders/_bulk" in one(found, "es:ESHttpPost").message
    assert "domain/my-shop/_index_template/shop" in one(found, "es:ESHttpPut").message
    allowed = allowing("{Effect: Allow, Action: 'es:ESHttp*', Resource: '*'}")
    assert check(allowed, lambda: orders(search=OpenSearchSink(host, "orders"))) == []


def test_a_collection_of_opensearch_serverless_is_allowed_by_one_action(check: Check) -> None:
    search = OpenSearchSink("https://abc123.eu-west-1.aoss.amazonaws.com", "orders", template={})
    found = one(check(make=lambda: orders(search=search)), "aoss:APIAccessAll")
    assert found.severity == "error"
    assert "collection/abc123" in found.message


def test_opensearch_of_ones_own_or_with_a_password_needs_nothing_of_awss(check: Check) -> None:
    host = "search-shop-abc123.eu-west-1.es.amazonaws.com"
    for search in (OpenSearchSink("search.example.com", "orders"), OpenSearchSink(host, "orders", authorization="x")):
        assert check(make=partial(orders, search=search)) == []


def test_a_sink_of_log_lines_needs_what_both_of_its_own_need(check: Check) -> None:
    documents = OpenSearchSink("search-logs-abc123.eu-west-1.es.amazonaws.com", "lines")
    found = check(make=lambda: orders(logs=LogSink(documents, CloudWatchMetricsSink("shop"))))
    assert one(found, "es:ESHttpPost").severity == "note", "its domain may have a policy of its own"
    assert one(found, "cloudwatch:PutMetricData").severity == "error"
    assert not any("nothing of streamkit's" in finding.message for finding in found)
    found = check(make=lambda: orders(logs=LogSink(documents, None)))
    assert not any("cloudwatch" in finding.message for finding in found)


def test_what_a_sink_of_cloudsearch_is_told_to_do_needs_its_own_permission(check: Check) -> None:
    endpoint = "https://doc-shop-abc123.eu-west-1.cloudsearch.amazonaws.com"

    def needed(**options: Any) -> set[str]:
        messages = [one.message for one in check(make=lambda: orders(search=CloudSearchSink(endpoint, **options)))]
        actions = ("document", "DescribeIndexFields", "search")
        return {action for action in actions if any(f"cloudsearch:{action}" in message for message in messages)}

    assert needed() == {"document"}
    assert needed(check_fields=True) == {"document", "DescribeIndexFields"}
    assert needed(version_field="v") == {"document", "search"}


def test_bigquery_needs_nothing_of_awss_and_an_unheard_of_sink_is_told(check: Check) -> None:
    assert check(make=lambda: orders(warehouse=BigQuerySink("shop.orders"))) == []
    found = check(make=lambda: orders(other=Unheard()))
    assert [(finding.severity, finding.where) for finding in found] == [("note", "orders's sink Unheard")]


def test_branches_that_share_a_queue_are_told_once(check: Check) -> None:
    from streamkit.fanout import FanOut

    retries, letters = SqsQueue.from_env("RETRIES"), SqsQueue.from_env("DEAD_LETTERS")
    made = [
        type(name, (RecordProcessor,), {"name": name, "on_failure": Divert(retries, letters)}) for name in ("a", "b")
    ]

    found = [
        finding for finding in check(changed(POLICIES, ""), lambda: FanOut(*made)) if "role allows" in finding.message
    ]

    assert len(found) == 2


LOGLESS = WITH_ROLE.replace(
    "        - arn:aws:iam::aws:policy/service-role/AWSLambdaKinesisExecutionRole\n"
    "        - arn:aws:iam::aws:policy/service-role/AWSLambdaSQSQueueExecutionRole\n",
    "        - AWSXRayDaemonWriteAccess\n",
).replace("Action: sqs:SendMessage, Resource: [", "Action: ['sqs:*', 'kinesis:*'], Resource: [!GetAtt Events.Arn, ")
LOG = "      Handler: orders.handler\n      FunctionName: orders\n"


def logging_to(
    resource: str, group: str = "", more: str = "", actions: str = "logs:CreateLogStream, logs:PutLogEvents"
) -> str:
    """A function whose own role may write to a log by one statement."""
    config = f"      LoggingConfig: {{LogGroup: {group}}}\n" if group else ""
    text = changed("      Handler: orders.handler\n", LOG + config, LOGLESS)
    statement = (
        "          PolicyDocument:\n"
        f"            Statement: {{Effect: Allow, Action: [{actions}], Resource: {resource}}}\n"
    )
    tables = "        - PolicyName: tables\n"
    return changed(tables, f"        - PolicyName: log\n{statement}{tables}", text).replace(
        "  Retries:\n", f"{more}  Retries:\n", 1
    )


GROUP = "  Log: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: %s}}\n"


def test_a_role_that_may_write_no_log(check: Check) -> None:
    finding = one(check(LOGLESS), "logs:CreateLogStream and logs:PutLogEvents for Orders's log")

    assert (finding.severity, finding.where) == ("error", line_of("  Role:\n", LOGLESS))
    assert "metrics that are printed, are lost without a word" in finding.message
    assert "log-group:/aws/lambda/${Orders}:log-stream:*" in finding.message


@pytest.mark.parametrize(
    ("resource", "group", "more"),
    [
        ("!GetAtt Log.Arn", "", GROUP % "/aws/lambda/orders"),
        ("!GetAtt Log.Arn", "!Ref Log", "  Log: {Type: AWS::Logs::LogGroup}\n"),
        ("!Sub '${Log.Arn}'", "mine", GROUP % "mine"),
        ("'arn:aws:logs:*:*:log-group:/aws/lambda/*'", "", GROUP % "!Sub '/aws/lambda/orders'"),
        (
            "!Sub 'arn:aws:logs:${AWS::Region}:${AWS::AccountId}:log-group:/aws/lambda/orders:*'",
            "",
            GROUP % "/aws/lambda/orders",
        ),
        ("!Sub 'arn:aws:logs:${AWS::Region}:${AWS::AccountId}:log-group:${Nobody}:*'", "!Ref Nobody", ""),
        ("'*'", "", GROUP % "!Ref Nobody"),
    ],
)
def test_a_role_that_may_write_its_log(check: Check, resource: str, group: str, more: str) -> None:
    assert check(logging_to(resource, group, more)) == []


@pytest.mark.parametrize(
    "resource",
    [
        # Without the star it is of the group, and not of its streams.
        "!Sub 'arn:aws:logs:${AWS::Region}:${AWS::AccountId}:log-group:/aws/lambda/orders'",
        "!Sub 'arn:aws:logs:${AWS::Region}:${AWS::AccountId}:log-group:/aws/lambda/other:*'",
        "!GetAtt Other.Arn",
    ],
)
def test_a_statement_of_another_log_does_not_count(check: Check, resource: str) -> None:
    more = GROUP % "/aws/lambda/orders" + "  Other: {Type: AWS::Logs::LogGroup}\n"
    assert one(check(logging_to(resource, "", more)), "for Orders's log").severity == "error"


def test_sam_lets_each_function_write_its_log(check: Check) -> None:
    begin, end = RIGHT.index("      Policies:\n"), RIGHT.index("  Events:\n    Type")
    found = check(RIGHT[:begin] + RIGHT[end:])
    assert not any("logs:" in finding.message for finding in found)
    assert one(found, "nothing triggers Orders here")


def test_one_of_both_actions_is_not_enough(check: Check) -> None:
    text = logging_to("'*'", "", GROUP % "/aws/lambda/orders", "logs:CreateLogStream")
    assert one(check(text), "nothing in the role allows logs:PutLogEvents for Orders's log").severity == "error"


def test_a_log_group_that_nobody_makes(check: Check) -> None:
    finding = one(check(logging_to("'*'")), "the template has no log group /aws/lambda/orders")
    assert finding.severity == "warning"
    assert check(logging_to("'*'", "", "", "'logs:*'")) == []
    assert check(logging_to("'*'", "!Ref Nobody")) == []

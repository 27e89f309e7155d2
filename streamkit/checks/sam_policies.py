"""The policies that templates name and don't spell out: SAM's own, and AWS's managed ones, as far as they matter here.

Only what allows something that streamkit needs is here. A policy that is not, is said not to be looked into.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from .deployment import Home, Statement

__all__ = ["managed_policy", "sam_policy"]


class _Target(msgspec.Struct, frozen=True):
    """The parameter of a SAM policy, and the resources that it makes of that: {} is the value."""

    parameter: str
    service: str
    resources: tuple[str, ...]


_QUEUE = _Target("QueueName", "sqs", ("{}",))
_TABLE = _Target("TableName", "dynamodb", ("table/{}", "table/{}/index/*"))
_BUCKET = _Target("BucketName", "s3", ("{}", "{}/*"))
_STREAM = _Target("StreamName", "kinesis", ("stream/{}",))
_TOPIC = _Target("TopicName", "sns", ("{}",))
_TOPICS = _Target("TopicName", "sns", ("{}*",))
_FUNCTION = _Target("FunctionName", "lambda", ("function:{}*",))
_KEY = _Target("KeyId", "kms", ("key/{}",))
_BUS = _Target("EventBusName", "events", ("event-bus/{}",))

_SAM: dict[str, tuple[_Target, str]] = {
    "SQSSendMessagePolicy": (_QUEUE, "sqs:SendMessage*"),
    "SQSPollerPolicy": (
        _QUEUE,
        "sqs:ChangeMessageVisibility sqs:ChangeMessageVisibilityBatch sqs:DeleteMessage sqs:DeleteMessageBatch "
        "sqs:GetQueueAttributes sqs:ReceiveMessage",
    ),
    "DynamoDBCrudPolicy": (
        _TABLE,
        "dynamodb:GetItem dynamodb:DeleteItem dynamodb:PutItem dynamodb:Scan dynamodb:Query dynamodb:UpdateItem "
        "dynamodb:BatchWriteItem dynamodb:BatchGetItem dynamodb:DescribeTable dynamodb:ConditionCheckItem",
    ),
    "DynamoDBReadPolicy": (
        _TABLE,
        "dynamodb:GetItem dynamodb:Scan dynamodb:Query dynamodb:BatchGetItem dynamodb:DescribeTable",
    ),
    "DynamoDBWritePolicy": (_TABLE, "dynamodb:PutItem dynamodb:UpdateItem dynamodb:BatchWriteItem"),
    "S3ReadPolicy": (_BUCKET, "s3:GetObject s3:ListBucket s3:GetBucketLocation s3:GetObjectVersion"),
    "S3WritePolicy": (_BUCKET, "s3:PutObject s3:PutObjectAcl"),
    "S3CrudPolicy": (
        _BUCKET,
        "s3:GetObject s3:ListBucket s3:GetBucketLocation s3:GetObjectVersion s3:PutObject s3:PutObjectAcl "
        "s3:DeleteObject",
    ),
    "S3FullAccessPolicy": (
        _BUCKET,
        "s3:GetObject s3:ListBucket s3:GetBucketLocation s3:GetObjectVersion s3:PutObject s3:PutObjectAcl "
        "s3:DeleteObject",
    ),
    "SNSPublishMessagePolicy": (_TOPIC, "sns:Publish"),
    "SNSCrudPolicy": (_TOPICS, "sns:ListSubscriptionsByTopic sns:Publish sns:Subscribe"),
    "KinesisStreamReadPolicy": (
        _STREAM,
        "kinesis:DescribeStream kinesis:DescribeStreamSummary kinesis:GetRecords kinesis:GetShardIterator",
    ),
    "KinesisCrudPolicy": (
        _STREAM,
        "kinesis:DescribeStream kinesis:DescribeStreamSummary kinesis:GetShardIterator kinesis:PutRecord "
        "kinesis:PutRecords",
    ),
    "KMSDecryptPolicy": (_KEY, "kms:Decrypt"),
    "LambdaInvokePolicy": (_FUNCTION, "lambda:InvokeFunction"),
    "EventBridgePutEventsPolicy": (_BUS, "events:PutEvents"),
}
# SAM's policies that allow nothing that streamkit needs.
_SAM_OTHERS = (
    *("CloudWatchPutMetricPolicy", "CloudWatchDescribeAlarmHistoryPolicy", "VPCAccessPolicy", "SSMParameterReadPolicy"),
    *("SSMParameterWithSlashPrefixReadPolicy", "AWSSecretsManagerGetSecretValuePolicy"),
    *("DynamoDBStreamReadPolicy", "DynamoDBReconfigurePolicy", "StepFunctionsExecutionPolicy", "FilterLogEventsPolicy"),
)

#: What each of AWS's execution roles for Lambda allows.
_LOGS = "logs:CreateLogGroup logs:CreateLogStream logs:PutLogEvents"
_STREAM_READER = (
    "kinesis:DescribeStream kinesis:DescribeStreamSummary kinesis:GetRecords kinesis:GetShardIterator "
    "kinesis:ListShards "
    "kinesis:ListStreams kinesis:SubscribeToShard"
)
#: AWS's managed policies, by the name behind the last slash; all of them are for any resource.
_MANAGED = {
    "AdministratorAccess": "*",
    "PowerUserAccess": "sqs:* sns:* kinesis:* dynamodb:* s3:* lambda:* events:* cloudsearch:* es:* aoss:* kms:* logs:*",
    "AmazonSQSFullAccess": "sqs:*",
    "AmazonSNSFullAccess": "sns:*",
    "AmazonKinesisFullAccess": "kinesis:*",
    "AmazonDynamoDBFullAccess": "dynamodb:*",
    "AmazonDynamoDBFullAccess_v2": "dynamodb:*",
    "AmazonS3FullAccess": "s3:*",
    "AmazonS3ReadOnlyAccess": "s3:Get* s3:List*",
    "AmazonEventBridgeFullAccess": "events:*",
    "AWSLambda_FullAccess": "lambda:*",
    "CloudSearchFullAccess": "cloudsearch:*",
    "AmazonOpenSearchServiceFullAccess": "es:*",
    "AWSLambdaKinesisExecutionRole": f"{_STREAM_READER} {_LOGS}",
    "AWSLambdaSQSQueueExecutionRole": f"sqs:ReceiveMessage sqs:DeleteMessage sqs:GetQueueAttributes {_LOGS}",
    "AWSLambdaRole": "lambda:InvokeFunction",
    "AWSLambdaExecute": "logs:* s3:GetObject s3:PutObject",
    **dict.fromkeys(("CloudWatchLogsFullAccess", "CloudWatchFullAccess", "CloudWatchFullAccessV2"), "logs:*"),
    **dict.fromkeys(
        (
            *("AWSLambdaBasicExecutionRole", "AWSLambdaVPCAccessExecutionRole", "AWSLambdaDynamoDBExecutionRole"),
            *("AWSLambdaMSKExecutionRole", "CloudWatchAgentServerPolicy"),
        ),
        _LOGS,
    ),
    **dict.fromkeys(
        (
            *("AWSXRayDaemonWriteAccess", "AWSXrayWriteOnlyAccess", "AWSLambdaENIManagementAccess"),
            "CloudWatchLambdaInsightsExecutionRolePolicy",
        ),
        "",
    ),
}


def sam_policy(name: str, parameters: Mapping[str, str], home: Home, where: str) -> tuple[Statement, ...] | None:
    """What SAM's policy of that name allows. None for one that is not known here, or lacks its parameter."""
    if name in _SAM_OTHERS:
        return ()
    if name not in _SAM:
        return None
    target, actions = _SAM[name]
    value = parameters.get(target.parameter)
    if not value:
        return None
    resources = tuple(home.arn(target.service, one.replace("{}", value)) for one in target.resources)
    return (Statement(effect="Allow", actions=tuple(actions.split()), resources=resources, where=where),)


def managed_policy(reference: str, where: str) -> tuple[Statement, ...] | None:
    """What AWS's managed policy of that ARN or name allows. None for one that is not known here."""
    name = reference.rpartition("/")[2]
    is_aws = ":iam::aws:policy/" in reference or ":" not in reference
    if not is_aws or name not in _MANAGED:
        return None
    actions = tuple(_MANAGED[name].split())
    return (Statement(effect="Allow", actions=actions, resources=("*",), where=where),) if actions else ()

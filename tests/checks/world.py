"""A function that is deployed on moto, with all that is around it."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

import boto3
from botocore.exceptions import ClientError

from streamkit import RecordProcessor
from streamkit.checks.deployed import Account
from streamkit.checks.environment import function_environment
from streamkit.checks.rules import findings_of_deployment, parts_of_all
from streamkit.checks.unknown import Unknowns
from streamkit.finding import Finding
from streamkit.progress.dynamodb import DynamoDbProgress

from .given import orders

REPORTS = ["ReportBatchItemFailures"]
TRUST = {"Statement": {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}}
_SERVICES = ("lambda", "sqs", "sns", "iam", "kinesis", "dynamodb", "kms", "s3")


def code() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("orders.py", "handler = None")
    return packed.getvalue()


class World:
    """A deployment on moto in which nothing is wrong, with names of its own."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self.name = f"orders-{uuid.uuid4().hex[:12]}"
        self.clients = {service: self._connect(service) for service in _SERVICES}
        self._refused: dict[str, str] = {}
        self._added: dict[str, dict[str, Any]] = {}
        self.mappings: dict[str, str] = {}

    def _connect(self, service: str) -> Any:
        client = boto3.client(
            service,
            endpoint_url=self._endpoint,
            region_name="us-east-1",
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
        )
        client.meta.events.register("before-call", self._may)
        client.meta.events.register("after-call", self._complete)
        return client

    def refuse(self, operation: str, code: str = "AccessDenied") -> None:
        self._refused[operation] = code

    def add(self, operation: str, **fields: Any) -> None:
        """What AWS's answer has, and moto's has not."""
        self._added[operation] = fields

    def _complete(self, model: Any, parsed: dict[str, Any], **_: Any) -> None:
        parsed.update(self._added.get(model.name, {}))

    def _may(self, model: Any, **_: Any) -> None:
        if model.name in self._refused:
            raise ClientError({"Error": {"Code": self._refused[model.name], "Message": "no"}}, model.name)

    def build(self) -> None:
        iam = self.clients["iam"]
        self.clients["kinesis"].create_stream(StreamName=self.name, ShardCount=1)
        self.clients["kinesis"].get_waiter("stream_exists").wait(StreamName=self.name, WaiterConfig={"Delay": 1})
        self.letters = self.queue("letters")
        redrive = json.dumps({"deadLetterTargetArn": self.arn(self.letters), "maxReceiveCount": 15})
        self.retries = self.queue("retries", VisibilityTimeout="360", RedrivePolicy=redrive)
        DynamoDbProgress(self.name, client=self.clients["dynamodb"]).create_table()
        role = iam.create_role(RoleName=self.name, AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
        self.allow("all", ["kinesis:*", "sqs:*", "dynamodb:*"], "*")
        streams = f"arn:aws:logs:us-east-1:123456789012:log-group:/aws/lambda/{self.name}:*"
        self.allow("log", ["logs:CreateLogStream", "logs:PutLogEvents"], streams)
        self.clients["lambda"].create_function(
            FunctionName=self.name,
            Runtime="python3.12",
            Role=role,
            Handler="orders.handler",
            Code={"ZipFile": code()},
            Timeout=60,
            Environment={"Variables": {"RETRIES": self.retries, "DEAD_LETTERS": self.letters, "PROGRESS": self.name}},
        )
        stream = f"arn:aws:kinesis:us-east-1:123456789012:stream/{self.name}"
        self.mapping("stream", stream, StartingPosition="TRIM_HORIZON", FunctionResponseTypes=REPORTS)
        self.mapping("retry", self.arn(self.retries), FunctionResponseTypes=REPORTS)

    def queue(self, name: str, **attributes: str) -> str:
        given = {"MessageRetentionPeriod": "1209600", **attributes}
        url: str = self.clients["sqs"].create_queue(QueueName=f"{self.name}-{name}", Attributes=given)["QueueUrl"]
        return url

    def arn(self, queue: str) -> str:
        return f"arn:aws:sqs:us-east-1:123456789012:{queue.rpartition('/')[2]}"

    def allow(self, name: str, actions: list[str], resource: str, effect: str = "Allow") -> None:
        document = {"Version": "2012-10-17", "Statement": [{"Effect": effect, "Action": actions, "Resource": resource}]}
        self.clients["iam"].put_role_policy(RoleName=self.name, PolicyName=name, PolicyDocument=json.dumps(document))

    def mapping(self, label: str, source: str, function: str = "", **settings: Any) -> None:
        made = self.clients["lambda"].create_event_source_mapping(
            FunctionName=function or self.name, EventSourceArn=source, **settings
        )
        self.mappings[label] = made["UUID"]

    def change(self, label: str, **settings: Any) -> None:
        self.clients["lambda"].update_event_source_mapping(UUID=self.mappings[label], **settings)

    def check(self, make: Callable[[], RecordProcessor] = orders, of: str = "") -> list[Finding]:
        account = Account(self.clients.__getitem__, of or self.name)
        deployment = account.deployment()
        with function_environment(deployment.function.environment, deployment.home):
            processor = make()
            parts = parts_of_all(processor, deployment)
        deployment = account.completed(deployment, parts)
        return findings_of_deployment(processor, parts, deployment, Unknowns())

    def close(self) -> None:
        for client in self.clients.values():
            client.close()

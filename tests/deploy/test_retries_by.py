"""Another RetriesBy over what is there. Stacks are CloudFormation's on moto, with what a function's stack tells of itself."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import Any

import boto3
import pytest

from deploy.stack import AWS, HERE, Deployer, DeploymentError

#: Of a function's stack: the parameters that its retries depend on, and the outputs that say where they are.
STACK = {
    "Parameters": {"RetriesBy": {"Type": "String"}, "Paused": {"Type": "String"}},
    "Resources": {
        **{name: {"Type": "AWS::SQS::Queue"} for name in ("Retries", "ParkedDeadLetters")},
        "Parked": {
            "Type": "AWS::DynamoDB::Table",
            "Properties": {
                "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [
                    {"AttributeName": "processor", "AttributeType": "S"},
                    {"AttributeName": "group", "AttributeType": "S"},
                ],
                "KeySchema": [
                    {"AttributeName": "processor", "KeyType": "HASH"},
                    {"AttributeName": "group", "KeyType": "RANGE"},
                ],
            },
        },
    },
    "Outputs": {name: {"Value": {"Ref": name}} for name in ("Retries", "ParkedDeadLetters", "Parked")},
}


class Deployed:
    """A function's stack in a stage of its own, and a deployer of that stage that has no packages."""

    def __init__(self, endpoint: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        self.session: Any = boto3.session.Session(
            aws_access_key_id="nobody", aws_secret_access_key="nothing", region_name="us-east-1"
        )
        self.stage = f"s{uuid.uuid4().hex[:10]}"
        self.outputs: dict[str, str] = {}
        self._cloudformation = self.session.client("cloudformation")
        self.deployer = Deployer(AWS(self.session), self.stage, folder)

    def with_(self, **parameters: str) -> None:
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
        self._cloudformation.create_stack(
            StackName=f"streamkit-{self.stage}-orders", Parameters=given, TemplateBody=json.dumps(STACK)
        )
        self.outputs = {one["OutputKey"]: one["OutputValue"] for one in self.stack()["Outputs"]}

    def stack(self) -> dict[str, Any]:
        (found,) = self._cloudformation.describe_stacks(StackName=f"streamkit-{self.stage}-orders")["Stacks"]
        return dict(found)

    def deploy(self, **settings: str) -> str:
        """Why it was not deployed. Nothing is: what is not refused ends for want of a package."""
        with pytest.raises(DeploymentError) as refused:
            self.deployer.function("orders", {"Function": "bigquery", **settings}, "no-bucket")
        return str(refused.value)


GOES_ON = "there is no package bigquery-arm64.zip"


@pytest.fixture
def deployed(moto_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployed:
    return Deployed(moto_endpoint, tmp_path, monkeypatch)


class TestAnotherRetriesBy:
    """What is on its way by the old one would have no reader."""

    @pytest.mark.parametrize(
        ("before", "after"), [("queue", "park"), ("queue", "none"), ("park", "topic"), ("park", "park")]
    )
    def test_is_refused_while_the_function_may_send_more_there(
        self, deployed: Deployed, before: str, after: str
    ) -> None:
        deployed.with_(RetriesBy=before, Paused="no")

        said = deployed.deploy(RetriesBy=after, Paused="yes")

        if before == after:
            assert GOES_ON in said
        else:
            assert f"RetriesBy can't go from {before} to {after} yet" in said
            assert f"First deploy it with RetriesBy = '{before}' and Paused = 'yes'" in said

    @pytest.mark.parametrize("queue", ["Retries", "ParkedDeadLetters"])
    def test_is_refused_while_a_queue_holds_a_message(self, deployed: Deployed, queue: str) -> None:
        deployed.with_(RetriesBy="park", Paused="yes")
        sqs, url = deployed.session.client("sqs"), deployed.outputs[queue]
        sqs.send_message(QueueUrl=url, MessageBody="{}")
        assert f"{url} holds 1 message, which nobody would read any more" in deployed.deploy(RetriesBy="queue")

        (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
        assert f"{url} holds 1 message" in deployed.deploy(RetriesBy="queue"), "which is in work"

        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        sqs.send_message(QueueUrl=url, MessageBody="{}", DelaySeconds=900)
        assert f"{url} holds 1 message" in deployed.deploy(RetriesBy="queue"), "which waits"

    def test_is_refused_while_a_key_is_parked(self, deployed: Deployed) -> None:
        deployed.with_(RetriesBy="park", Paused="yes")
        table = deployed.outputs["Parked"]
        key = {"processor": {"S": "orders"}, "group": {"S": "a"}}
        dynamodb = deployed.session.client("dynamodb")
        dynamodb.put_item(TableName=table, Item=key)
        assert f"keys are parked in the table {table}" in deployed.deploy(RetriesBy="none")

        dynamodb.delete_item(TableName=table, Key=key)
        assert GOES_ON in deployed.deploy(RetriesBy="none")

    def test_left_out_is_the_templates_default(self, deployed: Deployed) -> None:
        deployed.with_(RetriesBy="park", Paused="no")

        assert "from park to queue" in deployed.deploy()
        default = re.search(r"  RetriesBy:.*?Default: (\w+)", (HERE / "function.yaml").read_text(), re.DOTALL)
        assert default is not None
        assert default[1] == "queue"

    @pytest.mark.parametrize("before", ["none", "topic"])
    def test_needs_nothing_where_the_old_way_stays_or_there_was_none(self, deployed: Deployed, before: str) -> None:
        deployed.with_(RetriesBy=before, Paused="no")

        assert GOES_ON in deployed.deploy(RetriesBy="queue")

    def test_needs_nothing_over_a_stack_whose_first_try_has_failed(self, deployed: Deployed) -> None:
        deployed.with_(RetriesBy="queue", Paused="no")
        stack = deployed.stack()
        with pytest.raises(DeploymentError):
            deployed.deployer._strands_nothing(stack, {"RetriesBy": "none"})

        deployed.deployer._strands_nothing({**stack, "StackStatus": "ROLLBACK_COMPLETE"}, {"RetriesBy": "none"})

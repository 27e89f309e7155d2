"""A deployment in which nothing is wrong, and what is found when one line of it is another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from streamkit import Divert, RecordProcessor
from streamkit.checks.environment import function_environment
from streamkit.checks.rules import findings_of_deployment, parts_of_all
from streamkit.checks.template import read_template
from streamkit.finding import Finding
from streamkit.progress.dynamodb import DynamoDbProgress
from streamkit.queues.sqs import SqsQueue

RIGHT = """\
Transform: AWS::Serverless-2016-10-31
Parameters:
  Given: {Type: String, Default: ""}
  Nobody: {Type: String}
Conditions:
  IsGiven: !Not [!Equals [!Ref Given, ""]]
Globals:
  Function:
    Timeout: 60
Resources:
  Orders:
    Type: AWS::Serverless::Function
    Properties:
      Handler: orders.handler
      Environment:
        Variables:
          RETRIES: !Ref Retries
          DEAD_LETTERS: !Ref DeadLetters
          PROGRESS: !Ref Progress
          TARGET: ""
      Policies:
        - SQSSendMessagePolicy: {QueueName: !GetAtt Retries.QueueName}
        - Statement:
            - Effect: Allow
              Action: sqs:SendMessage
              Resource: !GetAtt DeadLetters.Arn
        - DynamoDBCrudPolicy: {TableName: !Ref Progress}
      Events:
        Stream:
          Type: Kinesis
          Properties:
            Stream: !GetAtt Events.Arn
            StartingPosition: TRIM_HORIZON
            FunctionResponseTypes: [ReportBatchItemFailures]
        Retry:
          Type: SQS
          Properties:
            Queue: !GetAtt Retries.Arn
            FunctionResponseTypes: [ReportBatchItemFailures]  # of the queue
  Events:
    Type: AWS::Kinesis::Stream
    Properties: {ShardCount: 1}
  Retries:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 360
      MessageRetentionPeriod: 1209600
      RedrivePolicy:
        deadLetterTargetArn: !GetAtt DeadLetters.Arn
        maxReceiveCount: 15
  DeadLetters:
    Type: AWS::SQS::Queue
    Properties:
      MessageRetentionPeriod: 1209600  # of the letters
  Progress:
    Type: AWS::DynamoDB::Table
    Properties:
      TableName: progress
      KeySchema:
        - {AttributeName: shard, KeyType: HASH}
        - {AttributeName: number, KeyType: RANGE}
      TimeToLiveSpecification: {AttributeName: expires_at, Enabled: true}
"""


def orders(**attributes: object) -> RecordProcessor:
    """A processor of a class of its own: its queues remember the URL that they have read."""
    policy = Divert(SqsQueue.from_env("RETRIES"), dead_letters=SqsQueue.from_env("DEAD_LETTERS"))
    given = {"name": "orders", "on_failure": policy, "progress": DynamoDbProgress.from_env("PROGRESS"), **attributes}
    made: RecordProcessor = type("Orders", (RecordProcessor,), given)()
    return made


def changed(old: str, new: str, text: str = RIGHT) -> str:
    """``text`` with the one place of ``old`` in it as ``new``."""
    assert text.count(old) == 1, f"{old!r} is there {text.count(old)} times"
    return text.replace(old, new)


def line_of(part: str, text: str) -> str:
    """Where the first line with ``part`` is, as findings have it."""
    number = text[: text.index(part)].count("\n") + 1
    return f"template.yaml:{number}"


class Check:
    """Checks a template in the folder that is the current one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        text: str = RIGHT,
        make: Callable[[], RecordProcessor] = orders,
        **parameters: str,
    ) -> list[Finding]:
        (self.folder / "template.yaml").write_text(text)
        deployment, unknowns = read_template("template.yaml", "orders.handler", parameters=parameters)
        with function_environment(deployment.function.environment, deployment.home):
            processor = make()
            parts = parts_of_all(processor, deployment)
        return findings_of_deployment(processor, parts, deployment, unknowns)


def one(findings: list[Finding], part: str) -> Finding:
    """The one finding whose message has ``part``."""
    found = [finding for finding in findings if part in finding.message]
    assert len(found) == 1, "\n".join(f"{one.severity}: {one.where}: {one.message}" for one in findings)
    return found[0]

"""Functions, and what triggers them, made in LocalStack's Lambda."""

from __future__ import annotations

import io
import json
import uuid
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import streamkit

__all__ = ["Deployment"]

_ROLE = "arn:aws:iam::000000000000:role/function"
_SOURCE = Path(streamkit.__file__).parent


class Deployment:
    """A stream, the queues and topics of one test, and functions that write what they do into ``journal``."""

    def __init__(self, connect: Callable[[str], Any], journal: Path) -> None:
        self.kinesis, self.sqs, self.sns, self.s3, self.functions = map(
            connect, ("kinesis", "sqs", "sns", "s3", "lambda")
        )
        self._journal = journal
        self._name = uuid.uuid4().hex[:12]
        self._mappings: list[str] = []
        self._functions: list[str] = []
        self.bucket = f"claims-{self._name}"
        self.s3.create_bucket(Bucket=self.bucket)

    def queue(self, name: str) -> str:
        """The URL of a new queue."""
        url: str = self.sqs.create_queue(QueueName=f"{name}-{self._name}", Attributes={"VisibilityTimeout": "30"})[
            "QueueUrl"
        ]
        return url

    def arn(self, url: str) -> str:
        arn: str = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        return arn

    def topic(self) -> str:
        """The ARN of a new topic."""
        arn: str = self.sns.create_topic(Name=f"retries-{self._name}")["TopicArn"]
        return arn

    def function(
        self,
        name: str,
        handler: str,
        environment: Mapping[str, str] | None = None,
        *,
        dead_letters: str | None = None,
        timeout: int = 20,
    ) -> str:
        """Deploy ``handler`` of deployed.py as a function, with a dead-letter queue of its own: its ARN."""
        name = f"{name}-{self._name}"
        options = {} if dead_letters is None else {"DeadLetterConfig": {"TargetArn": dead_letters}}
        arn: str = self.functions.create_function(
            FunctionName=name,
            Runtime="python3.11",
            Role=_ROLE,
            Handler=f"deployed.{handler}",
            Code={"ZipFile": _archive()},
            Timeout=timeout,
            Environment={"Variables": {"JOURNAL": str(self._journal), "CLAIMS": self.bucket, **(environment or {})}},
            **options,
        )["FunctionArn"]
        self._functions.append(name)
        self.functions.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        return arn

    def trigger(self, function: str, source: str, **settings: Any) -> None:
        """Let a stream or a queue trigger a function."""
        mapping = self.functions.create_event_source_mapping(
            FunctionName=function,
            EventSourceArn=source,
            FunctionResponseTypes=["ReportBatchItemFailures"],
            **settings,
        )
        self._mappings.append(mapping["UUID"])

    def subscribe(self, function: str, topic: str) -> None:
        self.sns.subscribe(TopicArn=topic, Protocol="lambda", Endpoint=function)

    def lines(self) -> list[dict[str, Any]]:
        """What the functions have written down: a line for each invocation, and one for each record that it started."""
        if not self._journal.exists():
            return []
        return [json.loads(line) for line in self._journal.read_text().split("\n")[:-1]]

    def starts(self, n: int, function: str = "") -> list[dict[str, Any]]:
        """Those of record ``n``, by the functions whose name begins so."""
        return [line for line in self.lines() if line.get("n") == n and line["function"].startswith(function)]

    def messages(self, url: str) -> list[str]:
        """The bodies of what is in a queue now, up to ten; they are deleted."""
        received = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        for message in received:
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return [message["Body"] for message in received]

    def remove(self) -> None:
        """What would go on polling."""
        for mapping in self._mappings:
            self.functions.delete_event_source_mapping(UUID=mapping)
        for function in self._functions:
            self.functions.delete_function(FunctionName=function)


def _archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(Path(__file__).with_name("deployed.py"), "deployed.py")
        for path in sorted(_SOURCE.rglob("*.py")):
            archive.write(path, f"streamkit/{path.relative_to(_SOURCE)}")
        for path in sorted((_SOURCE.parent / "processors").glob("*.py")):
            archive.write(path, f"processors/{path.name}")
    return content.getvalue()

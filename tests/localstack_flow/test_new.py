"""The stack of a new project, with its own package: an event, a bad one, and one that fails."""

from __future__ import annotations

import json
import platform
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from setup_localstack import docker_answers

from deploy.conditions import without_what_is_left_out
from deploy.runtime import RUNTIME
from deploy.validate import SAM, transformed
from streamkit.envelope import open_envelope
from streamkit.new.project import Project
from streamkit.packaging import build

from .conftest import Connect

pytestmark = pytest.mark.skipif(docker_answers(), reason="in a container functions are containers")

LOCK = Path(__file__).parents[2] / "deploy" / "requirements-core.txt"


def eventually(look: Callable[[], Any], seconds: float = 60) -> Any:
    """What ``look`` finds, once it finds something."""
    end = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < end:
        time.sleep(0.2)
    return found


def test_the_stack_of_a_new_project_does_what_its_readme_says(
    connect: Connect, kinesis: Any, sqs: Any, tmp_path: Path
) -> None:
    for environment in (SAM, RUNTIME):
        environment.set_up(lambda _: None)
    architecture = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    name = f"new-{uuid.uuid4().hex[:8]}"
    Project(name, python="3.13").write(tmp_path)
    module = name.replace("-", "_")
    package = build(
        [module],
        tmp_path / "dist" / "package.zip",
        architecture=architecture,
        root=tmp_path,
        requirements=LOCK,
        python=str(RUNTIME.program("python")),
    )
    s3 = connect("s3")
    s3.create_bucket(Bucket=name)
    s3.upload_file(str(package.path), name, "package.zip")
    template = tmp_path / "template.yaml"
    text = re.sub("CodeUri: .*", f"CodeUri: s3://{name}/package.zip", template.read_text())
    template.write_text(text.replace("Architectures: [arm64]", f"Architectures: [{architecture}]"))
    kinesis.create_stream(StreamName=name, ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    parameters = {"Stage": "dev", "StreamArn": arn, "Revision": "0123456789abcdef"}
    made = without_what_is_left_out(transformed(template, **parameters), parameters)

    cloudformation = connect("cloudformation")
    cloudformation.create_stack(
        StackName=f"{name}-dev",
        TemplateBody=json.dumps(made, separators=(",", ":")),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    cloudformation.get_waiter("stack_create_complete").wait(StackName=f"{name}-dev", WaiterConfig={"Delay": 1})
    try:
        time.sleep(2)  # What is put in a stream's first second can be lost (localstack/README.md).
        for event in ({"id": 1, "total": 9.5}, {"id": 2, "total": -1}, {"id": 3}):
            kinesis.put_record(StreamName=name, Data=json.dumps(event).encode(), PartitionKey="customer-7")

        queue = sqs.get_queue_url(QueueName=f"{name}-dev-dead-letters")["QueueUrl"]
        (message,) = eventually(lambda: sqs.receive_message(QueueUrl=queue).get("Messages"))
        letter = open_envelope(message["Body"])
        assert letter is not None
        assert (letter.processor, letter.failures[0].type) == (name, "Reject")

        logs = connect("logs")
        group = f"/aws/lambda/{name}-dev"

        def lines() -> str:
            streams = logs.describe_log_streams(logGroupName=group)["logStreams"]
            return "".join(
                event["message"]
                for stream in streams
                for event in logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
            )

        # From the stream, and once at least from the retry queue.
        assert eventually(lambda: lines().count("is to go to the retry queue: KeyError: 'total'") > 1)
        assert '"Failed"' in lines()
    finally:
        cloudformation.delete_stack(StackName=f"{name}-dev")

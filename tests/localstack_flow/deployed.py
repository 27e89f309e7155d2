"""The functions that are deployed to LocalStack: this file, streamkit and processors are all that is in their archive."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import streamkit
from processors.dead_letters import handler as dead_letters
from streamkit import Divert, Record, RecordProcessor, Reject, Retry, correlation, lambda_handler
from streamkit.claims.s3 import S3Claims
from streamkit.fanout import FanOut
from streamkit.forward import Forward, Rule
from streamkit.queues.sns import SnsTopic
from streamkit.queues.sqs import SqsQueue
from streamkit.sinks.base import Sink
from streamkit.sinks.functions import LambdaSink
from streamkit.sinks.kinesis import KinesisSink
from streamkit.sinks.s3 import S3Sink
from streamkit.sinks.sns import SnsSink
from streamkit.sinks.sqs import SqsSink

__all__ = ["blocking", "dead_letters", "fanning_out", "followed", "over_a_queue", "over_a_topic", "told"]

_CLAIMS = S3Claims.from_env("CLAIMS")
_DEAD_LETTERS = SqsQueue.from_env("DEAD_LETTERS", claims=_CLAIMS)


class Orders(RecordProcessor):
    """Writes a line to the file JOURNAL for each record that it starts. A record is ``{"n": number}``, and may have

    ``fails``: "always", or "in the stream"; ``reject``: why it never can; ``retry``: the seconds that it asks for, in the stream.
    """

    name = "orders"

    def process(self, record: Record) -> None:
        order = record.json()
        _write(n=order["n"], source=record.source, attempt=record.attempt, event_id=record.event_id)
        if "reject" in order:
            raise Reject(order["reject"])
        if "retry" in order and record.source == "kinesis":
            raise Retry(order["retry"])
        if order.get("fails") == "always" or ("fails" in order and record.source == "kinesis"):
            raise RuntimeError("told to fail")


class OverATopic(Orders):
    on_failure = Divert(SnsTopic.from_env("RETRIES", claims=_CLAIMS), dead_letters=_DEAD_LETTERS)


class OverAQueue(Orders):
    on_failure = Divert(SqsQueue.from_env("RETRIES", claims=_CLAIMS), dead_letters=_DEAD_LETTERS, backoff=2)


class Once(RecordProcessor):
    """Fails in the stream, and writes down by what each try is followed."""

    name = "once"
    on_failure = Divert(SqsQueue.from_env("RETRIES"), backoff=0)

    def process(self, record: Record) -> None:
        _write_what_is_followed(n=record.json()["n"], attempt=record.attempt)
        if record.source == "kinesis":
            raise RuntimeError("told to fail")


def _forward() -> Forward:
    """Everything goes on to wherever the environment says."""
    import boto3

    made: list[tuple[type[Sink], str, str]] = [
        (KinesisSink, "kinesis", "TO_STREAM"),
        (SqsSink, "sqs", "TO_QUEUE"),
        (SnsSink, "sns", "TO_TOPIC"),
        (LambdaSink, "lambda", "TO_FUNCTION"),
        (S3Sink, "s3", "TO_BUCKET"),
    ]
    sinks = [
        sink(os.environ[variable], client=correlation.instrument(boto3.client(service)))  # type: ignore[call-arg]  # Each takes these.
        for sink, service, variable in made
    ]
    return Forward(*map(Rule, sinks), name="forward")


_blocking = lambda_handler(Orders)
_over_a_topic = lambda_handler(OverATopic)
_over_a_queue = lambda_handler(OverAQueue)
_fanning_out = lambda_handler(lambda: FanOut(_forward, Once))


def blocking(event: Any, context: Any) -> Any:
    """Under ``Block``, so Lambda gives up what fails."""
    return _blocking(event, context)


def over_a_topic(event: Any, context: Any) -> Any:
    _write(request_id=context.aws_request_id, records=len(event["Records"]))
    return _over_a_topic(event, context)


def over_a_queue(event: Any, context: Any) -> Any:
    _write(request_id=context.aws_request_id, records=len(event["Records"]))
    return _over_a_queue(event, context)


def fanning_out(event: Any, context: Any) -> Any:
    return _fanning_out(event, context)


@correlation.captured
def followed(event: Any, context: Any) -> Any:
    """Writes down by what it is followed."""
    _write_what_is_followed(n=event["n"])


def told(event: Any, context: Any) -> Any:
    """Does as the event says."""
    print("told to", event["do"])
    if event["do"] == "raise":
        raise ValueError("told to raise")
    if event["do"] == "exit":
        os._exit(3)
    if event["do"] == "sleep":
        time.sleep(60)
    return {"left": context.get_remaining_time_in_millis(), "process": os.getpid(), "id": context.aws_request_id}


def _write_what_is_followed(**line: Any) -> None:
    _write(**line, **correlation.current().fields())


def _write(**line: Any) -> None:
    line |= {"function": os.environ["AWS_LAMBDA_FUNCTION_NAME"], "time": time.time(), "code": streamkit.__file__}
    with open(os.environ["JOURNAL"], "ab", buffering=0) as journal:
        journal.write(json.dumps(line).encode() + b"\n")

"""The functions that are deployed to LocalStack: this file, streamkit and processors are all that is in their archive."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import streamkit
from processors.dead_letters import handler as dead_letters
from streamkit import Divert, Record, RecordProcessor, Reject, Retry, lambda_handler
from streamkit.claims.s3 import S3Claims
from streamkit.queues.sns import SnsTopic
from streamkit.queues.sqs import SqsQueue

__all__ = ["blocking", "dead_letters", "over_a_queue", "over_a_topic", "told"]

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


_blocking = lambda_handler(Orders)
_over_a_topic = lambda_handler(OverATopic)
_over_a_queue = lambda_handler(OverAQueue)


def blocking(event: Any, context: Any) -> Any:
    """Under ``Block``, so Lambda gives up what fails."""
    return _blocking(event, context)


def over_a_topic(event: Any, context: Any) -> Any:
    _write(request_id=context.aws_request_id, records=len(event["Records"]))
    return _over_a_topic(event, context)


def over_a_queue(event: Any, context: Any) -> Any:
    _write(request_id=context.aws_request_id, records=len(event["Records"]))
    return _over_a_queue(event, context)


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


def _write(**line: Any) -> None:
    line |= {"function": os.environ["AWS_LAMBDA_FUNCTION_NAME"], "time": time.time(), "code": streamkit.__file__}
    with open(os.environ["JOURNAL"], "ab", buffering=0) as journal:
        journal.write(json.dumps(line).encode() + b"\n")

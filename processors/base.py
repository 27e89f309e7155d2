"""What the deployable processors share: their settings from the environment, and events that are JSON objects."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

from streamkit import Block, Divert, Park, Record, RecordProcessor, Reject
from streamkit.claims.s3 import S3Claims
from streamkit.errors import ConfigurationError
from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.policy import Policy
from streamkit.queues.sns import SnsTopic
from streamkit.queues.sqs import SqsQueue

from .mapping import FieldMapping, FollowedMapping

if TYPE_CHECKING:
    from streamkit.config import Config

__all__ = ["EventProcessor"]


class EventProcessor(RecordProcessor):
    """A processor of JSON objects, which reads these environment variables when it is made, at the first invocation:

    ==========================  =========================================================================================
    ``PROCESSOR_NAME``          the processor's name, in place of the class's; persistent, as docs/semantics.md has it
    ``RETRY_QUEUE_URL``         an SQS queue that failed events go to, for three tries of their own (``Divert``)
    ``PARKED_TABLE``            a DynamoDB table: the retry queue is FIFO then, and the order of each key is kept (``Park``)
    ``RETRY_TOPIC_ARN``         an SNS topic in place of a retry queue (``Divert``), with Lambda's own three tries
    ``DEAD_LETTER_QUEUE_URL``   an SQS queue for events that can never succeed, and those that have failed three times
    ``RETRY_BACKOFF_SECONDS``   the longest wait before the first of those tries, doubled for each one more; 15 by default
    ``CLAIMS_BUCKET``           an S3 bucket for what is too large for these queues
    ``PARAMETERS``              a path of SSM: what ``fields`` reads is followed there while the function runs
    ==========================  =========================================================================================

    Without a retry queue or topic a failed event holds its shard (``Block``). Where there are no dead letters either,
    ``on_failure`` is the class's.
    A subclass with an ``__init__`` of its own calls ``super().__init__()``.
    """

    #: Made by ``fields``, where there are parameters.
    config: Config | None = None

    def __init__(self) -> None:
        self.name = os.environ.get("PROCESSOR_NAME") or self.name
        self.on_failure = _policy() or self.on_failure

    def fields(self, variable: str) -> FieldMapping:
        """The mapping that the environment variable holds. Where that is not set, and ``PARAMETERS`` is, the parameter of that
        name in small letters: a change of it has reached every container a minute later, without a deployment.
        """
        if not os.environ.get("PARAMETERS"):
            return FieldMapping.from_env(variable)
        if self.config is None:
            from streamkit.config import Config, Environment
            from streamkit.config.ssm import SsmParameters

            self.config = Config(Environment(), SsmParameters.from_env("PARAMETERS"))
        return FollowedMapping(self.config, variable.lower())

    def close(self) -> None:
        if self.config is not None:
            self.config.close()

    def event(self, record: Record) -> dict[str, Any]:
        """The record's event. Reject where its JSON is no object: no mapping can make that right."""
        event = record.json()
        if not isinstance(event, dict):
            raise Reject(f"an event is a JSON object; this one is a JSON {_KINDS.get(type(event), 'number')}")
        return event


_KINDS = {list: "array", str: "string", bool: "boolean", type(None): "null"}


def _policy() -> Policy | None:
    queue, topic, dead_letters = _queue("RETRY_QUEUE_URL"), _topic("RETRY_TOPIC_ARN"), _queue("DEAD_LETTER_QUEUE_URL")
    if queue is not None and topic is not None:
        raise ConfigurationError("RETRY_QUEUE_URL and RETRY_TOPIC_ARN are both set: retries go one way")
    if os.environ.get("PARKED_TABLE"):
        if queue is None:
            raise ConfigurationError("PARKED_TABLE is set, and keys are parked in a FIFO queue: set RETRY_QUEUE_URL")
        return Park(queue, DynamoDbLedger.from_env("PARKED_TABLE"), dead_letters=dead_letters)
    retries = queue or topic
    if retries is not None:
        return Divert(retries, dead_letters=dead_letters, backoff=_backoff())
    return Block(dead_letters) if dead_letters is not None else None


def _queue(variable: str) -> SqsQueue | None:
    return SqsQueue.from_env(variable, claims=_claims()) if os.environ.get(variable) else None


def _topic(variable: str) -> SnsTopic | None:
    return SnsTopic.from_env(variable, claims=_claims()) if os.environ.get(variable) else None


def _claims() -> S3Claims | None:
    return S3Claims.from_env("CLAIMS_BUCKET") if os.environ.get("CLAIMS_BUCKET") else None


def _backoff() -> float:
    text = os.environ.get("RETRY_BACKOFF_SECONDS") or str(Divert.backoff)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise ConfigurationError(f"RETRY_BACKOFF_SECONDS is a number of seconds, 0 or more; got {text!r}")
    return seconds

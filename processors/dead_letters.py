"""Failure documents of Lambda become readable dead letters, as soon as they arrive.

A document names a shard and a range of it, and has no data: the stream's retention runs while it lies there. This function is
triggered by the queue, topic or bucket that an event source mapping's OnFailure names, fetches the records, and puts each into
the dead-letter queue as an envelope. So it does with what Lambda puts into a function's dead-letter queue or its on-failure
destination. Deploy it with the handler ``processors.dead_letters.handler``. Set up by

    DEAD_LETTER_QUEUE_URL    required: the SQS queue that gets the envelopes
    CLAIMS_BUCKET            an S3 bucket for envelopes that are over SQS's 1 MiB; without it such a document stays where it is
    PROCESSOR_NAME           the processor's name, for the envelopes; default: the name of the function that had failed
    FILTER_CRITERIA          the mapping's own, in JSON, where it has filters: a document's range holds other records too

They are read at the first invocation. A message is done when the queue has confirmed every envelope of it. It stays where it
is, with an error that names it, where it is none of these documents, or the stream throttles, or time is short. One that is
delivered again after part of it was confirmed repeats that part: a FIFO queue drops the repeats for five minutes, and
``streamkit redrive`` puts an event back once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import Any

from streamkit.aws import borrow
from streamkit.claims.s3 import S3Claims
from streamkit.deadline import Deadline
from streamkit.envelope import Envelope
from streamkit.errors import BatchFailed, ConfigurationError, QueueError, StreamkitError
from streamkit.event import Answer, is_warm_up
from streamkit.failure import group_of
from streamkit.health import answer_to
from streamkit.letters import Message, deduplication_id, notified
from streamkit.local.filters import Filters
from streamkit.queues.base import Message as Outgoing
from streamkit.queues.base import Queue
from streamkit.queues.sqs import SqsQueue
from streamkit.reason import reason
from streamkit.recovery import Recovery
from streamkit.warm import Container

__all__ = ["DeadLetters", "handler"]

log = logging.getLogger("streamkit")

# Seconds that are kept back to answer in.
_MARGIN = 2.0
# A throttled stream is waited for so long: the message waits for free.
_PATIENCE = 20.0
_PAGE = 100


class DeadLetters:
    """The function. ``queue`` and ``clients`` (service, region → boto3's client) are for tests and for functions of your own."""

    def __init__(self, queue: Queue | None = None, clients: Any = None) -> None:
        self._queue = queue
        self._clients = clients or _Clients()
        self._recovery: Recovery | None = None
        self._container = Container()

    def __call__(self, event: Any, context: Any = None) -> Answer:
        """SQS: the answer names the messages that stay. SNS and S3 know no such answer: it raises, and Lambda tries again."""
        pong = answer_to(event, self._container)
        if pong is not None or is_warm_up(event):
            return pong or {"batchItemFailures": []}
        queue, recovery = self._ready()
        deadline = Deadline(context, _MARGIN)
        left: list[str] = []
        messages = list(_messages(event))
        for n, message in enumerate(messages):
            before = deadline.remaining()
            if n and not deadline.allows_another():
                log.error("dead letters: out of time; %d messages stay where they are", len(messages) - n)
                left += [one.id for one in messages[n:]]
                break
            try:
                recovery.patience = max(0.0, min(_PATIENCE, before - 2 * _MARGIN))
                self._pass_on(message, queue, recovery, deadline)
            except Exception as error:  # noqa: BLE001  # Whatever it is, the message is not done, and its neighbours may be.
                log.error("dead letters: message %s stays where it is: %s", message.id, reason(error))
                left.append(message.id)
            deadline.longest_record = max(deadline.longest_record, before - deadline.remaining())
        if left and not _is_of_sqs(event):
            raise BatchFailed(f"{left[0]} stays where it is; the reason is in the log. Lambda delivers it again")
        return {"batchItemFailures": [{"itemIdentifier": one} for one in left]}

    def close(self) -> None:
        if self._queue is not None:
            self._queue.close()

    def _pass_on(self, message: Message, queue: Queue, recovery: Recovery, deadline: Deadline) -> None:
        recovered = recovery.letters(message)
        outgoing = [_outgoing(envelope) for envelope in recovered.envelopes]
        for start in range(0, len(outgoing), _PAGE):
            page = outgoing[start : start + _PAGE]
            refusals = list(deadline.request(queue, lambda until, page=page: queue.send(page, deadline=until)))  # type: ignore[misc]  # mypy can't type a lambda's default.
            if refusals:
                raise QueueError(
                    f"the dead-letter queue did not take {len(refusals)} of {len(outgoing)} envelopes: {refusals[0].error}"
                )
        log.info("dead letters: message %s: %d envelopes", message.id, len(outgoing))
        if recovered.gone:
            log.error(
                "dead letters: message %s: %d records are gone for good; a letter says which",
                message.id,
                recovered.gone,
            )

    def _ready(self) -> tuple[Queue, Recovery]:
        """Made at the first invocation, so that an import can't fail for a setting."""
        if self._queue is None:
            claims = S3Claims.from_env("CLAIMS_BUCKET") if os.environ.get("CLAIMS_BUCKET") else None
            self._queue = SqsQueue.from_env("DEAD_LETTER_QUEUE_URL", claims=claims)
        if self._recovery is None:
            self._recovery = Recovery(
                self._clients,
                processor=os.environ.get("PROCESSOR_NAME", ""),
                filters=_filters("FILTER_CRITERIA"),
                claims_bucket=os.environ.get("CLAIMS_BUCKET") or None,
            )
        return self._queue, self._recovery


class _Clients:
    """boto3's clients, shared by the container, and made on first use."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], Any] = {}

    def __call__(self, service: str, region: str) -> Any:
        if (service, region) not in self._made:
            # Retried by the recovery, which knows how long.
            self._made[service, region] = borrow(service, "DeadLetters", (3.0, 10.0), region=region).thing
        return self._made[service, region]


def _filters(variable: str) -> Filters | None:
    text = os.environ.get(variable)
    if not text:
        return None
    import json

    try:
        return Filters(json.loads(text))
    except ValueError as error:
        raise ConfigurationError(
            f"the environment variable {variable} holds a mapping's FilterCriteria: {error}"
        ) from None


def _outgoing(envelope: Envelope) -> Outgoing:
    group = group_of(envelope.processor, envelope.partition_key, envelope.event_id)
    return Outgoing(envelope.encode(), envelope.event_id, group, deduplication_id=deduplication_id(envelope))


def _is_of_sqs(event: Any) -> bool:
    return bool(event["Records"][0].get("eventSource") == "aws:sqs")


def _messages(event: Any) -> Iterator[Message]:
    """The messages of an SQS or SNS event, and the notifications of an S3 one."""
    try:
        for raw in event["Records"]:
            source = raw.get("eventSource") or raw.get("EventSource")
            if source == "aws:sqs":
                yield _of_sqs(raw)
            elif source == "aws:sns":
                yield notified(raw["Sns"])
            elif source == "aws:s3":
                import json

                bucket, key = raw["s3"]["bucket"]["name"], raw["s3"]["object"]["key"]
                yield Message(id=f"s3://{bucket}/{key}", body=json.dumps({"Records": [raw]}))
            else:
                raise KeyError("eventSource")
    except (KeyError, TypeError, AttributeError) as error:
        raise StreamkitError(
            "this is not an event that this function knows: trigger it by the SQS queue, the SNS topic or the S3 bucket that "
            "OnFailure of an event source mapping names"
        ) from error


def _of_sqs(raw: Any) -> Message:
    attributes = raw.get("attributes") or {}
    sent = str(attributes.get("SentTimestamp", ""))
    return Message(
        id=str(raw["messageId"]),
        body=raw["body"],
        attributes={
            name: str(value.get("stringValue", "")) for name, value in (raw.get("messageAttributes") or {}).items()
        },
        sent_at=int(sent) / 1000 if sent.isdecimal() else None,
        was_moved="DeadLetterQueueSourceArn" in attributes,
        group=attributes.get("MessageGroupId") if str(raw.get("eventSourceARN", "")).endswith(".fifo") else None,
    )


handler = DeadLetters()

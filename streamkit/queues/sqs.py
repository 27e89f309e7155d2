"""Amazon SQS as a retry queue or a dead-letter target, standard or FIFO.

Limits are SQS's own: a message and a request of 1 MiB, ten messages a request, a delay of at most 900 s (none for a single
message on a FIFO queue). Needs boto3: ``pip install kinesis-streamkit[aws]``; Lambda's runtime carries it.
"""

from __future__ import annotations

import math
import uuid
from typing import Any, ClassVar

from ..errors import ConfigurationError
from .aws import AwsQueue
from .base import Message

__all__ = ["SqsQueue"]


class SqsQueue(AwsQueue):
    """The queue at a URL. ``client`` is boto3's SQS client; by default one is made on first use.

    A queue whose name ends in ``.fifo`` is FIFO: ``Message.group`` is its MessageGroupId, and every send has a
    deduplication id of its own unless the message brings one, for SQS drops a message whose id it has seen in the last five
    minutes, even where the first was consumed already.

    A message over ``message_bytes`` goes into ``claims`` and the queue gets a claim in its place; without ``claims`` it is
    refused. Set ``message_bytes`` to the queue's MaximumMessageSize where that is less than SQS's limit of 1 MiB.
    """

    _service: ClassVar[str] = "sqs"
    _wanted: ClassVar[str] = "the URL of an SQS queue"
    _message_limit: ClassVar[int] = 1_048_576

    @property
    def place(self) -> str:
        """As ``url``."""
        place = super().place
        if place.startswith("arn:"):
            where = f"{self._variable} holds" if self._variable else "this is"
            raise ConfigurationError(f"{self.owner or 'SqsQueue'} needs {self._wanted}, and {where} an ARN: {place}")
        return place

    @property
    def url(self) -> str:
        """The queue's URL; ConfigurationError where the environment variable that should hold it is not set, or has an ARN."""
        return self.place

    def _entry(self, name: str, message: Message) -> dict[str, Any]:
        entry: dict[str, Any] = {"Id": name, "MessageBody": message.body}
        if self.fifo:
            entry["MessageGroupId"] = message.group
            entry["MessageDeduplicationId"] = message.deduplication_id or uuid.uuid4().hex
        elif message.delay > 0:
            entry["DelaySeconds"] = min(math.ceil(message.delay), int(self.max_delay))
        return entry

    def _call(self, client: Any, place: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
        answer: dict[str, Any] = client.send_message_batch(QueueUrl=place, Entries=entries)
        return answer

"""An Amazon SNS topic as a retry queue: what subscribes to it tries again, a function as Lambda's asynchronous invocation has it.

Limits are SNS's own: ten messages a request, 256 KiB a message and a request (a topic can allow up to 1 MiB), no delay. Needs
boto3: ``pip install kinesis-streamkit[aws]``; Lambda's runtime carries it.
"""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

from .aws import AwsQueue
from .base import Message

__all__ = ["SnsTopic"]


class SnsTopic(AwsQueue):
    """The topic of an ARN: ``Divert(SnsTopic.from_env("RETRIES"), dead_letters=…)``. ``client`` is boto3's SNS client; by default
    one is made on first use.

    A function that subscribes to it is invoked three times, a minute and two minutes apart, and then Lambda sends the event to
    the function's own dead-letter queue or on-failure destination: give it one. A queue can subscribe too, by raw delivery or
    not. SNS has no delay, so there is no backoff but theirs, and a function that subscribes runs a record for which
    ``Retry(delay)`` was raised at once.

    A topic whose name ends in ``.fifo`` is FIFO (only queues can subscribe to one): ``Message.group`` is its MessageGroupId,
    and every send has a deduplication id of its own unless the message brings one.

    A message over ``message_bytes`` goes into ``claims`` and the topic gets a claim in its place; without ``claims`` it is
    refused. 256 KiB is what every topic takes; set it higher for one that allows it, and lower for a subscriber that does not.
    """

    max_delay: ClassVar[float] = 0.0
    _service: ClassVar[str] = "sns"
    _wanted: ClassVar[str] = "the ARN of an SNS topic"
    _message_limit: ClassVar[int] = 262_144

    @property
    def arn(self) -> str:
        """The topic's ARN; ConfigurationError where the environment variable that should hold it is not set."""
        return self.place

    @property
    def _request_bytes(self) -> int:
        # What a topic allows for a message it allows for a request.
        return max(self._message_bytes, self._message_limit)

    def _entry(self, name: str, message: Message) -> dict[str, Any]:
        entry: dict[str, Any] = {"Id": name, "Message": message.body}
        if self.fifo:
            entry["MessageGroupId"] = message.group
            entry["MessageDeduplicationId"] = message.deduplication_id or uuid.uuid4().hex
        return entry

    def _call(self, client: Any, place: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
        answer: dict[str, Any] = client.publish_batch(TopicArn=place, PublishBatchRequestEntries=entries)
        return answer

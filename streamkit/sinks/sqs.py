"""Amazon SQS: messages into a queue, standard or FIFO.

The function's role needs ``sqs:SendMessage`` on the queue, and ``sqs:GetQueueUrl`` where it is named by its ARN. Needs boto3 and
tenacity: ``pip install kinesis-streamkit[aws]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from ..errors import Reject
from .aws import Trouble
from .base import Write
from .messages import MessageSink

__all__ = ["SqsSink"]

_LONGEST_DELAY = 900


class SqsSink(MessageSink):
    """The queue at this URL, or of this ARN.

        class Forward(RecordProcessor):
            work = SqsSink.from_env("WORK_QUEUE")

            def process(self, record):
                yield self.work.message(record.data)

    A message has 1 MiB with its attributes at most, and a request ten; set ``message_bytes`` to the queue's MaximumMessageSize
    where that is less. A queue whose name ends in ``.fifo`` is FIFO: a message without a ``group`` is in that of its record's
    partition key, in order, and a repeat within five minutes is dropped. On a standard queue a repeat is a second message.

    This is where data goes. What a failed record goes to is an ``SqsQueue``.
    """

    _service: ClassVar[str] = "sqs"
    _wanted: ClassVar[str] = "the URL or ARN of an SQS queue"
    _target: ClassVar[str] = "queueurl"
    _message_limit: ClassVar[int] = 1_048_576

    _url = ""

    def message(
        self,
        body: Any,
        *,
        group: str | None = None,
        attributes: Mapping[str, str | bytes] | None = None,
        delay: float = 0.0,
    ) -> Write:
        """A message. ``body``: text, bytes in UTF-8, anything else as JSON; not empty, and without control characters.

        ``attributes``: up to ten, texts or bytes. ``delay``: seconds, up to 900; a FIFO queue takes none for a message. Reject
        for what SQS would always refuse.
        """
        if not 0 <= delay <= _LONGEST_DELAY:
            raise Reject(f"a message is delayed by 0 to {_LONGEST_DELAY} seconds, not {delay!r}")
        return self._message(body, group, attributes, {"DelaySeconds": math.ceil(delay)} if delay else {})

    def _entry(self, name: str, write: Write) -> dict[str, Any]:
        return {"Id": name, "MessageBody": write.payload.body, **self._settings(write)}

    def _call(self, client: Any, entries: list[dict[str, Any]]) -> dict[int, Trouble]:
        return self._troubles(entries, client.send_message_batch(QueueUrl=self._queue_url(client), Entries=entries))

    def _queue_url(self, client: Any) -> str:
        if not self.place.startswith("arn:"):
            return self.place
        if not self._url:
            *_, account, name = self.place.split(":")
            self._url = client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        return self._url

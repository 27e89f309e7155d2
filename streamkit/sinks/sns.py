"""Amazon SNS: messages to a topic.

The function's role needs ``sns:Publish`` on the topic. Needs boto3 and tenacity: ``pip install kinesis-streamkit[aws]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ..errors import Reject
from .aws import Trouble
from .base import Write
from .messages import MessageSink

__all__ = ["SnsSink"]


class SnsSink(MessageSink):
    """The topic of this ARN.

        class Forward(RecordProcessor):
            news = SnsSink.from_env("NEWS_TOPIC")

            def process(self, record):
                yield self.news.message(record.data, attributes={"type": "order"})

    A message and a request have 256 KiB at most, and a request ten messages; set ``message_bytes`` for a topic that allows more.
    A topic whose name ends in ``.fifo`` is FIFO: a message without a ``group`` is in that of its record's partition key, in
    order, and a repeat within five minutes is dropped. On a standard topic a repeat is a second message.
    """

    _service: ClassVar[str] = "sns"
    _wanted: ClassVar[str] = "the ARN of an SNS topic"
    _target: ClassVar[str] = "topicarn"
    _message_limit: ClassVar[int] = 262_144

    def message(
        self,
        body: Any,
        *,
        subject: str | None = None,
        group: str | None = None,
        attributes: Mapping[str, str | bytes] | None = None,
    ) -> Write:
        """A message. ``body``: text, bytes in UTF-8, anything else as JSON; not empty, and without control characters.

        ``attributes``: up to ten, texts or bytes, which subscriptions can filter by. ``subject``, for e-mail: up to 100 printable
        ASCII characters. Reject for what SNS would always refuse.
        """
        if subject is not None and not (0 < len(subject) <= 100 and subject.isascii() and subject.isprintable()):
            raise Reject("a subject has 1 to 100 printable ASCII characters")
        return self._message(body, group, attributes, {} if subject is None else {"Subject": subject})

    def _entry(self, name: str, write: Write) -> dict[str, Any]:
        return {"Id": name, "Message": write.payload.body, **self._settings(write)}

    def _call(self, client: Any, entries: list[dict[str, Any]]) -> dict[int, Trouble]:
        return self._troubles(entries, client.publish_batch(TopicArn=self.place, PublishBatchRequestEntries=entries))

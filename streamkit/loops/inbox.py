"""The queue of the loops: receive, delete, and how much is in it. Needs boto3, which Lambda's runtime carries."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import Any

from ..aws import code_of, make_client, may_pass, whole_answers
from ..cells.change import Clock
from ..local.messages import event_record
from .plan import Depth

__all__ = ["LONGEST_WAIT", "SqsInbox"]

log = logging.getLogger("streamkit")

#: The longest that SQS lets a receive wait, in seconds.
LONGEST_WAIT = 20
# To connect, and to read: a receive answers after its wait.
_TIMEOUT = (2.0, LONGEST_WAIT + 5.0)
_TRIES = 4
_AFTER_AN_ERROR = 1.0


class SqsInbox:
    """The SQS queue at ``url``. ``client`` is boto3's; by default one is made on first use.

    A loop needs ``sqs:ReceiveMessage`` and ``sqs:DeleteMessage`` on it, and with a supervisor ``sqs:GetQueueAttributes``.
    """

    def __init__(self, url: str, *, client: Any = None, clock: Clock = Clock()) -> None:  # noqa: B008  # A tuple of functions.
        self.url = url
        self._given = whole_answers(client)
        self._own: Any = None
        self._clock = clock
        self._arn = ""

    def receive(self, most: int, wait: int, visibility: int) -> list[dict[str, Any]]:
        """Up to ``most`` messages (10), as Lambda's event has them, after ``wait`` seconds at most. Nobody else gets them for
        ``visibility`` seconds. Where the answer is lost, nobody gets them for so long. None after an error that may pass.
        """
        try:
            return self._received(self._client(), most, wait, visibility)
        except Exception as error:
            if not may_pass(error):
                raise
            log.warning("the queue can't be read for now: %s", code_of(error) or type(error).__name__)
            self._clock.sleep(_AFTER_AN_ERROR)
            return []

    def _received(self, client: Any, most: int, wait: int, visibility: int) -> list[dict[str, Any]]:
        if not self._arn:
            attributes = client.get_queue_attributes(QueueUrl=self.url, AttributeNames=["QueueArn"])["Attributes"]
            self._arn = attributes["QueueArn"]
        answer = client.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=most,
            WaitTimeSeconds=wait,
            VisibilityTimeout=visibility,
            AttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        return [event_record(message, self._arn) for message in answer.get("Messages", ())]

    def delete(self, records: Sequence[dict[str, Any]], deadline: float) -> int:
        """Delete what is done, and try again what SQS did not: how many were not. They will be delivered again."""
        left = {str(n): record["receiptHandle"] for n, record in enumerate(records)}
        why = ""
        for number in range(_TRIES):
            pause = 0.1 * 2**number * random.uniform(0.5, 1)  # noqa: S311  # No secret.
            if number and self._clock.monotonic() + pause >= deadline:
                break
            if number:
                self._clock.sleep(pause)
            try:
                answer = self._client().delete_message_batch(
                    QueueUrl=self.url,
                    Entries=[{"Id": name, "ReceiptHandle": handle} for name, handle in left.items()],
                )
            except Exception as error:  # noqa: BLE001  # Told of below; what is not deleted comes again.
                why = code_of(error) or type(error).__name__
                if not may_pass(error):
                    break
                continue
            failed = {one["Id"]: one for one in answer.get("Failed", ())}
            left = {name: handle for name, handle in left.items() if name in failed}
            if not left:
                return 0
            why = str(next(iter(failed.values())).get("Code", ""))
            if all(one.get("SenderFault") for one in failed.values()):
                break
        log.error("%d messages that are done were not deleted, and will come again: %s", len(left), why)
        return len(left)

    def depth(self) -> Depth:
        """How much is in the queue, by SQS's own approximate figures."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self._client().get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return Depth(*(int(attributes[name]) for name in names))

    def close(self) -> None:
        """Close the client that was made here, and not one that was given."""
        client, self._own = self._own, None
        if client is not None:
            client.close()

    def _client(self) -> Any:
        if self._given is not None:
            return self._given
        if self._own is None:
            self._own = make_client("sqs", "SqsInbox", _TIMEOUT)
        return self._own

"""What Lambda does with an SQS queue, for a function on this machine: poll, invoke, delete what the answer does not name."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError
from ..plural import counted
from .messages import event_record, failed_ids

__all__ = ["QueueCounts", "QueueRunner"]

log = logging.getLogger("streamkit")

_SYSTEM_ATTRIBUTES = ["All"]
_AFTER_AN_ERROR = 1.0
_MISSING_CODES = ("NonExistentQueue", "QueueDoesNotExist", "InvalidAddress")


@dataclass
class QueueCounts:
    """What a runner has done so far, in messages; ``invocations`` and ``failures`` (of whole batches) in batches."""

    received: int = 0
    deleted: int = 0
    returned: int = 0
    invocations: int = 0
    failures: int = 0


class QueueRunner:
    """Invokes ``function(event, context)`` with the messages of the queue at ``queue_url``, until ``stop`` is called.

    ``client`` is boto3's SQS client. The event is Lambda's own, of up to ``batch_size`` messages (10 at most). What the answer
    does not name is deleted; the others become visible again after the queue's visibility time-out, on a FIFO queue too. All
    of a batch does where the function raises, answers in a form that Lambda does not know, or takes longer than
    ``function_timeout_in_seconds``. One receive waits for messages for ``wait_time_in_seconds`` (20 at most), which is the
    longest that ``stop`` takes where no function is running.
    """

    def __init__(
        self,
        function: Callable[[Any, Any], Any],
        queue_url: str,
        client: Any,
        *,
        batch_size: int = 10,
        wait_time_in_seconds: int = 1,
        function_timeout_in_seconds: float = 60.0,
    ) -> None:
        if not 1 <= batch_size <= 10:
            raise ConfigurationError(f"batch_size is from 1 to 10 messages, as one receive brings; got {batch_size!r}")
        self._function = function
        self._url = queue_url
        self._client = client
        self._batch_size = batch_size
        self._wait_time = wait_time_in_seconds
        self._timeout = function_timeout_in_seconds
        self._arn = ""
        self._stopped = threading.Event()
        self.counts = QueueCounts()

    def run(self) -> None:
        """Poll until ``stop`` is called. A queue that can't be reached is logged once, and tried again each second."""
        is_reachable = True
        while not self._stopped.is_set():
            try:
                self.poll()
                is_reachable = True
            except Exception as error:  # noqa: BLE001  # Whatever the client raises: its messages come again.
                if is_reachable:
                    log.error("the queue %s can't be read: %s: %s", self._name, type(error).__name__, error)
                is_reachable = False
                self._stopped.wait(_AFTER_AN_ERROR)

    def stop(self) -> None:
        """End ``run`` after the batch in hand. It can be called from another thread, or from a signal's handler."""
        self._stopped.set()

    def check(self) -> None:
        """Look whether the queue is there. ConfigurationError where it is not; what else the client raises is raised as it is."""
        try:
            self._find()
        except Exception as error:
            response: dict[str, Any] = getattr(error, "response", None) or {}
            code = str(response.get("Error", {}).get("Code", ""))
            if code.endswith(_MISSING_CODES):
                raise ConfigurationError(
                    f"the retry queue {self._url} is not there ({code}): check its URL, region and account, or make it"
                ) from error
            raise

    def poll(self) -> int:
        """Receive once, and invoke the function if that brought messages: how many."""
        self._find()
        answer = self._client.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=self._batch_size,
            WaitTimeSeconds=self._wait_time,
            AttributeNames=_SYSTEM_ATTRIBUTES,
            MessageAttributeNames=["All"],
        )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        if messages:
            self._work(messages)
        return len(messages)

    def _find(self) -> None:
        """Its ARN, asked for once."""
        if not self._arn:
            answer = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
            self._arn = answer["Attributes"]["QueueArn"]

    def _work(self, messages: list[dict[str, Any]]) -> None:
        counts = self.counts
        counts.received += len(messages)
        counts.invocations += 1
        failed = self._failed(messages)
        if failed is None:
            counts.failures += 1
            failed = {message["MessageId"] for message in messages}
        done = [message for message in messages if message["MessageId"] not in failed]
        counts.returned += len(messages) - len(done)
        counts.deleted += self._delete(done)

    def _failed(self, messages: list[dict[str, Any]]) -> set[str] | None:
        """The ids of the messages that have failed; None for the batch as a whole."""
        event = {"Records": [event_record(message, self._arn) for message in messages]}
        context = _Context(self._timeout)
        try:
            response = self._function(event, context)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # Whatever a function raises, Lambda delivers its batch again.
            log.error("the function raised %s; %s", type(error).__name__, _stay(messages))
            return None
        if context.get_remaining_time_in_millis() <= 0:
            log.error("the function took over %g s; %s", self._timeout, _stay(messages))
            return None
        failed = failed_ids(response, {message["MessageId"] for message in messages})
        if failed is None:
            log.error("the function's answer is not understood; %s", _stay(messages))
        return failed

    def _delete(self, messages: list[dict[str, Any]]) -> int:
        """Delete messages: how many were. One that was not is delivered again, as Lambda's may be."""
        if not messages:
            return 0
        entries = [{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)]
        answer = self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)
        failures = answer.get("Failed", ())
        for failure in failures:
            log.error("a message was not deleted, and will come again: %s", failure.get("Code"))
        return len(messages) - len(failures)

    @property
    def _name(self) -> str:
        return self._url.rpartition("/")[2]


def _stay(messages: list[dict[str, Any]]) -> str:
    return f"its {counted(len(messages), 'message')} {'stays' if len(messages) == 1 else 'stay'} in the queue"


class _Context:
    """What streamkit reads of Lambda's context."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._end - time.monotonic()) * 1000))

"""Amazon SQS as a retry queue or a dead-letter target, standard or FIFO.

Limits are SQS's own: a message and a request of 1 MiB, ten messages a request, a delay of at most 900 s (none for a single
message on a FIFO queue). Needs boto3: ``pip install kinesis-streamkit[aws]``; Lambda's runtime carries it.
"""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec

from ..aws import Clients, may_pass
from ..claims.base import ClaimStore
from ..errors import ConfigurationError, QueueError
from .base import Message, MessageRefusal, Queue

__all__ = ["SqsQueue"]

_REQUEST_BYTES = 1_048_576
# Seconds of tries for one request. Who waits longer pays for a function that does nothing, and the stream waits for free.
_RETRY_TIME = 60.0


class SqsQueue(Queue):
    """The queue at ``url``. ``client`` is boto3's SQS client; by default one is made on first use.

    A queue whose name ends in ``.fifo`` is FIFO: ``Message.group`` is its MessageGroupId, and every send has a
    deduplication id of its own unless the message brings one, for SQS drops a message whose id it has seen in the last five
    minutes, even where the first was consumed already.

    A message over ``message_bytes`` goes into ``claims`` and the queue gets a claim in its place; without ``claims`` it is
    refused. Set ``message_bytes`` to the queue's MaximumMessageSize where that is less than SQS's limit of 1 MiB.
    """

    def __init__(
        self, url: str, *, claims: ClaimStore | None = None, message_bytes: int = _REQUEST_BYTES, client: Any = None
    ) -> None:
        if not 1024 <= message_bytes <= _REQUEST_BYTES:
            raise ConfigurationError(f"SqsQueue(message_bytes) is from 1,024 to 1,048,576; got {message_bytes!r}")
        self._url: str | None = url
        self._variable = ""
        self.claims = claims
        self._message_bytes = message_bytes
        self._clients = Clients("sqs", "SqsQueue", client)

    @classmethod
    def from_env(
        cls, name: str, *, claims: ClaimStore | None = None, message_bytes: int = _REQUEST_BYTES, client: Any = None
    ) -> SqsQueue:
        """The queue whose URL the environment variable ``name`` holds, read on first use."""
        queue = cls("", claims=claims, message_bytes=message_bytes, client=client)
        queue._url, queue._variable = None, name
        return queue

    @property
    def url(self) -> str:
        """The queue's URL; ConfigurationError where the environment variable that should hold it is not set."""
        if self._url is None:
            url = os.environ.get(self._variable)
            if not url:
                raise ConfigurationError(
                    f"the environment variable {self._variable} is not set; {self.owner or 'an SqsQueue'} needs the URL of "
                    "an SQS queue in it"
                )
            self._url = url
        return self._url

    @property
    def fifo(self) -> bool:
        # Asked before there is anything to send; that the variable is missing is an error of the sending.
        url = os.environ.get(self._variable, "") if self._url is None else self._url
        return url.endswith(".fifo")

    def send(self, messages: Sequence[Message], *, deadline: float) -> list[MessageRefusal]:
        """See ``Queue.send``. What SQS does not take for a passing reason is sent again until the deadline."""
        deadline = min(deadline, time.monotonic() + _RETRY_TIME)
        errors: dict[int, Exception] = {}
        stopped: set[str] = set()
        sent = [self._checked(message, deadline, errors) for message in messages]
        waiting = sent
        while waiting:
            request, waiting = _first_request(waiting, one_of_a_group=self.fifo)
            for message in request:
                if self.fifo and message.group in stopped:
                    errors[id(message)] = QueueError("an earlier message of its group was refused")
            errors |= self._send([message for message in request if id(message) not in errors], deadline)
            stopped |= {message.group for message in request if id(message) in errors}
        return [
            MessageRefusal(message, errors[id(checked)])
            for message, checked in zip(messages, sent, strict=True)
            if id(checked) in errors
        ]

    def close(self) -> None:
        """Close the clients that were made here, and not one that was given; those of the claims too."""
        self._clients.close()
        if self.claims is not None:
            self.claims.close()

    def _checked(self, message: Message, deadline: float, errors: dict[int, Exception]) -> Message:
        """The message, or the claim to it where it is too large. What can't be sent so has its error in ``errors``."""
        size = len(message.body)
        if size <= self._message_bytes:
            return message
        if self.claims is None:
            errors[id(message)] = QueueError(
                f"the envelope has {size:,} bytes; the queue takes {self._message_bytes:,}: give it claims=S3Claims(bucket)"
            )
            return message
        try:
            claim = self.claims.put(message.body, message.event_id, deadline=deadline)
        except Exception as error:  # noqa: BLE001  # Whatever the store raises, there may be nothing to claim.
            errors[id(message)] = error
            return message
        return msgspec.structs.replace(message, body=claim)

    def _send(self, request: list[Message], deadline: float) -> dict[int, Exception]:
        """Send one request's messages until each is held or refused for good, or the time is up: why not, by message."""
        from tenacity import Retrying, retry_if_result, wait_random_exponential

        # The deduplication ids are made here: this request's own retries keep them, and no other send has them.
        entries = [self._entry(str(n), message) for n, message in enumerate(request)]
        errors: dict[str, Exception] = {}

        def send_the_rest() -> bool:
            answer = self._try(entries, deadline)
            errors.update(answer)
            entries[:] = [e for e in entries if e["Id"] in answer and not isinstance(answer[e["Id"]], _RefusedForGood)]
            for name in set(errors) - set(answer):
                if not isinstance(errors[name], _RefusedForGood):
                    del errors[name]
            return bool(entries)

        if entries:
            Retrying(
                retry=retry_if_result(bool),
                wait=wait_random_exponential(multiplier=0.05, max=2),
                stop=lambda state: time.monotonic() + state.upcoming_sleep >= deadline,
                retry_error_callback=lambda state: None,
            )(send_the_rest)
        return {id(request[int(name)]): error for name, error in errors.items()}

    def _entry(self, name: str, message: Message) -> dict[str, Any]:
        entry: dict[str, Any] = {"Id": name, "MessageBody": message.body}
        if self.fifo:
            entry["MessageGroupId"] = message.group
            entry["MessageDeduplicationId"] = message.deduplication_id or uuid.uuid4().hex
        elif message.delay > 0:
            entry["DelaySeconds"] = min(math.ceil(message.delay), int(self.max_delay))
        return entry

    def _try(self, entries: list[dict[str, Any]], deadline: float) -> dict[str, Exception]:
        """One call: why each message that was not confirmed was not."""
        url = self.url
        client = self._clients.until(deadline)
        try:
            answer = client.send_message_batch(QueueUrl=url, Entries=entries)
        except Exception as error:  # noqa: BLE001  # Whatever the client raises, nothing was confirmed.
            reason: Exception = error if may_pass(error) else _RefusedForGood(f"{type(error).__name__}: {error}")
            return {entry["Id"]: reason for entry in entries}
        errors: dict[str, Exception] = {
            entry["Id"]: QueueError("SQS did not say what became of the message") for entry in entries
        }
        for failure in answer.get("Failed", ()):
            kind = _RefusedForGood if failure.get("SenderFault") else QueueError
            errors[failure["Id"]] = kind(f"SQS: {failure.get('Code')}: {failure.get('Message', '')}")
        for success in answer.get("Successful", ()):
            del errors[success["Id"]]
        return errors


class _RefusedForGood(QueueError):
    """SQS says that the fault is the sender's: the same message would be refused again."""


def _first_request(waiting: list[Message], *, one_of_a_group: bool) -> tuple[list[Message], list[Message]]:
    """What the next request takes, and what is left for later, both in order.

    Of a FIFO group a request takes one message: of two, the first could be refused and the second be taken.
    """
    request: list[Message] = []
    later: list[Message] = []
    groups: set[str] = set()
    size = 0
    for n, message in enumerate(waiting):
        if len(request) == SqsQueue.request_messages:
            return request, later + waiting[n:]
        fits = size + len(message.body) <= _REQUEST_BYTES or not request
        if fits and not (one_of_a_group and message.group in groups):
            request.append(message)
            size += len(message.body)
        else:
            later.append(message)
        groups.add(message.group)
    return request, later

"""What SQS and SNS have in common: requests of up to ten messages, of which some can fail, and a limit in bytes.

Needs boto3: ``pip install kinesis-streamkit[aws]``; Lambda's runtime carries it.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import msgspec

from ..aws import Clients, from_environment, may_pass, repeat_until
from ..claims.base import ClaimStore
from ..errors import ConfigurationError, QueueError
from .base import Message, MessageRefusal, Queue, TooLarge

__all__ = ["AwsQueue"]

_MOST_BYTES = 1_048_576
# Seconds of tries for one request. Who waits longer pays for a function that does nothing, and the stream waits for free.
_RETRY_TIME = 60.0


class AwsQueue(Queue):
    """The base of ``SqsQueue`` and ``SnsTopic``, which say what one request is."""

    _service: ClassVar[str]
    #: What ``place`` is, for the error where it is missing.
    _wanted: ClassVar[str]
    #: The size of a message where nothing else is said, in bytes.
    _message_limit: ClassVar[int]

    def __init__(
        self, place: str, *, claims: ClaimStore | None = None, message_bytes: int | None = None, client: Any = None
    ) -> None:
        limit = self._message_limit if message_bytes is None else message_bytes
        if not 1024 <= limit <= _MOST_BYTES:
            raise ConfigurationError(
                f"{type(self).__name__}(message_bytes) is from 1,024 to 1,048,576; got {message_bytes!r}"
            )
        self._place: str | None = place
        self._variable = ""
        self.claims = claims
        self._message_bytes = limit
        self._clients = Clients(self._service, type(self).__name__, client)

    @classmethod
    def from_env(
        cls, name: str, *, claims: ClaimStore | None = None, message_bytes: int | None = None, client: Any = None
    ) -> Self:
        """That whose URL or ARN the environment variable ``name`` holds, read on first use."""
        queue = cls("", claims=claims, message_bytes=message_bytes, client=client)
        queue._place, queue._variable = None, name
        return queue

    @property
    def place(self) -> str:
        """The URL or ARN; ConfigurationError where the environment variable that should hold it is not set."""
        if self._place is None:
            self._place = from_environment(self._variable, self.owner or type(self).__name__, self._wanted)
        return self._place

    @property
    def fifo(self) -> bool:
        # Asked before there is anything to send; that the variable is missing is an error of the sending.
        place = os.environ.get(self._variable, "") if self._place is None else self._place
        return place.endswith(".fifo")

    @abstractmethod
    def _entry(self, name: str, message: Message) -> dict[str, Any]:
        """The message as it stands in a request, under the Id ``name``."""

    @abstractmethod
    def _call(self, client: Any, place: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
        """Make one request; its answer, with ``Successful`` and ``Failed``."""

    @property
    def _request_bytes(self) -> int:
        """How large a request can be, in bytes of its messages."""
        return _MOST_BYTES

    def send(self, messages: Sequence[Message], *, deadline: float) -> list[MessageRefusal]:
        """See ``Queue.send``. What is not taken for a passing reason is sent again until the deadline."""
        deadline = min(deadline, time.monotonic() + _RETRY_TIME)
        errors: dict[int, Exception] = {}
        stopped: set[str] = set()
        sent = self._checked_in(messages, deadline, errors)
        waiting = sent
        while waiting:
            request, waiting = self._first_request(waiting)
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

    def _checked_in(self, messages: Sequence[Message], deadline: float, errors: dict[int, Exception]) -> list[Message]:
        """The messages, with the claim to it in the place of each that is too large. What can't be sent so has its error in
        ``errors``.
        """
        sent = list(messages)
        away: Exception | None = None
        for n, message in enumerate(sent):
            size = len(message.body)
            if size <= self._message_bytes:
                continue
            if self.claims is None:
                errors[id(message)] = TooLarge(
                    f"the envelope has {size:,} bytes; the queue takes {self._message_bytes:,}: "
                    "give it claims=S3Claims(bucket)"
                )
            elif away is not None:  # Not asked again: the other messages wait for what it takes to find out.
                errors[id(message)] = away
            else:
                try:
                    claim = self.claims.put(message.body, message.event_id, deadline=deadline)
                except Exception as error:  # noqa: BLE001  # Whatever the store raises, there may be nothing to claim.
                    errors[id(message)] = away = error
                else:
                    sent[n] = msgspec.structs.replace(message, body=claim)
        return sent

    def _send(self, request: list[Message], deadline: float) -> dict[int, Exception]:
        """Send one request's messages until each is held or refused for good, or the time is up: why not, by message."""
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
            return not entries

        if entries:
            repeat_until(deadline, send_the_rest)
        return {id(request[int(name)]): error for name, error in errors.items()}

    def _try(self, entries: list[dict[str, Any]], deadline: float) -> dict[str, Exception]:
        """One call: why each message that was not confirmed was not."""
        place = self.place
        client = self._clients.until(deadline)
        try:
            answer = self._call(client, place, entries)
        except Exception as error:  # noqa: BLE001  # Whatever the client raises, nothing was confirmed.
            reason: Exception = error if may_pass(error) else _RefusedForGood(f"{type(error).__name__}: {error}")
            return {entry["Id"]: reason for entry in entries}
        service = self._service.upper()
        errors: dict[str, Exception] = {
            entry["Id"]: QueueError(f"{service} did not say what became of the message") for entry in entries
        }
        for failure in answer.get("Failed", ()):
            kind = _RefusedForGood if failure.get("SenderFault") else QueueError
            errors[failure["Id"]] = kind(f"{service}: {failure.get('Code')}: {failure.get('Message', '')}")
        for success in answer.get("Successful", ()):
            del errors[success["Id"]]
        return errors

    def _first_request(self, waiting: list[Message]) -> tuple[list[Message], list[Message]]:
        """What the next request takes, and what is left for later, both in order.

        Of a FIFO group a request takes one message: of two, the first could be refused and the second be taken.
        """
        request: list[Message] = []
        later: list[Message] = []
        groups: set[str] = set()
        size = 0
        for n, message in enumerate(waiting):
            if len(request) == self.request_messages:
                return request, later + waiting[n:]
            fits = size + len(message.body) <= self._request_bytes or not request
            if fits and not (self.fifo and message.group in groups):
                request.append(message)
                size += len(message.body)
            else:
                later.append(message)
            groups.add(message.group)
        return request, later


class _RefusedForGood(QueueError):
    """The fault is the sender's: the same message would be refused again."""

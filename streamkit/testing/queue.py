"""A retry queue or dead-letter target in memory, with SQS's manners."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from ..envelope import Envelope, open_envelope
from ..errors import QueueError
from ..queues.base import Message, MessageRefusal, Queue

__all__ = ["MemoryQueue"]

_ARN = "arn:aws:sqs:us-east-1:000000000000:memory"


class _Held(msgspec.Struct):
    message_id: str
    message: Message
    visible_at: float
    receive_count: int = 0


class MemoryQueue(Queue):
    """Holds what it is sent, in order. ``len(queue)`` counts it, and iterating gives the envelopes.

    ``refuse()`` makes it refuse everything, ``refuse(lambda envelope: …)`` what the function says, ``refuse(False)``
    nothing again; ``fail(error)`` makes ``send`` raise, ``fail(None)`` mends it.

    ``deliver(handler)`` does what Lambda does with an SQS queue: up to ten visible messages as one event, of which those
    that the answer does not name are gone. What failed before waits for its backoff: ``advance(900)`` first.
    """

    def __init__(self, *, fifo: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._fifo = fifo
        self._clock = clock
        self._advanced = 0.0
        self._held: list[_Held] = []
        self._sent = 0
        self._refuses: Callable[[Envelope], bool] = lambda envelope: False
        self._error: Exception | None = None

    @property
    def fifo(self) -> bool:
        return self._fifo

    @property
    def messages(self) -> list[Message]:
        """The messages as they were sent, with their delays and groups."""
        return [held.message for held in self._held]

    def refuse(self, when: bool | Callable[[Envelope], bool] = True) -> None:
        """Refuse messages from now on: all, none, or those whose envelope ``when`` picks."""
        self._refuses = when if callable(when) else lambda envelope: when

    def fail(self, error: Exception | None) -> None:
        """Raise ``error`` out of every ``send`` from now on; None mends it."""
        self._error = error

    def put(self, body: str, *, group: str = "") -> None:
        """Hold a message that streamkit did not send: its body is its data."""
        self._hold(Message(body, event_id="", group=group))

    def send(self, messages: Sequence[Message], *, deadline: float) -> list[MessageRefusal]:
        if self._error is not None:
            raise self._error
        refusals: list[MessageRefusal] = []
        stopped: set[str] = set()
        for message in messages:
            envelope = open_envelope(message.body)
            if message.group in stopped or (envelope is not None and self._refuses(envelope)):
                refusals.append(MessageRefusal(message, QueueError("the queue was told to refuse")))
                if self._fifo:
                    stopped.add(message.group)
            else:
                self._hold(message)
        return refusals

    def advance(self, seconds: float) -> None:
        """Let time pass for what is held: ``advance(900)`` is past every delay that a queue has."""
        self._advanced += seconds

    def clear(self) -> None:
        """Forget all that is held."""
        self._held.clear()

    def deliver(self, function: Callable[[Any, Any], Any], context: Any = None, *, most: int = 10) -> Any:
        """Invoke ``function`` with up to ``most`` visible messages, and keep those that its answer names.

        Returns the answer, or None where no message is visible. An exception of the function's passes, and all stay.
        """
        now = self._now()
        visible = [held for held in self._held if held.visible_at <= now][:most]
        if not visible:
            return None
        for held in visible:
            held.receive_count += 1
        answer = function({"Records": [self._record(held) for held in visible]}, context)
        failed = {failure["itemIdentifier"] for failure in (answer or {}).get("batchItemFailures") or ()}
        done = {held.message_id for held in visible} - failed
        self._held = [held for held in self._held if held.message_id not in done]
        return answer

    def _now(self) -> float:
        return self._clock() + self._advanced

    def _hold(self, message: Message) -> None:
        self._sent += 1
        delay = 0.0 if self._fifo else min(message.delay, self.max_delay)
        self._held.append(_Held(f"message-{self._sent}", message, self._now() + delay))

    def _record(self, held: _Held) -> dict[str, Any]:
        attributes = {
            "ApproximateReceiveCount": str(held.receive_count),
            "SentTimestamp": str(int(self._now() * 1000)),
        }
        if self._fifo:
            attributes["MessageGroupId"] = held.message.group
        return {
            "messageId": held.message_id,
            "receiptHandle": held.message_id,
            "body": held.message.body,
            "attributes": attributes,
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": _ARN + (".fifo" if self._fifo else ""),
            "awsRegion": "us-east-1",
        }

    def __iter__(self) -> Iterator[Envelope]:
        for held in self._held:
            envelope = open_envelope(held.message.body)
            if envelope is not None:
                yield envelope

    def __len__(self) -> int:
        return len(self._held)

    def __bool__(self) -> bool:
        # An empty queue is a queue: `dead_letters or other` must not pick the other.
        return True

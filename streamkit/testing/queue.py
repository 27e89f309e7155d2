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
    sent_at: float
    visible_at: float
    receive_count: int = 0


class MemoryQueue(Queue):
    """Holds what it is sent, in order. ``len(queue)`` counts it, and iterating gives the envelopes.

    ``refuse()`` makes it refuse everything, ``refuse(lambda envelope: …)`` what the function says, ``refuse(False)``
    nothing again; ``fail(error)`` makes ``send`` raise, ``fail(None)`` mends it.

    ``deliver(handler)`` does what Lambda does with an SQS queue: up to ten visible messages as one event, of which those
    that the answer does not name are gone. The others come again after ``visibility_timeout`` seconds, or, after
    ``most_receives``, go to ``redrive_to``. What was sent with a delay waits for its backoff: ``advance(900)`` first.

    With ``fifo`` nothing of a group is delivered while a message of it is in flight.
    """

    def __init__(
        self,
        *,
        fifo: bool = False,
        clock: Callable[[], float] = time.time,
        visibility_timeout: float = 0.0,
        most_receives: int | None = None,
        redrive_to: MemoryQueue | None = None,
    ) -> None:
        self._fifo = fifo
        self._clock = clock
        self._advanced = 0.0
        self._visibility_timeout = visibility_timeout
        self._most_receives = most_receives
        self._redrive_to = redrive_to
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
            # As with a sink's.
            raise self._error.with_traceback(None)
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
        records = self.receive(most)
        if not records:
            return None
        answer = function({"Records": records}, context)
        failed = {failure["itemIdentifier"] for failure in (answer or {}).get("batchItemFailures") or ()}
        self.delete([record["receiptHandle"] for record in records if record["messageId"] not in failed])
        return answer

    def _now(self) -> float:
        return self._clock() + self._advanced

    def receive(self, most: int = 10) -> list[dict[str, Any]]:
        """Up to ``most`` visible messages as Lambda's records. They are in flight until they are deleted, or the visibility
        time-out is over.
        """
        now = self._now()
        received: list[_Held] = []
        blocked: set[str] = set()
        for held in list(self._held):
            group = held.message.group
            if len(received) == most:
                break
            if self._fifo and group in blocked:
                continue
            if held.visible_at > now:
                blocked.add(group)
            elif self._most_receives is not None and held.receive_count >= self._most_receives:
                self._held.remove(held)
                if self._redrive_to is not None:
                    self._redrive_to._hold(held.message)
            else:
                received.append(held)
        for held in received:
            held.receive_count += 1
            held.visible_at = now + self._visibility_timeout
        return [self._record(held) for held in received]

    def delete(self, receipt_handles: Sequence[str]) -> None:
        """Delete what was received under these handles. One that another receive has followed deletes nothing."""
        self._held = [held for held in self._held if _receipt(held) not in receipt_handles]

    def _hold(self, message: Message) -> None:
        self._sent += 1
        delay = 0.0 if self._fifo else min(message.delay, self.max_delay)
        now = self._now()
        self._held.append(_Held(f"message-{self._sent}", message, now, now + delay))

    def _record(self, held: _Held) -> dict[str, Any]:
        attributes = {
            "ApproximateReceiveCount": str(held.receive_count),
            "SentTimestamp": str(int(held.sent_at * 1000)),
        }
        if self._fifo:
            attributes["MessageGroupId"] = held.message.group
        return {
            "messageId": held.message_id,
            "receiptHandle": _receipt(held),
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


def _receipt(held: _Held) -> str:
    return f"{held.message_id}#{held.receive_count}"

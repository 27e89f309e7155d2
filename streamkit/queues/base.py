"""The seam to retry queues and dead-letter targets: they take messages, and say which they did not take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar

import msgspec

from ..claims.base import ClaimStore
from ..errors import QueueError

__all__ = ["Message", "MessageRefusal", "Queue", "TooLarge"]


class TooLarge(QueueError):
    """The queue never takes a message of that size, and has no claims."""


class Message(msgspec.Struct, frozen=True, eq=False):
    """What is sent: ``body`` is an envelope's text (ASCII JSON); ``delay`` is in seconds, and at most the queue's limit.

    ``group`` keeps order on a FIFO queue: messages of one group are delivered in the order they were sent. A standard
    queue ignores it, a FIFO queue ignores the delay. ``deduplication_id`` is for a FIFO queue too, which drops a message
    whose id it has seen in the last five minutes; by default each send has one of its own.
    """

    body: str
    event_id: str
    group: str
    delay: float = 0.0
    deduplication_id: str = ""

    def __repr__(self) -> str:
        # The body holds the payload.
        return f"<Message {self.event_id}>"


class MessageRefusal(msgspec.Struct, frozen=True, eq=False):
    """A message that the queue did not confirm, and why."""

    message: Message
    error: Exception


class Queue(ABC):
    """Subclass it for a queue of your own. ``streamkit.testing.contracts.QueueContract`` is the suite it has to pass."""

    #: How many messages fill one request.
    request_messages: ClassVar[int] = 10
    #: The longest delay of a message, in seconds; a longer wait goes into the envelope as its not-before time.
    max_delay: ClassVar[float] = 900.0
    #: ``Orders.on_failure``: the class and attribute that hold this queue, for errors to say who wants something.
    owner: str = ""
    #: Where it puts what is too large for it, and where such a body is read when the message comes back; None: nowhere.
    claims: ClaimStore | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner = f"{owner.__name__}.{name}"

    @property
    def fifo(self) -> bool:
        """Whether the queue keeps the order of a group (and takes no delay for a single message)."""
        return False

    @abstractmethod
    def send(self, messages: Sequence[Message], *, deadline: float) -> Iterable[MessageRefusal]:
        """Send ``messages`` in order and return those not confirmed: empty when the queue holds them all.

        ``deadline`` is a time on ``time.monotonic()``'s clock. Within a group of a FIFO queue nothing is sent after a
        refusal: those messages are refused too. An exception means that none was confirmed.
        """

    def close(self) -> None:
        """Release connections. The queue is not used afterwards."""
        return

"""What a bad record costs: its shard (``Block``), its own place in the order (``Divert``) or its key (``Park``)."""

from __future__ import annotations

from .errors import ConfigurationError
from .ledgers.base import Ledger
from .queues.base import Queue

__all__ = ["Block", "Divert", "Park", "Policy"]


class Policy:
    """What ``on_failure`` takes. ``queue`` is the retry queue, ``dead_letters`` where poison and given-up records go, and
    ``ledger`` knows the keys that are parked.
    """

    queue: Queue | None = None
    ledger: Ledger | None = None
    dead_letters: Queue | None = None
    attempts: int = 3
    #: Seconds: the longest wait before the first retry, doubled for each one more; and the longest of all.
    backoff: float = 15.0
    max_backoff: float = 900.0
    #: What to write where dead letters are missing.
    advice: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        for part in ("queue", "ledger", "dead_letters"):
            held: Queue | Ledger | None = getattr(self, part)
            if held is not None and not held.owner:
                held.owner = f"{owner.__name__}.{name}'s {part}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Block(Policy):
    """A failed record holds its shard until it succeeds or Lambda discards it. The default, and the strictest order. With a
    progress store it holds what ``ordering`` says: its key, its shard or nothing.

    ``dead_letters`` takes what can never succeed (``Reject``, undecodable data), so that only the rest blocks.
    """

    advice = 'Block(dead_letters=SqsQueue.from_env("DEAD_LETTERS"))'

    def __init__(self, dead_letters: Queue | None = None) -> None:
        self.dead_letters = _queue("Block", "dead_letters", dead_letters)


class Divert(Policy):
    """A failed record goes to ``queue`` for retries of its own; later records of its key do not wait for it.

    After ``attempts`` failed tries from the queue it goes to ``dead_letters``. Without ``dead_letters`` it is tried until
    the queue's own redrive policy ends it.

    A record that failed runs again after a time between 0 and ``backoff`` seconds, then 2 × ``backoff``, 4 × …, up to
    ``max_backoff``: exponential, with full jitter, so that what failed together does not come back together. 0 is at once.
    ``Retry(delay)`` says another time. A FIFO queue and a topic have no delay of their own, and no backoff.
    """

    advice = 'Divert(…, dead_letters=SqsQueue.from_env("DEAD_LETTERS"))'

    def __init__(
        self,
        queue: Queue,
        dead_letters: Queue | None = None,
        attempts: int = 3,
        *,
        backoff: float = 15.0,
        max_backoff: float = 900.0,
    ) -> None:
        if queue is None:
            raise ConfigurationError('Divert(queue) needs a retry queue, e.g. Divert(SqsQueue.from_env("RETRIES"))')
        self.queue = _queue("Divert", "queue", queue)
        self.dead_letters = _dead_letters("Divert", queue, dead_letters)
        self.attempts = _attempts("Divert", attempts)
        for option, seconds in (("backoff", backoff), ("max_backoff", max_backoff)):
            if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
                raise ConfigurationError(f"Divert({option}) takes seconds, 0 or more; got {seconds!r}")
        self.backoff = backoff
        self.max_backoff = max_backoff


class Park(Policy):
    """A failed record, and every later one of its key, goes to ``queue`` and is tried from there in order; other keys do not
    wait for them. ``ordering`` is ``"key"``.

    ``queue`` is a FIFO queue, and triggers the same function. ``ledger``, as ``DynamoDbLedger("parked")``, knows which keys
    are parked. After ``attempts`` failed tries from the queue a record goes to ``dead_letters``, and its key goes on. Without
    ``dead_letters`` it is tried until the queue's own redrive policy ends it.
    """

    advice = 'Park(…, dead_letters=SqsQueue.from_env("DEAD_LETTERS"))'

    def __init__(self, queue: Queue, ledger: Ledger, dead_letters: Queue | None = None, attempts: int = 3) -> None:
        if queue is None:
            raise ConfigurationError('Park(queue, ledger) needs a FIFO queue, e.g. SqsQueue.from_env("RETRIES")')
        self.queue = _queue("Park", "queue", queue)
        if not isinstance(ledger, Ledger):
            raise ConfigurationError(f'Park(ledger) takes a ledger, such as DynamoDbLedger("parked"); got {ledger!r}')
        self.ledger = ledger
        self.dead_letters = _dead_letters("Park", queue, dead_letters)
        self.attempts = _attempts("Park", attempts)


def _queue(policy: str, part: str, queue: Queue | None) -> Queue | None:
    if queue is not None and not isinstance(queue, Queue):
        raise ConfigurationError(f"{policy}({part}) takes a queue, such as SqsQueue or MemoryQueue; got {queue!r}")
    return queue


def _dead_letters(policy: str, queue: Queue, dead_letters: Queue | None) -> Queue | None:
    if dead_letters is not None and dead_letters is queue:
        raise ConfigurationError(
            f"{policy}'s queue and dead_letters are the same queue: what is given up would be tried again for ever"
        )
    return _queue(policy, "dead_letters", dead_letters)


def _attempts(policy: str, attempts: int) -> int:
    if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
        raise ConfigurationError(f"{policy}(attempts) takes a whole number, 1 or more; got {attempts!r}")
    return attempts

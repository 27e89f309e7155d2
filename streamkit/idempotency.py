"""A guard around one side effect of ``process``, for what can't dedupe by itself: a payment, a mail, a call.

    absent ──start──▶ in progress ──the effect──▶ ──finish──▶ done
                          │  the effect raises: released at once
                          └─ a crash, an answer that is lost: another may start when the lease is over

It is used only where it is asked for. What it promises, and what it can't:

- An effect that is marked done is never done again, for as long as the mark is kept.
- No effect is left out that was not done: a mark is set behind it.
- Two invocations never do it at once, as long as it takes no longer than the lease.
- **The effect itself is at least once.** A crash between the effect and its mark, or a store that can't be reached just then,
  has it done a second time, when the lease is over. Nobody who is not in the effect's own transaction can do better:
  give its service the key as its own idempotency key where it takes one.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from .errors import ConfigurationError, Unavailable
from .marks.base import MarkStore
from .record import Record

__all__ = ["Idempotency"]

log = logging.getLogger("streamkit")


class Idempotency:
    """Does an effect of a record, unless it is done.

        class Payments(RecordProcessor):
            charged = Idempotency(DynamoDbMarks("marks"), "charged", lease=60)

            def process(self, record):
                payment = record.json()
                self.charged.run(record, charge, payment["customer"], payment["cents"])

    ``name`` is persistent: it tells this effect of a record from its others, in all processors that share the store.
    ``lease`` is the longest time that the effect takes, in seconds; the function's time-out is a good choice. For so long a
    record waits whose function died at it.
    """

    def __init__(self, store: MarkStore, name: str, *, lease: float) -> None:
        if not isinstance(store, MarkStore):
            raise ConfigurationError(f'Idempotency(store) takes a mark store, as DynamoDbMarks("table"); got {store!r}')
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"Idempotency(name) takes a text that is not empty; got {name!r}")
        if isinstance(lease, bool) or not isinstance(lease, int | float) or not 0 < lease < float("inf"):
            raise ConfigurationError(f"Idempotency(lease) takes seconds, more than 0; got {lease!r}")
        self.store = store
        self.name = name
        #: Seconds.
        self.lease = lease

    def key(self, record: Record) -> str:
        """What the mark of a record is kept by: ``["charged","<event_id>"]``, the same at every delivery, retry and redrive to a
        queue. Put into a stream anew, the record is another one.
        """
        return msgspec.json.encode([self.name, record.event_id]).decode()

    def run(self, record: Record, effect: Callable[..., Any], *arguments: Any, **named: Any) -> bool:
        """Call ``effect(*arguments, **named)``, unless it is done for this record. Whether it was called.

        What it raises passes, and it counts as not done. Unavailable, so that the record stays where it is: where another
        invocation is at it, and where the store can't be reached, before the effect or behind it.
        """
        key, owner = self.key(record), uuid.uuid4().hex
        now = time.time()
        try:
            found = self.store.start(key, owner, now=now, until=now + self.lease)
        except Exception as error:
            raise Unavailable(f"the marks of {self.name}: {type(error).__name__}") from error
        if found == "done":
            return False
        if found == "held":
            raise Unavailable(f"{self.name}: another invocation is at it, or died at it less than {self.lease:g} s ago")
        try:
            effect(*arguments, **named)
        except Exception:
            self._release(key, owner)
            raise
        try:
            is_own = self.store.finish(key, owner, now=time.time())
        except Exception as error:
            raise Unavailable(f"the marks of {self.name}, behind the effect: {type(error).__name__}") from error
        if not is_own:
            log.error(
                "%s: it took longer for %s than its lease of %g s, so another invocation may have done it too",
                self.name,
                record.event_id,
                self.lease,
            )
        return True

    def close(self) -> None:
        """Close the store; the processor's ``close`` is the place to call it. The guard is not used afterwards."""
        self.store.close()

    def _release(self, key: str, owner: str) -> None:
        try:
            self.store.release(key, owner)
        except Exception as error:  # noqa: BLE001  # The effect's own error counts; the lease ends by itself.
            log.error("%s: a lease could not be given up, so it holds for %g s: %s", self.name, self.lease, error)

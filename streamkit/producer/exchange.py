"""One call of the service, and what it changes in the outbox: the call without the lock, the change with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from .future import Settlement
from .outbox import Outbox, Request
from .wire import Meaning, Wire, meaning_of, message_of

__all__ = ["Change", "listed", "sent"]

Change = Callable[[float], list[Settlement]]
"""Called with the time, while nobody else uses the outbox."""


def sent(outbox: Outbox, wire: Wire, request: Request) -> Change:
    """Send the request."""
    try:
        return partial(outbox.answered, request, wire.put(request))
    except Exception as error:  # noqa: BLE001  # Whatever it is, what it was to send goes again, or fails with it.
        message, meaning = message_of(error), meaning_of(error)
        if meaning is Meaning.NOT_NOW or meaning is Meaning.PERHAPS:
            return partial(outbox.lost, request, message, perhaps=meaning is Meaning.PERHAPS)
        end = outbox.rejected if meaning is Meaning.INVALID else outbox.failed
        return partial(end, request, error, message)


def listed(outbox: Outbox, wire: Wire) -> Change:
    """Ask for the shards."""
    try:
        return partial(outbox.take_map, wire.shards())
    except Exception as error:  # noqa: BLE001  # As for a request.
        message = f"ListShards: {message_of(error)}"
        if meaning_of(error) in (Meaning.NOT_NOW, Meaning.PERHAPS):
            return partial(outbox.miss_map, message)
        return partial(outbox.lack_map, error, message)

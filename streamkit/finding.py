"""What is wrong, or may surprise, in how a function is set up: for who reads it before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from .processor import attributes_of
from .sinks.base import ShardSink

if TYPE_CHECKING:
    from .processor import RecordProcessor

__all__ = ["Finding", "cost_of_no_name"]


class Finding(msgspec.Struct, frozen=True):
    """``severity``: an ``"error"`` can't be right; a ``"warning"`` is a cost to know of; a ``"note"`` is how it is,
    or what could not be looked into. ``where`` is whom it is about, or the line or call that changes it; ``message`` says
    what follows and what to write instead.
    """

    severity: Literal["error", "warning", "note"]
    where: str
    message: str


def cost_of_no_name(processor: RecordProcessor) -> Finding | None:
    """Where the name is that of the class, and something is stored under it."""
    policy = processor.on_failure
    is_stored = processor.progress is not None or policy.queue is not None or policy.dead_letters is not None
    # What writes exactly once keeps its account by the name.
    is_stored = is_stored or any(isinstance(part, ShardSink) for part in attributes_of(processor))
    if processor._name_was_given or "name" in vars(processor) or not is_stored:
        return None
    return Finding(
        "warning",
        processor.name,
        "has the name of its class, under which its progress and its envelopes are kept: whoever renames or moves the class "
        f'leaves them behind. Write name = "{type(processor).__name__.lower()}"',
    )

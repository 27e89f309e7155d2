"""What became of a record, as a value. Each stage takes outcomes and gives outcomes; only the answer reads them at last.

NotStarted ──▶ Done ──────────────┐
    │           │ a write refused  ├──▶ settled: the checkpoint may pass
    │           ▼                  │
    │         Failed ──▶ Settled ──┘
    │           │  a later record of its key
    │           ▼
    └──▶ Unavailable, Held ──▶ unsettled: the answer stays at or below it
"""

from __future__ import annotations

import msgspec

__all__ = ["DONE", "NOT_STARTED", "Done", "Failed", "Held", "NotStarted", "Outcome", "Settled", "Unavailable"]


class Done(msgspec.Struct, frozen=True):
    """Its work and all its writes are done."""


class Failed(msgspec.Struct, frozen=True):
    """Its work or one of its writes failed; the policy says what follows."""

    error: Exception


class Held(msgspec.Struct, frozen=True):
    """It has to wait for an earlier record of its key; ``by`` is that record's event id."""

    by: str


class NotStarted(msgspec.Struct, frozen=True):
    """Nothing was done: a failure was known, or the time was up."""


class Unavailable(msgspec.Struct, frozen=True):
    """A dependency was down. The record is not at fault: it stays where it is, whatever the policy."""

    error: Exception


class Settled(msgspec.Struct, frozen=True):
    """A retry queue or a dead-letter target has confirmed that it holds the record; ``where`` says which."""

    where: str


Outcome = Done | Failed | Held | NotStarted | Unavailable | Settled

DONE = Done()
NOT_STARTED = NotStarted()


def is_settled(outcome: Outcome) -> bool:
    """Whether the checkpoint may pass the record."""
    return isinstance(outcome, Done | Settled)

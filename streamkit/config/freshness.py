"""When a source is to be asked again. Pure: ``now`` is the wall clock's seconds, which go on while a container is frozen.

    answered ── at random within the second half of its life: due, asked in the background ── at its life's end: expired

``chance`` is a number from 0 to 1: containers that started together do not ask together.
"""

from __future__ import annotations

import msgspec

__all__ = ["FIRST_PAUSE", "Freshness"]

#: Seconds to the second request after one that failed; each pause is twice the last, up to a life.
FIRST_PAUSE = 1.0


class Freshness(msgspec.Struct):
    """Of one source. ``life``: seconds that an answer is good for, at most."""

    life: float
    answered_at: float | None = None
    #: When it was asked last, and when it is to be asked next.
    asked_at: float = float("-inf")
    due_at: float = float("-inf")
    failures: int = 0

    def is_due(self, now: float) -> bool:
        """A clock that was set back makes it due: it is not known how old anything is."""
        return now >= self.due_at or now < self.asked_at

    def is_expired(self, now: float) -> bool:
        """Whether its answer is older than its life; False where there is none."""
        return self.answered_at is not None and not 0 <= now - self.answered_at < self.life

    def answered(self, now: float, chance: float) -> None:
        self.answered_at = self.asked_at = now
        self.failures = 0
        self.due_at = now + self.life * (1 + chance) / 2

    def failed(self, now: float, chance: float) -> None:
        pause = min(self.life, FIRST_PAUSE * 2.0 ** min(self.failures, 60))
        self.failures += 1
        self.asked_at = now
        self.due_at = now + pause * (1 + chance) / 2

    def lost(self, now: float, chance: float) -> None:
        """There was no end to the request: the container was frozen meanwhile, or it hangs. The first time it is made anew."""
        if self.failures:
            self.failed(now, chance)
        else:
            self.failures = 1
            self.asked_at = self.due_at = now

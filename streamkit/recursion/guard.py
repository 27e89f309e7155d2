"""Which copy of a chain may go on: ``admit`` decides, and is pure; ``Guard`` keeps the place in a store of cells.

Two copies of a chain come to be where Lambda delivers an event twice, where the answer to an invocation is lost and it is made
again, where an invocation died after it had handed over, and where a chain is started twice. A chain has one place:

    hop 6, owner a, until 12:15:05 ──▶ hop 7, owner b, until … ──▶ … ──▶ done
       │                                 │  with a's ticket, that only who has stopped working gives away
       └─ a died: who comes after 12:15:05 takes the place, at hop 6 or, if it was handed over, at hop 7

An owner's time ends with its invocation, whatever it does, because Lambda ends that. So no two work at once as long as the
clocks of two machines differ by less than ``_SLACK``.
"""

from __future__ import annotations

import logging
import secrets
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from .. import metrics
from ..cells.base import CellStore
from ..cells.change import Clock, change
from ..errors import StreamkitError
from .hop import Hop

__all__ = ["Guard", "HopHeld", "Place", "admit", "stuck_since"]

log = logging.getLogger("streamkit")

# Seconds by which clocks of two machines may differ. Amazon Time Sync holds Lambda's to milliseconds.
_SLACK = 5.0
_LONGEST_WAIT = 10.0
# Lambda tries an event for six hours at most, and its last try takes a quarter of an hour. Behind that nobody comes by himself.
_LONGEST_TRIED = 6.25 * 3600

#: ``take`` the place, ``wait`` for it, or ``leave``: another copy is at it, or further.
Verdict = Literal["take", "wait", "leave"]


class HopHeld(StreamkitError):
    """Another try of the same hop may still be running; Lambda delivers this one again later."""


class Place(msgspec.Struct, frozen=True):
    """How far a chain is. ``owner`` is of one try of a hop, ``request`` of the event that it came as, which all tries share."""

    hop: int
    owner: str
    request: str
    #: Seconds since the epoch.
    until: float
    #: Whether Lambda has confirmed that it holds the next hop.
    is_handed: bool = False
    is_done: bool = False
    #: When its owner said that it failed, in seconds since the epoch; 0 where it did not.
    failed_at: float = 0.0


def admit(place: Place | None, hop: int, after: str, owner: str, request: str, now: float) -> Verdict:
    """What a try of ``hop`` may do that has the ticket ``after``."""
    if place is None or place.owner == owner:
        return "take"
    if place.is_done or place.hop > hop or (place.hop == hop and place.is_handed):
        return "leave"
    is_over = place.until + _SLACK <= now
    if is_over or (place.hop < hop and after == place.owner):
        return "take"
    # Another try of this very event: it is dead or it is not. Who waits can tell, and nobody else would go on if it is.
    # One of another event is somebody else's copy, which Lambda tries again by itself.
    return "wait" if request and place.request == request else "leave"


def stuck_since(place: Place, now: float) -> float | None:
    """Since when nobody has been at a place that nobody comes for by himself any more; None where somebody is, or may come."""
    since = place.failed_at or place.until
    return None if place.is_done or since + _LONGEST_TRIED > now else since


class Guard:
    """The places of a task's chains."""

    def __init__(self, cells: CellStore, clock: Clock) -> None:
        self._cells = cells
        self._clock = clock

    def take(self, hop: Hop, request: str, until: float, deadline: float) -> str | None:
        """Take the chain's place until a time, which is when the invocation ends: the owner's ticket. None where another copy is
        at it. HopHeld where that could not be told before the deadline, on the clock's ``monotonic``.
        """
        owner, wait = f"{request}/{secrets.token_urlsafe(9)}", 0.5
        while True:
            verdict, place = self._try(hop, owner, request, until, deadline)
            if verdict == "take":
                return owner
            if verdict == "leave":
                self._tell(hop, place)
                return None
            if self._clock.monotonic() + wait >= deadline:
                raise HopHeld(
                    f"{hop.task}: another try of hop {hop.number} of the chain {hop.chain} holds it, or died not long ago"
                )
            self._clock.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)

    def hand_over(self, hop: Hop, owner: str, deadline: float) -> None:
        """Note that the next hop is on its way, so that nobody repeats this one."""
        self._note(hop, owner, deadline, is_handed=True)

    def finish(self, hop: Hop, owner: str, deadline: float) -> None:
        """Note that the chain is done."""
        self._note(hop, owner, deadline, is_done=True)

    def give_up(self, hop: Hop, owner: str, deadline: float) -> None:
        """Let the next try begin at once."""
        self._note(hop, owner, deadline, until=-_SLACK, failed_at=self._clock.time())

    def _tell(self, hop: Hop, place: Place | None) -> None:
        """Where a chain failed for good, whoever starts it by the same id is left too: that must not look like a success."""
        since = None if place is None else stuck_since(place, self._clock.time())
        if place is None or since is None:
            return
        metrics.count("long_task.stuck")
        log.error(
            "%s: the chain %s does not go on: it is held at hop %d, over since %s%s. The event that Lambda gave up, which "
            "OnFailure has, resumes it. To start it anew delete the "
            "item of the guard's table whose key is %s, or start it by another id",
            hop.task,
            hop.chain,
            place.hop,
            datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            ", and its next hop never came" if place.is_handed else "",
            hop.key,
        )

    def _try(self, hop: Hop, owner: str, request: str, until: float, deadline: float) -> tuple[Verdict, Place | None]:
        verdict: Verdict = "leave"
        place: Place | None = None

        def transition(value: dict[str, Any] | None) -> dict[str, Any] | None:
            nonlocal verdict, place
            place = None if value is None else _place(value)
            verdict = admit(place, hop.number, hop.after, owner, request, self._clock.time())
            return msgspec.to_builtins(Place(hop.number, owner, request, until)) if verdict == "take" else None

        change(self._cells, hop.key, transition, deadline=deadline, clock=self._clock)
        return verdict, place

    def _note(self, hop: Hop, owner: str, deadline: float, **changes: Any) -> None:
        def transition(value: dict[str, Any] | None) -> dict[str, Any] | None:
            if value is None or (place := _place(value)).owner != owner:
                # The next hop is there already.
                return None
            return msgspec.to_builtins(msgspec.structs.replace(place, **changes))  # type: ignore[no-any-return]  # Of a struct it is a dict.

        change(self._cells, hop.key, transition, deadline=deadline, clock=self._clock)


def _place(value: dict[str, Any]) -> Place:
    try:
        return msgspec.convert(value, Place)
    except msgspec.ValidationError:
        raise StreamkitError("a chain's place in the guard's table can't be read: delete that item") from None

"""The right to run one loop. What may become of a token is decided here; nothing here has a clock or a store.

                    started by the supervisor                    claimed by the invocation
    free ────────────────────────────────▶ handed, generation g ─────────────────────────▶ held by an owner
     ▲                                         ▲  ▲                                         │   │  renewed each round
     │                                         │  └─────── passed on: g + 1 ────────────────┘   │
     │ retired, by the loop itself             └────────── its lease is over: g + 1 ────────────┤
     └──────────────────────────────────────────────────────────────────────────────────────────┘

Each handing out has a generation of its own, and one invocation claims it: the second copy of an event finds an owner, and one
that comes late another generation. Who holds a token stops by its own clock before the lease ends, and the supervisor hands it
out again no sooner than ``SLACK`` behind that.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..errors import StreamkitError

__all__ = ["MARK", "SLACK", "Ticket", "Token"]

MARK = "streamkit_loop"
#: Seconds by which clocks of two machines may differ. Amazon Time Sync holds Lambda's to milliseconds.
SLACK = 5.0
_VERSION = 1


class Token(msgspec.Struct, frozen=True):
    """A token as the table has it."""

    generation: int
    owner: str = ""
    #: When the lease ends, or the handing out does, in seconds since the epoch. 0: it is free.
    until: float = 0.0
    #: Whether its loop is to go on.
    is_wanted: bool = True
    #: The age of the oldest message of its last round, in seconds.
    age: float = 0.0

    @classmethod
    def of(cls, value: dict[str, Any] | None) -> Token | None:
        if value is None:
            return None
        try:
            return msgspec.convert(value, cls)
        except msgspec.ValidationError:
            raise StreamkitError("a token of the loops' table can't be read: delete that item") from None

    def value(self) -> dict[str, Any]:
        return msgspec.structs.asdict(self)

    @property
    def is_free(self) -> bool:
        return not self.owner and self.until == 0

    def is_over(self, now: float) -> bool:
        """Whether whoever had it has stopped, or will not come."""
        return not self.is_free and self.until + SLACK <= now

    def is_alive(self, now: float) -> bool:
        """Whether a loop holds it."""
        return bool(self.owner) and now < self.until

    def handed(self, now: float, until: float) -> Token | None:
        """Handed out by the supervisor, where it is free or its time is over."""
        if not (self.is_free or self.is_over(now)):
            return None
        return Token(self.generation + 1, until=until)

    def claimed(self, generation: int, owner: str, until: float) -> Token | None:
        """Held by the one invocation that comes with this generation."""
        if generation != self.generation or self.is_free or self.owner not in ("", owner):
            return None
        return msgspec.structs.replace(self, owner=owner, until=until)

    def renewed(self, generation: int, owner: str, until: float, age: float) -> Token | None:
        if not self._is_of(generation, owner):
            return None
        return msgspec.structs.replace(self, until=until, age=age)

    def passed_on(self, generation: int, owner: str, until: float) -> Token | None:
        """Handed out to the next invocation of the same loop."""
        if not self._is_of(generation, owner):
            return None
        return msgspec.structs.replace(self, generation=generation + 1, owner="", until=until)

    def given_back(self, generation: int, owner: str) -> Token | None:
        """Free, because its loop was told to end."""
        return Token(generation + 1) if self._is_of(generation, owner) else None

    def wanted(self, is_wanted: bool) -> Token | None:
        """The loop is told whether to go on, and hears it at its next round."""
        if self.is_free or self.is_wanted == is_wanted:
            return None
        return msgspec.structs.replace(self, is_wanted=is_wanted)

    def cleared(self, now: float) -> Token | None:
        """Free, because its loop died and is not wanted any more."""
        return Token(self.generation + 1) if self.is_over(now) else None

    def _is_of(self, generation: int, owner: str) -> bool:
        return self.generation == generation and self.owner == owner


class Ticket(msgspec.Struct, frozen=True):
    """What an invocation of a loop is invoked with: the event."""

    loop: str
    token: int
    generation: int

    def encode(self) -> bytes:
        return msgspec.json.encode({MARK: _VERSION, **msgspec.structs.asdict(self)})

    @classmethod
    def of(cls, event: Any, loop: str) -> Ticket:
        """StreamkitError for any other event."""
        if not isinstance(event, dict) or event.get(MARK) != _VERSION:
            raise StreamkitError(
                f"{loop}: the event is no ticket of a loop. The supervisor invokes this function; nobody else does"
            )
        try:
            ticket = msgspec.convert({key: value for key, value in event.items() if key != MARK}, cls)
        except msgspec.ValidationError as error:
            raise StreamkitError(f"{loop}: the event is no ticket of a loop: {error}") from None
        if ticket.loop != loop:
            raise StreamkitError(
                f"the event is a ticket of the loop {ticket.loop[:200]!r}, and this function runs {loop!r}"
            )
        return ticket

"""How many loops a queue needs, and what is to be done about it. Pure: figures and a time in, decisions out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from ..errors import ConfigurationError
from .token import Token

__all__ = ["Depth", "Limits", "Scale", "Steps", "scaled", "steps"]


# Seconds. A supervisor's looks are a minute apart, but for what its schedule is late; two supervisors' are less.
_BETWEEN_STEPS = 30.0


class Depth(msgspec.Struct, frozen=True):
    """What a queue holds, approximately, as SQS says it. What is delayed is nobody's work yet."""

    visible: int
    in_flight: int


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """``least`` and ``most`` loops; ``per_loop`` messages, waiting or in flight, for each; and ``calm`` seconds for which fewer
    have to do before there is one less. Where a message was older than ``oldest`` seconds when it came, there is one more.

    ConfigurationError for one that can't be; it names the variable too, by which ``SupervisorFunction`` has it.
    """

    least: int = 0
    most: int = 10
    per_loop: int = 100
    calm: float = 300.0
    oldest: float = math.inf

    def __post_init__(self) -> None:
        if not 1 <= self.most <= 1000:
            raise ConfigurationError(f"loops: most (LOOPS_MOST) is from 1 to 1,000; got {self.most!r}")
        if not 0 <= self.least <= self.most:
            raise ConfigurationError(
                f"loops: least (LOOPS_LEAST) is from 0 to most (LOOPS_MOST), which is {self.most!r}; got {self.least!r}"
            )
        if self.per_loop < 1:
            raise ConfigurationError(f"loops: per_loop (LOOP_MESSAGES) is 1 or more; got {self.per_loop!r}")
        if not self.calm >= 0:
            raise ConfigurationError(f"loops: calm (LOOP_CALM) is seconds, 0 or more; got {self.calm!r}")
        if not self.oldest > 0:
            raise ConfigurationError(f"loops: oldest (LOOP_OLDEST) is seconds, more than 0; got {self.oldest!r}")


class Scale(msgspec.Struct, frozen=True):
    """How many loops there are to be. ``lower_since``: the time from which on fewer would have done; None while they would not.
    ``known`` is the most there ever were, so that none is forgotten when ``most`` is lowered. ``aged_at``: when old messages
    added a loop the last time.
    """

    target: int
    lower_since: float | None = None
    known: int = 0
    aged_at: float | None = None


def scaled(scale: Scale | None, depth: Depth, age: float, limits: Limits, now: float) -> Scale:
    """Up at once, and down by one at a time, when fewer have done for some time: a queue that is empty for a minute ends nothing.

    Calling it once more for the same look, or by two supervisors at once, changes nothing more: old messages add one loop in half
    a minute, and calm takes one and begins anew. Where ``calm`` is 0, each look at a later time takes one.
    """
    before = Scale(limits.least) if scale is None else scale
    held = min(max(before.target, limits.least), limits.most)
    need = math.ceil((depth.visible + depth.in_flight) / limits.per_loop)
    aged_at = before.aged_at
    if age > limits.oldest and depth.visible:
        if aged_at is None or not 0 <= now - aged_at < _BETWEEN_STEPS:
            need, aged_at = max(need, held + 1), now
        else:
            # Its loop has only just been added. One less would not do.
            need = max(need, held)
    need = min(max(need, limits.least), limits.most)
    since = before.lower_since
    if need >= held:
        held, since = need, None
    elif since is None or since > now:
        since = now
    elif now > since and now - since >= limits.calm:
        held, since = held - 1, now
    return Scale(held, since, max(before.known, held), aged_at)


class Steps(msgspec.Struct):
    """Tokens by number, and what is to be done with each."""

    start: list[int] = []
    #: Their loops are dead.
    restart: list[int] = []
    #: They were told to end, and have not yet.
    want: list[int] = []
    retire: list[int] = []
    #: Dead, and not to be started again.
    clear: list[int] = []


def steps(tokens: Sequence[Token | None], target: int, now: float) -> Steps:
    """Each token is in one list at most. Those with the lowest numbers run."""
    found = Steps()
    for number, token in enumerate(tokens):
        is_free = token is None or token.is_free
        if number < target:
            if is_free:
                found.start.append(number)
            elif token is not None and token.is_over(now):
                found.restart.append(number)
            elif token is not None and not token.is_wanted:
                found.want.append(number)
        elif token is not None and not is_free:
            if token.is_over(now):
                found.clear.append(number)
            elif token.is_wanted:
                found.retire.append(number)
    return found

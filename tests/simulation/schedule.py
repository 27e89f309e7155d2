"""A schedule by its number, a fifth each: a function and its mapping, two runners, ``Park``, a fan-out, a producer."""

from __future__ import annotations

from .dispatch import Dispatch
from .fan import Fan
from .fleet import Fleet
from .lot import Lot
from .world import World

__all__ = ["schedule"]


def schedule(seed: int) -> World | Fleet | Lot | Fan | Dispatch:
    """What this number stands for, ready to ``run``. The same number is the same schedule, in every character."""
    return (World, Fleet, Lot, Fan, Dispatch)[seed % 5](seed)

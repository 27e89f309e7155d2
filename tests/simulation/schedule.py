"""A schedule by its number: by fours, a function and its mapping, two runners on a stream, ``Park`` with its queue, a fan-out."""

from __future__ import annotations

from .fan import Fan
from .fleet import Fleet
from .lot import Lot
from .world import World

__all__ = ["schedule"]


def schedule(seed: int) -> World | Fleet | Lot | Fan:
    """What this number stands for, ready to ``run``. The same number is the same schedule, in every character."""
    return (World, Fleet, Lot, Fan)[seed % 4](seed)

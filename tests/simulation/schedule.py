"""A schedule by its number: by threes, one function and its mapping, two runners on a stream, and ``Park`` with its queue."""

from __future__ import annotations

from .fleet import Fleet
from .lot import Lot
from .world import World

__all__ = ["schedule"]


def schedule(seed: int) -> World | Fleet | Lot:
    """What this number stands for, ready to ``run``. The same number is the same schedule, in every character."""
    return (World, Fleet, Lot)[seed % 3](seed)

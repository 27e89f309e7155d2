"""A schedule by its number: even ones are of one function and its mapping, odd ones of two runners on a stream."""

from __future__ import annotations

from .fleet import Fleet
from .world import World

__all__ = ["schedule"]


def schedule(seed: int) -> World | Fleet:
    """What this number stands for, ready to ``run``. The same number is the same schedule, in every character."""
    return Fleet(seed) if seed % 2 else World(seed)

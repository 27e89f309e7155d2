"""What documents have to be to be found at all, whatever the words are."""

from __future__ import annotations

import msgspec

__all__ = ["AnyOf", "Box", "Filter", "Range"]


class AnyOf(msgspec.Struct, frozen=True):
    """Any of these values; of text, any of these phrases."""

    field: str
    values: tuple[str | int | float, ...]


class Range(msgspec.Struct, frozen=True):
    """From and to, both with their ends; None is without one."""

    field: str
    low: str | int | float | None
    high: str | int | float | None


class Box(msgspec.Struct, frozen=True):
    """Degrees; where west is more than east, it goes across the date line."""

    field: str
    north: float
    west: float
    south: float
    east: float


Filter = AnyOf | Range | Box

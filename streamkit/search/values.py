"""Values as they are written in a request, and as an index gives them: read here, and never handed on as they came."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any

__all__ = ["MOST_DOUBLE", "Place", "box_of", "is_sendable", "shown", "value_of"]

Place = dict[str, float]

#: Numbers up to this, and not the last before infinity: an index that goes from a bound to the next number would leave them.
MOST_DOUBLE = 1e308

_INT = re.compile(r"-?[0-9]{1,19}")
_DOUBLE = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,5})?")
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
# What a document of CloudSearch can't hold (XML 1.0's), so that no field has it.
_UNSENDABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def is_sendable(text: str) -> bool:
    """Whether a document can hold it: text without control characters."""
    return _UNSENDABLE.search(text) is None


def value_of(kind: str, text: str) -> str | int | float:
    """A value that a request has, by the type of its field; a date as ``2001-02-03T04:05:06.789Z``.

    ValueError says what the field takes.
    """
    if kind == "int":
        if not _INT.fullmatch(text) or not -(2**63) <= (number := int(text)) < 2**63:
            raise ValueError("takes a whole number of 64 bits")
        return number
    if kind == "double":
        if not _DOUBLE.fullmatch(text) or abs(double := float(text)) > MOST_DOUBLE:
            raise ValueError("takes a number from -1e308 to 1e308, such as -12.5")
        return double
    if kind == "date":
        return _date(text)
    return text


def box_of(text: str) -> tuple[float, float, float, float]:
    """North, west, south and east, in degrees, of ``41.5,-105,39,-104``. ValueError says what it takes."""
    problem = "takes north,west,south,east in degrees, such as 41,-106,39,-104"
    parts = text.split(",")
    if len(parts) != 4 or not all(_DOUBLE.fullmatch(part) for part in parts):
        raise ValueError(problem)
    north, west, south, east = map(float, parts)
    if not all(-90 <= one <= 90 for one in (north, south)) or not all(-180 <= one <= 180 for one in (west, east)):
        raise ValueError(problem)
    return north, west, south, east


def shown(kind: str, raw: Any) -> Any:
    """One value of an index, by the type of its field, as answers have it. ValueError where it is none of that type."""
    try:
        if kind == "int":
            return int(raw)
        if kind == "double":
            number = float(raw)
            if not math.isfinite(number):
                raise ValueError
            return number
        if kind == "date":
            return _date(raw)
        if kind == "latlon":
            return _place(raw)
    except (TypeError, ValueError, OverflowError, LookupError):
        raise ValueError(f"it is no {kind}") from None
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if not isinstance(raw, str | int | float):
        raise ValueError(f"it is no {kind}")
    return str(raw)


def _date(text: str) -> str:
    problem = "takes a time with its zone, such as 2001-02-03T04:05:06Z"
    found = _DATE.fullmatch(text)
    if found is None:
        raise ValueError(problem)
    day, time, fraction, zone = found.groups()
    milliseconds = ((fraction or "")[1:4]).ljust(3, "0")
    zone = "+00:00" if zone in "Zz" else zone
    try:
        moment = datetime.fromisoformat(f"{day}T{time}.{milliseconds}{zone}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(problem) from None
    shown = moment.strftime("%m-%dT%H:%M:%S")
    # strftime has no leading zeros for early years on every system.
    fraction = "" if milliseconds == "000" else f".{milliseconds}"
    return f"{moment.year:04}-{shown}{fraction}Z"


def _place(raw: Any) -> Place:
    if isinstance(raw, str):
        lat, lon = map(float, raw.split(","))
    elif isinstance(raw, dict):
        lat, lon = float(raw["lat"]), float(raw["lon"])
    else:
        lon, lat = map(float, raw)  # GeoJSON's order.
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise ValueError
    return {"lat": lat, "lon": lon}

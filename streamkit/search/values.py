"""Values as they are written in a request, and as an index gives them: read here, and never handed on as they came."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

__all__ = ["MOST_DOUBLE", "Place", "box_of", "is_sendable", "shown", "value_of"]

Place = dict[str, float]

#: Numbers up to this, and not the last before infinity: an index that goes from a bound to the next number would leave them.
MOST_DOUBLE = 1e308

_INT = re.compile(r"-?[0-9]{1,19}")
_DOUBLE = re.compile(r"-?[0-9]{1,400}(\.[0-9]{1,400})?([eE][+-]?[0-9]{1,5})?")
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
# What OpenSearch takes of a date by default: strict_date_optional_time, a year and what may follow; or epoch_millis.
_INDEXED_DATE = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(?:(\d\d)(?::(\d\d)(?::(\d\d)(\.\d{1,9})?)?)?(Z|[+-]\d\d(?::?\d\d)?)?)?)?)?)?",
    re.ASCII,
)
_MILLISECONDS = re.compile(r"-?\d{1,16}(\.\d{1,9})?", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WKT = re.compile(r"\s*POINT\s*\(\s*(\S+)\s+(\S+?)(?:\s+\S+)?\s*\)\s*", re.ASCII | re.IGNORECASE)
_LONGEST_PLACE = 200
_GEOHASH = re.compile("[0-9bcdefghjkmnpqrstuvwxyz]{1,12}")
_GEOHASH_DIGITS = "0123456789bcdefghjkmnpqrstuvwxyz"
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
    # A tenth of a millimetre: what has no more is the same written as a decimal.
    north, west, south, east = (round(float(part), 9) for part in parts)
    if not all(-90 <= one <= 90 for one in (north, south)) or not all(-180 <= one <= 180 for one in (west, east)):
        raise ValueError(problem)
    return north, west, south, east


def shown(kind: str, raw: Any) -> Any:
    """One value of an index, by the type of its field, as answers have it. ValueError where it is none of that type.

    Dates and places may have each form that OpenSearch takes by default: what it gives back is what a document was sent with.
    """
    try:
        if kind == "int":
            number = int(raw)
            if not -(2**63) <= number < 2**63:
                raise ValueError
            return number
        if kind == "double":
            double = float(raw)
            if not math.isfinite(double):
                raise ValueError
            return double
        if kind == "date":
            return _indexed_date(raw)
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
        return _written(datetime.fromisoformat(f"{day}T{time}.{milliseconds}{zone}"))
    except (ValueError, OverflowError):
        raise ValueError(problem) from None


def _written(moment: datetime) -> str:
    """In UTC, to the millisecond."""
    moment = moment.astimezone(UTC)
    # strftime has no leading zeros for early years on every system.
    shown = moment.strftime("%m-%dT%H:%M:%S")
    fraction = f".{moment.microsecond // 1000:03}" if moment.microsecond >= 1000 else ""
    return f"{moment.year:04}-{shown}{fraction}Z"


def _indexed_date(raw: Any) -> str:
    """A date of a document, as OpenSearch reads it: four digits are a year, what is left out is the first there is, in UTC."""
    if isinstance(raw, bool) or not isinstance(raw, str | int | float):
        raise ValueError
    text = str(raw)
    if _DATE.fullmatch(text):
        return _date(text)
    if (found := _INDEXED_DATE.fullmatch(text)) is not None:
        year, month, day, hour, minute, second, fraction, zone = found.groups()
        time = f"{hour or '00'}:{minute or '00'}:{second or '00'}{fraction or ''}"
        zone = "Z" if zone is None else zone
        zone = zone if zone == "Z" else f"{zone[:3]}:{zone[3:].lstrip(':') or '00'}"
        return _date(f"{year}-{month or '01'}-{day or '01'}T{time}{zone}")
    if not _MILLISECONDS.fullmatch(text):
        raise ValueError
    return _written(_EPOCH + timedelta(milliseconds=math.floor(float(text))))


def _place(raw: Any) -> Place:
    if isinstance(raw, str):
        lat, lon = _place_of_text(raw)
    elif isinstance(raw, dict) and "coordinates" in raw:
        lon, lat = _pair(raw["coordinates"])
    elif isinstance(raw, dict):
        lat, lon = float(raw["lat"]), float(raw["lon"])
    else:
        lon, lat = _pair(raw)
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise ValueError
    return {"lat": lat, "lon": lon}


def _pair(raw: Any) -> tuple[float, float]:
    """GeoJSON's order, longitude and latitude; a height may follow."""
    if len(raw) not in (2, 3):
        raise ValueError
    return float(raw[0]), float(raw[1])


def _place_of_text(text: str) -> tuple[float, float]:
    """Latitude and longitude of ``39.86,-104.67``, a geohash, or WKT's ``POINT (-104.67 39.86)``."""
    if len(text) > _LONGEST_PLACE:
        raise ValueError
    if "," in text:
        parts = text.split(",")
        lon, lat = _pair([parts[1], parts[0], *parts[2:]])
        return lat, lon
    if (found := _WKT.fullmatch(text)) is not None:
        return float(found[2]), float(found[1])
    if not _GEOHASH.fullmatch(text.lower()):
        raise ValueError
    return _corner(text.lower())


def _corner(geohash: str) -> tuple[float, float]:
    """The south-west corner of its cell, which is where OpenSearch has it. Bits are of longitude and latitude in turn."""
    low, size = [-180.0, -90.0], [360.0, 180.0]
    for number in range(5 * len(geohash)):
        digit, bit = _GEOHASH_DIGITS.index(geohash[number // 5]), 4 - number % 5
        axis = number % 2
        size[axis] /= 2
        if digit >> bit & 1:
            low[axis] += size[axis]
    return low[1], low[0]

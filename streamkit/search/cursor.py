"""Where a search goes on: a position of the index, sealed together with what the search was.

A cursor is no secret and no proof: whoever makes one up gets another position of a search that is allowed anyway.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import msgspec

from .refused import Refused

__all__ = ["INITIAL", "Position", "cursor_of", "position_of"]

#: What stands for the first page, as in CloudSearch.
INITIAL = "initial"
#: CloudSearch's own cursor, or OpenSearch's ``search_after``.
Position = str | list[str | int | float | bool | None]

_LONGEST = 4096


class _Sealed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    search: str
    position: Position


def cursor_of(search: str, position: Position) -> str:
    """``search``: a digest of what is searched, which has to be the same on every page."""
    sealed = msgspec.json.encode(_Sealed(search, position))
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def position_of(cursor: str, search: str) -> Position | None:
    """Where the cursor stands; None at the first page. Refused where it is none, or another search's."""
    if cursor == INITIAL:
        return None
    try:
        if len(cursor) > _LONGEST or not cursor.isascii():
            raise ValueError
        sealed = msgspec.json.decode(_unpadded(cursor), type=_Sealed)
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError):
        raise bad_cursor() from None
    if sealed.search != search:
        raise Refused(
            400, "this cursor is of another search: q, filters and sort have to be the same on every page", "cursor"
        )
    return sealed.position


def bad_cursor() -> Refused:
    return Refused(400, f"cursor takes {INITIAL!r}, or the cursor of the page before", "cursor")


def is_position(position: Position, length: int) -> bool:
    """Whether it is one of OpenSearch's, for a search that is sorted by so many."""
    return isinstance(position, Sequence) and not isinstance(position, str) and len(position) == length


def _unpadded(cursor: str) -> bytes:
    return base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)

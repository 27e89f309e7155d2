"""A shard's plan, as its store keeps it: which rows are in, and which are to go where.

    deflate( {"v": 1, "token": …, "stream": …, "base": 7, "floor": "4959…898:0", "settled": rows, "rows": rows} )

    rows    text, "delta.sub.n" for each row, with spaces between: delta is the record's sequence number less that of the row
            before (of the first: itself), in hexadecimal; sub and n are left out where both are 0
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import msgspec

from ..errors import StreamkitError

__all__ = ["Plan", "Place", "RowId", "decode_plan", "encode_plan"]

#: A record's sequence number and sub-sequence number.
Place = tuple[int, int]
#: A row: its record's place, and which of its record's writes it is, from 0. It is the write id without what a shard's rows share.
RowId = tuple[int, int, int]

_VERSION = 1
# What a plan may inflate to: 300,000 rows of aggregates. Nobody's bytes may take more memory.
_MOST_BYTES = 16_000_000


class Plan(msgspec.Struct, frozen=True):
    """What is known of one shard's rows.

    All that stands below ``floor`` was settled before some batch began. Of the rows at or above it, ``settled`` are in, and
    ``rows`` are planned: to be appended to ``stream`` at the offset ``base``, in one request, by whoever has the plan.
    """

    #: The write stream's name; empty where the next plan needs a new one.
    stream: str = ""
    base: int = 0
    floor: Place = (0, 0)
    settled: frozenset[RowId] = frozenset()
    rows: tuple[RowId, ...] = ()
    #: Of this plan alone, among all of all times.
    token: str = ""


class _Document(msgspec.Struct):
    v: int
    token: str
    stream: str
    base: int
    floor: str
    settled: str
    rows: str


def encode_plan(plan: Plan) -> bytes:
    document = _Document(
        v=_VERSION,
        token=plan.token,
        stream=plan.stream,
        base=plan.base,
        floor="{}:{}".format(*plan.floor),
        settled=_text(sorted(plan.settled)),
        rows=_text(plan.rows),
    )
    return zlib.compress(msgspec.json.encode(document))


def decode_plan(data: bytes) -> Plan:
    """What ``encode_plan`` was given. StreamkitError where it is of another version, or no plan: nothing may be guessed."""
    inflate = zlib.decompressobj()
    try:
        text = inflate.decompress(data, _MOST_BYTES)
        if not inflate.eof:
            raise StreamkitError("the plan is damaged")
        document = msgspec.json.decode(text, type=_Document)
        if document.v != _VERSION:
            raise StreamkitError("the plan is of a version that this streamkit does not know")
        number, _, sub = document.floor.partition(":")
        return Plan(
            document.stream,
            document.base,
            (int(number), int(sub)),
            frozenset(_rows(document.settled)),
            tuple(_rows(document.rows)),
            document.token,
        )
    except (zlib.error, msgspec.MsgspecError, ValueError) as error:
        raise StreamkitError("the plan is damaged") from error


def _text(rows: Iterable[RowId]) -> str:
    parts = []
    before = 0
    for number, sub, n in rows:
        parts.append(f"{number - before:x}.{sub}.{n}" if sub or n else f"{number - before:x}")
        before = number
    return " ".join(parts)


def _rows(text: str) -> list[RowId]:
    rows: list[RowId] = []
    number = 0
    for part in text.split():
        delta, _, rest = part.partition(".")
        sub, _, n = rest.partition(".")
        number += int(delta, 16)
        rows.append((number, int(sub or 0), int(n or 0)))
    return rows

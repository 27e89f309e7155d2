"""A shard's plan, as its store keeps it: which rows are in, and which are to go where.

deflate( {"v": 1, "token": …, "stream": …, "base": 7, "floor": "4959…898:0", "settled": rows, "rows": rows} )

rows    text, "delta.sub.n" for each row, with spaces between: delta is the record's sequence number less that of the row
        before (of the first: itself), in hexadecimal; sub, within one sequence number, is less that of the row before
        too; sub and n are left out where both are 0
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import msgspec

from ..errors import StreamkitError

__all__ = ["Place", "Plan", "RowId", "decode_plan", "encode_plan"]

#: A record's sequence number and sub-sequence number.
Place = tuple[int, int]
#: A row: its record's place, and which of its record's writes it is, from 0. A write id without what a shard's rows share.
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
    """The plan's bytes: for plain records about 10 for each row, for rows of one aggregate a few for all. StreamkitError where it
    has too many."""
    document = _Document(
        v=_VERSION,
        token=plan.token,
        stream=plan.stream,
        base=plan.base,
        floor="{}:{}".format(*plan.floor),
        settled=_text(sorted(plan.settled)),
        rows=_text(plan.rows),
    )
    text = msgspec.json.encode(document)
    if len(text) > _MOST_BYTES:
        raise StreamkitError("a batch has more rows than a plan can list: make its batches smaller")
    return zlib.compress(text)


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
    number_before = sub_before = 0
    for number, sub, n in rows:
        step = sub if number != number_before else sub - sub_before
        parts.append(f"{number - number_before:x}.{step}.{n}" if step or n else f"{number - number_before:x}")
        number_before, sub_before = number, sub
    return " ".join(parts)


def _rows(text: str) -> list[RowId]:
    rows: list[RowId] = []
    number = sub = 0
    for part in text.split():
        delta, _, rest = part.partition(".")
        step, _, n = rest.partition(".")
        number += int(delta, 16)
        sub = int(step or 0) + (0 if int(delta, 16) else sub)
        rows.append((number, sub, int(n or 0)))
    return rows

"""The positions of records that need not be run again, in as few bytes as they take.

    01 │ flags │ deflate( delta, runs │ delta, runs │ … )

    flags   bit 0: the entry stands alone
    delta   a record's sequence number less the one before it (of the first: itself)
    runs    how many runs of sub-sequence numbers follow; 0 is the usual case, sub-sequence number 0 alone
    run     its first less the last of the run before (of the first: itself), and how many follow it

All numbers are LEB128, as protobuf's varints but of any size. Every position is listed: a run of sub-sequence numbers lies
within one record, which does not change, and sequence numbers are never joined to ranges, for a changed filter puts records
into them that nobody has seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import msgspec

__all__ = ["Entry", "Position", "decode_entry", "encode_entry"]

#: A record's sequence number and sub-sequence number.
Position = tuple[int, int]

#: Before it is deflated: 10,000 plain records with Kinesis's own distances, of about 12 bytes each.
MOST_BYTES = 131_072
#: More than an event of Lambda's has room for, at 6 bytes a user record. A few bytes can claim any number, so it is limited too.
MOST_POSITIONS = 1_000_000
# A sequence number has 128 digits at most.
_MOST_BITS = 512
_VERSION = 1
_ALONE = 1


class Entry(msgspec.Struct, frozen=True):
    """What one batch had done. ``alone``: it could not look up what entries before it say, so they don't count any more."""

    positions: frozenset[Position]
    alone: bool = False


def encode_entry(positions: Iterable[Position], *, alone: bool = False, most_bytes: int = MOST_BYTES) -> bytes:
    """The entry's bytes. What would be over ``most_bytes``, or over 1,000,000 positions, is left out, the highest first."""
    import zlib  # Only a batch that failed pays for it.

    body = bytearray()
    previous = 0
    for number, group in groupby(sorted(set(positions))[:MOST_POSITIONS], key=lambda position: position[0]):
        runs = _runs([sub for _, sub in group])
        written = _record(number - previous, runs)
        # An aggregate can have more runs than there is room for: then it keeps its first.
        while len(body) + len(written) > most_bytes and len(runs) > 1:
            runs = runs[: len(runs) // 2]
            written = _record(number - previous, runs)
        if len(body) + len(written) > most_bytes:
            break
        body += written
        previous = number
    return bytes([_VERSION, _ALONE if alone else 0]) + zlib.compress(bytes(body))


def decode_entry(data: bytes) -> Entry:
    """What ``encode_entry`` was given. ValueError where the bytes are of another version, or are not an entry."""
    import zlib

    if len(data) < 2 or data[0] != _VERSION or data[1] & ~_ALONE:
        raise ValueError("it is of a version that this streamkit does not know")
    inflate = zlib.decompressobj()
    try:
        # Nobody's bytes may inflate to more than was ever written.
        body = inflate.decompress(data[2:], MOST_BYTES + 1)
    except zlib.error:
        raise ValueError("it is damaged") from None
    if len(body) > MOST_BYTES or not inflate.eof or inflate.unused_data:
        raise ValueError("it is damaged")
    positions: set[Position] = set()
    numbers = _Reader(body)
    number = claimed = 0
    while not numbers.is_at_end():
        number += numbers.next()
        runs = numbers.next()
        if runs == 0:
            positions.add((number, 0))
        sub = 0
        for _ in range(runs):
            first = sub + numbers.next()
            sub = first + numbers.next()
            # Deflate's checksum lets no damage through, but whoever can write to the table can claim any number.
            claimed += sub - first + 1
            if claimed > MOST_POSITIONS:
                raise ValueError("it claims more positions than are ever written")
            positions.update((number, each) for each in range(first, sub + 1))
    return Entry(frozenset(positions), bool(data[1] & _ALONE))


def _runs(subs: list[int]) -> list[tuple[int, int]]:
    """Ascending numbers as runs: the first and the last of each."""
    runs: list[tuple[int, int]] = []
    for sub in subs:
        if runs and runs[-1][1] == sub - 1:
            runs[-1] = (runs[-1][0], sub)
        else:
            runs.append((sub, sub))
    return runs


def _record(delta: int, runs: list[tuple[int, int]]) -> bytearray:
    if runs == [(0, 0)]:
        return _varint(delta) + _varint(0)
    written = _varint(delta) + _varint(len(runs))
    previous = 0
    for first, last in runs:
        written += _varint(first - previous) + _varint(last - first)
        previous = last
    return written


def _varint(number: int) -> bytearray:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return written


class _Reader:
    """Reads varints one after another. ValueError at an end within one."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def is_at_end(self) -> bool:
        return self._at == len(self._data)

    def next(self) -> int:
        number = shift = 0
        for byte in memoryview(self._data)[self._at :]:
            self._at += 1
            number |= (byte & 0x7F) << shift
            if byte <= 0x7F:
                return number
            shift += 7
            if shift > _MOST_BITS:
                break
        raise ValueError("it is damaged")

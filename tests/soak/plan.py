"""What goes in: numbered records, each with its fate, drawn from the seed."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

import msgspec

from streamkit.kpl import UserRecord, aggregate

__all__ = ["SHARDS", "STAYING", "STREAMS", "Fate", "Plan", "Put", "fate_of", "number_of"]

#: A stream for each policy, and one whose records get too old.
STREAMS = ("block", "divert", "park", "aged")
SHARDS = 4
_SHARES = {"block": 0.25, "divert": 0.44, "park": 0.3, "aged": 0.01}
_IN_AGGREGATE = {"block": 10, "divert": 50, "park": 20, "aged": 20}
_PLAIN = 0.05
_HOT_KEYS = 10
_SHARE_OF_HOT = 0.03
_PAD = "." * 40


class Fate(IntEnum):
    """What becomes of a record. All but ``GOOD`` are drawn with the rate of the faults."""

    GOOD = 0
    #: ``process`` raises Reject.
    POISON = 1
    #: Its data is no JSON.
    UNDECODABLE = 2
    #: It is the one record of an aggregate with a wrong checksum.
    DAMAGED = 3
    #: The sink can never take its write.
    INVALID = 4
    #: Its first try in each process raises an error,
    FLAKY = 5
    #: or Retry,
    LATER = 6
    #: or Unavailable,
    NEEDY = 7
    #: or its write is refused,
    REFUSED = 8
    #: or throttled.
    THROTTLED = 9
    #: Each try fails until somebody mends the cause.
    BROKEN = 10
    #: What it needs is not there until somebody mends the cause.
    WAITING = 11


#: What is to be a dead letter at the end.
STAYING = frozenset({Fate.POISON, Fate.UNDECODABLE, Fate.DAMAGED, Fate.INVALID})
_OF_RECORDS = (
    *(Fate.POISON, Fate.UNDECODABLE, Fate.INVALID, Fate.FLAKY, Fate.LATER, Fate.NEEDY, Fate.REFUSED, Fate.THROTTLED),
    Fate.BROKEN,
)


class Put(NamedTuple):
    """One Kinesis record."""

    stream: str
    shard: int
    key: str
    data: bytes
    records: int


class Plan:
    """``records`` numbered from 0, in ``rounds``; each fate has the likelihood ``rate``."""

    def __init__(self, records: int, rounds: int, seed: int, rate: float, *, keys: int | None = None) -> None:
        self.records = records
        self.rounds = rounds
        self.seed = seed
        self.rate = rate
        self.keys = keys or max(5, records // 240)

    def round(self, number: int) -> Iterator[Put]:
        """The Kinesis records of a round, in the order to put them."""
        drawn = random.Random(f"{self.seed}/{number}")
        first, end = (self.records * n // self.rounds for n in (number, number + 1))
        waiting: dict[tuple[str, int], list[UserRecord]] = {}
        for n in range(first, end):
            (stream,) = drawn.choices(STREAMS, weights=list(_SHARES.values()))
            shard = drawn.randrange(SHARDS)
            key = self._key(drawn, shard)
            if drawn.random() < self.rate / _IN_AGGREGATE[stream]:
                yield _damaged(stream, shard, n, number)
                continue
            fate = self._fate(drawn, stream)
            record = UserRecord(_data(n, number, key, fate), key)
            if drawn.random() < _PLAIN / _IN_AGGREGATE[stream]:
                # Not before what waits to be put, or it would pass earlier ones of its key.
                yield from _flush(waiting, stream, shard)
                yield Put(stream, shard, key, record.data, 1)
                continue
            held = waiting.setdefault((stream, shard), [])
            held.append(record)
            if len(held) == _IN_AGGREGATE[stream]:
                yield from _flush(waiting, stream, shard)
        for stream, shard in list(waiting):
            yield from _flush(waiting, stream, shard)

    def _key(self, drawn: random.Random, shard: int) -> str:
        if drawn.random() < _SHARE_OF_HOT:
            return f"hot-{shard}-{drawn.randrange(_HOT_KEYS)}"
        return f"key-{shard}-{drawn.randrange(self.keys)}"

    def _fate(self, drawn: random.Random, stream: str) -> Fate:
        if stream == "aged":
            return Fate.WAITING
        place = int(drawn.random() / self.rate) if self.rate else len(_OF_RECORDS)
        fate = _OF_RECORDS[place] if place < len(_OF_RECORDS) else Fate.GOOD
        if stream == "block" and fate is Fate.BROKEN and drawn.random() >= 1 / _IN_AGGREGATE[stream]:
            # Of Block's one Kinesis record in a hundred: what stands behind it in its batch is given up with it.
            return Fate.GOOD
        return fate


def _flush(waiting: dict[tuple[str, int], list[UserRecord]], stream: str, shard: int) -> Iterator[Put]:
    held = waiting.pop((stream, shard), None)
    if held:
        key = held[0].partition_key or ""
        yield Put(stream, shard, key, aggregate(held), len(held))


def _damaged(stream: str, shard: int, n: int, number: int) -> Put:
    key = f"damaged-{n}"
    whole = aggregate([UserRecord(_data(n, number, key, Fate.DAMAGED), key)])
    return Put(stream, shard, key, whole[:-1] + bytes([whole[-1] ^ 1]), 1)


def _data(n: int, number: int, key: str, fate: Fate) -> bytes:
    data = msgspec.json.encode({"n": n, "round": number, "fate": int(fate), "key": key, "pad": _PAD})
    return data[:-1] if fate is Fate.UNDECODABLE else data


_NUMBER = re.compile(rb'"n":(\d+),')
_FATE = re.compile(rb'"fate":(\d+),')


def number_of(data: bytes) -> int:
    """A record's number, whether its data can be decoded or not."""
    return int(_found(_NUMBER, data))


def fate_of(data: bytes) -> Fate:
    return Fate(int(_found(_FATE, data)))


def _found(pattern: re.Pattern[bytes], data: bytes) -> bytes:
    match = pattern.search(data)
    if match is None:
        raise ValueError("this is no record of the soak's")
    return match[1]

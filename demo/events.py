"""What is published: the events of ``data/``, or those of a file, as Kinesis records in the order of each key."""

from __future__ import annotations

import base64
import csv
import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from aws_kinesis_agg.aggregator import RecordAggregator

from streamkit.kpl import MAGIC

__all__ = ["Broken", "Events", "Put", "events_of_file", "standard_events"]

DATA = Path(__file__).resolve().parent.parent / "data"
# So many flights of one origin after each other are published alike: each on its own, or all in one aggregate.
_RUN = 25
_AGGREGATE_BYTES = 1_000_000
# The airport that is published with a control character in its name, and the character. It is one of the 3,376.
BELL_AIRPORT, BELL = "DEN", "\u0007"


@dataclass(frozen=True)
class Put:
    """A Kinesis record to be: ``events`` is how many events it holds."""

    key: str
    data: bytes
    events: int = 1


@dataclass(frozen=True)
class Broken:
    """One event of ``data/broken.jsonl``: what is wrong with it, and what its dead letter has to say.

    ``tries`` of its own on the retry path come before that.
    """

    what: str
    stream: str
    put: Put
    reason: str
    tries: int


@dataclass(frozen=True)
class Events:
    """``puts`` by stream. ``rows`` and ``documents`` are what has to arrive, None where the file does not say."""

    puts: dict[str, list[Put]]
    rows: int | None
    documents: int | None
    broken: list[Broken] | None
    # Documents whose fields are known, by id.
    texts: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(put.events for puts in self.puts.values() for put in puts)

    @property
    def in_aggregates(self) -> int:
        """How many of the events are published in aggregates, damaged ones left out."""
        broken = [one.put for one in self.broken or ()]
        puts = [put for puts in self.puts.values() for put in puts if put.data.startswith(MAGIC) and put not in broken]
        return sum(put.events for put in puts)


def standard_events(flights: int | None = None) -> Events:
    """The flights (the first so many, or all), the airports, and the broken events among them."""
    with gzip.open(DATA / "flights.jsonl.gz", "rb") as lines:
        good = [line.rstrip(b"\n") for line in islice(lines, flights)]
    with (DATA / "airports.csv").open(newline="", encoding="utf-8") as rows:
        airports = [_airport(row) for row in csv.DictReader(rows)]
    broken = list(_broken())
    named = next(airport for airport in airports if airport["iata"] == BELL_AIRPORT)
    text = {"name": named["name"]}
    named["name"] = named["name"].replace(" ", f"{BELL} ", 1)
    puts = {
        "flights": list(_half_in_aggregates((_origin(line), line) for line in good)),
        "airports": [Put(airport["iata"], _json(airport)) for airport in airports],
    }
    for n, one in enumerate(broken):
        # Among the first, so that all are dealt with before the reader is killed.
        puts[one.stream].insert(20 * (n + 1), one.put)
    return Events(puts, len(good), len(airports), broken, {BELL_AIRPORT: text})


def events_of_file(path: Path) -> Events:
    """The lines of a file, each an event of the flights' form: JSON with ``origin``, by which it is keyed."""
    lines = [line for line in path.read_bytes().splitlines() if line.strip()]
    return Events({"flights": list(_half_in_aggregates((_origin(line), line) for line in lines))}, None, None, None)


def _half_in_aggregates(events: Iterable[tuple[str, bytes]]) -> Iterator[Put]:
    """The events with half of them in aggregates, each of one key, and each key's in their order."""
    waiting: dict[str, list[bytes]] = {}
    in_aggregates = alone = 0

    def puts(key: str) -> Iterator[Put]:
        nonlocal in_aggregates, alone
        run = waiting.pop(key)
        if in_aggregates <= alone:
            in_aggregates += len(run)
            yield from _aggregates(key, run)
        else:
            alone += len(run)
            yield from (Put(key, event) for event in run)

    for key, event in events:
        run = waiting.setdefault(key, [])
        run.append(event)
        if len(run) == _RUN:
            yield from puts(key)
    for key in list(waiting):
        yield from puts(key)


def _aggregates(key: str, events: list[bytes]) -> Iterator[Put]:
    aggregator = RecordAggregator(max_size=_AGGREGATE_BYTES)
    full = [aggregator.add_user_record(key, event) for event in events]
    for one in (*full, aggregator.clear_and_get()):
        if one is not None and one.get_num_user_records():
            yield Put(key, one.get_contents()[2], one.get_num_user_records())


def _origin(line: bytes) -> str:
    try:
        origin = json.loads(line)["origin"]
    except (ValueError, LookupError, TypeError):
        origin = None
    return origin if isinstance(origin, str) and 0 < len(origin) <= 256 else "unknown"


def _airport(row: dict[str, str]) -> dict[str, Any]:
    return {**row, "latitude": float(row["latitude"]), "longitude": float(row["longitude"])}


def _broken() -> Iterator[Broken]:
    for line in (DATA / "broken.jsonl").read_text().splitlines():
        one = json.loads(line)
        if "base64" in one:
            data = base64.b64decode(one["base64"], validate=True)
        else:
            data = one["payload"].replace(one.get("replace", ""), one.get("by", "") * one.get("times", 1)).encode()
        yield Broken(one["what"], one["stream"], Put(one["key"], data), one["reason"], one.get("tries", 0))


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()

"""What became of the events: counted where they ended, compared with what was published, and shown."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from streamkit.envelope import Envelope, open_envelope

from .cloud import TABLE, Cloud
from .events import Broken, Events
from .publisher import Publisher
from .reader import Reader

__all__ = ["Report", "report"]

_WORST_ORIGINS = f"""
    SELECT origin, COUNT(*) AS flights, AVG(delay) AS mean_delay FROM {TABLE}
    GROUP BY origin HAVING COUNT(*) >= 100 ORDER BY mean_delay DESC LIMIT 5
"""  # noqa: S608 (a name of ours)


@dataclass
class Report:
    """The counts. ``dead_letters`` has one envelope for each event; what came twice is in ``repeated_dead_letters``."""

    published: int = 0
    processed: int = 0
    retried: int = 0
    dead_letters: list[Envelope] = field(default_factory=list)
    repeated_dead_letters: int = 0
    rows: int = 0
    documents: int = 0
    repeated_deliveries: int = 0
    texts: dict[str, dict[str, str]] = field(default_factory=dict)

    def differences(self, events: Events) -> Iterator[str]:
        """Every count that is not what it has to be."""
        arrived = self.rows + self.documents + len(self.dead_letters)
        if self.published != events.count:
            yield f"published {self.published}, expected {events.count}"
        if self.processed != self.published:
            yield f"processed {self.processed}, expected {self.published}, as published"
        if arrived != self.published:
            yield f"rows, documents and dead letters are {arrived} together, expected {self.published}, as published"
        if events.rows is not None and self.rows != events.rows:
            yield f"rows {self.rows}, expected {events.rows}"
        if events.documents is not None and self.documents != events.documents:
            yield f"documents {self.documents}, expected {events.documents}"
        if events.broken is not None:
            yield from self._of_broken(events.broken)
        tried = sum(envelope.attempts > 0 for envelope in self.dead_letters)
        if self.retried < tried:
            yield f"retried {self.retried}, expected {tried} at least: so many dead letters have been tried again"
        for id_, fields in events.texts.items():
            for name, text in fields.items():
                if self.texts.get(id_, {}).get(name) != text:
                    yield f"the field {name} of the document {id_} is not the text without its control character"

    def _of_broken(self, broken: list[Broken]) -> Iterator[str]:
        left = list(self.dead_letters)
        for one in broken:
            envelope = next((envelope for envelope in left if _is_of(envelope, one)), None)
            if envelope is None:
                yield f"no dead letter, expected one: {one.what}"
                continue
            left.remove(envelope)
            reason = _reason(envelope)
            if one.reason not in reason:
                yield f"dead-lettered for {reason!r}, expected {one.reason!r}: {one.what}"
            if envelope.attempts != one.tries:
                yield f"dead-lettered after {envelope.attempts} tries, expected {one.tries}: {one.what}"
        for envelope in left:
            yield f"a dead letter that was not expected: {envelope.event_id}: {_reason(envelope)}"
        if self.retried != (tried := sum(one.tries > 0 for one in broken)):
            yield f"retried {self.retried}, expected {tried}"

    def lines(self, events: Events) -> Iterator[str]:
        """The table, and the dead letters with their reasons."""
        counts = {
            "published": f"{self.published}  events, {events.in_aggregates} of them in aggregates",
            "processed": f"{self.processed}  events that the readers' checkpoints have passed",
            "retried": f"{self.retried}  events that went through a retry queue",
            "dead-lettered": f"{len(self.dead_letters)}  events in the dead-letter queues",
            "rows": f"{self.rows}  counted by BigQuery",
            "documents": f"{self.documents}  found by CloudSearch",
            "repeated deliveries": f"{self.repeated_deliveries}  events that a function was given again",
        }
        width = max(map(len, counts))
        yield from (f"{name:>{width}} {count}" for name, count in counts.items())
        if self.repeated_dead_letters:
            yield f"(of the dead letters {self.repeated_dead_letters} came twice, and are counted once)"
        if self.dead_letters:
            yield ""
            yield "dead letters, as their queues hold them:"
        for envelope in sorted(self.dead_letters, key=lambda envelope: envelope.event_id):
            tries = f" (after {envelope.attempts} tries from the retry queue)" if envelope.attempts else ""
            yield f"  {envelope.event_id}{tries}"
            yield f"      {_reason(envelope)}"


def report(cloud: Cloud, events: Events, publisher: Publisher, readers: list[Reader]) -> Report:
    """Count, everywhere but here: rows in BigQuery, documents in CloudSearch, dead letters in their queues."""
    counts = Report(published=publisher.published, rows=cloud.rows(), documents=cloud.documents())
    shards = publisher.shards()
    for reader in readers:
        counts.retried += len(reader.retried)
        for (stream, shard_id), shard in shards.items():
            if stream != reader.stream:
                continue
            counts.processed += shard.events(0, reader.checkpoint(shard_id))
            delivered = [(first, last) for at, first, last in reader.deliveries if at == shard_id]
            given = sum(shard.events(first, last) for first, last in delivered)
            counts.repeated_deliveries += given - shard.distinct(delivered)
        dead = [open_envelope(body) for body in cloud.messages(cloud.queues[reader.stream].dead_letters)]
        # An event can be dead-lettered twice where its reader was killed before it had answered: its id tells.
        distinct = {envelope.event_id: envelope for envelope in dead if envelope is not None}
        counts.dead_letters += distinct.values()
        counts.repeated_dead_letters += len(dead) - len(distinct)
    counts.texts = {id_: _document(cloud, id_) for id_ in events.texts}
    return counts


def answers(cloud: Cloud, events: Events) -> Iterator[str]:
    """What BigQuery and CloudSearch answer to somebody who wants to know something."""
    yield "the worst mean delays of origins with at least 100 flights, as BigQuery has them:"
    origins = cloud.query(_WORST_ORIGINS)
    yield from (f"  {row.origin}  {row.mean_delay:6.2f} minutes, {row.flights} flights" for row in origins)
    if not origins:
        yield "  no origin has so many"
    if "airports" in events.puts:
        hits = cloud.search.search(query="denver")["hits"]
        yield ""
        yield f'a search for "denver", as CloudSearch answers it: {hits["found"]} found'
        for hit in hits["hit"]:
            fields = {name: values[0] for name, values in hit["fields"].items()}
            yield f"  {hit['id']}  {fields['name']}, {fields['city']}, {fields['state']}"


def _is_of(envelope: Envelope, broken: Broken) -> bool:
    if envelope.event_id.partition("/")[0] != broken.stream:
        return False
    data = envelope.data
    if data is None:
        data = base64.b64decode(envelope.undecoded or "")
    return data == broken.put.data


def _reason(envelope: Envelope) -> str:
    return envelope.failures[-1].message if envelope.failures else "no reason"


def _document(cloud: Cloud, id_: str) -> dict[str, Any]:
    answer = cloud.search.search(query=f"iata:'{id_}'", queryParser="structured", size=1)
    return {name: values[0] for hit in answer["hits"]["hit"] for name, values in hit["fields"].items()}

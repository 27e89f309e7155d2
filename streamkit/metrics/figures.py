"""What an invocation came to, in numbers: read from the event as it came, and from the outcomes when they are final."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ..claims.base import ClaimStore
from ..deadline import Deadline
from ..event import Batch
from ..ledgers.base import Ledger
from ..outcome import Failed, Settled, Unavailable, is_settled
from ..progress.base import ProgressStore
from ..queues.base import Queue
from ..sinks.base import Sink
from .names import BRANCH

__all__ = ["add_requests", "became", "bytes_of", "is_of_a_stream", "oldest_age", "shard_of"]

# What a request is to, and the stage that its time belongs to.
_STAGES: tuple[tuple[type, str], ...] = (
    (Sink, "DeliverTime"),
    (Queue, "SettleTime"),
    (ProgressStore, "ProgressTime"),
    (Ledger, "ParkTime"),
    (ClaimStore, "ClaimTime"),
)
# Records of an event whose size is looked at.
_MOST_WEIGHED = 100
_NOTHING = dict.fromkeys(BRANCH, 0)
_BY_PLACE = {"the retry queue": "Retried", "dead letters": "DeadLettered", "an earlier delivery": "DuplicatesSkipped"}


def became(batch: Batch) -> dict[str, int]:
    """What became of a batch's records, by the names of ``BRANCH``. Fast where all went well."""
    figures = _NOTHING.copy()
    if batch.is_done():
        return figures
    failed = batch.failed
    for index, outcome in enumerate(batch.outcomes):
        if isinstance(outcome, Settled):
            figures["Failed"] += index in failed
            name = _BY_PLACE.get(outcome.where)
            if name is not None:
                figures[name] += 1
        elif not is_settled(outcome):
            figures["Unsettled"] += 1
            figures["Unavailable"] += isinstance(outcome, Unavailable)
            figures["Failed"] += isinstance(outcome, Failed) and index in failed
    return figures


def bytes_of(raws: list[Any]) -> int:
    """Bytes of the payloads in an event's ``Records``, as they came: an aggregate's are its own.

    A stream's are known by their base64, of which the padding counts: up to two bytes a record. Of more than 100 records it is an
    estimate by 100 of them, evenly spread: to look at each of thousands takes some per cent of a batch that does little else.
    """
    count = len(raws)
    if count <= _MOST_WEIGHED:
        return sum(map(_bytes_of, raws))
    weighed = sum([_bytes_of(raws[n * count // _MOST_WEIGHED]) for n in range(_MOST_WEIGHED)])
    return weighed * count // _MOST_WEIGHED


def _bytes_of(raw: Any) -> int:
    """Of one, whatever it is. A message is text, of which each character counts as one byte."""
    try:
        # The usual case.
        return len(raw["kinesis"]["data"]) * 3 // 4
    except (KeyError, TypeError):
        return _bytes_of_any(raw)


def _bytes_of_any(raw: Any) -> int:
    if not isinstance(raw, Mapping):
        return 0
    for outer, inner in (("kinesis", "data"), ("Sns", "Message"), ("awslogs", "data")):
        part = raw.get(outer)
        if isinstance(part, Mapping):
            text = part.get(inner)
            return (len(text) if outer == "Sns" else len(text) * 3 // 4) if isinstance(text, str) else 0
    body = raw.get("body")
    return len(body) if isinstance(body, str) else 0


def is_of_a_stream(raws: list[Any]) -> bool:
    """Whether they are records of Kinesis."""
    first = raws[0] if raws else None
    return isinstance(first, dict) and isinstance(first.get("kinesis"), dict)


def oldest_age(raws: list[Any]) -> float | None:
    """Milliseconds since the first record of a stream's batch arrived in it; None where that is not told. Never below 0."""
    arrived = raws[0]["kinesis"].get("approximateArrivalTimestamp")
    if isinstance(arrived, bool) or not isinstance(arrived, int | float):
        return None
    age = (time.time() - arrived) * 1000
    # NaN is not; nor is a time that no clock of Kinesis gives.
    return max(age, 0.0) if -1e15 < age < 1e15 else None


def shard_of(raws: list[Any]) -> str:
    """``orders/shardId-000000000003``; empty where that is not told."""
    arn, event_id = raws[0].get("eventSourceARN"), raws[0].get("eventID")
    if not isinstance(arn, str) or not isinstance(event_id, str):
        return ""
    return f"{arn.partition('/')[2].partition('/')[0]}/{event_id.partition(':')[0]}"


def add_requests(deadline: Deadline, times: dict[str, float]) -> None:
    """Add the milliseconds that the requests of a deadline have taken to ``times``, by the stage that they are of."""
    for to, seconds in deadline.spent.values():
        for kind, stage in _STAGES:
            if isinstance(to, kind):
                times[stage] = times.get(stage, 0.0) + seconds * 1000
                break

"""The daemon's records as the event that Lambda would send, and what the function's answer says about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..event import OPENED
from ..local.answer import read_answer
from ..local.documents import kinesis_record
from .protocol import Position, Received

__all__ = ["event_of", "settled"]


def event_of(records: Sequence[Received], *, stream_arn: str, shard_id: str) -> dict[str, Any]:
    """The event of a batch, made anew for each invocation: what a function does to its event changes no later one.

    It is Lambda's JSON, with a field more in each record: its place within its aggregate (``OPENED``), for the daemon opens
    aggregates. An event id is that of the Kinesis record, as on Lambda.
    """
    return {"Records": [_record(record, stream_arn, shard_id) for record in records]}


def _record(record: Received, stream_arn: str, shard_id: str) -> dict[str, Any]:
    made = kinesis_record(
        stream_arn=stream_arn,
        shard_id=shard_id,
        sequence_number=record.sequence_number,
        data=record.data or "",
        partition_key=record.partition_key or None,
        arrived_at=(record.approximate_arrival_timestamp or 0) / 1000,
    )
    kinesis = made["kinesis"]
    # Null where the daemon does not know it.
    if record.data is None:
        del kinesis["data"]
    if record.approximate_arrival_timestamp is None:
        del kinesis["approximateArrivalTimestamp"]
    kinesis[OPENED] = record.sub_sequence_number or 0
    return made


def settled(answer: Any, positions: Sequence[Position]) -> int:
    """How many of the records at ``positions`` an answer settles, from the first on: the rest begins with the lowest that it
    names. 0 where the whole batch failed, which any other answer than Lambda's means.

    A function that does not know of ``OPENED`` names a sequence number: none of its user records counts as settled.
    """
    numbers = sorted({number for number, _ in positions})
    place = read_answer(answer, numbers)
    if place is None:
        return 0
    if place == len(numbers):
        return len(positions)
    lowest = Position(numbers[place], _sub(answer, str(numbers[place])))
    return sum(position < lowest for position in positions)


def _sub(answer: Mapping[str, Any], identifier: str) -> int:
    """The lowest place that the answer names within that sequence number; 0 where one of its names has none."""
    named = [one.get(OPENED, 0) for one in answer["batchItemFailures"] if one["itemIdentifier"] == identifier]
    return min(sub if type(sub) is int else 0 for sub in named)

"""The same orders in KPL aggregates, against aws-kinesis-agg: a Lambda batch of them, and the format by itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import msgspec
import pybase64
from aws_kinesis_agg.aggregator import AggRecord, RecordAggregator
from aws_kinesis_agg.deaggregator import iter_deaggregate_records

from streamkit import Record, RecordProcessor, kpl, lambda_handler
from streamkit.event import decode

from .batches import ReadOrders
from .harness import Row, Side, check_equal, compare, progress, take_turns
from .orders import NOTHING_FAILED, Context, event_of, key_of, orders, payload_of

__all__ = ["profile", "run"]

_RECORDS = 4_900
# As many as fill the 50 KiB at which the Kinesis Producer Library stops by default.
_IN_AN_AGGREGATE = 98
_LIMIT, _FULL = 51_200, 0.99

Event = dict[str, Any]


def run(seconds: float) -> list[Row]:
    """The benchmarks of aggregates."""
    placed = orders(_RECORDS)
    put = [(key_of(order), payload_of(order)) for order in placed]
    groups = [put[start : start + _IN_AN_AGGREGATE] for start in range(0, _RECORDS, _IN_AN_AGGREGATE)]
    aggregates = [_theirs(group) for group in groups]
    check_equal("aggregating", {"aws-kinesis-agg": aggregates, "streamkit.kpl": [_ours(group) for group in groups]})
    event = event_of(aggregates, [group[0][0] for group in groups])
    check_equal("opening", {"what was put": put, "aws-kinesis-agg": _open_theirs(event), "ours": _open_ours(event)})
    _check(event, placed)

    progress(f"{_RECORDS:,} records in {len(groups)} aggregates, and aws-kinesis-agg, for {seconds:.0f} s")
    took = take_turns(
        {
            "ours": Side(partial(lambda_handler(ReadOrders), event, Context()), NOTHING_FAILED),
            "peer": Side(partial(_parse_theirs, event)),
            "our opening": Side(partial(_open_ours, event), put),
            "their opening": Side(partial(_open_theirs, event), put),
            "our making": Side(partial(_each, _ours, groups), aggregates),
            "their making": Side(partial(_each, _theirs, groups), aggregates),
        },
        seconds,
    )
    faster = partial(compare, per=_RECORDS)
    return [
        faster(
            "aggregates, record.json() / aws-kinesis-agg + b64decode + msgspec",
            took["ours"],
            took["peer"],
            times_faster=2.5,
        ),
        faster(
            "kpl.deaggregate / aws-kinesis-agg + b64decode", took["our opening"], took["their opening"], times_faster=0
        ),
        faster("kpl.aggregate / aws-kinesis-agg", took["our making"], took["their making"], times_faster=2.0),
        _filling(put),
    ]


def _filling(put: Sequence[tuple[str, bytes]]) -> Row:
    """How much of 50 KiB, where aws-kinesis-agg closes an aggregate too, is filled: the median of all but the last."""
    ours, theirs = _fills_of_ours(put), _fills_of_theirs(put)
    our_fill, their_fill = median(ours), median(theirs)
    return Row(
        "  how full a limit of 50 KiB is",
        f"{our_fill:.1%}",
        f"{their_fill:.1%}",
        f"{our_fill / their_fill:.2f}×",
        f"{min(ours):.1%}",
        "≥ 99%",
        our_fill >= _FULL,
    )


def _fills_of_ours(put: Sequence[tuple[str, bytes]]) -> list[float]:
    fills = []
    left = [kpl.UserRecord(payload, key) for key, payload in put]
    while left:
        aggregation = kpl.Aggregation()
        count = aggregation.fill(left, _LIMIT)
        left = left[count:]
        fills.append(len(aggregation.data()) / _LIMIT)
    return fills[:-1]


def _fills_of_theirs(put: Sequence[tuple[str, bytes]]) -> list[float]:
    aggregator = RecordAggregator(_LIMIT)
    full = [aggregator.add_user_record(key, payload) for key, payload in put]
    return [len(record.get_contents()[2]) / _LIMIT for record in full if record is not None]


def profile(seconds: float) -> list[list[str]]:
    """The parts of a record in an aggregate and their nanoseconds, and what no way to open one can do without."""
    placed = orders(_RECORDS)
    put = [(key_of(order), payload_of(order)) for order in placed]
    groups = [put[start : start + _IN_AN_AGGREGATE] for start in range(0, _RECORDS, _IN_AN_AGGREGATE)]
    event = event_of(_each(_ours, groups), [group[0][0] for group in groups])
    texts = [record["kinesis"]["data"] for record in event["Records"]]
    aggregates = [pybase64.b64decode(text, validate=True) for text in texts]
    parse = msgspec.json.Decoder().decode

    def each(work: Callable[[Any], object], items: Sequence[Any]) -> None:
        for item in items:
            work(item)

    progress(f"the parts of a record in an aggregate, for {seconds:.0f} s")
    rounds = take_turns(
        {
            "whole": Side(partial(lambda_handler(ReadOrders), event, Context()), NOTHING_FAILED),
            "base64": Side(partial(each, partial(pybase64.b64decode, validate=True), texts)),
            "md5": Side(partial(each, hashlib.md5, aggregates)),
            "open": Side(partial(each, kpl.deaggregate, aggregates)),
            "decode": Side(lambda: decode(event).records.clear()),
            "json": Side(partial(each, parse, [payload for _, payload in put])),
        },
        seconds,
    )
    took = {name: min(times) / _RECORDS for name, times in rounds.items()}
    parts = {
        "base64": took["base64"],
        "the checksum, MD5": took["md5"],
        "JSON": took["json"],
        "kpl.deaggregate, beyond the checksum": took["open"] - took["md5"],
        "event.decode, beyond those: its Record": took["decode"] - took["open"] - took["base64"],
    }
    parts["the attempt, the clock, the loop, the answer (the rest)"] = took["whole"] - sum(parts.values())
    return [
        ["a record of an aggregate that is read", f"{took['whole']:,.0f}"],
        *([f"  {part}", f"{time:,.0f}"] for part, time in parts.items()),
    ]


def _parse_theirs(event: Event) -> None:
    """The loop of aws-kinesis-agg's own example, with the JSON call that streamkit makes."""
    parse = msgspec.json.Decoder().decode
    for record in iter_deaggregate_records(event["Records"]):
        parse(base64.b64decode(record["kinesis"]["data"]))


def _open_ours(event: Event) -> list[tuple[str | None, bytes]]:
    return [
        (user.partition_key, user.data)
        for record in event["Records"]
        for user in kpl.deaggregate(pybase64.b64decode(record["kinesis"]["data"], validate=True)) or ()
    ]


def _open_theirs(event: Event) -> list[tuple[str | None, bytes]]:
    return [
        (record["kinesis"]["partitionKey"], base64.b64decode(record["kinesis"]["data"]))
        for record in iter_deaggregate_records(event["Records"])
    ]


def _ours(group: Sequence[tuple[str, bytes]]) -> bytes:
    return kpl.aggregate(kpl.UserRecord(payload, key) for key, payload in group)


def _theirs(group: Sequence[tuple[str, bytes]]) -> bytes:
    record = AggRecord()
    for key, payload in group:
        record.add_user_record(key, payload)
    aggregate: bytes = record.get_contents()[2]
    return aggregate


def _each(make: Callable[[Sequence[tuple[str, bytes]]], bytes], groups: Sequence[Any]) -> list[bytes]:
    return [make(group) for group in groups]


def _check(event: Event, placed: list[Event]) -> None:
    ours: list[Any] = []

    class Keep(RecordProcessor):
        def process(self, record: Record) -> None:
            ours.append(record.json())

    lambda_handler(Keep)(event, Context())
    parse = msgspec.json.Decoder().decode
    theirs = [
        parse(base64.b64decode(record["kinesis"]["data"])) for record in iter_deaggregate_records(event["Records"])
    ]
    check_equal("aggregates", {"the orders": placed, "lambda_handler": ours, "aws-kinesis-agg": theirs})

"""Which records go where: rules in the language of event patterns, each with the sink that it hands on to.

    Forward(
        Rule(orders_queue, {"data": {"type": ["order"]}}),
        Rule(archive),
        name="forward",
    )

A pattern is matched with the record as Lambda's filters would have it, and with where it came from:

    data                          the payload, where it is JSON; else there is no such field
    partitionKey                  a text; not there where the record has none
    stream, shardId               where it is from; not there where it never was in a stream
    approximateArrivalTimestamp   seconds since the epoch, likewise
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from .errors import ConfigurationError, DecodeError
from .pattern import Pattern
from .processor import RecordProcessor
from .record import Record
from .sinks.base import OnwardSink, Sink, Write

__all__ = ["Forward", "Rule"]

log = logging.getLogger("streamkit")


class Rule:
    """Hands the records that ``pattern`` matches (all, without one) on to ``sink``.

    The sink's own ``onward`` makes the write of a record, as it came; ``make`` does in its place, for another form of it, or for
    several: ``make=lambda record: queue.message({"id": record.json()["id"]})``.
    """

    def __init__(
        self,
        sink: Sink,
        pattern: str | Mapping[str, Any] | None = None,
        *,
        make: Callable[[Record], Write | Iterable[Write]] | None = None,
    ) -> None:
        if not isinstance(sink, Sink):
            raise ConfigurationError(f"Rule(sink) takes a sink to hand on to, as SqsSink(url); got {sink!r}")
        if make is None and not isinstance(sink, OnwardSink):
            raise ConfigurationError(
                f"{type(sink).__name__} does not know what to make of a record as it came: Rule(sink, make=…)"
            )
        self.sink = sink
        self._pattern = None if pattern is None else Pattern(pattern)
        self._make = make or sink.onward  # type: ignore[attr-defined]  # An OnwardSink, as was seen above.

    @property
    def has_pattern(self) -> bool:
        return self._pattern is not None

    def matches(self, facts: Mapping[str, Any]) -> bool:
        """Whether the rule is for a record of these facts."""
        return self._pattern is None or self._pattern.matches(facts)

    def writes(self, record: Record) -> Iterator[Write]:
        """What goes to the sink for a record."""
        made = self._make(record)
        if isinstance(made, Write):
            yield made
        else:
            yield from made


class Forward(RecordProcessor):
    """Hands each record on to the sinks of all rules that match it; ``name`` is the processor's.

    A record that no rule matches is done, with a line in the log at the level debug. One that a sink can't take (text that is no
    JSON, to EventBridge) is rejected. The sinks of one Forward share its fate: where one is down, the records wait for it,
    whatever their other sinks have taken. Where they are not to wait for each other, make each a branch of a ``FanOut``.
    """

    def __init__(self, *rules: Rule, name: str) -> None:
        if not rules or not all(isinstance(rule, Rule) for rule in rules):
            raise ConfigurationError("Forward() takes rules: Forward(Rule(SqsSink(url)), name=…)")
        if not name:
            raise ConfigurationError("Forward(name) is part of what is stored: give it one")
        self.name = name
        self._rules = rules
        # As attributes, for streamkit to find: it closes them.
        for n, rule in enumerate(rules):
            setattr(self, f"_sink_{n}", rule.sink)

    def process(self, record: Record) -> Iterator[Write]:
        facts = _facts(record) if any(rule.has_pattern for rule in self._rules) else {}
        matching = [rule for rule in self._rules if rule.matches(facts)]
        if not matching:
            log.debug("%s: no rule is for record %s, and it goes nowhere", self.name, record.event_id)
        for rule in matching:
            yield from rule.writes(record)


def _facts(record: Record) -> dict[str, Any]:
    arrival = record.approximate_arrival_timestamp
    arn = record.stream_arn
    facts: dict[str, Any] = {
        "partitionKey": record.partition_key,
        "stream": arn.partition("/")[2] if arn else None,
        "shardId": record.shard_id,
        "approximateArrivalTimestamp": None if arrival is None else arrival.timestamp(),
    }
    facts = {name: value for name, value in facts.items() if value is not None}
    try:
        facts["data"] = record.json()
    except DecodeError:
        record.data  # noqa: B018  # What is no JSON has no fields to match; what can't be decoded at all is an error.
    return facts

"""Each event of a stream becomes nodes and relationships of a graph database, merged by their keys.

Deploy it with the handler ``processors.graph.handler``, or subclass ``GraphProcessor`` and override ``process``, to yield
``self.graph.node_removal(label, key)`` too. Set up by

    GRAPH_URL                required: neo4j+s://host for a cluster or over TLS, bolt://host:7687
    GRAPH_USER               and GRAPH_PASSWORD, where the database asks for them
    GRAPH_DATABASE           default: the user's own
    GRAPH_NODES              JSON: a list of the nodes that an event makes, each {"labels": ["Airport"], "key": {"iata": "iata"},
                             "properties": {"name": "name", "city": "address.city"}}: name → path of a field in the event
    GRAPH_RELATIONSHIPS      JSON: a list of the relationships that it makes, each {"type": "ROUTE",
                             "start": {"label": "Airport", "key": {"iata": "origin"}}, "end": {…}, "properties": {…}, "key": {…}};
                             "key" tells several of a type between two nodes apart. Of these two settings one is required
    GRAPH_VERSION            path of the field that is the event's version, a whole number that grows with every change
    GRAPH_CONSTRAINTS        yes, the default: a label's key is made unique before the first write; no, somebody else has done it
    PROCESSOR_NAME           default "graph"; persistent
    RETRY_QUEUE_URL          SQS; without it a failed event holds its shard
    DEAD_LETTER_QUEUE_URL    SQS; without it nothing is ever given up

They are read at the first invocation. Properties are those that are named, or with {"*": ""} all of the event's fields. An event
without a field that is named is tried again as any that fails, since the setting may be what is wrong; what is no JSON object,
and what no graph can hold, go to dead letters at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from streamkit import Record, Write, lambda_handler
from streamkit.errors import ConfigurationError
from streamkit.sinks.graph import GraphSink, Node

from .base import EventProcessor
from .mapping import FieldMapping, field

__all__ = ["GraphProcessor", "handler"]

Mapped = TypeVar("Mapped")
Paths = dict[str, str]


class _End(msgspec.Struct, forbid_unknown_fields=True):
    label: str
    key: Paths


class _Node(msgspec.Struct, forbid_unknown_fields=True):
    labels: list[str]
    key: Paths
    properties: Paths = {}

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError("labels is empty")


class _Relationship(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    start: _End
    end: _End
    properties: Paths = {}
    key: Paths = {}


class GraphProcessor(EventProcessor):
    """Override ``process`` to make nodes and relationships in a way that no mapping can say."""

    name = "graph"

    def __init__(self) -> None:
        super().__init__()
        self.nodes = _mapping("GRAPH_NODES", list[_Node])
        self.relationships = _mapping("GRAPH_RELATIONSHIPS", list[_Relationship])
        if not self.nodes and not self.relationships:
            raise ConfigurationError("neither GRAPH_NODES nor GRAPH_RELATIONSHIPS is set: what is an event to become?")
        self.graph = GraphSink.from_env(
            "GRAPH_URL", database=os.environ.get("GRAPH_DATABASE") or None, unique=self._unique()
        )
        self.graph.owner = f"{type(self).__name__}.graph"
        self.version_path = os.environ.get("GRAPH_VERSION") or None

    def version(self, record: Record) -> int | None:
        """The event's version, as ``GRAPH_VERSION`` says; None for none."""
        if self.version_path is None:
            return None
        version: int = field(self.event(record), self.version_path)
        return version

    def process(self, record: Record) -> Iterator[Write]:
        event, version = self.event(record), self.version(record)
        for node in self.nodes:
            key = _fields(node.key, event)
            yield self.graph.node(node.labels, key, _others(node.properties, event, key), version=version)
        for one in self.relationships:
            start, end = (Node(at.label, _fields(at.key, event)) for at in (one.start, one.end))
            key = _fields(one.key, event)
            properties = _others(one.properties, event, key)
            yield self.graph.relationship(start, one.type, end, properties, key=key, version=version)

    def _unique(self) -> dict[str, list[str]]:
        """Each label with the names of its key."""
        asked = os.environ.get("GRAPH_CONSTRAINTS") or "yes"
        if asked not in ("yes", "no"):
            raise ConfigurationError(f"GRAPH_CONSTRAINTS is yes or no; got {asked!r}")
        keys = [(node.labels[0], node.key) for node in self.nodes]
        keys += [(end.label, end.key) for one in self.relationships for end in (one.start, one.end)]
        unique: dict[str, list[str]] = {}
        for label, key in keys:
            if unique.setdefault(label, sorted(key)) != sorted(key):
                raise ConfigurationError(f"GRAPH_NODES and GRAPH_RELATIONSHIPS have two kinds of key for {label!r}")
        return unique if asked == "yes" else {}


def _fields(paths: Paths, event: Any) -> dict[str, Any]:
    return FieldMapping(paths).of(event)


def _others(paths: Paths, event: Any, key: dict[str, Any]) -> dict[str, Any]:
    """The properties; ``*`` takes the key's fields too, which are there already."""
    return {name: value for name, value in _fields(paths, event).items() if name not in key}


def _mapping(variable: str, form: type[list[Mapped]]) -> list[Mapped]:
    text = os.environ.get(variable)
    if not text:
        return []
    try:
        return msgspec.json.decode(text, type=form)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise ConfigurationError(
            f"the environment variable {variable} holds a list in JSON, as processors/graph.py has it: {error}"
        ) from None


handler = lambda_handler(GraphProcessor)

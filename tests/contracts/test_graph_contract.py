"""GraphSink keeps the contract of every sink, with versions and without."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from streamkit import Write
from streamkit.sinks.graph import GraphSink
from streamkit.testing.contracts import SinkContract

from ..faults.bolt_proxy import BoltProxy, cut, pass_on
from ..sinks.graphs import Graph

if TYPE_CHECKING:
    from local_graph import GraphServer


class TestGraphSink(SinkContract):
    version: int | None = None

    @pytest.fixture
    def sink(self, graph_server: GraphServer) -> Iterator[GraphSink]:
        self.proxy = BoltProxy(graph_server.port)
        with Graph(graph_server) as self.graph:
            self.graph.run(f"CREATE CONSTRAINT FOR {self.of()} REQUIRE n.must IS NOT NULL")
            sink = self.graph.sink(self.proxy.url, unique={self.graph.label: "id"})
            yield sink
            sink.close()
        self.proxy.close()
        assert self.proxy.errors == []

    def of(self) -> str:
        """What is written, as a pattern of Cypher."""
        return f"(n:`{self.graph.label}`)"

    def write(self, sink: Any, n: int) -> Write:
        made: Write = sink.node(self.graph.label, {"id": n}, {"must": "be"}, version=self.version)
        return made

    def delivered(self, sink: Any) -> list[int]:
        return [row["id"] for row in self.graph.run(f"MATCH (n:`{self.graph.label}`) RETURN n.id AS id")]

    def invalid_write(self, sink: Any) -> Write:
        made: Write = sink.node(self.graph.label, {"id": 999}, version=self.version)
        return made

    @contextlib.contextmanager
    def unreachable(self, sink: Any) -> Iterator[None]:
        self.proxy.act = cut
        yield
        assert any(transaction.harmed for transaction in self.proxy.seen)
        self.proxy.act = pass_on


class TestGraphSinkWithVersions(TestGraphSink):
    version = 7


class TestRelationships(TestGraphSink):
    """From each item to itself."""

    def of(self) -> str:
        return f"()-[n:`TO-{self.graph.label}`]-()"

    def write(self, sink: Any, n: int) -> Write:
        return self.made(sink, n, {"must": "be"})

    def invalid_write(self, sink: Any) -> Write:
        return self.made(sink, 999, {})

    def made(self, sink: Any, n: int, properties: dict[str, Any]) -> Write:
        node = self.graph.label, {"id": n}
        made: Write = sink.relationship(node, f"TO-{self.graph.label}", node, properties, version=self.version)
        return made

    def delivered(self, sink: Any) -> list[int]:
        return [
            row["id"] for row in self.graph.run("MATCH (a)-[:`TO-" + self.graph.label + "`]->(a) RETURN a.id AS id")
        ]

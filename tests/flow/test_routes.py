"""The route network of the flights: events, their function, the graph database, and the way between two airports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from demo.routes import shortest
from processors.graph import GraphProcessor
from streamkit import lambda_handler
from streamkit.testing import EventSourceMapping

from ..sinks.graphs import Graph
from .demo_process import demo, is_left_behind

if TYPE_CHECKING:
    from local_graph import GraphServer

FLIGHTS = [
    ("DEN", "ORD"),
    ("ORD", "JFK"),
    ("DEN", "LAX"),
    ("LAX", "SEA"),
    ("SEA", "JFK"),
    ("JFK", "BOS"),
    ("DEN", "ORD"),
]


@pytest.fixture
def graph(graph_server: GraphServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Graph]:
    with Graph(graph_server) as graph:
        monkeypatch.setenv("GRAPH_URL", graph_server.url)
        monkeypatch.setenv("GRAPH_USER", graph_server.user)
        monkeypatch.setenv("GRAPH_PASSWORD", graph_server.password)
        monkeypatch.setenv("GRAPH_DATABASE", graph_server.database)
        ends = {"start": "origin", "end": "destination"}
        route: dict[str, Any] = {"type": "ROUTE", "properties": {"miles": "distance"}}
        route |= {end: {"label": graph.label, "key": {"iata": path}} for end, path in ends.items()}
        monkeypatch.setenv("GRAPH_RELATIONSHIPS", json.dumps([route]))
        yield graph


def path(graph: Graph, start: str, end: str) -> list[str] | None:
    rows = graph.run(
        f"MATCH (a:`{graph.label}` {{iata: $start}}), (b:`{graph.label}` {{iata: $end}}) "
        "MATCH p = shortestPath((a)-[:ROUTE*]->(b)) RETURN [n IN nodes(p) | n.iata] AS codes",
        start=start,
        end=end,
    )
    return rows[0]["codes"] if rows else None


def test_flights_over_several_shards_become_the_network_that_knows_the_shortest_way(graph: Graph) -> None:
    function = lambda_handler(GraphProcessor)
    stream = EventSourceMapping(function, shards=2, function_response_types=["ReportBatchItemFailures"])

    for n, (origin, destination) in enumerate(FLIGHTS):
        flight = {"origin": origin, "destination": destination, "distance": 100 * n}
        stream.put(json.dumps(flight).encode(), origin, shard=n % 2)
    stream.run_until_idle()
    function.close()

    routes = graph.run(f"MATCH (:`{graph.label}`)-[r:ROUTE]->() RETURN count(r) AS n")
    assert routes == [{"n": len(set(FLIGHTS))}]
    assert path(graph, "DEN", "BOS") == ["DEN", "ORD", "JFK", "BOS"]
    assert path(graph, "BOS", "DEN") is None


def test_the_shortest_way_is_as_a_search_of_its_own_finds_it() -> None:
    routes: dict[str, set[str]] = {}
    for origin, destination in FLIGHTS:
        routes.setdefault(origin, set()).add(destination)

    assert [shortest(routes, "DEN", end) for end in ("ORD", "BOS", "SEA", "DEN")] == [1, 3, 2, None]


def test_the_demo_builds_the_network_of_the_stream_and_finds_a_way_as_short_as_can_be(tmp_path: Path) -> None:
    with demo(tmp_path / "made", "--flights", "2000", module="demo.routes") as process:
        out, log = process.communicate(timeout=280)

    assert process.returncode == 0, out + log
    assert "5,384 events are 3,379 airports and 1,411 routes; 4 dead letters" in out
    assert "from PWM to ITO, 4 flights" in out
    assert "the network is that of the events" in out
    assert not is_left_behind(tmp_path / "made")

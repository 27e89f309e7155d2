"""Flights into a graph database: ``GraphSink``, beside Neo4j's own driver with one MERGE for each of them.

The database is ArcadeDB, in a process of its own, and what it costs is in the time: the clock is the one on the wall. Run as
``python -m bench.graph`` it prints its rows of the table alone.
"""

from __future__ import annotations

import gzip
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from streamkit.sinks.graph import GraphSink, Node
from streamkit.testing.contracts import stamp

from .harness import Row, check_equal, compare, print_rows, progress

_ROOT = Path(__file__).resolve().parent.parent
# A folder of modules, and not a package: localstack/README.md says why.
sys.path.insert(0, str(_ROOT / "localstack"))

from local_graph import GraphServer, graph_server  # noqa: E402

__all__ = ["run"]

_IN_A_REQUEST = 500

Flight = dict[str, Any]
Way = Callable[[str, Sequence[Flight]], None]


def run(seconds: float) -> list[Row]:
    """The benchmark of a graph. Each way has a label of its own, so that all find the same there."""
    import neo4j

    rows: list[Row] = []
    with graph_server() as server, ExitStack() as stack:
        driver = stack.enter_context(neo4j.GraphDatabase.driver(server.url, auth=(server.user, server.password)))
        session = stack.enter_context(driver.session(database=server.database))
        sink = stack.enter_context(closing(_sink(server)))
        ways: dict[str, Way] = {
            "ours": partial(_by_the_sink, sink),
            "each": partial(_one_by_one, session),
            "transaction": partial(_in_a_transaction, session),
        }
        for name, flights in (("as they come", _flights()), ("each another route", _routes())):
            labels = {way: f"{way}_{len(rows)}" for way in ways}
            for label in labels.values():
                session.run(f"CREATE CONSTRAINT FOR (n:{label}) REQUIRE n.iata IS UNIQUE").consume()
            for way, do in ways.items():
                do(labels[way], flights)
            check_equal(name, {way: _found(session, label) for way, label in labels.items()})
            progress(f"{_IN_A_REQUEST} flights {name} into a graph, for {seconds / 2:.0f} s and five rounds at least")
            took = _take_turns({way: partial(do, labels[way], flights) for way, do in ways.items()}, seconds / 2)
            per = partial(compare, per=1000 * _IN_A_REQUEST, unit="µs")
            rows += [
                per(f"GraphSink / a MERGE each, flights {name}", took["ours"], took["each"], times_faster=5),
                per("  the same in one transaction", took["ours"], took["transaction"], times_faster=0),
            ]
    return rows


def _sink(server: GraphServer) -> GraphSink:
    return GraphSink(server.url, auth=(server.user, server.password), database=server.database)


def _by_the_sink(sink: GraphSink, label: str, flights: Sequence[Flight]) -> None:
    writes = [
        sink.relationship(
            Node(label, {"iata": flight["origin"]}),
            "ROUTE",
            Node(label, {"iata": flight["destination"]}),
            {"miles": flight["distance"]},
        )
        for flight in flights
    ]
    refusals = sink.write(stamp(writes), deadline=time.monotonic() + 60)
    if refusals:
        raise refusals[0].error


def _merge(label: str) -> str:
    return (
        f"MERGE (a:{label} {{iata: $origin}}) MERGE (b:{label} {{iata: $destination}}) "
        "MERGE (a)-[r:ROUTE]->(b) SET r.miles = $distance"
    )


def _one_by_one(session: Any, label: str, flights: Sequence[Flight]) -> None:
    merge = _merge(label)
    for flight in flights:
        session.run(merge, flight).consume()


def _in_a_transaction(session: Any, label: str, flights: Sequence[Flight]) -> None:
    merge = _merge(label)
    with session.begin_transaction() as transaction:
        for flight in flights:
            transaction.run(merge, flight).consume()
        transaction.commit()


def _found(session: Any, label: str) -> list[Any]:
    found = session.run(f"MATCH (a:{label})-[r:ROUTE]->(b:{label}) RETURN a.iata, b.iata, r.miles")
    return sorted(tuple(record.values()) for record in found)


def _flights() -> list[Flight]:
    with gzip.open(_ROOT / "data" / "flights.jsonl.gz") as lines:
        return [msgspec.json.decode(line) for line in islice(lines, _IN_A_REQUEST)]


def _routes() -> list[Flight]:
    """The first flight of each route."""
    routes: dict[tuple[str, str], Flight] = {}
    with gzip.open(_ROOT / "data" / "flights.jsonl.gz") as lines:
        for line in lines:
            flight = msgspec.json.decode(line)
            routes.setdefault((flight["origin"], flight["destination"]), flight)
            if len(routes) == _IN_A_REQUEST:
                break
    return [*routes.values()]


def _take_turns(sides: dict[str, Callable[[], None]], seconds: float) -> dict[str, list[float]]:
    """The nanoseconds on the wall of each side's rounds, A B C, C B A, …. They have run once before."""
    rounds: dict[str, list[float]] = {name: [] for name in sides}
    order = list(sides)
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(rounds[order[0]]) < 5:
        for name in order:
            start = time.perf_counter_ns()
            sides[name]()
            rounds[name].append(time.perf_counter_ns() - start)
        order.reverse()
    return rounds


if __name__ == "__main__":
    print_rows(run(20))

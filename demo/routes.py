"""python -m demo.routes [FROM TO]

Build the route network of the flights in a graph database, out of the demo's two streams, and ask it for the shortest path
between two airports: PWM and ITO without others. It ends with 0 if the network is that of the events and the path is as short as
can be, 1 if not, 130 if it was interrupted.

    flights   ──▶ Kinesis ──▶ processors.graph ──▶ (:Airport)-[:ROUTE {miles}]->(:Airport)
    airports  ──▶ Kinesis ──▶ processors.graph ──▶ (:Airport {iata, name, city, state})
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from streamkit.errors import DecodeError
from streamkit.kpl import deaggregate

from .cloud import Streams, local_streams
from .events import Events, standard_events
from .publisher import Publisher
from .reader import Reader, ReaderEnded

# On sys.path since .cloud was imported.
from local_graph import GraphServer, graph_server  # isort: skip

__all__ = ["Network", "main", "shortest"]

_HANDLER = "processors.graph:handler"
_SETTINGS = {
    "flights": {
        "PROCESSOR_NAME": "flights",
        "GRAPH_RELATIONSHIPS": json.dumps(
            [
                {
                    "type": "ROUTE",
                    "start": {"label": "Airport", "key": {"iata": "origin"}},
                    "end": {"label": "Airport", "key": {"iata": "destination"}},
                    "properties": {"miles": "distance"},
                }
            ]
        ),
    },
    "airports": {
        "PROCESSOR_NAME": "airports",
        "GRAPH_NODES": json.dumps(
            [
                {
                    "labels": ["Airport"],
                    "key": {"iata": "iata"},
                    "properties": {"name": "name", "city": "city", "state": "state"},
                }
            ]
        ),
    },
}
_PATH = """\
MATCH (a:Airport {iata: $start}), (b:Airport {iata: $end})
MATCH p = shortestPath((a)-[:ROUTE*]->(b))
RETURN [n IN nodes(p) | n.iata] AS codes, [n IN nodes(p) | n.city] AS cities, [r IN relationships(p) | r.miles] AS miles"""
# Seconds without any progress after which it is given up.
_PATIENCE = 60.0

Routes = Mapping[str, set[str]]


class GivenUp(RuntimeError):
    """Nothing has moved for too long."""


class Network:
    """The graph database, asked with Neo4j's own driver."""

    def __init__(self, server: GraphServer) -> None:
        import neo4j

        self._driver = neo4j.GraphDatabase.driver(server.url, auth=(server.user, server.password))
        self._database = server.database

    def rows(self, text: str, **parameters: Any) -> list[dict[str, Any]]:
        records, _, _ = self._driver.execute_query(text, parameters, database_=self._database)
        return [record.data() for record in records]

    def routes(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for row in self.rows("MATCH (a:Airport)-[:ROUTE]->(b:Airport) RETURN a.iata AS a, b.iata AS b"):
            if row["b"] in found.setdefault(row["a"], set()):
                raise ValueError(f"the route from {row['a']} to {row['b']} is there twice")
            found[row["a"]].add(row["b"])
        return found

    def path(self, start: str, end: str) -> dict[str, Any] | None:
        """The codes and cities of the airports on the shortest path, and the miles between them; None where there is none."""
        return next(iter(self.rows(_PATH, start=start, end=end)), None)

    def close(self) -> None:
        self._driver.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m demo.routes", description="The shortest path between two airports."
    )
    parser.add_argument("start", nargs="?", default="PWM", metavar="FROM", help="%(default)s by default")
    parser.add_argument("end", nargs="?", default="ITO", metavar="TO", help="%(default)s by default")
    parser.add_argument("--flights", type=int, metavar="N", help="only the first N of the flights")
    options = parser.parse_args(arguments)
    try:
        return _run(standard_events(options.flights), options.start, options.end)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    except (GivenUp, ReaderEnded) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1


def _run(events: Events, start: str, end: str) -> int:
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="streamkit-routes-") as folder,
        local_streams() as cloud,
        graph_server() as server,
        contextlib.closing(Network(server)) as network,
        Publisher(cloud.kinesis, events.puts) as publisher,
    ):
        settings = {
            "GRAPH_URL": server.url,
            "GRAPH_USER": server.user,
            "GRAPH_PASSWORD": server.password,
            "GRAPH_DATABASE": server.database,
        }
        with contextlib.ExitStack() as stack:
            readers = [
                stack.enter_context(
                    Reader(stream, cloud, Path(folder), handler=_HANDLER, settings=settings | _SETTINGS[stream])
                )
                for stream in events.puts
            ]
            _wait(cloud, publisher, readers)
        dead = sum(cloud.waiting(queues.dead_letters) for queues in cloud.queues.values())
        routes, airports = network.routes(), network.rows("MATCH (n:Airport) RETURN count(n) AS n")[0]["n"]
        took = time.monotonic() - began
        print(
            f"{publisher.published:,} events are {airports:,} airports and {_count(routes):,} routes; {dead} dead letters"
        )
        answer = network.path(start, end)
    problems = list(_problems(events, routes, start, end, answer))
    if answer is not None:
        print(f"\nfrom {start} to {end}, {len(answer['miles'])} flights and {sum(answer['miles']):,} miles:")
        for code, city, miles in zip(answer["codes"], answer["cities"], [*answer["miles"], None], strict=True):
            print(f"  {code}  {city or '?'}" + (f"  ──{miles:,} miles──▶" if miles is not None else ""))
    else:
        print(f"\nthere is no way from {start} to {end}")
    for problem in problems:
        print(f"WRONG: {problem}")
    print(f"\n{'the network is wrong' if problems else 'the network is that of the events'}; {took:.0f} s")
    return 1 if problems else 0


def _wait(cloud: Streams, publisher: Publisher, readers: list[Reader]) -> None:
    """Until everything is published and settled. GivenUp, ReaderEnded."""
    seen: Any = None
    moved = time.monotonic()
    while True:
        for reader in readers:
            reader.look()
        is_published = publisher.is_done()
        of = {reader.stream: reader for reader in readers}
        left = [stream for (stream, shard), last in publisher.last().items() if of[stream].checkpoint(shard) < last]
        # After the positions: what the checkpoints have passed is in the retry queue by now, if it is to be there.
        retrying = sum(cloud.waiting(queues.retries) for queues in cloud.queues.values())
        if is_published and not left and not retrying:
            return
        now = publisher.published, len(left), retrying, sum(len(reader.deliveries) for reader in readers)
        if now != seen:
            seen, moved = now, time.monotonic()
        elif time.monotonic() - moved > _PATIENCE:
            logs = "\n".join(f"the log of {reader.stream} ends:\n{reader.log_tail()}" for reader in readers)
            missing = f"settled ({', '.join(left) or 'a retry queue'})" if is_published else "published"
            raise GivenUp(f"nothing has moved for {_PATIENCE:g} s, and not all is {missing}\n{logs}")
        time.sleep(0.3)


def _problems(events: Events, routes: Routes, start: str, end: str, answer: dict[str, Any] | None) -> Iterator[str]:
    """What is wrong, by the events themselves."""
    wanted = _routes_of(events)
    if routes != wanted:
        yield f"there are {_count(routes):,} routes, and the events have {_count(wanted):,}, or others"
    length = shortest(wanted, start, end)
    found = None if answer is None else len(answer["miles"])
    if found != length:
        yield f"the path has {found} flights, and the shortest {length}"
    if answer is not None and not all(
        b in wanted[a] for a, b in zip(answer["codes"], answer["codes"][1:], strict=False)
    ):
        yield "the path goes where there is no flight"


def _routes_of(events: Events) -> dict[str, set[str]]:
    routes: dict[str, set[str]] = {}
    for put in events.puts["flights"]:
        for flight in _flights(put.data):
            if flight.keys() >= {"origin", "destination", "distance"}:
                routes.setdefault(flight["origin"], set()).add(flight["destination"])
    return routes


def _flights(data: bytes) -> Iterator[dict[str, Any]]:
    try:
        records = deaggregate(data)
        for line in [data] if records is None else [record.data for record in records]:
            yield json.loads(line)
    except (DecodeError, ValueError):
        return  # One of the broken ones.


def shortest(routes: Routes, start: str, end: str) -> int | None:
    """How many flights the shortest way has, looked for one flight after another; None where there is no way."""
    flights = {start: 0}
    waiting = deque([start])
    while waiting:
        at = waiting.popleft()
        for after in routes.get(at, ()):
            if after == end:
                return flights[at] + 1
            if after not in flights:
                flights[after] = flights[at] + 1
                waiting.append(after)
    return None


def _count(routes: Routes) -> int:
    return sum(map(len, routes.values()))


if __name__ == "__main__":
    sys.exit(main())

"""A graph database that speaks Neo4j's Bolt: ArcadeDB, in a process and an environment of its own.

    with graph_server() as server:
        neo4j.GraphDatabase.driver(server.url, auth=(server.user, server.password)).session(database=server.database)

What it does not do as Neo4j does is listed in the README beside this file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_process import Running, ServerError, running
from setup_graph import ENVIRONMENT

__all__ = ["GraphServer", "graph_server"]

_PASSWORD = "nothing-secret"  # noqa: S105 (of a server that ends with its block)


@dataclass(frozen=True)
class GraphServer:
    """Where a started server answers. ``pid`` leads its process group."""

    #: As ``bolt://127.0.0.1:<port>``.
    url: str
    port: int
    database: str
    user: str
    password: str
    pid: int


@contextlib.contextmanager
def graph_server(port: int = 0, *, database: str = "local") -> Iterator[GraphServer]:
    """A server with one empty database until the block ends, and its state with it. 0 is any free port.

    Raises ServerError where it is not installed or won't start.
    """
    if not ENVIRONMENT.installed():
        raise ServerError("ArcadeDB is not installed: run `.venv/bin/python localstack/setup_graph.py`")

    def command(bolt: int, http: int) -> Sequence[str]:
        program = Path(__file__).with_name("graph_server.py")
        return [str(ENVIRONMENT.program("python")), str(program), str(bolt), str(http), database]

    env = {"GRAPH_SERVER_PASSWORD": _PASSWORD, "HOME": str(ENVIRONMENT.home)}
    with running("graph", command, _is_ready, ports=(port, 0), env=env) as server:
        yield GraphServer(f"bolt://127.0.0.1:{server.port}", server.port, database, "root", _PASSWORD, server.pid)


def _is_ready(server: Running) -> bool:
    # Its ports answer before its database is there.
    return (server.folder / "ready").exists()

"""local-bigquery, the stand-in for BigQuery, in a process and an environment of its own.

    with bigquery_server() as server:
        client = bigquery.Client(
            project=server.project,
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": server.endpoint},
        )

A program that is told nothing but its environment finds the server by ``BIGQUERY_EMULATOR_HOST=<endpoint>``.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from local_process import LOOPBACK, Running, ServerError, answers, running
from setup_bigquery import ENVIRONMENT

__all__ = ["BigQueryServer", "bigquery_server"]

_ready = answers("/bigquery/v2/projects")


@dataclass(frozen=True)
class BigQueryServer:
    """Where a started server answers. ``pid`` leads its process group."""

    #: REST, as ``http://127.0.0.1:<port>``.
    endpoint: str
    #: The Storage Write and Read APIs, as ``127.0.0.1:<port>``, without TLS.
    grpc_endpoint: str
    project: str
    pid: int


@contextlib.contextmanager
def bigquery_server(
    project: str = "local", *, data: Path | None = None, ports: Sequence[int] = (0, 0)
) -> Iterator[BigQueryServer]:
    """Run local-bigquery until the block ends; its datasets stay in ``data`` where that is given, else they go with it.

    ``ports`` are those of REST and of gRPC, 0 any free one. Raises ServerError where it is not installed or won't start.
    """
    if not ENVIRONMENT.installed():
        raise ServerError("local-bigquery is not installed: run `make setup`")

    def command(rest: int, grpc: int) -> Sequence[str]:
        return [
            *(str(ENVIRONMENT.program("local-bigquery")), "serve", "--host", LOOPBACK, "--project", project),
            *("--port", str(rest), "--grpc-port", str(grpc), "--data-dir", str(data.resolve() if data else "data")),
        ]

    # Its own home, where DuckDB finds its extensions.
    with running("local-bigquery", command, _both_ready, ports=ports, env={"HOME": str(ENVIRONMENT.home)}) as server:
        grpc = server.ports[1]
        yield BigQueryServer(server.endpoint, f"{LOOPBACK}:{grpc}", project, server.pid)


def _both_ready(server: Running) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection((LOOPBACK, server.ports[1]), timeout=2).close()
        return _ready(server)
    return False

"""Tables on local-bigquery, and what the tests of its sinks ask of them."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, cast

from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from streamkit import Refusal, Write

__all__ = ["client_of", "create_table", "ids_in", "kinds", "new_dataset", "rows_in", "soon"]


def client_of(endpoint: str, project: str = "local", credentials: Any = None) -> Any:
    # google-auth and the client's close() have no types.
    return bigquery.Client(
        project=project,
        credentials=credentials or cast(Any, AnonymousCredentials)(),
        client_options={"api_endpoint": endpoint},
    )


@contextlib.contextmanager
def new_dataset(client: Any) -> Iterator[str]:
    """Gone with its tables when the block ends: each one makes all others slower."""
    name = f"sinks_{uuid.uuid4().hex}"
    client.create_dataset(name)
    yield name
    client.delete_dataset(name, delete_contents=True)


def create_table(client: Any, dataset: str, schema: Sequence[Any]) -> str:
    name = f"{dataset}.t_{uuid.uuid4().hex}"
    client.create_table(bigquery.Table(f"{client.project}.{name}", schema=list(schema)))
    return name


def rows_in(client: Any, table: str) -> list[dict[str, Any]]:
    return [dict(row) for row in client.query_and_wait(f"SELECT * FROM {table} ORDER BY id")]


def ids_in(client: Any, table: str) -> list[int]:
    """The ids in the table, each as often as it is there."""
    return [row["id"] for row in rows_in(client, table)]


def kinds(refusals: list[Refusal], writes: list[Write]) -> list[tuple[int, str]]:
    """What was refused: its place among the writes, and how."""
    return sorted((writes.index(refusal.write), refusal.kind) for refusal in refusals)


def soon(seconds: float = 30.0) -> float:
    """A deadline."""
    return time.monotonic() + seconds

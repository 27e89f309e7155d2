"""A table on local-bigquery, and clients of it."""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.cloud import bigquery
from google.cloud.bigquery_storage_v1 import BigQueryWriteClient
from google.cloud.bigquery_storage_v1.services.big_query_write.transports import BigQueryWriteGrpcTransport

from tests.sinks import bigquery_tables

from .world import SCHEMA

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer

__all__ = ["client_of", "new_table", "write_client_of", "written"]


@contextlib.contextmanager
def client_of(server: BigQueryServer) -> Iterator[Any]:
    with contextlib.closing(bigquery_tables.client_of(server.endpoint, server.project)) as client:
        yield client


@contextlib.contextmanager
def write_client_of(endpoint: str) -> Iterator[Any]:
    """A client of the Storage Write API at ``host:port``, without TLS."""
    with grpc.insecure_channel(endpoint) as channel:
        yield cast(Any, BigQueryWriteClient)(transport=BigQueryWriteGrpcTransport(channel=channel))


def new_table(client: Any, schema: Sequence[Any] = SCHEMA) -> str:
    """A table in a dataset of its own: ``dataset.table``."""
    dataset = f"once_{uuid.uuid4().hex}"
    client.create_dataset(dataset)
    client.create_table(bigquery.Table(f"{client.project}.{dataset}.orders", schema=list(schema)))
    return f"{dataset}.orders"


def written(client: Any, table: str) -> Counter[str]:
    """How often each row is in the table, by its id."""
    rows = client.query_and_wait(f"SELECT id, COUNT(*) AS n FROM {table} GROUP BY id")
    return Counter({row.id: row.n for row in rows})

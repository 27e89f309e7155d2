"""BigQuerySink keeps the sinks' contract in both its ways, against local-bigquery."""

from __future__ import annotations

import contextlib
import socket
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery

from streamkit import Write
from streamkit.sinks.bigquery import BigQuerySink
from streamkit.testing.contracts import SinkContract
from tests.exactly_once.server import write_client_of

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer


def client_of(endpoint: str) -> Any:
    # google-auth and the client's close() have no types.
    return bigquery.Client(
        project="local", credentials=cast(Any, AnonymousCredentials)(), client_options={"api_endpoint": endpoint}
    )


class TestBigQuerySink(SinkContract):
    @pytest.fixture
    def sink(self, bigquery_server: BigQueryServer) -> Iterator[BigQuerySink]:
        with contextlib.closing(client_of(bigquery_server.endpoint)) as client:
            dataset = f"contract_{uuid.uuid4().hex}"
            client.create_dataset(dataset)
            table = bigquery.Table(f"local.{dataset}.items", schema=[bigquery.SchemaField("n", "INTEGER")])
            client.create_table(table)
            yield BigQuerySink(f"{dataset}.items", client=client)

    def write(self, sink: BigQuerySink, n: int) -> Write:
        return sink.row({"n": n})

    def delivered(self, sink: BigQuerySink) -> list[int]:
        return [row.n for row in sink._destination.client.query_and_wait(f"SELECT n FROM {sink.table}")]

    def invalid_write(self, sink: BigQuerySink) -> Write:
        return sink.row({"n": "not a number"})

    @contextlib.contextmanager
    def unreachable(self, sink: BigQuerySink) -> Iterator[None]:
        # A port that is taken and not listened on: a connection to it is refused.
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            with contextlib.closing(client_of(f"http://127.0.0.1:{nobody.getsockname()[1]}")) as lost:
                reachable, sink._destination._client = sink._destination._client, lost
                yield
                sink._destination._client = reachable


class TestBigQuerySinkByTheDefaultStream(SinkContract):
    # There are no ids on a default stream.
    takes_effect_once = False

    @pytest.fixture
    def sink(self, bigquery_server: BigQueryServer) -> Iterator[BigQuerySink]:
        with (
            contextlib.closing(client_of(bigquery_server.endpoint)) as client,
            write_client_of(bigquery_server.grpc_endpoint) as write_client,
        ):
            dataset = f"contract_{uuid.uuid4().hex}"
            client.create_dataset(dataset)
            fields = [bigquery.SchemaField("n", "INTEGER"), bigquery.SchemaField("at", "TIME")]
            client.create_table(bigquery.Table(f"local.{dataset}.items", schema=fields))
            yield BigQuerySink(f"{dataset}.items", method="storage-write", client=client, write_client=write_client)

    def write(self, sink: BigQuerySink, n: int) -> Write:
        return sink.row({"n": n})

    def delivered(self, sink: BigQuerySink) -> list[int]:
        return [row.n for row in sink._destination.client.query_and_wait(f"SELECT n FROM {sink.table}")]

    def invalid_write(self, sink: BigQuerySink) -> Write:
        # Text is all that the format asks of a TIME: it is the server that refuses this one.
        return sink.row({"n": 1, "at": "never"})

    @contextlib.contextmanager
    def unreachable(self, sink: BigQuerySink) -> Iterator[None]:
        # A port that is taken and not listened on: a connection to it is refused.
        stream = cast(Any, sink._default_stream)
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            with write_client_of(f"127.0.0.1:{nobody.getsockname()[1]}") as lost:
                reachable, stream.streams._client = stream.streams._client, lost
                yield
                stream.streams._client = reachable

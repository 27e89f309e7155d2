"""moto, OpenSearch, local-bigquery and ArcadeDB, as the local cloud starts them."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import boto3
import local_environment
import neo4j
import pytest
import setup_bigquery
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from local_bigquery import bigquery_server as run_bigquery
from local_graph import graph_server as run_graph
from local_moto import moto_server
from local_opensearch import opensearch_server
from local_process import ServerError
from opensearchpy import OpenSearch

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer
    from local_graph import GraphServer


def assert_loopback_only(endpoint: str) -> None:
    port = int(endpoint.rpartition(":")[2])
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    # Another address of this machine, which a server that listens on all of them would answer.
    with pytest.raises(OSError, match=r"refused|assign|unreachable|timed out"):
        socket.create_connection(("127.0.0.2", port), timeout=5)


def aws(service: str, endpoint: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="local",
    )


def client_of(server: BigQueryServer) -> Any:
    # google-auth and the client's close() have no types.
    return bigquery.Client(
        project=server.project,
        credentials=cast(Any, AnonymousCredentials)(),
        client_options={"api_endpoint": server.endpoint},
    )


@pytest.mark.parametrize(
    ("service", "operation"),
    [
        ("kinesis", "list_streams"),
        ("sqs", "list_queues"),
        ("sns", "list_topics"),
        ("s3", "list_buckets"),
        ("dynamodb", "list_tables"),
    ],
)
def test_moto_answers_for_each_service(moto_endpoint: str, service: str, operation: str) -> None:
    client = aws(service, moto_endpoint)
    assert getattr(client, operation)()["ResponseMetadata"]["HTTPStatusCode"] == 200
    client.close()


def test_moto_listens_on_loopback_only(moto_endpoint: str) -> None:
    assert_loopback_only(moto_endpoint)


def test_moto_runs_in_a_process_of_its_own() -> None:
    with moto_server() as moto:
        assert_loopback_only(moto.endpoint)
        client = aws("kinesis", moto.endpoint)
        client.create_stream(StreamName="orders", ShardCount=2)
        assert client.list_streams()["StreamNames"] == ["orders"]
        client.close()


def test_opensearch_runs_in_a_process_of_its_own_and_is_empty() -> None:
    with opensearch_server() as first, opensearch_server() as second:
        assert_loopback_only(first.endpoint)
        for server, found in ((first, True), (second, False)):
            with OpenSearch(hosts=[server.endpoint]) as client:
                if server is first:
                    client.index(index="orders", id="a", body={"n": 1})
                assert client.exists(index="orders", id="a") is found
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", first.port), timeout=5)


def test_bigquery_listens_on_loopback_only(bigquery_server: BigQueryServer) -> None:
    assert_loopback_only(bigquery_server.endpoint)
    assert_loopback_only(bigquery_server.grpc_endpoint)


def test_bigquery_answers_queries(bigquery_server: BigQueryServer) -> None:
    client = client_of(bigquery_server)
    assert [row.n for row in client.query_and_wait("SELECT 1 + 1 AS n")] == [2]
    client.close()


def test_bigquery_starts_again_where_it_was_with_the_data_that_it_had(tmp_path: Path) -> None:
    with run_bigquery(data=tmp_path / "data") as server:
        client = client_of(server)
        client.create_dataset("kept")
        client.close()
    rest, grpc = (int(endpoint.rpartition(":")[2]) for endpoint in (server.endpoint, server.grpc_endpoint))

    with run_bigquery(data=tmp_path / "data", ports=(rest, grpc)) as again:
        assert (again.endpoint, again.grpc_endpoint) == (server.endpoint, server.grpc_endpoint)
        client = client_of(again)
        assert "kept" in [dataset.dataset_id for dataset in client.list_datasets()]
        client.close()


def test_the_graph_database_listens_on_loopback_only_and_is_empty(graph_server: GraphServer) -> None:
    assert_loopback_only(graph_server.url)
    with run_graph(database="another") as server:
        auth = server.user, server.password
        with neo4j.GraphDatabase.driver(server.url, auth=auth) as driver:
            assert driver.execute_query("MATCH (n) RETURN n", database_="another").records == []
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_a_graph_database_that_is_not_installed_says_what_to_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(local_environment, "LOCAL", tmp_path)
    with pytest.raises(ServerError, match="setup_graph"), run_graph():
        raise AssertionError("it is not running")


def test_bigquery_that_is_not_installed_says_what_to_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local_environment, "LOCAL", tmp_path)
    with pytest.raises(ServerError, match="make setup"), run_bigquery():
        raise AssertionError("it is not running")


def test_a_python_3_13_is_found_where_it_is_not_on_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = setup_bigquery.ENVIRONMENT.find_python()
    assert python is not None
    kept = tmp_path / "versions" / "3.13.99" / "bin"
    kept.mkdir(parents=True)
    (kept / "python3.13").symlink_to(python)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    assert setup_bigquery.ENVIRONMENT.find_python() == str(kept / "python3.13")


def test_the_folder_is_no_package_that_could_hide_the_one_of_localstack() -> None:
    assert not (Path(local_environment.__file__).parent / "__init__.py").exists()

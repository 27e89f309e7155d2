"""The servers behind the matrix, each with its proxy, started when a row first asks for it."""

from __future__ import annotations

import contextlib
import json
import urllib.request
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.sinks.aws_proxy import client_of

from .bolt_proxy import BoltProxy
from .grpc_proxy import GrpcProxy
from .http_proxy import HttpProxy

if TYPE_CHECKING:
    from cloudsearch import CloudSearchServer
    from local_bigquery import BigQueryServer
    from local_graph import GraphServer
    from local_process import Running

    from tests.sinks.graphs import Graph

__all__ = ["Cloud"]


class Cloud:
    """One for each test file. ``use`` has backends make their own clients, through the proxies."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._proxies: dict[str, Any] = {}
        self._opened = contextlib.ExitStack()
        self._clients: dict[str, Any] = {}
        self._rows: dict[Any, Any] = {}
        self._search: CloudSearchServer | None = None
        self._index: Running | None = None
        self._graph: Graph | None = None

    def row(self, made_of: Any) -> Any:
        """The row, which its cells share: one destination and one set of clients."""
        if made_of not in self._rows:
            self._rows[made_of] = made_of(self)
        return self._rows[made_of]

    def use(self, environment: pytest.MonkeyPatch) -> None:
        """Point this process's environment at the proxies."""
        self._environment = environment
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            environment.setenv(name, "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.delenv("AWS_PROFILE", raising=False)

    def close(self) -> None:
        for row in self._rows.values():
            row.close()
        for proxy in self._proxies.values():
            proxy.close()
        for client in self._clients.values():
            client.close()
        self._opened.close()

    def errors(self) -> list[BaseException]:
        """What went wrong in the proxies themselves."""
        return [error for proxy in self._proxies.values() for error in proxy.errors]

    # AWS

    @property
    def moto(self) -> str:
        endpoint: str = self._request.getfixturevalue("moto_endpoint")
        return endpoint

    @property
    def aws(self) -> HttpProxy:
        proxy: HttpProxy = self._proxy("aws", lambda: HttpProxy(self.moto))
        self._environment.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        return proxy

    def client(self, service: str) -> Any:
        """Straight to moto."""
        if service not in self._clients:
            self._clients[service] = client_of(self.moto, service)
        return self._clients[service]

    def queue(self, *, fifo: bool = False) -> str:
        name = uuid.uuid4().hex + (".fifo" if fifo else "")
        url: str = self.client("sqs").create_queue(QueueName=name, Attributes={"FifoQueue": "true"} if fifo else {})[
            "QueueUrl"
        ]
        return url

    def arn_of(self, url: str) -> str:
        attributes = self.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return str(attributes["Attributes"]["QueueArn"])

    def topic(self, url: str) -> str:
        """A topic to which the queue at ``url`` subscribes, FIFO where that is."""
        fifo = url.endswith(".fifo")
        arn: str = self.client("sns").create_topic(
            Name=uuid.uuid4().hex + (".fifo" if fifo else ""), Attributes={"FifoTopic": "true"} if fifo else {}
        )["TopicArn"]
        self.client("sns").subscribe(
            TopicArn=arn, Protocol="sqs", Endpoint=self.arn_of(url), Attributes={"RawMessageDelivery": "true"}
        )
        return arn

    def received(self, url: str) -> list[Any]:
        """The bodies in a queue, taken out of it."""
        sqs, bodies = self.client("sqs"), []
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                bodies.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return bodies

    def function(self) -> str:
        """A function that moto takes invocations for, and runs none of."""
        without_docker = json.dumps({"lambda": {"use_docker": False}}).encode()
        urllib.request.urlopen(f"{self.moto}/moto-api/config", without_docker).close()
        name = uuid.uuid4().hex
        role = self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        self.client("lambda").create_function(
            FunctionName=name, Role=role, Runtime="python3.12", Handler="f.f", Code={"ZipFile": b"zip"}
        )
        return name

    # BigQuery

    @property
    def bigquery_server(self) -> BigQueryServer:
        server: BigQueryServer = self._request.getfixturevalue("bigquery_server")
        return server

    @property
    def bigquery(self) -> HttpProxy:
        proxy: HttpProxy = self._proxy("bigquery", lambda: HttpProxy(self.bigquery_server.endpoint))
        self._environment.setenv("BIGQUERY_EMULATOR_HOST", proxy.endpoint)
        return proxy

    @property
    def bigquery_storage(self) -> GrpcProxy:
        proxy: GrpcProxy = self._proxy("bigquery_storage", lambda: GrpcProxy(self.bigquery_server.grpc_endpoint))
        self._environment.setenv("BIGQUERY_EMULATOR_HOST", self.bigquery_server.endpoint)
        self._environment.setenv("BIGQUERY_STORAGE_EMULATOR_HOST", proxy.endpoint)
        return proxy

    @property
    def bigquery_client(self) -> Any:
        """Straight to the server."""
        if "bigquery" not in self._clients:
            from tests.exactly_once.server import client_of

            self._clients["bigquery"] = self._opened.enter_context(client_of(self.bigquery_server))
        return self._clients["bigquery"]

    def table(self, column: str, kind: str) -> str:
        """A table of one column: ``project.dataset.table``."""
        from google.cloud import bigquery

        client, dataset = self.bigquery_client, f"faults_{uuid.uuid4().hex}"
        client.create_dataset(dataset)
        name = f"{client.project}.{dataset}.items"
        client.create_table(bigquery.Table(name, schema=[bigquery.SchemaField(column, kind)]))
        return name

    def counted(self, table: str, column: str) -> Counter[Any]:
        rows = self.bigquery_client.query_and_wait(f"SELECT {column} AS v, COUNT(*) AS n FROM {table} GROUP BY v")
        return Counter({row.v: row.n for row in rows})

    # CloudSearch

    @property
    def search(self) -> CloudSearchServer:
        if self._search is None:
            from cloudsearch import CloudSearchServer

            self._search = self._opened.enter_context(CloudSearchServer({"n": "int", "version": "int"}))
        return self._search

    @property
    def cloudsearch(self) -> HttpProxy:
        proxy: HttpProxy = self._proxy("cloudsearch", lambda: HttpProxy(self.search.endpoint))
        return proxy

    # OpenSearch

    @property
    def index(self) -> Running:
        if self._index is None:
            from local_opensearch import opensearch_server

            self._index = self._opened.enter_context(opensearch_server())
        return self._index

    @property
    def opensearch(self) -> HttpProxy:
        proxy: HttpProxy = self._proxy("opensearch", lambda: HttpProxy(self.index.endpoint))
        return proxy

    @property
    def opensearch_client(self) -> Any:
        if "opensearch" not in self._clients:
            from opensearchpy import OpenSearch

            self._clients["opensearch"] = OpenSearch(hosts=[self.index.endpoint])
        return self._clients["opensearch"]

    # A graph database

    @property
    def graph_server(self) -> GraphServer:
        server: GraphServer = self._request.getfixturevalue("graph_server")
        return server

    @property
    def graph_proxy(self) -> BoltProxy:
        proxy: BoltProxy = self._proxy("graph", lambda: BoltProxy(self.graph_server.port))
        return proxy

    @property
    def graph(self) -> Graph:
        """Straight to the server, with a label of the matrix's own."""
        if self._graph is None:
            from tests.sinks.graphs import Graph

            self._graph = self._opened.enter_context(Graph(self.graph_server))
        return self._graph

    def _proxy(self, name: str, make: Any) -> Any:
        if name not in self._proxies:
            self._proxies[name] = make()
        return self._proxies[name]

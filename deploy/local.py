"""The stage ``local``: the templates' own stacks on LocalStack, which runs the packages in AWS's own runtime client.

    with local_stage() as stage: ...

BigQuery is local-bigquery, OpenSearch osmem-server, and CloudSearch the stand-in of localstack/. Everything else is what
`./build.sh deploy` makes on AWS, but for CodeDeploy, which LocalStack does not have: an alias moves at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "localstack"))

import boto3
from cloudsearch import CloudSearchServer
from local_bigquery import bigquery_server
from local_localstack import SOONER, localstack_server
from local_opensearch import opensearch_server

from streamkit.packaging import PackagingError

from .conditions import without_what_is_left_out
from .package import DIST, package_all
from .runtime import RUNTIME
from .stack import AWS, Deployer, Settings
from .validate import SAM, transformed

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer
    from local_process import Running

__all__ = ["FIELDS", "LocalStage", "local_stage", "make_table"]

#: The search domain, and the table, of the functions below.
FIELDS = {"iata": "literal", "name": "text", "city": "text", "state": "literal"}
_TABLE = "local.shop.flights"
_SCHEMA = (("id", "STRING", "REQUIRED"), ("origin", "STRING", "REQUIRED"), ("delay", "INTEGER", "NULLABLE"))
_ROW = json.dumps({name: name for name, _, _ in _SCHEMA})
#: Those of the OpenSearch index, which refuses a document that does not fit.
_MAPPINGS = {"dynamic": "strict", "properties": {"iata": {"type": "keyword"}, "name": {"type": "text"}}}


@dataclass(frozen=True)
class LocalStage:
    """``session`` is boto3's; ``search`` can be told to fail; ``index`` is OpenSearch; ``pings`` are the paths that the switch
    was asked for.
    """

    session: Any
    settings: Settings
    bigquery: BigQueryServer
    search: CloudSearchServer
    index: Running
    pings: list[str]


@contextlib.contextmanager
def local_stage(packages: Path | None = None, only: Collection[str] = ()) -> Iterator[LocalStage]:
    """Build the packages (or take those in ``packages``), start the servers, deploy; all of it ends with the block.

    ``only`` names the functions to deploy: all of them by default.
    """
    SAM.set_up(lambda _: None)
    RUNTIME.set_up(lambda _: None)
    architecture = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    if packages is None and not package_all(architectures=[architecture]):
        raise PackagingError(
            "a package is larger than it may be: deploy/package.py says how large that is, and what to leave out"
        )
    with contextlib.ExitStack() as servers:
        bigquery = servers.enter_context(bigquery_server("local"))
        search = servers.enter_context(CloudSearchServer(FIELDS, suggesters={"names": "name"}))
        index = servers.enter_context(opensearch_server())
        switch, pings = servers.enter_context(_dead_mans_switch())
        make_table(bigquery)
        passed = {
            "FUNCTION_ENV_BIGQUERY_EMULATOR_HOST": bigquery.endpoint,
            "FUNCTION_ENV_BIGQUERY_STORAGE_EMULATOR_HOST": bigquery.grpc_endpoint,
        }
        localstack = servers.enter_context(localstack_server(env=SOONER | passed))
        servers.enter_context(_environment(AWS_ENDPOINT_URL=localstack.endpoint))
        session = boto3.session.Session(
            aws_access_key_id="nobody", aws_secret_access_key="nothing", region_name="us-east-1"
        )
        settings = _settings(session, search.endpoint, index.endpoint, f"{switch}/flights?{{shard}}")
        if only:
            settings = Settings(settings.stream, {name: settings.functions[name] for name in only}, settings.beside)
        aws = AWS(session, _for_localstack, architecture, poll=0.5)
        Deployer(aws, "local", packages or DIST).deploy(settings)
        yield LocalStage(session, settings, bigquery, search, index, pings)


def _settings(session: Any, search: str, index: str, switch: str) -> Settings:
    sqs = session.client("sqs")
    orders = sqs.create_queue(QueueName="orders")["QueueUrl"]
    target = sqs.get_queue_attributes(QueueUrl=orders, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    quick = {"TimeoutSeconds": "30", "BatchWindowSeconds": "0", "RetryBackoffSeconds": "1"}
    rows = quick | {"Function": "bigquery", "BigQueryTable": _TABLE, "Row": _ROW}
    return Settings(
        {"Shards": "2"},
        {
            "flights": rows | {"Filter": _only("flight"), "HeartbeatUrl": switch},
            # Under Block, and given up by Lambda.
            "strict": rows | {"RetriesBy": "none", "DeleteAfterRetries": "2", "Filter": _only("strict")},
            "exact": rows | {"Function": "bigquery-exactly-once", "RetriesBy": "none", "Filter": _only("exact")},
            "parked": rows | {"RetriesBy": "park", "Filter": _only("parked")},
            "by-topic": rows | {"RetriesBy": "topic", "Filter": _only("by-topic")},
            "airports": quick
            | {
                "Function": "cloudsearch",
                "SearchEndpoint": search,
                "SearchDomain": "airports",
                "DocumentId": "iata",
                "Filter": _only("airport"),
                "Document": json.dumps({name: name for name in FIELDS}),
            },
            "places": quick
            | {
                "Function": "opensearch",
                "SearchEndpoint": index,
                "SearchDomain": "places",
                "SearchIndex": "places",
                "IndexTemplate": json.dumps({"template": {"mappings": _MAPPINGS}}),
                "DocumentId": "iata",
                "DocumentVersion": "updated_at",
                "Filter": _only("place"),
                "Document": json.dumps({"iata": "iata", "name": "name"}),
            },
            "fan": quick
            | {
                "Function": "fanout",
                "Targets": target,
                "Filter": _only("order"),
                "Routes": json.dumps([{"name": "orders", "to": target}]),
            },
        },
        {
            "heartbeat": {},
            # LocalStack has no HTTP APIs and leaves that out: the function is asked by API Gateway's events.
            "search-api": {
                "SearchEndpoint": search,
                "SearchDomain": "airports",
                "Fields": json.dumps(FIELDS),
                "Suggest": "names",
            },
        },
    )


@contextlib.contextmanager
def _dead_mans_switch() -> Iterator[tuple[str, list[str]]]:
    """Its URL, and the paths that it is asked for."""
    pings: list[str] = []

    class Switch(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            pings.append(self.path)
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002  # Its base names it.

    server = ThreadingHTTPServer(("127.0.0.1", 0), Switch)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", pings
    finally:
        server.shutdown()
        server.server_close()


def _only(kind: str) -> str:
    return json.dumps({"data": {"type": [kind]}})


def _for_localstack(template: Path, parameters: Mapping[str, str]) -> str:
    """LocalStack's own SAM is older; what SAM made here is small enough for a request without its spaces."""
    if template.name in ("stream.yaml", "code.yaml"):
        return template.read_text()
    made = without_what_is_left_out(transformed(template, **parameters), parameters)
    return json.dumps(made, separators=(",", ":"))


def make_table(server: BigQueryServer) -> str:
    """Make the table of the functions here: its name."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    client: Any = bigquery.Client(
        project="local",
        credentials=cast(Any, AnonymousCredentials)(),
        client_options={"api_endpoint": server.endpoint},
    )
    client.create_dataset(_TABLE.split(".")[1])
    client.create_table(
        bigquery.Table(_TABLE, [bigquery.SchemaField(*column[:2], mode=column[2]) for column in _SCHEMA])
    )
    client.close()
    return _TABLE


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

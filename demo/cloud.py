"""The cloud that the events go through, on this machine: Kinesis and SQS, BigQuery, CloudSearch, each a child process."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parent.parent
# A folder of modules, and not a package: localstack/README.md says why.
sys.path.insert(0, str(ROOT / "localstack"))

import boto3  # noqa: E402
from google.auth.credentials import AnonymousCredentials  # noqa: E402
from google.cloud import bigquery  # noqa: E402
from local_bigquery import bigquery_server  # noqa: E402
from local_moto import moto_server  # noqa: E402
from local_process import Running, answers, running  # noqa: E402
from localstack_client.session import Session  # noqa: E402

__all__ = ["ROOT", "VISIBILITY", "Cloud", "Queues", "Streams", "local_cloud", "local_streams"]

SHARDS = {"flights": 4, "airports": 1}
TABLE = "demo.flights"
_SCHEMA = (
    ("departure", "STRING", "REQUIRED"),
    ("delay", "INTEGER", "REQUIRED"),
    ("distance", "INTEGER", "NULLABLE"),
    ("origin", "STRING", "REQUIRED"),
    ("destination", "STRING", "NULLABLE"),
)
_FIELDS = {
    "iata": "literal",
    "name": "text",
    "name_exact": "literal",
    "city": "text",
    "state": "literal",
    "country": "literal",
    "latitude": "double",
    "longitude": "double",
}
# As long as a function may take: a message that a killed reader had in hand comes again after that.
VISIBILITY = 30
# Credentials of no account, for a cloud that asks for some; and no proxy between this machine and itself.
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


@dataclass(frozen=True)
class Queues:
    """The URLs of a function's two queues."""

    retries: str
    dead_letters: str


@dataclass(frozen=True)
class Streams:
    """Kinesis and SQS, with the streams of the events and the queues of their functions."""

    kinesis: Any
    sqs: Any
    queues: dict[str, Queues]
    #: What a function's environment has to say to find the servers.
    environment: dict[str, str]

    def waiting(self, queue: str) -> int:
        """How many messages a queue holds, those that are being worked on included."""
        names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
        attributes = self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
        return sum(int(attributes[name]) for name in names)

    def messages(self, queue: str) -> list[str]:
        """The bodies of all messages of a queue."""
        bodies: list[str] = []
        while received := self.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, VisibilityTimeout=3600).get(
            "Messages"
        ):
            bodies += (message["Body"] for message in received)
        return bodies


@dataclass(frozen=True)
class Cloud(Streams):
    """Those, and where the events of both streams end."""

    warehouse: Any
    search: Any

    def rows(self) -> int:
        """How many rows the table has."""
        return int(self.query(f"SELECT COUNT(*) AS n FROM {TABLE}")[0].n)  # noqa: S608 (a name of ours)

    def query(self, sql: str) -> list[Any]:
        return list(self.warehouse.query_and_wait(sql))

    def documents(self) -> int:
        """How many documents a search for everything finds."""
        answer = self.search.search(query="matchall", queryParser="structured", size=0)
        return int(answer["hits"]["found"])


@contextlib.contextmanager
def local_streams(aws: Callable[[], contextlib.AbstractContextManager[Running]] = moto_server) -> Iterator[Streams]:
    """Start Kinesis and SQS by ``aws``, with empty streams and queues; they end with the block, and leave nothing."""
    # The owner's own AWS settings, from which a profile or an endpoint might come, are not for this.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(_ENVIRONMENT)
    with contextlib.ExitStack() as stack:
        endpoint = stack.enter_context(aws()).endpoint
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        session = Session()
        kinesis = stack.enter_context(contextlib.closing(session.client("kinesis")))
        sqs = stack.enter_context(contextlib.closing(session.client("sqs")))
        for stream, shards in SHARDS.items():
            kinesis.create_stream(StreamName=stream, ShardCount=shards)
        for stream in SHARDS:
            kinesis.get_waiter("stream_exists").wait(StreamName=stream, WaiterConfig={"Delay": 1})

        def queue(name: str) -> str:
            url: str = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": str(VISIBILITY)})["QueueUrl"]
            return url

        queues = {stream: Queues(queue(f"{stream}-retries"), queue(f"{stream}-dead-letters")) for stream in SHARDS}
        yield Streams(kinesis, sqs, queues, {"AWS_ENDPOINT_URL": endpoint})


@contextlib.contextmanager
def local_cloud(aws: Callable[[], contextlib.AbstractContextManager[Running]] = moto_server) -> Iterator[Cloud]:
    """``local_streams``, and an empty table and domain beside them."""
    with contextlib.ExitStack() as stack:
        streams = stack.enter_context(local_streams(aws))
        warehouse_server = stack.enter_context(bigquery_server())
        domain = stack.enter_context(running("cloudsearch", _cloudsearch, answers()))
        # A domain has an endpoint of its own.
        search = stack.enter_context(
            contextlib.closing(boto3.client("cloudsearchdomain", endpoint_url=domain.endpoint))
        )
        warehouse = stack.enter_context(
            contextlib.closing(
                cast(Any, bigquery.Client)(
                    project=warehouse_server.project,
                    credentials=cast(Any, AnonymousCredentials)(),
                    client_options={"api_endpoint": warehouse_server.endpoint},
                )
            )
        )
        warehouse.create_dataset(TABLE.partition(".")[0])
        schema = [bigquery.SchemaField(name, kind, mode=mode) for name, kind, mode in _SCHEMA]
        warehouse.create_table(bigquery.Table(f"{warehouse.project}.{TABLE}", schema=schema))
        environment = {
            **streams.environment,
            "BIGQUERY_EMULATOR_HOST": warehouse_server.endpoint,
            "BIGQUERY_TABLE": f"{warehouse.project}.{TABLE}",
            "SEARCH_ENDPOINT": domain.endpoint,
        }
        yield Cloud(streams.kinesis, streams.sqs, streams.queues, environment, warehouse, search)


def _cloudsearch(port: int) -> Sequence[str]:
    fields = ",".join(f"{name}={kind}" for name, kind in _FIELDS.items())
    return [sys.executable, str(ROOT / "localstack" / "cloudsearch.py"), "--port", str(port), "--fields", fields]

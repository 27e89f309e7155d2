"""A deployed stage, seen from outside: its stream, its search domain and index, its table, its queues.

Nothing here imports streamkit.
"""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

__all__ = ["World", "aws_world", "local_world"]

T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """``functions`` has the parameters of each; ``breakable`` is the search domain where it can be told to fail."""

    stage: str
    session: Any
    functions: Mapping[str, Mapping[str, str]]
    warehouse: Any
    search: Any
    breakable: Any = None
    #: A client of OpenSearch, where one is here.
    index: Any = None
    #: The paths that a dead man's switch was asked for, where one is here.
    pings: Sequence[str] | None = None
    #: Variables that name the services of this machine which no client finds by itself.
    emulators: Mapping[str, str] = field(default_factory=dict)

    def publish(self, *events: Mapping[str, Any], key: str = "") -> None:
        """Each under its own key, or all under one."""
        kinesis = self.session.client("kinesis")
        for n in range(0, len(events), 500):
            records = [
                {"Data": json.dumps(event).encode(), "PartitionKey": key or str(event.get("id", event.get("iata")))}
                for event in events[n : n + 500]
            ]
            while records:
                answer = kinesis.put_records(StreamName=f"streamkit-{self.stage}", Records=records)
                records = [
                    record for record, result in zip(records, answer["Records"], strict=True) if "ErrorCode" in result
                ]

    def rows(self, function: str, prefix: str) -> list[str]:
        """The ids in the function's table that begin so, in order, each as often as it is there."""
        from google.cloud import bigquery

        table = self.functions[function]["BigQueryTable"]
        options = bigquery.QueryJobConfig(
            query_parameters=[bigquery.ScalarQueryParameter("prefix", "STRING", f"{prefix}%")], use_query_cache=False
        )
        query = f"SELECT id FROM `{table}` WHERE id LIKE @prefix ORDER BY id"
        return [row.id for row in self.warehouse.query_and_wait(query, job_config=options)]

    def found(self, text: str) -> list[str]:
        """The ids of the documents that a search for ``text`` finds."""
        answer = self.search.search(query=text, queryParser="simple", size=1000)
        return sorted(hit["id"] for hit in answer["hits"]["hit"])

    def indexed(self, function: str, text: str) -> dict[str, dict[str, Any]]:
        """The documents of the function's index that have the word ``text`` in their name, by their ids."""
        index = self.functions[function]["SearchIndex"]
        if not self.index.indices.exists(index=index):
            return {}
        self.index.indices.refresh(index=index)
        answer = self.index.search(index=index, body={"query": {"match": {"name": text}}, "size": 1000})
        return {hit["_id"]: hit["_source"] for hit in answer["hits"]["hits"]}

    def output(self, function: str, name: str) -> str:
        """An output of the function's stack."""
        stack = f"streamkit-{self.stage}-{function}"
        (found,) = self.session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        value: str = {one["OutputKey"]: one["OutputValue"] for one in found["Outputs"]}[name]
        return value

    def environment(self, function: str) -> dict[str, str]:
        """The variables that the deployed function has: one of the stage's, its ``-dead-letters``, or ``heartbeat``."""
        name = f"streamkit-{self.stage}-{function}"
        functions = self.session.client("lambda")
        version = "$LATEST"
        if function in self.functions:
            # LocalStack knows a version's settings, and no alias's.
            version = functions.get_alias(FunctionName=name, Name="live")["FunctionVersion"]
        found = functions.get_function_configuration(FunctionName=name, Qualifier=version)
        variables: dict[str, str] = found["Environment"]["Variables"]
        return variables

    def messages(self, url: str, text: str = "") -> list[dict[str, Any]]:
        """What is in a queue now and has ``text`` in it, as JSON; it is deleted. The rest is somebody else's, and stays."""
        sqs, found = self.session.client("sqs"), []
        seen: set[str] = set()
        while messages := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=5).get(
            "Messages"
        ):
            if seen >= {message["MessageId"] for message in messages}:
                break
            for message in messages:
                seen.add(message["MessageId"])
                event = json.loads(message["Body"])
                if text in _opened(event):
                    found.append(event)
                    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found

    def items(self, function: str, table: str) -> list[dict[str, Any]]:
        """All items of the table that is an output of the function's stack, as DynamoDB has them."""
        name = self.output(function, table)
        found: list[dict[str, Any]] = self.session.client("dynamodb").scan(TableName=name, ConsistentRead=True)["Items"]
        return found

    def dead_letters(self, function: str, text: str = "") -> list[dict[str, Any]]:
        """Those with ``text`` in their event, or where they came from."""
        return self.messages(self.output(function, "DeadLetters"), text)


def _opened(message: dict[str, Any]) -> str:
    """All of its text, with the event that is in it."""
    inner = message["Records"][0]["Sns"]["Message"] if "Records" in message else ""
    envelope = json.loads(inner) if inner else message
    data = base64.b64decode(envelope["data"]).decode() if isinstance(envelope.get("data"), str) else ""
    return f"{json.dumps(message)} {data}"


def eventually(look: Callable[[], T], is_there: Callable[[T], bool], within: float = 60.0) -> T:
    """What ``look`` sees, as soon as it is what is waited for; after so many seconds whatever it is."""
    until = time.monotonic() + within
    while True:
        seen = look()
        if is_there(seen) or time.monotonic() > until:
            return seen
        time.sleep(0.3)


@contextlib.contextmanager
def local_world(functions: Collection[str] = ()) -> Iterator[World]:
    """The stage ``local``, with these functions or all."""
    import boto3
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery
    from opensearchpy import OpenSearch

    from deploy.local import local_stage

    with local_stage(only=functions) as stage, OpenSearch(hosts=[stage.index.endpoint]) as index:
        warehouse: Any = bigquery.Client(
            project="local",
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # google-auth's fault
            client_options={"api_endpoint": stage.bigquery.endpoint},
        )
        search = boto3.client(
            "cloudsearchdomain",
            endpoint_url=stage.search.endpoint,
            region_name="us-east-1",
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
        )
        emulators = {
            "BIGQUERY_EMULATOR_HOST": stage.bigquery.endpoint,
            "BIGQUERY_STORAGE_EMULATOR_HOST": stage.bigquery.grpc_endpoint,
        }
        functions = stage.settings.functions
        yield World("local", stage.session, functions, warehouse, search, stage.search, index, stage.pings, emulators)


@contextlib.contextmanager
def aws_world(stage: str, region: str, profile: str) -> Iterator[World]:
    """A stage on AWS, with the functions ``flights`` and ``airports`` of deploy/stages; BigQuery by its defaults."""
    from google.cloud import bigquery

    from deploy.stack import DeploymentError, session_of, settings_of

    try:
        session = session_of(region, profile)
    except DeploymentError as error:
        pytest.exit(str(error), returncode=1)
    functions = settings_of(stage).functions
    warehouse = bigquery.Client(project=functions["flights"]["BigQueryTable"].split(".")[0])
    domain = session.client("cloudsearch").describe_domains(DomainNames=[functions["airports"]["SearchDomain"]])
    endpoint = domain["DomainStatusList"][0]["SearchService"]["Endpoint"]
    search = session.client("cloudsearchdomain", endpoint_url=f"https://{endpoint}")
    yield World(stage, session, functions, warehouse, search)

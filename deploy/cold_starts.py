"""python -m deploy.cold_starts: from the start of a process to its first answer, for each package, in AWS's own runtime client.

Each package is unzipped, and awslambdaric runs it as Lambda does, with the runtime's own boto3. Three answers are timed: to a
warm-up ping, which takes the imports of the handler alone; to a first batch, which is written to a server here and takes
what the sink imports; and to a second batch. Then the same without bytecode. Then, in the same folders, a handler that imports
nothing but one of the libraries that the first batch did import, to its first answer: with that import and without.
The figures are medians; the ratio to a handler that imports nothing is what can be compared between machines.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "localstack"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "localstack" / "host_mode"))

from cloudsearch import CloudSearchServer
from local_bigquery import bigquery_server
from local_graph import graph_server
from local_moto import moto_server
from local_opensearch import opensearch_server
from localstack_host_mode.runtime_api import Invocation, RuntimeApi

from streamkit.testing import kinesis_event, s3_event

from .local import FIELDS, make_table
from .package import DIST, FUNCTIONS, package_all
from .runtime import RUNTIME

__all__: list[str] = []

_ROUNDS = 9
_PING = b'{"source": "serverless-plugin-warmup"}'
_NOTHING = "def handler(event, context):\n    return {}\n"
#: What is asked about by name: the heaviest of each function.
_LIBRARIES = (
    "streamkit",
    "boto3",
    "botocore",
    "google.cloud.bigquery",
    "google.cloud.bigquery_storage_v1",
    "grpc",
    "neo4j",
    "cryptography",
    "tenacity",
)
_RUNTIMES = ("boto3", "botocore")


class Start:
    """A function's process in the runtime client. Times are in milliseconds since it was started."""

    def __init__(self, code: Path, handler: str, environment: Mapping[str, str]) -> None:
        self._api = RuntimeApi()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # end() closes it.
        self._began = time.perf_counter()
        self._process = subprocess.Popen(
            [str(RUNTIME.program("python")), "-m", "awslambdaric", handler],
            cwd=code,
            env={"PATH": os.environ["PATH"], "AWS_LAMBDA_RUNTIME_API": self._api.address, **environment},
            stdout=subprocess.DEVNULL,
            stderr=self._said,
        )

    def answer(self, event: bytes) -> float:
        """RuntimeError where it is no answer but an error: a figure of a function that fails is none."""
        self._api.invoke(Invocation("id", "arn:aws:lambda:us-east-1:0:function:f", event, time.time() + 60))
        answer = self._api.answer(60)
        took = (time.perf_counter() - self._began) * 1000
        if answer is None or answer.is_error or b"itemIdentifier" in answer.payload:
            raise RuntimeError(f"the function has failed: {answer}")
        return took

    def end(self) -> str:
        """What it has said to stderr."""
        self._process.kill()
        self._process.wait()
        self._api.close()
        with self._said as said:
            said.seek(0)
            return said.read().decode(errors="replace")


def measure(code: Path, handler: str, environment: Mapping[str, str], events: list[bytes]) -> list[float]:
    """The medians of the times to each answer, each in a process of its own; the last two events in one."""
    times: list[list[float]] = [[] for _ in events]
    for _ in range(_ROUNDS):
        ping = Start(code, handler, environment)
        times[0].append(ping.answer(events[0]))
        ping.end()
        if len(events) > 1:
            batch = Start(code, handler, environment)
            first = batch.answer(events[1])
            times[1].append(first)
            times[2].append(batch.answer(events[2]) - first)
            batch.end()
    return [statistics.median(one) for one in times]


def imported(code: Path, handler: str, environment: Mapping[str, str], event: bytes) -> list[str]:
    """Which of the libraries were imported by the time of the answer to ``event``."""
    start = Start(code, handler, {**environment, "PYTHONPROFILEIMPORTTIME": "1"})
    start.answer(event)
    names = {line.split("|")[-1].strip() for line in start.end().splitlines() if line.startswith("import time:")}
    # What was tried and is not there has a line, too.
    return [one for one in _LIBRARIES if one in names and (code.joinpath(*one.split(".")).is_dir() or one in _RUNTIMES)]


@contextlib.contextmanager
def services() -> Iterator[tuple[dict[str, dict[str, str]], Any]]:
    """The variables of each function, for servers that run; and a client of their Kinesis."""
    with (
        bigquery_server("local") as warehouse,
        CloudSearchServer(FIELDS) as search,
        opensearch_server() as index,
        graph_server() as graph,
        moto_server() as moto,
    ):
        table = make_table(warehouse)
        aws = {
            "AWS_ENDPOINT_URL": moto.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_LAMBDA_FUNCTION_NAME": "f",
            "no_proxy": "127.0.0.1",
        }
        import boto3

        session = boto3.session.Session(
            aws_access_key_id="nobody", aws_secret_access_key="nothing", region_name="us-east-1"
        )
        queue = session.client("sqs", endpoint_url=moto.endpoint).create_queue(QueueName="q")["QueueUrl"]
        kinesis = session.client("kinesis", endpoint_url=moto.endpoint)
        kinesis.create_stream(StreamName="beating", ShardCount=1)
        s3 = session.client("s3", endpoint_url=moto.endpoint)
        s3.create_bucket(Bucket="uploads")
        s3.put_object(Bucket="uploads", Key="lines", Body=b'{"iata": "DEN"}\n' * 10)
        session.client("dynamodb", endpoint_url=moto.endpoint).create_table(
            TableName="plans",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "shard", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "shard", "KeyType": "HASH"}],
        )
        rows = aws | {
            "BIGQUERY_TABLE": table,
            "BIGQUERY_EMULATOR_HOST": warehouse.endpoint,
            "BIGQUERY_STORAGE_EMULATOR_HOST": warehouse.grpc_endpoint,
        }
        functions = {
            "bigquery": rows,
            "bigquery-exactly-once": rows | {"PLANS_TABLE": "plans"},
            "cloudsearch": aws | {"SEARCH_ENDPOINT": search.endpoint, "DOCUMENT_ID": "iata"},
            "opensearch": aws | {"SEARCH_ENDPOINT": index.endpoint, "SEARCH_INDEX": "flights"},
            "graph": aws
            | {
                "GRAPH_URL": graph.url,
                "GRAPH_USER": graph.user,
                "GRAPH_PASSWORD": graph.password,
                "GRAPH_DATABASE": graph.database,
                "GRAPH_NODES": json.dumps([{"labels": ["Flight"], "key": {"id": "id"}, "properties": {"*": ""}}]),
            },
            "fanout": aws | {"ROUTES": json.dumps([{"name": "q", "to": queue}])},
            "heartbeat": aws | {"STREAM": "beating"},
            "objects": aws | {"STREAM": "beating", "LINE_KEY": "iata"},
            "dead-letters": aws | {"DEAD_LETTER_QUEUE_URL": queue},
        }
        yield functions, kinesis


def batch(name: str, n: int) -> bytes:
    """A batch of ten for a function, the ``n``-th of its shard."""
    made: list[dict[str, Any]] = [
        {"iata": f"a{n}{i}", "name": "x"} if name == "cloudsearch" else {"id": f"{n}-{i}", "origin": "DEN", "delay": i}
        for i in range(10)
    ]
    start = 49590338271490256608559692538361571095921575989136588898 + 1000 * n
    return json.dumps(kinesis_event(made, start=start)).encode()


def document(kinesis: Any) -> bytes:
    """What Lambda tells of a batch of ten that it has given up, as SQS brings it."""
    put = kinesis.put_records(StreamName="beating", Records=[{"Data": b"x", "PartitionKey": "k"} for _ in range(10)])[
        "Records"
    ]
    (shard,) = kinesis.describe_stream(StreamName="beating")["StreamDescription"]["Shards"]
    told = {
        "requestContext": {
            "requestId": "r",
            "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:f:live",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 1,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "1", "functionError": "Unhandled"},
        "version": "1.0",
        "timestamp": "2026-11-29T12:00:00.000Z",
        "KinesisBatchInfo": {
            "shardId": shard["ShardId"],
            "startSequenceNumber": put[0]["SequenceNumber"],
            "endSequenceNumber": put[-1]["SequenceNumber"],
            "approximateArrivalOfFirstRecord": "2026-11-29T11:00:00Z",
            "approximateArrivalOfLastRecord": "2026-11-29T11:00:00Z",
            "batchSize": 10,
            "streamArn": kinesis.describe_stream_summary(StreamName="beating")["StreamDescriptionSummary"]["StreamARN"],
        },
    }
    message = {"messageId": "m", "eventSource": "aws:sqs", "body": json.dumps(told)}
    return json.dumps({"Records": [message]}).encode()


def main() -> int:
    RUNTIME.set_up(lambda _: None)
    architecture = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    package_all(architectures=[architecture])
    with tempfile.TemporaryDirectory() as folder, services() as (variables, kinesis):
        nothing = _stub(Path(folder) / "nothing", _NOTHING)
        floor = measure(nothing, "stub.handler", variables["fanout"], [_PING])[0]
        print(f"\na handler that imports nothing: {floor:.0f} ms\n")
        print(
            "| function | ping | × nothing | first batch | second batch | ping, no bytecode | first batch, no bytecode |"
        )
        print("|---|---|---|---|---|---|---|")
        taken: dict[str, dict[str, float]] = {}
        for name, function in FUNCTIONS.items():
            code = Path(folder) / name
            with zipfile.ZipFile(DIST / f"{name}-{architecture}.zip") as archive:
                archive.extractall(code)
            batches = {
                "dead-letters": [document(kinesis), document(kinesis)],
                "heartbeat": [],  # A ping is its whole work.
                "objects": [json.dumps(s3_event(["lines"], bucket="uploads")).encode()] * 2,
            }.get(name, [batch(name, 1), batch(name, 2)])
            events = [_PING, *batches]
            with_it = measure(code, function.handler, variables[name], events)
            third = batches[-1] if name in ("dead-letters", "objects") else batch(name, 3)
            used = imported(code, function.handler, variables[name], third if batches else _PING)
            taken[name] = {library: with_import(code, library, variables[name]) for library in used}
            without: list[float] = []
            if not function.bytecode_only:
                for bytecode in code.rglob("*.pyc"):
                    bytecode.unlink()
                without = measure(code, function.handler, variables[name] | {"PYTHONDONTWRITEBYTECODE": "1"}, events)
            cells = [*_cells(with_it[1:], 2), *_cells(without[:2], 2)]
            print(f"| {name} | {with_it[0]:.0f} ms | {with_it[0] / floor:.2f} | {' | '.join(cells)} |", flush=True)
        print("\nA handler that imports nothing else, with the import and without:\n")
        print("| function | without | " + " | ".join(_LIBRARIES) + " |")
        print("|---" * (len(_LIBRARIES) + 2) + "|")
        for name, found in taken.items():
            figures = [f"{found[one]:.0f} ms" if one in found else "–" for one in _LIBRARIES]
            print(f"| {name} | {floor:.0f} ms | " + " | ".join(figures) + " |")
    return 0


def with_import(code: Path, library: str, environment: Mapping[str, str]) -> float:
    """Milliseconds to the first answer of a handler that imports ``library`` alone, from the package in ``code``."""
    _stub(code, f"import {library}\n{_NOTHING}")
    return measure(code, "stub.handler", environment, [_PING])[0]


def _stub(folder: Path, program: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "stub.py").write_text(program)
    return folder


def _cells(times: list[float], count: int) -> list[str]:
    return [f"{time:.0f} ms" for time in times] + ["–"] * (count - len(times))


if __name__ == "__main__":
    sys.exit(main())

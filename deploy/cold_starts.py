"""python -m deploy.cold_starts [FUNCTION...]: from the start of a process to its first answer, for each package or for those
that are named, in AWS's own runtime client.

Each package is unzipped, and awslambdaric runs it as Lambda does, with the runtime's own boto3. Three answers are timed: to a
warm-up ping, which takes the imports of the handler alone; to a first batch, which is written to a server here and takes
what the sink imports; and to a second batch. Then the same without bytecode. Then, in the same folders, a handler that imports
nothing but one of the libraries that the first batch did import, to its first answer: with that import and without.
The figures are medians; the ratio to a handler that imports nothing is what can be compared between machines.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "localstack"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "localstack" / "host_mode"))

from cloudsearch import CloudSearchServer
from local_bigquery import bigquery_server
from local_graph import graph_server
from local_moto import moto_server
from local_opensearch import opensearch_server
from localstack_host_mode.runtime_api import Invocation, RuntimeApi

from streamkit.local.gateway import http_api_event
from streamkit.testing import kinesis_event, logs_event, s3_event

from .local import FIELDS, make_table
from .package import DIST, FUNCTIONS, package_all
from .runtime import RUNTIME

__all__: list[str] = []

_ROUNDS = 9
# Seconds that Lambda gives an invocation at most: a long task that has less than its margin does not begin.
_LONGEST = 900
_PING = b'{"streamkit": "warm"}'
# Functions of which one event is timed, since it is their whole work. A loop's would not end: its ticket is for a token that
# nobody has handed out. It asks the table for that, and leaves it alone.
_WHOLE = {
    "heartbeat": b"{}",
    "janitor": b"{}",
    "log-subscriber": b"{}",
    "sqs-loop": b'{"streamkit_loop": 1, "loop": "loops", "token": 0, "generation": 1}',
    "warmer": b"{}",
}
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
    "urllib3",
    "tenacity",
)
_RUNTIMES = ("boto3", "botocore", "urllib3")


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
        self._api.invoke(Invocation("id", "arn:aws:lambda:us-east-1:0:function:f", event, time.time() + _LONGEST))
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


class Case(NamedTuple):
    """A handler, and what it is given: each of these in a process of its own, but the last two events in one."""

    code: Path
    handler: str
    environment: Mapping[str, str]
    events: list[bytes]


def measure(cases: Sequence[Case]) -> list[list[float]]:
    """Of each case the medians of the times to each answer. The rounds go through all of them in turn, so that what else the
    machine does meets them alike.
    """
    times: list[list[list[float]]] = [[[] for _ in case.events] for case in cases]
    for _ in range(_ROUNDS):
        for (code, handler, environment, events), taken in zip(cases, times, strict=True):
            ping = Start(code, handler, environment)
            taken[0].append(ping.answer(events[0]))
            ping.end()
            if len(events) > 1:
                batch = Start(code, handler, environment)
                first = batch.answer(events[1])
                taken[1].append(first)
                taken[2].append(batch.answer(events[2]) - first)
                batch.end()
    return [[statistics.median(one) for one in taken] for taken in times]


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
        _warm_functions() as functions_url,
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
        for table_name, key in (("plans", "shard"), ("tokens", "key")):
            session.client("dynamodb", endpoint_url=moto.endpoint).create_table(
                TableName=table_name,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
                KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
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
            "search-api": aws | {"SEARCH_ENDPOINT": search.endpoint, "FIELDS": json.dumps(FIELDS)},
            "objects": aws | {"STREAM": "beating", "LINE_KEY": "iata"},
            "logs": aws | {"SEARCH_ENDPOINT": index.endpoint},
            "log-subscriber": aws | {"DESTINATION_ARN": "arn:aws:lambda:us-east-1:123456789012:function:logs"},
            "dead-letters": aws | {"DEAD_LETTER_QUEUE_URL": queue},
            "backfill": aws | {"BUCKET": "uploads", "CHAINS_TABLE": "tokens", "STREAM": "beating", "LINE_KEY": "iata"},
            "janitor": aws | {"CALLS_PER_SECOND": "15"},
            "sqs-loop": aws | {"LOOP_QUEUE_URL": queue, "LOOP_TABLE": "tokens", "STREAM": "beating"},
            "warmer": aws | {"AWS_ENDPOINT_URL": functions_url, "TARGETS": '{"f": 1}'},
        }
        yield functions, kinesis


class _Warm(http.server.BaseHTTPRequestHandler):
    """Answers as a warm container does."""

    def do_POST(self) -> None:  # http.server's name.
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = b'{"container": "c", "cold": false}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: Any) -> None:
        return


@contextlib.contextmanager
def _warm_functions() -> Iterator[str]:
    """Lambda's endpoint, where every function is warm."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Warm)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


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


def main(names: Sequence[str]) -> int:
    if unknown := set(names) - FUNCTIONS.keys():
        print(f"there is no function {', '.join(sorted(unknown))}: they are {', '.join(FUNCTIONS)}", file=sys.stderr)
        return 2
    RUNTIME.set_up(lambda _: None)
    architecture = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    package_all(names, architectures=[architecture])
    with tempfile.TemporaryDirectory() as folder, services() as (variables, kinesis):
        nothing = Case(_stub(Path(folder) / "nothing", _NOTHING), "stub.handler", variables["fanout"], [_PING])
        cases = {
            name: _case(name, Path(folder) / name, architecture, variables[name], kinesis)
            for name in names or FUNCTIONS
        }
        (floor,), *with_it = measure([nothing, *cases.values()])
        print(f"\na handler that imports nothing: {floor:.0f} ms\n", flush=True)
        taken = {
            name: imports(case, _WHOLE[name] if name in _WHOLE else _event(name, 3, kinesis))
            for name, case in cases.items()
        }
        bare = {name: _without_bytecode(case) for name, case in cases.items() if not FUNCTIONS[name].bytecode_only}
        without = dict(zip(bare, measure(list(bare.values())), strict=True))
        print(
            "| function | ping | × nothing | first batch | second batch | ping, no bytecode | first batch, no bytecode |"
        )
        print("|---|---|---|---|---|---|---|")
        for name, times in zip(cases, with_it, strict=True):
            cells = [*_cells(times[1:], 2), *_cells(without.get(name, [])[:2], 2)]
            print(f"| {name} | {times[0]:.0f} ms | {times[0] / floor:.2f} | {' | '.join(cells)} |")
        print("\nA handler that imports nothing else, with the import and without:\n")
        print("| function | without | " + " | ".join(_LIBRARIES) + " |")
        print("|---" * (len(_LIBRARIES) + 2) + "|")
        for name, (nothing_else, found) in taken.items():
            figures = [f"{found[one]:.0f} ms" if one in found else "–" for one in _LIBRARIES]
            print(f"| {name} | {nothing_else:.0f} ms | " + " | ".join(figures) + " |")
    return 0


def imports(case: Case, event: bytes) -> tuple[float, dict[str, float]]:
    """Milliseconds to the first answer of a handler that imports nothing, and of one that imports one library alone, from the
    package: of each that was imported by the time of the answer to ``event``. All of them in turn.
    """
    used = imported(case.code, case.handler, case.environment, event)
    stubs = ["nothing", *(library.replace(".", "_") for library in used)]
    for stub, library in zip(stubs, ["", *used], strict=True):
        _stub(case.code, f"import {library}\n{_NOTHING}" if library else _NOTHING, f"stub_{stub}")
    ((without,), *times) = measure(
        [Case(case.code, f"stub_{stub}.handler", case.environment, [_PING]) for stub in stubs]
    )
    return without, {library: time for library, (time,) in zip(used, times, strict=True)}


def _case(name: str, code: Path, architecture: str, environment: Mapping[str, str], kinesis: Any) -> Case:
    with zipfile.ZipFile(DIST / f"{name}-{architecture}.zip") as archive:
        archive.extractall(code)
    events = [_WHOLE[name]] if name in _WHOLE else [_PING, *(_event(name, n, kinesis) for n in (1, 2))]
    return Case(code, FUNCTIONS[name].handler, environment, events)


def _event(name: str, n: int, kinesis: Any) -> bytes:
    if name == "dead-letters":
        return document(kinesis)
    if name == "search-api":
        return json.dumps(http_api_event("GET", f"/search?q=airport{n}&facet=state", [], b"")).encode()
    if name == "backfill":
        return b'{"prefix": "lines"}'
    if name == "objects":
        return json.dumps(s3_event(["lines"], bucket="uploads")).encode()
    if name == "logs":
        return json.dumps(logs_event([f"line {i}" for i in range(10)], start=1_767_225_600_000 + 1000 * n)).encode()
    return batch(name, n)


def _without_bytecode(case: Case) -> Case:
    for bytecode in case.code.rglob("*.pyc"):
        bytecode.unlink()
    return case._replace(environment={**case.environment, "PYTHONDONTWRITEBYTECODE": "1"})


def _stub(folder: Path, program: str, name: str = "stub") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(program)
    return folder


def _cells(times: list[float], count: int) -> list[str]:
    return [f"{time:.0f} ms" for time in times] + ["–"] * (count - len(times))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

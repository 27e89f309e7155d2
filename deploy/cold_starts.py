"""python -m deploy.cold_starts: from the start of a process to its first answer, for each package, in AWS's own runtime client.

Each package is unzipped, and awslambdaric runs it as Lambda does, with the runtime's own boto3. Three answers are timed: to a
warm-up ping, which takes the imports of the handler alone; to a first batch, which is written to a server here and takes
what the sink imports; and to a second batch. Then the same without bytecode, and what each library takes of the first batch. The
figures are medians; the ratio to a handler that imports nothing is what can be compared between machines.
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
from local_moto import moto_server
from localstack_host_mode.runtime_api import Invocation, RuntimeApi

from streamkit.testing import kinesis_event

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
    "cryptography",
    "tenacity",
)


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


def imported(code: Path, handler: str, environment: Mapping[str, str], event: bytes) -> dict[str, float]:
    """Milliseconds that each library took, its own imports among them, until the answer to ``event``."""
    start = Start(code, handler, {**environment, "PYTHONPROFILEIMPORTTIME": "1"})
    start.answer(event)
    found: dict[str, float] = {}
    for line in start.end().splitlines():
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[2].strip() in _LIBRARIES:
            found[parts[2].strip()] = float(parts[1]) / 1000
    return found


@contextlib.contextmanager
def services() -> Iterator[dict[str, dict[str, str]]]:
    """The variables of each function, and the servers that they name."""
    with (
        bigquery_server("local") as warehouse,
        CloudSearchServer(FIELDS) as search,
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
        session.client("kinesis", endpoint_url=moto.endpoint).create_stream(StreamName="beating", ShardCount=1)
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
        yield {
            "bigquery": rows,
            "bigquery-exactly-once": rows | {"PLANS_TABLE": "plans"},
            "cloudsearch": aws | {"SEARCH_ENDPOINT": search.endpoint, "DOCUMENT_ID": "iata"},
            "fanout": aws | {"ROUTES": json.dumps([{"name": "q", "to": queue}])},
            "heartbeat": aws | {"STREAM": "beating"},
            "dead-letters": aws | {"DEAD_LETTER_QUEUE_URL": queue},
        }


def batch(name: str, n: int) -> bytes:
    """A batch of ten for a function, the ``n``-th of its shard."""
    made: list[dict[str, Any]] = [
        {"iata": f"a{n}{i}", "name": "x"} if name == "cloudsearch" else {"id": f"{n}-{i}", "origin": "DEN", "delay": i}
        for i in range(10)
    ]
    start = 49590338271490256608559692538361571095921575989136588898 + 1000 * n
    return json.dumps(kinesis_event(made, start=start)).encode()


def main() -> int:
    RUNTIME.set_up(lambda _: None)
    architecture = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    package_all(architectures=[architecture])
    with tempfile.TemporaryDirectory() as folder, services() as variables:
        nothing = Path(folder) / "nothing"
        nothing.mkdir()
        (nothing / "nothing.py").write_text(_NOTHING)
        floor = measure(nothing, "nothing.handler", variables["fanout"], [_PING])[0]
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
            events = [_PING] if name in ("dead-letters", "heartbeat") else [_PING, batch(name, 1), batch(name, 2)]
            with_it = measure(code, function.handler, variables[name], events)
            if len(events) > 1:
                taken[name] = imported(code, function.handler, variables[name], batch(name, 3))
            for bytecode in code.rglob("*.pyc"):
                bytecode.unlink()
            without = measure(code, function.handler, variables[name] | {"PYTHONDONTWRITEBYTECODE": "1"}, events)
            cells = (
                [f"{time:.0f} ms" for time in (*with_it[1:], *without[:2])]
                if len(events) > 1
                else ["–", "–", f"{without[0]:.0f} ms", "–"]
            )
            print(f"| {name} | {with_it[0]:.0f} ms | {with_it[0] / floor:.2f} | {' | '.join(cells)} |", flush=True)
        print("\nOf the first batch, by imports (a library's own imports are in its figure):\n")
        print("| function | " + " | ".join(_LIBRARIES) + " |")
        print("|---" * (len(_LIBRARIES) + 1) + "|")
        for name, found in taken.items():
            print(
                f"| {name} | "
                + " | ".join(f"{found[one]:.0f} ms" if one in found else "–" for one in _LIBRARIES)
                + " |"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())

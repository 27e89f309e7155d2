"""Real processes, killed in the middle of their work."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import msgspec

from streamkit.plans.dynamodb import DynamoDbPlans
from streamkit.sinks.bigquery_plan import decode_plan

from .server import client_of, new_table, written
from .world import FIRST

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer

__all__ = ["Killed", "kill"]

ROOT = Path(__file__).resolve().parents[2]
_KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
_COUNT = 100_000  # More than are ever read: every child but the last dies at its work.
_LONGEST_LIFE = 1.5


class Killed(msgspec.Struct):
    """What some killed processes left."""

    #: By what was found behind each: a plan whose rows are in, or not, and were not answered for; or nothing in hand.
    left: Counter[str]
    rows: int
    #: What is missing or there twice.
    wrong: list[str]


def kill(times: int, bigquery_server: BigQueryServer, moto_endpoint: str, seed: int = 0) -> Killed:
    """SIGKILL so many processes in turn, each at a moment drawn by the seed, then let one finish."""
    left: Counter[str] = Counter()
    drawn = random.Random(seed)
    client = boto3.client(
        "dynamodb",
        endpoint_url=moto_endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    plans = DynamoDbPlans(f"plans-{uuid.uuid4().hex}", client=client)
    plans.create_table()
    with client_of(bigquery_server) as warehouse:
        table = new_table(warehouse)
        environment = (
            os.environ
            | _KEYS
            | {
                "AWS_ENDPOINT_URL": moto_endpoint,
                "BIGQUERY_EMULATOR_HOST": bigquery_server.endpoint,
                "BIGQUERY_STORAGE_EMULATOR_HOST": bigquery_server.grpc_endpoint,
                "GOOGLE_CLOUD_PROJECT": bigquery_server.project,
            }
        )

        def child(count: int, n: int) -> subprocess.Popen[str]:
            return subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "tests.exactly_once.child",
                    table,
                    plans.table,
                    str(count),
                    str(seed * 1000 + n),
                ],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )

        at = 0
        for n in range(times):
            # The first batch has to read the schema and open its connections; most are to die after that.
            at = _live(child(_COUNT, n), at, seconds=drawn.uniform(0.2, _LONGEST_LIFE))
            left[_left(warehouse, table, plans, at)] += 1
        end = at + 20
        at = _live(child(end, times), at, seconds=None)
        assert at == end, "the last one did not finish"
        expected = {f"{index}/{n}" for index in range(end) for n in range(index % 3)}
        found = written(warehouse, table)
    client.delete_table(TableName=plans.table)
    client.close()
    wrong = [f"{row} is missing" for row in sorted(expected - found.keys())]
    wrong += [f"{row} is there {count} times" for row, count in found.items() if count > 1]
    wrong += [f"{row} should not be there" for row in found if row not in expected and int(row.partition("/")[0]) < end]
    return Killed(left, len(expected), wrong)


def _left(warehouse: Any, table: str, plans: DynamoDbPlans, at: int) -> str:
    """What the last one had in hand when it died, ``at`` being what it had answered for."""
    path = "projects/{}/datasets/{}/tables/{}".format(warehouse.project, *table.split("."))
    entry = plans.read("orders", path, "stream/shardId-000000000000", deadline=time.monotonic() + 30)
    rows = decode_plan(entry.data).rows if entry else ()
    if not rows or rows[-1][0] - FIRST < at:
        return "nothing in hand"
    found = written(warehouse, table)
    are_in = {f"{number - FIRST}/{n}" in found for number, _, n in rows}
    assert len(are_in) == 1, "a part of a plan"
    return "a plan, and its rows" if are_in == {True} else "a plan without its rows"


def _live(process: subprocess.Popen[Any], at: int, *, seconds: float | None) -> int:
    """Start it at a position, kill it after some seconds of work, and return what it has answered for."""
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.stdin.write(f"{at}\n")
        process.stdin.flush()
        if seconds is not None:
            time.sleep(seconds)
            process.kill()
        # What it printed and nobody has read is heard too: the answer had left it. A line cut short has not.
        for line in process.stdout:
            if line.endswith("\n"):
                at = int(line)
    return at

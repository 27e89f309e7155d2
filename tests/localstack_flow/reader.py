"""A ``streamkit run`` process, and what its function has written down."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from local_process import Running, running

__all__ = ["Start", "create_stream", "kill", "of_key", "put", "reader", "starts", "wait_until"]

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 120.0


class Start(NamedTuple):
    """One start of a record, in the order of all."""

    key: str
    n: int
    event_id: str
    attempt: int | None

    @property
    def shard_id(self) -> str:
        return self.event_id.partition("/")[2].partition(":")[0]


@contextlib.contextmanager
def reader(function: str, stream: str, journal: Path, *options: str, **environment: str) -> Iterator[Running]:
    """Run the function on the stream until the block ends; it is then told to stop, and finishes what it has in hand."""
    command = [
        *(sys.executable, "-m", "streamkit.cli", "run", f"tests.localstack_flow.functions:{function}"),
        *("--stream", stream, *options),
    ]
    own = {"PYTHONPATH": str(ROOT), "JOURNAL": str(journal), **environment}
    with running("reader", lambda: command, lambda _: True, ports=(), env=own) as process:
        yield process


def kill(process: Running) -> None:
    """SIGKILL, as a machine that is lost."""
    os.killpg(process.pid, signal.SIGKILL)


def starts(journal: Path) -> list[Start]:
    if not journal.exists():
        return []
    # What is being written can be seen in part: a line is one when its end is there.
    lines = journal.read_text().split("\n")[:-1]
    return [Start(**json.loads(line)) for line in lines]


def of_key(all_: list[Start]) -> dict[str, list[int]]:
    """The numbers that were started, by key and in order."""
    numbers: dict[str, list[int]] = {}
    for start in all_:
        numbers.setdefault(start.key, []).append(start.n)
    return numbers


def wait_until(true: Callable[[], bool], *readers: Running) -> None:
    """Until it is so; fails where it takes too long, or a reader ends on the way, with the end of the reader's log."""
    until = time.monotonic() + PATIENCE
    while not true():
        logs = "\n".join(reader.log.read_text(errors="replace")[-3000:] for reader in readers)
        for one in readers:
            ended = os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            assert ended is None, f"the reader has ended; its log ends:\n{logs}"
        assert time.monotonic() < until, f"it did not happen; the log ends:\n{logs}"
        time.sleep(0.05)


def create_stream(kinesis: Any, shards: int) -> str:
    name = f"flow-{uuid.uuid4().hex}"
    kinesis.create_stream(StreamName=name, ShardCount=shards)
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    return name


def put(kinesis: Any, stream: str, *records: tuple[str, bytes]) -> None:
    """Put (key, data) in order, five hundred a request."""
    for first in range(0, len(records), 500):
        request = [{"PartitionKey": key, "Data": data} for key, data in records[first : first + 500]]
        answer = kinesis.put_records(StreamName=stream, Records=request)
        assert answer["FailedRecordCount"] == 0

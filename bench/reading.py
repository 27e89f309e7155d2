"""Reading a stream from an endpoint that costs nothing: the engine, beside async-kinesis and boto3's own loop.

Run as ``python -m bench.reading ENDPOINT``, it reads once with the engine and says the most memory it took, in KiB.
"""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import boto3
import botocore.session
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.config import Config
from kinesis import Consumer

from streamkit import Record, RecordProcessor, lambda_handler
from streamkit.checkpoints.memory import MemoryCheckpoints
from streamkit.local.kinesis import KinesisStream
from streamkit.local.runner import Runner
from streamkit.local.settings import Settings

from .endpoint import endpoint
from .harness import Row, Side, check_equal, compare, progress, take_turns

__all__ = ["run"]

_RECORDS, _MANY_RECORDS, _SHARDS = 100_000, 1_000_000, 4
_STREAM, _REGION = "measurements", "us-east-1"


def run(seconds: float) -> list[Row]:
    """The benchmarks of reading."""
    with endpoint(_RECORDS, _SHARDS) as url:
        client = _client(url)
        session = botocore.session.get_session()
        session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=lambda value: value)
        quick_client = _client(url, boto3.Session(botocore_session=session))
        ids = sum(range(_RECORDS))
        progress(f"{_RECORDS:,} records of {_SHARDS} shards, for {seconds:.0f} s and five rounds at least")
        took = take_turns(
            {
                "engine": Side(partial(_engine, _client(url)), (_RECORDS, ids)),
                "async-kinesis": Side(partial(_async_kinesis, url), (_RECORDS, ids)),
                "boto3": Side(partial(_boto3, client), _RECORDS),
                "quick boto3": Side(partial(_boto3, quick_client), _RECORDS),
            },
            seconds,
        )
    per_record = partial(compare, per=_RECORDS)
    return [
        per_record(
            "the engine and `record.json()` / async-kinesis", took["engine"], took["async-kinesis"], times_faster=5.0
        ),
        per_record(
            "the engine and `record.json()` / a boto3 loop, no JSON", took["engine"], took["boto3"], at_most=1.0
        ),
        per_record("  the same, its times left as numbers", took["engine"], took["quick boto3"]),
        _memory(),
    ]


def _memory() -> Row:
    progress(f"the memory of reading {_RECORDS:,} records, and of {_MANY_RECORDS:,}")
    peaks = {}
    for records in (_RECORDS, _MANY_RECORDS):
        with endpoint(records, _SHARDS) as url:
            peaks[records] = [_peak(url) for _ in range(3)]
    return compare(
        f"peak memory at {_MANY_RECORDS:,} records / at {_RECORDS:,}",
        peaks[_MANY_RECORDS],
        peaks[_RECORDS],
        at_most=1.1,
        best=max,
        per=1024,
        unit="MiB",
    )


def _peak(url: str) -> int:
    """The KiB that a process of its own took to read all that the endpoint has."""
    command = [sys.executable, "-m", "bench.reading", url]
    ran = subprocess.run(
        command, cwd=Path(__file__).resolve().parent.parent, check=True, capture_output=True, text=True
    )
    return int(ran.stdout)


def _client(url: str, session: Any = boto3) -> Any:
    return session.client(
        "kinesis",
        endpoint_url=url,
        region_name=_REGION,
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
        config=Config(proxies={}),
    )


class _Sum(RecordProcessor):
    """Parses each record, and adds up the ids."""

    name = "sum"

    def __init__(self) -> None:
        self.records = self.ids = 0

    def process(self, record: Record) -> None:
        self.ids += record.json()["id"]
        self.records += 1


def _engine(client: Any) -> tuple[int, int]:
    made: list[_Sum] = []

    def function() -> Any:
        made.append(_Sum())
        return lambda_handler(made[-1])

    _runner(client, function).run()
    return sum(processor.records for processor in made), sum(processor.ids for processor in made)


def _runner(client: Any, function: Any) -> Runner:
    settings = Settings(function_response_types=["ReportBatchItemFailures"])
    return Runner(
        function,
        stream=KinesisStream(client, _STREAM),
        name="sum",
        checkpoints=MemoryCheckpoints(),
        settings=settings,
    )


def _boto3(client: Any) -> int:
    """Boto3's own loop over the shards, which does nothing with the records."""
    records = 0
    for shard in client.list_shards(StreamName=_STREAM)["Shards"]:
        iterator = client.get_shard_iterator(
            StreamName=_STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator:
            answer = client.get_records(ShardIterator=iterator, Limit=10_000)
            records += len(answer["Records"])
            iterator = answer.get("NextShardIterator")
    return records


def _async_kinesis(url: str) -> tuple[int, int]:
    return asyncio.run(_consume(url))


async def _consume(url: str) -> tuple[int, int]:
    """As its documentation has it: its own processor parses each record's JSON. It polls as often as a shard allows."""
    session = AioSession()
    session.set_credentials("nobody", "nothing")
    session.set_default_client_config(AioConfig(proxies={}))
    records = ids = 0
    consumer = Consumer(
        _STREAM, session=session, endpoint_url=url, region_name=_REGION, use_list_shards=True, shard_fetch_rate=5
    )
    async with consumer:
        async for measurement in consumer:
            ids += measurement["id"]
            records += 1
            if records == _RECORDS:
                break
    return records, ids


def _read_once(url: str) -> None:
    records, _ = _engine(_client(url))
    check_equal("reading once", {"some records": True, "read": records > 0})
    print(_peak_memory())


def _peak_memory() -> int:
    """This process's, in KiB. What getrusage says on Linux counts the process before, whose memory it began with."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    _read_once(sys.argv[1])

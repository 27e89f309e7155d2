"""Putting records to an endpoint that costs nothing: ``Producer``, beside boto3's own loop over ``put_records``."""

from __future__ import annotations

import math
import os
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import boto3
from botocore.config import Config

from streamkit.producer import Producer

from .endpoint import Taken, endpoint, payload_of, taken
from .harness import Row, Side, check_equal, compare, progress, take_turns

__all__ = ["run"]

_RECORDS, _SHARDS = 100_000, 32
_IN_A_REQUEST = 500
_STREAM = "measurements"
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
}

Records = list[tuple[str, bytes]]


def run(seconds: float) -> tuple[list[Row], list[list[str]]]:
    """The benchmarks of producing, and a table of what the endpoint got from each side."""
    records = [(f"sensor-{number % 500:03}", payload_of(number)) for number in range(_RECORDS)]
    with ExitStack() as stack:
        url = stack.enter_context(endpoint(0, _SHARDS))
        stack.enter_context(patch.dict(os.environ, {**_ENVIRONMENT, "AWS_ENDPOINT_URL": url}))
        client = boto3.client("kinesis")
        quick = boto3.client("kinesis", config=Config(parameter_validation=False))
        # This endpoint has no write limits; plain, a hundred thousand records would wait for them.
        unlimited = partial(Producer, _STREAM, bytes_per_second=math.inf, records_per_second=math.inf)
        producer, plain = stack.enter_context(unlimited()), stack.enter_context(unlimited(aggregate=False))
        sides = {
            "producer": partial(_producer, records, producer),
            "boto3": partial(_boto3, records, client),
            "without validation": partial(_boto3, records, quick),
            "plain producer": partial(_producer, records, plain),
        }
        got = {name: _got(url, side) for name, side in sides.items()}
        check_equal("producing", {name: (one.user_records, one.digest) for name, one in got.items()})
        progress(f"{_RECORDS:,} records to {_SHARDS} shards, for {seconds:.0f} s and five rounds at least")
        # What was put is forgotten before each round.
        took = take_turns({name: Side(side, _RECORDS, partial(taken, url)) for name, side in sides.items()}, seconds)
    per_record = partial(compare, per=_RECORDS)
    calls = partial(compare, unit="calls")
    ours, theirs = [got["producer"].requests], [got["boto3"].requests]
    return [
        per_record("Producer / boto3's put_records loop", took["producer"], took["boto3"], times_faster=3.0),
        per_record("  the same, its validation off", took["producer"], took["without validation"], times_faster=0),
        calls("  calls of the service", ours, theirs, at_most=0.05),
        per_record("Producer(aggregate=False) / boto3's loop", took["plain producer"], took["boto3"], times_faster=0),
    ], [[name, *_described(one)] for name, one in got.items()]


def _got(url: str, side: Any) -> Taken:
    taken(url)
    side()
    return taken(url)


def _described(one: Taken) -> list[str]:
    return [f"{one.requests:,}", f"{one.records:,}", f"{one.user_records:,}", f"{one.bytes / 2**20:,.1f} MiB"]


def _producer(records: Records, producer: Producer) -> int:
    """As its documentation has it: put, flush, and look whether all futures are done well."""
    futures = [producer.put(data, partition_key=key) for key, data in records]
    producer.flush()
    futures[0].result(0), futures[-1].result(0)
    return len(futures)


def _boto3(records: Records, client: Any) -> int:
    """500 at a time, and a look at what was refused."""
    put = 0
    for start in range(0, len(records), _IN_A_REQUEST):
        batch = [{"Data": data, "PartitionKey": key} for key, data in records[start : start + _IN_A_REQUEST]]
        answer = client.put_records(StreamName=_STREAM, Records=batch)
        put += len(batch) - answer["FailedRecordCount"]
    return put

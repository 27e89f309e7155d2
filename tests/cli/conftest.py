"""Streams and queues on moto for the commands."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from .process import connect


@pytest.fixture(scope="module")
def kinesis(moto_endpoint: str) -> Iterator[Any]:
    client = connect("kinesis", moto_endpoint)
    yield client
    client.close()


@pytest.fixture(scope="module")
def sqs(moto_endpoint: str) -> Iterator[Any]:
    client = connect("sqs", moto_endpoint)
    yield client
    client.close()


@pytest.fixture
def stream(kinesis: Any) -> str:
    name = f"cli-{uuid.uuid4().hex}"
    kinesis.create_stream(StreamName=name, ShardCount=2)
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    return name

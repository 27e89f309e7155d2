"""One LocalStack for all of these tests: use names of your own."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from local_process import Running
from localstack_client.session import Session

from ..local_cloud import local_cloud


@pytest.fixture(scope="session")
def localstack() -> Iterator[Running]:
    with local_cloud() as server:
        yield server


@pytest.fixture(scope="session")
def kinesis(localstack: Running) -> Iterator[Any]:
    with contextlib.closing(Session().client("kinesis")) as client:
        yield client


@pytest.fixture(scope="session")
def dynamodb(localstack: Running) -> Iterator[Any]:
    with contextlib.closing(Session().client("dynamodb")) as client:
        yield client


@pytest.fixture
def name() -> str:
    """Of a test's own stream, and of its application."""
    return f"kcl-{uuid.uuid4().hex[:12]}"

"""One LocalStack for all of these tests: use names of your own."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from local_process import Running
from localstack_client.session import Session


@pytest.fixture(scope="session")
def localstack() -> Iterator[Running]:
    from local_localstack import localstack_server

    with localstack_server() as server, pytest.MonkeyPatch.context() as environment:
        # What localstack_client and the daemons find it by, and what they sign with.
        environment.setenv("AWS_ENDPOINT_URL", server.endpoint)
        for name, value in {
            "ACCESS_KEY_ID": "nobody",
            "SECRET_ACCESS_KEY": "nothing",
            "DEFAULT_REGION": "us-east-1",
        }.items():
            environment.setenv(f"AWS_{name}", value)
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

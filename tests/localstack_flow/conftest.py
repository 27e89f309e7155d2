"""One LocalStack for all of these tests, and clients of it: use names of your own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from local_process import Running
from localstack_client.session import Session

Connect = Callable[[str], Any]


@pytest.fixture(scope="session")
def localstack() -> Iterator[Running]:
    from local_localstack import localstack_server

    with localstack_server() as server, pytest.MonkeyPatch.context() as environment:
        # What localstack_client and the processes of these tests find it by.
        environment.setenv("AWS_ENDPOINT_URL", server.endpoint)
        for name, value in {
            "ACCESS_KEY_ID": "nobody",
            "SECRET_ACCESS_KEY": "nothing",
            "DEFAULT_REGION": "us-east-1",
        }.items():
            environment.setenv(f"AWS_{name}", value)
        yield server


@pytest.fixture(scope="session")
def connect(localstack: Running) -> Iterator[Connect]:
    """Makes a client of a service."""
    session = Session()
    with contextlib.ExitStack() as clients:
        yield lambda service: clients.enter_context(contextlib.closing(session.client(service)))


@pytest.fixture(scope="session")
def kinesis(connect: Connect) -> Any:
    return connect("kinesis")


@pytest.fixture(scope="session")
def sqs(connect: Connect) -> Any:
    return connect("sqs")

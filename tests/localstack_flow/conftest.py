"""One LocalStack for all of these tests, and clients of it: use names of your own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from local_process import Running
from localstack_client.session import Session

from ..local_cloud import local_cloud
from .renewal import LongReading

Connect = Callable[[str], Any]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for the long reading comes last: the other tests run meanwhile."""
    items.sort(key=_waits_for_the_long_reading)


def _waits_for_the_long_reading(item: pytest.Item) -> bool:
    return "long_reading" in getattr(item, "fixturenames", ())


@pytest.fixture(scope="session", autouse=True)
def _long_reading_begins_first(request: pytest.FixtureRequest) -> None:
    if any(map(_waits_for_the_long_reading, request.session.items)):
        request.getfixturevalue("long_reading")


@pytest.fixture(scope="session")
def localstack() -> Iterator[Running]:
    from local_localstack import SOONER

    with local_cloud(SOONER) as server:
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


@pytest.fixture(scope="session")
def long_reading(connect: Connect) -> Iterator[LongReading]:
    """Begun with the first test, and over some five minutes later."""
    # With a client of its own, whose calls it counts.
    reading = LongReading(connect("kinesis"))
    reading.start()
    yield reading
    reading.stop()
    reading.join()

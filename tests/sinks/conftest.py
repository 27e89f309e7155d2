"""What the tests of sinks have in common."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from cloudsearch import CloudSearchServer

from .aws_proxy import AwsProxy

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer

    from .write_api import WriteApi


class Clock:
    """``time.monotonic`` and ``time.sleep`` of a test: only what it says moves it, so that requests take no time at all."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    return clock


@pytest.fixture(scope="module")
def client(domain: CloudSearchServer) -> Iterator[Any]:
    """What CloudSearchSinks of one example each have in common: making one takes longer than the example.

    ``domain`` is the module's own.
    """
    client = boto3.client(
        "cloudsearchdomain",
        endpoint_url=domain.endpoint,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
        config=Config(retries={"total_max_attempts": 1}),
    )
    yield client
    client.close()


@pytest.fixture(scope="session")
def bigquery_client(bigquery_server: BigQueryServer) -> Iterator[Any]:
    """A client of local-bigquery itself, for what a test prepares and looks at."""
    from .bigquery_tables import client_of

    client = client_of(bigquery_server.endpoint, bigquery_server.project)
    yield client
    client.close()


@pytest.fixture
def dataset(bigquery_client: Any) -> Iterator[str]:
    """A dataset on local-bigquery, of the test's own."""
    from .bigquery_tables import new_dataset

    with new_dataset(bigquery_client) as name:
        yield name


@pytest.fixture
def proxy(bigquery_server: BigQueryServer) -> Iterator[AwsProxy]:
    """Before local-bigquery; modules of another service have one of their own."""
    proxy = AwsProxy(bigquery_server.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture
def api() -> Iterator[WriteApi]:
    """BigQuery's Storage Write API, which takes requests of any size."""
    from .write_api import WriteApi

    with WriteApi(most_bytes=-1) as api:
        yield api


@pytest.fixture
def write_client(api: WriteApi) -> Iterator[Any]:
    """A client of it."""
    from tests.exactly_once.server import write_client_of

    with write_client_of(api.endpoint) as client:
        yield client

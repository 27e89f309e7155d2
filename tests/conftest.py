"""The servers of the local cloud, each started once, when the first test asks for it."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# A folder of modules, and not a package: localstack/README.md says why.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "localstack"))

if TYPE_CHECKING:
    from local_bigquery import BigQueryServer
    from local_graph import GraphServer

#: Folders of tests that run where they are asked for, and what asks for them.
APART = {
    "localstack_flow": "make localstack-test",
    "kcl_flow": "make kcl-test",
    "acceptance": "./build.sh acceptance-test local",
    "integration": "./build.sh int-test local",
}

#: Files that take longest: first of all, so that no core is left with one of them at the end.
LONGEST = (
    "simulation/test_schedules.py",
    "cli/test_redrive_crashes.py",
    "soak/test_soak.py",
    "cli/web/test_answers.py",
    "cli/web/test_page.py",
    "cli/test_new.py",
    "flow/test_demo.py",
    "search/test_openapi.py",
)


def pytest_xdist_auto_num_workers() -> int:
    """Two more than there are cores, since half of the tests' time is waiting; four at most, for their servers' memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(4, cores + 2)


def pytest_configure() -> None:
    """Ctrl-C works, and what botocore does for each session and each request is done once a process.

    It reads its data for each of a thousand sessions, which took a twentieth of the time; and it looks at each word of the user
    agent letter by letter, for each of a hundred thousand requests.
    """
    # A shell has a command in the background ignore Ctrl-C, and so would all that the tests start and end by it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    from botocore import useragent
    from botocore.loaders import JSONFileLoader

    loader = JSONFileLoader()
    JSONFileLoader.load_file = staticmethod(functools.cache(loader.load_file))
    useragent.sanitize_user_agent_string_component = functools.cache(useragent.sanitize_user_agent_string_component)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)


def pytest_collection_finish() -> None:
    """What is collected stays until the end. To look through it with each collection of garbage took a tenth of the time."""
    gc.collect()
    gc.freeze()


def _place(item: pytest.Item) -> int:
    path = item.path.as_posix()
    return next((n for n, longest in enumerate(LONGEST) if path.endswith(longest)), len(LONGEST))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if collection_path.name in APART and not _asks_for(collection_path.name, config):
        return True
    return None


def pytest_report_header(config: pytest.Config) -> list[str]:
    return [f"without tests/{name}: {how}" for name, how in APART.items() if not _asks_for(name, config)]


def _asks_for(name: str, config: pytest.Config) -> bool:
    return any(f"tests/{name}" in argument for argument in config.args)


@pytest.fixture
def aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A region, and credentials that no local server looks at."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """Kinesis, SQS, SNS, S3 and DynamoDB of one account, shared by all tests: use names of your own."""
    from local_moto import moto_in_process

    with moto_in_process() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def bigquery_server() -> Iterator[BigQueryServer]:
    """A BigQuery, shared by all tests: use datasets of your own."""
    import local_bigquery

    with local_bigquery.bigquery_server() as server:
        _bigquery_servers.append(server)
        yield server
        _bigquery_servers.clear()


_bigquery_servers: list[BigQueryServer] = []


@pytest.fixture(autouse=True, scope="module")
def _no_dataset_is_left() -> Iterator[None]:
    """Whatever local-bigquery is asked takes longer with each table that it has: with a hundred three times as long."""
    yield
    for server in _bigquery_servers:
        from tests.sinks.bigquery_tables import client_of

        with contextlib.closing(client_of(server.endpoint, server.project)) as client:
            for dataset in client.list_datasets():
                client.delete_dataset(dataset.dataset_id, delete_contents=True)


@pytest.fixture(scope="session")
def cloudsearch_endpoint() -> Iterator[str]:
    """A CloudSearch domain of airports, shared by all tests: use document ids of your own."""
    from cloudsearch import CloudSearchServer

    texts = dict.fromkeys(("name", "city"), "text")
    literals = dict.fromkeys(("iata", "state", "country"), "literal")
    with CloudSearchServer({**texts, **literals, "latitude": "double", "longitude": "double"}) as server:
        yield server.endpoint


@pytest.fixture(scope="session")
def graph_server() -> Iterator[GraphServer]:
    """A graph database, shared by all tests: use labels of your own."""
    import local_graph

    with local_graph.graph_server() as server:
        yield server

"""The whole search system: an airport is published, ``streamkit run`` hands it to the function that indexes it, and the API, a
process of its own behind HTTP, finds it within seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.process import ENVIRONMENT, connect, running
from tests.search.airports import fill_opensearch

#: Between a put and the first answer that has it. The stand-in of CloudSearch shows a document a second after it came.
WITHIN = 15.0
DECLARED = {"iata": "literal", "name": "text", "city": "text", "state": "literal"}


@contextmanager
def gateway(folder: Path, **environment: str) -> Iterator[str]:
    """The API's address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "streamkit.local.gateway", "processors.search_api:handler", "--port", "0"],
        cwd=folder,
        env={**os.environ, **ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()[0]
    finally:
        process.kill()
        process.communicate()


def asked(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


@pytest.mark.parametrize("backend", ["cloudsearch", "opensearch"])
def test_an_airport_that_is_published_is_found_within_seconds(backend: str, moto_endpoint: str, tmp_path: Path) -> None:
    from cloudsearch import CloudSearchServer
    from local_opensearch import opensearch_server

    stream = f"airports-{uuid.uuid4().hex}"
    kinesis = connect("kinesis", moto_endpoint)
    kinesis.create_stream(StreamName=stream, ShardCount=1)
    mapping = {"DOCUMENT_ID": "iata", "DOCUMENT": json.dumps({name: name for name in DECLARED})}
    if backend == "cloudsearch":
        started: Any = CloudSearchServer(DECLARED, suggesters={"names": "name"}, latency=1.0)
        suggest = "names"
    else:
        started, suggest = opensearch_server(), "name.keyword"
    with started as index:
        if backend == "opensearch":
            fill_opensearch(index.endpoint, documents=[])
        settings = {"SEARCH_ENDPOINT": index.endpoint, "SEARCH_INDEX": "airports"}
        api = {**settings, "BACKEND": backend, "FIELDS": json.dumps(DECLARED), "SUGGEST": suggest}
        options = ["--stream", stream, "--endpoint-url", moto_endpoint, "--checkpoints", ":memory:", "--plain"]
        with (
            gateway(tmp_path, **api) as url,
            running(tmp_path, f"processors.{backend}:handler", *options, **settings, **mapping) as reader,
        ):
            assert asked(f"{url}/search?q=denver")["found"] == 0
            airport = {"iata": "DEN", "name": "Denver Intl", "city": "Denver", "state": "CO"}
            began = time.monotonic()

            kinesis.put_record(StreamName=stream, Data=json.dumps(airport), PartitionKey="DEN")

            question = f"{url}/search?q=denver&filter.state=CO&facet=state&highlight=name"
            while not (found := asked(question))["found"] and time.monotonic() < began + 60:
                time.sleep(0.05)
            took = time.monotonic() - began
            suggested = asked(f"{url}/suggest?q=den")
            reader.kill()
            reader.communicate()

    assert found == {
        "found": 1,
        "hits": [{"id": "DEN", "fields": airport, "highlights": {"name": "<em>Denver</em> Intl"}}],
        "facets": {"state": [{"value": "CO", "count": 1}]},
        "cursor": None,
    }
    assert suggested == {"suggestions": [{"text": "Denver Intl", "id": "DEN"}]}
    assert took < WITHIN, f"it took {took:.1f} s"
    print(f"\n{backend}: found {took:.2f} s after it was published")

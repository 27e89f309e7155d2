from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from streamkit.search.api import SearchApi
from streamkit.search.cloudsearch import CloudSearchIndex
from streamkit.search.opensearch import OpenSearchIndex

from .airports import AIRPORTS, FIELDS, KINDS, fill_opensearch

if TYPE_CHECKING:
    from cloudsearch import CloudSearchServer


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")


@pytest.fixture(scope="package")
def domain() -> Iterator[CloudSearchServer]:
    """The airports in CloudSearch's stand-in."""
    from cloudsearch import CloudSearchServer

    with CloudSearchServer(KINDS, suggesters={"names": "name"}) as server:
        client = boto3.client(
            "cloudsearchdomain",
            endpoint_url=server.endpoint,
            region_name="us-east-1",
            aws_access_key_id="nobody",
            aws_secret_access_key="nothing",
        )
        batch = json.dumps([{"type": "add", "id": one["iata"], "fields": one} for one in AIRPORTS])
        client.upload_documents(documents=batch, contentType="application/json")
        client.close()
        yield server


@pytest.fixture(scope="package")
def opensearch() -> Iterator[str]:
    """The airports in OpenSearch: its endpoint."""
    from local_opensearch import opensearch_server

    with opensearch_server() as server:
        fill_opensearch(server.endpoint)
        yield server.endpoint


@pytest.fixture(scope="package", params=["cloudsearch", "opensearch"])
def index(request: pytest.FixtureRequest) -> Iterator[Any]:
    """One index and then the other: what holds of one holds of both."""
    made: CloudSearchIndex | OpenSearchIndex
    if request.param == "cloudsearch":
        made = CloudSearchIndex(request.getfixturevalue("domain").endpoint, FIELDS, suggester="names")
    else:
        endpoint = request.getfixturevalue("opensearch")
        made = OpenSearchIndex(endpoint, "airports", FIELDS, suggests_by="name.keyword")
    yield made
    made.close()


@pytest.fixture
def api(index: Any) -> SearchApi:
    return SearchApi(FIELDS, index)

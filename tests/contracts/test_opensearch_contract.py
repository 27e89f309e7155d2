"""OpenSearchSink keeps the contract of every sink, with versions and without."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from local_opensearch import opensearch_server
from opensearchpy import OpenSearch

from streamkit import Write
from streamkit.sinks.opensearch import OpenSearchSink
from streamkit.testing.contracts import SinkContract

from ..sinks.aws_proxy import AwsProxy, Request, drop

MAPPINGS = {"dynamic": "strict", "properties": {"n": {"type": "long"}}}
names = (f"items-{n}" for n in itertools.count())


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with opensearch_server() as running:
        yield running.endpoint


class TestOpenSearchSink(SinkContract):
    version: int | None = None

    @pytest.fixture
    def sink(self, server: str) -> Iterator[OpenSearchSink]:
        self.index = next(names)
        self.client = OpenSearch(hosts=[server])
        self.client.indices.create(
            index=self.index, body={"mappings": MAPPINGS, "settings": {"index.max_result_window": 1_000_000}}
        )
        self.proxy = AwsProxy(server)
        sink = OpenSearchSink(self.proxy.endpoint, self.index)
        yield sink
        sink.close()
        self.proxy.close()
        self.client.close()

    def write(self, sink: Any, n: int) -> Write:
        made: Write = sink.document(f"item-{n}", {"n": n}, version=self.version)
        return made

    def delivered(self, sink: Any) -> list[int]:
        self.client.indices.refresh(index=self.index)
        found = self.client.search(index=self.index, body={"query": {"match_all": {}}, "size": 1_000_000})
        return [hit["_source"]["n"] for hit in found["hits"]["hits"]]

    def invalid_write(self, sink: Any) -> Write:
        made: Write = sink.document("item-x", {"not_mapped": 1}, version=self.version)
        return made

    @contextlib.contextmanager
    def unreachable(self, sink: Any) -> Iterator[None]:
        self.proxy.always = drop
        yield
        assert None in [status for _, status in self.proxy.statuses]
        self.proxy.always = Request.forward


class TestOpenSearchSinkWithVersions(TestOpenSearchSink):
    version = 7

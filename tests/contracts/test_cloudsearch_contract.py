"""CloudSearchSink keeps the contract of every sink, with checks and versions too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from cloudsearch import CloudSearchServer

from streamkit import Write
from streamkit.sinks.cloudsearch import CloudSearchSink
from streamkit.testing.contracts import SinkContract


class TestCloudSearchSink(SinkContract):
    @pytest.fixture
    def sink(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudSearchSink]:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        with CloudSearchServer({"n": "int", "v": "int"}) as self.server:
            monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDSEARCH", self.server.endpoint)
            sink = self.made()
            yield sink
            sink.close()

    def made(self) -> CloudSearchSink:
        return CloudSearchSink(self.server.endpoint)

    def write(self, sink: Any, n: int) -> Write:
        made: Write = sink.document(f"item-{n}", {"n": n})
        return made

    def delivered(self, sink: Any) -> list[int]:
        return [document["n"] for document in self.server.documents().values()]

    def invalid_write(self, sink: Any) -> Write:
        made: Write = sink.document("item-x", {"not_configured": 1})
        return made

    @contextlib.contextmanager
    def unreachable(self, sink: Any) -> Iterator[None]:
        self.server.fail(drop=True, times=1000)
        yield
        self.server.recover()


class TestCloudSearchSinkThatChecksFields(TestCloudSearchSink):
    def made(self) -> CloudSearchSink:
        return CloudSearchSink(self.server.endpoint, domain=self.server.domain, check_fields=True)


class TestCloudSearchSinkWithVersions(TestCloudSearchSink):
    def made(self) -> CloudSearchSink:
        return CloudSearchSink(self.server.endpoint, version_field="v", search_endpoint=self.server.endpoint)

    def write(self, sink: Any, n: int) -> Write:
        made: Write = sink.document(f"item-{n}", {"n": n}, version=7)
        return made

    def invalid_write(self, sink: Any) -> Write:
        made: Write = sink.document("item-x", {"not_configured": 1}, version=7)
        return made

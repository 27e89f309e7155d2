from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from streamkit import Write
from streamkit.testing import MemorySink
from streamkit.testing.contracts import SinkContract


class TestMemorySink(SinkContract):
    @pytest.fixture
    def sink(self) -> MemorySink:
        sink = MemorySink()
        sink.refuse(lambda item: "invalid" if item == "invalid" else None)
        return sink

    def write(self, sink: MemorySink, n: int) -> Write:
        return sink.item(n)

    def delivered(self, sink: MemorySink) -> list[int]:
        return sink.items

    def invalid_write(self, sink: MemorySink) -> Write:
        return sink.item("invalid")

    def unreachable(self, sink: MemorySink) -> AbstractContextManager[object]:
        return _down(sink)


@contextmanager
def _down(sink: MemorySink) -> Iterator[None]:
    sink.fail(ConnectionError("down"))
    try:
        yield
    finally:
        sink.fail(None)

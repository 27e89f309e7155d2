from __future__ import annotations

from collections.abc import Iterator

import pytest

from .cloud import Cloud


@pytest.fixture(scope="module")
def shared_cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    cloud = Cloud(request)
    yield cloud
    cloud.close()
    assert cloud.errors() == []


@pytest.fixture
def cloud(shared_cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    shared_cloud.use(monkeypatch)
    return shared_cloud

"""A mapping that is a parameter of SSM is followed by the functions that read it, on moto."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from processors.base import EventProcessor
from processors.cloudsearch import CloudSearchProcessor
from processors.mapping import MissingField
from processors.opensearch import OpenSearchProcessor
from streamkit import Record
from streamkit.config import config as configs
from streamkit.errors import ConfigurationMissing
from streamkit.event import decode
from streamkit.testing import kinesis_event

from ..config.sources import Clock, ssm_client

EVENT = {"id": "7", "name": "Denver", "state": "CO"}


@pytest.fixture
def ssm(moto_endpoint: str) -> Iterator[Any]:
    with ssm_client(moto_endpoint) as client:
        yield client


@pytest.fixture
def path(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    made = f"/shop/{uuid.uuid4().hex}"
    for name, value in {
        "AWS_ENDPOINT_URL": moto_endpoint,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "SEARCH_ENDPOINT": "http://127.0.0.1:9",
        "SEARCH_INDEX": "airports",
        "PARAMETERS": made,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DOCUMENT", raising=False)
    return made


def record() -> Record:
    return decode(kinesis_event([EVENT])).records[0]


@pytest.mark.parametrize("kind", [CloudSearchProcessor, OpenSearchProcessor])
def test_a_change_of_the_parameter_is_followed_without_a_deployment(
    kind: type[CloudSearchProcessor | OpenSearchProcessor], ssm: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    original = configs.Config.__init__
    monkeypatch.setattr(
        configs.Config,
        "__init__",
        lambda config, *sources: original(config, *sources, clock=clock, patience=30.0, wait=30.0),
    )
    ssm.put_parameter(Name=f"{path}/document", Value='{"name": "name"}', Type="String")
    processor = kind()
    assert processor.document(record()) == ("7", {"name": "Denver"})

    ssm.put_parameter(Name=f"{path}/document", Value='{"state": "state"}', Type="String", Overwrite=True)
    clock.advance(60)
    assert processor.document(record()) == ("7", {"state": "CO"})

    ssm.put_parameter(Name=f"{path}/document", Value='{"state": "nowhere"}', Type="String", Overwrite=True)
    clock.advance(60)
    with pytest.raises(MissingField, match="nowhere"):
        processor.document(record())

    ssm.put_parameter(Name=f"{path}/document", Value='["state"]', Type="String", Overwrite=True)
    clock.advance(60)
    with pytest.raises(MissingField, match="nowhere"):
        processor.document(record())
    processor.close()


def test_without_the_parameter_events_wait_and_are_not_written_in_another_form(
    moto_endpoint: str, ssm: Any, path: str
) -> None:
    processor = CloudSearchProcessor()

    with pytest.raises(
        ConfigurationMissing, match=r"parameter document: the environment \(DOCUMENT\) and SSM .* has none of this name"
    ):
        processor.document(record())
    processor.close()


def test_the_environment_wins_and_without_a_path_nothing_of_ssm_is_asked(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCUMENT", '{"name": "name"}')
    monkeypatch.delenv("PARAMETERS")
    processor: EventProcessor = CloudSearchProcessor()

    assert processor.config is None
    assert processor.fields("DOCUMENT").of(EVENT) == {"name": "Denver"}

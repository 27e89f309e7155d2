"""The warmer and real containers: LocalStack's, each a process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from setup_localstack import docker_answers

from streamkit.warmer import Warmer

from .conftest import Connect
from .deployment import Deployment

pytestmark = pytest.mark.skipif(docker_answers(), reason="in a container functions are containers")


@pytest.fixture
def deployment(connect: Connect, tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(connect, tmp_path / "journal")
    yield deployment
    deployment.remove()


def invoke(deployment: Deployment, function: str, event: Any) -> Any:
    answer = deployment.functions.invoke(FunctionName=function, Payload=json.dumps(event))
    assert "FunctionError" not in answer
    return json.loads(answer["Payload"].read())


def test_n_pings_meet_n_containers_which_answer_the_next_ones_too(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = deployment.function("warmed", "blocking")
    monkeypatch.setenv("TARGETS", json.dumps({function: 3}))
    # Processes start one after another on a machine of two cores.
    monkeypatch.setenv("HOLD", "1000")
    warmer = Warmer(deployment.functions)

    first, second = warmer({})[function], warmer({})[function]

    assert (first["answered"], first["containers"], first["cold"]) == (3, 3, 3)
    assert (second["answered"], second["containers"], second["cold"]) == (3, 3, 0)
    health = invoke(deployment, function, {"streamkit": "health"})
    assert health["function"].startswith("warmed")
    assert (health["cold"], health["healthy"]) == (False, True)
    assert [one["name"] for one in health["processors"]] == ["orders"]
    assert deployment.lines() == [], "no record was started"

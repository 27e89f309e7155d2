"""Functions in LocalStack, as its executor runs them without Docker: what Lambda does with one that fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from setup_localstack import docker_answers

from .conftest import Connect
from .deployment import Deployment

pytestmark = pytest.mark.skipif(docker_answers(), reason="in a container functions are containers")


@pytest.fixture
def deployment(connect: Connect, tmp_path: Path) -> Iterator[Deployment]:
    deployment = Deployment(connect, tmp_path / "journal")
    yield deployment
    deployment.remove()


def invoke(deployment: Deployment, function: str, do: str) -> tuple[bool, Any]:
    """Whether it failed, and its answer."""
    answer = deployment.functions.invoke(FunctionName=function, Payload=json.dumps({"do": do}))
    return "FunctionError" in answer, json.loads(answer["Payload"].read())


def test_a_function_that_fails_is_answered_as_lambda_does_and_goes_on(deployment: Deployment) -> None:
    function = deployment.function("told", "told", timeout=2)

    has_failed, first = invoke(deployment, function, "return")
    assert not has_failed
    assert 0 < first["left"] <= 2000
    has_failed, error = invoke(deployment, function, "raise")
    assert has_failed
    assert (error["errorType"], error["errorMessage"]) == ("ValueError", "told to raise")
    assert invoke(deployment, function, "return")[1]["process"] == first["process"], "an exception ends no process"

    has_failed, error = invoke(deployment, function, "exit")
    assert has_failed
    assert error["errorMessage"].endswith("Runtime exited with status 3")
    has_failed, second = invoke(deployment, function, "return")
    assert not has_failed
    assert second["process"] != first["process"]

    has_failed, error = invoke(deployment, function, "sleep")
    assert has_failed
    assert error["errorMessage"].endswith("Task timed out after 2.00 seconds")
    assert not invoke(deployment, function, "return")[0]


def test_a_function_that_can_not_be_imported_says_why(deployment: Deployment) -> None:
    function = deployment.function("missing", "is_not_there")

    has_failed, error = invoke(deployment, function, "return")

    assert has_failed
    assert error["errorType"] == "AttributeError"

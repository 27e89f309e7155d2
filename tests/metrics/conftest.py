from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest

Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment of the tests says counts for nothing."""
    for name in [
        *(name for name in os.environ if name.startswith("STREAMKIT_")),
        *("AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_INITIALIZATION_TYPE"),
    ]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def on_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a function's own environment."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "orders-indexer")


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What was written to standard output since this was asked last, by line."""
    return lambda: capsys.readouterr().out.splitlines()


@pytest.fixture
def line(lines: Lines) -> Callable[[], dict[str, Any]]:
    """The one line that was written, as the object that it is."""

    def one() -> dict[str, Any]:
        (text,) = lines()
        found: dict[str, Any] = json.loads(text)
        return found

    return one

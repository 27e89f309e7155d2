"""The check of a template, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from .given import Check


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.chdir(tmp_path)
    return Check(tmp_path)

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.validate import HERE, SAM, transformed


@pytest.fixture(scope="package")
def function() -> dict[str, Any]:
    """function.yaml as AWS deploys it."""
    SAM.set_up(lambda _: None)
    template: dict[str, Any] = json.loads(transformed(HERE / "function.yaml"))
    return template

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.validate import HERE, transformed


@pytest.fixture(scope="package")
def function() -> dict[str, Any]:
    """function.yaml as AWS deploys it."""
    template: dict[str, Any] = json.loads(transformed(HERE / "function.yaml"))
    return template

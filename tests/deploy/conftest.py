from __future__ import annotations

from typing import Any

import pytest

from deploy.validate import HERE, transformed


@pytest.fixture(scope="package")
def function() -> dict[str, Any]:
    """function.yaml as AWS deploys it."""
    template: dict[str, Any] = transformed(HERE / "function.yaml")
    return template

"""The stage that STAGE names, with REGION and PROFILE; ``local`` by default, which is made for it."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from .world import World, aws_world, local_world


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    stage = os.environ.get("STAGE", "local")
    made = local_world() if stage == "local" else aws_world(stage, os.environ["REGION"], os.environ["PROFILE"])
    with made as world:
        yield world


@pytest.fixture
def run() -> str:
    """What the ids of one test begin with."""
    return f"t{uuid.uuid4().hex[:10]}"

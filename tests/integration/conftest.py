"""The stage that STAGE names, with REGION and PROFILE; ``local`` by default, which is made for it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ..acceptance.world import World, aws_world, local_world


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    stage = os.environ.get("STAGE", "local")
    functions = ("flights", "exact", "airports", "places", "fan")
    made = local_world(functions) if stage == "local" else aws_world(stage, os.environ["REGION"], os.environ["PROFILE"])
    with made as world:
        yield world

"""The properties to begin with, and what the documents say of them, beside the times that the code takes."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import pytest

from streamkit.cli.kcl import add_options
from streamkit.kcl.channel import Channel
from streamkit.kcl.checkpoints import Checkpoints
from streamkit.kcl.protocol import Position
from streamkit.kcl.worker import _PATIENCE

ROOT = Path(__file__).parents[2]
PROPERTIES = ROOT / "deploy/kcl/kcl.properties"


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds that the pauses between the tries of a checkpoint come to, at their longest."""
    monkeypatch.setattr("streamkit.kcl.checkpoints.random.uniform", lambda least, most: most)
    source, to_child = os.pipe()
    answer = {"action": "checkpoint", "sequenceNumber": "1", "subSequenceNumber": 0, "error": "ThrottlingException"}
    os.write(to_child, (json.dumps(answer) + "\n").encode() * 10)
    with open(os.devnull, "wb") as nobody:
        pauses: list[float] = []
        Checkpoints(Channel(source, nobody.fileno()), pauses.append).save(Position(1, 0))
    for pipe in (source, to_child):
        os.close(pipe)
    assert len(pauses) == 4
    return sum(pauses)


@pytest.mark.parametrize("name", ["shutdownGraceMillis", "gracefulLeaseHandoffTimeoutMillis"])
def test_a_grace_is_longer_than_a_run_the_wait_beside_it_and_the_tries_of_its_checkpoint(
    name: str, tries: float
) -> None:
    lines = [line for line in PROPERTIES.read_text().splitlines() if line and not line.startswith("#")]
    properties = {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}
    command = argparse.ArgumentParser()
    add_options(command)

    assert int(properties[name]) / 1000 > command.get_default("timeout") + _PATIENCE + tries


@pytest.mark.parametrize("file", [PROPERTIES, ROOT / "docs/kcl.md"], ids=["properties", "docs"])
def test_the_documents_count_all_three(file: Path, tries: float) -> None:
    text = " ".join(file.read_text().replace("#", "").split())

    assert f"--timeout`), {_PATIENCE:g} s of waiting beside a record that fails and {round(tries)} s of tries" in text

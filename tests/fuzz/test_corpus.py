"""The committed corpus through its targets: hostile inputs of each kind, what the fuzzer once found, and all of these damaged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ..test_decoders import damaged
from .targets import TARGETS

CORPUS = Path(__file__).resolve().parent / "corpus"


@pytest.fixture(autouse=True)
def _no_log() -> Iterator[None]:
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def test_every_target_has_inputs_and_every_input_a_target() -> None:
    assert {folder.name for folder in CORPUS.iterdir()} == TARGETS.keys()


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found_stays_mended(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.data())
def test_what_is_in_the_corpus_can_be_damaged_in_any_way(target: str, data: st.DataObject) -> None:
    inputs = [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]

    TARGETS[target](data.draw(damaged(st.sampled_from(inputs))))

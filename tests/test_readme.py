"""What the README shows, run as a reader would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_program_is_a_handler() -> None:
    names: dict[str, Any] = {"__name__": "orders"}

    exec(BLOCKS[0], names)

    assert len([line for line in BLOCKS[0].splitlines() if line]) <= 11
    assert names["handler"]({"Records": []}, None) == {"batchItemFailures": []}


def test_the_example_of_a_test_passes() -> None:
    names: dict[str, Any] = {"__name__": "orders"}
    exec(BLOCKS[0], names)
    exec("from streamkit import Divert", names)
    (example,) = [block for block in BLOCKS if "def test_" in block]
    exec(example, names)

    names["test_a_negative_total_is_dead_lettered"]()


def test_the_window_that_its_page_shows_is_a_handler_and_its_test_passes() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "windows.md").read_text()
    program, example = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"__name__": "totals"}
    exec(program, names)
    exec(example, names)

    names["test_a_window_is_a_row_for_each_customer"]()

    assert names["handler"](names["window_event"](is_final=True)) == {"batchItemFailures": [], "state": {}}


def test_the_processor_that_the_page_of_park_shows_is_a_handler() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "park.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {"__name__": "orders"}

    exec(program, names)

    assert names["handler"]({"Records": []}, None) == {"batchItemFailures": []}


def test_the_fan_outs_that_their_page_shows_are_handlers() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "fanout.md").read_text()
    for program in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        names: dict[str, Any] = {"__name__": "orders"}
        exec("from streamkit import RecordProcessor", names)
        for branch in ("Search", "Audit", "Ledger"):
            exec(f"class {branch}(RecordProcessor):\n    name = {branch.lower()!r}", names)

        exec(program, names)

        assert names["handler"]({"Records": []}, None) == {"batchItemFailures": []}


def test_every_page_it_names_is_there() -> None:
    root = Path(__file__).resolve().parent.parent
    links = re.findall(r"\]\(([\w./-]+)\)", README)

    assert links
    assert [link for link in links if not (root / link).exists()] == []

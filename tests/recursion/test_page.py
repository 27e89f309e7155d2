"""What docs/long-tasks.md shows, run as a reader would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from streamkit.loops.function import LoopFunction, SupervisorFunction
from streamkit.recursion import LongTaskHandler

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "long-tasks.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_long_task_of_the_page_runs_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pages: list[tuple[str, int]] = []

    def copy_page(table: str, page: int) -> bool:
        pages.append((table, page))
        return page == 2

    program: dict[str, Any] = {"copy_page": copy_page, "__name__": "page"}
    exec(PROGRAMS[0], program)  # The page's own.
    handler = program["handler"]
    assert isinstance(handler, LongTaskHandler)
    program["Export"].guard = None

    answer = handler({"table": "orders", "day": "2026-11-30"})

    assert (answer["state"], answer["chain"]) == ("done", "orders-2026-11-30")
    assert pages == [("orders", 0), ("orders", 1), ("orders", 2)]


def test_the_loop_of_the_page_is_one() -> None:
    program: dict[str, Any] = {"__name__": "page"}
    exec(PROGRAMS[1], program)  # The page's own.

    assert isinstance(program["handler"], LoopFunction)
    assert isinstance(program["supervisor"], SupervisorFunction)


def test_each_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    folders = [Path(__file__).resolve().parents[1] / name for name in ("recursion", "loops", "processors")]
    there = {
        name
        for folder in folders
        for file in folder.glob("*.py")
        for name in re.findall(r"def (test_\w+)", file.read_text())
    }

    assert len(named) > 10
    assert named - there == set()


def test_each_variable_of_the_loops_and_each_metric_is_in_the_page_or_its_module() -> None:
    root = Path(__file__).resolve().parents[2] / "streamkit"
    source = "".join(file.read_text() for folder in ("loops", "recursion") for file in (root / folder).glob("*.py"))
    counted = set(re.findall(r'count\("[a-z_]+\.(\w+)"', source))
    assert len(counted) > 8

    assert [name for name in counted if f".{name}`" not in PAGE and f"{name}`" not in PAGE] == []

    variables = set(re.findall(r'"(LOOPS?_[A-Z_]+)"', source))
    assert len(variables) > 10
    assert [name for name in variables if f"`{name}`" not in PAGE] == []

"""The page on choosing a sink tells of each that there is: what a repeat does, what order means, what it costs, its limits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from streamkit.sinks.base import Sink
from tests.faults.cells import backends, in_memory

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "choosing.md"
SINKS = sorted(one.__name__ for one in backends() if issubclass(one, Sink) and not in_memory(one))


@pytest.mark.parametrize(
    "columns", ["a repeated write | order | a late, older write", "a million records | and besides"]
)
def test_each_sink_has_a_row_in_which_no_column_is_empty(columns: str) -> None:
    # A table ends with the first line that is none of its rows.
    table = PAGE.read_text().partition(f"| sink | {columns}")[2].partition("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]

    named = {match[1] for row in rows if (match := re.match(r"`(\w+)", row[0]))}
    assert named == set(SINKS)
    assert all(all(row) for row in rows)

"""Every store in a file under what stands for every fault there."""

from __future__ import annotations

from pathlib import Path

import pytest

from .cells import Fault
from .files import FILES, OfSqlite
from .rows import cells_of


@pytest.mark.parametrize(("row", "fault"), cells_of(FILES))
def test_a_file_does_what_its_cell_says(row: type[OfSqlite], fault: Fault, tmp_path: Path) -> None:
    row(tmp_path).check(fault, row.cells[fault])

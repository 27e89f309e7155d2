"""Every store under every fault."""

from __future__ import annotations

import pytest

from .cells import Fault
from .cloud import Cloud
from .rows import cells_of
from .stores import STORES, StoreRow


@pytest.mark.parametrize(("row", "fault"), cells_of(STORES))
def test_a_store_does_what_its_cell_says(row: type[StoreRow], fault: Fault, cloud: Cloud) -> None:
    cloud.row(row).check(fault, row.cells[fault])

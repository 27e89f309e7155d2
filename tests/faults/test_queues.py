"""Every queue under every fault."""

from __future__ import annotations

import pytest

from .cells import Fault
from .cloud import Cloud
from .queues import QUEUES, QueueRow
from .rows import cells_of


@pytest.mark.parametrize(("row", "fault"), cells_of(QUEUES))
def test_a_queue_does_what_its_cell_says(row: type[QueueRow], fault: Fault, cloud: Cloud) -> None:
    cloud.row(row).check(fault, row.cells[fault])

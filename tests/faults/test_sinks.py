"""Every sink under every fault; ``pytest tests/faults -k BigQuerySink-throttling`` is one cell."""

from __future__ import annotations

import pytest

from .cells import Fault
from .cloud import Cloud
from .rows import cells_of
from .sinks import SINKS, SinkRow


@pytest.mark.parametrize(("row", "fault"), cells_of(SINKS))
def test_a_sink_does_what_its_cell_says(row: type[SinkRow], fault: Fault, cloud: Cloud) -> None:
    cloud.row(row).check(fault, row.cells[fault])

"""All rows of the matrix, and its cells as pytest's parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from .cells import FAULTS, Row
from .files import FILES
from .queues import QUEUES
from .sinks import SINKS
from .stores import STORES

__all__ = ["ROWS", "cells_of"]

ROWS: Sequence[type[Row]] = (*SINKS, *QUEUES, *STORES, *FILES)


def cells_of(rows: Sequence[type[Row]]) -> list[Any]:
    """One parameter for each cell: ``BigQuerySink-throttling``."""
    return [pytest.param(row, fault, id=f"{row.name()}-{fault}") for row in rows for fault in FAULTS]

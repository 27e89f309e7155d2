"""The matrix has no empty cell, its rule for what needs no row holds, and the documentation's table is the one that is tested."""

from __future__ import annotations

import builtins
import inspect
import re
import socket
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from streamkit.cells.base import CellStore
from streamkit.checkpoints.base import CheckpointStore
from streamkit.claims.base import ClaimStore
from streamkit.ledgers.base import Ledger
from streamkit.marks.base import MarkStore
from streamkit.plans.base import PlanStore
from streamkit.progress.base import ProgressStore
from streamkit.queues.base import Queue
from streamkit.sinks.base import Sink, Write
from streamkit.testing.contracts import message, stamp

from . import test_files, test_queues, test_sinks, test_stores
from .cells import FAULTS, SEAMS, Cell, Row, backends, choices, empty_cells, in_memory, seams
from .rows import ROWS
from .stores import CheckpointCalls, OfCells, OfLedger, OfMarks, OfPlans, OfProgress, OfS3Claims
from .table import PAGE, page_with, table


def test_every_sink_queue_and_store_has_a_cell_for_every_fault() -> None:
    assert empty_cells(backends(), ROWS) == []


def test_every_cell_has_its_test() -> None:
    tests = (
        test_sinks.test_a_sink_does_what_its_cell_says,
        test_queues.test_a_queue_does_what_its_cell_says,
        test_stores.test_a_store_does_what_its_cell_says,
        test_files.test_a_file_does_what_its_cell_says,
    )
    ids = [parameter.id for test in tests for mark in _marks(test) for parameter in mark.args[1]]

    assert sorted(ids) == sorted(f"{row.name()}-{fault}" for row in ROWS for fault in FAULTS)
    assert len(set(ids)) == len(ids)


def _marks(test: Any) -> list[Any]:
    return [mark for mark in test.pytestmark if mark.name == "parametrize"]


def test_a_backend_that_is_new_is_found_and_its_cells_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    class NewSink(Sink):
        def write(self, writes: Sequence[Write], *, deadline: float) -> Sequence[Any]:
            return ()

    NewSink.__module__ = "streamkit.sinks.new"

    assert NewSink in backends()
    assert empty_cells(backends(), ROWS) == [f"NewSink-{fault}" for fault in FAULTS]
    # Nobody else is to find it.
    NewSink.__module__ = __name__
    assert NewSink not in backends()


def test_every_seam_is_one_of_the_matrix() -> None:
    assert seams() == set(SEAMS)


#: The choices that change no request, or a request of their own only, and so have no row: what they do, and what tests it.
_NO_MANNERS = {
    (
        "BigQuerySink",
        "unknown",
    ): "what becomes of columns that the table does not have (tests/sinks/test_bigquery_table.py)",
    ("CloudSearchSink", "check_fields"): "asks for the domain's fields first (tests/sinks/test_cloudsearch_fields.py)",
    ("OpenSearchSink", "service"): "how requests are signed (tests/sinks/test_opensearch.py)",
}


def test_every_way_in_which_a_backend_can_work_has_a_row_of_its_own() -> None:
    without_row = {
        (backend.__name__, name)
        for backend in backends()
        if not in_memory(backend)
        for name, default in choices(backend).items()
        if not any(row.backend is backend and row.options.get(name, default) != default for row in ROWS)
    }

    assert without_row == _NO_MANNERS.keys()


def test_what_a_row_is_made_with_is_an_option_of_its_backend() -> None:
    for row in ROWS:
        assert row.options.keys() <= inspect.signature(row.backend).parameters.keys()
        assert not row.options or row.manner


def test_a_choice_that_is_new_is_found() -> None:
    class NewSink(Sink):
        def __init__(self, place: str, *, wait: bool = False, how: Literal["so", "or so"] | None = None) -> None: ...

        def write(self, writes: Sequence[Write], *, deadline: float) -> Sequence[Any]:
            return ()

    assert choices(NewSink) == {"wait": False, "how": None}


def test_a_fault_without_a_cell_is_told() -> None:
    class Half(OfPlans):
        cells = {"slow": Cell("raises", None, "harmless")}

    assert empty_cells([], [Half]) == [f"{Half.name()}-{fault}" for fault in FAULTS if fault != "slow"]


def test_every_backend_is_found() -> None:
    found = {backend.__name__ for backend in backends()}

    assert found >= {
        "BigQuerySink",
        "SnsSink",
        "SqsQueue",
        "S3Claims",
        "SqliteCheckpoints",
        "MemoryLedger",
        "MemoryQueue",
    }
    # What only others are made of is none.
    assert not found & {"AwsSink", "MessageSink", "AwsQueue", "TransactionalCheckpoints", "ShardSink"}
    for seam in SEAMS:
        assert any(issubclass(backend, seam) for backend in backends())


def test_no_row_is_of_something_that_is_not_there() -> None:
    assert {row.backend for row in ROWS} <= set(backends())
    assert not any(in_memory(row.backend) for row in ROWS)


def test_what_cannot_happen_is_rare_and_says_why() -> None:
    impossible = [cell.impossible for row in ROWS for cell in row.cells.values() if cell.impossible]

    assert len(impossible) <= len(ROWS) * len(FAULTS) // 20
    assert all(re.fullmatch(r"an? \w+ .{5,}; .{5,}:", reason) for reason in impossible), impossible


# In memory


@pytest.mark.parametrize("backend", [pytest.param(one, id=one.__name__) for one in backends() if in_memory(one)])
def test_what_is_in_memory_needs_neither_a_connection_nor_a_file(
    backend: type[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = backend()
    use = next(use for seam, use in _USES.items() if isinstance(target, seam))
    with monkeypatch.context() as patched:
        for place, name in ((socket.socket, "connect"), (builtins, "open"), (sqlite3, "connect")):
            patched.setattr(place, name, _nothing_of_the_kind)
        use(target)


def test_what_is_not_in_memory_does_not_pass_for_it(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from streamkit.checkpoints.sqlite import SqliteCheckpoints

    monkeypatch.setattr(sqlite3, "connect", _nothing_of_the_kind)

    with pytest.raises(AssertionError, match="in memory"):
        _make_calls(CheckpointCalls.calls)(SqliteCheckpoints(tmp_path / "checkpoints.db"))


def _nothing_of_the_kind(*_: Any, **__: Any) -> Any:
    raise AssertionError("it is said to be in memory")


def _soon() -> float:
    return time.monotonic() + 30


def _write(sink: Any) -> None:
    assert list(sink.write(stamp([sink.item(1)]), deadline=_soon()) or ()) == []
    assert sink.items == [1]


def _send(queue: Any) -> None:
    assert list(queue.send([message(1)], deadline=_soon())) == []
    assert len(queue) == 1


def _make_calls(calls: Sequence[Any]) -> Callable[[Any], None]:
    def use(store: Any) -> None:
        for call in calls:
            given = call.before(store, call.name)
            assert call.is_right(call.do(store, call.name, given, _soon()), call.last), call.name

    return use


_USES: dict[type[Any], Callable[[Any], None]] = {
    Sink: _write,
    Queue: _send,
    ProgressStore: _make_calls(OfProgress.calls),
    Ledger: _make_calls(OfLedger.calls),
    MarkStore: _make_calls(OfMarks.calls),
    PlanStore: _make_calls(OfPlans.calls),
    CellStore: _make_calls(OfCells.calls),
    CheckpointStore: _make_calls(CheckpointCalls.calls),
    ClaimStore: _make_calls(OfS3Claims.calls),
}


# The page


def test_the_table_of_the_page_is_what_is_tested() -> None:
    assert PAGE.read_text() == page_with(table()), "run `python -m tests.faults.table`"


def test_the_table_tells_every_cell() -> None:
    made = table()

    for row in ROWS:
        (line,) = [line for line in made.splitlines() if line.startswith(f"| `{_title(row)}` |")]
        assert line.count(" | ") == len(FAULTS)
        assert all(row.cells[fault].words in line for fault in FAULTS)


def _title(row: type[Row]) -> str:
    return row.name().replace("-", ", ", 1)

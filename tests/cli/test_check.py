"""``streamkit check``: what it says of a function as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from .process import ended

HEAD = """
from streamkit import Block, Divert, RecordProcessor, lambda_handler
from streamkit.fanout import FanOut
from streamkit.progress.memory import MemoryProgress
from streamkit.testing import MemoryQueue

class Search(RecordProcessor):
    name = "search"
    on_failure = Divert(MemoryQueue())
    def process(self, record): pass

class Audit(RecordProcessor):
    name = "audit"
    def process(self, record): pass
"""
BLOCK = "warning: audit: has Block: a record that fails in it holds the next records for all branches. Divert and Park don't\n"


def checked(folder: Path, program: str) -> tuple[int, str, str]:
    (folder / "orders.py").write_text(HEAD + program)
    one = ended(folder, "check", "orders:handler")
    return one.returncode, one.stdout, one.stderr


def test_a_branch_that_holds_the_records_of_all_is_told(tmp_path: Path) -> None:
    program = "handler = lambda_handler(FanOut(Search, Audit, progress=MemoryProgress()))"

    assert checked(tmp_path, program) == (0, BLOCK, "0 errors, 1 warning\n")


def test_where_nothing_is_to_be_said_nothing_is(tmp_path: Path) -> None:
    assert checked(tmp_path, "handler = lambda_handler(Search)") == (0, "", "0 errors, 0 warnings\n")
    assert checked(tmp_path, "handler = lambda_handler(lambda: Audit())") == (0, "", "0 errors, 0 warnings\n")
    named = """
class Nameless(RecordProcessor):
    on_failure = Divert(MemoryQueue())
    def __init__(self): self.name = "orders"
    def process(self, record): pass
handler = lambda_handler(Nameless)
"""
    assert checked(tmp_path, named) == (0, "", "0 errors, 0 warnings\n")


def test_a_name_that_was_not_given_is_told_where_something_is_stored_under_it(tmp_path: Path) -> None:
    program = """
class Nameless(RecordProcessor):
    on_failure = Divert(MemoryQueue())
    def process(self, record): pass
handler = lambda_handler(Nameless)
"""
    code, out, err = checked(tmp_path, program)

    assert (code, err) == (0, "0 errors, 1 warning\n")
    assert out.startswith("warning: orders.Nameless: has the name of its class")
    assert out.endswith('Write name = "nameless"\n')


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("handler = lambda_handler(lambda: FanOut(Search, Search))", "is the name of two branches"),
        (
            "def handler(event, context): pass",
            "orders:handler was not made by lambda_handler, so nothing is known of it",
        ),
        ("handler = lambda_handler(lambda: 1 / 0)", "orders:handler can't be made: ZeroDivisionError"),
        ("raise ValueError('no')", "orders can't be loaded"),
    ],
)
def test_what_can_not_be_ends_with_1_and_the_reason(tmp_path: Path, program: str, reason: str) -> None:
    code, out, err = checked(tmp_path, program)

    assert (code, out) == (1, "")
    assert reason in err


def test_a_function_that_is_not_there_is_an_error_of_usage(tmp_path: Path) -> None:
    assert ended(tmp_path, "check", "nowhere:handler").returncode == 2
    assert ended(tmp_path, "check", "nowhere").returncode == 2

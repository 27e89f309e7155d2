"""``make simulate``: how it is told what to do, interrupted, and gone on with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# As it is where all is committed, its state in a folder of the test's.
PROGRAM = """
import sys
from pathlib import Path
from tests.simulation import __main__ as simulate
simulate._STATE = Path(sys.argv.pop(1))
simulate._commit = lambda: ("0123456789", True)
simulate._CHUNK = 10
sys.exit(simulate.main())
"""
CHUNK = 10


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / ".local" / "simulate.json"


def command(state: Path, count: int) -> list[str]:
    return [sys.executable, "-c", PROGRAM, str(state), "--count", str(count)]


def ended(state: Path, count: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(state, count), cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture
def endless(state: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that has kept how far it came, in a process group of its own."""
    process = subprocess.Popen(
        command(state, 10**7),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        until = time.monotonic() + 120
        while not state.exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_ctrl_c_ends_it_with_a_line_and_the_same_command_goes_on(endless: subprocess.Popen[str], state: Path) -> None:
    os.killpg(endless.pid, signal.SIGINT)
    _, said = endless.communicate(timeout=120)

    done = json.loads(state.read_text())["done"]
    assert done >= CHUNK
    assert endless.returncode == 130
    assert said == (
        f"\ninterrupted after {done:,} of 10,000,000 schedules, which ran clean: the same command goes on from there\n"
    )
    assert f"going on after the {done:,} schedules that ran clean" in ended(state, done + 1).stdout


def test_a_second_run_at_a_time_says_so_and_ends(endless: subprocess.Popen[str], state: Path) -> None:
    second = ended(state, 1)

    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr.startswith("another run is under way")
    assert endless.poll() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"done": 7}', '{"commit": "0123456789", "done": null}'])
def test_a_damaged_state_begins_anew_and_says_so(state: Path, text: str) -> None:
    state.parent.mkdir()
    state.write_text(text)

    one = ended(state, 1)

    assert (one.returncode, one.stdout.splitlines()[-1]) == (0, "1 schedules ran clean at 0123456789")
    assert one.stderr == ".local/simulate.json is damaged: beginning anew\n"
    assert json.loads(state.read_text()) == {"commit": "0123456789", "done": 1}


@pytest.mark.parametrize("count", [0, -4])
def test_nothing_to_run_is_typed_wrong(state: Path, count: int) -> None:
    state.parent.mkdir()
    state.write_text('{"commit": "0123456789", "done": 20000}')

    one = ended(state, count)

    assert (one.returncode, one.stdout) == (2, "")
    assert one.stderr.endswith(f"argument --count: '{count}': how many schedules? 1 or more\n")

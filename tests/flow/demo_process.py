"""``python -m demo`` as a process, what it printed, and whether it has left something behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

__all__ = ["counts", "demo", "is_left_behind"]

ROOT = Path(__file__).resolve().parent.parent.parent


def demo(folder: Path, *arguments: str, module: str = "demo") -> subprocess.Popen[str]:
    """The demo, with all that it makes in ``folder``."""
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def counts(out: str) -> dict[str, int]:
    """The table: each line's name and number."""
    return {name: int(number) for name, number in re.findall(r"^ *([a-z -]+?) (\d+)  ", out, re.MULTILINE)}


def is_left_behind(folder: Path, within: float = 10.0) -> bool:
    """Whether a file is left in the folder, or a process that has it on its command line: each server's watcher has.

    A watcher ends when it sees that its parent has: so it is looked for again for ``within`` seconds.
    """
    until = time.monotonic() + within
    while list(folder.iterdir()) or str(folder) in _command_lines():
        if time.monotonic() > until:
            return True
        time.sleep(0.1)
    return False


def _command_lines() -> str:
    return subprocess.run(["ps", "-A", "-o", "args"], capture_output=True, text=True, check=True).stdout

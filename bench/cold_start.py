"""A fresh process to its first answer, with streamkit and with powertools."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from .harness import Row, check_equal, compare, progress
from .orders import NOTHING_FAILED, event_of, key_of, orders, payload_of

__all__ = ["run"]

_COLD = Path(__file__).parent / "cold"
_SCRIPTS = {"streamkit": "with_streamkit.py", "powertools": "with_powertools.py", "bare": "bare.py"}
_WARM_UPS = 3


def run(seconds: float) -> list[Row]:
    """The benchmark of the cold start. Here it is the time on the clock that counts, and the median of many processes."""
    placed = orders(1)
    event = event_of([payload_of(placed[0])], [key_of(placed[0])])
    expected = [NOTHING_FAILED, placed]
    rounds: dict[str, list[float]] = {name: [] for name in _SCRIPTS}
    order = list(_SCRIPTS)
    progress(f"fresh processes with streamkit, with powertools and with neither, for {seconds:.0f} s")
    with tempfile.TemporaryDirectory() as cache:
        # Bytecode of everything is kept from the first run on, whatever the environment says of it: Lambda's image has it.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment["PYTHONPYCACHEPREFIX"] = cache
        end = time.monotonic() + seconds
        runs = 0
        while time.monotonic() < end or runs < _WARM_UPS + 5:
            for name in order:
                took, answer = _first_answer(_SCRIPTS[name], json.dumps(event), environment)
                check_equal(
                    f"cold start, {name}", {"expected": event if name == "bare" else expected, "answer": answer}
                )
                if runs >= _WARM_UPS:
                    rounds[name].append(took)
            order.reverse()
            runs += 1
    ours, peer, bare = rounds["streamkit"], rounds["powertools"], rounds["bare"]
    title = "a fresh process to its first answer / powertools batch"
    row = compare(title, ours, peer, at_most=0.6, best=median, per=1e6, unit="ms")
    floor = compare(
        "a fresh process to its first answer / the interpreter alone", ours, bare, best=median, per=1e6, unit="ms"
    )
    return [row, floor]


def _first_answer(script: str, event: str, environment: dict[str, str]) -> tuple[float, object]:
    """Nanoseconds from before the process is made until its answer is read, and the answer."""
    start = time.perf_counter_ns()
    with subprocess.Popen(
        [sys.executable, str(_COLD / script), event], env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter_ns() - start
        process.stdout.read()
    return took, json.loads(line) if line else f"nothing, and exit code {process.returncode}"

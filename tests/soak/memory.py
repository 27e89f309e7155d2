"""Whether a process's memory is flat."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from statistics import median

__all__ = ["Sampler", "growth", "rss"]

_BETWEEN = 0.25
_FEWEST = 25
_PAGE = 4096


def rss(pid: int) -> float:
    """Resident memory in MB; 0 where the process is gone."""
    statm = Path(f"/proc/{pid}/statm")
    try:
        if statm.parent.parent.joinpath("self").exists():
            return int(statm.read_text().split()[1]) * _PAGE / 1e6
    except (OSError, IndexError):
        return 0.0
    answer = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return int(answer.stdout or 0) * 1024 / 1e6


def growth(samples: Sequence[float], *, per_cent: float = 10.0, slack: float = 10.0) -> str | None:
    """Why these samples of one process, evenly taken, are not flat; None where they are.

    The median of the last fifth may be over that of the second by ``per_cent``, or by ``slack`` MB where that is more. The first
    fifth is left out: a process first imports, connects and fills its caches.
    """
    if len(samples) < _FEWEST:
        return f"{len(samples)} samples are too few to tell"
    fifth = len(samples) // 5
    early, late = median(samples[fifth : 2 * fifth]), median(samples[-fifth:])
    most = early + max(early * per_cent / 100, slack)
    return f"{late:.1f} MB at the end, {early:.1f} MB in the second fifth" if late > most else None


class Sampler:
    """Takes samples of processes in the background. ``follow`` begins anew where a process was started again."""

    def __init__(self) -> None:
        self.samples: dict[str, list[float]] = {}
        self._pids: dict[str, int] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def follow(self, name: str, pid: int) -> None:
        self.samples[name] = []
        self._pids[name] = pid

    def _run(self) -> None:
        while not self._is_over.wait(_BETWEEN):
            for name, pid in list(self._pids.items()):
                size = rss(pid)
                if size and self._pids[name] == pid:
                    self.samples[name].append(size)

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()

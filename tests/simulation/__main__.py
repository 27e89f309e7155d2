"""Replay one schedule, or run many: ``make simulate SEED=7``, ``make simulate N=100000``.

Many run on all cores. How far they came is kept in ``.local/simulate.json``, by commit: interrupted, the same command goes on
from there. Changes that are not committed begin anew.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from multiprocessing import Pool
from pathlib import Path

from .schedule import schedule
from .world import Violation

_ROOT = Path(__file__).resolve().parents[2]
_STATE = _ROOT / ".local" / "simulate.json"
_CHUNK = 250
_MOST_FAILURES = 10


def main() -> int:
    """Do what the arguments say; the exit code."""
    parser = argparse.ArgumentParser(prog="make simulate")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=int, help="replay this schedule, and print what happens in it")
    what.add_argument("--count", type=int, help="run so many schedules, from 0 on")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    return _replay(options.seed) if options.seed is not None else _run(options.count)


def _replay(seed: int) -> int:
    played = schedule(seed)
    try:
        played.run()
    except Violation as violation:
        print("\n".join(played.trace))
        print(f"seed {seed}: {violation}", file=sys.stderr)
        return 1
    print("\n".join(played.trace))
    print(f"seed {seed}: every guarantee held")
    return 0


def _run(count: int) -> int:
    commit, is_clean = _commit()
    done = _done(commit) if is_clean else 0
    if done:
        print(f"going on after the {done:,} schedules that ran clean at {commit}", flush=True)
    started, began_with = time.monotonic(), done
    # A worker ends after a while: what a crash unwinds is held for long by the tracebacks of it.
    with Pool(os.cpu_count(), maxtasksperchild=8) as pool:
        chunks = [range(first, min(first + _CHUNK, count)) for first in range(done, count, _CHUNK)]
        for chunk, failures in zip(chunks, pool.imap(_failures, chunks), strict=True):
            if failures:
                for seed, violation in failures[:_MOST_FAILURES]:
                    print(f"{violation}; replay it: make simulate SEED={seed}")
                return 1
            done = chunk.stop
            if is_clean:
                _STATE.parent.mkdir(exist_ok=True)
                _STATE.write_text(json.dumps({"commit": commit, "done": done}))
            rate = (done - began_with) / (time.monotonic() - started)
            if done // _CHUNK % 20 == 0:
                print(f"{done:,} of {count:,} ran clean, {rate:,.0f} a second", flush=True)
    print(f"{max(done, count):,} schedules ran clean at {commit}{'' if is_clean else ' with changes not committed'}")
    return 0


def _failures(seeds: range) -> list[tuple[int, str]]:
    """The seeds that broke a guarantee, and how."""
    found = []
    for seed in seeds:
        try:
            schedule(seed).run()
        except Violation as violation:
            found.append((seed, str(violation)))
    return found


def _commit() -> tuple[str, bool]:
    """The commit that is checked out, and whether the code is just that."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()

    return git("rev-parse", "--short=10", "HEAD"), not git("status", "--porcelain", "--", "streamkit", "tests")


def _done(commit: str) -> int:
    if not _STATE.exists():
        return 0
    state = json.loads(_STATE.read_text())
    return int(state["done"]) if state["commit"] == commit else 0


if __name__ == "__main__":
    sys.exit(main())

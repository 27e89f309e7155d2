"""Replay one schedule, or run many: ``make simulate SEED=7``, ``make simulate N=100000``.

Many run on all cores. How far they came is kept in ``.local/simulate.json``, by commit: interrupted, the same command goes on
from there. Changes that are not committed begin anew. One run at a time keeps it.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import logging
import os
import signal
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
_INTERRUPTED = 128 + 2


def main() -> int:
    """Do what the arguments say; the exit code."""
    parser = argparse.ArgumentParser(prog="make simulate")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=int, help="replay this schedule, and print what happens in it")
    what.add_argument("--count", type=_count, help="run so many schedules, from 0 on")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.seed is not None:
        return _replay(options.seed)
    commit, is_clean = _commit()
    if not is_clean:
        return _run(options.count, commit, is_kept=False)
    _STATE.parent.mkdir(exist_ok=True)
    with _STATE.with_suffix(".lock").open("w") as file:
        try:
            # Not flock, whose lock the workers would have too, for as long as they live.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another run is under way, and keeps how far it came: wait for it, or end it", file=sys.stderr)
            return 1
        return _run(options.count, commit, is_kept=True)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: how many schedules? 1 or more")
    return int(text)


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


def _run(count: int, commit: str, *, is_kept: bool) -> int:
    done = _done(commit) if is_kept else 0
    if done:
        print(f"going on after the {done:,} schedules that ran clean at {commit}", flush=True)
    started, began_with = time.monotonic(), done
    try:
        # A worker ends after a while: what a crash unwinds is held for long by the tracebacks of it. Ctrl-C is for this process,
        # which ends them.
        with Pool(os.cpu_count(), signal.signal, (signal.SIGINT, signal.SIG_IGN), maxtasksperchild=8) as pool:
            chunks = [range(first, min(first + _CHUNK, count)) for first in range(done, count, _CHUNK)]
            for chunk, failures in zip(chunks, pool.imap(_failures, chunks), strict=True):
                if failures:
                    for seed, violation in failures[:_MOST_FAILURES]:
                        print(f"{violation}; replay it: make simulate SEED={seed}")
                    return 1
                done = chunk.stop
                if is_kept:
                    _keep(commit, done)
                rate = (done - began_with) / (time.monotonic() - started)
                if done // _CHUNK % 20 == 0:
                    print(f"{done:,} of {count:,} ran clean, {rate:,.0f} a second", flush=True)
    except KeyboardInterrupt:
        then = "the same command goes on from there" if is_kept else "it begins anew, since changes are not committed"
        print(f"\ninterrupted after {done:,} of {count:,} schedules, which ran clean: {then}", file=sys.stderr)
        return _INTERRUPTED
    print(f"{max(done, count):,} schedules ran clean at {commit}{'' if is_kept else ' with changes not committed'}")
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


def _keep(commit: str, done: int) -> None:
    """In one piece, however this ends."""
    written = _STATE.with_suffix(".new")
    written.write_text(json.dumps({"commit": commit, "done": done}))
    written.replace(_STATE)


def _done(commit: str) -> int:
    if not _STATE.exists():
        return 0
    try:
        state = json.loads(_STATE.read_text())
        return int(state["done"]) if state["commit"] == commit else 0
    except (ValueError, KeyError, TypeError):
        print(f"{_STATE.relative_to(_STATE.parents[1])} is damaged: beginning anew", file=sys.stderr)
        return 0


if __name__ == "__main__":
    sys.exit(main())

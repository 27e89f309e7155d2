"""``python -m tests.exactly_once --crashes 1000 --kills 30``: the proof in full, against local-bigquery."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "localstack"))

from local_bigquery import bigquery_server  # A folder of modules: the path comes first.
from local_moto import moto_in_process

from .kills import kill
from .schedules import Tally, in_memory, on_a_server


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.exactly_once", description=__doc__)
    parser.add_argument("--crashes", type=int, default=1000, metavar="N", help="seeded crashes against local-bigquery")
    parser.add_argument("--in-memory", type=int, default=20_000, metavar="N", help="seeded crashes against memory")
    parser.add_argument("--kills", type=int, default=30, metavar="N", help="processes to SIGKILL")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    failed = 0
    if options.in_memory:
        start = time.monotonic()
        failed += _show("in memory", in_memory(count(options.seed), crashes=options.in_memory), start)
    with bigquery_server() as server, moto_in_process() as moto:
        if options.crashes:
            start = time.monotonic()
            tally = on_a_server(count(options.seed + 1_000_000), server, crashes=options.crashes)
            failed += _show("on local-bigquery", tally, start)
        if options.kills:
            start = time.monotonic()
            killed = kill(options.kills, server, moto, options.seed)
            took = time.monotonic() - start
            print(f"SIGKILL: {options.kills} processes, {killed.rows} rows in {took:.0f} s, wrong: {len(killed.wrong)}")
            for what, n in killed.left.most_common():
                print(f"  {n:6} left {what}")
            print("\n".join(killed.wrong[:20]))
            failed += bool(killed.wrong)
    return min(failed, 1)


def _show(where: str, tally: Tally, start: float) -> int:
    print(
        f"{where}: {tally.crashes.total()} crashes in {tally.schedules} schedules, {tally.rows} rows in "
        f"{time.monotonic() - start:.0f} s, schedules with a row missing or repeated: {len(tally.wrong)}"
    )
    for boundary, n in tally.crashes.most_common():
        print(f"  {n:6} {boundary}")
    print(
        "  also: " + ", ".join(f"{n} {fault}" for fault, n in tally.faults.most_common() if fault != "crash"),
        flush=True,
    )
    for seed, story in list(tally.wrong.items())[:3]:
        print(f"seed {seed}:", *story, sep="\n  ")
    return len(tally.wrong)


if __name__ == "__main__":
    sys.exit(main())

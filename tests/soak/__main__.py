"""``python -m tests.soak --records 1000000``: the soak, with its progress; ends with 1 where the ledger does not balance."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "localstack"))

from .report import lines  # A folder of modules: the path comes first.
from .soak import Options, new_folder, soak

_RECORDS_OF_A_ROUND = 250_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, metavar="N")
    parser.add_argument(
        "--seed", type=int, default=1, help="draws the records, their fates and the faults (%(default)s)"
    )
    parser.add_argument("--rate", type=float, default=0.01, help="of each fault (%(default)s)")
    parser.add_argument("--rounds", type=int, help=f"by default one for {_RECORDS_OF_A_ROUND:,} records")
    parser.add_argument("--kills", type=int, default=4, help="SIGKILLs of each worker (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the store, the journal and the logs")
    options = parser.parse_args()
    if options.records < 1 or not 0 <= options.rate <= 0.1:
        parser.error("--records is 1 or more, and --rate from 0 to 0.1")
    rounds = options.rounds or max(1, round(options.records / _RECORDS_OF_A_ROUND))
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    folder = new_folder()
    is_kept = options.keep
    try:
        report = soak(
            Options(options.records, options.seed, options.rate, rounds, options.kills),
            folder,
            lambda line: print(line, flush=True),
        )
        print(*lines(report), sep="\n")
        is_kept |= bool(report.wrong)
        return 1 if report.wrong else 0
    except BaseException:
        is_kept = True
        raise
    finally:
        if is_kept:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())

"""Fuzz each target for a while: ``make fuzz``, ``make fuzz SECONDS=600 TARGET=aggregate``.

What each found goes to ``.local/fuzz/<target>``: inputs that led further, and beside them ``crash-…``, ``timeout-…`` or ``oom-…``
where there is a finding. The committed corpus is replayed first and not written to: a finding is to be copied there, with a name,
together with what mends it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from .targets import TARGETS

_ROOT = Path(__file__).resolve().parents[2]
_CORPUS = Path(__file__).resolve().parent / "corpus"
_WORDS = Path(__file__).resolve().parent / "words.txt"
# Size is what tests/hostile is about; here it would only cost speed.
_LONGEST_INPUT = 1024
# Of one input: what takes so much is a finding.
_MOST_SECONDS = 10
_MOST_MEGABYTES = 1024


def main() -> int:
    """Fuzz what the arguments say; 1 where something was found."""
    parser = argparse.ArgumentParser(prog="make fuzz")
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    parser.add_argument("--target", action="append", choices=TARGETS, help="this one alone; can be given several times")
    parser.add_argument("--folder", type=Path, default=_ROOT / ".local" / "fuzz", help="where to keep what is found")
    options = parser.parse_args()
    found = [name for name in options.target or TARGETS if not _is_sound(name, options.seconds, options.folder)]
    print(f"findings in {', '.join(found)}: see {options.folder}" if found else "no findings")
    return 1 if found else 0


def _is_sound(name: str, seconds: int, folder: Path) -> bool:
    """Fuzz one target in a process of its own, and say how far it came."""
    inputs = folder / name / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    arguments = [
        *(str(inputs), str(_CORPUS / name)),
        *(f"-max_total_time={seconds}", f"-max_len={_LONGEST_INPUT}", f"-dict={_WORDS}"),
        *(f"-timeout={_MOST_SECONDS}", f"-rss_limit_mb={_MOST_MEGABYTES}", f"-artifact_prefix={folder / name}/"),
        "-print_final_stats=1",
    ]
    command = [sys.executable, "-m", "tests.fuzz.inside", name, *arguments]
    process = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    said = process.stdout.decode("utf-8", "replace")
    runs = re.findall(r"stat::number_of_executed_units: +(\d+)", said)
    coverage = re.findall(r" cov: (\d+) ft: (\d+) corp: (\d+)", said)
    covered, features, kept = coverage[-1] if coverage else ("?", "?", "?")
    print(
        f"{name:10} {int(runs[-1]) if runs else 0:>10,} runs, {covered} branches, {features} features, {kept} inputs kept"
        + ("" if process.returncode == 0 else f", exit {process.returncode}"),
        flush=True,
    )
    if process.returncode != 0:
        print(said[-4000:], flush=True)
    return process.returncode == 0


if __name__ == "__main__":
    sys.exit(main())

"""One target under libFuzzer, in a process of its own: ``python -m tests.fuzz.inside TARGET [libFuzzer's options]``."""

from __future__ import annotations

import logging
import sys

import atheris

# Only what is imported here is watched by the fuzzer, so nothing of streamkit may be before.
with atheris.instrument_imports(include=["streamkit"]):
    from .targets import TARGETS

if __name__ == "__main__":
    logging.disable()  # A line for each hostile record would be most of the work.
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()

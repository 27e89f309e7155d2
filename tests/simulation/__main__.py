"""Replay one schedule and print what happened: ``python -m tests.simulation SEED``."""

from __future__ import annotations

import sys

from .world import Violation, World

if len(sys.argv) != 2 or not sys.argv[1].isdigit():
    sys.exit("usage: python -m tests.simulation SEED")
world = World(int(sys.argv[1]))
try:
    world.run()
except Violation as violation:
    print("\n".join(world.trace))
    sys.exit(f"seed {sys.argv[1]}: {violation}")
print("\n".join(world.trace))
print(f"seed {sys.argv[1]}: every guarantee held")

"""Install ArcadeDB, the graph database that speaks Neo4j's protocol, into an environment of its own: ``.local/graph``, 130 MB.

    python3 localstack/setup_graph.py

It brings its own Java. A run that finds everything in place does nothing; one that was cut short is done again from the start;
two at once wait for each other. Needs the standard library only, so it can go before ``.venv``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from local_environment import Environment, SetupError

__all__ = ["ENVIRONMENT", "set_up"]

ENVIRONMENT = Environment(
    "graph",
    "ArcadeDB",
    "3.11",
    "Debian 12, Ubuntu 22.04 from deadsnakes",
    Path(__file__).with_name("requirements-local-graph.txt"),
)


def set_up() -> None:
    """Install what is missing. SetupError, before it has installed anything, where there is no Python 3.11."""
    ENVIRONMENT.set_up(lambda python: None)


if __name__ == "__main__":
    try:
        set_up()
    except SetupError as error:
        sys.exit(str(error))

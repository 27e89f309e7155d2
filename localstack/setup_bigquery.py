"""Install local-bigquery, the stand-in for BigQuery, into an environment of its own: ``.local/bigquery``, about 800 MB.

    python3 localstack/setup_bigquery.py

It needs Python 3.13, which it looks for, and fetches with uv where there is none; where that fails too it says what to
install, before anything is installed. A run that finds everything in place does nothing; one that was cut short is done
again from the start; two at once wait for each other. Needs the standard library only, so it can go before ``.venv``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from local_environment import Environment, SetupError, run

__all__ = ["ENVIRONMENT", "set_up"]

_EXTENSIONS = ("icu", "ducklake", "spatial")

ENVIRONMENT = Environment(
    "bigquery",
    "local-bigquery",
    "3.13",
    "Debian 13, Ubuntu 25.04",
    Path(__file__).with_name("requirements-local-bigquery.txt"),
    others=_EXTENSIONS,
)


def set_up() -> None:
    """Install what is missing. Raises SetupError, before it has installed anything, where there is no Python 3.13."""
    ENVIRONMENT.set_up(_load_extensions)


def _load_extensions(python: str) -> None:
    load = f"from duckdb_extensions import import_extension\nfor name in {_EXTENSIONS}: import_extension(name)"
    run(python, "-c", load, HOME=str(ENVIRONMENT.home))


if __name__ == "__main__":
    try:
        set_up()
    except SetupError as error:
        sys.exit(str(error))

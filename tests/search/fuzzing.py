"""Schemathesis: it makes requests of an API's OpenAPI description, right ones and wrong ones, and holds the answers against it.

It is a program in an environment of its own, ``.local/schemathesis``: its plug-in for pytest would be in every run.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local_environment import Environment

__all__ = ["SCHEMATHESIS", "fuzz", "without_cursor"]

SCHEMATHESIS = Environment(
    "schemathesis",
    "Schemathesis",
    "3.13",
    "Debian 13, Ubuntu 24.04 from deadsnakes",
    Path(__file__).with_name("requirements-schemathesis.txt"),
    takes="a few seconds",
)

# A request can be wrong by its length, too: 413 and 414 are what HTTP has for it. In a form a value and a list of it alone are
# the same text, so of forms it can't be said which are wrong.
_CONFIG = """
[checks]
negative_data_rejection.expected-statuses = [400, 404, 405, 413, 414, 415]

[[operations]]
include-name = "POST /search"
checks.negative_data_rejection.enabled = false
"""


def fuzz(
    endpoint: str,
    description: Mapping[str, Any],
    *,
    examples: int,
    exclude: str = "",
    phases: str = "examples,coverage,fuzzing",
) -> tuple[int, str]:
    """How the run ended, 0 for nothing found, and what it said. ``exclude``: checks to leave out, with commas between.

    The same examples each time, for one version of the tool.
    """
    SCHEMATHESIS.set_up(lambda _: None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "openapi.json"
        file.write_text(json.dumps(description))
        config = Path(folder) / "schemathesis.toml"
        config.write_text(_CONFIG)
        command = [
            *(str(SCHEMATHESIS.program("st")), "--config-file", str(config), "run", str(file), "--url", endpoint),
            *("--max-examples", str(examples), "--generation-deterministic"),
            *("--phases", phases, "--no-color"),
            *("--max-response-time", "5", "--continue-on-failure"),
            *(["--exclude-checks", exclude] if exclude else []),
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=280,
            env=os.environ | {"HOME": str(SCHEMATHESIS.home), "NO_PROXY": "127.0.0.1", "COLUMNS": "160"},
        )
    return done.returncode, done.stdout + done.stderr


def without_cursor(description: Mapping[str, Any]) -> dict[str, Any]:
    """A description without the one parameter of which a stranger can't make up a value that is taken."""
    made: dict[str, Any] = json.loads(json.dumps(description))
    search = made["paths"]["/search"]
    search["get"]["parameters"] = [one for one in search["get"]["parameters"] if one["name"] != "cursor"]
    form = search["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]
    del form["schema"]["properties"]["cursor"]
    return made

"""Lambda's Python, here: the version that the functions run on, with AWS's runtime client and boto3, as Lambda has them.

    python deploy/runtime.py

installs it into ``.local/lambda``. Nothing of streamkit's is in it: what a function needs beside these has to be in its package.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "localstack"))

from local_environment import Environment, SetupError  # isort: skip

__all__ = ["RUNTIME"]

RUNTIME = Environment(
    "lambda",
    "Lambda's runtime",
    "3.13",
    "Debian 13, Ubuntu 24.04 from deadsnakes",
    Path(__file__).with_name("requirements-runtime.txt"),
    takes="a few seconds",
)

if __name__ == "__main__":
    try:
        RUNTIME.set_up(lambda _: None)
    except SetupError as error:
        sys.exit(str(error))

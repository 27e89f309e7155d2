"""Install the Kinesis Client Library's MultiLangDaemon into an environment of its own: ``.local/kcl``, about 60 MB.

    python3 localstack/setup_kcl.py

It needs a Java runtime, 8 or newer, and says what to install where there is none, before anything is installed. A run that finds
everything in place does nothing; one that was cut short is done again from the start. Needs the standard library only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from local_environment import Environment, SetupError

__all__ = ["DAEMON", "ENVIRONMENT", "class_path", "set_up"]

#: The daemon's class.
DAEMON = "software.amazon.kinesis.multilang.MultiLangDaemon"

ENVIRONMENT = Environment(
    "kcl",
    "the Kinesis Client Library",
    "3.11",
    "Debian 12, Ubuntu 22.04 from deadsnakes",
    Path(__file__).with_name("requirements-kcl.txt"),
)

_NO_JAVA = """\
the Kinesis Client Library needs a Java runtime, 8 or newer, and `java -version` does not run here.
Install one and run this again: for instance
    apt install default-jre-headless     Debian, Ubuntu
    brew install openjdk                 macOS"""


def set_up() -> None:
    """Install what is missing. Raises SetupError, before it has installed anything, where there is no Java."""
    # At every start, too: it is what runs the daemon.
    java = shutil.which("java")
    # Run it: macOS has a `java` that only says where to get one.
    if java is None or subprocess.run([java, "-version"], capture_output=True, timeout=60).returncode != 0:
        raise SetupError(_NO_JAVA)
    ENVIRONMENT.set_up(lambda python: _check())


def class_path() -> str:
    """For ``java -cp``: all the jars."""
    return f"{_jars()}/*"


def _jars() -> Path:
    found = sorted(ENVIRONMENT.place.glob("venv/lib/python*/site-packages/amazon_kclpy/jars"))
    if not found:
        raise SetupError("the Kinesis Client Library is not installed: run `python3 localstack/setup_kcl.py`")
    return found[0]


def _check() -> None:
    if not list(_jars().glob("amazon-kinesis-client-multilang-*.jar")):
        raise SetupError(f"the package was to bring the MultiLangDaemon, and {_jars()} does not have it")


if __name__ == "__main__":
    try:
        set_up()
    except SetupError as error:
        sys.exit(str(error))

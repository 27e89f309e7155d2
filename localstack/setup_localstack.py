"""Install LocalStack into an environment of its own: ``.local/localstack``, about 530 MB.

    python3 localstack/setup_localstack.py

Where a Docker engine answers, its image is pulled instead. Otherwise it needs Python 3.11, which it looks for and fetches with uv
where there is none, and Node.js with npm, for its Kinesis; where one of them is missing it says what to install, before anything
is installed. A run that finds everything in place does nothing; one that was cut short is done again from the start; two at
once wait for each other. Needs the standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from local_environment import Environment, SetupError, run

__all__ = ["COMPOSE", "ENVIRONMENT", "LIBRARIES", "docker_answers", "set_up"]

_PLUGINS = Path(__file__).with_name("host_mode")

COMPOSE = ("docker", "compose", "--file", str(Path(__file__).with_name("compose.yaml")))

ENVIRONMENT = Environment(
    "localstack",
    "LocalStack",
    "3.11",
    "Debian 12, Ubuntu 22.04 from deadsnakes",
    Path(__file__).with_name("requirements-localstack.txt"),
    takes="about a minute",
    others=sorted(file for file in _PLUGINS.rglob("*") if file.suffix in (".toml", ".py", ".cjs")),
)
#: Where kinesis-mock is.
LIBRARIES = ENVIRONMENT.place / "filesystem" / "usr" / "lib" / "localstack"

_NO_NPM = """\
streamkit's LocalStack needs Node.js and npm for its Kinesis, and there is no `{program}` on the PATH.
Install Node.js 18 or newer and run this again: for instance
    apt install npm                 Debian, Ubuntu
    brew install node               macOS
Or start a Docker engine: where one answers, LocalStack runs in it, and nothing is installed."""


def set_up() -> None:
    """Install what is missing. Raises SetupError, before it has installed anything, where something it needs is not there."""
    if docker_answers():
        run(*COMPOSE, "pull", "--quiet")
        return
    # At every start, too: node is what runs it.
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise SetupError(_NO_NPM.format(program=program))
    ENVIRONMENT.set_up(_add_plugins_and_kinesis)


def docker_answers() -> bool:
    """Whether a Docker engine answers, and not merely its program is there; not asked where STREAMKIT_LOCALSTACK is ``host``."""
    if os.environ.get("STREAMKIT_LOCALSTACK") == "host":
        return False
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _add_plugins_and_kinesis(python: str) -> None:
    run(python, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps", str(_PLUGINS))
    environment = {
        "HOME": str(ENVIRONMENT.home),
        "FILESYSTEM_ROOT": str(ENVIRONMENT.place / "filesystem"),
        "OVERRIDE_IN_DOCKER": "0",
        "SKIP_SSL_CERT_DOWNLOAD": "1",
        "DISABLE_EVENTS": "1",
    }
    run(python, "-m", "localstack.cli.lpm", "install", "kinesis-mock", **environment)
    if not list(LIBRARIES.glob("kinesis-local/*/node_modules/kinesis-local/main.js")):
        raise SetupError(f"LocalStack said that it has installed kinesis-mock, and it is not in {LIBRARIES}")


if __name__ == "__main__":
    try:
        set_up()
    except SetupError as error:
        sys.exit(str(error))

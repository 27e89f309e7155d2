"""The browser that the console's page is tested in: finds a Chromium or a Chrome, or installs Debian's headless one.

    python3 localstack/setup_browser.py

It takes what ``STREAMKIT_BROWSER`` names or the PATH has. Where there is none and this is root on a Debian, it installs
``chromium-headless-shell`` with apt-get, about 100 MB; elsewhere it says what to install. Needs the standard library only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from local_environment import SetupError, run

__all__ = ["find", "set_up"]

_PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ELSEWHERE = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
_PACKAGE = "chromium-headless-shell"
_MISSING = """\
the console's page is tested in a real browser, and no Chromium or Chrome was found on the PATH.
Install one and run this again, or name one with STREAMKIT_BROWSER: for instance
    apt install chromium-headless-shell     Debian 12 and newer, as root
    brew install --cask chromium            macOS"""


def find() -> str:
    """The path of a browser that starts; SetupError where there is none."""
    named = os.environ.get("STREAMKIT_BROWSER")
    if named:
        if not _starts(named):
            raise SetupError(f"STREAMKIT_BROWSER is {named}, which does not start: name a Chromium or a Chrome")
        return named
    found = (shutil.which(program) for program in _PROGRAMS)
    for path in (*found, *_ELSEWHERE):
        if path and Path(path).exists() and _starts(path):
            return path
    raise SetupError(_MISSING)


def set_up() -> None:
    """Install a browser where none is found. SetupError where that can't be done here."""
    try:
        find()
    except SetupError:
        if os.environ.get("STREAMKIT_BROWSER") or not shutil.which("apt-get") or os.geteuid() != 0:
            raise
    else:
        return
    print(f"installing {_PACKAGE} with apt-get: about a minute", flush=True)
    # A new machine has no list of packages yet, and an old list names versions that are gone.
    run("apt-get", "update", "--quiet", DEBIAN_FRONTEND="noninteractive")
    run("apt-get", "install", "--yes", "--no-install-recommends", _PACKAGE, DEBIAN_FRONTEND="noninteractive")
    find()


def _starts(path: str) -> bool:
    # Ubuntu's `chromium-browser` can be a script that says to install something else.
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


if __name__ == "__main__":
    try:
        set_up()
    except SetupError as error:
        sys.exit(str(error))

"""Install local-bigquery, the stand-in for BigQuery, into an environment of its own: ``.local/bigquery``, about 800 MB.

    python3 localstack/setup_bigquery.py

It needs Python 3.13, which it looks for, and fetches with uv where there is none; where that fails too it says what to
install, before anything is installed. A run that finds everything in place does nothing; one that was cut short is done
again from the start; two at once wait for each other. Needs the standard library only, so it can go before ``.venv``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["HOME", "PROGRAM", "installed", "set_up"]

_ROOT = Path(__file__).resolve().parent.parent
_PLACE = _ROOT / ".local" / "bigquery"
_PYTHONS = _ROOT / ".local" / "python"
_PINS = Path(__file__).with_name("requirements-local-bigquery.txt")
_STAMP = _PLACE / "installed"
_VENV = _PLACE / "venv"
_EXTENSIONS = ("icu", "ducklake", "spatial")

#: The server's program, and the home folder in which it finds DuckDB's extensions.
PROGRAM = _VENV / "bin" / "local-bigquery"
HOME = _PLACE / "home"

_MISSING = """\
streamkit's local cloud needs Python 3.13 for its stand-in for BigQuery. None was found (on the PATH, in pyenv, in uv), and
fetching one with uv failed:
    {reason}
Install Python 3.13 and run this again: for instance
    uv python install 3.13          https://docs.astral.sh/uv/
    pyenv install 3.13              https://github.com/pyenv/pyenv
    apt install python3.13-venv     Debian 13, Ubuntu 25.04
    brew install python@3.13        macOS"""


class SetupError(RuntimeError):
    """Something that set-up needs is missing; the message says what to install."""


def installed() -> bool:
    """Whether the environment is complete and is the one that the pins ask for."""
    with contextlib.suppress(OSError):
        return _STAMP.read_text() == _stamp() and (_VENV / "bin" / "python").exists()
    return False


def set_up() -> None:
    """Install what is missing. Raises SetupError, before it has installed anything, where there is no Python 3.13."""
    if installed():
        return
    with _lock():
        if installed():  # Another run did it while this one waited.
            return
        python = _find_python() or _fetch_python()
        print("installing local-bigquery into .local/bigquery: about half a minute", flush=True)
        shutil.rmtree(_PLACE, ignore_errors=True)
        HOME.mkdir(parents=True)
        _run(python, "-m", "venv", str(_VENV))
        venv_python = str(_VENV / "bin" / "python")
        _run(venv_python, "-m", "pip", "install", "--quiet", "--no-deps", "--requirement", str(_PINS))
        load = f"from duckdb_extensions import import_extension\nfor name in {_EXTENSIONS}: import_extension(name)"
        _run(venv_python, "-c", load, HOME=str(HOME))
        _STAMP.write_text(_stamp())


def _stamp() -> str:
    """What an installed environment depends on; its place too, since an environment can't be moved."""
    return "\n".join([str(_PLACE), hashlib.sha256(_PINS.read_bytes()).hexdigest(), *_EXTENSIONS])


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    _PLACE.parent.mkdir(exist_ok=True)
    with _PLACE.with_name("bigquery.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.set_inheritable(lock.fileno(), True)  # Held until the last child ends, should this process be killed.
        yield


def _find_python() -> str | None:
    return next(filter(_is_python_313, _candidates()), None)


def _candidates() -> Iterator[str]:
    yield sys.executable
    for folder in os.get_exec_path():
        yield f"{folder}/python3.13"
    # A machine can have one without having it on the PATH.
    for pyenv in (os.environ.get("PYENV_ROOT"), _answer("pyenv", "root"), "~/.pyenv"):
        if pyenv:
            yield from _below(Path(pyenv).expanduser() / "versions", "3.13*/bin/python3.13")
    yield from _fetched()
    for uv in _uvs():
        if path := _answer(uv, "python", "find", "--no-python-downloads", "3.13"):
            yield path


def _fetched() -> Iterator[str]:
    for folder in (_PYTHONS, Path("~/.local/share/uv/python").expanduser()):
        yield from _below(folder, "cpython-3.13*/bin/python3.13")


def _below(folder: Path, pattern: str) -> Iterator[str]:
    return map(str, sorted(folder.glob(pattern), reverse=True))


def _uvs() -> Iterator[str]:
    for program in ("uv", str(Path("~/.local/bin/uv").expanduser())):
        if path := shutil.which(program):
            yield path


def _is_python_313(path: str) -> bool:
    # Run it: pyenv's shims exist for versions that are switched off, and some systems split the standard library.
    check = "import ctypes, ensurepip, ssl, sys, venv; print(sys.version_info[:2] == (3, 13))"
    return _answer(path, "-I", "-c", check) == "True"


def _fetch_python() -> str:
    print("no Python 3.13 here: fetching one with uv", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            uv = next(_uvs(), None) or _install_uv(folder)
            _run(uv, "python", "install", "3.13", UV_PYTHON_INSTALL_DIR=str(_PYTHONS), UV_PYTHON_INSTALL_BIN="0")
        except SetupError as error:
            raise SetupError(_MISSING.format(reason=error)) from None
    python = next(filter(_is_python_313, _fetched()), None)
    if python is None:
        raise SetupError(_MISSING.format(reason="the Python that uv fetched does not run"))
    return python


def _install_uv(folder: str) -> str:
    _run(sys.executable, "-m", "venv", folder)
    _run(f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "uv")
    return f"{folder}/bin/uv"


def _answer(*command: str) -> str | None:
    """What ``command`` prints, or None if it fails or is not there."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def _run(*command: str, **env: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, close_fds=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise SetupError(f"{' '.join(command[:4])} … failed: " + "\n    ".join(lines[-5:]))


if __name__ == "__main__":
    try:
        set_up()
    except SetupError as error:
        sys.exit(str(error))

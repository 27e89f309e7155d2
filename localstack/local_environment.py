"""A server's own Python environment in ``.local``: the Python it needs, the pinned packages, and whether all that is in place.

Needs the standard library only, so it can go before ``.venv``.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LOCAL", "Environment", "SetupError", "run"]

#: Where all that is installed for this repository lives, beside ``.venv``.
LOCAL = (Path(__file__).resolve().parent.parent / ".local").resolve()

_MISSING = """\
streamkit's local cloud needs Python {version} for {server}. None was found (on the PATH, in pyenv, in uv), and
fetching one with uv failed:
    {reason}
Install Python {version} and run this again: for instance
    uv python install {version}          https://docs.astral.sh/uv/
    pyenv install {version}              https://github.com/pyenv/pyenv
    apt install python{version}-venv     {distributions}
    brew install python@{version}        macOS"""


class SetupError(RuntimeError):
    """Something that set-up needs is missing; the message says what to install."""


@dataclass(frozen=True)
class Environment:
    """``.local/<name>``, with a virtual environment of Python ``version`` in it that holds what ``pins`` lists.

    ``server`` is what it is for, ``distributions`` which of them carry that Python, ``takes`` how long installing does.
    What else the installation depends on is in ``others``: texts, or files, of which the contents count.
    """

    name: str
    server: str
    version: str
    distributions: str
    pins: Path
    takes: str = "about half a minute"
    others: Sequence[str | Path] = ()

    @property
    def place(self) -> Path:
        return LOCAL / self.name

    @property
    def home(self) -> Path:
        """A home folder of the server's own, for what it keeps there."""
        return self.place / "home"

    def program(self, name: str) -> Path:
        return self.place / "venv" / "bin" / name

    def installed(self) -> bool:
        """Whether the environment is complete and is the one that the pins ask for."""
        with contextlib.suppress(OSError):
            return self._stamp.read_text() == self._stamp_text() and self.program("python").exists()
        return False

    def set_up(self, finish: Callable[[str], None]) -> None:
        """Install what is missing; ``finish`` is given the environment's own Python, to add what pip does not.

        Raises SetupError, before it has installed anything, where there is no such Python.
        """
        if self.installed():
            return
        with self._lock():
            if self.installed():  # Another run did it while this one waited.
                return
            python = self.find_python() or self._fetch_python()
            print(f"installing {self.server} into .local/{self.name}: {self.takes}", flush=True)
            shutil.rmtree(self.place, ignore_errors=True)
            self.home.mkdir(parents=True)
            run(python, "-m", "venv", str(self.place / "venv"))
            own = str(self.program("python"))
            # What is imported is compiled then; all of it would take most of the time, and a quarter is used.
            run(own, "-m", "pip", "install", "--quiet", "--no-compile", "--no-deps", "--requirement", str(self.pins))
            finish(own)
            self._stamp.write_text(self._stamp_text())

    @property
    def _stamp(self) -> Path:
        return self.place / "installed"

    def _stamp_text(self) -> str:
        """What an installed environment depends on; its place too, since an environment can't be moved."""
        others = [_digest(other) if isinstance(other, Path) else other for other in self.others]
        return "\n".join([str(self.place), _digest(self.pins), *others])

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        LOCAL.mkdir(exist_ok=True)
        with self.place.with_name(f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            os.set_inheritable(lock.fileno(), True)  # Held until the last child ends, should this process be killed.
            yield

    def find_python(self) -> str | None:
        """A Python of this version that works, on the PATH or where it is not."""
        return next(filter(self._is_it, self._candidates()), None)

    def _candidates(self) -> Iterator[str]:
        program = f"python{self.version}"
        yield sys.executable
        for folder in os.get_exec_path():
            yield f"{folder}/{program}"
        # A machine can have one without having it on the PATH.
        for pyenv in (os.environ.get("PYENV_ROOT"), _answer("pyenv", "root"), "~/.pyenv"):
            if pyenv:
                yield from _below(Path(pyenv).expanduser() / "versions", f"{self.version}*/bin/{program}")
        yield from self._fetched()
        for uv in _uvs():
            if path := _answer(uv, "python", "find", "--no-python-downloads", self.version):
                yield path

    def _fetched(self) -> Iterator[str]:
        for folder in (LOCAL / "python", Path("~/.local/share/uv/python").expanduser()):
            yield from _below(folder, f"cpython-{self.version}*/bin/python{self.version}")

    def _is_it(self, path: str) -> bool:
        # Run it: pyenv's shims exist for versions that are switched off, and some systems split the standard library.
        check = "import ctypes, ensurepip, ssl, sys, venv; print('%d.%d' % sys.version_info[:2])"
        return _answer(path, "-I", "-c", check) == self.version

    def _fetch_python(self) -> str:
        print(f"no Python {self.version} here: fetching one with uv", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            try:
                uv = next(_uvs(), None) or _install_uv(folder)
                place = str(LOCAL / "python")
                run(uv, "python", "install", self.version, UV_PYTHON_INSTALL_DIR=place, UV_PYTHON_INSTALL_BIN="0")
            except SetupError as error:
                raise SetupError(self._missing(str(error))) from None
        python = next(filter(self._is_it, self._fetched()), None)
        if python is None:
            raise SetupError(self._missing("the Python that uv fetched does not run"))
        return python

    def _missing(self, reason: str) -> str:
        return _MISSING.format(
            version=self.version, server=self.server, distributions=self.distributions, reason=reason
        )


def run(*command: str, **env: str) -> None:
    """Run a command to its end. SetupError with its last lines if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, close_fds=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise SetupError(f"{' '.join(command[:4])} … failed: " + "\n    ".join(lines[-5:]))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _below(folder: Path, pattern: str) -> Iterator[str]:
    return map(str, sorted(folder.glob(pattern), reverse=True))


def _uvs() -> Iterator[str]:
    for program in ("uv", str(Path("~/.local/bin/uv").expanduser())):
        if path := shutil.which(program):
            yield path


def _install_uv(folder: str) -> str:
    run(sys.executable, "-m", "venv", folder)
    run(f"{folder}/bin/python", "-m", "pip", "install", "--quiet", "uv")
    return f"{folder}/bin/uv"


def _answer(*command: str) -> str | None:
    """What ``command`` prints, or None if it fails or is not there."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()

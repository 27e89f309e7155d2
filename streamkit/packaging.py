"""A function's code and what it imports, as a zip for Lambda: the same bytes from the same sources, for either architecture.

``traced`` finds the modules that a function imports, those within its functions too. ``_install`` lets pip put the locked
dependencies beside them, as wheels of the target's platform: it needs no Docker, and builds nothing. ``_compile`` adds bytecode
that is never checked: nobody can write to a function's folder, so without it every cold start compiles all that it imports.
``_zip`` writes all that in the order of names, with one time for everything.
"""

from __future__ import annotations

import hashlib
import importlib.util
import modulefinder
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import StreamkitError

__all__ = ["ARCHITECTURES", "Package", "PackagingError", "build", "traced"]

#: Lambda's names of its architectures, and those of wheels. Amazon Linux 2023, under Python 3.12 and later, has glibc 2.34.
ARCHITECTURES = {"arm64": "aarch64", "x86_64": "x86_64"}
_GLIBC = ("manylinux2014", "manylinux_2_17")
_GLIBC_OF_2023 = (*_GLIBC, "manylinux_2_24", "manylinux_2_26", "manylinux_2_27", "manylinux_2_28", "manylinux_2_34")
#: Where Lambda unzips a function: what tracebacks name.
_TASK_ROOT = "/var/task"
#: The earliest time that a zip can hold.
_TIME = (1980, 1, 1, 0, 0, 0)
#: What pip writes that differs from one installation to the next, or that no function runs.
_LEFT_OUT = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")


class PackagingError(StreamkitError):
    """A package can't be built; the message says what to do."""


@dataclass(frozen=True)
class Package:
    """A zip that was built. Sizes are in bytes; Lambda takes 250 MB of ``unzipped``, layers included."""

    path: Path
    size: int
    unzipped: int
    sha256: str


def build(
    modules: Sequence[str],
    out: Path,
    *,
    architecture: str,
    root: Path | None = None,
    requirements: Path | None = None,
    python: str = sys.executable,
    leave_out: Iterable[str] = (),
    bytecode_only: bool = False,
) -> Package:
    """Build ``out`` from the dotted ``modules`` below ``root`` (the current folder) and what they import.

    ``requirements`` is a lock file: every package that the function needs, with version and hashes (``uv pip compile
    --generate-hashes``); not streamkit, of which it gets what it imports, and not boto3, which Lambda's runtime brings.
    ``python`` is a Python of the version that the function will run on. ``leave_out`` has glob patterns of what no function
    needs of these packages. With ``bytecode_only`` they come without their sources, docstrings and assertions (python -OO), which
    makes them a third smaller but for compiled libraries: tracebacks then name the lines of these packages and don't show them.

    Raises PackagingError: a module that is not there, a package without a wheel for the platform, a hash that differs.
    """
    if architecture not in ARCHITECTURES:
        raise PackagingError(f"an architecture is one of {', '.join(ARCHITECTURES)}; got {architecture!r}")
    sources = traced(modules, root or Path.cwd())
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder) / "package"
        stage.mkdir()
        if requirements is not None:
            _install(requirements, stage, architecture, python)
            _remove(stage, leave_out)
            if bytecode_only:
                _compile(stage, python, bytecode_only=True)
        for name, path in sources.items():
            place = stage / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        _compile(stage, python)
        _expect_bytecode(stage, sources, python)
        out.parent.mkdir(parents=True, exist_ok=True)
        return _zip(stage, out)


def traced(modules: Iterable[str], root: Path) -> dict[str, Path]:
    """Name in the zip → file, for the dotted ``modules`` and all that they import of ``root`` and of streamkit, wherever in them.

    A module that is imported by a name made at run time is not found: name it in ``modules``. PackagingError for one that is not
    there.
    """
    finder = _Finder(root)
    for wanted in modules:
        try:
            finder.import_hook(wanted)
        except ImportError as error:
            raise PackagingError(f"there is no module {wanted} below {root}: {error}") from None
        except SyntaxError as error:
            raise PackagingError(f"{error.filename} is no Python: {error}") from None
    found = {}
    for name, module in finder.modules.items():
        file: str | None = getattr(module, "__file__", None)
        if file is None:
            continue  # A namespace, which is a folder and nothing in it.
        path = Path(file)
        place = Path(*name.split("."))
        found[str(place / "__init__.py" if path.name == "__init__.py" else place.with_suffix(".py"))] = path
    return dict(sorted(found.items()))


class _Finder(modulefinder.ModuleFinder):
    """Follows imports within ``root`` and streamkit alone: all else is the standard library's, or pip's to bring."""

    def __init__(self, root: Path) -> None:
        spec = importlib.util.find_spec(__package__)
        assert spec is not None
        assert spec.origin is not None
        home = Path(spec.origin).parents[1]
        super().__init__(path=[str(root), str(home)])
        self._root = root

    def find_module(self, name: str, path: Any, parent: Any = None) -> Any:
        if path is None and name != __package__ and not self._is_ours(name):
            raise ImportError(f"No module named {name!r}")
        return super().find_module(name, path, parent)

    def _is_ours(self, name: str) -> bool:
        return (self._root / f"{name}.py").is_file() or (self._root / name / "__init__.py").is_file()


def _install(requirements: Path, stage: Path, architecture: str, python: str) -> None:
    version = _output([python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    glibc = _GLIBC if version == "3.11" else _GLIBC_OF_2023
    platforms = [f"--platform={libc}_{ARCHITECTURES[architecture]}" for libc in glibc]
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-compile",
        "--no-deps",
    ]
    only = ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}", *platforms]
    _output([*command, *only, "--require-hashes", "--target", str(stage), "--requirement", str(requirements)])


def _remove(stage: Path, patterns: Iterable[str]) -> None:
    shutil.rmtree(stage / "bin", ignore_errors=True)
    for pattern in patterns:
        for path in stage.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in stage.glob("*.dist-info/*"):
        if path.name in _LEFT_OUT:
            path.unlink()
    for path in stage.rglob("*.pyi"):
        path.unlink()
    for stale in stage.rglob("__pycache__"):
        shutil.rmtree(stale)


def _compile(stage: Path, python: str, *, bytecode_only: bool = False) -> None:
    """Bytecode beside each module, or in its place: the same each time, since sets are written in order from Python 3.11 on."""
    command = [python, "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    # Templates of modules, which some packages carry, are no Python: those files stay as they are.
    subprocess.run(  # noqa: S603  # The Python that the caller names.
        [*command, *(["-b", "-o", "2"] if bytecode_only else []), "-s", str(stage), "-p", _TASK_ROOT, str(stage)],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if bytecode_only:
        for compiled in stage.rglob("*.pyc"):
            compiled.with_suffix(".py").unlink(missing_ok=True)


def _expect_bytecode(stage: Path, sources: Iterable[str], python: str) -> None:
    """PackagingError where one of ``sources`` has none: it is no Python for the version that ``python`` is."""
    for name in sources:
        if not any((stage / name).parent.glob(f"__pycache__/{Path(name).stem}.*.pyc")):
            raise PackagingError(f"{name} can't be compiled by {python}")


def _zip(stage: Path, out: Path) -> Package:
    unzipped = 0
    with zipfile.ZipFile(out, "w") as archive:
        for path in _files(stage):
            entry = zipfile.ZipInfo(path.relative_to(stage).as_posix(), _TIME)
            entry.create_system = 3  # Unix, whose permissions these are.
            entry.external_attr = (0o100755 if path.suffix == ".so" else 0o100644) << 16
            content = path.read_bytes()
            unzipped += len(content)
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)
    content = out.read_bytes()
    return Package(out, len(content), unzipped, hashlib.sha256(content).hexdigest())


def _files(stage: Path) -> Iterator[Path]:
    yield from sorted((path for path in stage.rglob("*") if path.is_file()), key=Path.as_posix)


def _output(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603  # Made here.
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        errors = [line for line in lines if not line.startswith("WARNING")] or lines or ["it said nothing"]
        raise PackagingError(f"{' '.join(command[1:4])} … failed:\n    " + "\n    ".join(errors[-6:]))
    return done.stdout.strip()

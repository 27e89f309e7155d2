"""A new project: its names, and its files, of the texts in ``files``.

The texts are whole but for a few words, which begin with ``@@``: Makefiles and templates have uses of their own for ``$``.
"""

from __future__ import annotations

import keyword
import re
import string
import sys
from importlib.resources import files
from pathlib import Path

from ..errors import ConfigurationError

__all__ = ["TAKEN_CLASSES", "TAKEN_MODULES", "Project"]

#: Versions of Python that Lambda has a runtime of and streamkit runs on.
_PYTHONS = ("3.11", "3.12", "3.13")
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,29}")
#: Modules that the project's own would hide: its packages, those of its tools, its tests, and what Lambda runs it with.
TAKEN_MODULES = frozenset(
    (
        *("streamkit", "msgspec", "pybase64", "tenacity"),
        *("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3"),
        *("markdown_it", "mdurl", "pip", "pygments", "rich", "uv", "yaml"),
        *("conftest", "iniconfig", "packaging", "pluggy", "pytest", "test", "tests"),
        *("awslambdaric", "bootstrap", "runtime"),
    )
)
#: Names in the program and its tests that the project's class would hide.
TAKEN_CLASSES = frozenset(
    (
        *("Any", "Callable", "Divert", "Record", "RecordProcessor", "Reject", "S3Claims", "SqsQueue"),
        *("EventSourceMapping", "Function", "MemoryQueue", "NamedTuple", "Queues"),
        *("Exception", "RuntimeError", "None", "True", "False"),
    )
)
#: Beside streamkit in a package: what it imports, but for boto3.
_NEEDS = ("msgspec", "pybase64", "tenacity")
_FILES = {
    "{module}.py": "processor.py",
    "tests/test_{module}.py": "test_processor.py",
    "template.yaml": "template.yaml",
    "Makefile": "Makefile",
    "requirements.in": "requirements.in",
    "requirements-dev.in": "requirements-dev.in",
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    ".gitignore": "gitignore",
    ".github/workflows/ci.yml": "ci.yml",
}


class _Text(string.Template):
    delimiter = "@@"


class Project:
    """The project ``name``, whose module, class, and names in AWS follow from it: ``paid-orders`` is ``paid_orders.py`` with
    the class ``PaidOrders``.

    ``python`` is the version that the function will run on: by default this one, where Lambda has it. ConfigurationError for a
    name that can't be one of all these.
    """

    def __init__(self, name: str, *, python: str | None = None) -> None:
        if _NAME.fullmatch(name) is None:
            raise ConfigurationError(
                f"{name!r} is no name: it begins with a letter from a to z, and has up to 29 more letters, digits, - and _"
            )
        self.name = name
        self.module = name.replace("-", "_")
        self.cls = "".join(part.capitalize() for part in self.module.split("_"))
        # AWS takes no _ in the name of a stack.
        self.service = name.replace("_", "-")
        if keyword.iskeyword(self.module):
            raise ConfigurationError(
                f"{name} is a word of Python's own, and so no module: take another, as {name}-events"
            )
        if self.module in sys.stdlib_module_names:
            raise ConfigurationError(
                f"{self.module} is a module of Python's standard library, which {self.module}.py would hide: take another name, "
                f"as {name}-events"
            )
        if self.module in TAKEN_MODULES or self.cls in TAKEN_CLASSES:
            raise ConfigurationError(
                f"{self.module}.py with the class {self.cls} would hide what the project itself uses under that name: take "
                f"another one, as {name}-events"
            )
        here = "{}.{}".format(*sys.version_info)
        self.python = python or (here if here in _PYTHONS else _PYTHONS[-1])

    @property
    def files(self) -> dict[str, str]:
        """Path in the project → text."""
        words = {
            "name": self.name,
            "module": self.module,
            "cls": self.cls,
            "service": self.service,
            "python": self.python,
            "needs": "\n".join(_NEEDS),
            "range": _range(),
        }
        texts = files(__package__) / "files"
        return {
            path.format(module=self.module): _Text((texts / f"{text}.txt").read_text("utf-8")).substitute(words)
            for path, text in _FILES.items()
        }

    def write(self, folder: Path) -> list[Path]:
        """Write the files into ``folder``, which is made, and return them. ConfigurationError where something is in it."""
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigurationError(f"{folder} is not empty: name another folder with --folder, or empty it")
        if folder.exists() and not folder.is_dir():
            raise ConfigurationError(f"{folder} is a file: name a folder with --folder")
        written = []
        for path, text in self.files.items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, "utf-8")
            written.append(place)
        return written


def _range() -> str:
    """From this version of streamkit on, and before the next one that may be different."""
    from importlib.metadata import version

    major, minor, patch = version("kinesis-streamkit").split(".")[:3]
    end = f"{int(major) + 1}" if int(major) else f"0.{int(minor) + 1}"
    return f">={major}.{minor}.{patch},<{end}"

"""Files as a source of parameters: one document, or a folder of a file for each."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..errors import ConfigurationError, StreamkitError
from .source import Found, Source, is_hierarchy
from .tree import found_in

__all__ = ["File", "Folder"]

# Of one file. A parameter of SSM has 8 KB at most; this is there against what is no configuration at all.
_LARGEST = 4 * 1_048_576


class File(Source):
    """An object in JSON or TOML, told by the file's suffix: ``{"limit": 10, "db": {"host": "…"}}`` has ``limit`` and ``db/host``.

    It is read anew when it is due. One that is not there has nothing, unless ``required``; then, and where it is no such
    document, nothing is known, and what it had stays.
    """

    def __init__(self, path: str | os.PathLike[str], *, required: bool = False) -> None:
        self._path = os.fspath(path)
        self._required = required
        self._is_there = True
        self._name = os.path.basename(self._path)
        self._format = os.path.splitext(self._name)[1].removeprefix(".").upper()
        if self._format not in ("JSON", "TOML"):
            raise ConfigurationError(f"File reads .json and .toml; got {self._name}")

    @property
    def label(self) -> str:
        return f"the file {self._name}"

    def place_of(self, name: str) -> str:
        return self.label if self._is_there else f"{self.label} (there is no {self._path})"

    def fetch(self, names: Sequence[str], *, deadline: float) -> Mapping[str, Found]:
        try:
            content = _content(self._path)
        except FileNotFoundError:
            self._is_there = False
            if self._required:
                raise
            return {}
        self._is_there = True
        return found_in(self._document(content), names)

    def _document(self, content: bytes) -> Mapping[str, Any]:
        fault = ""
        document: Any = None
        try:
            if self._format == "JSON":
                document = msgspec.json.decode(content)
            else:
                import tomllib

                document = tomllib.loads(content.decode())
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            fault = f"{type(error).__name__}"
        if not isinstance(document, dict):
            raise StreamkitError(f"{self._name} is no object in {self._format}{fault and f' ({fault})'}")
        return document


class Folder(Source):
    """A file for each parameter, as a container's platform mounts secrets: ``db/password`` is the file ``password`` in ``db``.

    A line's end at the end is not of the value. With ``secrets`` they can be read with ``config.secret`` only.
    """

    def __init__(self, path: str | os.PathLike[str], *, secrets: bool = False) -> None:
        self._path = os.fspath(path)
        self._are_secrets = secrets
        self._is_there = True

    @property
    def label(self) -> str:
        return f"the folder {os.path.basename(self._path)}"

    def place_of(self, name: str) -> str:
        return self.label if self._is_there else f"{self.label} (there is no {self._path})"

    def fetch(self, names: Sequence[str], *, deadline: float) -> Mapping[str, Found]:
        self._is_there = os.path.isdir(self._path)
        found: dict[str, Found] = {}
        for name in names:
            place = os.path.join(self._path, name)
            if not is_hierarchy(name):
                if os.path.isfile(place):
                    found[name] = self._found(place)
                continue
            for folder, folders, files in os.walk(place):
                # Such a mount keeps its files twice, the second time under names that begin with dots.
                folders[:] = [one for one in folders if not one.startswith(".")]
                for one in files:
                    path = os.path.join(folder, one)
                    if not one.startswith("."):
                        found[name + os.path.relpath(path, place).replace(os.sep, "/")] = self._found(path)
        return found

    def _found(self, path: str) -> Found:
        fault = ""
        try:
            text = _content(path).decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            fault = f"{os.path.basename(path)} is not UTF-8"
        if fault:
            raise StreamkitError(fault)
        return Found(text, is_secret=self._are_secrets)


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise StreamkitError(f"{os.path.basename(path)} has over {_LARGEST:,} bytes")
    return content

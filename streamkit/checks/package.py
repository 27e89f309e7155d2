"""What a function's zip tells of the Python and the architecture that it was built for.

Only what the import system goes by counts: the tags and formats of extension modules, and bytecode. Other libraries may be there
for several architectures at once.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from ..errors import StreamkitError
from .deployment import PackageFacts

__all__ = ["read_package"]

#: More than any function has: Lambda takes 250 MB unzipped.
_MOST_FILES = 50_000
_EXTENSION = re.compile(r"(?P<module>.+?)(?:\.cpython-(?P<major>\d)(?P<minor>\d+)[^.]*|\.(?P<stable>abi3))\.so")
_WINDOWS = re.compile(r"(?P<module>.+?)\.cp(?P<major>\d)(?P<minor>\d+)-win[^.]*\.pyd")
_CACHED = re.compile(r".+\.cpython-(?P<major>\d)(?P<minor>\d+)(?:\.opt-\d)?\.pyc")
#: By ELF's numbers of machines.
_MACHINES = {62: "x86_64", 183: "arm64"}
#: What zipfile raises of a damaged file, or of one in a form that it does not know. NotImplementedError is a RuntimeError.
_DAMAGED = (zipfile.BadZipFile, OSError, EOFError, RuntimeError, ValueError, struct.error, zlib.error)
_OF_MACOS = (b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
#: The numbers that bytecode begins with; it is of no other version.
_MAGIC = {3495: "3.11", 3531: "3.12", 3571: "3.13"}


def read_package(path: Path, where: str) -> PackageFacts:
    """StreamkitError for what is no zip, or a damaged one."""
    extensions: dict[str, tuple[tuple[str, str, str], ...]] = {}
    bytecode: dict[str, str] = {}
    cache: dict[str, str] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) > _MOST_FILES:
                raise StreamkitError(f"{path} has over {_MOST_FILES:,} files, which no function has")
            sources = {name for name in names if name.endswith(".py")}
            for name in dict.fromkeys(names):
                place = PurePosixPath(name)
                if (found := _EXTENSION.fullmatch(name)) or (found := _WINDOWS.fullmatch(name)):
                    version = "" if found.groupdict().get("stable") else f"{found['major']}.{found['minor']}"
                    one = (version, "Windows" if place.suffix == ".pyd" else _built_for(_head(archive, name)), name)
                    extensions[found["module"]] = (*extensions.get(found["module"], ()), one)
                elif place.parent.name == "__pycache__":
                    if found := _CACHED.fullmatch(name):
                        cache.setdefault(f"{found['major']}.{found['minor']}", name)
                elif place.suffix == ".pyc" and name.removesuffix("c") not in sources:
                    magic = int.from_bytes(_head(archive, name)[:2], "little")
                    if magic in _MAGIC:
                        bytecode.setdefault(_MAGIC[magic], name)
    except _DAMAGED as error:
        raise StreamkitError(f"{path} can't be read: {error}") from None
    return PackageFacts(path=str(path), where=where, extensions=extensions, bytecode=bytecode, cache=cache)


def _head(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return b""  # Lambda takes no other.
    with archive.open(name) as file:
        return file.read(20)


def _built_for(head: bytes) -> str:
    """Empty where it can't be told."""
    if head.startswith(b"\x7fELF") and len(head) == 20:
        return _MACHINES.get(int.from_bytes(head[18:20], "little" if head[5] == 1 else "big"), "")
    return "macOS" if head.startswith(_OF_MACOS) else ""

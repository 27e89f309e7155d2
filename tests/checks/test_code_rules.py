"""A zip that was built for another Python, or another architecture, than the template gives its function."""

from __future__ import annotations

import importlib.util
import random
import sys
import zipfile
from pathlib import Path

import msgspec
import pytest

from streamkit.checks.package import read_package
from streamkit.errors import StreamkitError
from streamkit.packaging import build

from .given import Check, changed, line_of, one

HANDLER = "      Handler: orders.handler\n"
#: The first bytes of an ELF file for that machine, and of one of macOS.
ARM, INTEL, MACOS = (
    *(b"\x7fELF\x02\x01" + bytes(12) + bytes([machine, 0]) for machine in (183, 62)),
    b"\xcf\xfa\xed\xfe" + bytes(16),
)
BYTECODE = {"3.11": 3495, "3.12": 3531, "3.13": 3571}


def pyc(version: str) -> bytes:
    return BYTECODE[version].to_bytes(2, "little") + b"\r\n" + bytes(12)


def packed(folder: Path, files: dict[str, bytes]) -> None:
    (folder / "dist").mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "dist" / "orders.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {"orders.py": b"", **files}.items():
            archive.writestr(name, content)


def of_zip(runtime: str = "python3.13", architecture: str = "arm64", code: str = "dist/orders.zip") -> str:
    lines = f"      CodeUri: {code}\n      Runtime: {runtime}\n      Architectures: [{architecture}]\n"
    return changed(HANDLER, HANDLER + lines)


RIGHT_FILES = {
    "a/_core.cpython-313-aarch64-linux-gnu.so": ARM,
    "b/_rust.abi3.so": ARM,
    "c/lib.so.1": INTEL,
    "c/plain.so": INTEL,
    "a/__pycache__/x.cpython-313.pyc": pyc("3.13"),
    "a/x.py": b"",
    "bare.pyc": pyc("3.13"),
}


def test_a_zip_that_fits(check: Check, tmp_path: Path) -> None:
    packed(tmp_path, RIGHT_FILES)
    assert check(of_zip()) == []


def test_another_architecture(check: Check, tmp_path: Path) -> None:
    packed(tmp_path, RIGHT_FILES)
    text = of_zip(architecture="x86_64")

    finding = one(check(text), "for arm64")

    assert (finding.severity, finding.where) == ("error", line_of("Architectures", text))
    assert "a/_core.cpython-313-aarch64-linux-gnu.so" in finding.message
    assert finding.message.endswith("Write Architectures: [arm64], or build it with --architecture x86_64")


def test_no_architecture_is_lambdas_default(check: Check, tmp_path: Path) -> None:
    packed(tmp_path, RIGHT_FILES)
    text = of_zip().replace("      Architectures: [arm64]\n", "")
    assert "Architectures is x86_64, Lambda's default" in one(check(text), "for arm64").message


def test_a_library_of_the_stable_interface_has_an_architecture_too(check: Check, tmp_path: Path) -> None:
    packed(tmp_path, {"b/_rust.abi3.so": INTEL})
    assert one(check(of_zip()), "(b/_rust.abi3.so) for x86_64").severity == "error"
    assert check(of_zip("python3.11", "x86_64")) == []


@pytest.mark.parametrize(
    ("name", "content", "system"),
    [("a/_core.cpython-313-darwin.so", MACOS, "macOS"), ("a/_core.cp313-win_amd64.pyd", b"MZ", "Windows")],
)
def test_a_module_of_another_system(check: Check, tmp_path: Path, name: str, content: bytes, system: str) -> None:
    packed(tmp_path, {name: content})
    assert one(check(of_zip()), f"for {system}").message.endswith(". Build it with --architecture arm64")


def test_a_module_that_is_there_for_several_has_one_that_fits(check: Check, tmp_path: Path) -> None:
    both = {
        "a/_core.cpython-312-aarch64-linux-gnu.so": ARM,
        "a/_core.cpython-313-aarch64-linux-gnu.so": ARM,
        "a/_core.cpython-313-x86_64-linux-gnu.so": INTEL,
    }
    packed(tmp_path, both)
    assert check(of_zip()) == []
    assert check(of_zip("python3.13", "x86_64")) == []
    assert one(check(of_zip("python3.12", "x86_64")), "for arm64").severity == "error"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.14"])
def test_another_python(check: Check, tmp_path: Path, python: str) -> None:
    packed(tmp_path, {"a/_core.cpython-313-aarch64-linux-gnu.so": ARM})
    text = of_zip(f"python{python}")

    finding = one(check(text), "for Python 3.13")

    assert (finding.severity, finding.where) == ("error", line_of("Runtime", text))
    assert finding.message.endswith(f"Write Runtime: python3.13, or build it with --python python{python}")


@pytest.mark.parametrize("version", ["3.11", "3.12"])
def test_bytecode_without_its_source(check: Check, tmp_path: Path, version: str) -> None:
    packed(tmp_path, {"a/x.pyc": pyc(version)})
    finding = one(check(of_zip()), f"bytecode without its source (a/x.pyc) for Python {version}")
    assert finding.severity == "error"
    packed(tmp_path, {"a/x.pyc": pyc(version), "a/x.py": b""})
    assert check(of_zip()) == []


def test_bytecode_beside_its_source_is_only_slow(check: Check, tmp_path: Path) -> None:
    packed(tmp_path, {"a/x.py": b"", "a/__pycache__/x.cpython-312.pyc": pyc("3.12")})
    finding = one(check(of_zip()), "each cold start compiles")
    assert finding.severity == "warning"


def test_a_zip_that_streamkit_package_made(check: Check, tmp_path: Path) -> None:
    (tmp_path / "orders.py").write_text("from streamkit import RecordProcessor\n")
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    made = build(["orders"], tmp_path / "dist" / "orders.zip", architecture="x86_64", root=tmp_path)
    other = "python3.11" if python != "3.11" else "python3.13"

    assert check(of_zip(f"python{python}", "arm64")) == []
    assert f"is Python {python}'s" in one(check(of_zip(other)), "each cold start compiles").message
    with zipfile.ZipFile(made.path, "a") as archive:
        (library,) = Path(msgspec.__file__).parent.glob("_core.*.so")
        archive.writestr(f"msgspec/{library.name}", library.read_bytes())
    assert one(check(of_zip(other)), f"for Python {python}").severity == "error"


def test_the_number_of_this_pythons_bytecode_is_the_one_that_is_looked_for() -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if version in BYTECODE:
        assert int.from_bytes(importlib.util.MAGIC_NUMBER[:2], "little") == BYTECODE[version]


@pytest.mark.parametrize(
    "code", ["dist/nothing.zip", "s3://code/orders.zip", "dist", "{Bucket: code, Key: orders.zip}"]
)
def test_a_zip_that_is_not_here_is_nothing_to_tell_of(check: Check, tmp_path: Path, code: str) -> None:
    packed(tmp_path, RIGHT_FILES)
    assert check(of_zip("python3.11", "x86_64", code)) == []


@pytest.mark.parametrize("setting", ["Runtime: nodejs22.x", "PackageType: Image"])
def test_what_is_no_python_is_nothing_to_tell_of(check: Check, tmp_path: Path, setting: str) -> None:
    packed(tmp_path, RIGHT_FILES)
    assert check(of_zip(architecture="x86_64").replace("Runtime: python3.13", setting)) == []


def test_what_nobody_knows_is_a_note(check: Check, tmp_path: Path) -> None:
    packed(tmp_path, RIGHT_FILES)
    assert one(check(of_zip("!Ref Nobody")), "not checked: Runtime").severity == "note"
    assert one(check(of_zip(architecture="!Ref Nobody")), "not checked: Architectures").severity == "note"


def test_a_zip_that_is_damaged_anywhere_makes_a_note_and_no_crash(tmp_path: Path) -> None:
    packed(tmp_path, RIGHT_FILES)
    path = tmp_path / "dist" / "orders.zip"
    whole, choice = path.read_bytes(), random.Random(1)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(choice.randrange(1, 4)):
            damaged[choice.randrange(len(whole))] = choice.randrange(256)
        path.write_bytes(damaged[: choice.choice((len(whole), choice.randrange(len(whole))))])
        try:
            read_package(path, "")
        except StreamkitError as error:
            refused += "can't be read" in str(error)
    assert refused > 100


def test_what_is_no_zip_is_a_note(check: Check, tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / "orders.zip").write_bytes(b"no zip")
    finding = one(check(of_zip()), "dist/orders.zip can't be read")
    assert (finding.severity, finding.where) == ("note", line_of("CodeUri", of_zip()))

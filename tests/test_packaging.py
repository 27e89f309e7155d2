"""Packages for Lambda, built by pip from real wheels."""

from __future__ import annotations

import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from streamkit.packaging import PackagingError, build, traced

from .cli.process import ended

LOCK = Path(__file__).parents[1] / "deploy" / "requirements-core.txt"
FUNCTION = """
from streamkit import RecordProcessor, lambda_handler
from app import prices

class Orders(RecordProcessor):
    name = "orders"
    def process(self, record):
        from streamkit.sinks.cloudsearch import CloudSearchSink
        prices.of(record.json())

handler = lambda_handler(Orders)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("")
    (tmp_path / "app" / "prices.py").write_text(
        "import decimal, msgspec\ndef of(order): return decimal.Decimal(order['price'])\n"
    )
    (tmp_path / "app" / "unused.py").write_text("1 / 0\n")
    (tmp_path / "orders.py").write_text(FUNCTION)
    return tmp_path


def test_what_is_imported_is_found_within_functions_too_and_nothing_else_is(project: Path) -> None:
    found = traced(["orders"], project)

    assert {"orders.py", "app/__init__.py", "app/prices.py", "streamkit/handler.py"} <= found.keys()
    assert "streamkit/sinks/cloudsearch.py" in found
    assert found.keys().isdisjoint({"app/unused.py", "streamkit/sinks/bigquery.py", "streamkit/cli/__init__.py"})
    assert all(name.startswith(("orders", "app", "streamkit")) for name in found), "pip brings the rest"


def test_the_same_sources_give_the_same_bytes(project: Path) -> None:
    first = build(["orders"], project / "one.zip", architecture="arm64", root=project, requirements=LOCK)
    (project / "orders.py").touch()
    second = build(["orders"], project / "two.zip", architecture="arm64", root=project, requirements=LOCK)

    assert (project / "one.zip").read_bytes() == (project / "two.zip").read_bytes()
    assert first.sha256 == second.sha256
    (project / "orders.py").write_text(FUNCTION + "\n# changed\n")
    assert (
        build(["orders"], project / "two.zip", architecture="arm64", root=project, requirements=LOCK).sha256
        != first.sha256
    )


def test_a_package_has_wheels_of_its_architecture_and_bytecode_that_needs_no_check(project: Path) -> None:
    libraries = {}
    for architecture in ("arm64", "x86_64"):
        built = build(["orders"], project / "out.zip", architecture=architecture, root=project, requirements=LOCK)
        with zipfile.ZipFile(built.path) as archive:
            names = archive.namelist()
            libraries[architecture] = {name for name in names if name.endswith(".so")}
            bytecode = archive.read(next(name for name in names if name.startswith("__pycache__/orders.")))
        assert names == sorted(names)
        # PEP 552: a hash, and not to be checked.
        assert bytecode[4:8] == b"\x01\0\0\0"

    assert libraries["arm64"]
    assert all("aarch64" in name for name in libraries["arm64"])
    assert all("x86_64" in name for name in libraries["x86_64"])


@pytest.mark.skipif(platform.system() != "Linux", reason="the wheels are for Linux")
@pytest.mark.parametrize("bytecode_only", [False, True])
def test_a_package_runs_where_nothing_else_is_installed(
    project: Path, tmp_path_factory: pytest.TempPathFactory, bytecode_only: bool
) -> None:
    architecture = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
    build(
        ["orders"],
        project / "out.zip",
        architecture=architecture,
        root=project,
        requirements=LOCK,
        bytecode_only=bytecode_only,
    )
    place = tmp_path_factory.mktemp("unzipped")
    with zipfile.ZipFile(project / "out.zip") as archive:
        archive.extractall(place)
    program = "import sys; sys.path.insert(0, '.'); import orders; print(orders.handler({'Records': []}, None))"
    program += "; import msgspec; print(msgspec.__file__); import tenacity; print(tenacity.retry.__doc__ is None)"

    # -S: without this environment's packages.
    done = subprocess.run([sys.executable, "-I", "-S", "-c", program], cwd=place, capture_output=True, text=True)

    answer, module, is_without_docstrings = done.stdout.splitlines()
    assert (answer, done.stderr) == ("{'batchItemFailures': []}", "")
    assert Path(module) == place / "msgspec" / ("__init__.pyc" if bytecode_only else "__init__.py")
    assert is_without_docstrings == str(bytecode_only)
    # Its own modules keep their sources.
    assert (place / "orders.py").is_file()
    assert (place / "streamkit" / "handler.py").is_file()


def test_what_is_wrong_is_told(project: Path) -> None:
    with pytest.raises(PackagingError, match="there is no module nowhere below"):
        build(["nowhere"], project / "out.zip", architecture="arm64", root=project)
    with pytest.raises(PackagingError, match="arm64, x86_64; got 'arm'"):
        build(["orders"], project / "out.zip", architecture="arm", root=project)
    lock = project / "lock.txt"
    lock.write_text("msgspec==0.20.0 --hash=sha256:" + 64 * "0" + "\n")
    with pytest.raises(PackagingError, match=r"(?i)hash"):
        build(["orders"], project / "out.zip", architecture="arm64", root=project, requirements=lock)
    (project / "orders.py").write_text("def :")
    with pytest.raises(PackagingError, match=r"orders\.py is no Python"):
        build(["orders"], project / "out.zip", architecture="arm64", root=project)
    assert not (project / "out.zip").exists()


def test_what_the_functions_python_can_not_compile_is_no_package(project: Path) -> None:
    python = project / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)

    with pytest.raises(PackagingError, match=r"app/__init__\.py can't be compiled by"):
        build(["orders"], project / "out.zip", architecture="arm64", root=project, python=str(python))
    assert not (project / "out.zip").exists()


def test_the_command_tells_where_the_package_is(project: Path) -> None:
    done = ended(project, "package", "orders", "--requirements", str(LOCK))

    assert done.returncode == 0, done.stderr
    assert done.stdout == "dist/orders-arm64.zip\n"
    assert (project / "dist" / "orders-arm64.zip").stat().st_size < 5_000_000
    assert ended(project, "package", "orders", "--requirements", "nowhere.txt").returncode == 2
    assert ended(project, "package", "orders.py").returncode == 2

"""The names of a new project, and what it writes."""

from __future__ import annotations

import ast
import re
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import pytest

from streamkit.errors import ConfigurationError
from streamkit.new.project import TAKEN_CLASSES, TAKEN_MODULES, Project

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("name", "module", "cls", "service"),
    [
        ("orders", "orders", "Orders", "orders"),
        ("paid-orders", "paid_orders", "PaidOrders", "paid-orders"),
        ("paid_orders2", "paid_orders2", "PaidOrders2", "paid-orders2"),
        ("a" * 30, "a" * 30, "A" + "a" * 29, "a" * 30),
        ("a--b_", "a__b_", "AB", "a--b-"),
    ],
)
def test_the_names_follow_from_one(name: str, module: str, cls: str, service: str) -> None:
    project = Project(name)

    assert (project.module, project.cls, project.service) == (module, cls, service)
    for path, text in project.files.items():
        assert "@@" not in text
        if path.endswith(".py"):
            ast.parse(text)


@pytest.mark.parametrize("name", ["", "Orders", "1st", "-a", "_a", "a.b", "a/b", "a b", "ä", "orders\n", "a" * 31])
def test_what_is_no_name_is_told(name: str) -> None:
    with pytest.raises(ConfigurationError, match="begins with a letter from a to z, and has up to 29 more"):
        Project(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lambda", "a word of Python's own"),
        ("queue", "Python's standard library"),
        ("concurrent", "Python's standard library"),
        ("streamkit", "would hide what the project itself uses"),
        ("tests", "would hide what the project itself uses"),
        ("record-processor", "with the class RecordProcessor would hide"),
        ("memory_queue", "with the class MemoryQueue would hide"),
    ],
)
def test_a_name_that_would_hide_another_is_told(name: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{reason}.* take another.* {name}-events"):
        Project(name)
    Project(f"{name}-events")


def test_no_package_that_the_project_brings_is_hidden() -> None:
    brought, waiting = set(), ["kinesis-streamkit"]
    while waiting:
        name = waiting.pop()
        if name in brought:
            continue
        brought.add(name)
        try:
            wanted = distribution(name).requires or []
        except PackageNotFoundError:  # Of another platform.
            continue
        for one in wanted:
            extra = re.search(r"extra == ['\"]([\w-]+)['\"]", one)
            if extra is None or (name == "kinesis-streamkit" and extra[1] in ("aws", "cli", "testing")):
                waiting.append(re.split(r"[^\w-]", one, maxsplit=1)[0].lower())
    modules = {name.replace("-", "_") for name in brought}
    names = {
        "kinesis_streamkit": "streamkit",
        "python_dateutil": "dateutil",
        "pyyaml": "yaml",
        "markdown_it_py": "markdown_it",
    }
    on_windows_or_old = {"colorama", "exceptiongroup", "tomli", "typing_extensions"}

    assert {"botocore", "pluggy", "pygments"} <= modules
    assert {names.get(module, module) for module in modules} - on_windows_or_old <= TAKEN_MODULES


def test_no_name_that_its_program_or_tests_use_is_hidden() -> None:
    files = Project("orders").files
    used = {
        node.id
        for path in ("orders.py", "tests/test_orders.py")
        for node in ast.walk(ast.parse(files[path]))
        if isinstance(node, ast.Name) and node.id[0].isupper() and not node.id.isupper()
    }
    imported = {
        alias.name
        for path in ("orders.py", "tests/test_orders.py")
        for node in ast.walk(ast.parse(files[path]))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name[0].isupper()
    }

    assert (used | imported) - {"Orders"} <= TAKEN_CLASSES


def test_it_asks_for_a_streamkit_like_this_one_and_packages_what_that_imports() -> None:
    files = Project("orders").files
    major, minor, _ = version("kinesis-streamkit").split(".")
    assert (major, f"kinesis-streamkit[aws,cli,testing]>={major}.{minor}.0,<0.{int(minor) + 1}\n") == (
        "0",
        files["requirements-dev.in"].splitlines(keepends=True)[2],
    )

    ours = (ROOT / "deploy" / "requirements-core.in").read_text().splitlines()

    assert files["requirements.in"].splitlines()[1:] == ours[1:]


def test_the_python_is_the_one_that_it_is_made_for() -> None:
    files = Project("orders", python="3.12").files

    assert "Runtime: python3.12\n" in files["template.yaml"]
    assert "PYTHON ?= python3.12\n" in files["Makefile"]
    assert 'python-version: "3.12"' in files[".github/workflows/ci.yml"]
    assert not [path for path, text in files.items() if re.search(r"3\.1[013]", text)]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    with pytest.raises(ConfigurationError, match="is not empty"):
        Project("orders").write(tmp_path)
    with pytest.raises(ConfigurationError, match="is a file"):
        Project("orders").write(tmp_path / "file")

    assert [path.name for path in tmp_path.rglob("*")] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"

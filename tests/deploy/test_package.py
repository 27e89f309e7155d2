"""Which packages there are, how large they may be, and what is told of them. What is in one is for tests/test_packaging.py."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from deploy import package
from deploy.package import FUNCTIONS, ROOT, main
from streamkit.packaging import ARCHITECTURES, Package

MB = 1_000_000


def test_each_function_of_processors_has_a_package_and_its_budget() -> None:
    handlers = {
        f"processors.{path.stem}"
        for path in (ROOT / "processors").glob("*.py")
        for one in ast.parse(path.read_text()).body
        if isinstance(one, ast.Assign) and "handler" in [getattr(target, "id", "") for target in one.targets]
    }

    assert {function.module for function in FUNCTIONS.values()} == handlers
    for name, function in FUNCTIONS.items():
        assert function.most == (16 * MB if name.startswith("bigquery") else 5 * MB)


@pytest.mark.parametrize(("size", "code"), [(5 * MB, 0), (5 * MB + 1, 1)])
def test_sizes_are_printed_and_one_over_its_budget_ends_the_build(
    size: int, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def packaged(name: str, architecture: str, out: Path) -> Package:
        return Package(out / f"{name}-{architecture}.zip", size, 3 * size, 64 * "a")

    monkeypatch.setattr(package, "packaged", packaged)

    assert main(["cloudsearch"]) == code

    # A thread that a test before this one has left may print meanwhile.
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("cloudsearch")]
    assert [line.split()[0] for line in lines] == [f"cloudsearch-{one}.zip" for one in ARCHITECTURES]
    assert all("5.00 MB      5 MB  15.00 MB" in line for line in lines)
    assert [line.endswith("TOO LARGE") for line in lines] == [bool(code)] * len(ARCHITECTURES)


def test_the_documents_have_each_functions_size_and_cold_start() -> None:
    text = (ROOT / "docs" / "deploying.md").read_text()
    sizes, starts = (text.partition(f"\n## {part}\n")[2].partition("\n## ")[0] for part in ("Packages", "Cold starts"))

    def rows(section: str) -> list[str]:
        return [line.split("|")[1].strip() for line in section.splitlines() if line.startswith("| ")]

    for name in FUNCTIONS:
        assert name in rows(sizes)
        # To its answer, and with each import.
        assert rows(starts).count(name) == 2, name

"""The page is in what pip installs, as it is in the repository."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import streamkit

ROOT = Path(streamkit.__file__).parent
PAGE = ROOT / "cli" / "web" / "page"


def test_the_wheel_has_the_page_to_the_byte(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT.parent),
    ]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")

    with ZipFile(wheel) as archive:
        packed = {name: archive.read(name) for name in archive.namelist() if name.startswith("streamkit/cli/web/page/")}

    assert packed == {f"streamkit/cli/web/page/{path.name}": path.read_bytes() for path in PAGE.iterdir()}
    assert {"page.html", "console.js", "parts.js", "console.css", "icon.svg"} == {path.name for path in PAGE.iterdir()}

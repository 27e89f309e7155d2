"""Write the table of docs/faults.md from the cells: ``python -m tests.faults.table``."""

from __future__ import annotations

from pathlib import Path

from .cells import FAULTS, SEAMS, Row, backends, in_memory
from .rows import ROWS

__all__ = ["PAGE", "page_with", "table"]

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "faults.md"
_BEGIN = "<!-- Made by `python -m tests.faults.table`. -->\n"
_END = "<!-- End of what was made. -->\n"


def table() -> str:
    """One table for each seam, a row for each backend, a column for each fault; then what has no service."""
    lines: list[str] = []
    for seam, called in SEAMS.items():
        rows = [row for row in ROWS if issubclass(row.backend, seam)]
        lines += [f"### {called.capitalize()}", "", _line("", *FAULTS), _line("---", *("---" for _ in FAULTS))]
        lines += [_line(f"`{_title(row)}`", *(row.cells[fault].words for fault in FAULTS)) for row in rows]
        alone = [f"`{backend.__name__}`" for backend in backends() if issubclass(backend, seam) and in_memory(backend)]
        if alone:
            lines += ["", f"In memory, with no service that could fail: {', '.join(alone)}."]
        lines.append("")
    lines.pop()
    return "\n".join(lines) + "\n"


def page_with(made: str) -> str:
    """The page, with ``made`` in the place of the table that it has."""
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{made}\n{_END}{after}"


def _title(row: type[Row]) -> str:
    return row.name().replace("-", ", ", 1)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    PAGE.write_text(page_with(table()))

"""``python -m demo.fanout``, which is what ``make demo-fanout`` runs: real readers on a stream that has its limits."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from demo.fanout import __main__ as program
from demo.fanout.measure import WAYS, Result

ROOT = Path(__file__).resolve().parents[2]


def result(way: str, subscribers: int = 20, *, throttled: int = 0, p99: float = 1.0, unseen: int = 0) -> Result:
    return Result(way, subscribers, 200, 20.0, 60, throttled, 0.5, p99, 2 * p99, unseen)


def test_every_way_brings_every_record_to_every_subscriber() -> None:
    command = [sys.executable, "-m", "demo.fanout", "--counts", "1,3", "--seconds", "2"]

    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)

    rows = [line.split("|")[1:-1] for line in ran.stdout.splitlines() if line.startswith("| ")][1:]
    assert [(row[0].strip(), row[1].strip()) for row in rows] == [
        (way, count) for way in WAYS for count in ("1", "3")
    ], ran.stdout + ran.stderr
    assert {row[7].strip() for row in rows} == {"0"}
    assert {row[3].strip() for row in rows} == {"0"}
    # One reader, whatever the number of subscribers, but where each reads for itself: three times as often, were the machine
    # as free each time.
    reads = {(row[0].strip(), row[1].strip()): int(row[2]) for row in rows}
    assert reads["alone", "3"] > 1.3 * reads["alone", "1"]
    assert all(reads[way, "3"] < 2 * reads["alone", "1"] for way in WAYS[1:])
    # How old they were depends on the machine; the rest is as it is to be.
    assert all(re.search(r"p99 is \d", line) for line in ran.stdout.splitlines() if line.startswith("WRONG"))


@pytest.mark.parametrize(
    ("results", "wrong"),
    [
        ([result("in process"), result("onward"), result("alone", throttled=900, p99=40, unseen=7)], []),
        ([result("in process", throttled=1)], ["in process, 20: 1 throttled reads, 0 records not seen"]),
        ([result("onward", unseen=2)], ["onward, 20: 0 throttled reads, 2 records not seen"]),
        ([result("onward", p99=2.0)], ["onward, 20: p99 is 2.00 s"]),
        ([result("onward", 5, p99=2.5), result("onward", 20)], []),
    ],
)
def test_what_fan_out_is_to_do_is_checked(results: list[Result], wrong: list[str]) -> None:
    assert [*program._wrong(results)] == wrong


def test_the_table_goes_between_the_marks_of_its_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text((ROOT / "docs" / "fanout-demo.md").read_text())
    whole = page.read_text()

    for _ in range(2):
        program._put_into(page, [*program._table([result("alone", throttled=1234, unseen=5)])])

    assert page.read_text().count("| alone | 20 | 60 | 1,234 | 0.50 s | ≥ 1.00 s | ≥ 2.00 s | 5 |") == 1
    assert page.read_text().partition(program._BEGIN)[0] == whole.partition(program._BEGIN)[0]
    assert page.read_text().partition(program._END)[2] == whole.partition(program._END)[2]


def test_the_picture_is_the_same_for_the_same_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="make demo-fanout installs it")
    from demo.fanout.picture import draw

    results = [result(way, count, throttled=count) for way in WAYS for count in (1, 20)]
    draw(results, tmp_path / "a.svg")
    draw(results, tmp_path / "b.svg")

    picture = (tmp_path / "a.svg").read_text()
    assert picture == (tmp_path / "b.svg").read_text()
    assert "fan-out in process" in picture

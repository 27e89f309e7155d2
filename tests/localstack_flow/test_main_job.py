"""The job of ``make run``, with its streams and queues on LocalStack in place of moto."""

from __future__ import annotations

from pathlib import Path

from tests.flow.demo_process import counts, demo, is_left_behind


def test_every_event_arrives_or_is_a_dead_letter_and_a_killed_reader_resumes(tmp_path: Path) -> None:
    with demo(tmp_path / "made", "--flights", "2000", "--localstack") as process:
        out, log = process.communicate(timeout=280)

    assert process.returncode == 0, out + log
    table = counts(out)
    assert table.pop("repeated deliveries") >= 0
    assert table == {
        "published": 2000 + 3376 + 8,
        "processed": 2000 + 3376 + 8,
        "retried": 1,
        "dead-lettered": 8,
        "rows": 2000,
        "documents": 3376,
    }
    assert "killed the reader of the flights" in log
    assert "every count is right" in out
    assert not is_left_behind(tmp_path / "made")

"""What every checkpoint store has to do, run over memory and SQLite; and what only a file can go through."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit.checkpoints.base import CheckpointStore
from streamkit.checkpoints.memory import MemoryCheckpoints
from streamkit.checkpoints.sqlite import SqliteCheckpoints
from streamkit.errors import ConfigurationError

SHARD = "shardId-000000000000"
NUMBER = 49590338271490256608559692538361571095921575989136588898


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CheckpointStore]:
    store = MemoryCheckpoints() if request.param == "memory" else SqliteCheckpoints(tmp_path / "checkpoints.db")
    yield store
    store.close()


class TestEveryStore:
    def test_has_none_for_a_reader_that_has_saved_none(self, store: CheckpointStore) -> None:
        assert store.get("reader", "stream", SHARD) is None

    def test_gives_back_what_was_saved(self, store: CheckpointStore) -> None:
        store.save("reader", "stream", SHARD, NUMBER)

        assert store.get("reader", "stream", SHARD) == NUMBER

    def test_moves_up(self, store: CheckpointStore) -> None:
        store.save("reader", "stream", SHARD, NUMBER)
        store.save("reader", "stream", SHARD, NUMBER + 1)

        assert store.get("reader", "stream", SHARD) == NUMBER + 1

    def test_never_moves_down(self, store: CheckpointStore) -> None:
        store.save("reader", "stream", SHARD, NUMBER)
        store.save("reader", "stream", SHARD, NUMBER - 1)

        assert store.get("reader", "stream", SHARD) == NUMBER

    @pytest.mark.parametrize(
        ("lower", "higher"), [(9, 10), (0, 1), (99, 100), (NUMBER, 10**127), (10**127, 10**128 - 1)]
    )
    def test_compares_numbers_of_different_lengths_as_numbers(
        self, store: CheckpointStore, lower: int, higher: int
    ) -> None:
        store.save("reader", "stream", SHARD, lower)
        store.save("reader", "stream", SHARD, higher)
        store.save("reader", "stream", SHARD, lower)

        assert store.get("reader", "stream", SHARD) == higher

    def test_keeps_readers_streams_and_shards_apart(self, store: CheckpointStore) -> None:
        places = [("a", "s", "x"), ("b", "s", "x"), ("a", "t", "x"), ("a", "s", "y"), ("as", "", "x"), ("", "as", "x")]
        for number, place in enumerate(places):
            store.save(*place, number)

        assert [store.get(*place) for place in places] == list(range(len(places)))

    @pytest.mark.parametrize("name", ["", "with space", "'; DROP TABLE checkpoints; --", "größe", "a/b:c", "x" * 1000])
    def test_takes_any_name(self, store: CheckpointStore, name: str) -> None:
        store.save(name, "stream", SHARD, 1)

        assert store.get(name, "stream", SHARD) == 1

    def test_serves_several_threads(self, store: CheckpointStore) -> None:
        def save(shard: int) -> None:
            for number in range(50):
                store.save("reader", "stream", f"shard-{shard}", number)
                store.save("reader", "stream", "shared", shard * 1000 + number)

        threads = [threading.Thread(target=save, args=(shard,)) for shard in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [store.get("reader", "stream", f"shard-{shard}") for shard in range(4)] == [49] * 4
        assert store.get("reader", "stream", "shared") == 3049

    def test_can_be_closed_twice(self, store: CheckpointStore) -> None:
        store.save("reader", "stream", SHARD, 1)

        store.close()
        store.close()


@given(st.lists(st.integers(0, 10**128 - 1), min_size=1, max_size=8))
@settings(deadline=None)
def test_both_stores_hold_the_highest_number_that_was_saved(numbers: list[int]) -> None:
    for store in (MemoryCheckpoints(), SqliteCheckpoints(":memory:")):
        for number in numbers:
            store.save("reader", "stream", SHARD, number)

        assert store.get("reader", "stream", SHARD) == max(numbers)
        store.close()


WRITER = """
import sys
from streamkit.checkpoints.sqlite import SqliteCheckpoints

path, shard, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = SqliteCheckpoints(path)
for number in range(first, last + 1):
    store.save("reader", "stream", shard, number)
    print(number, flush=True)
store.close()
"""


def writer(path: Path, shard: str, first: int, last: int) -> subprocess.Popen[str]:
    """A process that saves one number after another, and prints each when it has been saved."""
    command = [sys.executable, "-c", WRITER, str(path), shard, str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def killed(process: subprocess.Popen[str], after: int) -> int:
    """Kill it when it has acknowledged so many numbers; the last one that it did acknowledge."""
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(after)]
    os.kill(process.pid, signal.SIGKILL)
    # What was printed whole before the end was acknowledged too.
    rest, _ = process.communicate()
    return int([*lines, *(line for line in rest.splitlines(keepends=True) if line.endswith("\n"))][-1])


class TestSqliteFile:
    def test_keeps_what_was_saved_for_the_next_process(self, tmp_path: Path) -> None:
        before = SqliteCheckpoints(tmp_path / "file")
        before.save("reader", "stream", SHARD, NUMBER)
        before.close()

        after = SqliteCheckpoints(tmp_path / "file")

        assert after.get("reader", "stream", SHARD) == NUMBER
        after.close()

    def test_loses_nothing_acknowledged_when_its_writer_is_killed_again_and_again(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        last = 0
        for kill in range(8):
            last = killed(writer(path, SHARD, last + 1, last + 10**6), after=1 + 7 * kill)

            store = SqliteCheckpoints(path)
            # One more may have been saved whose acknowledgement was never printed.
            assert store.get("reader", "stream", SHARD) in (last, last + 1)
            store.close()

    def test_is_shared_by_processes_that_make_it_at_once(self, tmp_path: Path) -> None:
        for attempt in range(4):
            path = tmp_path / f"file-{attempt}"
            processes = [writer(path, f"shard-{n}", 1, 5) for n in range(4)]

            for process in processes:
                process.communicate()

            assert [process.returncode for process in processes] == [0] * 4
            store = SqliteCheckpoints(path)
            assert [store.get("reader", "stream", f"shard-{n}") for n in range(4)] == [5] * 4
            store.close()

    def test_is_asked_again_while_another_process_has_it_to_itself(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = sqlite3.connect(tmp_path / "file", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect
        attempts = []

        def impatient(path: Path, **arguments: Any) -> sqlite3.Connection:
            attempts.append(path)
            if len(attempts) == 3:
                other.execute("COMMIT")
            # Where SQLite sees that waiting could end in a deadlock it does not wait, whatever the time-out.
            connection: sqlite3.Connection = connect(path, **{**arguments, "timeout": 0})
            return connection

        monkeypatch.setattr("streamkit.checkpoints.sqlite.sqlite3.connect", impatient)
        store = SqliteCheckpoints(tmp_path / "file")

        store.save("reader", "stream", SHARD, 1)

        assert len(attempts) == 3
        store.close()
        other.close()

    def test_is_not_moved_back_by_a_process_that_was_overtaken(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        store = SqliteCheckpoints(path)
        store.save("reader", "stream", SHARD, 100)

        writer(path, SHARD, 1, 5).communicate()

        assert store.get("reader", "stream", SHARD) == 100
        store.close()

    def test_can_be_used_again_after_it_was_closed(self, tmp_path: Path) -> None:
        store = SqliteCheckpoints(tmp_path / "file")
        store.save("reader", "stream", SHARD, 1)
        store.close()

        assert store.get("reader", "stream", SHARD) == 1
        store.close()

    def test_is_not_made_before_it_is_used(self, tmp_path: Path) -> None:
        SqliteCheckpoints(tmp_path / "file")

        assert list(tmp_path.iterdir()) == []

    def test_can_be_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        store = SqliteCheckpoints(tmp_path / "file")

        store.save("reader", "stream", SHARD, 1)

        assert store.get("reader", "stream", SHARD) == 1
        store.close()


class TestFileThatCanNotBeUsed:
    def refused(self, path: Path) -> str:
        store = SqliteCheckpoints(path)
        with pytest.raises(ConfigurationError) as raised:
            store.save("reader", "stream", SHARD, 1)
        store.close()
        assert str(path) in str(raised.value)
        return str(raised.value)

    def test_is_named_where_it_is_no_database_and_is_left_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("These are notes, and no database. " * 50)

        self.refused(path)

        assert path.read_text() == "These are notes, and no database. " * 50

    def test_is_named_where_it_is_another_programs_database_and_is_left_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "other.db"
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE checkpoints (mine TEXT)")
        other.close()
        before = path.read_bytes()

        assert "another program" in self.refused(path)

        assert path.read_bytes() == before

    def test_is_named_where_its_folder_does_not_exist(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "no such folder" / "file")

    def test_is_named_where_it_is_a_folder(self, tmp_path: Path) -> None:
        self.refused(tmp_path)

    def test_is_tried_again_by_the_next_call(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        store = SqliteCheckpoints(folder / "file")
        with pytest.raises(ConfigurationError):
            store.get("reader", "stream", SHARD)

        folder.mkdir()

        assert store.get("reader", "stream", SHARD) is None
        store.close()

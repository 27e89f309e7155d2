"""What a run publishes of itself: ``streamkit run --status``."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from streamkit.cli.published import Publisher, read_published
from streamkit.errors import ConfigurationError, StreamkitError
from streamkit.local.status import ShardStatus


def test_the_state_is_there_from_the_start_follows_what_happens_and_goes_with_the_run(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    status = ShardStatus("shardId-000000000000", state="reading", checkpoint=10**55)

    with Publisher(str(path), "orders", "shop", lambda: [status]):
        first = read_published(str(path))
        status.in_flight, status.in_flight_records, status.in_flight_since = 1, 100, time.time()
        give_up_at = time.monotonic() + 10
        while not read_published(str(path)).shards[0].in_flight:
            assert time.monotonic() < give_up_at
            time.sleep(0.1)
        later = read_published(str(path))

    assert (first.reader, first.stream, first.pid) == ("orders", "shop", os.getpid())
    assert (first.shards[0].checkpoint, first.shards[0].in_flight) == (str(10**55), 0)
    assert (later.shards[0].in_flight, later.shards[0].in_flight_records) == (1, 100)
    assert later.at > first.at
    assert list(tmp_path.iterdir()) == []


def test_it_is_for_its_owners_eyes(tmp_path: Path) -> None:
    path = tmp_path / "run.json"

    with Publisher(str(path), "orders", "shop", list):
        mode = stat.S_IMODE(path.stat().st_mode)

    assert mode == 0o600


def test_a_shard_that_was_lost_and_taken_again_is_there_once_as_it_is_now(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    statuses = [ShardStatus("a", state="lost"), ShardStatus("b"), ShardStatus("a", state="reading")]

    with Publisher(str(path), "orders", "shop", lambda: statuses):
        shards = read_published(str(path)).shards

    assert {one.shard_id: one.state for one in shards} == {"a": "reading", "b": "waiting"}


def test_a_place_that_can_not_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"--status .*/none/run.json can't be written: No such file or directory"
    ):
        with Publisher(str(tmp_path / "none" / "run.json"), "orders", "shop", list):
            pass


def test_a_place_that_can_not_be_written_later_is_said_once_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    with Publisher(str(folder / "run.json"), "orders", "shop", list):
        (folder / "run.json").unlink()
        folder.rmdir()
        time.sleep(2.5)

    assert capsys.readouterr().err.count("can't be written any more: No such file or directory") == 1


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b"\xff", b'{"reader": 7}'])
def test_another_file_is_said_to_be_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)

    with pytest.raises(StreamkitError, match="is no file of `streamkit run --status`"):
        read_published(str(path))


def test_a_file_that_is_not_there_says_what_makes_one() -> None:
    with pytest.raises(StreamkitError, match=r"no run writes nothing\.json now: start one with"):
        read_published("nothing.json")

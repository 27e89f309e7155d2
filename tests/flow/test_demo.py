"""``python -m demo``, which is what ``make run`` runs: every part of streamkit, as processes, on this machine."""

from __future__ import annotations

import json
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest

from demo.events import BELL, events_of_file, standard_events
from demo.publisher import Shard
from demo.report import Report
from streamkit.errors import DecodeError
from streamkit.kpl import deaggregate

from .demo_process import counts, demo, is_left_behind


def flight(n: int, **other: object) -> str:
    origin = ("DEN", "ORD", "SEA")[n % 3]
    fields = {"date": f"2001-01-01T00:{n % 60:02}", "delay": n, "distance": 100, "origin": origin, "destination": "LAX"}
    return json.dumps(fields | other)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Sixty flights; one line more is not JSON, another lacks a field that the mapping names."""
    lines = [flight(n) for n in range(60)]
    lines[20:20] = ["no JSON", json.dumps({"origin": "DEN", "delay": 1})]
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def test_the_events_of_a_file_arrive_or_are_dead_letters_and_a_count_that_is_wrong_fails_the_run(
    file: Path, tmp_path: Path
) -> None:
    with demo(tmp_path / "made", str(file), "--rows", "61") as process:
        out, log = process.communicate(timeout=240)

    table = counts(out)
    assert table.pop("repeated deliveries") >= 0
    assert table == {"published": 62, "processed": 62, "retried": 1, "dead-lettered": 2, "rows": 60, "documents": 0}
    assert "DecodeError: the data is not JSON" in out
    assert "MissingField: the event has no field 'date'" in out
    assert "(after 3 tries from the retry queue)" in out
    assert "killed the reader of the flights" in log
    assert not is_left_behind(tmp_path / "made")
    # All else was right.
    assert process.returncode == 1, out + log
    assert "WRONG: rows 60, expected 61\nsome counts are wrong" in out


def test_eight_broken_events_end_where_they_should_and_a_killed_reader_resumes(tmp_path: Path) -> None:
    with demo(tmp_path / "made", "--flights", "2000") as process:
        out, log = process.communicate(timeout=240)

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
    assert "DEN  Denver Intl, Denver, CO" in out
    assert BELL not in out
    assert "long runway" not in out + log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with demo(tmp_path / "made", "--flights", "2000") as process:
        until = time.monotonic() + 120
        while not list((tmp_path / "made").glob("flights-reader-*")):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(number)
        process.communicate(timeout=120)

    assert process.returncode == 130
    assert not is_left_behind(tmp_path / "made")


@pytest.mark.parametrize("arguments", [["nowhere.jsonl"], ["--rows", "many"]])
def test_what_is_typed_wrong_is_an_error_of_usage(tmp_path: Path, arguments: list[str]) -> None:
    with demo(tmp_path / "made", *arguments) as process:
        process.communicate(timeout=60)

    assert process.returncode == 2


# What is published


def test_half_of_the_flights_are_in_aggregates_of_one_origin_each_and_in_their_order() -> None:
    events = standard_events(5000)
    alone: list[bytes] = []
    aggregated: list[bytes] = []
    of_key: dict[str, list[bytes]] = {}
    broken = [one.put for one in events.broken or ()]

    for put in events.puts["flights"]:
        if put in broken:
            continue
        users = deaggregate(put.data)
        data = [put.data] if users is None else [user.data for user in users]
        (alone if users is None else aggregated).extend(data)
        of_key.setdefault(put.key, []).extend(data)
        assert put.events == len(data)
        assert {json.loads(one)["origin"] for one in data} == {put.key}
        assert {user.partition_key for user in users or ()} <= {put.key}

    assert len(alone) + len(aggregated) == 5000
    assert abs(len(alone) - len(aggregated)) <= 50
    assert events.in_aggregates == len(aggregated)
    for flights in of_key.values():
        dates = [json.loads(one)["date"] for one in flights]
        assert all(earlier <= later for earlier, later in pairwise(dates))


def test_eight_events_are_broken_each_in_its_way() -> None:
    events = standard_events(100)
    broken = events.broken or []

    assert [one.stream for one in broken] == ["flights"] * 4 + ["airports"] * 4
    assert [one.tries for one in broken] == [0, 0, 3, 0, 0, 0, 0, 0]
    with pytest.raises(DecodeError, match="damaged KPL aggregate"):
        deaggregate(broken[3].put.data)
    # Its dead letter is base64 in JSON, and a message of SQS's has 1 MiB; its document has the name twice.
    assert len(broken[7].put.data) * 4 / 3 + 4096 < 1_048_576 < 2 * len(json.loads(broken[7].put.data)["name"])
    assert events.count == 100 + 3376 + 8
    assert (events.rows, events.documents) == (100, 3376)


def test_one_airport_has_a_control_character_in_its_name() -> None:
    events = standard_events(0)
    broken = {one.put for one in events.broken or ()}
    names = [json.loads(put.data)["name"] for put in events.puts["airports"] if put not in broken]

    assert [name for name in names if BELL in name] == [f"Denver{BELL} Intl"]
    assert events.texts == {"DEN": {"name": "Denver Intl"}}


def test_large_events_make_several_aggregates(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text("\n".join(json.dumps({"origin": "DEN", "n": n, "text": "x" * 300_000}) for n in range(10)))

    puts = events_of_file(file).puts["flights"]

    assert sum(put.events for put in puts) == 10
    assert max(len(put.data) for put in puts) < 1_048_576
    numbers = [json.loads(user.data)["n"] for put in puts for user in deaggregate(put.data) or ()]
    assert numbers == list(range(10))


# What is counted


def test_a_shard_counts_the_events_of_its_records_by_their_numbers() -> None:
    shard = Shard([(1, 1), (2, 25), (3, 1), (10, 10)])

    assert shard.events(0, 10) == 37
    assert shard.events(2, 3) == 26
    assert shard.events(4, 9) == 0
    assert shard.distinct([(1, 2), (2, 3), (1, 3)]) == 27
    assert shard.distinct([]) == 0


def test_each_wrong_count_is_named(tmp_path: Path) -> None:
    events = standard_events(10)
    right = Report(published=3394, processed=3394, retried=1, rows=10, documents=3376)

    differences = list(right.differences(events))

    assert differences[0] == "rows, documents and dead letters are 3386 together, expected 3394, as published"
    assert sum(difference.startswith("no dead letter, expected one: ") for difference in differences) == 8
    assert differences[-1] == "the field name of the document DEN is not the text without its control character"
    assert len(differences) == 10
    wrong = Report(published=1, processed=2, retried=0, rows=3, documents=4)
    assert {difference.partition(" ")[0] for difference in wrong.differences(events)} >= {
        "published",
        "processed",
        "retried",
        "rows",
        "documents",
    }

"""``streamkit tail``: records as they come, whatever is in them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from streamkit import cli
from streamkit.cli import tail
from streamkit.kpl import UserRecord, aggregate

from .process import ENVIRONMENT, command, ended, error_of, put


def json_lines(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    one = ended(folder, "tail", *arguments, "--json")
    assert one.returncode == 0, one.stderr
    return [json.loads(line) for line in one.stdout.splitlines()]


def test_all_that_is_there_is_printed_with_its_place(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    put(kinesis, stream, "one", "two", "three")

    lines = json_lines(tmp_path, stream, "--no-follow", "--endpoint-url", moto_endpoint)

    assert sorted(line["data"] for line in lines) == ["one", "three", "two"]
    for line in lines:
        assert line["partition_key"] == line["data"]
        assert line["sub_sequence_number"] is None
        assert datetime.fromisoformat(line["time"]) <= datetime.now(UTC)
        assert line["shard_id"].startswith("shardId-")
        assert int(line["sequence_number"])


def test_aggregates_are_opened_and_damaged_ones_are_shown(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    whole = aggregate([UserRecord(b"first", "a"), UserRecord(b"\xff", "b")])
    for content in (whole, whole[:-1]):
        kinesis.put_record(StreamName=stream, Data=content, PartitionKey="outer")

    first, second, damaged = json_lines(tmp_path, stream, "--no-follow", "--endpoint-url", moto_endpoint)

    assert (first["data"], first["partition_key"], first["sub_sequence_number"]) == ("first", "a", 0)
    assert (second["data_base64"], second["partition_key"], second["sub_sequence_number"]) == ("/w==", "b", 1)
    assert damaged["error"].startswith("damaged KPL aggregate")
    assert damaged["partition_key"] == "outer"


def test_no_payload_can_play_with_the_terminal(kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str) -> None:
    hostile = "\x1b]0;title\x07\x1b[2J\r\n\x9b31m\u202eevil ünï"
    kinesis.put_record(StreamName=stream, Data=hostile.encode(), PartitionKey="k\x1b[1m")
    kinesis.put_record(StreamName=stream, Data=b"\x00\xff", PartitionKey="k")

    one = ended(tmp_path, "tail", stream, "--no-follow", "--endpoint-url", moto_endpoint)

    assert all(line.isprintable() for line in one.stdout.splitlines())
    assert "k\\x1b[1m " in one.stdout
    assert r"\x1b]0;title\x07\x1b[2J\r\n\x9b31m\u202eevil ünï" in one.stdout
    assert "base64:AP8=" in one.stdout
    assert len(one.stdout.splitlines()) == 2
    encoded = ended(tmp_path, "tail", stream, "--no-follow", "--json", "--endpoint-url", moto_endpoint).stdout
    assert all(line.isprintable() for line in encoded.splitlines())
    assert hostile in [json.loads(line).get("data") for line in encoded.splitlines()]


def test_a_record_of_ten_mebibytes_is_printed_whole(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    big = "é" * (5 * 1024 * 1024)
    for text in ("before", big, "after"):
        # By PutRecord, which moto holds to no size.
        kinesis.put_record(StreamName=stream, Data=text.encode(), PartitionKey="k")

    options = (stream, "--no-follow", "--endpoint-url", moto_endpoint)
    texts = [line.rpartition(" ")[2] for line in ended(tmp_path, "tail", *options).stdout.splitlines()]
    data = [line["data"] for line in json_lines(tmp_path, *options)]

    assert [len(text) for text in texts] == [6, len(big), 5]
    assert texts == data == ["before", big, "after"]
    kinesis.delete_stream(StreamName=stream)


def test_a_limit_counts_records_of_aggregates(kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str) -> None:
    kinesis.put_record(
        StreamName=stream, Data=aggregate(UserRecord(b"%d" % n, "a") for n in range(9)), PartitionKey="a"
    )

    arguments = ["--from", "TRIM_HORIZON", "--limit", "4", "--endpoint-url", moto_endpoint]

    assert [line["data"] for line in json_lines(tmp_path, stream, *arguments)] == ["0", "1", "2", "3"]


def test_one_shard_alone_and_a_time_to_start_at(kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str) -> None:
    put(kinesis, stream, *map(str, range(20)))
    arguments = [stream, "--no-follow", "--endpoint-url", moto_endpoint]
    tomorrow, yesterday = (datetime.now(UTC) + timedelta(days=days) for days in (1, -1))

    both = [json_lines(tmp_path, *arguments, "--shard", f"shardId-00000000000{n}") for n in range(2)]

    assert sorted(int(line["data"]) for lines in both for line in lines) == list(range(20))
    assert all(len({line["shard_id"] for line in lines}) == 1 for lines in both)
    for form in (datetime.isoformat, lambda moment: str(moment.timestamp())):
        assert json_lines(tmp_path, *arguments, "--from", form(tomorrow)) == []
        assert len(json_lines(tmp_path, *arguments, "--from", form(yesterday))) == 20


def test_it_goes_on_from_the_newest_record_until_ctrl_c(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    put(kinesis, stream, "old")
    following = subprocess.Popen(
        command("tail", stream, "--json", "--endpoint-url", moto_endpoint),
        env={**os.environ, **ENVIRONMENT},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with following:
        try:
            assert following.stdout is not None
            seen = b""
            for n in range(600):
                # Read from the latest record on, which is known only once a later one has come.
                put(kinesis, stream, f"new {n}")
                if select.select([following.stdout], [], [], 0.1)[0]:
                    seen = following.stdout.readline()
                    break
            following.send_signal(signal.SIGINT)
            assert following.wait(60) == 130
            assert following.stderr is not None
            assert following.stderr.read() == b""
        finally:
            following.kill()

    assert json.loads(seen)["data"].startswith("new ")


def test_the_shards_that_a_split_made_are_read_after_their_parent(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    put(kinesis, stream, *(f"before {n}" for n in range(10)))
    for n, key in enumerate(("4", "12")):
        kinesis.split_shard(
            StreamName=stream,
            ShardToSplit=f"shardId-00000000000{n}",
            NewStartingHashKey=str(int(key) * 2**124),
        )
    put(kinesis, stream, *(f"after {n}" for n in range(10)))

    lines = json_lines(tmp_path, stream, "--no-follow", "--endpoint-url", moto_endpoint)

    assert sorted(line["data"] for line in lines) == sorted(
        [f"{w} {n}" for w in ("before", "after") for n in range(10)]
    )


class Resharded:
    """A stream of one shard that was merged from two while it was read; moto's shards never end."""

    def __init__(self) -> None:
        self.is_merged = False

    def list_shards(self, **_: Any) -> Any:
        whole = {"SequenceNumberRange": {"StartingSequenceNumber": "1"}}
        shards = [{"ShardId": "a", **whole}, {"ShardId": "b", **whole}]
        if self.is_merged:
            shards.append({"ShardId": "c", "ParentShardId": "a", "AdjacentParentShardId": "b", **whole})
        return {"Shards": shards}

    def get_shard_iterator(self, *, ShardId: str, ShardIteratorType: str, **_: Any) -> Any:  # noqa: N803  # boto3's names.
        return {"ShardIterator": f"{ShardId} {ShardIteratorType}"}

    def get_records(self, *, ShardIterator: str, **_: Any) -> Any:  # noqa: N803  # As above.
        self.is_merged = True
        record = {
            "Data": ShardIterator.encode(),
            "SequenceNumber": "1",
            "PartitionKey": "k",
            "ApproximateArrivalTimestamp": datetime.now(UTC),
        }
        return {"Records": [record], "MillisBehindLatest": 0}


def test_a_shard_that_came_by_a_merge_begins_at_its_start_when_both_parents_have_ended() -> None:
    options = cli._parser().parse_args(["tail", "orders"])

    pages = [(shard_id, page[0]["Data"]) for shard_id, page in tail._pages(Resharded(), options)]

    assert pages == [("a", b"a LATEST"), ("b", b"b LATEST"), ("c", b"c TRIM_HORIZON")]


def test_a_reader_that_has_enough_ends_it_quietly(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    for n in range(100):
        kinesis.put_record(StreamName=stream, Data=b"x" * 10_000, PartitionKey=str(n))
    piped = " ".join(command("tail", stream, "--no-follow", "--endpoint-url", moto_endpoint)) + " | head -n 1"

    one = subprocess.run(piped, shell=True, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True)

    assert (len(one.stdout.splitlines()), one.stderr) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (
            ["--from", "yesterday"],
            2,
            "neither LATEST nor TRIM_HORIZON, and 'yesterday' is no time: write it as 2026-05-01T12:00Z",
        ),
        (["--shard", "shardId-9"], 2, "has no shard shardId-9: there are shardId-000000000000, "),
        (["--limit", "0"], 2, "--limit 0: end after how many records?"),
    ],
)
def test_what_is_wrong_is_named(
    arguments: list[str], code: int, error: str, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    ended_with, line = error_of(tmp_path, "tail", stream, *arguments, AWS_ENDPOINT_URL=moto_endpoint)

    assert ended_with == code
    assert error in line


@pytest.mark.parametrize(
    ("redirected", "reason"), [("> /dev/full", "No space left on device"), (">&-", "it is closed")]
)
def test_an_output_that_cannot_be_written_is_one_line(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str, redirected: str, reason: str
) -> None:
    put(kinesis, stream, "one")
    line = " ".join(command("tail", stream, "--no-follow", "--endpoint-url", moto_endpoint)) + f" {redirected}"

    one = subprocess.run(line, shell=True, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True)

    assert (one.returncode, one.stderr) == (1, f"streamkit: the output can't be written: {reason}\n")

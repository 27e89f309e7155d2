"""``streamkit lag``: how far a reader is behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from streamkit.checkpoints.sqlite import SqliteCheckpoints

from .process import ended, error_of, put

SHARDS = [f"shardId-00000000000{n}" for n in range(2)]


@pytest.fixture
def positions(tmp_path: Path) -> Any:
    store = SqliteCheckpoints(tmp_path / "streamkit.sqlite")
    yield store
    store.close()


def save(positions: SqliteCheckpoints, stream: str, shard_id: str, number: int) -> None:
    lease = positions.take("orders", stream, shard_id, "owner", None)
    assert lease is not None
    positions.save(lease, number)


def numbers(kinesis: Any, stream: str, shard_id: str) -> list[int]:
    iterator = kinesis.get_shard_iterator(StreamName=stream, ShardId=shard_id, ShardIteratorType="TRIM_HORIZON")
    answer = kinesis.get_records(ShardIterator=iterator["ShardIterator"])
    return [int(record["SequenceNumber"]) for record in answer["Records"]]


def test_the_age_is_that_of_the_first_record_after_the_checkpoint(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str, positions: SqliteCheckpoints
) -> None:
    put(kinesis, stream, *map(str, range(20)))
    save(positions, stream, SHARDS[0], numbers(kinesis, stream, SHARDS[0])[-1])
    save(positions, stream, SHARDS[1], numbers(kinesis, stream, SHARDS[1])[0])
    arguments = ["lag", stream, "--name", "orders", "--endpoint-url", moto_endpoint]

    one = ended(tmp_path, *arguments, "--json")

    done, behind = (json.loads(line) for line in one.stdout.splitlines())
    assert one.returncode == 0
    assert (done["shard_id"], done["age"]) == (SHARDS[0], 0)
    assert behind["shard_id"] == SHARDS[1]
    assert behind["age"] > 0
    assert behind["checkpoint"] == str(numbers(kinesis, stream, SHARDS[1])[0])
    assert ended(tmp_path, *arguments, "--max", "3600").returncode == 0
    over = ended(tmp_path, *arguments, "--max", "0")
    assert over.returncode == 1
    assert over.stdout.splitlines()[0].split() == ["shard", "age", "checkpoint"]
    assert over.stdout.splitlines()[1].split()[:3] == [SHARDS[0], "0", "s"]


def test_a_shard_without_a_checkpoint_counts_from_its_oldest_record(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str, positions: SqliteCheckpoints
) -> None:
    put(kinesis, stream, *map(str, range(20)))
    save(positions, stream, SHARDS[0], numbers(kinesis, stream, SHARDS[0])[-1])

    one = ended(tmp_path, "lag", stream, "--name", "orders", "--max", "0", "--endpoint-url", moto_endpoint)

    assert one.returncode == 1
    assert one.stdout.splitlines()[2].endswith("–")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--name", "ordrs"], "streamkit: streamkit.sqlite has no checkpoint of 'ordrs' in "),
        (["--name", "orders", "--checkpoints", "nothing"], "streamkit: there is no file nothing: "),
        (["--name", "orders", "--region", "no where"], "streamkit: "),
        (["--name", "orders", "--max", "-1"], "streamkit lag: error: argument --max: '-1' is no time in seconds"),
        (["--name", "orders", "--max", "nan"], "streamkit lag: error: argument --max: 'nan' is no time in seconds"),
        ([], "streamkit lag: error: the following arguments are required: --name"),
    ],
)
def test_what_can_not_be_told_is_neither_fine_nor_late(
    arguments: list[str],
    error: str,
    stream: str,
    tmp_path: Path,
    moto_endpoint: str,
    positions: SqliteCheckpoints,
) -> None:
    save(positions, stream, SHARDS[0], 1)

    code, line = error_of(tmp_path, "lag", stream, *arguments, AWS_ENDPOINT_URL=moto_endpoint)

    assert code == 2
    assert line.startswith(error)
    assert not (tmp_path / "nothing").exists()

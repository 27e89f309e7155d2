"""Readers that keep their checkpoints in LocalStack's DynamoDB."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from streamkit.checkpoints.dynamodb import DynamoDbCheckpoints

from .conftest import Connect
from .reader import create_stream, kill, of_key, put, reader, starts, wait_until

BATCH = 20
KEYS = [f"key-{n}" for n in range(6)]


@pytest.fixture
def options(connect: Connect) -> tuple[str, ...]:
    table = f"checkpoints-{uuid.uuid4().hex}"
    DynamoDbCheckpoints(table, client=connect("dynamodb")).create_table()
    return ("--checkpoints", f"dynamodb:{table}", "--lease-seconds", "5", "--batch-size", str(BATCH))


def events(numbers: range, **others: dict[int, str]) -> list[tuple[str, bytes]]:
    return [
        (KEYS[n % 6], json.dumps({"n": n} | {name: of[n] for name, of in others.items() if n in of}).encode())
        for n in numbers
    ]


def test_a_reader_goes_on_where_the_last_one_stopped(kinesis: Any, tmp_path: Path, options: tuple[str, ...]) -> None:
    stream = create_stream(kinesis, shards=2)
    journal = tmp_path / "journal"

    for numbers in (range(100), range(100, 200)):
        put(kinesis, stream, *events(numbers))
        with reader("journal", stream, journal, *options) as process:
            wait_until(lambda last=numbers.stop: len(starts(journal)) >= last, process)  # type: ignore[misc]  # No type for it.

    for key, numbers_ in of_key(starts(journal)).items():
        assert numbers_ == list(range(KEYS.index(key), 200, 6))


def test_another_reader_takes_the_shards_of_one_that_was_killed(
    kinesis: Any, tmp_path: Path, options: tuple[str, ...]
) -> None:
    stream = create_stream(kinesis, shards=2)
    journals = tmp_path / "killed", tmp_path / "other"
    gate = tmp_path / "gate"
    put(kinesis, stream, *events(range(300), wait={100: str(gate)}))

    with reader("journal", stream, journals[0], *options) as process:
        wait_until(lambda: 100 in {start.n for start in starts(journals[0])}, process)
        with reader("journal", stream, journals[1], *options) as other:
            kill(process)
            gate.touch()
            done = {start.n for start in starts(journals[0])}
            wait_until(lambda: done | {start.n for start in starts(journals[1])} == set(range(300)), other)

    first, second = (starts(journal) for journal in journals)
    assert second
    for numbers in (*of_key(first).values(), *of_key(second).values()):
        assert numbers == sorted(set(numbers))
    repeated = {start.n for start in first} & {start.n for start in second}
    assert 100 in repeated
    assert len(repeated) <= 2 * BATCH  # One batch a shard.

"""``streamkit put``: order, refusals and what it says of what it could not put."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from streamkit import cli
from streamkit.cli import put as command_module
from streamkit.cli.put import GaveUp, Place, Sender
from streamkit.kpl import deaggregate
from streamkit.producer.shards import ShardMap, hash_of

from .process import ENVIRONMENT, command, ended, error_of


def stored(kinesis: Any, stream: str) -> list[Any]:
    """All Kinesis records of a stream, those of a shard in their order."""
    records: list[Any] = []
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records += kinesis.get_records(ShardIterator=iterator)["Records"]
    return records


def data(kinesis: Any, stream: str) -> list[str]:
    return sorted(record["Data"].decode() for record in stored(kinesis, stream))


def test_each_line_of_the_files_and_of_stdin_is_a_record(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\n\ntwo\n")
    (tmp_path / "b.txt").write_bytes(b"three")

    one = ended(tmp_path, "put", stream, "a.txt", "-", "b.txt", "--endpoint-url", moto_endpoint, stdin="four\n")

    assert (one.returncode, one.stdout) == (0, "")
    assert one.stderr.startswith(f"put 4 records to {stream} in ")
    assert data(kinesis, stream) == ["four", "one", "three", "two"]
    assert len({record["PartitionKey"] for record in stored(kinesis, stream)}) == 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["STREAM", "--aggregate", "--key", "k", "a.txt", "b.txt"],
        ["STREAM", "a.txt", "--aggregate", "--key", "k", "b.txt"],
        ["--key", "k", "--aggregate", "STREAM", "a.txt", "b.txt"],
    ],
)
def test_files_stand_before_or_after_options(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str, arguments: list[str]
) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "b.txt").write_text("three\n")

    one = ended(
        tmp_path, "put", *(stream if one == "STREAM" else one for one in arguments), AWS_ENDPOINT_URL=moto_endpoint
    )

    assert one.returncode == 0
    assert one.stderr.startswith(f"put 3 records as 1 Kinesis record to {stream} in ")
    (record,) = stored(kinesis, stream)
    assert [user.data for user in deaggregate(record["Data"]) or ()] == [b"one", b"two", b"three"]


def test_an_option_that_there_is_not_is_no_file(tmp_path: Path) -> None:
    code, line = error_of(tmp_path, "put", "orders", "--keys", "k", "a.txt")

    assert (code, line) == (2, "streamkit put: error: unrecognized arguments: --keys k a.txt")


def test_one_is_one(kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str) -> None:
    arguments = ["--data", "{}", "--data", '{"id": "a"}', "--json-key", "id", "--endpoint-url", moto_endpoint]

    one = ended(tmp_path, "put", stream, *arguments)

    assert one.stderr.splitlines()[1].startswith(f"put 1 record to {stream} in ")
    assert one.stderr.splitlines()[2] == "streamkit: 1 line was not put: --data:1"


def test_the_key_is_a_field_of_each_line_and_lines_without_it_are_named(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    lines = ['{"id": "a"}', "no json", '{"id": 12}', '{"other": 1}', "[]", '{"id": ""}', '{"id": true}']
    (tmp_path / "orders.jsonl").write_text("\n".join(lines))

    one = ended(tmp_path, "put", stream, "orders.jsonl", "--json-key", "id", "--endpoint-url", moto_endpoint)

    assert one.returncode == 1
    assert {record["PartitionKey"]: record["Data"].decode() for record in stored(kinesis, stream)} == {
        "a": lines[0],
        "12": lines[2],
    }
    assert "orders.jsonl:2: it is not JSON, so it has no field 'id'" in one.stderr
    assert one.stderr.endswith("streamkit: 5 lines were not put: orders.jsonl:2, orders.jsonl:4-7\n")


def test_texts_of_the_command_line_are_put_under_one_key(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    arguments = ["--data", "one", "--data", "two", "--key", "k", "--endpoint-url", moto_endpoint]

    assert ended(tmp_path, "put", stream, *arguments).returncode == 0

    assert [(record["PartitionKey"], record["Data"]) for record in stored(kinesis, stream)] == [
        ("k", b"one"),
        ("k", b"two"),
    ]


def test_aggregates_hold_lines_of_one_shard_and_those_of_a_key_in_their_order(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    rows = [{"id": f"key {n % 30}", "n": n, "text": "x" * 200} for n in range(1500)]
    text = "\n".join(map(json.dumps, rows))

    arguments = ["--json-key", "id", "--aggregate", "--endpoint-url", moto_endpoint]
    one = ended(tmp_path, "put", stream, *arguments, stdin=text)

    assert one.returncode == 0, one.stderr
    by_key: dict[str, list[int]] = defaultdict(list)
    records = stored(kinesis, stream)
    shards = ShardMap.of_answer(kinesis.list_shards(StreamName=stream)["Shards"])
    for record in records:
        users = deaggregate(record["Data"])
        assert users is not None
        assert len({shards.index_of(hash_of(user.partition_key or "")) for user in users}) == 1
        assert len(record["Data"]) <= 51_200
        for user in users:
            by_key[user.partition_key or ""].append(json.loads(user.data)["n"])
    assert by_key == {f"key {k}": list(range(k, 1500, 30)) for k in range(30)}
    assert len(records) < 20


def test_aggregates_without_a_key_have_a_random_one_each(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    one = ended(
        tmp_path, "put", stream, "--aggregate", "--endpoint-url", moto_endpoint, stdin="a longer line of text\n" * 5000
    )

    assert one.returncode == 0
    assert f"put 5,000 records as {len(stored(kinesis, stream))} Kinesis records" in one.stderr
    assert sum(len(deaggregate(record["Data"]) or ()) for record in stored(kinesis, stream)) == 5000


@pytest.mark.parametrize(
    ("arguments", "ended_with", "error"),
    [
        (
            ["nowhere", "--data", "x"],
            1,
            "streamkit: stream nowhere: there is no such stream here (ResourceNotFoundException)",
        ),
        (["nowhere", "missing.txt"], 2, "streamkit: there is no file missing.txt"),
        (["nowhere", "--data", "x", "--key", ""], 2, "streamkit: --key has 0 characters"),
        (
            ["nowhere", "--data", "x", "--profile", "nobody"],
            1,
            "streamkit: stream nowhere: The config profile (nobody)",
        ),
        (
            ["nowhere", "--data", "x", "--endpoint-url", "nonsense"],
            1,
            "streamkit: Invalid endpoint: nonsense: an endpoint is",
        ),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], ended_with: int, error: str, tmp_path: Path, moto_endpoint: str
) -> None:
    code, line = error_of(tmp_path, "put", *arguments, AWS_ENDPOINT_URL=moto_endpoint)

    assert code == ended_with
    assert line.startswith(error)


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        ({"AWS_DEFAULT_REGION": "", "AWS_REGION": ""}, "no region is set: add --region"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "there are no AWS credentials: sign in"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, 'Could not connect to the endpoint URL: "http://127.0.0.1:9/"'),
    ],
)
def test_what_is_missing_is_named_with_what_to_do(environment: dict[str, str], error: str, tmp_path: Path) -> None:
    settings = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path), **environment}

    code, line = error_of(tmp_path, "put", "orders", "--data", "x", **settings)

    assert code == 1
    assert line.startswith(f"streamkit: stream orders: {error}")


class Refusing:
    """A client whose requests pass on to ``kinesis``, but for the records that ``refuses`` says, once for each answer."""

    def __init__(self, kinesis: Any, refuses: Callable[[int, int, dict[str, Any]], str | Exception | None]) -> None:
        self._kinesis = kinesis
        self._refuses = refuses
        self._lock = threading.Lock()
        self.requests: list[list[bytes]] = []

    def list_shards(self, **arguments: Any) -> Any:
        return self._kinesis.list_shards(**arguments)

    def put_records(self, *, StreamName: str, Records: list[dict[str, Any]]) -> Any:  # noqa: N803  # boto3's own names.
        with self._lock:
            self.requests.append([record["Data"] for record in Records])
            number = len(self.requests)
        refusals = [self._refuses(number, n, record) for n, record in enumerate(Records)]
        for refusal in refusals:
            if isinstance(refusal, Exception):
                raise refusal
        passed = [record for record, refusal in zip(Records, refusals, strict=True) if refusal is None]
        taken = iter(self._kinesis.put_records(StreamName=StreamName, Records=passed)["Records"] if passed else ())
        return {"Records": [{"ErrorCode": refusal} if refusal else next(taken) for refusal in refusals]}


THROTTLED = "ProvisionedThroughputExceededException"


def send(sender: Sender, *entries: tuple[str, bytes]) -> None:
    try:
        for n, (key, content) in enumerate(entries, 1):
            sender.put(Place("-", n), content, key)
        while not sender.is_done():
            pass
    finally:
        sender.close()


def test_only_what_was_refused_is_sent_again_and_each_key_stays_in_order(kinesis: Any, stream: str) -> None:
    client = Refusing(kinesis, lambda request, n, record: THROTTLED if (request * 7 + n) % 11 == 0 else None)
    entries = [(f"key {n % 40}", b"%d" % n) for n in range(400)]

    sender = Sender(client, stream, 60.0)
    send(sender, *entries)

    by_key: dict[str, list[int]] = defaultdict(list)
    for record in stored(kinesis, stream):
        by_key[record["PartitionKey"]].append(int(record["Data"]))
    assert by_key == {f"key {k}": list(range(k, 400, 40)) for k in range(40)}
    assert (sender.lines, sender.records) == (400, 400)
    assert all(len(request) <= 40 for request in client.requests)


def test_a_request_whose_answer_is_lost_is_sent_again(kinesis: Any, stream: str) -> None:
    lost = ReadTimeoutError(endpoint_url="http://127.0.0.1")
    client = Refusing(kinesis, lambda request, n, record: lost if request == 1 else None)

    send(Sender(client, stream, 60.0), ("a", b"1"))

    assert client.requests == [[b"1"], [b"1"]]


def test_a_stream_that_takes_nothing_is_given_up_after_the_patience(kinesis: Any, stream: str) -> None:
    client = Refusing(kinesis, lambda request, n, record: THROTTLED if record["Data"] != b"1" else None)
    sender = Sender(client, stream, patience=1.0)

    with pytest.raises(GaveUp, match=THROTTLED):
        send(sender, ("a", b"1"), ("b", b"2"), ("b", b"3"))

    assert sender.lines == 1


def test_one_record_that_fails_a_whole_request_is_found_and_the_others_are_put(kinesis: Any, stream: str) -> None:
    bad = ClientError({"Error": {"Code": "ValidationException", "Message": "too large"}}, "PutRecords")
    client = Refusing(kinesis, lambda request, n, record: bad if record["Data"] == b"5" else None)
    sender = Sender(client, stream, 60.0)

    send(sender, *((f"{n}", b"%d" % n) for n in range(1, 10)))

    assert sender.refused == [Place("-", 5)]
    assert data(kinesis, stream) == [str(n) for n in range(1, 10) if n != 5]


def test_lines_over_what_the_stream_takes_are_named_with_its_reason_and_the_others_are_put(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    # moto's streams take 1 MiB, and 5 MiB a request.
    lines = [b"first", b"x" * 2 * 1024 * 1024, b"second", b"x" * 9 * 1024 * 1024, b"x" * 10 * 1024 * 1024, b"last"]
    (tmp_path / "lines").write_bytes(b"\n".join(lines))

    one = ended(tmp_path, "put", stream, "lines", "--key", "k", "--endpoint-url", moto_endpoint)

    assert one.returncode == 1
    refused = dict(line.split(": ", 1) for line in one.stderr.splitlines() if line.startswith("lines:"))
    assert refused.keys() == {"lines:2", "lines:4", "lines:5"}
    assert "less than or equal to 1048576" in refused["lines:2"]
    assert "Records size exceeds 5 MB limit" in refused["lines:4"]
    assert refused["lines:5"] == "10,485,761 bytes are more than Kinesis takes in a record (10 MiB)"
    assert "streamkit: 3 lines were not put: lines:2, lines:4-5" in one.stderr
    assert len(one.stderr) < 2000  # No payload is in it.
    assert data(kinesis, stream) == ["first", "last", "second"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's address space")
def test_of_a_line_longer_than_any_record_no_more_is_read_at_once_than_shows_that(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    with (tmp_path / "lines").open("wb") as file:
        file.write(b"first\n")
        file.truncate(1024 * 1024 * 1024)  # A hole in the file: zeros without a line break, in no memory.
        file.seek(0, os.SEEK_END)
        file.write(b"\nlast")

    put = command("put", stream, "lines", "--json-key", "id", "--endpoint-url", moto_endpoint)
    one = subprocess.run(
        ["sh", "-c", 'ulimit -v 800000; exec "$@"', "sh", *put],  # 800 MB of address space; boto3 takes a fifth of it.
        cwd=tmp_path,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert one.returncode == 1, one.stderr
    assert "lines:2: it is longer than Kinesis takes in a record (10 MiB)" in one.stderr
    assert "lines:3: it is not JSON" in one.stderr  # And the next line is read.


def test_lines_are_read_ahead_by_their_bytes() -> None:
    long = [command_module._Line(Place("-", n), b"x" * 4 * 1024 * 1024, "k") for n in range(10)]
    short = [command_module._Line(Place("-", n), b"x", "k") for n in range(10_000)]

    def held(lines: list[command_module._Line]) -> int:
        ahead = command_module._ReadAhead(command_module._WINDOW_BYTES)
        with suppress(queue.Full):
            for line in lines:
                ahead.put_nowait(line)
        count = len(ahead.queue)
        assert [ahead.get_nowait() for _ in range(count)] == lines[:count]
        assert ahead.empty()
        return count

    assert held(long) == 3
    assert held(short) == 2000


def test_a_key_that_is_not_utf_8_is_typed_wrong(tmp_path: Path) -> None:
    one = ended(tmp_path, "put", "orders", "--key", "\udcff", "--data", "x")

    assert (one.returncode, one.stderr) == (2, "streamkit: --key is not UTF-8\n")


def test_what_no_stream_takes_is_refused_unsent(kinesis: Any, stream: str) -> None:
    client = Refusing(kinesis, lambda request, n, record: None)
    sender = Sender(client, stream, 60.0)

    send(sender, ("a", b"x" * (10 * 1024 * 1024)))

    assert (client.requests, sender.refused) == ([], [Place("-", 1)])


def test_giving_up_names_every_line_that_was_not_put(
    kinesis: Any,
    stream: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    client = Refusing(kinesis, lambda request, n, record: THROTTLED if record["Data"] in (b"2", b"4") else None)
    monkeypatch.setattr(command_module, "connected", lambda options, stream: nullcontext(client))
    (tmp_path / "numbers").write_text("".join(f"{n}\n" for n in range(1, 6)))

    code = cli.main(["put", stream, str(tmp_path / "numbers"), "--patience", "1"])

    assert code == 1
    assert data(kinesis, stream) == ["1", "3", "5"]
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("put 3 records to ")
    assert said[1] == f"streamkit: gave up, since the stream took nothing any more: {THROTTLED}"
    assert said[2].endswith(f"put some): {tmp_path}/numbers:2, {tmp_path}/numbers:4")


def test_lines_that_come_slowly_are_put_as_they_come(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str
) -> None:
    putting = subprocess.Popen(
        command("put", stream, "--endpoint-url", moto_endpoint),
        env={**os.environ, **ENVIRONMENT},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with putting:
        try:
            assert putting.stdin is not None
            for n in range(2):
                putting.stdin.write(b"%d\n" % n)
                putting.stdin.flush()
                until = time.monotonic() + 60
                while len(stored(kinesis, stream)) <= n:
                    assert time.monotonic() < until
                    time.sleep(0.05)
            putting.stdin.close()
            assert putting.wait(60) == 0
        finally:
            putting.kill()


@pytest.mark.parametrize("files", [["a-folder"], ["a.txt", "a-folder"]])
def test_a_folder_is_no_file_and_nothing_is_put(
    kinesis: Any, stream: str, tmp_path: Path, moto_endpoint: str, files: list[str]
) -> None:
    (tmp_path / "a.txt").write_text("one\n")
    (tmp_path / "a-folder").mkdir()

    one = ended(tmp_path, "put", stream, *files, "--endpoint-url", moto_endpoint)

    assert (one.returncode, one.stderr) == (2, "streamkit: a-folder is a folder: name the files in it\n")
    assert data(kinesis, stream) == []


def test_a_file_that_cannot_be_read_is_named(stream: str, tmp_path: Path, moto_endpoint: str) -> None:
    # Nothing is at its start, whoever reads it.
    one = ended(tmp_path, "put", stream, "/proc/self/mem", "--endpoint-url", moto_endpoint)

    assert (one.returncode, one.stderr) == (2, "streamkit: /proc/self/mem can't be read: Input/output error\n")


def test_a_closed_stdin_is_no_file(stream: str, tmp_path: Path, moto_endpoint: str) -> None:
    closed = " ".join(command("put", stream, "--endpoint-url", moto_endpoint)) + " <&-"

    one = subprocess.run(closed, shell=True, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True)

    assert (one.returncode, one.stderr) == (2, "streamkit: stdin is closed: name files, or give --data TEXT\n")


@pytest.mark.parametrize("name", ["put", "tail", "lag"])
def test_a_stream_without_a_name_is_typed_wrong(name: str, tmp_path: Path) -> None:
    more = ["--name", "orders"] if name == "lag" else []

    assert error_of(tmp_path, name, "", *more) == (2, f"streamkit {name}: error: argument STREAM: it is empty")

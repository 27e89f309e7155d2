"""``streamkit dead-letters`` on queues, buckets and files."""

from __future__ import annotations

import json
import stat
import subprocess
import uuid
from pathlib import Path
from typing import Any

import pytest

from streamkit import cli
from streamkit.claims.s3 import S3Claims
from streamkit.cli import letters as letters_module
from streamkit.envelope import open_envelope
from streamkit.local.destinations import destination

from ..test_letters import document
from .dead_letters import LetterQueue, letter
from .process import ENVIRONMENT, command, connect


@pytest.fixture(autouse=True)
def at_moto(monkeypatch: pytest.MonkeyPatch, moto_endpoint: str, tmp_path: Path) -> None:
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": moto_endpoint}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    # moto has one server, and tells at once that there is nothing more.
    monkeypatch.setattr(letters_module, "_LONG_POLL", 0)


@pytest.fixture
def queue(sqs: Any) -> LetterQueue:
    return LetterQueue(sqs)


class Said:
    """What a command did."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*arguments: str) -> Said:
        code = cli.main(["dead-letters", *arguments])
        return Said(code, *capsys.readouterr())

    return command


def test_each_letter_is_a_line_that_says_when_where_whose_and_why(queue: LetterQueue, run: Any) -> None:
    queue.put(letter(7, key="c-7"))

    said = run(queue.name)

    assert said.code == 0
    assert said.out == ("2026-05-01T12:00:00.000Z orders c-7 KeyError: 'total' orders/shardId-000000000000:7:0\n")
    assert said.err == "1 letter\n"


def test_looking_takes_nothing_and_what_was_looked_at_can_be_had_at_once(queue: LetterQueue, run: Any) -> None:
    queue.put(*(letter(n) for n in range(25)))

    for _ in range(2):
        assert len(run(queue.url).out.splitlines()) == 25

    assert queue.counts() == (25, 0)
    assert sorted(int(one.sequence_number or 0) for one in queue.envelopes()) == list(range(25))


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--error", "keyerror"], [1, 2]),
        (["--error", "TOTAL"], [1, 2]),
        (["--error", "Value"], []),
        (["--key", "c-2"], [2]),
        (["--processor", "audit"], [3]),
        (["--since", "2026-05-01T12:00Z"], [1, 3]),
        (["--until", "2026-05-01T12:00Z"], [2]),
        (["--since", "2026-05-01T11:00Z", "--until", "2026-05-01T12:00Z", "--key", "c-2"], [2]),
        (["--id", "orders/shardId-000000000000:1:0", "--id", "orders/shardId-000000000000:3:0"], [1, 3]),
        (["--limit", "1", "--key", "c-1"], [1]),
    ],
)
def test_letters_are_chosen(tmp_path: Path, run: Any, options: list[str], found: list[int]) -> None:
    chosen = [
        letter(1),
        letter(2, key="c-2", time="2026-05-01T11:59:59.000Z"),
        letter(3, key="c-3", processor="audit", error="Overflow"),
    ]
    (tmp_path / "letters.jsonl").write_text("\n".join(one.encode() for one in chosen))

    rows = run("letters.jsonl", "--json", *options).rows

    assert [int(row["sequence_number"]) for row in rows] == found


def test_counts_by_cause_put_the_most_frequent_first_and_numbers_aside(queue: LetterQueue, run: Any) -> None:
    for n in (1, 2, 3):
        error = f"ValueError: total {n} is too large (orders.py:12)"
        queue.put(letter(n, error=error, time=f"2026-05-01T12:00:0{n}.000Z"))
    queue.put(letter(9), "no letter")

    said = run(queue.name, "--count")
    as_json = run(queue.name, "--count", "--json")

    first, second, *_ = said.out.splitlines()
    assert first.split() == ["3", "orders", "ValueError:", "total", "#", "is", "too", "large", "(orders.py:12)"]
    assert second.strip().startswith("2026-05-01T12:00:01.000Z to 2026-05-01T12:00:03.000Z, for instance orders/")
    assert [(row["count"], row["error_type"]) for row in as_json.rows] == [
        (3, "ValueError"),
        (1, "KeyError"),
        (1, "can't be read"),
    ]
    assert said.code == 1
    assert "4 letters, 1 that can't be read" in said.err


def test_a_count_puts_digests_and_addresses_in_memory_aside_and_leaves_words_whole(
    queue: LetterQueue, run: Any
) -> None:
    for n, digest in enumerate(("7fa907a0c8b5abf40522a1b3781901da", "abcdefabcdefabcd0123456789012345")):
        queue.put(letter(n, error=f"DecodeError: there is no object s3://claims/{digest}.json, deadbeef at 0x7f{n}"))

    (row,) = run(queue.name, "--count", "--json").rows

    assert (row["count"], row["error"]) == (2, "DecodeError: there is no object s3://claims/#.json, deadbeef at #")


class TestPayloads:
    def test_are_shown_only_where_they_are_asked_for(self, queue: LetterQueue, run: Any) -> None:
        queue.put(letter(1, data=b'{"secret": 1}'))

        for options in ([], ["--json"], ["--count"], ["--id", "orders/shardId-000000000000:1:0"]):
            said = run(queue.name, *options)
            assert "secret" not in said.out + said.err
        assert '{"secret": 1}' in run(queue.name, "--payload").out
        assert json.loads(run(queue.name, "--payload", "--json").out)["data"] == '{"secret": 1}'

    def test_that_are_not_text_are_base64_and_none_moves_a_cursor(self, tmp_path: Path, run: Any) -> None:
        letters = [letter(1, data=b"\xff\x00"), letter(2, data=b"\x1b[2J"), letter(3, data=None, undecoded="!")]
        (tmp_path / "letters.jsonl").write_text("\n".join(one.encode() for one in letters))

        said = run("letters.jsonl", "--payload")
        rows = run("letters.jsonl", "--payload", "--json").rows

        assert "base64:/wA=" in said.out
        assert "\x1b" not in said.out
        assert "undecoded:!" in said.out
        assert [row.get("data_base64") or row.get("data") or row.get("undecoded") for row in rows] == [
            "/wA=",
            "\x1b[2J",
            "!",
        ]


def test_one_letter_is_shown_whole_with_all_its_failures(queue: LetterQueue, run: Any) -> None:
    one = letter(7, data=b'{"id":7,"items":[1]}', redrives=2, correlation={"lambda_request_id": "r-1"})
    queue.put(one, letter(8))

    said = run(queue.name, "--id", one.event_id)
    with_payload = run(queue.name, "--id", one.event_id, "--payload")

    for text in (one.event_id, "put back 2×", "r-1", "received 1×", "attempt 4", "KeyError: 'total'", "20 bytes"):
        assert text in said.out
    assert '  "id": 7,\n' in with_payload.out


def test_the_letters_of_an_event_are_found_by_what_it_is_followed_by(queue: LetterQueue, run: Any) -> None:
    queue.put(
        letter(7, correlation={"x-correlation-id": "r-1"}),
        letter(8, correlation={"x-correlation-id": "r-2"}),
        letter(9),
    )

    followed = run(queue.name, "--correlation", "r-1", "--json").rows
    without = run(queue.name, "--correlation", letter(9).event_id, "--json").rows

    assert [row["sequence_number"] for row in followed] == ["7"]
    assert followed[0]["correlation"] == {"x-correlation-id": "r-1"}
    assert [row["sequence_number"] for row in without] == ["9"]


class TestExport:
    def test_is_lines_of_whole_envelopes_that_can_be_read_again(
        self, queue: LetterQueue, run: Any, tmp_path: Path
    ) -> None:
        letters = [letter(n, data=b"\xff%d" % n) for n in range(3)]
        queue.put(*letters)

        said = run(queue.name, "--export", "out.jsonl")

        assert (said.code, said.out) == (0, "")
        assert "3 letters written to out.jsonl" in said.err
        exported = [open_envelope(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        assert sorted(exported, key=lambda one: str(one and one.sequence_number)) == letters
        assert stat.S_IMODE((tmp_path / "out.jsonl").stat().st_mode) == 0o600
        assert len(run("out.jsonl").out.splitlines()) == 3

    def test_never_goes_over_a_file_that_is_there(self, queue: LetterQueue, run: Any, tmp_path: Path) -> None:
        (tmp_path / "out.jsonl").write_text("the only copy")

        said = run(queue.name, "--export", "out.jsonl")

        assert said.code == 2
        assert (tmp_path / "out.jsonl").read_text() == "the only copy"

    def test_names_what_is_not_in_it(self, queue: LetterQueue, run: Any) -> None:
        queue.put("no letter", letter(1))

        said = run(queue.name, "--export", "-")

        assert len(said.out.splitlines()) == 1
        assert "is not in the export: it is neither an envelope" in said.err
        assert said.code == 1


def test_what_cannot_be_read_is_named_and_stays_and_nothing_of_it_is_shown(queue: LetterQueue, run: Any) -> None:
    queue.put("secret text", '{"streamkit_envelope": 2}', '{"streamkit_envelope": 1, "data": 7}')

    said = run(queue.name)

    assert said.code == 1
    assert [line[0] for line in said.out.splitlines()] == ["?"] * 3
    assert "secret" not in said.out
    assert "envelope version 2; this streamkit reads version 1: update it" in said.out
    assert queue.counts() == (3, 0)


class TestAQueueWithARedrivePolicyOfItsOwn:
    def test_is_warned_of(self, sqs: Any, run: Any) -> None:
        last = LetterQueue(sqs)
        policy = json.dumps({"deadLetterTargetArn": last.arn, "maxReceiveCount": "5"})
        queue = LetterQueue(sqs, RedrivePolicy=policy)
        queue.put(letter(1))

        said = run(queue.name)

        assert f"received 5 times goes to {last.name}, and each look at it is one receive" in said.err
        assert queue.counts() == (1, 0)


class TestDocuments:
    def test_are_one_line_until_their_records_are_fetched(
        self, queue: LetterQueue, kinesis: Any, stream: str, run: Any
    ) -> None:
        kinesis.put_record(StreamName=stream, Data=b"a", PartitionKey="k")
        numbers, shard, arn = everything(kinesis, stream)
        where = {"shardId": shard, "streamArn": arn, "batchSize": 1}
        queue.put(json.dumps(document(startSequenceNumber=numbers[0], endSequenceNumber=numbers[0], **where)))

        (row,) = run(queue.name, "--json").rows
        (fetched,) = run(queue.name, "--json", "--fetch", "--payload").rows

        assert (row["kind"], row["processor"]) == ("document", "orders")
        assert "1 record, which are still to be fetched" in row["error"]
        assert (fetched["kind"], fetched["data"], fetched["partition_key"]) == ("letter", "a", "k")

    def test_a_range_finds_numbers_of_any_length_that_they_can_have_and_stumbles_over_no_other(
        self, queue: LetterQueue, run: Any
    ) -> None:
        number = 10**127
        queue.put(*(letter(n, sequence_number=n * "9") for n in (129, 5000)), letter(number), letter(number + 1))

        said = run(queue.name, "--id", f"orders/shardId-000000000000:{number}-{number}", "--json")

        assert [row["sequence_number"] for row in said.rows] == [str(number)]
        assert said.code == 0

    def test_in_a_bucket_are_letters_with_their_records(self, run: Any, moto_endpoint: str) -> None:
        s3 = connect("s3", moto_endpoint)
        bucket = f"discarded-{uuid.uuid4().hex}"
        s3.create_bucket(Bucket=bucket)
        raw = {
            "kinesis": {"partitionKey": "k", "sequenceNumber": "7", "data": "YQ==", "approximateArrivalTimestamp": 1.0},
            "eventSource": "aws:kinesis",
            "eventID": "shardId-000000000001:7",
            "eventSourceARN": "arn:aws:kinesis:us-east-1:123456789012:stream/orders",
        }
        whole = document(startSequenceNumber="7", endSequenceNumber="7", batchSize=1)
        destination(f"arn:aws:s3:::{bucket}", client=s3)(whole, [raw])
        s3.put_object(Bucket=bucket, Key="aws/other", Body=b"\xff")
        s3.put_object(Bucket=bucket, Key="export.jsonl", Body="\n".join(letter(n).encode() for n in (1, 2)).encode())

        rows = run(f"s3://{bucket}/aws/", "--json", "--payload").rows
        lines = run(f"s3://{bucket}/export", "--json").rows
        s3.close()

        assert [(row["kind"], row.get("data")) for row in rows] == [("letter", "a"), ("unreadable", None)]
        assert "is not text" in rows[1]["error"]
        assert [row["place"] for row in lines] == [f"s3://{bucket}/export.jsonl:1", f"s3://{bucket}/export.jsonl:2"]

    def test_of_a_stream_that_is_not_there_fail_alone(self, queue: LetterQueue, run: Any) -> None:
        queue.put(json.dumps(document()), letter(1))

        said = run(queue.name, "--fetch", "--json")

        assert sorted(row["kind"] for row in said.rows) == ["letter", "unreadable"]
        assert said.code == 1


def test_a_letter_too_large_for_its_queue_is_read_through_its_claim(
    queue: LetterQueue, run: Any, moto_endpoint: str
) -> None:
    s3 = connect("s3", moto_endpoint)
    bucket = f"claims-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=bucket)
    store = S3Claims(bucket, client=s3)
    one = letter(1, data=b"x" * 2_000_000)
    queue.put(store.put(one.encode(), one.event_id, deadline=float("inf")))

    (row,) = run(queue.name, "--json").rows
    for held in s3.list_objects_v2(Bucket=bucket)["Contents"]:
        s3.delete_object(Bucket=bucket, Key=held["Key"])
    (gone,) = run(queue.name, "--json").rows
    s3.close()

    assert (row["kind"], row["bytes"], row["event_id"]) == ("letter", 2_000_000, one.event_id)
    assert gone["kind"] == "unreadable"
    assert "there is no object" in gone["error"]


def test_a_fifo_queue_is_looked_at_too(sqs: Any, run: Any) -> None:
    queue = LetterQueue(sqs, fifo=True)
    queue.put(letter(1), letter(2))

    assert [row["sequence_number"] for row in run(queue.name, "--json").rows] == ["1", "2"]
    assert queue.counts() == (2, 0)


def test_what_a_fifo_queue_does_not_show_is_told_of(sqs: Any, run: Any) -> None:
    queue = LetterQueue(sqs, fifo=True)
    queue.put(*(letter(n) for n in range(25)))

    for form in ("--count", "--json"):
        said = run(queue.name, form)
        assert said.code == 1
        assert "about 15 more were not seen" in said.err
    assert run(queue.name, "--limit", "3").code == 0


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["no-such-queue"], "there is no such queue"),
        (["no-such-file.jsonl"], "there is no file"),
        (["s3://"], "names no bucket"),
        (["q", "--limit", "0"], "1 or more"),
        (["q", "--export", "-", "--payload"], "leave --json and --payload out"),
        (["q", "--filter", "{"], "filter 1"),
    ],
)
def test_what_was_typed_wrong_is_one_line(run: Any, arguments: list[str], why: str) -> None:
    said = run(*arguments)

    assert said.code == (1 if "queue" in why else 2)
    assert why in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize("options", ["", "--json", "--count", "--export -"])
def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path, options: str) -> None:
    (tmp_path / "letters.jsonl").write_text(letter(1).encode())
    line = " ".join(command("dead-letters", "letters.jsonl")) + f" {options} > /dev/full"

    one = subprocess.run(line, shell=True, capture_output=True, text=True)

    assert (one.returncode, one.stderr) == (1, "streamkit: the output can't be written: No space left on device\n")


def test_what_is_held_is_given_back_when_the_reader_goes_away(
    queue: LetterQueue, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.put(*(letter(n) for n in range(12)))
    real = letters_module.QueueLetters.take

    def interrupted(self: Any, most: int | None = None) -> Any:
        for n, held in enumerate(real(self, most)):
            if n == 11:
                raise KeyboardInterrupt
            yield held

    monkeypatch.setattr(letters_module.QueueLetters, "take", interrupted)

    assert run(queue.name).code == 130
    assert queue.counts() == (12, 0)


def everything(kinesis: Any, stream: str) -> tuple[list[str], str, str]:
    """The sequence numbers of the shard that has records, its id, and the stream's ARN."""
    arn = kinesis.describe_stream_summary(StreamName=stream)["StreamDescriptionSummary"]["StreamARN"]
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        where = {"StreamName": stream, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        records = kinesis.get_records(ShardIterator=kinesis.get_shard_iterator(**where)["ShardIterator"])["Records"]
        if records:
            return [one["SequenceNumber"] for one in records], shard["ShardId"], arn
    raise AssertionError("no record")


@pytest.mark.parametrize(
    ("source", "is_queue"),
    [
        ("orders-dead", True),
        ("orders.fifo", True),
        ("http://127.0.0.1:4566/0/orders", True),
        ("https://sqs.us-east-1.amazonaws.com/1/orders.fifo", True),
        ("-", False),
        ("letters.jsonl", False),
        ("./letters", False),
        ("folder/orders.fifo", False),
        ("s3://bucket/prefix", False),
        ("s3://bucket", False),
    ],
)
def test_a_source_is_a_queue_by_its_form_alone(source: str, is_queue: bool) -> None:
    assert letters_module.names_queue(source) is is_queue

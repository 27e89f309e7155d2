"""``streamkit run``: filters, leases, checkpoints in DynamoDB, and where failure documents go."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamkit import cli
from streamkit.checkpoints.dynamodb import DynamoDbCheckpoints
from streamkit.cli.settings import settings_of
from streamkit.local.settings import Settings

from .process import connect, ended, error_of, put, running

PROGRAM = """
from streamkit import RecordProcessor, lambda_handler

class Orders(RecordProcessor):
    name = "orders"

    def process(self, record):
        if record.data.startswith(b"bad"):
            raise ValueError("not this one")
        with open("done", "a") as done:
            done.write(record.data.decode() + "\\n")

handler = lambda_handler(Orders)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "orders.py").write_text(PROGRAM)
    return tmp_path


def wait_for(found: Callable[[], Any]) -> Any:
    until = time.monotonic() + 60
    while not (value := found()):
        assert time.monotonic() < until
        time.sleep(0.05)
    return value


def done(folder: Path) -> list[str]:
    file = folder / "done"
    return sorted(file.read_text().splitlines()) if file.exists() else []


def test_what_the_filters_do_not_want_is_not_delivered(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    put(kinesis, stream, '{"type": "a"}', '{"type": "b"}', '{"type": "c"}', "bad")
    arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint, "--checkpoints", ":memory:"]
    filters = ["--filter", '{"data": {"type": ["a"]}}', "--filter", '{"data": {"type": [{"prefix": "c"}]}}']

    with running(folder, *arguments, *filters):
        wait_for(lambda: len(done(folder)) == 2)

    assert done(folder) == ['{"type": "a"}', '{"type": "c"}']


def test_a_filter_that_lambda_would_not_take_is_named(folder: Path, moto_endpoint: str) -> None:
    code, line = error_of(
        folder, "run", "orders:handler", "--stream", "s", "--filter", '{"data": ["a"]}', "--endpoint-url", moto_endpoint
    )

    assert code == 2
    assert line.startswith('streamkit: --filter, filter 1: "data" with a list of rules')


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--batch-size", "0"], "streamkit: --batch-size = 0: a whole number from 1 to 10,000"),
        (["--parallelization-factor", "11"], "streamkit: --parallelization-factor = 11: a whole number from 1 to 10"),
        (["--window-wait-in-seconds", "901"], "streamkit: --window-wait-in-seconds = 901.0: a number from 0 to 900"),
        (
            ["--starting-position", "AT_TIMESTAMP"],
            'streamkit: --starting-position = "AT_TIMESTAMP" and --starting-position-timestamp go together',
        ),
        (
            ["--starting-position-timestamp", "noon"],
            "streamkit run: error: argument --starting-position-timestamp: 'noon' is no time: write it as 2026-05-01T12:00Z, "
            "or in seconds since the epoch, as 1777636800",
        ),
        (
            ["--lease-seconds", "0"],
            "streamkit run: error: argument --lease-seconds: '0' is too short: give more than 0 seconds, such as 10",
        ),
        (
            ["--lease-seconds", "nan"],
            "streamkit run: error: argument --lease-seconds: 'nan' is no time in seconds, such as 60 or 0.5",
        ),
        (["--stream", ""], "streamkit run: error: argument --stream: it is empty"),
        (["--retry-queue", ""], "streamkit run: error: argument --retry-queue: it is empty"),
        (["--checkpoints", ""], "streamkit run: error: argument --checkpoints: it is empty"),
        (
            ["--checkpoints", "dynamodb:"],
            "streamkit run: error: argument --checkpoints: dynamodb: names no table: write it as dynamodb:TABLE",
        ),
    ],
)
def test_a_setting_that_is_typed_wrong_is_named_as_it_was_typed(arguments: list[str], error: str, folder: Path) -> None:
    one = ended(folder, "run", "orders:handler", "--stream", "s", *arguments)

    assert (one.returncode, one.stderr.splitlines()[-1]) == (2, error)
    assert "Traceback" not in one.stderr


def test_a_consumer_of_another_stream_is_typed_wrong(folder: Path) -> None:
    code, line = error_of(folder, "run", "orders:handler", "--stream", "s", "--consumer", "arn:x")

    assert code == 2
    assert line.startswith("streamkit: 'arn:x' is not the ARN of a consumer of the stream s")


@pytest.mark.parametrize("place", ["eu-west-1:123456789012", "us-east-1:210987654321"])
def test_a_consumer_of_a_stream_of_that_name_elsewhere_is_typed_wrong(
    stream: str, folder: Path, moto_endpoint: str, place: str
) -> None:
    arn = f"arn:aws:kinesis:{place}:stream/{stream}/consumer/mine:1"

    code, line = error_of(
        folder, "run", "orders:handler", "--stream", stream, "--consumer", arn, "--endpoint-url", moto_endpoint
    )

    assert code == 2
    assert line.startswith(
        f"streamkit: {arn} is not a consumer of arn:aws:kinesis:us-east-1:123456789012:stream/{stream}, "
    )


def test_a_retry_queue_that_is_not_there_is_named_at_the_start(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    put(kinesis, stream, "good")
    queue = f"{moto_endpoint}/123456789012/gone"

    code, line = error_of(
        folder, "run", "orders:handler", "--stream", stream, "--retry-queue", queue, "--endpoint-url", moto_endpoint
    )

    assert code == 2
    assert line.startswith(f"streamkit: the retry queue {queue} is not there (")
    assert line.endswith("check its URL, region and account, or make it")
    assert done(folder) == []


def options_of(*arguments: str) -> Settings:
    return settings_of(cli._parser().parse_args(["run", "orders:handler", "--stream", "s", *arguments]))


def test_every_setting_of_a_real_stream_has_an_option_and_the_default_that_its_help_tells(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--help"])
    text = " ".join(capsys.readouterr().out.partition("examples:")[0].split())
    defaults = Settings()
    # Those that the stream itself answers, or that have an option of another name.
    others = {"enabled", "retention_in_seconds", "shards", "filter_criteria", "function_response_types"}

    assert options_of("--no-report-batch-item-failures") == defaults
    for name in set(Settings.__struct_fields__) - others:
        _, option, said = text.rpartition(f"--{name.replace('_', '-')} ")
        assert option
        if name not in ("bisect_batch_on_function_error", "starting_position_timestamp"):
            assert re.match(rf"[^()]*\({getattr(defaults, name)}(:[^()]*)?\)", said), name


def test_what_aws_leaves_open_can_be_chosen() -> None:
    chosen = options_of(
        *("--unknown-identifier", "ignored", "--bisected-attempts", "carried", "--bisect-at-first-record", "halve"),
        *("--backoff-in-seconds", "0.5", "--maximum-backoff-in-seconds", "5", "--maximum-payload-in-bytes", "1000"),
        *("--record-over-payload", "discard", "--window-wait-in-seconds", "3", "--maximum-state-in-bytes", "2000"),
    )

    assert chosen == Settings(
        unknown_identifier="ignored",
        bisected_attempts="carried",
        bisect_at_first_record="halve",
        backoff_in_seconds=0.5,
        maximum_backoff_in_seconds=5,
        maximum_payload_in_bytes=1000,
        record_over_payload="discard",
        window_wait_in_seconds=3,
        maximum_state_in_bytes=2000,
        function_response_types=("ReportBatchItemFailures",),
    )


@pytest.mark.parametrize("text", ["2026-05-01T12:00Z", "2026-05-01T14:00+02:00", "1777636800", "1777636800.0"])
def test_a_time_to_start_at_has_two_forms(text: str) -> None:
    chosen = options_of("--starting-position", "AT_TIMESTAMP", "--starting-position-timestamp", text)

    assert chosen.starting_time == 1_777_636_800


def test_a_record_over_the_payload_is_given_up_where_that_is_chosen(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    for data in ("x" * 2000, "small"):
        kinesis.put_record(StreamName=stream, Data=data, PartitionKey="key")
    arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint, "--checkpoints", ":memory:"]

    with running(
        folder, *arguments, "--json", "--maximum-payload-in-bytes", "1000", "--record-over-payload", "discard"
    ) as process:
        wait_for(lambda: done(folder))
        assert process.stdout is not None
        assert process.stderr is not None
        assert "records were given up" in next(line for line in process.stderr if "given up" in line)
        process.terminate()
        summary = json.loads(process.stdout.read().splitlines()[-1])

    assert done(folder) == ["small"]
    assert summary["total"]["discarded"] == 1


def test_failure_documents_go_to_the_destination(kinesis: Any, stream: str, folder: Path, moto_endpoint: str) -> None:
    sqs = connect("sqs", moto_endpoint)
    queue = sqs.create_queue(QueueName=f"failures-{uuid.uuid4().hex}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    put(kinesis, stream, "bad", "good")
    arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint, "--checkpoints", ":memory:"]

    with running(folder, *arguments, "--maximum-retry-attempts", "1", "--on-failure", arn):
        (message,) = wait_for(lambda: sqs.receive_message(QueueUrl=queue).get("Messages"))
        wait_for(lambda: done(folder) == ["good"])
    sqs.close()

    document = json.loads(message["Body"])
    assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert document["requestContext"]["approximateInvokeCount"] == 2
    assert document["requestContext"]["functionArn"].endswith(":function:orders")
    assert document["KinesisBatchInfo"]["streamArn"].endswith(f"stream/{stream}")


def test_a_destination_that_is_none_is_named(folder: Path, moto_endpoint: str) -> None:
    code, line = error_of(
        folder, "run", "orders:handler", "--stream", "s", "--on-failure", "a-queue", "--endpoint-url", moto_endpoint
    )

    assert code == 2
    assert "'a-queue' is not the ARN of a queue, a topic or a bucket" in line


@pytest.mark.parametrize(
    "arn",
    ["arn:aws:sqs:us-east-1:123456789012:gone", "arn:aws:sns:eu-west-1:123456789012:gone", "arn:aws:s3:::not-here"],
)
def test_a_destination_that_is_not_there_is_named_at_the_start(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str, arn: str
) -> None:
    put(kinesis, stream, "good")

    code, line = error_of(
        folder, "run", "orders:handler", "--stream", stream, "--on-failure", arn, "--endpoint-url", moto_endpoint
    )

    assert code == 2
    assert line.startswith(f"streamkit: the on-failure destination {arn} is not there (")
    assert line.endswith("check its name, region and account, or make it")
    assert done(folder) == []


def test_a_destination_of_another_region_is_found_there(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    name = f"failures-{uuid.uuid4().hex}"
    sns = connect("sns", moto_endpoint, region="eu-west-1")
    arn = sns.create_topic(Name=name)["TopicArn"]
    sns.close()
    put(kinesis, stream, "good")
    arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint, "--checkpoints", ":memory:"]

    with running(folder, *arguments, "--on-failure", arn):
        wait_for(lambda: done(folder) == ["good"])


def test_checkpoints_can_be_in_dynamodb_and_the_next_run_begins_at_once(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    table = f"checkpoints-{uuid.uuid4().hex}"
    client = connect("dynamodb", moto_endpoint)
    arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint]
    arguments += ["--checkpoints", f"dynamodb:{table}", "--lease-seconds", "600"]

    put(kinesis, stream, *map(str, range(10)))
    with running(folder, *arguments, "--create-table") as process:
        wait_for(lambda: len(done(folder)) == 10)
        process.terminate()
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0, log
    assert {lease.owner for lease in DynamoDbCheckpoints(table, client=client).leases("orders", stream).values()} == {
        ""
    }

    put(kinesis, stream, "10")
    # The first has given its shards up: nothing is waited for.
    with running(folder, *arguments):
        wait_for(lambda: len(done(folder)) == 11)
    client.close()

    assert done(folder) == sorted(map(str, range(11)))


def test_a_table_that_is_not_there_is_named_with_how_to_make_it(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    code, line = error_of(
        folder,
        *("run", "orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint),
        *("--checkpoints", "dynamodb:nothing-here"),
    )

    assert code == 1
    assert "nothing-here does not exist" in line
    assert "--create-table" in line


@pytest.mark.parametrize("place", [":memory:", "file.sqlite"])
def test_only_a_dynamodb_table_is_made(kinesis: Any, stream: str, folder: Path, moto_endpoint: str, place: str) -> None:
    code, line = error_of(
        folder,
        *("run", "orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint),
        *("--checkpoints", place, "--create-table"),
    )

    assert code == 2
    assert f"--create-table goes with --checkpoints dynamodb:TABLE; {place} is none" in line


def test_lag_reads_the_table_too(kinesis: Any, stream: str, folder: Path, moto_endpoint: str) -> None:
    client = connect("dynamodb", moto_endpoint)
    table = f"checkpoints-{uuid.uuid4().hex}"
    store = DynamoDbCheckpoints(table, client=client)
    store.create_table()
    lease = store.take("orders", stream, "shardId-000000000000", "owner", None)
    assert lease is not None
    store.save(lease, 1)
    arguments = ["lag", stream, "--name", "orders", "--endpoint-url", moto_endpoint, "--json"]

    one = ended(folder, *arguments, "--checkpoints", f"dynamodb:{table}")
    client.close()

    assert one.returncode == 0, one.stderr
    assert [json.loads(line)["checkpoint"] for line in one.stdout.splitlines()] == ["1", None]

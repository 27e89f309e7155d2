"""``streamkit run``: a real process against moto."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from streamkit import cli
from streamkit.checkpoints.sqlite import SqliteCheckpoints
from streamkit.envelope import open_envelope

from .process import ENVIRONMENT, command, ended, error_of, put, running

# What was processed goes into a file, a line for each record; "bad" ones fail, as often as they come.
PROGRAM = """
import os
from streamkit import Divert, RecordProcessor, lambda_handler
from streamkit.queues.sqs import SqsQueue

class Orders(RecordProcessor):
    name = "orders"
    on_failure = Divert(SqsQueue.from_env("RETRIES"), dead_letters=SqsQueue.from_env("DEAD_LETTERS"), backoff=1)

    def process(self, record):
        with open("done", "a") as done:
            done.write(f"{record.attempt} {record.data.decode()}\\n")
        if record.data.startswith(b"bad"):
            raise ValueError("not this one")

handler = lambda_handler(Orders)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "orders.py").write_text(PROGRAM)
    return tmp_path


def done(folder: Path, lines: int) -> list[str]:
    """What was processed, once there are so many lines."""
    file = folder / "done"
    until = time.monotonic() + 60
    while not file.exists() or len(file.read_text().splitlines()) < lines:
        assert time.monotonic() < until, file.read_text() if file.exists() else "nothing was processed"
        time.sleep(0.05)
    return sorted(file.read_text().splitlines())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_processes_a_stream_until_it_is_told_to_stop(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str, number: signal.Signals
) -> None:
    put(kinesis, stream, *map(str, range(20)))
    arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint]

    with running(folder, *arguments, "--checkpoints", "positions.sqlite", "--batch-size", "5") as process:
        done(folder, 20)
        process.send_signal(number)
        _, log = process.communicate(timeout=60)

    assert process.returncode == 0, log
    assert f"{stream}/shardId-000000000000: 5 records, " in log
    assert f"{stream}/shardId-000000000001: stopped after " in log
    positions = SqliteCheckpoints(folder / "positions.sqlite")
    assert all(positions.leases("orders", stream)[f"shardId-00000000000{n}"].checkpoint is not None for n in range(2))
    positions.close()


def test_a_run_of_a_fan_out_has_its_branches_in_one_process_and_checkpoints_of_its_own_name(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    (folder / "both.py").write_text(
        "from orders import Orders\n"
        "from streamkit import lambda_handler\n"
        "from streamkit.fanout import FanOut\n"
        "from streamkit.progress.memory import MemoryProgress\n"
        "class Audit(Orders):\n"
        "    name = 'audit'\n"
        "handler = lambda_handler(FanOut(Orders, Audit, progress=MemoryProgress()))\n"
    )
    put(kinesis, stream, *map(str, range(10)))
    arguments = ["both:handler", "--stream", stream, "--endpoint-url", moto_endpoint]

    with running(folder, *arguments, "--checkpoints", "positions.sqlite") as process:
        lines = done(folder, 20)
        process.terminate()
        _, log = process.communicate(timeout=60)

    assert process.returncode == 0, log
    assert lines == sorted([f"1 {n}" for n in range(10)] * 2)
    positions = SqliteCheckpoints(folder / "positions.sqlite")
    assert len(positions.leases("orders+audit", stream)) == 2
    positions.close()


def test_a_run_that_was_killed_goes_on_from_its_checkpoint(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    put(kinesis, stream, *map(str, range(10)))
    arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint, "--name", "mine"]
    positions = SqliteCheckpoints(folder / "streamkit.sqlite")

    with running(folder, *arguments):
        done(folder, 10)
        while not all(lease.checkpoint for lease in positions.leases("mine", stream).values()):
            time.sleep(0.05)
    positions.close()
    put(kinesis, stream, "10", "11")
    with running(folder, *arguments):
        lines = done(folder, 12)

    assert lines == sorted(f"1 {n}" for n in range(12))


@pytest.mark.parametrize(("arguments", "name"), [((), "orders"), (("--name", "mine"), "mine")])
def test_a_run_names_the_function_in_its_metrics(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str, arguments: tuple[str, ...], name: str
) -> None:
    put(kinesis, stream, "a")
    given = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint, "--checkpoints", ":memory:"]

    with running(folder, *given, *arguments, STREAMKIT_METRICS="emf", AWS_LAMBDA_FUNCTION_NAME="") as process:
        done(folder, 1)
        process.terminate()
        output, log = process.communicate(timeout=60)

    (line,) = (json.loads(text) for text in (output + log).splitlines() if text.startswith('{"_aws"'))
    assert (line["FunctionName"], line["Processor"]) == (name, "orders")


def test_a_retry_queue_triggers_the_function_too(
    kinesis: Any, sqs: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    retries, dead_letters = (sqs.create_queue(QueueName=f"cli-{uuid.uuid4().hex}")["QueueUrl"] for _ in range(2))
    put(kinesis, stream, "good", "bad")
    arguments = ["orders:handler", "--stream", stream, "--retry-queue", retries, "--checkpoints", ":memory:"]
    environment = {"AWS_ENDPOINT_URL": moto_endpoint, "RETRIES": retries, "DEAD_LETTERS": dead_letters}

    with running(folder, *arguments, **environment) as process:
        lines = done(folder, 5)
        process.terminate()
        _, log = process.communicate(timeout=60)

    assert process.returncode == 0, log
    assert lines == ["1 bad", "1 good", "2 bad", "3 bad", "4 bad"]
    assert log.count(f"{retries.rpartition('/')[2]}: 1 message\n") == 3
    (message,) = sqs.receive_message(QueueUrl=dead_letters)["Messages"]
    envelope = open_envelope(message["Body"])
    assert envelope is not None
    assert envelope.data == b"bad"
    assert not (folder / "streamkit.sqlite").exists()


def test_the_settings_of_the_mapping_are_options(kinesis: Any, stream: str, folder: Path, moto_endpoint: str) -> None:
    put(kinesis, stream, "old")
    arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint, "--checkpoints", ":memory:"]

    with running(folder, *arguments, "--starting-position", "LATEST") as process:
        # Read from the latest record on, which is known only once a later one has come.
        for n in range(600):
            put(kinesis, stream, f"new {n}")
            if (folder / "done").exists():
                break
            time.sleep(0.1)
        process.terminate()
        assert process.wait(60) == 0

    assert "1 old" not in (folder / "done").read_text().splitlines()


def test_a_stream_that_is_not_there_is_named(folder: Path, moto_endpoint: str) -> None:
    code, line = error_of(folder, "run", "orders:handler", "--stream", "nowhere", "--endpoint-url", moto_endpoint)

    assert code == 1
    assert line.startswith("streamkit: stream nowhere: ")
    assert "ResourceNotFoundException" in line


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        ("nothing:handler", "streamkit: there is no module nothing here or among what is installed"),
        ("orders:function", "streamkit: orders has no function 'function': `function = lambda_handler(…)`"),
        (
            "orders:Orders",
            "streamkit: orders:Orders is a class: write `handler = lambda_handler(Orders)` in orders, and run orders:handler",
        ),
        (
            "other:handler",
            "streamkit: other:handler is `async def`, which Lambda's Python runtime does not run: make it a plain function",
        ),
        *(
            (
                f"{module}:handler",
                "streamkit run: error: argument MODULE:HANDLER: write the module's dotted name without .py, as orders:handler or "
                f"app.orders:handler; got '{module}:handler'",
            )
            for module in ("./orders", "orders.py", "app/orders")
        ),
    ],
)
def test_a_handler_that_is_none_is_named(folder: Path, handler: str, error: str) -> None:
    (folder / "other.py").write_text("async def handler(event, context):\n    return None\n")

    assert error_of(folder, "run", handler, "--stream", "orders") == (2, error)


def test_a_module_that_fails_shows_the_frames_of_its_own_code_alone(folder: Path) -> None:
    (folder / "prices.py").write_text("from streamkit.kpl import deaggregate\ndeaggregate(None)\n")
    (folder / "orders.py").write_text("import prices\n")

    one = ended(folder, "run", "orders:handler", "--stream", "orders")

    said = one.stderr.splitlines()
    assert (one.returncode, said[0]) == (1, "streamkit: orders can't be loaded:")
    assert [line.split('"')[1].rpartition("/")[2] for line in said if line.startswith("  File ")] == [
        "orders.py",
        "prices.py",
    ]
    assert said[-1].startswith("AttributeError: ")


@pytest.mark.parametrize(
    ("program", "error"),
    [
        ("import nowhere\n", "orders can't be loaded: ModuleNotFoundError: No module named 'nowhere' (orders.py:1)"),
        (
            "from streamkit.errors import ConfigurationError\nraise ConfigurationError('ORDERS is not set')\n",
            "ORDERS is not set",
        ),
    ],
)
def test_a_module_that_says_what_is_missing_needs_no_frames(folder: Path, program: str, error: str) -> None:
    (folder / "orders.py").write_text(program)

    one = ended(folder, "run", "orders:handler", "--stream", "orders")

    assert (one.returncode, one.stderr) == (1, f"streamkit: {error}\n")


def test_a_module_that_is_no_python_is_shown_where_it_is_not(folder: Path) -> None:
    (folder / "orders.py").write_text("def handler(:\n")

    one = ended(folder, "run", "orders:handler", "--stream", "orders")

    assert one.returncode == 1
    assert 'orders.py", line 1' in one.stderr
    assert one.stderr.splitlines()[-1].startswith("SyntaxError: ")
    assert "importlib" not in one.stderr


def test_without_boto3_it_says_what_to_install(folder: Path) -> None:
    (folder / "boto3.py").write_text("raise ImportError('not installed')\n")

    # `python -m` finds what is in the current folder first.
    assert error_of(folder, "run", "orders:handler", "--stream", "orders") == (
        1,
        "streamkit: this command needs boto3: pip install 'kinesis-streamkit[cli]'",
    )


@pytest.mark.parametrize(
    "arguments", [["tail"], ["nothing"], ["run", "orders", "--stream", "orders"], ["run", "orders:handler"]]
)
def test_what_is_typed_wrong_is_an_error_of_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)

    assert ended.value.code == 2
    assert "usage: streamkit" in capsys.readouterr().err


def test_the_command_is_installed_and_its_import_is_light() -> None:
    program = (
        "import sys; from importlib.metadata import entry_points\n"
        "(command,) = entry_points(group='console_scripts', name='streamkit')\n"
        "assert callable(command.load())\n"
        "assert not {'boto3', 'sqlite3', 'rich', 'streamkit.local.runner'} & set(sys.modules)"
    )

    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_bare_command_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert "A first session" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["run", "put", "tail", "lag"])
def test_the_help_of_each_command_shows_examples_and_exit_codes(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])

    text = capsys.readouterr().out
    assert f"examples:\n  streamkit {name} orders" in text
    assert "exit code: 0" in text


def test_a_run_writes_json_lines_and_what_the_function_prints_goes_elsewhere(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    with (folder / "orders.py").open("a") as program:
        program.write("Orders.on_failure = __import__('streamkit').Block()\nprint('printed')\n")
    put(kinesis, stream, *map(str, range(10)))
    arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint, "--json"]

    with running(folder, *arguments) as process:
        done(folder, 10)
        process.terminate()
        out, log = process.communicate(timeout=60)

    lines = [json.loads(line) for line in out.splitlines()]
    assert process.returncode == 0
    assert "printed" in log
    batches = [line for line in lines if line["type"] == "invocation"]
    assert sum(batch["records"] for batch in batches) == 10
    assert {batch["stream"] for batch in batches} == {stream}
    assert lines[-1]["type"] == "summary"
    assert lines[-1]["total"]["records"] == 10
    assert lines[-1]["total"]["dead_letters"] == 0
    assert {shard["shard_id"]: shard["checkpoint"] for shard in lines[-1]["shards"]} == {
        batch["shard_id"]: batch["last"] for batch in batches
    }


def test_an_error_is_a_json_line_too(folder: Path, moto_endpoint: str) -> None:
    arguments = ["orders:handler", "--stream", "nowhere", "--endpoint-url", moto_endpoint, "--json"]

    one = ended(folder, "run", *arguments)

    error, summary = (json.loads(line) for line in one.stdout.splitlines())
    assert one.returncode == 1
    assert error["type"] == "error"
    assert "ResourceNotFoundException" in error["message"]
    assert summary["type"] == "summary"


def test_a_closed_output_ends_a_run_and_fails_no_invocation(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    put(kinesis, stream, *map(str, range(40)))
    arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint, "--json", "--batch-size", "2"]

    with running(folder, *arguments) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        log = process.stderr.read()
        assert process.wait(60) == 0

    assert "failed" not in log


@pytest.mark.parametrize(
    ("redirected", "reason"), [("> /dev/full", "No space left on device"), (">&-", "it is closed")]
)
def test_an_output_that_cannot_be_written_ends_a_run_with_one_line(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str, redirected: str, reason: str
) -> None:
    put(kinesis, stream, *map(str, range(10)))
    arguments = ["orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint, "--json"]

    one = subprocess.run(
        " ".join(command("run", *arguments)) + f" {redirected}",
        shell=True,
        cwd=folder,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (one.returncode, one.stderr) == (1, f"streamkit: the output can't be written: {reason}\n")


# Its first record takes until the file `go` is there.
SLOW = (
    PROGRAM
    + """
import time
def process(self, record):
    open("begun", "w").close()
    while not os.path.exists("go"):
        time.sleep(0.01)
    open("done", "a").write("1 x\\n")
Orders.process = process
"""
)


def begun(folder: Path) -> None:
    until = time.monotonic() + 60
    while not (folder / "begun").exists():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_stops_at_once(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str, number: signal.Signals
) -> None:
    (folder / "orders.py").write_text(SLOW)
    put(kinesis, stream, "1")

    with running(folder, "orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint) as process:
        begun(folder)
        process.send_signal(number)
        assert process.stderr is not None
        assert "stopping after the batch in hand; again to stop at once\n" in iter(process.stderr.readline, "")
        process.send_signal(number)
        # Ended by the signal itself, which a shell shows as 128 and its number.
        assert process.wait(60) == -number

    assert not (folder / "done").exists()


def test_a_signal_that_is_sent_twice_in_a_moment_is_one(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    (folder / "orders.py").write_text(SLOW)
    put(kinesis, stream, "1")

    with running(folder, "orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint) as process:
        begun(folder)
        for _ in range(10):
            # As `timeout` does, to its child and then to the group.
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.005)
        assert process.stderr is not None
        assert "stopping after the batch in hand; again to stop at once\n" in iter(process.stderr.readline, "")
        (folder / "go").touch()
        assert process.wait(60) == 0

    assert (folder / "done").read_text() == "1 x\n"


def test_the_batch_in_hand_is_finished_and_checkpointed_upon_the_first_signal(
    kinesis: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    (folder / "orders.py").write_text(SLOW)
    put(kinesis, stream, "1")

    with running(folder, "orders:handler", "--stream", stream, "--endpoint-url", moto_endpoint) as process:
        begun(folder)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "stopping after the batch in hand; again to stop at once\n" in iter(process.stderr.readline, "")
        (folder / "go").touch()
        assert process.wait(60) == 0

    positions = SqliteCheckpoints(folder / "streamkit.sqlite")
    assert any(lease.checkpoint for lease in positions.leases("orders", stream).values())
    positions.close()


def test_the_log_of_a_run_never_holds_a_payload(
    kinesis: Any, sqs: Any, stream: str, folder: Path, moto_endpoint: str
) -> None:
    queue = sqs.create_queue(QueueName=f"cli-{uuid.uuid4().hex}")["QueueUrl"]
    put(kinesis, stream, "bad and secret")
    arguments = ["orders:handler", "--stream", stream, "--checkpoints", ":memory:", "--endpoint-url", moto_endpoint]

    with running(folder, *arguments, AWS_ENDPOINT_URL=moto_endpoint, RETRIES=queue, DEAD_LETTERS=queue) as process:
        done(folder, 1)
        process.terminate()
        _, log = process.communicate(timeout=60)

    assert "ValueError: not this one" in log
    assert "secret" not in log
    (message,) = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=10)["Messages"]
    assert json.loads(message["Body"])["attempts"] == 0

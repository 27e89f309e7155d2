"""``streamkit kcl``: a real process, before a daemon that the test is."""

from __future__ import annotations

import base64
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamkit.heartbeat import payload
from streamkit.kpl import UserRecord, aggregate
from tests.cli.process import ENVIRONMENT, connect, error_of
from tests.outside_server import OutsideServer

from .daemon import ARN, SHARD, ChildProcess, child, record

BEAT = payload(1_764_432_000.123)

# Each try goes into a file, a line for each record; "bad" ones fail for as long as there is a file that says so.
PROGRAM = """
import os, sys, time
from pathlib import Path
from streamkit import RecordProcessor, lambda_handler
from streamkit.testing import MemorySink

print("at import")

class Orders(RecordProcessor):
    name = "orders"

    def process(self, record):
        print("a print", flush=True)
        os.system("echo of a program")  # While it runs, the system ignores SIGINT.
        assert sys.stdin.read() == ""
        with open("tries", "a") as tries:
            tries.write(f"{record.event_id} {record.partition_key} {ascii(record.data.decode('latin-1'))[1:-1]}\\n")
        if record.data == b"slow":
            time.sleep(1)
        if record.data == b"bad" and Path("failing").exists():
            raise ValueError("not this one")

    def close(self):
        Path("closed").touch()

handler = lambda_handler(Orders)
"""
FIRST_PAUSES = 2.0
"""Seconds for which a message with a record that fails waits for its answer."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "orders.py").write_text(PROGRAM)
    return tmp_path


@pytest.fixture
def daemon(folder: Path) -> Iterator[ChildProcess]:
    with child(folder) as daemon:
        daemon.initialize()
        yield daemon


def tries(folder: Path) -> list[str]:
    """What was tried, without the stream and the shard in front of each position."""
    file = folder / "tries"
    prefix = f"orders/{SHARD}:"
    lines = file.read_text().splitlines() if file.exists() else []
    assert all(line.startswith(prefix) for line in lines)
    return [line.removeprefix(prefix) for line in lines]


class TestRecords:
    def test_are_processed_and_then_checkpointed_at_the_last(self, folder: Path, daemon: ChildProcess) -> None:
        assert daemon.process_records(record(10, "a"), record(11, "b"))

        assert tries(folder) == ["10:0 k a", "11:0 k b"]
        assert daemon.asked == [("11", 0)]

    def test_of_an_aggregate_have_the_event_ids_that_they_have_on_lambda(
        self, folder: Path, daemon: ChildProcess
    ) -> None:
        daemon.process_records(record(10, "a", sub=0, key="ключ"), record(10, "b", sub=1), record(11, "c"))

        assert tries(folder) == ["10:0 ключ a", "10:1 k b", "11:0 k c"]
        assert daemon.written == [("11", 0)]

    def test_nothing_to_process_is_nothing_to_checkpoint(self, folder: Path, daemon: ChildProcess) -> None:
        daemon.process_records(record(10, "a"))

        daemon.process_records()

        assert daemon.asked == [("10", 0)]
        assert tries(folder) == ["10:0 k a"]

    def test_of_ten_megabytes_come_through(self, folder: Path, daemon: ChildProcess) -> None:
        size = 10 << 20

        daemon.process_records(record(10, b"x" * size), record(11, "b"))

        assert [len(line) for line in tries(folder)] == [len("10:0 k ") + size, len("11:0 k b")]
        assert daemon.written[-1] == ("11", 0)

    def test_what_a_function_and_its_programs_print_never_reaches_the_daemon(
        self, folder: Path, daemon: ChildProcess
    ) -> None:
        # Nor does what it reads take the daemon's lines away: the test's daemon takes nothing but messages.
        daemon.process_records(record(10, "a"))
        daemon.process_records(record(11, "b"))

        assert daemon.tell("leaseLost")
        assert daemon.end() == 0
        for text in ("at import", "a print", "of a program"):
            assert text in daemon.stderr


class TestAFailedRecord:
    def test_is_never_passed_over_and_runs_again_until_it_is_settled(self, folder: Path, daemon: ChildProcess) -> None:
        (folder / "failing").touch()

        daemon.process_records(record(10, "a"), record(11, "bad"), record(12, "c"))
        daemon.process_records(record(13, "d"))

        assert set(tries(folder)[1:]) == {"11:0 k bad"}
        assert len(tries(folder)) > 3
        assert set(daemon.written) == {("10", 0)}

        (folder / "failing").unlink()
        while daemon.written[-1] != ("13", 0):
            daemon.process_records()
        assert tries(folder)[-3:] == ["11:0 k bad", "12:0 k c", "13:0 k d"]

    def test_within_an_aggregate_is_checkpointed_just_before_it(self, folder: Path, daemon: ChildProcess) -> None:
        (folder / "failing").touch()

        daemon.process_records(*(record(10, data, sub=n) for n, data in enumerate(["a", "b", "bad", "d"])))

        assert set(daemon.written) == {("10", 1)}
        assert set(tries(folder)) == {"10:0 k a", "10:1 k b", "10:2 k bad"}

    def test_that_is_the_first_is_no_checkpoint(self, folder: Path, daemon: ChildProcess) -> None:
        (folder / "failing").touch()

        daemon.process_records(record(10, "bad"), record(11, "b"))

        assert daemon.asked == []

    def test_runs_again_with_no_message_from_the_daemon_and_counts_at_the_next(
        self, folder: Path, daemon: ChildProcess
    ) -> None:
        (folder / "failing").touch()
        daemon.process_records(record(10, "bad"), record(11, "b"))
        (folder / "failing").unlink()
        until = time.monotonic() + 40
        while "11:0 k b" not in tries(folder):
            assert time.monotonic() < until
            time.sleep(0.05)

        assert daemon.tell("shutdownRequested")

        assert daemon.written == [("11", 0)]

    def test_does_not_keep_the_daemon_waiting_for_long(self, folder: Path, daemon: ChildProcess) -> None:
        (folder / "failing").touch()
        began = time.monotonic()

        daemon.process_records(record(10, "bad"))

        assert time.monotonic() - began < FIRST_PAUSES + 3


class TestAnAggregateThatTheDaemonCouldNotOpen:
    def test_is_a_failure_as_on_lambda(self, folder: Path, daemon: ChildProcess) -> None:
        damaged = aggregate([UserRecord(b"a", "k"), UserRecord(b"b", "k")])[:-1] + b"\0"

        daemon.process_records(record(10, "a"), record(11, damaged), record(12, "c"))

        assert tries(folder) == ["10:0 k a"]
        assert set(daemon.written) == {("10", 0)}

    def test_is_not_one_where_a_user_has_aggregated_for_himself(self, folder: Path, daemon: ChildProcess) -> None:
        nested = aggregate([UserRecord(b"a", "k"), UserRecord(b"b", "k")])

        daemon.process_records(record(10, nested), record(11, "x", sub=0), record(11, nested[:-1] + b"\0", sub=1))

        assert [line.split(" ")[0] for line in tries(folder)] == ["10:0", "11:0", "11:1"]
        assert daemon.written == [("11", 1)]


class TestAHeartbeat:
    """A record of its own, and each process pings for its shard."""

    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[OutsideServer]:
        with OutsideServer().running() as running:
            monkeypatch.setenv("HEARTBEAT_URL", f"{running.url}/{{processor}}-{{shard}}")
            # The records of these tests are of a day that is long gone.
            monkeypatch.setenv("HEARTBEAT_MAX_AGE", "1e12")
            yield running

    @pytest.fixture
    def daemon(self, server: OutsideServer, folder: Path) -> Iterator[ChildProcess]:
        with child(folder) as daemon:
            daemon.initialize()
            yield daemon

    def test_is_never_processed_counts_as_settled_and_pings(
        self, folder: Path, daemon: ChildProcess, server: OutsideServer
    ) -> None:
        daemon.process_records(record(10, "a"), record(11, BEAT))

        assert daemon.written == [("11", 0)]
        assert [request.path for request in server.requests] == [f"/orders-{SHARD}"]
        daemon.process_records(record(12, BEAT))
        assert daemon.written == [("11", 0), ("12", 0)]
        assert tries(folder) == ["10:0 k a"]

    def test_behind_a_record_that_fails_is_silence(
        self, folder: Path, daemon: ChildProcess, server: OutsideServer
    ) -> None:
        (folder / "failing").touch()

        daemon.process_records(
            record(10, BEAT[:-1]), record(11, "bad", sub=0), record(11, "b", sub=1), record(12, BEAT)
        )

        assert set(daemon.written) == {("10", 0)}
        assert server.requests == []

        (folder / "failing").unlink()
        while daemon.written[-1] != ("12", 0):
            daemon.process_records()
        assert len(server.requests) == 1

    def test_is_no_user_record_of_an_aggregate(self, folder: Path, daemon: ChildProcess, server: OutsideServer) -> None:
        daemon.process_records(record(10, BEAT, sub=0), record(10, BEAT, sub=1))

        assert [line.split(" ")[0] for line in tries(folder)] == ["10:0", "10:1"]
        assert daemon.written == [("10", 1)]
        assert server.requests == []


class TestACheckpointThatIsRefused:
    @pytest.mark.parametrize("error", ["ThrottlingException", "KinesisClientLibDependencyException"])
    def test_for_a_moment_is_asked_for_again(self, daemon: ChildProcess, error: str) -> None:
        daemon.errors = [error, error]

        daemon.process_records(record(10, "a"))

        assert daemon.asked == [("10", 0)] * 3
        assert daemon.written == [("10", 0)]

    def test_for_longer_is_left_to_the_next(self, daemon: ChildProcess) -> None:
        daemon.errors = ["ThrottlingException"] * 5

        assert daemon.process_records(record(10, "a"))
        assert daemon.written == []
        daemon.process_records()

        assert daemon.written == [("10", 0)]

    def test_for_the_lease_is_lost_ends_all_work(self, folder: Path, daemon: ChildProcess) -> None:
        (folder / "failing").touch()
        daemon.errors = ["ShutdownException"]

        assert daemon.process_records(record(10, "a"), record(11, "bad"))
        (folder / "failing").unlink()
        assert daemon.process_records(record(12, "c"))
        assert daemon.tell("shutdownRequested")
        assert daemon.tell("leaseLost")

        assert daemon.asked == [("10", 0)]
        assert tries(folder) == ["10:0 k a", "11:0 k bad"]
        assert daemon.end() == 0

    @pytest.mark.parametrize("error", ["InvalidStateException", "IllegalArgumentException", "NullPointerException"])
    def test_for_good_ends_the_process(self, daemon: ChildProcess, error: str) -> None:
        daemon.errors = [error]

        assert not daemon.process_records(record(10, "a"))

        assert daemon.exit_code() == 1
        assert error in daemon.stderr.splitlines()[-1]

    def test_with_an_answer_to_another_one_ends_the_process(self, daemon: ChildProcess) -> None:
        daemon.say("processRecords", records=[record(10, "a")])
        assert daemon.hear() == {"action": "checkpoint", "sequenceNumber": "10", "subSequenceNumber": 0}

        daemon.say("checkpoint", sequenceNumber="9", subSequenceNumber=0, error=None)

        assert daemon.hear() is None
        assert daemon.exit_code() == 1


class TestTheShardsEnd:
    def test_is_checkpointed_when_all_is_settled(self, folder: Path, daemon: ChildProcess) -> None:
        daemon.process_records(record(10, "a"))

        assert daemon.tell("shardEnded")

        assert daemon.written == [("10", 0), (None, None)]
        assert daemon.end() == 0
        assert (folder / "closed").exists()

    def test_waits_for_a_record_that_fails(self, folder: Path, daemon: ChildProcess) -> None:
        (folder / "failing").touch()
        daemon.process_records(record(10, "bad"))
        daemon.say("shardEnded")
        with pytest.raises(AssertionError, match="said nothing"):
            daemon.hear(within=3)

        (folder / "failing").unlink()

        assert daemon.wait_for_status("shardEnded", within=40)
        assert daemon.written == [("10", 0), (None, None)]

    def test_that_the_daemon_can_not_write_ends_the_process(self, daemon: ChildProcess) -> None:
        # The children of the shard would never start.
        daemon.errors = ["ThrottlingException"] * 5

        assert not daemon.tell("shardEnded")

        assert daemon.exit_code() == 1

    def test_is_not_reached_where_the_daemon_ends_first(self, folder: Path, daemon: ChildProcess) -> None:
        (folder / "failing").touch()
        daemon.process_records(record(10, "bad"))
        daemon.say("shardEnded")

        assert daemon.end() == 1
        assert daemon.asked == []


class TestShutdown:
    def test_that_is_requested_checkpoints_what_is_settled_and_ends_the_work(
        self, folder: Path, daemon: ChildProcess
    ) -> None:
        (folder / "failing").touch()
        daemon.errors = ["ThrottlingException"] * 5
        daemon.process_records(record(10, "a"), record(11, "bad"))

        daemon.errors = []
        assert daemon.tell("shutdownRequested")

        assert daemon.written[-1] == ("10", 0)
        (folder / "failing").unlink()
        done = tries(folder)
        time.sleep(1)
        assert tries(folder) == done
        assert daemon.tell("leaseLost")
        assert daemon.end() == 0
        assert (folder / "closed").exists()

    def test_that_was_requested_may_end_with_the_daemon(self, folder: Path, daemon: ChildProcess) -> None:
        daemon.process_records(record(10, "a"))
        daemon.tell("shutdownRequested")

        assert daemon.end() == 0
        assert "streamkit:" not in daemon.stderr
        assert (folder / "closed").exists()

    def test_by_a_lost_lease_checkpoints_nothing(self, folder: Path, daemon: ChildProcess) -> None:
        (folder / "failing").touch()
        daemon.process_records(record(10, "bad"))

        assert daemon.tell("leaseLost")

        assert daemon.asked == []
        assert daemon.end() == 0

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_by_a_signal_finishes_what_is_on_and_leaves_the_rest(
        self, folder: Path, daemon: ChildProcess, number: signal.Signals
    ) -> None:
        # As a terminal and systemd send it, to all processes of the daemon.
        daemon.say("processRecords", records=[record(10, "slow"), record(11, "b")])
        while not tries(folder):
            time.sleep(0.02)
        daemon.child.send_signal(number)

        assert daemon.wait_for_status("processRecords")
        assert daemon.process_records(record(12, "c"))
        assert daemon.tell("shutdownRequested")
        assert daemon.tell("leaseLost")

        assert daemon.written == [("11", 0)]
        assert tries(folder) == ["10:0 k slow", "11:0 k b"]
        assert daemon.end() == 0

    def test_by_a_signal_does_not_wait_for_a_record_that_fails(self, folder: Path, daemon: ChildProcess) -> None:
        (folder / "failing").touch()
        daemon.say("processRecords", records=[record(10, "bad")])
        while len(tries(folder)) < 3:
            time.sleep(0.02)
        began = time.monotonic()
        daemon.child.send_signal(signal.SIGTERM)

        assert daemon.wait_for_status("processRecords")

        assert time.monotonic() - began < 2

    def test_by_a_second_signal_is_at_once(self, folder: Path, daemon: ChildProcess) -> None:
        daemon.child.send_signal(signal.SIGTERM)
        time.sleep(1)
        daemon.child.send_signal(signal.SIGTERM)

        assert daemon.exit_code() == -signal.SIGTERM

    def test_by_the_daemons_end_is_an_end_too(self, folder: Path, daemon: ChildProcess) -> None:
        (folder / "failing").touch()
        daemon.process_records(record(10, "bad"))

        assert daemon.end() == 1
        assert daemon.stderr.splitlines()[-1] == "streamkit: the daemon has closed its pipe"
        assert (folder / "closed").exists()


class TestWhatIsNoProtocol:
    @pytest.mark.parametrize("said", [b"attack at dawn", b"\xff\xfe", b'{"action": "attack"}', b"", b"\0" * 1000])
    def test_ends_the_process_with_an_error_that_has_nothing_of_the_line(
        self, daemon: ChildProcess, said: bytes
    ) -> None:
        daemon.say_line(said)

        assert daemon.hear() is None
        assert daemon.exit_code() == 1
        assert daemon.stderr.splitlines()[-1].startswith("streamkit: line 2 of the daemon")
        assert "attack" not in daemon.stderr

    def test_is_a_message_out_of_its_place(self, folder: Path) -> None:
        with child(folder) as daemon:
            assert not daemon.process_records(record(10, "a"))
            assert daemon.exit_code() == 1
        with child(folder) as daemon:
            daemon.initialize()
            daemon.say("initialize", shardId=SHARD)
            assert daemon.hear() is None
            assert daemon.exit_code() == 1

    def test_is_a_record_that_comes_again(self, folder: Path, daemon: ChildProcess) -> None:
        daemon.process_records(record(10, "a", sub=1))

        assert not daemon.process_records(record(10, "a", sub=1))

        assert daemon.exit_code() == 1
        assert "10:1 came after record 10:1" in daemon.stderr

    def test_is_an_end_within_a_line(self, daemon: ChildProcess) -> None:
        assert daemon.child.stdin is not None
        daemon.child.stdin.write(b'{"action": "leaseLost"}')
        daemon.child.stdin.flush()

        assert daemon.end() == 1


class TestTheCommand:
    def test_never_logs_a_payload(self, folder: Path, daemon: ChildProcess) -> None:
        damaged = aggregate([UserRecord(b"attack-at-dawn", "k"), UserRecord(b"b", "k")])[:-1] + b"\0"

        daemon.process_records(record(9, "attack-at-dawn"), record(10, damaged))

        encoded = base64.b64encode(b"attack-at-dawn").decode().rstrip("=")
        assert "failed" in daemon.stderr
        assert "attack" not in daemon.stderr
        assert encoded not in daemon.stderr

    @pytest.mark.parametrize(
        ("handler", "problem"),
        [
            ("nowhere:handler", "no module nowhere"),
            ("orders:nothing", "no function 'nothing'"),
            ("windows:handler", "WindowProcessor"),
        ],
    )
    def test_says_what_is_wrong_with_the_function_and_answers_nothing(
        self, folder: Path, handler: str, problem: str
    ) -> None:
        (folder / "windows.py").write_text(
            "from streamkit import lambda_handler\n"
            "from streamkit.window import WindowProcessor\n"
            "class Totals(WindowProcessor):\n"
            "    def initial(self): return 0\n"
            "    def fold(self, state, record): return state + 1\n"
            "    def finish(self, window, state): return None\n"
            "handler = lambda_handler(Totals)\n"
        )
        with child(folder, handler=handler) as daemon:
            assert daemon.hear() is None

            assert daemon.exit_code() in (1, 2)
            assert problem in daemon.stderr

    def test_asks_kinesis_for_the_arn_of_a_stream_that_is_given_by_name(
        self, folder: Path, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, value in ENVIRONMENT.items():
            monkeypatch.setenv(name, value)
        kinesis = connect("kinesis", moto_endpoint)
        kinesis.create_stream(StreamName="kcl-by-name", ShardCount=1)
        (folder / "named.py").write_text("def handler(event, context): print(event['Records'][0]['eventSourceARN'])")

        with child(
            folder, "--stream", "kcl-by-name", "--endpoint-url", moto_endpoint, handler="named:handler"
        ) as daemon:
            daemon.initialize()
            daemon.process_records(record(10, "a"))

            assert ":stream/kcl-by-name" in daemon.stderr
        kinesis.close()

    @pytest.mark.parametrize("arn", ["arn:aws:sqs:us-east-1:123456789012:orders", f"{ARN}:more", "arn:aws:kinesis"])
    def test_takes_no_other_arn(self, folder: Path, arn: str) -> None:
        code, line = error_of(folder, "kcl", "orders:handler", "--stream", arn)

        assert code == 2
        assert "is not the ARN of a stream" in line

    @pytest.mark.parametrize(
        ("arguments", "variable", "name"),
        [
            ((), None, "orders"),
            (("--name", "orders-eu"), None, "orders-eu"),
            (("--name", "orders-eu"), "orders-of-all", "orders-of-all"),
        ],
    )
    def test_names_the_function_in_its_metrics(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        arguments: tuple[str, ...],
        variable: str | None,
        name: str,
    ) -> None:
        with OutsideServer().running() as server:
            monkeypatch.setenv("STREAMKIT_METRICS", "emf")
            monkeypatch.setenv("STREAMKIT_OTLP_ENDPOINT", server.url)
            if variable is None:
                monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
            else:
                monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", variable)
            with child(folder, *arguments) as daemon:
                daemon.initialize()
                daemon.process_records(record(10, "a"))
                (line,) = (json.loads(text) for text in daemon.stderr.splitlines() if text.startswith("{"))

        assert (line["FunctionName"], line["Processor"]) == (name, "orders")
        (of_resource,) = json.loads(server.requests[0].body)["resourceMetrics"]
        attributes = {one["key"]: one["value"]["stringValue"] for one in of_resource["resource"]["attributes"]}
        assert attributes["service.name"] == attributes["faas.name"] == name

    def test_runs_a_function_that_is_no_processor(self, folder: Path) -> None:
        (folder / "plain.py").write_text(
            "def handler(event, context):\n"
            "    assert context.get_remaining_time_in_millis() > 3000\n"
            "    assert context.function_name == 'plain:handler'\n"
            "    numbers = [one['kinesis']['sequenceNumber'] for one in event['Records']]\n"
            "    return {'batchItemFailures': [{'itemIdentifier': one} for one in numbers if one == '11']}\n"
        )
        with child(folder, "--timeout", "5", handler="plain:handler") as daemon:
            daemon.initialize()

            daemon.process_records(
                record(10, "a", sub=0), record(10, "b", sub=1), record(11, "c", sub=0), record(11, "d", sub=1)
            )

            assert set(daemon.written) == {("10", 1)}

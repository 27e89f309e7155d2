"""The mapping against a real endpoint (moto), and against scripted answers where moto does not do as Kinesis does."""

from __future__ import annotations

import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pybase64
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from streamkit import Record, RecordProcessor, b64, lambda_handler
from streamkit.checkpoints.base import CheckpointStore, Lease
from streamkit.checkpoints.memory import MemoryCheckpoints
from streamkit.checkpoints.sqlite import SqliteCheckpoints
from streamkit.local.context import Clock
from streamkit.local.destinations import destination
from streamkit.local.kinesis import KinesisStream
from streamkit.local.runner import Runner
from streamkit.local.settings import Settings
from streamkit.local.status import ShardStatus

REPORTS = ["ReportBatchItemFailures"]
FIRST, SECOND = "shardId-000000000000", "shardId-000000000001"
LONG = 60.0


def connect(endpoint: str) -> Any:
    return boto3.client(
        "kinesis",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )


@pytest.fixture(scope="module")
def client(moto_endpoint: str) -> Iterator[Any]:
    client = connect(moto_endpoint)
    yield client
    client.close()


def create(client: Any, shards: int = 1) -> str:
    name = f"runner-{uuid.uuid4().hex}"
    client.create_stream(StreamName=name, ShardCount=shards)
    client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    return name


@pytest.fixture
def stream(client: Any) -> str:
    return create(client)


def put(client: Any, stream: str, *texts: str, key: str | None = None) -> None:
    """Each text is its own key, but for ``key``."""
    records = [{"Data": text.encode(), "PartitionKey": key or text} for text in texts]
    for start in range(0, len(records), 500):
        client.put_records(StreamName=stream, Records=records[start : start + 500])


class Function:
    """Keeps the batches that it gets; ``behaves(texts)`` answers, or raises."""

    def __init__(self, behaves: Callable[[list[str]], Any] = lambda texts: None) -> None:
        self.behaves = behaves
        self.events: list[dict[str, Any]] = []
        self.batches: list[list[str]] = []
        self.contexts: list[Any] = []
        self.closed = 0
        self._changed = threading.Condition()

    def __call__(self, event: dict[str, Any], context: Any) -> Any:
        texts = [pybase64.b64decode(record["kinesis"]["data"]).decode() for record in event["Records"]]
        with self._changed:
            self.events.append(event)
            self.batches.append(texts)
            self.contexts.append(context)
            self._changed.notify_all()
        return self.behaves(texts)

    def close(self) -> None:
        self.closed += 1

    @property
    def texts(self) -> list[str]:
        return list(itertools.chain.from_iterable(self.batches))

    def wait_for(self, is_so: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(is_so, LONG), f"after {self.batches}"


def named(event: dict[str, Any], text: str) -> dict[str, Any]:
    """The answer that names the record with this text."""
    wanted = pybase64.b64encode(text.encode()).decode()
    (number,) = [r["kinesis"]["sequenceNumber"] for r in event["Records"] if r["kinesis"]["data"] == wanted]
    return {"batchItemFailures": [{"itemIdentifier": number}]}


def make_runner(
    seen: Callable[[Any, Any], Any],
    client: Any,
    stream: str,
    *,
    checkpoints: CheckpointStore | None = None,
    on_failure: Callable[[dict[str, Any], Sequence[dict[str, Any]]], Any] | None = None,
    lease_seconds: float = 10.0,
    clock: Clock | None = None,
    **settings: Any,
) -> Runner:
    return Runner(
        lambda: seen,
        stream=KinesisStream(client, stream),
        name="reader",
        lease_seconds=lease_seconds,
        clock=clock,
        checkpoints=MemoryCheckpoints() if checkpoints is None else checkpoints,
        settings=Settings(**{"backoff_in_seconds": 0.001, "function_response_types": REPORTS, **settings}),
        on_failure=on_failure,
    )


class Running(threading.Thread):
    """A runner in a thread; the error that it ended with is raised by ``end``."""

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self.runner = runner
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.runner.run()
        except BaseException as error:
            self.error = error

    def end(self) -> None:
        self.join(LONG)
        assert not self.is_alive()
        if self.error is not None:
            raise self.error


@contextmanager
def running(runner: Runner) -> Iterator[Running]:
    """Runs while the block does, and stops without an error after it."""
    thread = Running(runner)
    try:
        yield thread
    finally:
        runner.stop()
        thread.join(LONG)
    thread.end()


def run_until(runner: Runner, seen: Function, count: int) -> list[ShardStatus]:
    """Run until so many records have been delivered."""
    with running(runner):
        seen.wait_for(lambda: len(seen.texts) >= count)
    return runner.statuses


class Proxy:
    """A client that passes everything on, but for the errors that a test puts in the way of ``get_records``."""

    def __init__(self, client: Any, *errors: Exception) -> None:
        self._client = client
        self.errors = list(errors)
        self.positions: list[dict[str, Any]] = []
        self.reads = 0
        self.has_position = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def get_shard_iterator(self, **arguments: Any) -> Any:
        self.positions.append(arguments)
        answer = self._client.get_shard_iterator(**arguments)
        self.has_position.set()
        return answer

    def get_records(self, **arguments: Any) -> Any:
        self.reads += 1
        if self.errors:
            raise self.errors.pop(0)
        return self._client.get_records(**arguments)


class Scripted:
    """A Kinesis of its own: each shard is a list of reads, each read a list of payloads; the last read ends the shard."""

    def __init__(
        self, reads_of: dict[str, list[list[bytes]]], parents: dict[str, str] | None = None, *, age_in_hours: float = 0
    ) -> None:
        self._reads_of = reads_of
        self._age = timedelta(hours=age_in_hours)
        self.timestamp_of: Callable[[datetime], Any] = lambda moment: moment
        self._parents = parents or {}
        self.reads = 0
        self.meta = SimpleNamespace(events=SimpleNamespace(register=lambda *arguments, **options: None))

    def describe_stream_summary(self, **arguments: Any) -> Any:
        arn = f"arn:aws:kinesis:us-east-1:000000000000:stream/{arguments['StreamName']}"
        return {"StreamDescriptionSummary": {"StreamARN": arn, "RetentionPeriodHours": 48}}

    def list_shards(self, **arguments: Any) -> Any:
        # A shard a page, as a stream of thousands of shards has them.
        page = int(arguments.get("NextToken", 0))
        shard_id = list(self._reads_of)[page]
        shard = {"ShardId": shard_id}
        if shard_id in self._parents:
            shard["ParentShardId"] = self._parents[shard_id]
        more = {"NextToken": str(page + 1)} if page + 1 < len(self._reads_of) else {}
        return {"Shards": [shard], **more}

    def get_shard_iterator(self, **arguments: Any) -> Any:
        return {"ShardIterator": f"{arguments['ShardId']} 0"}

    def get_records(self, **arguments: Any) -> Any:
        self.reads += 1
        shard_id, _, text = arguments["ShardIterator"].partition(" ")
        read = int(text)
        reads = self._reads_of[shard_id]
        records = [
            {
                "SequenceNumber": str(1 + sum(map(len, reads[:read])) + n),
                "Data": data,
                "PartitionKey": "key",
                "ApproximateArrivalTimestamp": self.timestamp_of(datetime.now(UTC) - self._age),
            }
            for n, data in enumerate(reads[read])
        ]
        following = {"NextShardIterator": f"{shard_id} {read + 1}"} if read + 1 < len(reads) else {}
        return {"Records": records, "MillisBehindLatest": 1500, **following}


def checkpoint(checkpoints: CheckpointStore, stream: str, shard_id: str) -> int | None:
    lease = checkpoints.leases("reader", stream).get(shard_id)
    return lease.checkpoint if lease else None


def refusal(code: str, status: int = 400) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetRecords")


class TestDelivery:
    def test_every_record_comes_in_the_order_of_its_shard(self, client: Any) -> None:
        stream = create(client, shards=3)
        texts = [str(n) for n in range(700)]
        put(client, stream, *texts)
        seen = Function()

        progress = run_until(make_runner(seen, client, stream, batch_size=50), seen, 700)

        by_shard: dict[str, list[str]] = {}
        for event, batch in zip(seen.events, seen.batches, strict=True):
            (shard,) = {record["eventID"].partition(":")[0] for record in event["Records"]}
            by_shard.setdefault(shard, []).extend(batch)
        assert len(by_shard) == 3
        assert all(batch == sorted(batch, key=int) for batch in by_shard.values())
        assert sorted(seen.texts, key=int) == texts
        assert max(map(len, seen.batches)) == 50
        assert sum(one.records for one in progress) == 700
        assert sum(one.batches for one in progress) == len(seen.batches)
        assert {one.shard_id: one.records for one in progress} == {shard: len(b) for shard, b in by_shard.items()}
        assert [one.redelivered for one in progress] == [0, 0, 0]
        assert [one.backlog for one in progress] == [0, 0, 0]

    def test_an_event_is_that_of_lambda(self, client: Any, stream: str) -> None:
        put(client, stream, "text", key="customer 7 é")
        seen = Function()

        run_until(make_runner(seen, client, stream), seen, 1)

        (read,) = read_all(client, stream)
        assert seen.events == [
            {
                "Records": [
                    {
                        "kinesis": {
                            "kinesisSchemaVersion": "1.0",
                            "partitionKey": "customer 7 é",
                            "sequenceNumber": read["SequenceNumber"],
                            "data": "dGV4dA==",
                            "approximateArrivalTimestamp": round(read["ApproximateArrivalTimestamp"].timestamp(), 3),
                        },
                        "eventSource": "aws:kinesis",
                        "eventVersion": "1.0",
                        "eventID": f"{FIRST}:{read['SequenceNumber']}",
                        "eventName": "aws:kinesis:record",
                        "invokeIdentityArn": "arn:aws:iam::000000000000:role/function",
                        "awsRegion": "us-east-1",
                        "eventSourceARN": f"arn:aws:kinesis:us-east-1:123456789012:stream/{stream}",
                    }
                ]
            }
        ]

    def test_records_that_come_while_it_runs_are_delivered(self, client: Any, stream: str) -> None:
        seen = Function()

        with running(make_runner(seen, client, stream)):
            for n in range(3):
                put(client, stream, str(n))
                seen.wait_for(lambda n=n: len(seen.texts) == n + 1)  # type: ignore[misc]  # n is bound early.

        assert seen.texts == ["0", "1", "2"]

    def test_each_shard_has_a_function_of_its_own_which_is_closed_at_the_end(self, client: Any) -> None:
        stream = create(client, shards=2)
        made: list[Function] = []
        all_made = threading.Event()

        def make() -> Function:
            made.append(Function())
            if len(made) == 2:
                all_made.set()
            return made[-1]

        runner = Runner(
            make,
            stream=KinesisStream(client, stream),
            name="reader",
            checkpoints=MemoryCheckpoints(),
            settings=Settings(),
        )
        with running(runner):
            assert all_made.wait(LONG)

        assert [seen.closed for seen in made] == [1, 1]

    def test_an_answer_that_names_a_record_brings_it_again_and_no_record_before_it(
        self, client: Any, stream: str
    ) -> None:
        put(client, stream, *"abcd")
        seen = Function(lambda texts: named(seen.events[-1], "c") if "a" in texts else None)

        (progress,) = run_until(make_runner(seen, client, stream), seen, 6)

        assert seen.batches == [list("abcd"), list("cd")]
        assert (progress.records, progress.redelivered, progress.failures) == (6, 2, 1)

    def test_what_a_function_does_to_its_event_changes_nothing(self, client: Any, stream: str) -> None:
        def breaks_the_first(texts: list[str]) -> None:
            if len(seen.batches) == 1:
                seen.events.pop()["Records"].clear()
                raise ValueError("again")

        put(client, stream, "a", "b")
        seen = Function(breaks_the_first)

        run_until(make_runner(seen, client, stream), seen, 4)

        assert seen.batches == [["a", "b"], ["a", "b"]]

    def test_a_client_that_leaves_timestamps_as_numbers_does_as_well(self) -> None:
        # Parsing them takes most of a read: botocore's timestamp_parser=float leaves it out.
        client = Scripted({FIRST: [[b"a"]]})
        now = round(time.time()) + 0.1239
        client.timestamp_of = lambda moment: now
        seen = Function()

        make_runner(seen, client, "s").run()

        (record,) = seen.events[0]["Records"]
        assert record["kinesis"]["approximateArrivalTimestamp"] == round(now, 3)

    def test_a_window_gathers_what_comes_in_several_reads(self) -> None:
        client = Scripted({FIRST: [[b"a"], [b"b"], [b"c"]]})
        seen = Function()

        make_runner(seen, client, "s", batch_size=3, maximum_batching_window_in_seconds=300).run()

        assert seen.batches == [["a", "b", "c"]]


class TestStartingPosition:
    def test_latest_delivers_what_comes_after_the_start(self, client: Any, stream: str) -> None:
        put(client, stream, "before")
        seen = Function()
        proxy = Proxy(client)

        with running(make_runner(seen, proxy, stream, starting_position="LATEST")):
            assert proxy.has_position.wait(LONG)
            put(client, stream, "after")
            seen.wait_for(lambda: bool(seen.batches))

        assert seen.batches == [["after"]]

    def test_latest_delivers_what_came_since_the_start_though_the_iterator_expired_before_the_first_record(
        self, client: Any, stream: str
    ) -> None:
        seen = Function()
        proxy = Proxy(client)

        def expired(**arguments: Any) -> Any:
            proxy.get_records = real  # type: ignore[method-assign]  # Only the first read.
            put(client, stream, "after the start")
            raise refusal("ExpiredIteratorException")

        real, proxy.get_records = proxy.get_records, expired  # type: ignore[method-assign]
        run_until(make_runner(seen, proxy, stream, starting_position="LATEST"), seen, 1)

        assert seen.batches == [["after the start"]]

    def test_at_a_timestamp_delivers_what_arrived_then_or_later(self, client: Any, stream: str) -> None:
        put(client, stream, "before")
        put(client, stream, "then")
        (_, then) = read_all(client, stream)
        seen = Function()

        run_until(
            make_runner(
                seen,
                client,
                stream,
                starting_position="AT_TIMESTAMP",
                starting_position_timestamp=then["ApproximateArrivalTimestamp"],
            ),
            seen,
            1,
        )

        assert seen.batches == [["then"]]


class TestCheckpoints:
    def test_a_reader_goes_on_after_its_checkpoint(self, client: Any, stream: str) -> None:
        checkpoints = MemoryCheckpoints()
        put(client, stream, "a", "b")
        first, second = Function(), Function()

        (progress,) = run_until(make_runner(first, client, stream, checkpoints=checkpoints), first, 2)
        put(client, stream, "c")
        run_until(make_runner(second, client, stream, checkpoints=checkpoints), second, 1)

        assert second.batches == [["c"]]
        (_, last, _) = read_all(client, stream)
        assert progress.checkpoint == int(last["SequenceNumber"])

    def test_a_checkpoint_is_saved_after_the_answer_and_before_the_next_invocation(
        self, client: Any, stream: str
    ) -> None:
        checkpoints = MemoryCheckpoints()
        held = []
        put(client, stream, *"abc")
        seen = Function(lambda texts: held.append(checkpoint(checkpoints, stream, FIRST)))

        run_until(make_runner(seen, client, stream, checkpoints=checkpoints, batch_size=1), seen, 3)

        numbers = [int(record["SequenceNumber"]) for record in read_all(client, stream)]
        assert held == [None, *numbers[:2]]

    def test_a_failed_record_holds_the_checkpoint(self, client: Any, stream: str) -> None:
        checkpoints = MemoryCheckpoints()
        put(client, stream, *"abcd")
        seen = Function(lambda texts: named(seen.events[-1], "c"))

        run_until(make_runner(seen, client, stream, checkpoints=checkpoints), seen, 20)

        assert checkpoint(checkpoints, stream, FIRST) == int(read_all(client, stream)[1]["SequenceNumber"])

    def test_a_killed_reader_resumes_with_nothing_lost_and_one_batch_a_shard_repeated_at_most(
        self, client: Any, moto_endpoint: str, tmp_path: Path
    ) -> None:
        stream = create(client, shards=2)
        texts = [str(n) for n in range(600)]
        put(client, stream, *texts)
        delivered: list[str] = []
        for kill_after in (1, 5, 9):
            delivered.append(deliveries_until_killed(moto_endpoint, stream, tmp_path / "checkpoints", kill_after))
        killed = [batch.split() for lines in delivered for batch in lines.splitlines()]
        checkpoints = SqliteCheckpoints(tmp_path / "checkpoints")
        seen = Function()

        left = set(texts) - set(itertools.chain.from_iterable(killed))
        with running(make_runner(seen, client, stream, checkpoints=checkpoints, batch_size=10)):
            seen.wait_for(lambda: left <= set(seen.texts))
        checkpoints.close()

        everything = [*itertools.chain.from_iterable(killed), *seen.texts]
        assert set(everything) == set(texts)
        # Three kills, two shards, ten records in a batch.
        assert len(everything) - len(texts) <= 3 * 2 * 10


PROGRAM = """
import sys
from base64 import b64decode
from pathlib import Path
sys.path[:0] = sys.argv[4:]
from tests.local.test_runner import connect
from streamkit.checkpoints.sqlite import SqliteCheckpoints
from streamkit.local.kinesis import KinesisStream
from streamkit.local.runner import Runner
from streamkit.local.settings import Settings

def function(event, context):
    texts = [b64decode(record["kinesis"]["data"]).decode() for record in event["Records"]]
    sys.stdout.write(" ".join(texts) + "\\n")
    sys.stdout.flush()

endpoint, stream, path = sys.argv[1:4]
Runner(
    lambda: function,
    stream=KinesisStream(connect(endpoint), stream),
    name="reader",
    checkpoints=SqliteCheckpoints(path),
    settings=Settings(batch_size=10),
    lease_seconds=1,
).run()
"""


def deliveries_until_killed(endpoint: str, stream: str, checkpoints: Path, after: int) -> str:
    """What a process of its own was given before it was killed, which is after so many batches: a line for each batch."""
    root = str(Path(__file__).resolve().parents[2])
    command = [sys.executable, "-c", PROGRAM, endpoint, stream, str(checkpoints), root]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(after)]
    os.kill(process.pid, signal.SIGKILL)
    rest, _ = process.communicate()
    return "".join([*lines, *(line for line in rest.splitlines(keepends=True) if line.endswith("\n"))])


def read_all(client: Any, stream: str) -> list[Any]:
    iterator = client.get_shard_iterator(StreamName=stream, ShardId=FIRST, ShardIteratorType="TRIM_HORIZON")
    records: list[Any] = client.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    return records


class TestReadingThatFails:
    @pytest.mark.parametrize(
        "error",
        [
            refusal("ProvisionedThroughputExceededException"),
            refusal("LimitExceededException"),
            refusal("KMSThrottlingException"),
            refusal("ThrottlingException"),
            refusal("InternalFailure", 500),
            refusal("ServiceUnavailable", 503),
            refusal("TooManyRequests", 429),
            EndpointConnectionError(endpoint_url="http://nobody"),
            ConnectionResetError("gone"),
        ],
        ids=lambda error: (
            type(error).__name__ if not isinstance(error, ClientError) else error.response["Error"]["Code"]
        ),
    )
    def test_what_passes_is_waited_out(
        self, client: Any, stream: str, error: Exception, caplog: pytest.LogCaptureFixture
    ) -> None:
        put(client, stream, "a")
        seen = Function()

        run_until(make_runner(seen, Proxy(client, error), stream), seen, 1)

        assert seen.batches == [["a"]]
        (line,) = [entry.message for entry in caplog.records if "could not be read" in entry.message]
        assert FIRST in line

    def test_the_wait_grows_with_each_failure_up_to_a_limit_and_starts_anew_after_a_success(
        self, client: Any, stream: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        # A clock that is past the next read at each look, so that no wait is waited out.
        ticks = itertools.count(0, 20)
        clock = Clock(time.time, lambda: float(next(ticks)))
        throttled = [refusal("ProvisionedThroughputExceededException") for _ in range(8)]
        proxy = Proxy(client, *throttled)
        seen = Function()
        put(client, stream, "a")

        runner = make_runner(seen, proxy, stream, function_timeout_in_seconds=900, lease_seconds=10**6, clock=clock)
        with running(runner):
            seen.wait_for(lambda: len(seen.batches) == 1)
            proxy.errors.append(refusal("ProvisionedThroughputExceededException"))
            put(client, stream, "b")
            seen.wait_for(lambda: len(seen.batches) == 2)

        said = [entry.args for entry in caplog.records if "again in" in entry.msg]
        waits = [float(str(args[-1])) for args in said if isinstance(args, tuple)]
        longest = [0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0, 10.0, 0.4]
        assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True))
        assert [(one.throttles, one.read_errors) for one in runner.statuses] == [(9, 0)]

    def test_an_endpoint_that_is_away_for_a_while_costs_nothing(self, client: Any, stream: str) -> None:
        from moto.server import ThreadedMotoServer

        # Its state is that of all of moto's servers in this process, so it comes back with the stream.
        server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        own = connect(f"http://{host}:{port}")
        proxy = Proxy(own)
        failed = threading.Event()
        real = proxy.get_records

        def reads(**arguments: Any) -> Any:
            try:
                return real(**arguments)
            except Exception:
                failed.set()
                raise

        proxy.get_records = reads  # type: ignore[method-assign]
        seen = Function()
        put(client, stream, "before")
        runner = make_runner(seen, proxy, stream)
        with running(runner):
            seen.wait_for(lambda: len(seen.batches) == 1)
            server.stop()
            assert failed.wait(LONG)
            put(client, stream, "meanwhile")
            server = ThreadedMotoServer(host, port=port, verbose=False)
            server.start()
            seen.wait_for(lambda: len(seen.batches) == 2)
        server.stop()
        own.close()

        assert seen.batches == [["before"], ["meanwhile"]]
        (progress,) = runner.statuses
        assert progress.throttles == 0
        assert progress.read_errors > 0

    def test_an_expired_iterator_is_made_again_behind_what_was_read(self, client: Any, stream: str) -> None:
        proxy = Proxy(client)
        seen = Function()
        put(client, stream, "a", "b")

        with running(make_runner(seen, proxy, stream)):
            seen.wait_for(lambda: len(seen.texts) == 2)
            proxy.errors.append(refusal("ExpiredIteratorException"))
            put(client, stream, "c")
            seen.wait_for(lambda: len(seen.texts) == 3)

        assert seen.texts == ["a", "b", "c"]
        numbers = [record["SequenceNumber"] for record in read_all(client, stream)]
        # The read that failed can have been before "c" was put, and no other one moves the position.
        assert proxy.positions[1]["ShardIteratorType"] == "AFTER_SEQUENCE_NUMBER"
        assert proxy.positions[1]["StartingSequenceNumber"] == numbers[1]

    @pytest.mark.parametrize(
        "error",
        [
            refusal("ResourceNotFoundException"),
            refusal("AccessDeniedException"),
            refusal("InvalidArgumentException"),
            NoCredentialsError(),
            TypeError("a mistake"),
        ],
        ids=lambda error: (
            type(error).__name__ if not isinstance(error, ClientError) else error.response["Error"]["Code"]
        ),
    )
    def test_what_no_wait_can_mend_ends_every_shard_and_is_raised(self, client: Any, error: Exception) -> None:
        stream = create(client, shards=2)
        thread = Running(make_runner(Function(), Proxy(client, error), stream))

        with pytest.raises(type(error)) as raised:
            thread.end()

        assert raised.value is error

    def test_a_stream_that_is_not_there_is_raised(self, client: Any) -> None:
        with pytest.raises(ClientError, match="ResourceNotFound"):
            make_runner(Function(), client, "no-such-stream").run()


class TestFunctionThatFails:
    @pytest.mark.parametrize("error", [ValueError("not today"), SystemExit(1), RecursionError()], ids=repr)
    def test_its_batch_comes_again(self, client: Any, stream: str, error: BaseException) -> None:
        put(client, stream, "a", "b")

        def fails_once(texts: list[str]) -> None:
            if len(seen.batches) == 1:
                raise error

        seen = Function(fails_once)

        (progress,) = run_until(make_runner(seen, client, stream), seen, 4)

        assert seen.batches == [["a", "b"], ["a", "b"]]
        assert (progress.records, progress.redelivered, progress.batches, progress.failures) == (4, 2, 2, 1)

    def test_an_answer_that_is_no_json_is_a_failure(self, client: Any, stream: str) -> None:
        put(client, stream, "a")
        seen = Function(lambda texts: object() if len(seen.batches) == 1 else None)

        run_until(make_runner(seen, client, stream), seen, 2)

        assert seen.batches == [["a"], ["a"]]

    def test_the_log_has_one_line_with_the_reason_and_no_traceback(
        self, client: Any, stream: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fails_once(texts: list[str]) -> None:
            if len(seen.batches) == 1:
                raise ValueError("no total\nin " + "secret" * 100)

        put(client, stream, "a")
        seen = Function(fails_once)

        run_until(make_runner(seen, client, stream), seen, 2)

        (entry,) = [entry for entry in caplog.records if entry.levelno == logging.ERROR]
        assert "ValueError: no total" in entry.message
        assert FIRST in entry.message
        assert "\n" not in entry.message
        assert "secret" not in caplog.text
        assert entry.exc_info is None

    def test_an_answer_after_the_time_out_counts_as_none(self, client: Any, stream: str) -> None:
        remaining: list[int] = []

        def late_once(texts: list[str]) -> None:
            context = seen.contexts[-1]
            remaining.append(context.get_remaining_time_in_millis())
            while len(seen.batches) == 1 and context.get_remaining_time_in_millis() > 0:
                pass

        put(client, stream, "a")
        seen = Function(late_once)

        (progress,) = run_until(make_runner(seen, client, stream, function_timeout_in_seconds=1), seen, 2)

        assert seen.batches == [["a"], ["a"]]
        assert progress.failures == 1
        assert 0 < remaining[0] <= 1000
        assert 0 < remaining[1] <= 1000
        assert len({context.aws_request_id for context in seen.contexts}) == 2

    def test_a_function_that_can_not_be_made_ends_the_run(self, client: Any, stream: str) -> None:
        def make() -> Any:
            raise ImportError("no such module")

        runner = Runner(
            make,
            stream=KinesisStream(client, stream),
            name="reader",
            checkpoints=MemoryCheckpoints(),
            settings=Settings(),
        )

        with pytest.raises(ImportError, match="no such module"):
            runner.run()


class TestDiscards:
    def fails_on_a(self, texts: list[str]) -> Any:
        if "a" in texts:
            raise ValueError("never")
        return None

    def test_they_go_to_on_failure_and_the_checkpoint_passes_them(self, client: Any, stream: str) -> None:
        checkpoints, documents = MemoryCheckpoints(), list[dict[str, Any]]()
        put(client, stream, "a", "b")
        seen = Function(self.fails_on_a)
        runner = make_runner(
            seen,
            client,
            stream,
            checkpoints=checkpoints,
            batch_size=1,
            maximum_retry_attempts=2,
            on_failure=lambda document, records: documents.append(document),
        )

        (progress,) = run_until(runner, seen, 4)

        assert seen.texts == ["a", "a", "a", "b"]
        (document,) = documents
        first, second = read_all(client, stream)
        assert document["requestContext"]["condition"] == "RetryAttemptsExhausted"
        assert document["requestContext"]["approximateInvokeCount"] == 3
        assert document["requestContext"]["requestId"] == seen.contexts[2].aws_request_id
        assert document["requestContext"]["functionArn"] == "arn:aws:lambda:us-east-1:000000000000:function:reader"
        assert document["requestContext"]["functionArn"] == seen.contexts[2].invoked_function_arn
        assert document["responseContext"]["functionError"] == "Unhandled"
        assert document["KinesisBatchInfo"]["startSequenceNumber"] == first["SequenceNumber"]
        assert document["KinesisBatchInfo"]["endSequenceNumber"] == first["SequenceNumber"]
        assert document["KinesisBatchInfo"]["batchSize"] == 1
        assert document["KinesisBatchInfo"]["shardId"] == FIRST
        assert document["KinesisBatchInfo"]["streamArn"].endswith(f":stream/{stream}")
        assert progress.discarded == 1
        assert checkpoint(checkpoints, stream, FIRST) == int(second["SequenceNumber"])

    def test_without_a_destination_they_are_logged_without_their_data(
        self, client: Any, stream: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        put(client, stream, "a", "b")
        seen = Function(self.fails_on_a)

        run_until(make_runner(seen, client, stream, batch_size=1, maximum_retry_attempts=0), seen, 2)

        (line,) = [entry.message for entry in caplog.records if "given up" in entry.message]
        assert "KinesisBatchInfo" in line

    def test_a_destination_that_raises_is_told_again_until_it_takes_them_and_no_checkpoint_passes_them_till_then(
        self, client: Any, stream: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        checkpoints, told = MemoryCheckpoints(), list[Any]()

        def on_failure(document: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
            told.append((document, checkpoint(checkpoints, stream, FIRST)))
            if len(told) < 3:
                raise ConnectionError("nobody there")

        put(client, stream, "a", "b")
        seen = Function(self.fails_on_a)
        runner = make_runner(
            seen,
            client,
            stream,
            checkpoints=checkpoints,
            batch_size=1,
            maximum_retry_attempts=0,
            on_failure=on_failure,
        )

        (progress,) = run_until(runner, seen, 2)

        assert [document for document, _ in told] == [told[0][0]] * 3
        assert [checkpoint for _, checkpoint in told] == [None] * 3
        assert seen.texts == ["a", "b"]
        assert progress.discarded == 1
        assert caplog.text.count("did not take") == 2

    def test_a_destination_that_refuses_is_logged_with_the_reason_and_what_to_do(
        self,
        client: Any,
        stream: str,
        moto_endpoint: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
        missing = destination(f"arn:aws:sqs:us-east-1:123456789012:{'long-' * 10}gone", endpoint_url=moto_endpoint)
        refused = threading.Event()

        def on_failure(document: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
            refused.set()
            missing(document, records)

        put(client, stream, "a")
        with running(
            make_runner(Function(self.fails_on_a), client, stream, maximum_retry_attempts=0, on_failure=on_failure)
        ):
            assert refused.wait(LONG)
        missing.close()

        line = next(entry.message for entry in caplog.records if "did not take" in entry.message)
        assert "NonExistentQueue" in line
        assert line.endswith("or name another on-failure destination")

    def test_what_no_destination_has_taken_comes_again_after_a_restart(self, client: Any, stream: str) -> None:
        checkpoints = MemoryCheckpoints()
        refused = threading.Event()

        def on_failure(document: dict[str, Any], records: Sequence[dict[str, Any]]) -> None:
            refused.set()
            raise ConnectionError("nobody there")

        put(client, stream, "a", "b")
        first, second = Function(self.fails_on_a), Function()
        settings: dict[str, Any] = {"checkpoints": checkpoints, "batch_size": 1, "maximum_retry_attempts": 0}
        runner = make_runner(first, client, stream, on_failure=on_failure, **settings)
        with running(runner):
            assert refused.wait(LONG)

        assert checkpoint(checkpoints, stream, FIRST) is None
        assert runner.statuses[0].discarded == 0
        run_until(make_runner(second, client, stream, **settings), second, 2)
        assert second.texts == ["a", "b"]

    @pytest.mark.parametrize(("age_in_hours", "is_delivered"), [(47, True), (49, False)])
    def test_what_is_too_old_is_what_the_stream_itself_no_longer_keeps(
        self, age_in_hours: float, is_delivered: bool
    ) -> None:
        documents: list[dict[str, Any]] = []
        seen = Function()
        client = Scripted({FIRST: [[b"a"]]}, age_in_hours=age_in_hours)

        make_runner(seen, client, "s", on_failure=lambda document, records: documents.append(document)).run()

        assert seen.texts == (["a"] if is_delivered else [])
        conditions = [document["requestContext"]["condition"] for document in documents]
        assert conditions == ([] if is_delivered else ["RecordAgeExceeded"])


class TestEnd:
    def test_stop_ends_it_after_the_invocation_in_hand_with_that_ones_checkpoint(
        self, client: Any, stream: str
    ) -> None:
        checkpoints = MemoryCheckpoints()
        may_end = threading.Event()
        put(client, stream, "a", "b")
        seen = Function(lambda texts: may_end.wait(LONG) and None)
        runner = make_runner(seen, client, stream, checkpoints=checkpoints, batch_size=1)
        thread = Running(runner)
        seen.wait_for(lambda: len(seen.batches) == 1)

        runner.stop()
        may_end.set()
        thread.end()

        assert seen.texts == ["a"]
        assert checkpoint(checkpoints, stream, FIRST) == int(read_all(client, stream)[0]["SequenceNumber"])
        assert seen.closed == 1

    def test_stop_does_not_wait_for_a_backoff_or_a_window(self, client: Any, stream: str) -> None:
        failed = threading.Event()

        def fails(texts: list[str]) -> None:
            failed.set()
            raise ValueError("not today")

        put(client, stream, "a")
        runner = make_runner(Function(fails), client, stream, backoff_in_seconds=3600, maximum_backoff_in_seconds=3600)

        with running(runner):
            assert failed.wait(LONG)

    def test_it_ends_by_itself_when_every_shard_has_ended(self) -> None:
        client = Scripted({FIRST: [[b"a"], [], [b"b"]], SECOND: [[b"c"]]})
        seen = Function()
        checkpoints = MemoryCheckpoints()

        make_runner(seen, client, "s", checkpoints=checkpoints).run()

        assert sorted(seen.texts) == ["a", "b", "c"]
        assert checkpoint(checkpoints, "s", FIRST) == 2
        assert checkpoint(checkpoints, "s", SECOND) == 1

    def test_a_shard_that_has_ended_still_retries_what_failed(self) -> None:
        seen = Function(lambda texts: 1 / 0 if len(seen.batches) < 3 else None)

        make_runner(seen, Scripted({FIRST: [[b"a"]]}), "s").run()

        assert seen.texts == ["a", "a", "a"]


class TestMemory:
    @pytest.mark.parametrize(
        ("payload", "in_a_read", "reads"),
        [(b"x", 400, 3), (b"x" * 1024 * 1024, 8, 2)],
        ids=["a thousand records", "16 MiB"],
    )
    def test_reading_pauses_while_enough_is_held(self, payload: bytes, in_a_read: int, reads: int) -> None:
        client = Scripted({FIRST: [[payload] * in_a_read] * 20})
        runner: Runner

        def monotonic() -> float:
            # Each look at the clock is a second later, and after many of them the run ends.
            now = float(next(ticks))
            if now > 300:
                runner.stop()
            return now

        def fails(texts: list[str]) -> None:
            raise ValueError("not today")

        ticks = itertools.count()
        runner = make_runner(
            Function(fails),
            client,
            "s",
            lease_seconds=10**6,
            clock=Clock(time.time, monotonic),
            batch_size=1,
            backoff_in_seconds=3600,
            maximum_backoff_in_seconds=3600,
        )

        runner.run()

        assert client.reads == reads
        assert runner.statuses[0].backlog == reads * in_a_read - 1

    def test_progress_says_how_far_behind_it_is(self) -> None:
        runner = make_runner(Function(), Scripted({FIRST: [[b"a"]]}), "s")

        runner.run()

        assert runner.statuses[0].behind == 1.5


class TestResharding:
    def test_children_are_read_when_all_their_parents_are_done_and_that_is_written(self) -> None:
        checkpoints = MemoryCheckpoints()
        ended: list[set[str]] = []

        def fails_at_first(texts: list[str]) -> Any:
            ended.append({s for s, lease in checkpoints.leases("reader", "s").items() if lease.has_ended})
            return 1 / 0 if len(seen.batches) < 3 else None

        seen = Function(fails_at_first)
        client = Scripted({SECOND: [[b"child"]], FIRST: [[b"parent"]]}, parents={SECOND: FIRST})

        runner = make_runner(seen, client, "s", checkpoints=checkpoints)
        runner.run()

        assert seen.texts == ["parent", "parent", "parent", "child"]
        assert ended == [set(), set(), set(), {FIRST}]
        assert [(one.shard_id, one.state) for one in runner.statuses] == [(FIRST, "ended"), (SECOND, "ended")]

    def test_a_parent_that_is_listed_no_more_holds_nobody(self) -> None:
        seen = Function()

        make_runner(seen, Scripted({SECOND: [[b"child"]]}, parents={SECOND: "shardId-long-gone"}), "s").run()

        assert seen.texts == ["child"]

    def test_a_shard_that_was_read_to_its_end_is_not_read_again(self) -> None:
        checkpoints = MemoryCheckpoints()
        make_runner(Function(), Scripted({FIRST: [[]]}), "s", checkpoints=checkpoints).run()
        client, seen = Scripted({FIRST: [[b"a"]], SECOND: [[b"b"]]}, parents={SECOND: FIRST}), Function()

        make_runner(seen, client, "s", checkpoints=checkpoints).run()

        assert seen.texts == ["b"]


class TestLanes:
    def test_run_at_once_and_each_keeps_the_order_of_its_keys(self, client: Any, stream: str) -> None:
        meeting = threading.Barrier(2, timeout=LONG)
        batches: list[list[str]] = []

        def function(event: dict[str, Any], context: Any) -> None:
            keys = [record["kinesis"]["partitionKey"] for record in event["Records"]]
            if len(batches) < 2:
                batches.append(keys)
                meeting.wait()
            batches.append(keys)

        for _ in range(2):
            for key in "abcdef":
                put(client, stream, key, key=key)
        runner = make_runner(function, client, stream, parallelization_factor=2)
        with running(runner):
            while len(batches) < 4:
                time.sleep(0.01)

        assert not meeting.broken
        assert set(batches[0]).isdisjoint(batches[1])

    def test_the_checkpoint_is_that_of_the_slowest(self, client: Any, stream: str) -> None:
        checkpoints, held = MemoryCheckpoints(), threading.Event()
        done: list[str] = []

        def function(event: dict[str, Any], context: Any) -> None:
            keys = [record["kinesis"]["partitionKey"] for record in event["Records"]]
            if "a" in keys:
                held.wait(LONG)
            done.extend(keys)

        put(client, stream, "slow", key="a")
        for key in "bcdefg":
            put(client, stream, key, key=key)
        runner = make_runner(function, client, stream, checkpoints=checkpoints, parallelization_factor=10)
        with running(runner):
            # All have begun, and those of other lanes are done: what has not begun when it stops stays undelivered.
            while not (runner.statuses and runner.statuses[0].records == 7 and len(done) > 3):
                time.sleep(0.01)
            before = checkpoint(checkpoints, stream, FIRST)
            held.set()
        assert before is None
        assert checkpoint(checkpoints, stream, FIRST) == int(read_all(client, stream)[-1]["SequenceNumber"])


class TestFilters:
    def test_what_they_do_not_want_is_passed_and_never_delivered(self, client: Any, stream: str) -> None:
        checkpoints, seen = MemoryCheckpoints(), Function()
        put(client, stream, '{"type": "a"}', '{"type": "b"}', "no json", '{"type": "a", "n": 2}', '{"type": "c"}')
        runner = make_runner(seen, client, stream, checkpoints=checkpoints, filter_criteria=[{"data": {"type": ["a"]}}])

        with running(runner):
            last = int(read_all(client, stream)[-1]["SequenceNumber"])
            while checkpoint(checkpoints, stream, FIRST) != last:
                time.sleep(0.01)

        assert seen.texts == ['{"type": "a"}', '{"type": "a", "n": 2}']


class TestWindows:
    def test_a_window_that_was_open_when_its_reader_ended_is_made_again_from_its_start(
        self, client: Any, stream: str
    ) -> None:
        checkpoints = MemoryCheckpoints()
        states: list[Any] = []
        results: list[Any] = []

        def totals(event: dict[str, Any], context: Any) -> Any:
            state = {"count": event["state"].get("count", 0) + len(event["Records"])}
            states.append(state)
            if event["isFinalInvokeForWindow"]:
                results.append(state)
            return {"state": state}

        settings: dict[str, Any] = {"checkpoints": checkpoints, "tumbling_window_in_seconds": 3, "batch_size": 2}
        # Of one window: there is a second left for the puts.
        while not 0 < time.time() % 3 < 1.5:
            time.sleep(0.01)
        put(client, stream, *"abc")
        with running(make_runner(totals, client, stream, **settings)):
            while not states:
                time.sleep(0.01)
        assert checkpoint(checkpoints, stream, FIRST) is None or results

        with running(make_runner(totals, client, stream, **settings)):
            while not results:
                time.sleep(0.01)

        assert results == [{"count": 3}]


class TestLeases:
    def test_two_runners_share_no_shard_and_one_takes_over_when_the_other_stops(self, client: Any) -> None:
        stream = create(client, shards=2)
        checkpoints = MemoryCheckpoints()
        first, second = Function(), Function()
        one = make_runner(first, client, stream, checkpoints=checkpoints, lease_seconds=3)
        two = make_runner(second, client, stream, checkpoints=checkpoints, lease_seconds=3)
        with running(two):
            with running(one):
                while len(one.statuses) + len(two.statuses) < 2:
                    time.sleep(0.01)
                put(client, stream, *map(str, range(20)))
                while len(first.texts) + len(second.texts) < 20:
                    time.sleep(0.01)
            put(client, stream, *map(str, range(20, 40)))
            second.wait_for(lambda: len(first.texts) + len(second.texts) >= 40)

        assert sorted(first.texts + second.texts, key=int) == [str(n) for n in range(40)]

    def test_a_runner_whose_lease_was_taken_stops_reading_and_writes_nothing(self, client: Any, stream: str) -> None:
        checkpoints = MemoryCheckpoints()
        may_end = threading.Event()
        seen = Function(lambda texts: may_end.wait(LONG) and None)
        put(client, stream, "a")
        runner = make_runner(seen, client, stream, checkpoints=checkpoints, lease_seconds=1)

        with running(runner):
            seen.wait_for(lambda: bool(seen.batches))
            # As one does that has watched it for a lease without a beat: faster than this runner's next renewal.
            while not (taken := take_over(checkpoints, stream)):
                pass
            may_end.set()
            while runner.statuses[0].state != "lost":
                time.sleep(0.01)

        assert taken.checkpoint is None
        assert checkpoint(checkpoints, stream, FIRST) is None

    def test_a_store_that_is_away_for_a_moment_holds_the_shard_and_loses_nothing(
        self, client: Any, stream: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Away(MemoryCheckpoints):
            failures = 2

            def may_pass(self, error: Exception) -> bool:
                return isinstance(error, ConnectionError)

            def save(self, lease: Lease, sequence_number: int) -> None:
                if self.failures:
                    self.failures -= 1
                    raise ConnectionError("nobody there")
                super().save(lease, sequence_number)

        checkpoints, seen = Away(), Function()
        put(client, stream, *"ab")

        run_until(make_runner(seen, client, stream, checkpoints=checkpoints, batch_size=1), seen, 2)

        assert seen.texts == ["a", "b"]
        assert caplog.text.count("could not be saved") == 2

    def test_latest_goes_on_from_the_first_start_after_a_restart_without_a_checkpoint(
        self, client: Any, stream: str
    ) -> None:
        checkpoints = MemoryCheckpoints()
        put(client, stream, "before")
        proxy = Proxy(client)
        time.sleep(0.01)
        with running(make_runner(Function(), proxy, stream, checkpoints=checkpoints, starting_position="LATEST")):
            assert proxy.has_position.wait(LONG)
        time.sleep(0.01)
        put(client, stream, "between")
        seen = Function()

        run_until(make_runner(seen, client, stream, checkpoints=checkpoints, starting_position="LATEST"), seen, 1)

        assert seen.texts == ["between"]


def take_over(checkpoints: CheckpointStore, stream: str) -> Lease | None:
    return checkpoints.take("reader", stream, FIRST, "another", checkpoints.leases("reader", stream)[FIRST])


def test_its_threads_do_not_hand_the_interpreters_lock_over_at_each_record(
    client: Any, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(b64, "_keeps_lock", False)
    released_for: list[str] = []
    monkeypatch.setattr(b64, "_b64decode", lambda text, *_: released_for.append(text))
    put(client, stream, "one", "two")
    seen: list[bytes] = []

    class Data(RecordProcessor):
        name = "data"

        def process(self, record: Record) -> None:
            seen.append(record.data)

    handler = lambda_handler(Data())
    function = Function()
    function.behaves = lambda texts: handler(function.events[-1], function.contexts[-1])

    run_until(make_runner(function, client, stream), function, 2)

    assert sorted(seen) == [b"one", b"two"]
    assert released_for == []

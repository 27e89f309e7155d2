"""``Producer`` before moto: its threads, its futures, its limits, and the ends of a process."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, NoRegionError, ReadTimeoutError

from streamkit.errors import BacklogFull, ConfigurationError, DeliveryError, ProducerClosed
from streamkit.kpl import deaggregate
from streamkit.producer import InOrder, Producer, PutFuture, Receipt, spread_of
from streamkit.producer.shards import ShardMap, hash_of

THROTTLED = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow down"}
UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _environment(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ENDPOINT_URL": moto_endpoint,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def kinesis(_environment: None) -> Iterator[Any]:
    client = boto3.client("kinesis")
    yield client
    client.close()


@pytest.fixture
def stream(kinesis: Any) -> str:
    name = f"producer-{uuid.uuid4().hex}"
    kinesis.create_stream(StreamName=name, ShardCount=3)
    kinesis.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})
    return name


class Scripted:
    """A client that passes on to ``kinesis``, but for what ``answer`` says of the n-th request, from 1."""

    def __init__(self, kinesis: Any, answer: Callable[[int, list[dict[str, Any]]], Any]) -> None:
        self._kinesis = kinesis
        self._answer = answer
        self._lock = threading.Lock()
        self.requests: list[list[dict[str, Any]]] = []

    def list_shards(self, **arguments: Any) -> Any:
        return self._kinesis.list_shards(**arguments)

    def put_records(self, **arguments: Any) -> Any:
        with self._lock:
            self.requests.append(arguments["Records"])
            number = len(self.requests)
        answer = self._answer(number, arguments["Records"])
        if isinstance(answer, Exception):
            raise answer
        return self._kinesis.put_records(**arguments) if answer is None else answer


def stored(kinesis: Any, stream: str) -> dict[str, list[Any]]:
    """The user records of each shard, in order: (sequence number, sub-sequence number, key, data)."""
    found: dict[str, list[Any]] = {}
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records = found[shard["ShardId"]] = []
        while True:
            answer = kinesis.get_records(ShardIterator=iterator)
            for record in answer["Records"]:
                users = deaggregate(record["Data"])
                if users is None:
                    records.append((record["SequenceNumber"], None, record["PartitionKey"], record["Data"]))
                else:
                    records += [
                        (record["SequenceNumber"], user.sub_sequence_number, user.partition_key, user.data)
                        for user in users
                    ]
            iterator = answer["NextShardIterator"]
            if not answer["Records"]:
                break
    return found


def by_key(found: dict[str, list[Any]]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = defaultdict(list)
    for records in found.values():
        for _, _, key, data in records:
            numbers[key].append(int(data))
    return numbers


@pytest.mark.parametrize("aggregate", [True, False])
def test_each_record_is_where_its_future_says_and_its_key_belongs_in_order(
    kinesis: Any, stream: str, aggregate: bool
) -> None:
    with Producer(stream, aggregate=aggregate, linger=0.01) as producer:
        futures = {n: producer.put(b"%d" % n, partition_key=f"key {n % 20}") for n in range(400)}

    found = stored(kinesis, stream)
    assert by_key(found) == {f"key {k}": list(range(k, 400, 20)) for k in range(20)}
    shards = ShardMap.of_answer(kinesis.list_shards(StreamName=stream)["Shards"])
    places = {
        int(data): Receipt(shard_id, number, sub)
        for shard_id, records in found.items()
        for number, sub, _, data in records
    }
    for n, future in futures.items():
        assert future.result(0) == places[n]
        shard = shards.get(places[n].shard_id)
        assert shard is not None
        assert shard.covers(hash_of(f"key {n % 20}"))


def test_explicit_hash_keys_keys_beyond_ascii_and_all_bytes_arrive(kinesis: Any, stream: str) -> None:
    data = bytes(range(256))
    with Producer(stream, aggregate=False, linger=0) as producer:
        first = producer.put(data, partition_key='gr\u00fc\u00df \U0001f41f "\\\n', explicit_hash_key=0)
        last = producer.put(bytearray(data), partition_key="b", explicit_hash_key=str(2**127))  # type: ignore[arg-type]  # Any bytes.

    found = stored(kinesis, stream)
    (one,) = found[first.result(0).shard_id]
    (two,) = found[last.result(0).shard_id]
    assert (one[2:], two[2:]) == (('gr\u00fc\u00df \U0001f41f "\\\n', data), ("b", data))


def test_threads_put_at_once_and_the_records_of_each_stay_in_order(kinesis: Any, stream: str) -> None:
    def put(producer: Producer, key: str) -> None:
        for n in range(300):
            producer.put(b"%d" % n, partition_key=key)

    with Producer(stream, linger=0.01) as producer:
        threads = [threading.Thread(target=put, args=(producer, f"key {n}")) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert by_key(stored(kinesis, stream)) == {f"key {n}": list(range(300)) for n in range(4)}


def test_only_what_was_refused_is_sent_again(kinesis: Any, stream: str) -> None:
    def answer(number: int, records: list[dict[str, Any]]) -> Any:
        if number > 1:
            return None
        taken = kinesis.put_records(StreamName=stream, Records=records[1:])["Records"]
        return {"FailedRecordCount": 1, "Records": [THROTTLED, *taken]}

    client = Scripted(kinesis, answer)
    with Producer(stream, aggregate=False, client=client) as producer:
        for n in range(9):
            producer.put(b"%d" % n, partition_key=f"key {n % 3}")

    assert by_key(stored(kinesis, stream)) == {f"key {k}": [k, k + 3, k + 6] for k in range(3)}
    refused = client.requests[0][0]
    assert sum(refused in request for request in client.requests) == 2


def test_a_lost_answer_is_sent_again(kinesis: Any, stream: str) -> None:
    lost = ReadTimeoutError(endpoint_url="http://127.0.0.1")
    client = Scripted(kinesis, lambda number, records: lost if number == 1 else None)

    with Producer(stream, client=client) as producer:
        future = producer.put(b"1", partition_key="a")

    assert future.done()
    assert client.requests[0] == client.requests[1]


def test_a_stream_that_is_not_there_fails_the_record_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    with Producer("nowhere") as producer:
        future = producer.put(b"secret", partition_key="a")
        error = future.exception(60)

    assert isinstance(error, DeliveryError)
    assert isinstance(error.__cause__, ClientError)
    assert "ResourceNotFoundException" in str(error)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line.startswith("stream nowhere: 1 record not put: ListShards: ")
    assert "secret" not in line


def test_a_callback_is_told_and_may_put(kinesis: Any, stream: str) -> None:
    told: Future[PutFuture] = Future()
    with Producer(stream, linger=0) as producer:
        producer.put(b"1", partition_key="a").add_done_callback(
            lambda future: told.set_result(producer.put(b"2", partition_key="a"))
        )
        told.result(60).result(60)

    assert by_key(stored(kinesis, stream)) == {"a": [1, 2]}


def test_futures_work_with_the_standard_librarys_functions(stream: str) -> None:
    async def awaited(one: PutFuture) -> Receipt:
        return await asyncio.wrap_future(one.future())

    with Producer(stream, linger=0.01) as producer:
        futures = [producer.put(b"%d" % n, partition_key="a") for n in range(10)]
        true_ones = [one.future() for one in futures]
        assert true_ones[0].cancel() is False

        done, others = wait(true_ones, timeout=60)
        landed = asyncio.run(awaited(producer.put(b"10", partition_key="a")))

    assert (done, others) == (set(true_ones), set())
    assert [one.result(0) for one in true_ones] == [one.result(0) for one in futures]
    assert [one.future().result(0) for one in futures] == [one.result(0) for one in futures]
    assert landed.shard_id == futures[0].result(0).shard_id


def test_a_future_waits_as_long_as_it_is_told_to_and_calls_back_once(kinesis: Any, stream: str) -> None:
    may_answer = threading.Event()

    def hold(number: int, records: list[dict[str, Any]]) -> None:
        may_answer.wait(60)

    scripted = Scripted(kinesis, hold)
    told: list[PutFuture] = []
    with Producer(stream, linger=0, client=scripted) as producer:
        future = producer.put(b"1", partition_key="a")
        future.add_done_callback(told.append)
        assert not future.done()
        with pytest.raises(TimeoutError, match=r"not settled after 0.01 s: wait longer, or for flush\(\)"):
            future.result(0.01)
        may_answer.set()
        assert future.exception(60) is None

    future.add_done_callback(told.append)
    assert future.done()
    assert told == [future, future]


def test_what_a_callback_holds_of_its_future_is_let_go_once_it_was_called(stream: str) -> None:
    class Held:
        """Something that can be watched."""

    held = Held()
    gone = weakref.ref(held)
    with Producer(stream, linger=0.01) as producer:
        future = producer.put(b"1", partition_key="a")
        future.add_done_callback(lambda one, both=(held, future): None)  # type: ignore[misc]  # A cycle.
    del held, future
    gc.collect()

    assert gone() is None


def test_flush_waits_for_what_was_accepted_before_it(kinesis: Any, stream: str) -> None:
    with Producer(stream, linger=3600.0) as producer:
        future = producer.put(b"1", partition_key="a")
        assert not future.done()

        producer.flush(60)

        assert future.done()


def test_a_flush_that_takes_too_long_says_how_many_are_left_and_why() -> None:
    producer = Producer("orders", client=Unreachable())
    producer.put(b"1", partition_key="a")

    while not producer._outbox.reason:
        time.sleep(0.01)

    with pytest.raises(DeliveryError, match=r"1 record not put after 0\.1 s.*Could not connect"):
        producer.flush(0.1)
    with pytest.raises(DeliveryError, match="orders: 1 record not put when its producer was closed"):
        producer.close(0.0)


def test_what_waits_for_long_is_told_now_and_then_with_the_reason(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamkit.producer.producer._LATE", 0.2)
    producer = Producer("orders", client=Unreachable(), linger=0)
    producer.put(b"secret", partition_key="a")

    while len(caplog.messages) < 2:
        time.sleep(0.01)
    with pytest.raises(DeliveryError):
        producer.close(0)

    warnings = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert len(warnings) >= 2
    assert all("stream orders: 1 record not put yet, the oldest for " in line for line in warnings)
    assert all("the last refusal being ListShards: Could not connect" in line for line in warnings)


class Unreachable:
    """A client of an endpoint where nobody is."""

    def __init__(self) -> None:
        self._client = boto3.client(
            "kinesis", endpoint_url=UNREACHABLE, config=Config(retries={"total_max_attempts": 1})
        )

    def list_shards(self, **arguments: Any) -> Any:
        return self._client.list_shards(**arguments)


def test_closed_it_fails_what_is_left_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    producer = Producer("orders", client=Unreachable())
    futures = [producer.put(b"secret", partition_key="a") for _ in range(3)]

    with pytest.raises(DeliveryError, match="3 records not put when its producer was closed"):
        producer.close(0.2)

    assert [type(future.exception(0)) for future in futures] == [DeliveryError] * 3
    assert "stream orders: 3 records not put" in caplog.text
    assert "secret" not in caplog.text
    with pytest.raises(ProducerClosed, match="closed: make a new one"):
        producer.put(b"4", partition_key="a")
    producer.close()  # Nothing more to do.


def test_an_error_in_the_block_is_not_hidden_by_what_could_not_be_put() -> None:
    def put_and_fail() -> None:
        with Producer("orders", client=Unreachable(), close_timeout=0.1) as producer:
            producer.put(b"1", partition_key="a")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        put_and_fail()


@pytest.mark.parametrize("options", [{"when_full": "raise"}, {"put_timeout": 0.2}])
def test_a_full_backlog_raises_as_chosen(options: dict[str, Any]) -> None:
    producer = Producer(
        "orders", client=Unreachable(), max_backlog=10_000, max_record_bytes=5000, aggregate_bytes=5000, **options
    )
    accepted = [producer.put(b"x" * 2000, partition_key="a") for _ in range(4)]

    with pytest.raises(BacklogFull, match="4 records of 9,604 bytes wait to be put"):
        producer.put(b"x" * 2000, partition_key="a")

    with pytest.raises(DeliveryError, match="4 records"):
        producer.close(0.0)
    assert all(future.exception(0) for future in accepted)


def test_a_full_backlog_blocks_until_there_is_room(kinesis: Any, stream: str) -> None:
    release = threading.Event()

    def answer(number: int, records: list[dict[str, Any]]) -> Any:
        release.wait(60)

    client = Scripted(kinesis, answer)
    most = 20_000
    with Producer(
        stream, client=client, linger=0, max_backlog=most, max_record_bytes=5000, aggregate_bytes=5000
    ) as producer:
        blocked = threading.Event()

        def put() -> None:
            for n in range(100):
                if n == 50:
                    blocked.set()
                producer.put(b"%d" % n, partition_key="a")

        putting = threading.Thread(target=put)
        putting.start()
        assert not blocked.wait(0.3)
        assert producer._accepted - producer._settled <= most
        release.set()
        putting.join()

    assert by_key(stored(kinesis, stream)) == {"a": list(range(100))}


def test_closing_ends_the_wait_of_a_put() -> None:
    producer = Producer("orders", client=Unreachable(), max_backlog=10_000, max_record_bytes=5000, aggregate_bytes=5000)
    ended_by: Future[Exception] = Future()

    def put() -> None:
        try:
            while True:
                producer.put(b"x" * 2000, partition_key="a")
        except ProducerClosed as error:
            ended_by.set_result(error)

    putting = threading.Thread(target=put)
    putting.start()
    while producer._accepted < 9000:
        time.sleep(0.01)

    with pytest.raises(DeliveryError, match="4 records"):
        producer.close(0.1)

    putting.join()
    assert "closed" in str(ended_by.result(0))


def test_a_callback_that_puts_into_a_full_backlog_gets_an_error_and_not_a_wait_for_itself(
    kinesis: Any, stream: str
) -> None:
    told: Future[Exception] = Future()
    gate = threading.Event()
    client = Scripted(kinesis, lambda number, records: gate.wait(60) and None)
    sizes: Any = {"max_backlog": 10_000, "max_record_bytes": 5000, "aggregate_bytes": 5000}
    with Producer(stream, client=client, linger=0, **sizes) as producer:

        def put_too_much(_: Any) -> None:
            try:
                while True:
                    producer.put(b"x" * 2000, partition_key="a")
            except BacklogFull as error:
                told.set_result(error)

        producer.put(b"1", partition_key="a").add_done_callback(put_too_much)
        gate.set()

        assert "bytes wait to be put" in str(told.result(60))


def test_flush_and_close_in_a_callback_are_refused(kinesis: Any, stream: str) -> None:
    told: Future[list[str]] = Future()
    gate = threading.Event()
    client = Scripted(kinesis, lambda number, records: gate.wait(60) and None)
    with Producer(stream, client=client, linger=0) as producer:

        def wait_for_itself(_: Any) -> None:
            errors = []
            for method in (producer.flush, producer.close):
                try:
                    method()
                except RuntimeError as error:
                    errors.append(str(error))
            told.set_result(errors)

        producer.put(b"1", partition_key="a").add_done_callback(wait_for_itself)
        gate.set()

        assert len(told.result(60)) == 2


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((b"x", ""), ValueError),
        ((b"x", "k" * 257), ValueError),
        ((b"x", "\ud800"), ValueError),
        ((b"x", 7), TypeError),
        (("text", "k"), TypeError),
        ((b"x", "k", "no number"), ValueError),
        ((b"x", "k", 2**128), ValueError),
        ((b"x", "k", -1), ValueError),
        ((b"x" * (1024 * 1024), "k"), ValueError),
    ],
)
def test_what_kinesis_does_not_take_is_not_accepted(arguments: Any, error: type[Exception]) -> None:
    with Producer("orders") as producer, pytest.raises(error):
        producer.put(*arguments)


@pytest.mark.parametrize(
    "options",
    [
        {"linger": -1},
        {"when_full": "wait"},
        {"connections": 0},
        {"max_record_bytes": 11 * 1024 * 1024},
        {"aggregate_bytes": 2 * 1024 * 1024},
        {"max_backlog": 1000},
        {"record_ttl": 0},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Producer("orders", **options)


def test_a_spread_key_goes_to_several_shards_and_comes_back_in_order(kinesis: Any, stream: str) -> None:
    with Producer(stream, linger=0.01) as producer:
        for n in range(90):
            producer.put(b"%d" % n, partition_key="hot", spread=3)
        with pytest.raises(ValueError, match="spread"):
            producer.put(b"", partition_key="hot", explicit_hash_key=1, spread=3)

    found = stored(kinesis, stream)
    assert all(len(records) == 30 for records in found.values())
    in_order: InOrder[bytes] = InOrder()
    read = [data for records in found.values() for _, _, _, data in records]
    given = [ready for data in read for ready in in_order.add("hot", data, data)]
    assert [int(one.data) for data in given if (one := spread_of(data)) is not None] == list(range(90))


PROGRAM = """
import logging, sys, threading
from streamkit.producer import Producer

logging.basicConfig(format="%(message)s")
producer = Producer(sys.argv[1], linger=3600.0, exit_timeout=float(sys.argv[2]))
for n in range(5):
    producer.put(b"%d" % n, partition_key="a")
"""


def ended(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_process_that_ends_puts_what_it_accepted(kinesis: Any, stream: str) -> None:
    one = ended(PROGRAM, stream, "60")

    assert (one.returncode, one.stderr) == (0, "")
    assert by_key(stored(kinesis, stream)) == {"a": list(range(5))}


def test_a_process_that_ends_says_how_many_it_could_not_put() -> None:
    one = ended(PROGRAM, "orders", "0.5", AWS_ENDPOINT_URL=UNREACHABLE)

    assert "stream orders: 5 records not put: not put when its producer was closed, after 0.5 s" in one.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it takes fork")
def test_in_a_process_forked_off_it_says_what_to_do(kinesis: Any, stream: str) -> None:
    code = """
import json, os, sys, warnings
from streamkit.producer import Producer

warnings.simplefilter("ignore", DeprecationWarning)  # Threads are there: that is what this is about.
with Producer(sys.argv[1], linger=0.01) as producer:
    producer.put(b"1", partition_key="a").result(60)
    child = os.fork()
    if not child:
        try:
            producer.put(b"2", partition_key="a")
        except Exception as error:
            print(json.dumps([type(error).__name__, str(error)]))
        producer.close()
        with Producer(sys.argv[1]) as own:
            own.put(b"3", partition_key="a")
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
    producer.put(b"4", partition_key="a")
"""
    one = ended(code, stream)

    assert (one.returncode, one.stderr) == (0, "")
    name, message = json.loads(one.stdout)
    assert (name, message[-37:]) == ("ProducerClosed", "are there: make a new one after the fork"[-37:])
    assert by_key(stored(kinesis, stream)) == {"a": [1, 3, 4]}


def test_importing_it_imports_no_boto3() -> None:
    code = "import sys; from streamkit.producer import Producer; Producer('orders'); print({'boto3'} & {*sys.modules})"

    assert ended(code).stdout == "set()\n"


def test_without_a_region_the_first_put_says_so_and_accepts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with Producer("orders") as producer, pytest.raises(NoRegionError):
        producer.put(b"1", partition_key="a")

    assert producer._accepted == 0

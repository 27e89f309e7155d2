"""The checkpoint contract over memory, SQLite and DynamoDB, and what only a file or a table can go through."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, CredentialRetrievalError, EndpointConnectionError, ReadTimeoutError
from botocore.parsers import ResponseParserError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamkit.checkpoints.base import CheckpointStore, Lease, LeaseLost
from streamkit.checkpoints.dynamodb import DynamoDbCheckpoints
from streamkit.checkpoints.memory import MemoryCheckpoints
from streamkit.checkpoints.sqlite import SqliteCheckpoints
from streamkit.errors import ConfigurationError
from streamkit.testing.contracts import CheckpointContract

SHARD = "shardId-000000000000"
NUMBER = 49590338271490256608559692538361571095921575989136588898

# DynamoDB checks a condition and writes as one step. moto does these one after the other, in several threads.
ONE_AT_A_TIME = threading.Lock()


def client_of(endpoint: str, **options: Any) -> Any:
    client = boto3.client(
        "dynamodb",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(**{"retries": {"total_max_attempts": 1}, "max_pool_connections": 20, **options}),
    )
    send = client._endpoint.http_session.send

    def send_alone(request: Any, **_: Any) -> Any:
        with ONE_AT_A_TIME:
            return send(request)

    client.meta.events.register("before-send.dynamodb", send_alone)
    return client


@pytest.fixture(scope="session")
def client(moto_endpoint: str) -> Iterator[Any]:
    client = client_of(moto_endpoint)
    yield client
    client.close()


@pytest.fixture
def table(client: Any) -> Iterator[str]:
    name = f"leases-{uuid.uuid4().hex}"
    DynamoDbCheckpoints(name, client=client).create_table()
    yield name
    client.delete_table(TableName=name)


def taken(store: CheckpointStore, owner: str = "a", shard_id: str = SHARD) -> Lease:
    lease = store.take("reader", "stream", shard_id, owner, entry(store, shard_id))
    assert lease is not None
    return lease


def entry(store: CheckpointStore, shard_id: str = SHARD) -> Lease | None:
    return store.leases("reader", "stream").get(shard_id)


def checkpoint(store: CheckpointStore, shard_id: str = SHARD) -> int | None:
    lease = entry(store, shard_id)
    assert lease is not None
    return lease.checkpoint


class TestMemory(CheckpointContract):
    @pytest.fixture
    def store(self) -> MemoryCheckpoints:
        return MemoryCheckpoints()


class TestSqlite(CheckpointContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqliteCheckpoints]:
        self._opened = [SqliteCheckpoints(tmp_path / "file")]
        yield self._opened[0]
        for store in self._opened:
            store.close()

    def other(self, store: SqliteCheckpoints) -> SqliteCheckpoints:
        self._opened.append(SqliteCheckpoints(store._path))
        return self._opened[-1]


class TestDynamoDb(CheckpointContract):
    @pytest.fixture
    def store(self, client: Any, table: str) -> DynamoDbCheckpoints:
        return DynamoDbCheckpoints(table, client=client)

    def other(self, store: DynamoDbCheckpoints) -> DynamoDbCheckpoints:
        return DynamoDbCheckpoints(store._table, client=store._given_client)


class Model:
    """What a store has to answer, worked out anew each time from the list of all the writes that it took."""

    def __init__(self) -> None:
        self._took: list[tuple[str, str, Any]] = []

    def entry(self, shard_id: str) -> Lease | None:
        writes = [(kind, value) for kind, shard, value in self._took if shard == shard_id]
        owners = [value for kind, value in writes if kind == "owner"]
        if not owners:
            return None
        numbers = [value for kind, value in writes if kind == "save"]
        starts = [value for kind, value in writes if kind == "start" and value is not None]
        return Lease(
            "reader",
            "stream",
            shard_id,
            owner=owners[-1],
            term=len([owner for owner in owners if owner]),
            beat=max([0] + [value for kind, value in writes if kind == "beat"]),
            checkpoint=max(numbers, default=None),
            has_ended=("end", None) in writes,
            started_at=next(iter(starts), None),
        )

    def take(self, shard_id: str, owner: str, seen: Lease | None, started_at: float | None) -> Lease | None:
        now = self.entry(shard_id)
        same = now is seen if now is None or seen is None else now.version == seen.version
        if same:
            self._took += [("owner", shard_id, owner), ("start", shard_id, started_at)]
            return self.entry(shard_id)
        repeated = now is not None and now.owner == owner and now.term == (seen.term if seen else 0) + 1
        return now if repeated else None

    def write(self, lease: Lease, *writes: tuple[str, Any]) -> Lease | None:
        now = self.entry(lease.shard_id)
        if now is None or (now.owner, now.term) != (lease.owner, lease.term):
            raise LeaseLost
        self._took += [(kind, lease.shard_id, value) for kind, value in writes]
        return self.entry(lease.shard_id)


NUMBERS = st.one_of(st.integers(0, 12), st.integers(10**37, 10**40), st.integers(0, 10**128 - 1))
# Who does it, and to which shard; the last value says which of the leases known to the owner it does it with: old ones too.
STEP = st.tuples(
    st.sampled_from(["take", "take", "look", "renew", "save", "save", "end", "end without a number", "give up"]),
    st.sampled_from("ab"),
    st.sampled_from("xy"),
    NUMBERS,
    st.sampled_from([0, 0, 0, 0, 1, 2, 3]),
)


class TestThreeStoresAndAModel:
    @settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
    @given(steps=st.lists(STEP, min_size=10, max_size=30))
    def test_answer_alike_whatever_is_done(self, client: Any, table: str, steps: list[Any]) -> None:
        # One table for all examples: each has a reader of its own there.
        stores: list[CheckpointStore] = [MemoryCheckpoints(), SqliteCheckpoints(":memory:")]
        stores.append(_WithAReaderOfItsOwn(DynamoDbCheckpoints(table, client=client), uuid.uuid4().hex))
        model = Model()
        # What each owner knows of each shard, the latest last: it may be long out of date.
        known: dict[tuple[str, str], list[Lease | None]] = {(o, s): [None] for o in "ab" for s in "xy"}
        for kind, owner, shard_id, number, age in steps:
            of_owner = known[owner, shard_id]
            lease = of_owner[max(-len(of_owner), -1 - age)]
            expected = _outcome(lambda: _of_model(model, kind, owner, shard_id, number, lease))  # noqa: B023  # Called at once.
            for store in stores:
                answer = _outcome(lambda: _of_store(store, kind, owner, shard_id, number, lease))  # noqa: B023  # Called at once.
                assert answer == expected, store
            if isinstance(expected, Lease):
                of_owner.append(expected)
            for store in stores:
                assert store.leases("reader", "stream") == {
                    shard: held for shard in "xy" if (held := model.entry(shard)) is not None
                }
        stores[1].close()


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except LeaseLost:
        return LeaseLost


def _of_model(model: Model, kind: str, owner: str, shard_id: str, number: int, lease: Lease | None) -> Any:
    if kind == "look":
        return model.entry(shard_id)
    if kind == "take":
        return model.take(shard_id, owner, lease, number % 100 / 7 if number % 2 else None)
    if lease is None or lease.owner == "":
        return None
    if kind == "renew":
        return model.write(lease, ("beat", lease.beat + 1))
    if kind == "give up":
        with contextlib.suppress(LeaseLost):
            model.write(lease, ("owner", ""))
        return None
    saved = [("save", number)] if kind != "end without a number" else []
    ended = [("end", None)] if kind != "save" else []
    model.write(lease, *saved, *ended)
    return None


def _of_store(store: CheckpointStore, kind: str, owner: str, shard_id: str, number: int, lease: Lease | None) -> Any:
    if kind == "look":
        return store.leases("reader", "stream").get(shard_id)
    if kind == "take":
        started_at = number % 100 / 7 if number % 2 else None
        return store.take("reader", "stream", shard_id, owner, lease, started_at=started_at)
    if lease is None or lease.owner == "":
        return None
    if kind == "renew":
        return store.renew(lease)
    if kind == "give up":
        store.give_up(lease)
    elif kind == "save":
        store.save(lease, number)
    else:
        store.end(lease, number if kind == "end" else None)
    return None


class _WithAReaderOfItsOwn(CheckpointStore):
    """A store in which "reader" is another name."""

    def __init__(self, store: CheckpointStore, name: str) -> None:
        self._store = store
        self._name = name

    def leases(self, reader: str, stream: str) -> dict[str, Lease]:
        return {s: _named(lease, reader) for s, lease in self._store.leases(self._name, stream).items()}

    def take(
        self,
        reader: str,
        stream: str,
        shard_id: str,
        owner: str,
        seen: Lease | None,
        *,
        started_at: float | None = None,
    ) -> Lease | None:
        lease = self._store.take(self._name, stream, shard_id, owner, seen, started_at=started_at)
        return lease and _named(lease, reader)

    def renew(self, lease: Lease) -> Lease:
        return _named(self._store.renew(_named(lease, self._name)), lease.reader)

    def save(self, lease: Lease, sequence_number: int) -> None:
        self._store.save(_named(lease, self._name), sequence_number)

    def end(self, lease: Lease, sequence_number: int | None) -> None:
        self._store.end(_named(lease, self._name), sequence_number)

    def give_up(self, lease: Lease) -> None:
        self._store.give_up(_named(lease, self._name))


def _named(lease: Lease, reader: str) -> Lease:
    return msgspec.structs.replace(lease, reader=reader)


def refused(code: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "UpdateItem")


class TestDynamoDbError:
    @pytest.mark.parametrize(
        "passing",
        [
            refused("ProvisionedThroughputExceededException"),
            refused("RequestLimitExceeded"),
            refused("ThrottlingException"),
            refused("TransactionConflictException"),
            refused("TooManyRequests", 429),
            refused("InternalServerError", 500),
            refused("ServiceUnavailable", 503),
            EndpointConnectionError(endpoint_url="http://nobody"),
            ReadTimeoutError(endpoint_url="http://nobody"),
            ResponseParserError("cut off"),
            CredentialRetrievalError(provider="sso", error_msg="nobody there"),
            ConnectionResetError("gone"),
        ],
        ids=repr,
    )
    def test_that_time_mends_is_waited_for(self, passing: Exception) -> None:
        assert DynamoDbCheckpoints("table").may_pass(passing)

    @pytest.mark.parametrize(
        "lasting",
        [refused("AccessDeniedException"), refused("ValidationException"), ConfigurationError("no such table")],
        ids=repr,
    )
    def test_that_is_a_mistake_is_not(self, lasting: Exception) -> None:
        assert not DynamoDbCheckpoints("table").may_pass(lasting)


class TestDynamoDbTable:
    def test_is_found_page_by_page_and_as_it_is_now(self, client: Any, table: str, moto_endpoint: str) -> None:
        asked = []

        def in_small_pages(params: dict[str, Any], **_: Any) -> None:
            asked.append(params["ConsistentRead"])
            params["Limit"] = 2

        small = client_of(moto_endpoint)
        small.meta.events.register("provide-client-params.dynamodb.Query", in_small_pages)
        store = DynamoDbCheckpoints(table, client=small)
        for n in range(5):
            assert store.take("reader", "stream", f"shard-{n}", "a", None) is not None

        assert sorted(store.leases("reader", "stream")) == [f"shard-{n}" for n in range(5)]

        assert asked == [True] * 3
        small.close()

    @pytest.mark.parametrize("write", ["take", "take over", "renew", "save", "end", "end without a number", "give up"])
    def test_is_written_once_where_the_answer_is_lost_and_the_client_sends_it_again(
        self, client: Any, table: str, moto_endpoint: str, write: str
    ) -> None:
        # Given a client that takes the first answer to each write for a failure.
        forgetful = client_of(moto_endpoint, retries={"total_max_attempts": 3, "mode": "legacy"})
        sent = []

        def again_after_the_first(attempts: int, **_: Any) -> float | None:
            sent.append(attempts)
            return 0.0 if attempts == 1 else None

        forgetful.meta.events.register_first("needs-retry.dynamodb.UpdateItem", again_after_the_first)
        store, other = DynamoDbCheckpoints(table, client=forgetful), DynamoDbCheckpoints(table, client=client)
        lease = taken(other) if write not in ("take", "take over") else None
        before = taken(other, "b") if write == "take over" else lease

        # When
        if lease is None:
            answer = store.take("reader", "stream", SHARD, "a", before)
            expected = Lease("reader", "stream", SHARD, "a", 1 if before is None else 2)
        elif write == "renew":
            answer, expected = store.renew(lease), msgspec.structs.replace(lease, beat=1)
        elif write == "save":
            answer, expected = store.save(lease, 5), msgspec.structs.replace(lease, checkpoint=5)  # type: ignore[func-returns-value]  # All in one shape.
        elif write == "give up":
            answer, expected = store.give_up(lease), msgspec.structs.replace(lease, owner="")  # type: ignore[func-returns-value]  # All in one shape.
        else:
            number = 5 if write == "end" else None
            answer = store.end(lease, number)  # type: ignore[func-returns-value]  # All in one shape.
            expected = msgspec.structs.replace(lease, checkpoint=number, has_ended=True)

        # Then
        assert answer in (expected, None)
        assert entry(other) == expected
        assert sent[:2] == [1, 2]
        forgetful.close()

    def test_keeps_an_entry_to_itself_that_somebody_took_between_two_tries(
        self, client: Any, table: str, moto_endpoint: str
    ) -> None:
        other = DynamoDbCheckpoints(table, client=client)
        forgetful = client_of(moto_endpoint, retries={"total_max_attempts": 3, "mode": "legacy"})

        def taken_before_the_second(attempts: int, **_: Any) -> float | None:
            if attempts > 1:
                return None
            taken(other, "b")
            return 0.0

        forgetful.meta.events.register_first("needs-retry.dynamodb.UpdateItem", taken_before_the_second)
        store = DynamoDbCheckpoints(table, client=forgetful)

        assert store.take("reader", "stream", SHARD, "a", None) is None

        lease = entry(other)
        assert lease is not None
        assert (lease.owner, lease.term) == ("b", 2)
        forgetful.close()

    def test_raises_the_clients_own_error_where_it_can_not_be_reached(self, client: Any, table: str) -> None:
        lease = taken(DynamoDbCheckpoints(table, client=client))
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            lost = client_of(f"http://127.0.0.1:{nobody.getsockname()[1]}")
            store = DynamoDbCheckpoints(table, client=lost)
            calls: list[Callable[[], Any]] = [
                lambda: store.leases("reader", "stream"),
                lambda: store.take("reader", "stream", SHARD, "b", lease),
                lambda: store.renew(lease),
                lambda: store.save(lease, 1),
                lambda: store.end(lease, 1),
                lambda: store.give_up(lease),
            ]
            for call in calls:
                with pytest.raises(EndpointConnectionError):
                    call()
            lost.close()

    def test_is_made_once_however_often_it_is_asked_for(self, client: Any, table: str) -> None:
        store = DynamoDbCheckpoints(table, client=client)
        taken(store)

        store.create_table()

        assert entry(store) is not None

    def test_is_named_where_it_does_not_exist_with_what_makes_it(self, client: Any) -> None:
        store = DynamoDbCheckpoints("nowhere", client=client)
        calls: list[Callable[[], Any]] = [
            lambda: store.leases("reader", "stream"),
            lambda: store.take("reader", "stream", SHARD, "a", None),
        ]

        for call in calls:
            with pytest.raises(
                ConfigurationError, match=r"DynamoDbCheckpoints\('nowhere'\).create_table\(\)"
            ) as raised:
                call()
            assert isinstance(raised.value.__cause__, ClientError)

    def test_is_refused_where_it_has_another_key(self, client: Any) -> None:
        name = f"other-{uuid.uuid4().hex}"
        client.create_table(
            TableName=name,
            KeySchema=[{"AttributeName": "leaseKey", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "leaseKey", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

        with pytest.raises(ConfigurationError, match=f"{name} has another key"):
            DynamoDbCheckpoints(name, client=client).create_table()
        client.delete_table(TableName=name)

    @pytest.mark.parametrize("number", [-1, 10**128])
    def test_refuses_a_number_that_would_not_compare(self, client: Any, table: str, number: int) -> None:
        store = DynamoDbCheckpoints(table, client=client)
        lease = taken(store)

        with pytest.raises(ValueError, match="128 digits"):
            store.save(lease, number)
        with pytest.raises(ValueError, match="128 digits"):
            store.end(lease, number)
        assert entry(store) == lease


class TestDynamoDbClient:
    def test_is_made_on_first_use_and_closed_with_the_store(
        self, moto_endpoint: str, table: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", moto_endpoint)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        store = DynamoDbCheckpoints(table)
        made: list[Any] = [store._own_client]

        taken(store)
        made.append(store._own_client)
        store.close()
        made.append(store._own_client)

        assert [client is not None for client in made] == [False, True, False]
        assert (made[1].meta.config.connect_timeout, made[1].meta.config.read_timeout) == (1.0, 1.0)
        assert entry(store) is not None
        store.close()

    def test_that_was_given_is_left_open(self, client: Any, table: str) -> None:
        DynamoDbCheckpoints(table, client=client).close()

        assert DynamoDbCheckpoints(table, client=client).leases("reader", "stream") == {}

    def test_needs_boto3_and_says_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "boto3", None)

        with pytest.raises(ConfigurationError, match=r"pip install 'kinesis-streamkit\[aws\]'"):
            DynamoDbCheckpoints("table").leases("reader", "stream")


WRITER = """
import sys
from streamkit.checkpoints.sqlite import SqliteCheckpoints

path, shard, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = SqliteCheckpoints(path)
lease = store.take("reader", "stream", shard, f"{shard} {first}", store.leases("reader", "stream").get(shard))
for number in range(first, last + 1):
    store.save(lease, number)
    print(number, flush=True)
store.close()
"""
TAKER = """
import sys
from streamkit.checkpoints.sqlite import SqliteCheckpoints

path, owner, shards = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = SqliteCheckpoints(path)
print("ready", flush=True)
sys.stdin.readline()
for n in range(shards):
    if store.take("reader", "stream", f"shard-{n}", owner, None) is not None:
        print(n)
store.close()
"""


def process(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def writer(path: Path, shard: str, first: int, last: int) -> subprocess.Popen[str]:
    """A process that takes a shard, saves one number after another, and prints each when it has been saved."""
    return process(WRITER, path, shard, first, last)


def killed(writing: subprocess.Popen[str], after: int) -> int:
    """Kill it when it has acknowledged so many numbers; the last one that it did acknowledge."""
    assert writing.stdout is not None
    lines = [writing.stdout.readline() for _ in range(after)]
    os.kill(writing.pid, signal.SIGKILL)
    # What was printed whole before the end was acknowledged too. communicate() would not see what readline() has read ahead.
    rest = writing.stdout.read()
    writing.communicate()
    return int([*lines, *(line for line in rest.splitlines(keepends=True) if line.endswith("\n"))][-1])


class TestSqliteFile:
    def test_keeps_what_was_saved_for_the_next_process(self, tmp_path: Path) -> None:
        before = SqliteCheckpoints(tmp_path / "file")
        before.save(taken(before), NUMBER)
        before.close()

        after = SqliteCheckpoints(tmp_path / "file")

        assert checkpoint(after) == NUMBER
        after.close()

    def test_loses_nothing_acknowledged_when_its_writer_is_killed_again_and_again(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        last = 0
        for kill in range(8):
            last = killed(writer(path, SHARD, last + 1, last + 10**6), after=1 + 7 * kill)

            store = SqliteCheckpoints(path)
            # One more may have been saved whose acknowledgement was never printed.
            assert checkpoint(store) in (last, last + 1)
            store.close()

    def test_is_shared_by_processes_that_make_it_at_once(self, tmp_path: Path) -> None:
        for attempt in range(4):
            path = tmp_path / f"file-{attempt}"
            processes = [writer(path, f"shard-{n}", 1, 5) for n in range(4)]

            for writing in processes:
                writing.communicate()

            assert [writing.returncode for writing in processes] == [0] * 4
            store = SqliteCheckpoints(path)
            assert [checkpoint(store, f"shard-{n}") for n in range(4)] == [5] * 4
            store.close()

    def test_gives_each_shard_to_one_of_the_processes_that_take_it_at_once(self, tmp_path: Path) -> None:
        shards = 40
        takers = {owner: process(TAKER, tmp_path / "file", owner, shards) for owner in "abc"}
        for taker in takers.values():
            assert taker.stdout is not None
            assert taker.stdout.readline() == "ready\n"

        for taker in takers.values():
            assert taker.stdin is not None
            taker.stdin.write("\n")
            taker.stdin.flush()
        took = {owner: [int(line) for line in taker.communicate()[0].split()] for owner, taker in takers.items()}

        assert [taker.returncode for taker in takers.values()] == [0] * 3
        assert sorted(n for of_owner in took.values() for n in of_owner) == list(range(shards))
        store = SqliteCheckpoints(tmp_path / "file")
        for owner, of_owner in took.items():
            assert {(entry(store, f"shard-{n}") or Lease("", "", "")).owner for n in of_owner} <= {owner}
        store.close()

    def test_lets_nobody_come_between_reading_an_entry_and_writing_it(self, tmp_path: Path) -> None:
        one, other = SqliteCheckpoints(tmp_path / "file"), SqliteCheckpoints(tmp_path / "file")
        other.leases("reader", "stream")
        took: list[Lease | None] = []
        taking = threading.Thread(target=lambda: took.append(other.take("reader", "stream", SHARD, "b", None)))

        def slowly(entry: Lease | None) -> Lease | None:
            taking.start()
            # Time enough, if it could.
            taking.join(0.3)
            return entry or Lease("reader", "stream", SHARD, "a", 1)

        one._change("reader", "stream", SHARD, slowly)
        taking.join()

        assert took == [None]
        assert one.leases("reader", "stream")[SHARD].owner == "a"
        one.close()
        other.close()

    def test_is_asked_again_while_another_process_has_it_to_itself(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = sqlite3.connect(tmp_path / "file", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")
        connect: Callable[..., sqlite3.Connection] = sqlite3.connect
        attempts = []

        def impatient(path: Path, **arguments: Any) -> sqlite3.Connection:
            attempts.append(path)
            if len(attempts) == 3:
                other.execute("COMMIT")
            # Where SQLite sees that waiting could end in a deadlock it does not wait, whatever the time-out.
            connection: sqlite3.Connection = connect(path, **{**arguments, "timeout": 0})
            return connection

        monkeypatch.setattr("streamkit.checkpoints.sqlite.sqlite3.connect", impatient)
        store = SqliteCheckpoints(tmp_path / "file")

        taken(store)

        assert len(attempts) == 3
        store.close()
        other.close()

    def test_is_not_moved_back_by_a_process_that_was_overtaken(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        store = SqliteCheckpoints(path)
        store.save(taken(store), 100)

        writer(path, SHARD, 1, 5).communicate()

        assert checkpoint(store) == 100
        store.close()

    def test_raises_its_own_error_while_another_program_keeps_it_locked_and_goes_on_after(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("streamkit.checkpoints.sqlite._BUSY_SECONDS", 0.0)
        store = SqliteCheckpoints(tmp_path / "file")
        lease = taken(store)
        other = sqlite3.connect(tmp_path / "file", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(sqlite3.OperationalError, match="locked"):
            store.save(lease, 1)

        other.execute("COMMIT")
        other.close()
        store.save(lease, 2)
        assert checkpoint(store) == 2
        store.close()

    def test_can_be_used_again_after_it_was_closed(self, tmp_path: Path) -> None:
        store = SqliteCheckpoints(tmp_path / "file")
        store.save(taken(store), 1)
        store.close()

        assert checkpoint(store) == 1
        store.close()

    def test_is_not_made_before_it_is_used(self, tmp_path: Path) -> None:
        SqliteCheckpoints(tmp_path / "file")

        assert list(tmp_path.iterdir()) == []

    def test_can_be_an_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        store = SqliteCheckpoints(tmp_path / "file")

        taken(store)

        assert entry(store) is not None
        store.close()


# As the streamkit before leases made it.
OLD_LAYOUT = """
PRAGMA journal_mode = WAL;
PRAGMA application_id = 0x73746B63;
CREATE TABLE checkpoints (reader TEXT, stream TEXT, shard_id TEXT,
    sequence_number TEXT NOT NULL, PRIMARY KEY (reader, stream, shard_id)) WITHOUT ROWID;
"""


class TestSqliteFileOfAnOlderStreamkit:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        old = sqlite3.connect(tmp_path / "file")
        old.executescript(OLD_LAYOUT)
        with old:
            for n in range(3):
                row = ("reader", "stream", f"shard-{n}", str(NUMBER + n).zfill(128))
                old.execute("INSERT INTO checkpoints VALUES (?, ?, ?, ?)", row)
        old.close()
        return tmp_path / "file"

    def test_keeps_its_numbers_and_its_shards_are_nobodys(self, path: Path) -> None:
        store = SqliteCheckpoints(path)

        assert store.leases("reader", "stream") == {
            f"shard-{n}": Lease("reader", "stream", f"shard-{n}", checkpoint=NUMBER + n) for n in range(3)
        }
        assert taken(store, "a", "shard-1").checkpoint == NUMBER + 1
        store.close()

    def test_is_changed_once_by_processes_that_open_it_at_once(self, path: Path) -> None:
        processes = [writer(path, f"shard-{n}", NUMBER + 10, NUMBER + 12) for n in range(3)]

        for writing in processes:
            writing.communicate()

        assert [writing.returncode for writing in processes] == [0] * 3
        store = SqliteCheckpoints(path)
        assert [checkpoint(store, f"shard-{n}") for n in range(3)] == [NUMBER + 12] * 3
        store.close()

    def test_is_no_longer_written_by_the_older_streamkit(self, path: Path) -> None:
        old = sqlite3.connect(path)
        old.execute("SELECT * FROM checkpoints").fetchall()
        store = SqliteCheckpoints(path)
        store.leases("reader", "stream")

        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            old.execute("UPDATE checkpoints SET sequence_number = '9'")

        old.close()
        store.close()


class TestFileThatCanNotBeUsed:
    def refused(self, path: Path) -> str:
        store = SqliteCheckpoints(path)
        with pytest.raises(ConfigurationError) as raised:
            store.take("reader", "stream", SHARD, "a", None)
        store.close()
        assert str(path) in str(raised.value)
        return str(raised.value)

    def test_is_named_where_it_is_no_database_and_is_left_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("These are notes, and no database. " * 50)

        self.refused(path)

        assert path.read_text() == "These are notes, and no database. " * 50

    def test_is_named_where_it_is_another_programs_database_and_is_left_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "other.db"
        with sqlite3.connect(path) as other:
            other.execute("CREATE TABLE checkpoints (mine TEXT)")
        other.close()
        before = path.read_bytes()

        assert "another program" in self.refused(path)

        assert path.read_bytes() == before

    def test_is_named_where_a_newer_streamkit_has_made_it_and_is_left_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "newer"
        store = SqliteCheckpoints(path)
        taken(store)
        store.close()
        with sqlite3.connect(path) as newer:
            newer.execute("PRAGMA user_version = 99")
        newer.close()
        before = path.read_bytes()

        assert "newer streamkit" in self.refused(path)

        assert path.read_bytes() == before

    def test_is_named_where_its_folder_does_not_exist(self, tmp_path: Path) -> None:
        self.refused(tmp_path / "no such folder" / "file")

    def test_is_named_where_it_is_a_folder(self, tmp_path: Path) -> None:
        self.refused(tmp_path)

    def test_is_tried_again_by_the_next_call(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        store = SqliteCheckpoints(folder / "file")
        with pytest.raises(ConfigurationError):
            store.leases("reader", "stream")

        folder.mkdir()

        assert store.leases("reader", "stream") == {}
        store.close()

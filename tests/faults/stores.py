"""The rows of the stores on AWS: each call of a store's whole face meets a fault, and is made again when that is over."""

from __future__ import annotations

import json
import re
import time
import uuid
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, NamedTuple

from streamkit.cells.base import Cell as Kept
from streamkit.cells.dynamodb import DynamoDbCells
from streamkit.checkpoints.dynamodb import DynamoDbCheckpoints
from streamkit.claims.base import StoreAway, open_claim
from streamkit.claims.s3 import S3Claims
from streamkit.errors import ConfigurationError, Unavailable
from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.marks.dynamodb import DynamoDbMarks
from streamkit.plans.base import Entry
from streamkit.plans.dynamodb import DynamoDbPlans
from streamkit.progress.dynamodb import DynamoDbProgress

from . import http_proxy
from .cells import Cell, Fault, Row
from .cloud import Cloud
from .dialects import DYNAMODB, S3_CLAIMS, Dialect
from .exchange import SLACK
from .http_proxy import Act, Answer, Cut, Request

__all__ = ["STORES", "Call", "CheckpointCalls", "StoreRow"]

#: Seconds that are enough for every try that a store makes.
LONG = 30.0


class Call(NamedTuple):
    """One method of a store."""

    name: str
    #: The request that the fault meets: what it reads before may pass.
    operation: str
    #: Given a store and a key: do to the store what this call needs before it; the result is handed to ``do``.
    before: Callable[[Any, str], Any]
    #: Given a store, the key, what ``before`` gave, and a deadline.
    do: Callable[[Any, str, Any, float], Any]
    #: Given a store that nothing harms, and the key: what is there.
    state: Callable[[Any, str], Any]
    #: What is there before, and when the call has been done.
    first: Any
    last: Any
    #: Given what ``do`` returned, and what is there: whether it is right.
    is_right: Callable[[Any, Any], bool]


def _nothing(store: Any, key: str) -> None:
    return


def soon(seconds: float = LONG) -> float:
    return time.monotonic() + seconds


class StoreRow(Row):
    """A table of its own, and a store with clients of its own making. Each call has a key of its own; all are made at once."""

    service = "moto"
    dialect: ClassVar[Dialect] = DYNAMODB
    calls: ClassVar[Sequence[Call]]
    #: Seconds until the deadline, for stores that are told one.
    short: ClassVar[float] = 0.6
    #: Seconds in which those that are told none have to give up.
    patience: ClassVar[float] = 0.6

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.proxy = cloud.aws
        table = f"faults-{uuid.uuid4().hex}"
        self.direct = self.made(table, cloud.client("dynamodb"))
        self.direct.create_table()
        self.store = self.made(table, None)
        self.warm_up()

    @abstractmethod
    def made(self, table: str, client: Any) -> Any: ...

    def close(self) -> None:
        self.store.close()

    def warm_up(self) -> None:
        """Have the clients made before time counts, and by one thread."""
        for seconds in (LONG, self.short, self.short):
            for call in self.calls:
                key = self.key_of(call)
                given = call.before(self.direct, key)
                try:
                    call.do(self.store, key, given, soon(seconds))
                except Exception:
                    assert seconds == self.short, "the store is not there"

    def key_of(self, call: Call) -> str:
        return f"{call.name}-{uuid.uuid4().hex}"

    def call_of(self, request: Request) -> tuple[str, str]:
        """Which call a request is of, by its key, and what it asks for."""
        found = re.search(rb"([a-z_]+)-[0-9a-f]{32}", request.body.replace(b"faults-", b""))
        return found[1].decode() if found else "", request.headers["X-Amz-Target"].rpartition(".")[2]

    def act(self, fault: Fault) -> Act:
        """What the fault does to the requests that it is meant for."""
        acts: dict[str, Act] = {
            "slow": http_proxy.hold,
            "refusing": self.dialect.refusing,
            "throttling": self.dialect.throttling,
            "in-part": self.in_part,
            "answer-lost": http_proxy.lose_the_answer,
        }
        meant = {(call.name, call.operation) for call in self.calls}

        def act(request: Request) -> Answer | Cut | None:
            return acts[fault](request) if self.call_of(request) in meant else request.forward()

        return act

    def in_part(self, request: Request) -> Answer | Cut | None:
        return http_proxy.cut(request)

    def check(self, fault: Fault, cell: Cell) -> None:
        self.proxy = self.cloud.aws
        keys = [self.key_of(call) for call in self.calls]
        given = [call.before(self.direct, key) for call, key in zip(self.calls, keys, strict=True)]
        before = len(self.proxy.seen)
        with self.proxy.gone() if fault == "gone" else self.proxy.failing(self.act(fault)):
            assert fault != "gone" or self.proxy.refuses_connections()
            heard = self.all_at_once(keys, given, self.short)
            assert fault != "gone" or self.proxy.refuses_connections()
        asked = self.see_what_was_done(fault, self.proxy.seen[before:])
        for call, key, (result, took) in zip(self.calls, keys, heard, strict=True):
            assert isinstance(result, Exception), f"{call.name} has heard {result!r}"
            self.see_error(call, result, cell.told)
            assert took < max(self.short, self.patience) + SLACK
            assert cell.again is not False or asked[call.name] == 1, call.name
            unheard = fault in ("slow", "in-part", "answer-lost")
            assert call.state(self.direct, key) == (call.last if unheard else call.first), call.name
        # A repeat.
        for call, key, more, (result, _) in zip(
            self.calls, keys, given, self.all_at_once(keys, given, LONG), strict=True
        ):
            self.see_right(call, key, more, result)
        if cell.again:
            self.pass_in_time(fault)

    def pass_in_time(self, fault: Fault) -> None:
        """The fault meets the first request of each call only, and there is time: the store's own tries come through."""
        keys = [self.key_of(call) for call in self.calls]
        given = [call.before(self.direct, key) for call, key in zip(self.calls, keys, strict=True)]
        act, met, before = self.act(fault), set(), len(self.proxy.seen)

        def once(request: Request) -> Answer | Cut | None:
            call = self.call_of(request)
            if call in met:
                return request.forward()
            answer = act(request)
            if request.harmed:
                met.add(call)
            return answer

        with self.proxy.failing(once):
            heard = self.all_at_once(keys, given, LONG)
        asked = self.see_what_was_done(fault, self.proxy.seen[before:])
        for call, key, more, (result, _) in zip(self.calls, keys, given, heard, strict=True):
            assert asked[call.name] > 1, f"{call.name} was not asked again"
            self.see_right(call, key, more, result)

    def all_at_once(self, keys: Sequence[str], given: Sequence[Any], seconds: float) -> list[tuple[Any, float]]:
        """What each call returned or raised, and how long it took."""

        def do(call: Call, key: str, more: Any) -> tuple[Any, float]:
            started = time.monotonic()
            try:
                result = call.do(self.store, key, more, soon(seconds))
            except Exception as error:
                result = error
            return result, time.monotonic() - started

        with ThreadPoolExecutor(len(keys)) as pool:
            return list(pool.map(do, self.calls, keys, given))

    def see_what_was_done(self, fault: Fault, requests: Sequence[Request]) -> Counter[str]:
        """The proxy's account of it: each call met the fault. How often each was asked for."""
        if fault == "gone":
            assert requests == []
            return Counter()
        harmed = [request for request in requests if request.harmed]
        assert {self.call_of(request)[0] for request in harmed} == {call.name for call in self.calls}
        has_effect = fault not in ("refusing", "throttling")
        assert all(bool(request.reached) == has_effect for request in harmed)
        meant = {(call.name, call.operation) for call in self.calls}
        # A look-up's further pages are not a second asking.
        firsts = [one for one in requests if b'"ExclusiveStartKey"' not in one.body]
        return Counter(self.call_of(one)[0] for one in firsts if self.call_of(one) in meant)

    def see_error(self, call: Call, error: Exception, told: str) -> None:
        assert told == "raises"
        assert not isinstance(error, ConfigurationError), error

    def see_right(self, call: Call, key: str, given: Any, result: Any) -> None:
        if isinstance(result, Exception):
            raise AssertionError(f"{call.name} raised where nothing was wrong any more") from result
        state = call.state(self.direct, key)
        assert state == call.last, call.name
        assert call.is_right(result, state), f"{call.name} has heard {result!r}"


def _cells(told: str = "raises", *, cut_passes: bool = False) -> Mapping[Fault, Cell]:
    return {
        "slow": Cell(told, None, "harmless"),
        "refusing": Cell(told, False, "harmless"),
        "throttling": Cell(told, True, "harmless"),
        "in-part": Cell(told, cut_passes, "harmless"),
        "gone": Cell(told, None, "harmless"),
        "answer-lost": Cell(told, True, "harmless"),
    }


class _Paged(StoreRow):
    """Look-ups that are answered in pages: the first comes, and the second breaks off."""

    def in_part(self, request: Request) -> Answer | Cut | None:
        if self.call_of(request)[1] != "Query":
            return http_proxy.cut(request)
        if "ExclusiveStartKey" in request.json:
            return http_proxy.cut(request)
        request.harmed = True
        answer = request.forward(json.dumps({**request.json, "Limit": 1}).encode())
        assert b"LastEvaluatedKey" in answer[2], "it is the first page of several"
        return answer


# Progress

SHARD = "stream/shardId-000000000000"


def _entries(store: Any, key: str, given: Any, deadline: float) -> Any:
    return list(store.entries(key, SHARD, 10**30, deadline=deadline))


def _save_entry(store: Any, key: str, given: Any = None, deadline: float | None = None) -> None:
    store.save(key, SHARD, 7, b"entry", deadline=deadline or soon())


class OfProgress(StoreRow):
    backend, cells = DynamoDbProgress, _cells()
    calls = (
        Call(
            *("save", "PutItem", _nothing, _save_entry, lambda store, key: _entries(store, key, None, soon())),
            *([], [b"entry"], lambda result, state: result is None),
        ),
        Call(
            *("entries", "Query", _save_entry, _entries, lambda store, key: _entries(store, key, None, soon())),
            *([b"entry"], [b"entry"], lambda result, state: result == [b"entry"]),
        ),
    )

    def made(self, table: str, client: Any) -> Any:
        return DynamoDbProgress(table, client=client)


# Ledger

GROUP, IDS, ADDED = "group", ("one", "two"), 1000.0


def _pending(store: Any, key: str) -> dict[str, Any]:
    """The failed tries of each pending id, by group."""
    parked = store.parked(key, deadline=soon())
    return {group: {name: one.attempts for name, one in found.pending.items()} for group, found in parked.items()}


def _add(store: Any, key: str, given: Any = None, deadline: float | None = None) -> float:
    added: float = store.add(key, GROUP, IDS, ADDED, deadline=deadline or soon())
    return added


def _add_two_groups(store: Any, key: str) -> None:
    _add(store, key)
    store.add(key, "another", IDS, ADDED, deadline=soon())


BOTH = {"one": 0, "two": 0}


class OfLedger(_Paged):
    backend, cells = DynamoDbLedger, _cells()
    calls = (
        Call(
            *("parked", "Query", _add_two_groups, lambda store, key, _, deadline: store.parked(key, deadline=deadline)),
            *(_pending, {GROUP: BOTH, "another": BOTH}, {GROUP: BOTH, "another": BOTH}),
            lambda result, state: set(result) == {GROUP, "another"},
        ),
        Call(
            *("key", "GetItem", _add, lambda store, key, _, deadline: store.key(key, GROUP, deadline=deadline)),
            *(_pending, {GROUP: BOTH}, {GROUP: BOTH}, lambda result, state: set(result.pending) == set(IDS)),
        ),
        Call(
            # What was added unheard is added again: under a time that is a millisecond later.
            *("add", "UpdateItem", _nothing, _add, _pending, {}, {GROUP: BOTH}),
            lambda result, state: ADDED <= result <= ADDED + 0.01,
        ),
        Call(
            "count",
            "UpdateItem",
            _add,
            lambda store, key, _, deadline: store.count(key, GROUP, "one", 2, None, deadline=deadline),
            _pending,
            {GROUP: BOTH},
            {GROUP: {"one": 2, "two": 0}},
            lambda result, state: result is None,
        ),
        Call(
            "remove",
            "UpdateItem",
            _add,
            lambda store, key, added, deadline: store.remove(key, GROUP, {"one": added}, 0.0, deadline=deadline),
            _pending,
            {GROUP: BOTH},
            {GROUP: {"two": 0}},
            lambda result, state: result is None,
        ),
        Call(
            "remove_all",
            "DeleteItem",
            _add,
            lambda store, key, added, deadline: store.remove(key, GROUP, {}, added + 1, deadline=deadline),
            _pending,
            {GROUP: BOTH},
            {},
            lambda result, state: result is None,
        ),
    )

    def made(self, table: str, client: Any) -> Any:
        return DynamoDbLedger(table, client=client)


# Marks


def _mark(store: Any, key: str) -> tuple[str, bool] | None:
    item = store._table.clients.given.get_item(TableName=store.table, Key={"key": {"S": key}}).get("Item")
    return (item["owner"]["S"], item["done"]["BOOL"]) if item else None


def _start(store: Any, key: str, given: Any = None, deadline: float = 0.0) -> Any:
    return store.start(key, "me", now=1000.0, until=2000.0)


class OfMarks(StoreRow):
    # It is told no deadline, and takes its three tries in any case: of a second each, with up to one and two between.
    backend, cells, patience = DynamoDbMarks, _cells(), 6.0
    calls = (
        Call(
            "start", "PutItem", _nothing, _start, _mark, None, ("me", False), lambda result, state: result == "started"
        ),
        Call(
            *("finish", "UpdateItem", _start, lambda store, key, *_: store.finish(key, "me", now=1500.0)),
            *(_mark, ("me", False), ("me", True), lambda result, state: result is True),
        ),
        Call(
            *("release", "DeleteItem", _start, lambda store, key, *_: store.release(key, "me")),
            *(_mark, ("me", False), None, lambda result, state: result is None),
        ),
    )

    def made(self, table: str, client: Any) -> Any:
        return DynamoDbMarks(table, client=client)


# Plans

PLAN = Entry(1, b"plan")


def _read_plan(store: Any, key: str, given: Any = None, deadline: float | None = None) -> Any:
    return store.read(key, "table", SHARD, deadline=deadline or soon())


def _save_plan(store: Any, key: str, given: Any = None, deadline: float | None = None) -> Any:
    return store.save(key, "table", SHARD, PLAN, deadline=deadline or soon())


class OfPlans(StoreRow):
    backend, cells = DynamoDbPlans, _cells()
    calls = (
        Call("read", "GetItem", _save_plan, _read_plan, _read_plan, PLAN, PLAN, lambda result, state: result == PLAN),
        Call("save", "PutItem", _nothing, _save_plan, _read_plan, None, PLAN, lambda result, state: result is True),
    )

    def made(self, table: str, client: Any) -> Any:
        return DynamoDbPlans(table, client=client)


# Cells

FIRST, SECOND = Kept({"n": 1}, "one"), Kept({"n": 2}, "two")


def _get(store: Any, key: str, given: Any = None, deadline: float = 0.0) -> Any:
    return store.get(key)


def _put_first(store: Any, key: str, given: Any = None, deadline: float = 0.0) -> Any:
    return store.put(key, FIRST.value, FIRST.version, seen=None)


def _put_second(store: Any, key: str, given: Any = None, deadline: float = 0.0) -> Any:
    return store.put(key, SECOND.value, SECOND.version, seen=FIRST)


def _one_was_written(result: Any, state: Any) -> bool:
    """By this call, or by the one before that nobody heard of."""
    return result in (True, False)


class OfCells(StoreRow):
    # One request of two seconds each: who tries again, and knows a write of its own, is ``streamkit.cells.change``.
    backend, patience = DynamoDbCells, 2.0
    cells = {
        **_cells(),
        "throttling": Cell("raises", False, "harmless"),
        "answer-lost": Cell("raises", False, "harmless"),
    }
    calls = (
        Call("get", "GetItem", _put_first, _get, _get, FIRST, FIRST, lambda result, state: result == FIRST),
        Call("put", "PutItem", _nothing, _put_first, _get, None, FIRST, _one_was_written),
        Call("put_over", "PutItem", _put_first, _put_second, _get, FIRST, SECOND, _one_was_written),
    )

    def made(self, table: str, client: Any) -> Any:
        return DynamoDbCells(table, client=client)


# Checkpoints

STREAM, SHARDS = "stream", ("shard-0", "shard-1")


def _leases(store: Any, key: str) -> dict[str, tuple[str, int, int | None, bool]]:
    """Owner, beat, checkpoint and end of each shard."""
    found = store.leases(key, STREAM)
    return {name: (one.owner, one.beat, one.checkpoint, one.has_ended) for name, one in found.items()}


def _take(store: Any, key: str, given: Any = None, deadline: float = 0.0) -> Any:
    return store.take(key, STREAM, SHARDS[0], "me", None)


def _take_both(store: Any, key: str) -> None:
    for shard in SHARDS:
        store.take(key, STREAM, shard, "me", None)


def _of(owner: str = "me", beat: int = 0, checkpoint: int | None = None, has_ended: bool = False) -> dict[str, Any]:
    return {SHARDS[0]: (owner, beat, checkpoint, has_ended)}


class CheckpointCalls:
    """The calls of every checkpoint store."""

    calls: ClassVar[Sequence[Call]] = (
        Call(
            *("leases", "Query", _take_both, lambda store, key, *_: _leases(store, key), _leases),
            *(dict.fromkeys(SHARDS, ("me", 0, None, False)),) * 2,
            lambda result, state: result == state,
        ),
        Call(
            *("take", "UpdateItem", _nothing, _take, _leases, {}, _of()),
            lambda result, state: result is not None and (result.owner, result.term) == ("me", 1),
        ),
        Call(
            *("renew", "UpdateItem", _take, lambda store, key, lease, _: store.renew(lease)),
            *(_leases, _of(), _of(beat=1), lambda result, state: result.beat == 1),
        ),
        Call(
            *("save", "UpdateItem", _take, lambda store, key, lease, _: store.save(lease, 5)),
            *(_leases, _of(), _of(checkpoint=5), lambda result, state: result is None),
        ),
        Call(
            *("end", "UpdateItem", _take, lambda store, key, lease, _: store.end(lease, 6)),
            *(_leases, _of(), _of(checkpoint=6, has_ended=True), lambda result, state: result is None),
        ),
        Call(
            *("give_up", "UpdateItem", _take, lambda store, key, lease, _: store.give_up(lease)),
            *(_leases, _of(), _of(owner=""), lambda result, state: result is None),
        ),
    )


PASSES, STAYS = "raises what may pass", "raises what does not pass"


class OfCheckpoints(CheckpointCalls, _Paged):
    # Told no deadline: two tries of a second each, and up to a second between.
    backend, patience = DynamoDbCheckpoints, 3.0
    cells = {**_cells(PASSES), "refusing": Cell(STAYS, False, "harmless")}

    def made(self, table: str, client: Any) -> Any:
        return DynamoDbCheckpoints(table, client=client)

    def see_error(self, call: Call, error: Exception, told: str) -> None:
        assert not isinstance(error, ConfigurationError), error
        assert self.store.may_pass(error) == {PASSES: True, STAYS: False}[told], error


# Claims

AWAY, NOT_THAT_ONE = "put raises, fetch says StoreAway", "put raises, fetch says Unavailable"


def _put(store: Any, key: str, given: Any = None, deadline: float | None = None) -> Any:
    return store.put(key, "event", deadline=deadline or soon())


def _is_there(store: Any, key: str) -> bool:
    import hashlib

    name = f"streamkit-claims/{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    found = store._clients.given.list_objects_v2(Bucket=store.bucket, Prefix=name)
    return bool(found["KeyCount"])


def _fetch(store: Any, key: str, claim: str, deadline: float) -> bool:
    opened = open_claim(claim)
    assert opened is not None
    return bool(store.fetch(opened, deadline=deadline) == key)


class OfS3Claims(StoreRow):
    backend, dialect = S3Claims, S3_CLAIMS
    cells = {**_cells(AWAY, cut_passes=True), "refusing": Cell(NOT_THAT_ONE, False, "harmless")}
    calls = (
        Call(
            "put", "PUT", _nothing, _put, _is_there, False, True, lambda result, state: open_claim(result) is not None
        ),
        Call("fetch", "GET", _put, _fetch, _is_there, True, True, lambda result, state: result is True),
    )

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.proxy = cloud.aws
        bucket = uuid.uuid4().hex
        cloud.client("s3").create_bucket(Bucket=bucket)
        self.direct = self.made(bucket, cloud.client("s3"))
        self.store = self.made(bucket, None)
        self.warm_up()

    def made(self, table: str, client: Any) -> Any:
        return S3Claims(table, client=client)

    def call_of(self, request: Request) -> tuple[str, str]:
        return {"PUT": "put", "GET": "fetch"}.get(request.method, ""), request.method

    def see_error(self, call: Call, error: Exception, told: str) -> None:
        assert not isinstance(error, ConfigurationError), error
        if call.name == "fetch":
            assert isinstance(error, Unavailable)
            assert isinstance(error, StoreAway) == (told == AWAY), error


#: A store on AWS that is new gets its row here.
STORES: Sequence[type[StoreRow]] = (
    OfProgress,
    OfLedger,
    OfMarks,
    OfPlans,
    OfCells,
    OfCheckpoints,
    OfS3Claims,
)

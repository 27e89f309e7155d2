"""Long tasks: one invocation by a clock that is told, and whole chains by way of a real endpoint that invokes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from streamkit.cells.change import Clock
from streamkit.cells.dynamodb import DynamoDbCells
from streamkit.cells.memory import MemoryCells
from streamkit.claims.s3 import S3Claims
from streamkit.errors import ConfigurationError, StreamkitError, Unavailable
from streamkit.recursion import Done, HopHeld, HopsExceeded, LongTask, NoProgress, hop, long_task_handler
from streamkit.recursion.hop import MARK

from ..faults.http_proxy import HttpProxy, lose_the_answer
from ..lambda_server import Crash, LambdaServer, lambda_client


class Time:
    """A clock that a test sets on, and a context that ends by it."""

    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:export"
    aws_request_id = "r0"

    def __init__(self, seconds: float = 60.0) -> None:
        self.now = 1000.0
        self.ends = self.now + seconds

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def get_remaining_time_in_millis(self) -> float:
        return max(0.0, self.ends - self.now) * 1000

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: self.now, self.sleep)


class Sent:
    """In the place of boto3's client, for what no server is needed: it keeps the events."""

    def __init__(self, *answers: Exception | int) -> None:
        self.answers = list(answers)
        self.events: list[Any] = []
        self.functions: list[str] = []

    def invoke(self, FunctionName: str, InvocationType: str, Payload: bytes) -> dict[str, int]:  # noqa: N803  # boto3's names.
        assert InvocationType == "Event"
        self.functions.append(FunctionName)
        answer = self.answers.pop(0) if self.answers else 202
        if isinstance(answer, Exception):
            raise answer
        self.events.append(json.loads(Payload))
        return {"StatusCode": answer}


class Throttled(Exception):
    response = {"Error": {"Code": "TooManyRequestsException"}, "ResponseMetadata": {"HTTPStatusCode": 429}}


class Denied(Exception):
    response = {"Error": {"Code": "AccessDeniedException"}, "ResponseMetadata": {"HTTPStatusCode": 403}}


class Count(LongTask):
    """Counts from 0 to ``last``, a number a step."""

    name = "count"
    last = 10

    def __init__(self, time: Time | None = None, seconds: float = 1.0) -> None:
        self.time = time
        self.seconds = seconds
        self.stepped: list[int] = []

    def start(self, event: Any) -> Any:
        return 0

    def step(self, cursor: Any, context: Any) -> Any:
        self.stepped.append(cursor)
        if self.time is not None:
            self.time.now += self.seconds
        return cursor + 1 if cursor < self.last else Done({"counted": cursor})


class TestOneInvocation:
    def test_that_has_time_for_all_steps_needs_no_other(self) -> None:
        time, sent = Time(), Sent()

        answer = long_task_handler(Count(time), client=sent, clock=time.clock)({}, time)

        assert answer == {"chain": "r0", "hop": 0, "state": "done", "steps": 11, "result": {"counted": 10}}
        assert sent.events == []

    @pytest.mark.parametrize("ping", [{"streamkit": "warm", "hold": 1}, {"streamkit": "health"}])
    def test_that_is_a_ping_is_answered_and_starts_no_chain(self, ping: Any) -> None:
        time, sent = Time(1.0), Sent()
        count, cells = Count(time, 5.0), MemoryCells()
        count.guard = cells

        answer: Any = long_task_handler(count, client=sent, clock=time.clock)(ping, time)

        assert len(answer["container"]) == 16
        assert (count.stepped, sent.events) == ([], [])

    @pytest.mark.parametrize(("seconds", "steps"), [(30, 4), (15.1, 1), (21, 2), (1, 1), (60, 10)])
    def test_stops_while_another_step_and_the_margin_have_time_and_hands_its_cursor_over(
        self, seconds: float, steps: int
    ) -> None:
        time, sent = Time(seconds), Sent()
        count = Count(time, 5.0)
        count.last = 100

        answer = long_task_handler(count, client=sent, clock=time.clock)({}, time)

        assert (answer["state"], answer["steps"]) == ("passed on", steps)
        (event,) = sent.events
        assert (event["hop"], event["cursor"], event["chain"]) == (1, steps, "r0")
        assert sent.functions == [time.invoked_function_arn]
        assert seconds < 15 or time.ends - time.now >= count.deadline_margin

    def test_goes_on_from_the_cursor_of_its_event_and_needs_nothing_of_the_container_before(self) -> None:
        time, sent = Time(15.1), Sent()
        long_task_handler(Count(time, 5.0), client=sent, clock=time.clock)({}, time)
        other = Count(Time())

        answer = long_task_handler(other, client=sent)(sent.events[0], Time())

        assert (answer["chain"], answer["hop"], answer["state"]) == ("r0", 1, "done")
        assert other.stepped == list(range(1, 11))

    def test_that_ends_where_it_began_is_an_error_and_hands_nothing_over(self) -> None:
        class Stuck(Count):
            def step(self, cursor: Any, context: Any) -> Any:
                super().step(cursor, context)
                return 0

        time, sent = Time(), Sent()

        with pytest.raises(NoProgress, match="50 steps of hop 0 of the chain r0"):
            long_task_handler(Stuck(time), client=sent, clock=time.clock)({}, time)

        assert sent.events == []

    def test_beyond_the_budget_of_hops_does_nothing_and_says_which_setting(self) -> None:
        count = Count()
        count.max_hops = 3
        hop = {MARK: 1, "task": "count", "chain": "c", "hop": 3, "started": 1.0, "cursor": 3}

        with pytest.raises(HopsExceeded, match=r"has had 3 invocations.*raise max_hops"):
            long_task_handler(count, client=Sent())(hop, Time())

        assert count.stepped == []

    def test_counts_hops_and_steps(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setenv("STREAMKIT_METRICS", "emf")
        count = Count()
        handler = long_task_handler(count, client=Sent())
        handler({}, Time())
        line = json.loads(capsys.readouterr().out)
        assert (line["long_task.hops"], line["long_task.steps"], line["long_task.done"]) == (1, 11, 1)
        assert line["Processor"] == "count"
        count.max_hops = 1

        with pytest.raises(HopsExceeded):
            handler({MARK: 1, "task": "count", "chain": "c", "hop": 1, "started": 1.0, "cursor": 3}, Time())

        line = json.loads(capsys.readouterr().out)
        assert (line["long_task.hops_exceeded"], line["Errors"], line["Error"]) == (1, 1, "HopsExceeded")

    def test_whose_invoke_is_throttled_tries_until_its_time_is_up_and_then_raises(self) -> None:
        time, sent = Time(15.1), Sent(*[Throttled()] * 100)

        with pytest.raises(StreamkitError, match="could not be invoked: TooManyRequestsException"):
            long_task_handler(Count(time, 5.0), client=sent, clock=time.clock)({}, time)

        assert len(sent.functions) > 3
        assert 0 < time.ends - time.now < 10

    def test_whose_invoke_is_refused_raises_at_once_and_says_what_is_missing(self) -> None:
        time, sent = Time(15.1), Sent(Denied())

        with pytest.raises(StreamkitError, match="needs lambda:InvokeFunction on itself"):
            long_task_handler(Count(time, 5.0), client=sent, clock=time.clock)({}, time)

        assert len(sent.functions) == 1

    def test_gives_the_place_up_where_it_fails_so_that_the_next_try_begins_at_once(self) -> None:
        time, sent = Time(15.1), Sent(Denied())
        count = Count(time, 5.0)
        count.guard = MemoryCells()
        handler = long_task_handler(count, client=sent, clock=time.clock)
        with pytest.raises(StreamkitError):
            handler({}, time)
        time.ends = time.now + 15.1
        before = time.now

        assert handler({}, time)["state"] == "passed on"

        assert time.now - before == pytest.approx(5.0)
        assert count.stepped == [0, 0]

    def test_that_can_not_tell_its_guard_what_it_has_done_has_done_it(self, caplog: pytest.LogCaptureFixture) -> None:
        class Away(MemoryCells):
            puts = 0

            def put(self, *arguments: Any, **named: Any) -> bool:
                self.puts += 1
                if self.puts > 1:
                    raise ConnectionError("away")
                return super().put(*arguments, **named)

        count = Count()
        count.guard = Away()

        assert long_task_handler(count, client=Sent())({}, Time())["state"] == "done"

        assert "the guard of the chain r0 could not be told: ConnectionError" in caplog.text

    def test_waits_for_a_dead_try_for_half_its_time_and_lambdas_last_try_has_the_rest_for_steps(self) -> None:
        """The first dies at once. Lambda's second comes after a minute, its third two minutes behind the end of that."""
        time, sent = Time(900), Sent()
        count = Count(time)
        count.guard = MemoryCells()
        handler = long_task_handler(count, client=sent, clock=time.clock)

        class Dying(Count):
            def step(self, cursor: Any, context: Any) -> Any:
                raise Crash

        dying = Dying(time)
        dying.guard = count.guard
        with pytest.raises(Crash):
            long_task_handler(dying, client=sent, clock=time.clock)({}, time)
        time.now += 60
        time.ends = time.now + 900
        with pytest.raises(HopHeld):
            handler({}, time)
        assert time.ends - time.now >= 450
        time.now += 120
        time.ends = time.now + 900

        assert handler({}, time)["state"] == "done"

        assert time.ends - time.now >= 450

    def test_starts_nothing_where_its_guard_is_away(self) -> None:
        class Away(MemoryCells):
            def get(self, key: str) -> Any:
                raise ConnectionError("away")

        count = Count()
        count.guard = Away()

        with pytest.raises(ConnectionError):
            long_task_handler(count, client=Sent())({}, Time())

        assert count.stepped == []

    def test_needs_a_context_that_names_its_function_only_to_go_on(self) -> None:
        assert long_task_handler(Count, client=Sent())({})["state"] == "done"

    def test_shows_no_cursor_in_an_error(self) -> None:
        class Fat(Count):
            def step(self, cursor: Any, context: Any) -> Any:
                return "secret" * 100_000

        time = Time(5)
        with pytest.raises(ConfigurationError, match="payload_bytes is 262,144") as raised:
            long_task_handler(Fat(time), client=Sent(), clock=time.clock)({}, time)

        assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(
            ("name", ""),
            ("name", "x" * 201),
            ("max_hops", 0),
            ("max_hops", True),
            ("max_hops", 1.5),
            ("deadline_margin", 0),
        ),
        *(
            ("deadline_margin", 900),
            ("payload_bytes", 100),
            ("payload_bytes", 2_000_000),
            ("claims", "bucket"),
            ("guard", "t"),
        ),
    ],
)
def test_an_option_that_can_not_be_is_named(option: str, value: Any) -> None:
    count = Count()
    setattr(count, option, value)

    with pytest.raises(ConfigurationError, match=rf"Count\.{option}: "):
        long_task_handler(count, client=Sent())({})


def test_a_task_without_a_name_is_known_by_its_class() -> None:
    class Other(LongTask):
        def step(self, cursor: Any, context: Any) -> Any:
            return Done()

    assert Other.name.endswith("test_a_task_without_a_name_is_known_by_its_class.<locals>.Other")


# Whole chains.


@pytest.fixture
def server() -> LambdaServer:
    return LambdaServer(timeout=3)


@pytest.fixture
def endpoint(server: LambdaServer) -> Iterator[str]:
    with server.running() as endpoint:
        yield endpoint


@pytest.fixture
def client(endpoint: str) -> Iterator[Any]:
    made = lambda_client(endpoint)
    yield made
    made.close()


def aws(service: str, endpoint: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )


@pytest.fixture
def cells(moto_endpoint: str) -> Iterator[DynamoDbCells]:
    made = aws("dynamodb", moto_endpoint)
    store = DynamoDbCells(f"chains-{uuid.uuid4().hex}", client=made)
    store.create_table()
    yield store
    made.delete_table(TableName=store.table)
    made.close()


@pytest.fixture
def claims(moto_endpoint: str) -> Iterator[S3Claims]:
    made = aws("s3", moto_endpoint)
    bucket = f"cursors-{uuid.uuid4().hex}"
    made.create_bucket(Bucket=bucket)
    yield S3Claims(bucket, client=made)
    made.close()


class Copy(LongTask):
    """Puts the numbers below 12 somewhere, three in each invocation, with what a test does before each."""

    name = "copy"
    deadline_margin = 1.0

    def __init__(self, done: list[int], before: Callable[[int], None] = lambda n: None) -> None:
        self.done = done
        self.before = before
        self.in_this_container = 0

    def start(self, event: Any) -> Any:
        return {"next": 0}

    def step(self, cursor: Any, context: Any) -> Any:
        n = cursor["next"]
        self.before(n)
        self.done.append(n)
        if n % 3 == 2:
            # Its time is up.
            context._ends_at = context.monotonic() + self.deadline_margin
        return {**cursor, "next": n + 1} if n < 11 else Done(n)


def start(server: LambdaServer, task: Callable[[], LongTask], client: Any, event: Any = None) -> None:
    """Each invocation has a container of its own: nothing in memory comes from one before."""
    server.functions["export"] = lambda event, context: long_task_handler(task, client=client)(event, context)
    server.accept("export", json.dumps(event or {}).encode())
    server.wait()


def states(server: LambdaServer) -> list[tuple[int, str]]:
    return [(one.answer["hop"], one.answer["state"]) for one in server.invocations if one.answer is not None]


ONCE = [(0, "passed on"), (1, "passed on"), (2, "passed on"), (3, "done")]


def test_a_chain_goes_through_several_containers_to_its_end(server: LambdaServer, client: Any) -> None:
    done: list[int] = []

    start(server, lambda: Copy(done), client)

    assert done == list(range(12))
    assert states(server) == ONCE
    assert len({one.answer["chain"] for one in server.invocations}) == 1
    assert server.invocations[-1].answer["result"] == 11


def test_a_crash_between_two_steps_repeats_the_hop_from_its_cursor(
    server: LambdaServer, client: Any, cells: DynamoDbCells
) -> None:
    done: list[int] = []
    crashes = [4]

    def crash(n: int) -> None:
        if n in crashes:
            crashes.remove(n)
            raise Crash

    def task() -> Copy:
        made = Copy(done, crash)
        made.guard = cells
        return made

    server.timeout = 2
    server.retry_after = 8.0  # As long as Lambda takes at least, the dead try's time is over.
    start(server, task, client)

    assert done == [0, 1, 2, 3, 3, 4, 5, *range(6, 12)]
    assert sorted(set(states(server))) == ONCE


@pytest.mark.parametrize("is_guarded", [True, False])
def test_a_crash_between_the_last_step_and_the_invocation_of_the_next_hop_repeats_the_hop(
    is_guarded: bool, server: LambdaServer, client: Any, cells: DynamoDbCells
) -> None:
    done: list[int] = []
    crashes = [1]

    class Dying:
        def invoke(self, **named: Any) -> Any:
            if crashes:
                crashes.pop()
                raise Crash
            return client.invoke(**named)

    def task() -> Copy:
        made = Copy(done)
        made.guard = cells if is_guarded else None
        return made

    server.timeout, server.retry_after = 2, 8.0 if is_guarded else 0.05
    start(server, task, Dying())

    assert done == [0, 1, 2, *range(12)]
    assert states(server) == ONCE


def test_a_crash_behind_the_invocation_of_the_next_hop_repeats_nothing_where_there_is_a_guard(
    server: LambdaServer, client: Any, cells: DynamoDbCells
) -> None:
    done: list[int] = []
    crashes = [1]

    class Dying:
        def invoke(self, **named: Any) -> Any:
            answer = client.invoke(**named)
            if crashes:
                crashes.pop()
                raise Crash
            return answer

    def task() -> Copy:
        made = Copy(done)
        made.guard = cells
        return made

    start(server, task, Dying())

    assert done == list(range(12))
    assert (0, "left") in states(server)


def test_each_event_delivered_twice_is_one_chain_where_there_is_a_guard(
    server: LambdaServer, client: Any, cells: DynamoDbCells
) -> None:
    done: list[int] = []
    server.copies = lambda n: 2

    def task() -> Copy:
        made = Copy(done)
        made.guard = cells
        return made

    start(server, task, client)

    assert done == list(range(12))
    assert sorted(state for state in states(server) if state[1] != "left") == ONCE
    assert [one.error for one in server.invocations if one.error] == []


def test_each_event_delivered_twice_is_two_chains_without_a_guard(server: LambdaServer, client: Any) -> None:
    done: list[int] = []
    server.copies = lambda n: 2 if n == 0 else 1

    start(server, lambda: Copy(done), client)

    assert sorted(done) == sorted([*range(12), *range(12)])


def test_an_invocation_whose_answer_is_lost_is_one_chain_where_there_is_a_guard(
    server: LambdaServer, endpoint: str, cells: DynamoDbCells
) -> None:
    done: list[int] = []
    proxy = HttpProxy(endpoint)
    through = lambda_client(proxy.endpoint)
    losses = [2, 2]

    def act(request: Any) -> Any:
        if losses:
            losses.pop()
            return lose_the_answer(request)
        return request.forward()

    def task() -> Copy:
        made = Copy(done)
        made.guard = cells
        return made

    try:
        with proxy.failing(act):
            start(server, task, through)
    finally:
        through.close()
        proxy.close()

    assert losses == []
    assert done == list(range(12))
    assert [state for state in states(server) if state[1] == "left"], "no copy was made"


def test_throttles_of_the_next_hop_are_waited_for(server: LambdaServer, endpoint: str) -> None:
    done: list[int] = []
    proxy = HttpProxy(endpoint)
    through = lambda_client(proxy.endpoint)
    left = [1, 2, 3]

    def act(request: Any) -> Any:
        if left:
            left.pop()
            body = b'{"Type": "User", "message": "Rate Exceeded."}'
            return 429, {"x-amzn-ErrorType": "TooManyRequestsException", "Content-Type": "application/json"}, body
        return request.forward()

    try:
        with proxy.failing(act):
            start(server, lambda: Copy(done), through)
    finally:
        through.close()
        proxy.close()

    assert done == list(range(12))


def test_a_step_that_always_fails_ends_as_lambda_ends_it_with_the_cursor_in_the_event(
    server: LambdaServer, client: Any, cells: DynamoDbCells
) -> None:
    done: list[int] = []

    def fail(n: int) -> None:
        if n == 7:
            raise ValueError("no")

    def task() -> Copy:
        made = Copy(done, fail)
        made.guard = cells
        return made

    start(server, task, client)

    (event,) = server.given_up
    assert (event["hop"], event["cursor"]) == (2, {"next": 6})
    assert done == [*range(6), 6, 6, 6]

    # What was wrong is put right: the same event goes on.
    fine: list[int] = []

    def right() -> Copy:
        made = Copy(fine)
        made.guard = cells
        return made

    start(server, right, client, event)
    assert fine == list(range(6, 12))


def test_a_chain_that_failed_for_good_is_started_anew_by_another_id_or_when_its_item_is_deleted(
    server: LambdaServer, client: Any, cells: DynamoDbCells, moto_endpoint: str, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[int] = []
    is_broken = True

    def fail(n: int) -> None:
        if is_broken and n == 7:
            raise ValueError("no")

    class Daily(Copy):
        def chain(self, event: Any) -> str:
            return str(event["day"])

    def task() -> Copy:
        made = Daily(done, fail)
        made.guard = cells
        return made

    start(server, task, client, {"day": "monday"})
    (event,) = server.given_up
    is_broken = False

    # By the same id: left, which says so when Lambda can't come any more.
    key = hop.decode(event, "copy").key
    cell = cells.get(key)
    assert cell is not None
    assert cell.value["failed_at"] > 0
    assert cells.put(key, {**cell.value, "failed_at": 1000.0}, "later", seen=cell)
    done.clear()
    start(server, task, client, {"day": "monday"})
    assert done == []
    assert states(server)[-1] == (0, "left")
    (said,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "held at hop 2, over since 1970-01-01T00:16:40Z" in said
    assert key in said

    # By another id, and when the item is gone.
    start(server, task, client, {"day": "monday, again"})
    assert done == list(range(12))
    done.clear()
    dynamodb = aws("dynamodb", moto_endpoint)
    dynamodb.delete_item(TableName=cells.table, Key={"key": {"S": key}})
    dynamodb.close()
    start(server, task, client, {"day": "monday"})
    assert done == list(range(12))


def test_a_runaway_chain_ends_by_its_budget_and_can_go_on(server: LambdaServer, client: Any) -> None:
    class Endless(Copy):
        max_hops = 5

        def step(self, cursor: Any, context: Any) -> Any:
            self.done.append(cursor["next"])
            context._ends_at = context.monotonic()
            return {"next": cursor["next"] + 1}

    done: list[int] = []
    start(server, lambda: Endless(done), client)

    assert done == list(range(5))
    (event,) = server.given_up
    assert event["cursor"] == {"next": 5}
    assert [type(one.error) for one in server.invocations[5:]] == [HopsExceeded] * 3


class TestALargeCursor:
    class Fat(Copy):
        payload_bytes = 10_000

        def start(self, event: Any) -> Any:
            return {"next": 0, "seen": "é" * 20_000}

        def step(self, cursor: Any, context: Any) -> Any:
            assert cursor["seen"] == "é" * 20_000
            return super().step(cursor, context)

    def test_goes_by_the_claim_store(self, server: LambdaServer, client: Any, claims: S3Claims) -> None:
        done: list[int] = []

        def task() -> Copy:
            made = self.Fat(done)
            made.claims = claims
            return made

        start(server, task, client)

        assert done == list(range(12))
        assert states(server) == ONCE
        events = [one.event for one in server.invocations[1:]]
        assert all("cursor" not in event and len(json.dumps(event)) < 10_000 for event in events)

    def test_that_is_gone_is_an_error_without_any_step(
        self, server: LambdaServer, client: Any, claims: S3Claims
    ) -> None:
        def task() -> Copy:
            made = self.Fat(done)
            made.claims = claims
            return made

        done: list[int] = []
        time = Time(0.5)
        sent = Sent()
        long_task_handler(task(), client=sent, clock=time.clock)({}, time)
        key = json.loads(sent.events[0]["claim"])["key"]
        claims._clients.given.delete_object(Bucket=claims.bucket, Key=key)
        done.clear()

        with pytest.raises(StreamkitError, match="its body is gone"):
            long_task_handler(task(), client=sent)(sent.events[0], Time())

        assert done == []

    @pytest.mark.parametrize("claim", ["", "no claim", "{}", '{"streamkit_claim":1}'])
    def test_whose_claim_is_none_is_an_error(self, claim: str, claims: S3Claims) -> None:
        made = self.Fat([])
        made.claims = claims
        event = {MARK: 1, "task": "copy", "chain": "c", "hop": 1, "started": 1.0, "claim": claim}

        with pytest.raises(StreamkitError):
            long_task_handler(made, client=Sent())(event, Time())

        assert made.done == []

    def test_of_another_bucket_is_not_read(self, claims: S3Claims) -> None:
        made = self.Fat([])
        made.claims = S3Claims("mine", client=claims._clients.given)
        claim = claims.put('{"next": 0}', "c", deadline=1e12)
        event = {MARK: 1, "task": "copy", "chain": "c", "hop": 1, "started": 1.0, "claim": claim}

        with pytest.raises(Unavailable, match="in another bucket"):
            long_task_handler(made, client=Sent())(event, Time())


def test_state_in_memory_is_an_optimisation_and_never_needed(server: LambdaServer, client: Any) -> None:
    """The same chain, in one container for all of it and in a new one for each invocation: the same steps."""
    warm: list[int] = []
    one = Copy(warm)
    start(server, lambda: one, client)
    cold: list[int] = []
    start(server, lambda: Copy(cold), client)

    assert warm == cold == list(range(12))


def test_a_chain_that_is_started_twice_by_one_id_runs_once(
    server: LambdaServer, client: Any, cells: DynamoDbCells
) -> None:
    done: list[int] = []

    class Daily(Copy):
        def chain(self, event: Any) -> str:
            return str(event["day"])

    def task() -> Copy:
        made = Daily(done)
        made.guard = cells
        return made

    for day in ("monday", "monday", "tuesday"):
        start(server, task, client, {"day": day})

    assert done == [*range(12), *range(12)]


def test_a_hop_that_comes_again_long_after_does_nothing(
    server: LambdaServer, client: Any, cells: DynamoDbCells
) -> None:
    done: list[int] = []

    def task() -> Copy:
        made = Copy(done)
        made.guard = cells
        return made

    start(server, task, client)
    events = [one.event for one in server.invocations[1:]]
    for event in events:
        start(server, task, client, event)

    assert done == list(range(12))

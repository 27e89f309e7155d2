"""Loops and their supervisor over moto's SQS and DynamoDB, by way of a real endpoint that invokes."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import msgspec
import pytest
from botocore.config import Config

from streamkit import Record, RecordProcessor, Unavailable, lambda_handler
from streamkit.cells.base import Cell
from streamkit.cells.change import Clock
from streamkit.cells.dynamodb import DynamoDbCells
from streamkit.cells.memory import MemoryCells
from streamkit.errors import ConfigurationError, StreamkitError
from streamkit.loops.inbox import SqsInbox
from streamkit.loops.loop import Loop, loop_key
from streamkit.loops.plan import Depth, Limits
from streamkit.loops.supervisor import Supervisor
from streamkit.loops.token import Ticket, Token

from ..faults.http_proxy import HttpProxy, cut, lose_the_answer
from ..lambda_server import Crash, LambdaServer, lambda_client


def aws(service: str, endpoint: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"total_max_attempts": 1, "mode": "standard"}),
    )


class Cloud:
    """A queue, a table and a function, with leases so short that a test can wait for their end."""

    def __init__(self, moto: str, invoke: str, server: LambdaServer) -> None:
        self.server = server
        self.sqs, self.dynamodb, self.lambda_ = aws("sqs", moto), aws("dynamodb", moto), lambda_client(invoke)
        name = uuid.uuid4().hex
        self.url = self.sqs.create_queue(QueueName=name)["QueueUrl"]
        self.cells = DynamoDbCells(name, client=self.dynamodb)
        self.cells.create_table()
        self.done: list[str] = []
        self.before: Callable[[str], None] = lambda body: None
        self.limits = Limits(least=0, most=3, per_loop=10, calm=0.5)
        self.inbox = SqsInbox(self.url, client=self.sqs)
        server.functions["loops"] = self.loop()

    def loop(self, lease: float = 3.0) -> Loop:
        cloud = self

        class Orders(RecordProcessor):
            name = "orders"
            ordering = "none"

            def process(self, record: Record) -> None:
                cloud.before(record.data.decode())
                cloud.done.append(record.data.decode())

        loop = Loop(lambda_handler(Orders), name="orders", inbox=self.inbox, cells=self.cells, client=self.lambda_)
        loop._lease = lease
        return loop

    def supervise(self) -> dict[str, int]:
        supervisor = Supervisor(
            name="orders",
            function="loops",
            gauge=SqsInbox(self.url, client=self.sqs),
            cells=self.cells,
            limits=self.limits,
            client=self.lambda_,
        )
        supervisor._lease = 3.0
        return supervisor()

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def until(self, condition: Callable[[], bool], seconds: float = 40.0, *, supervised: bool = True) -> None:
        """With a look of the supervisor each half second, in the place of each minute."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.done, self.states(), [one.error for one in self.server.invocations])
            if supervised:
                self.supervise()
            time.sleep(0.5)

    def seen(self) -> list[str]:
        """What was done, once or twice: SQS delivers at least once, and moto gives one to two that ask at the same moment."""
        return sorted(set(self.done))

    def left(self) -> int:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return sum(int(attributes[name]) for name in names)

    def token(self, number: int) -> Token | None:
        cell = self.cells.get(loop_key("orders", number))
        return None if cell is None else Token.of(cell.value)

    def states(self) -> list[str]:
        return [one.answer["state"] for one in self.server.invocations if one.answer]

    def end(self) -> None:
        self.before = lambda body: None
        self.limits = Limits(least=0, most=3, per_loop=10, calm=0)
        self.until(lambda: self.left() == 0 and self.is_still(), 60)

    def is_still(self) -> bool:
        """Whether every token is free, so that nothing is on its way either."""
        tokens = [self.token(number) for number in range(3)]
        return all(token is None or token.is_free for token in tokens)


@pytest.fixture
def cloud(moto_endpoint: str) -> Iterator[Cloud]:
    # Its loops go on in another invocation after 6 s: five are kept back, and a receive takes one.
    server = LambdaServer(timeout=12)
    server.retries = 0
    with server.running() as endpoint:
        made = Cloud(moto_endpoint, endpoint, server)
        yield made
        made.end()
        for client in (made.sqs, made.dynamodb, made.lambda_):
            client.close()


def test_loops_come_with_the_work_hand_themselves_on_and_end_when_there_is_none(cloud: Cloud) -> None:
    bodies = [f"m{n}" for n in range(45)]
    cloud.send(*bodies)

    assert cloud.supervise() == {"wanted": 3, "alive": 0, "started": 3, "restarted": 0, "retired": 0}
    cloud.until(lambda: cloud.left() == 0, supervised=False)
    cloud.until(lambda: "passed on" in cloud.states(), supervised=False)
    cloud.send("late")
    cloud.until(lambda: "late" in cloud.done, supervised=False)

    assert cloud.seen() == sorted([*bodies, "late"])
    cloud.until(lambda: cloud.states().count("retired") == 3)
    assert cloud.is_still()
    assert [one.error for one in cloud.server.invocations if one.error] == []


def test_a_loop_that_died_is_replaced_when_its_lease_is_over_and_its_message_comes_again(cloud: Cloud) -> None:
    deaths = ["m1"]

    def die(body: str) -> None:
        if body in deaths:
            deaths.remove(body)
            raise Crash

    cloud.before = die
    cloud.limits = Limits(least=1, most=1)
    cloud.send("m0", "m1", "m2")

    cloud.until(lambda: cloud.left() == 0)

    assert set(cloud.done) == {"m0", "m1", "m2"}
    assert [type(one.error) for one in cloud.server.invocations if one.error] == [Crash]
    generations = [one.event["generation"] for one in cloud.server.invocations]
    assert generations == sorted(set(generations)), "each was handed out once"


def test_a_message_that_kills_its_loop_goes_aside_when_fewer_receives_are_allowed(cloud: Cloud) -> None:
    dead = cloud.sqs.create_queue(QueueName=f"{uuid.uuid4().hex}-dead")["QueueUrl"]
    arn = cloud.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def allow(receives: int) -> None:
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": str(receives)})
        cloud.sqs.set_queue_attributes(QueueUrl=cloud.url, Attributes={"RedrivePolicy": policy})

    def die(body: str) -> None:
        if body == "poison":
            raise Crash

    allow(1000)
    cloud.before = die
    cloud.limits = Limits(least=1, most=1)
    cloud.send("poison", "beside it")
    cloud.until(lambda: any(one.error for one in cloud.server.invocations))
    assert cloud.done == [], "what was received with it is done as little"

    allow(1)
    cloud.send("late")
    cloud.until(lambda: cloud.left() == 0)

    assert cloud.done == ["late"]
    messages = cloud.sqs.receive_message(QueueUrl=dead, MaxNumberOfMessages=10)["Messages"]
    assert {one["Body"] for one in messages} == {"poison", "beside it"}
    assert [type(one.error) for one in cloud.server.invocations if one.error] == [Crash]


def test_an_event_that_is_delivered_twice_is_one_loop(cloud: Cloud) -> None:
    cloud.server.copies = lambda n: 2
    at_work = threading.Semaphore(1)

    def alone(body: str) -> None:
        assert at_work.acquire(blocking=False), "two at once"
        time.sleep(0.05)
        at_work.release()

    cloud.before = alone
    cloud.limits = Limits(least=1, most=1)
    cloud.send(*(f"m{n}" for n in range(30)))

    cloud.until(lambda: cloud.left() == 0)

    assert cloud.seen() == sorted(f"m{n}" for n in range(30))
    assert "not its token" in cloud.states()


def test_what_the_answer_names_stays_and_the_rest_is_deleted(cloud: Cloud) -> None:
    def fail(body: str) -> None:
        if body == "m1":
            raise ValueError("no")

    cloud.before = fail
    cloud.limits = Limits(least=1, most=1)
    cloud.send("m0", "m1", "m2")

    cloud.until(lambda: len(cloud.done) == 2, supervised=True)
    cloud.until(lambda: cloud.left() == 1, 5, supervised=False)

    cloud.before = lambda body: None
    cloud.until(lambda: cloud.left() == 0)
    assert cloud.seen() == ["m0", "m1", "m2"]


def test_a_deletion_that_sqs_did_not_make_is_tried_again(cloud: Cloud, moto_endpoint: str) -> None:
    proxy = HttpProxy(moto_endpoint)
    through = aws("sqs", proxy.endpoint)
    faults = [lose_the_answer, cut, refuse_all]
    deletions = []

    def act(request: Any) -> Any:
        if request.headers.get("X-Amz-Target") != "AmazonSQS.DeleteMessageBatch":
            return request.forward()
        deletions.append(request)
        return faults.pop()(request) if faults else request.forward()

    cloud.send("m0", "m1", "m2")
    inbox = SqsInbox(cloud.url, client=through)
    try:
        with proxy.failing(act):
            records = inbox.receive(10, 1, 60)
            assert inbox.delete(records, time.monotonic() + 20) == 0
    finally:
        through.close()
        proxy.close()

    assert len(deletions) == 4
    assert cloud.left() == 0


def refuse_all(request: Any) -> Any:
    """As SQS does when it has a fault of its own."""
    failed = [
        {"Id": one["Id"], "Code": "InternalError", "SenderFault": False, "Message": ""}
        for one in request.json["Entries"]
    ]
    body = json.dumps({"Successful": [], "Failed": failed}).encode()
    return 200, {"Content-Type": "application/x-amz-json-1.0"}, body


def test_a_queue_that_can_not_be_read_for_a_while_ends_no_loop(cloud: Cloud, moto_endpoint: str) -> None:
    proxy = HttpProxy(moto_endpoint)
    through = aws("sqs", proxy.endpoint)
    cloud.inbox = SqsInbox(cloud.url, client=through)
    cloud.server.functions["loops"] = cloud.loop()
    cloud.limits = Limits(least=1, most=1)
    cloud.send("m0")
    try:
        with proxy.failing(lambda request: (503, {}, b"")):
            cloud.supervise()
            time.sleep(3)
            assert cloud.done == []
        cloud.until(lambda: cloud.left() == 0, supervised=False)
        cloud.end()
    finally:
        through.close()
        proxy.close()

    assert cloud.done == ["m0"]
    assert [one.error for one in cloud.server.invocations if one.error] == []


def test_a_supervisor_that_lambda_throttles_says_so_and_the_next_look_starts_the_loop(
    cloud: Cloud, moto_endpoint: str
) -> None:
    class Throttled(Exception):
        response = {"Error": {"Code": "AccessDeniedException"}, "ResponseMetadata": {"HTTPStatusCode": 403}}

    class Refusing:
        def invoke(self, **named: Any) -> Any:
            raise Throttled

    given, cloud.lambda_ = cloud.lambda_, Refusing()
    cloud.limits = Limits(least=1, most=1)
    with pytest.raises(StreamkitError, match=r"1 loops could not be started .* token 0: .*AccessDeniedException"):
        cloud.supervise()
    cloud.lambda_ = given
    cloud.send("m0")

    cloud.until(lambda: cloud.left() == 0)

    assert cloud.done == ["m0"]


# One invocation, by a clock that is told.


class Told:
    """Clock, context, queue and Lambda of one loop. ``meanwhile`` happens in each receive."""

    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:loops"
    function_name = "loops"

    def __init__(self, seconds: float = 900.0) -> None:
        self.now = 1000.0
        self.ends = self.now + seconds
        self.cells = MemoryCells()
        self.cells.put(loop_key("orders", 0), Token(1, until=self.now + 60).value(), "v", seen=None)
        self.waits: list[int] = []
        self.visibilities: list[int] = []
        self.deleted: list[str] = []
        self.batches: list[list[str]] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.sent: list[Any] = []
        self.given: list[float] = []
        self.took = 0.0
        self.answer: Any = {"batchItemFailures": []}

    def get_remaining_time_in_millis(self) -> float:
        return max(0.0, self.ends - self.now) * 1000

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def receive(self, most: int, wait: int, visibility: int) -> list[dict[str, Any]]:
        self.waits.append(wait)
        self.visibilities.append(visibility)
        self.now += wait
        self.meanwhile()
        bodies = self.batches.pop(0) if self.batches else []
        sent = str(int((self.now - 7) * 1000))
        return [{"messageId": one, "receiptHandle": one, "attributes": {"SentTimestamp": sent}} for one in bodies]

    def delete(self, records: Any, deadline: float) -> int:
        self.deleted += [record["messageId"] for record in records]
        return 0

    def close(self) -> None:
        return

    def invoke(self, **named: Any) -> dict[str, int]:
        self.sent.append(named)
        return {"StatusCode": 202}

    def work(self, event: Any, context: Any) -> Any:
        self.given.append(context.get_remaining_time_in_millis() / 1000)
        assert context.function_name == "loops"
        self.now += self.took
        return self.answer

    def run(self, generation: int = 1, cells: Any = None) -> Any:
        clock = Clock(lambda: self.now, lambda: self.now, self.sleep)
        loop = Loop(self.work, name="orders", inbox=self, cells=cells or self.cells, client=self, clock=clock)
        return loop(msgspec.json.decode(Ticket("orders", 0, generation).encode()), self)

    def token(self) -> Token:
        cell = self.cells.get(loop_key("orders", 0))
        assert cell is not None
        found = Token.of(cell.value)
        assert found is not None
        return found


def test_an_idle_loop_asks_the_queue_for_as_long_as_it_may_and_hands_its_token_on() -> None:
    told = Told()

    assert told.run() == {"token": 0, "state": "passed on", "messages": 0}

    assert set(told.waits[:-1]) == {20}
    assert 5 <= told.ends - told.now < 6
    assert set(told.visibilities) == {120}
    assert told.token() == Token(2, until=told.now + 120)
    (sent,) = told.sent
    assert (sent["FunctionName"], sent["InvocationType"]) == (told.invoked_function_arn, "Event")


def test_a_loop_keeps_the_time_of_its_longest_batch_back() -> None:
    told = Told(300)
    told.batches = [["a"], ["b"]]
    told.took = 60

    told.run()

    assert told.deleted == ["a", "b"]
    assert told.ends - told.now >= 60


def test_a_batch_ends_with_the_lease_or_with_the_invocation_less_what_handing_on_takes() -> None:
    told = Told(900)
    told.batches = [["a"]]
    told.run()
    assert told.given == [pytest.approx(120 * 0.9 - 20)]

    told = Told(60)
    told.batches = [["a"]]
    told.run()
    assert told.given == [pytest.approx(60 - 20 - 5)]


def test_a_loop_that_lost_its_token_takes_no_message_more() -> None:
    told = Told()

    def steal() -> None:
        cell = told.cells.get(loop_key("orders", 0))
        told.cells.put(loop_key("orders", 0), Token(2, "another", told.now + 60).value(), "w", seen=cell)

    told.meanwhile = steal
    told.batches = [["a"], ["b"]]

    assert told.run()["state"] == "lost"

    assert told.deleted == ["a"], "received while the token was its own"
    assert told.sent == []


def test_a_loop_that_slept_past_its_lease_leaves_what_it_received() -> None:
    told = Told()

    def sleep() -> None:
        told.now += 90

    told.meanwhile = sleep
    told.batches = [["a"]]

    assert told.run()["state"] == "lost"

    assert (told.given, told.deleted) == ([], [])


def test_a_loop_whose_table_is_away_stops_before_its_lease_is_over() -> None:
    told = Told()

    class Away(MemoryCells):
        is_away = False

        def may_pass(self, error: Exception) -> bool:
            return True

        def get(self, key: str) -> Cell | None:
            if self.is_away:
                raise ConnectionError("away")
            return super().get(key)

    cells = Away()
    cells._cells = told.cells._cells

    def go_away() -> None:
        cells.is_away = True

    told.meanwhile = go_away

    assert told.run(cells=cells)["state"] == "lost"

    assert told.waits == [20]
    assert told.now <= 1000 + 20 + 120


def test_a_loop_that_is_not_wanted_gives_its_token_back() -> None:
    told = Told()

    def retire() -> None:
        cell = told.cells.get(loop_key("orders", 0))
        assert cell is not None
        told.cells.put(loop_key("orders", 0), {**cell.value, "is_wanted": False}, "w", seen=cell)

    told.meanwhile = retire
    told.batches = [["a"], ["b"]]

    assert told.run() == {"token": 0, "state": "retired", "messages": 1}

    assert told.token() == Token(2)
    assert told.batches == [["b"]]
    assert told.sent == []


def test_a_ticket_of_an_earlier_generation_is_none() -> None:
    told = Told()

    assert told.run(generation=0)["state"] == "not its token"

    assert told.waits == []


def test_the_age_of_what_it_received_is_told_with_the_next_renewal() -> None:
    told = Told()
    ages = []
    told.meanwhile = lambda: ages.append(told.token().age)
    told.batches = [["a"], []]

    told.run()

    assert ages[:3] == [0, pytest.approx(7, abs=0.01), 0]


def test_a_function_that_raises_ends_its_loop_which_keeps_its_token_until_its_lease_is_over() -> None:
    told = Told()
    told.batches = [["a"]]

    def fail(event: Any, context: Any) -> Any:
        raise ValueError("no")

    told.work = fail  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="no"):
        told.run()

    assert told.deleted == []
    assert told.token().owner
    assert told.sent == []


@pytest.mark.parametrize("answer", ["what", 7, {"batchItemFailures": [{"itemIdentifier": ""}]}])
def test_an_answer_that_is_not_understood_deletes_nothing(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    told.batches = [["a"]]
    told.answer = answer

    told.run()

    assert told.deleted == []
    assert "the function's answer is not understood" in caplog.text


def test_a_time_out_that_is_too_short_for_a_loop_is_named() -> None:
    with pytest.raises(ConfigurationError, match="a loop needs a function's time-out of a minute at least"):
        Told(10).run()


@pytest.mark.parametrize("options", [{"lease": 29}, {"lease": 901}, {"batch_size": 0}, {"batch_size": 11}])
def test_an_option_that_can_not_be_is_refused(options: dict[str, Any]) -> None:
    told = Told()
    ((name, value),) = options.items()
    with pytest.raises(ConfigurationError, match=rf"{name} \(LOOP_{name.upper()}\) is from .*; got {value}$"):
        Loop(told.work, name="orders", inbox=told, cells=told.cells, **options)


@pytest.mark.parametrize("lease", [29, 901])
def test_a_supervisor_refuses_a_lease_that_its_loops_would_refuse(lease: float) -> None:
    gauge: Any = object()
    with pytest.raises(ConfigurationError, match=rf"lease \(LOOP_LEASE\) is from .*; got {lease}$"):
        Supervisor(name="orders", function="loops", gauge=gauge, cells=MemoryCells(), limits=Limits(), lease=lease)


def test_a_supervisor_forgets_no_token_when_there_may_be_fewer() -> None:
    told = Told()

    def supervise(most: int) -> dict[str, int]:
        return supervisor_of(told, told.cells, most)()

    supervise(8)
    told.now += 1
    assert supervise(2) == {"wanted": 2, "alive": 0, "started": 0, "restarted": 0, "retired": 6}


class ThrottledCells(MemoryCells):
    """Refuses every other read, as a table does that has too much to do; and all of them where it is ``away``."""

    def __init__(self, *, is_away: bool = False) -> None:
        super().__init__()
        self.reads = 0
        self.is_away = is_away

    def may_pass(self, error: Exception) -> bool:
        return isinstance(error, ConnectionError)

    def get(self, key: str) -> Cell | None:
        self.reads += 1
        if self.is_away or self.reads % 2:
            raise ConnectionError("ThrottlingException")
        return super().get(key)


def supervisor_of(told: Told, cells: MemoryCells, most: int) -> Supervisor:
    class Full:
        def depth(self) -> Depth:
            return Depth(1000, 0)

    return Supervisor(
        name="orders",
        function="loops",
        gauge=Full(),
        cells=cells,
        limits=Limits(most=most, per_loop=1),
        client=told,
        clock=Clock(lambda: told.now, lambda: told.now, told.sleep),
    )


def test_a_supervisor_whose_table_is_throttled_starts_the_loops_all_the_same() -> None:
    told, cells = Told(), ThrottledCells()

    assert supervisor_of(told, cells, 20)(None, told)["started"] == 20
    assert len(told.sent) == 20


def test_a_supervisor_whose_table_is_away_ends_in_its_time_with_the_error() -> None:
    told = Told(50)

    with pytest.raises(ConnectionError):
        supervisor_of(told, ThrottledCells(is_away=True), 20)(None, told)

    assert 1040 < told.now < 1050, "it has tried for as long as it has"
    assert told.sent == []


class ToldQueue(Told):
    """With a queue that hides what it gave, and gives up what was received ``most_receives`` times."""

    def __init__(self, bodies: list[str], most_receives: int) -> None:
        super().__init__()
        self.visible_at = dict.fromkeys(bodies, 0.0)
        self.received = dict.fromkeys(bodies, 0)
        self.most_receives = most_receives
        self.dead: list[str] = []

    def receive(self, most: int, wait: int, visibility: int) -> list[dict[str, Any]]:
        ready = [one for one, at in self.visible_at.items() if at <= self.now]
        if not ready:
            self.now += wait
        found = []
        for one in ready[:most]:
            if self.received[one] == self.most_receives:
                del self.visible_at[one]
                self.dead.append(one)
                continue
            self.received[one] += 1
            self.visible_at[one] = self.now + visibility
            found.append(
                {
                    "messageId": one,
                    "receiptHandle": one,
                    "body": one,
                    "attributes": {"SentTimestamp": "1000000"},
                    "messageAttributes": {},
                    "eventSource": "aws:sqs",
                    "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:orders",
                }
            )
        return found

    def delete(self, records: Any, deadline: float) -> int:
        for record in records:
            del self.visible_at[record["messageId"]]
        return super().delete(records, deadline)


@pytest.mark.parametrize(("hours", "dead"), [(32, 0), (35, 3)])
def test_an_outage_ends_no_message_as_long_as_its_receives_last_and_then_all_is_done(hours: int, dead: int) -> None:
    # 1,000 receives, and the lease of 120 s: 33 hours.
    told = ToldQueue(["m0", "m1", "m2"], 1000)
    is_over_at = told.now + hours * 3600

    class Orders(RecordProcessor):
        name = "orders"

        def process(self, record: Record) -> None:
            if told.now < is_over_at:
                raise Unavailable("the stream")

    handler = lambda_handler(Orders)

    def work(event: Any, context: Any) -> Any:
        told.now += 1
        return handler(event, context)

    told.work = work  # type: ignore[method-assign]  # The function in place of the answer that is told.
    generation = 1
    while told.visible_at and told.now < is_over_at + 600:
        told.ends = told.now + 900
        told.run(generation)
        generation += 1

    assert len(told.dead) == dead
    assert sorted(told.deleted + told.dead) == ["m0", "m1", "m2"]

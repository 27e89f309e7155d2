from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit import (
    Block,
    Divert,
    Park,
    Record,
    RecordProcessor,
    Reject,
    Unavailable,
    Write,
    heartbeat,
    kpl,
    lambda_handler,
)
from streamkit.envelope import Envelope
from streamkit.event import decode
from streamkit.fanout import FanOut
from streamkit.heartbeat import BASE64_PREFIX, MARK, is_heartbeat, payload
from streamkit.ledgers.memory import MemoryLedger
from streamkit.policy import Policy
from streamkit.progress.memory import MemoryProgress
from streamkit.testing import EventSourceMapping, MemoryQueue, MemorySink, kinesis_event, window_event
from streamkit.window import Window, WindowProcessor

from .outside_server import OutsideServer

SUCCESS: dict[str, list[Any]] = {"batchItemFailures": []}
START = 100
BEAT = payload(1_764_432_000.123)


@pytest.fixture(autouse=True)
def none_pinged(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new container; and the events of these tests are of a day that is long gone."""
    monkeypatch.setattr(heartbeat, "_pulse", heartbeat._Pulse())
    monkeypatch.delenv("HEARTBEAT_URL", raising=False)
    monkeypatch.setenv("HEARTBEAT_MAX_AGE", "1e12")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OutsideServer]:
    with OutsideServer().running() as running:
        monkeypatch.setenv("HEARTBEAT_URL", f"{running.url}/ping")
        yield running


class Orders(RecordProcessor):
    """Does with a record what its payload says, and notes what it was given."""

    def __init__(
        self,
        on_failure: Policy | None = None,
        name: str = "orders",
        progress: MemoryProgress | None = None,
        concurrency: int = 1,
    ) -> None:
        self.name = name
        self.on_failure = on_failure or Block()
        self.progress = progress
        self.concurrency = concurrency
        self.given: list[bytes] = []
        self.prepared: list[bytes] = []
        self.sink = MemorySink()

    def prepare(self, records: Sequence[Record]) -> None:
        self.prepared += [record.data for record in records]

    def process(self, record: Record) -> Iterator[Write]:
        self.given.append(record.data)
        if record.data.startswith(b"fail"):
            raise ValueError("no")
        if record.data == b"reject":
            raise Reject("no")
        if record.data == b"away":
            raise Unavailable("payments")
        yield self.sink.item(record.data)


def invoke(processor: Any, payloads: Sequence[bytes], context: Any = None, **options: Any) -> Any:
    return lambda_handler(processor)(kinesis_event(payloads, start=START, **options), context)


def named(answer: dict[str, Any]) -> list[int]:
    return [int(failure["itemIdentifier"]) - START for failure in answer["batchItemFailures"]]


class TestAHeartbeat:
    def test_is_known_by_the_first_characters_of_its_base64(self) -> None:
        assert base64.b64encode(BEAT).decode().startswith(BASE64_PREFIX)
        assert base64.b64decode(BASE64_PREFIX) == MARK[:24]

    def test_is_json_that_any_reader_can_read(self) -> None:
        assert json.loads(BEAT) == {"streamkit_heartbeat": 1, "sent_at": 1_764_432_000.123}

    @given(at=st.floats(min_value=0, max_value=1e11))
    def test_is_what_is_sent(self, at: float) -> None:
        assert is_heartbeat(payload(at))

    @pytest.mark.parametrize(
        "data",
        [
            *(b"", b"{}", MARK, MARK + b"}", MARK + b'"sent_at":"now"}', MARK + b'"sent_at":1,"total":7}', BEAT + b"x"),
            *(
                BEAT.replace(b": 1,", b":1,"),
                b" " + BEAT,
                BEAT[:-1],
                MARK + b'"sent_at":' + b"[" * 10_000,
                MARK + b"\xff",
            ),
        ],
    )
    def test_is_nothing_that_only_begins_as_one(self, data: bytes) -> None:
        assert not is_heartbeat(data)
        orders = Orders()

        assert invoke(orders, [data]) == SUCCESS

        assert orders.given == [data]

    def test_is_nothing_whose_base64_is_damaged(self) -> None:
        event = kinesis_event([BEAT])
        event["Records"][0]["kinesis"]["data"] = BASE64_PREFIX + "*"
        letters = MemoryQueue()

        assert lambda_handler(Orders(Block(letters)))(event, None) == SUCCESS

        assert len(letters) == 1

    @pytest.mark.parametrize("concurrency", [1, 4])
    @pytest.mark.parametrize("payloads", [[BEAT], [BEAT, b"a", b"b"], [b"a", BEAT, b"b"], [b"a", b"b", BEAT, BEAT]])
    def test_is_settled_and_never_given_to_process_or_prepare(self, payloads: list[bytes], concurrency: int) -> None:
        orders = Orders(concurrency=concurrency)

        assert invoke(orders, payloads) == SUCCESS

        others = [data for data in payloads if data != BEAT]
        assert sorted(orders.given) == orders.prepared == orders.sink.items == others

    def test_is_no_record_of_an_aggregate(self) -> None:
        orders = Orders()

        invoke(orders, [kpl.aggregate([kpl.UserRecord(b"a", "k"), kpl.UserRecord(b"b", "k")]), BEAT])

        assert orders.given == [b"a", b"b"]

    def test_is_not_found_in_an_event_of_ordinary_records(self) -> None:
        assert decode(kinesis_event([b"a", b"b"])).heartbeats == []

    def test_that_came_through_a_queue_is_no_record_either(self, server: OutsideServer) -> None:
        record = decode(kinesis_event([BEAT])).records[0]
        bodies = [BEAT.decode(), Envelope.of(record, "orders").encode()]
        event = {
            "Records": [
                {"eventSource": "aws:sqs", "messageId": f"m-{n}", "body": body, "attributes": {}}
                for n, body in enumerate([*bodies, "a"])
            ]
        }
        orders = Orders()

        assert lambda_handler(orders)(event, None) == SUCCESS

        assert orders.given == [b"a"]
        assert server.requests == [], "it has not come through the stream"


class TestAPing:
    def test_is_made_when_the_batch_is_settled(self, server: OutsideServer) -> None:
        assert invoke(Orders(), [b"a", BEAT, b"b"]) == SUCCESS

        (request,) = server.requests
        assert (request.method, request.path) == ("GET", "/ping")

    def test_is_not_made_without_a_url(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise AssertionError("a network call")

        monkeypatch.setattr("streamkit.outside.Caller.call", refuse)

        assert invoke(Orders(), [b"a", BEAT]) == SUCCESS

    def test_is_not_made_for_a_batch_without_one(self, server: OutsideServer) -> None:
        invoke(Orders(), [b"a"])

        assert server.requests == []

    @pytest.mark.parametrize(
        ("policy", "payloads", "is_made"),
        [
            (Block, [b"fail", BEAT], False),
            (Block, [b"a", b"away", BEAT], False),
            (Block, [BEAT, b"fail"], True),
            (Block, [BEAT, b"a", b"fail", BEAT], True),
            (lambda: Block(MemoryQueue()), [b"reject", BEAT], True),
            (lambda: Divert(MemoryQueue()), [b"fail", BEAT], True),
            (lambda: Divert(MemoryQueue()), [b"fail", b"away", BEAT], False),
            (lambda: Park(MemoryQueue(fifo=True), MemoryLedger()), [b"fail", b"b", BEAT], True),
            (lambda: Park(MemoryQueue(fifo=True), MemoryLedger()), [b"fail", b"away", BEAT], False),
        ],
    )
    def test_is_made_where_all_before_it_is_settled_and_not_else(
        self, policy: Callable[[], Policy], payloads: list[bytes], is_made: bool, server: OutsideServer
    ) -> None:
        invoke(Orders(policy()), payloads)

        assert bool(server.requests) is is_made

    def test_is_not_made_where_the_retry_queue_refuses(self, server: OutsideServer) -> None:
        queue = MemoryQueue()
        queue.refuse()

        invoke(Orders(Divert(queue)), [b"fail", BEAT])

        assert server.requests == []

    def test_is_made_when_the_failure_is_over(self, server: OutsideServer) -> None:
        orders = Orders()
        mapping = EventSourceMapping(
            lambda_handler(orders), batch_size=10, function_response_types=["ReportBatchItemFailures"]
        )
        for data in (b"a", b"fail", BEAT):
            mapping.put(data, "key")
        mapping.advance(60)
        assert server.requests == []

        orders.process = lambda record: None  # type: ignore[method-assign,assignment,return-value]
        mapping.run_until_idle()

        assert len(server.requests) == 1

    def test_is_made_where_every_branch_has_settled_what_comes_before(self, server: OutsideServer) -> None:
        class Fails(Orders):
            def process(self, record: Record) -> Iterator[Write]:
                if record.data == b"b":
                    raise ValueError("no")
                return super().process(record)

        branches = Orders(name="one"), Fails(name="two")

        assert named(invoke(FanOut(*branches), [b"a", b"b", BEAT])) == [1]
        assert server.requests == []
        assert named(invoke(FanOut(*branches), [b"a", BEAT, b"b"])) == [2]
        assert len(server.requests) == 1
        assert BEAT not in branches[0].given + branches[1].given

    def test_names_the_shard_and_the_processor(self, server: OutsideServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEARTBEAT_URL", f"{server.url}/{{processor}}-{{shard}}?create=1")

        invoke(Orders(name="a/b é"), [BEAT], shard_id="shardId-000000000007")

        assert [request.path for request in server.requests] == ["/a%2Fb%20%C3%A9-shardId-000000000007?create=1"]

    def test_is_one_in_ten_seconds_of_a_shard(self, server: OutsideServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HEARTBEAT_URL", f"{server.url}/{{shard}}")
        handler = lambda_handler(Orders())
        now = time.monotonic()
        for seconds in (0, 1, 9, 11, 12):
            monkeypatch.setattr("streamkit.heartbeat.time.monotonic", lambda seconds=seconds: now + seconds)
            for shard in ("shardId-000000000000", "shardId-000000000001"):
                handler(kinesis_event([BEAT, BEAT], shard_id=shard), None)

        assert [request.path for request in server.requests] == ["/shardId-000000000000", "/shardId-000000000001"] * 2

    def test_is_not_made_for_one_that_is_old_so_that_a_backlog_is_an_alarm(
        self, server: OutsideServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        event = kinesis_event([BEAT])
        monkeypatch.delenv("HEARTBEAT_MAX_AGE")
        for age, pings in ((901, 0), (5, 1)):
            event["Records"][0]["kinesis"]["approximateArrivalTimestamp"] = time.time() - age

            assert lambda_handler(Orders())(event, None) == SUCCESS

            assert len(server.requests) == pings

    @pytest.mark.parametrize("text", ["soon", "0", "-1", "nan"])
    def test_says_what_is_no_age(
        self, text: str, server: OutsideServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("HEARTBEAT_MAX_AGE", text)

        assert invoke(Orders(), [BEAT]) == SUCCESS
        assert invoke(Orders(), [BEAT]) == SUCCESS

        assert caplog.text.count("HEARTBEAT_MAX_AGE is a number of seconds") == 1


class TestAPingThatFails:
    @pytest.mark.parametrize("status", [302, 404, 500])
    def test_changes_no_answer(self, status: int, server: OutsideServer, caplog: pytest.LogCaptureFixture) -> None:
        server.answer = status

        assert invoke(Orders(), [b"a", BEAT]) == SUCCESS

        assert f"HEARTBEAT_URL could not be reached, which changes nothing else: it answered {status}" in caplog.text

    def test_takes_a_second_at_most(self, server: OutsideServer) -> None:
        release = threading.Event()
        server.answer = lambda _: release.wait(10)
        started = time.monotonic()

        assert invoke(Orders(), [BEAT]) == SUCCESS

        assert time.monotonic() - started < 2
        release.set()

    def test_is_not_tried_where_no_time_is_left(self, server: OutsideServer, caplog: pytest.LogCaptureFixture) -> None:
        class Context:
            def get_remaining_time_in_millis(self) -> int:
                return 200

        assert invoke(Orders(), [BEAT], Context()) == SUCCESS

        assert server.requests == []
        assert "no time was left to call HEARTBEAT_URL" in caplog.text

    @pytest.mark.parametrize("url", ["hc.example/secret", "ftp://hc.example/secret", "https://u:secret@hc.example"])
    def test_by_its_url_is_said_once_without_what_is_secret(
        self, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setenv("HEARTBEAT_URL", url)
        handler = lambda_handler(Orders())

        for _ in range(3):
            assert handler(kinesis_event([BEAT]), None) == SUCCESS

        assert caplog.text.count("HEARTBEAT_URL is not used") == 1
        assert "secret" not in caplog.text

    def test_where_nobody_listens_names_no_path(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            monkeypatch.setenv("HEARTBEAT_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/secret")

            assert invoke(Orders(), [BEAT]) == SUCCESS

        assert "ConnectionRefusedError" in caplog.text
        assert "secret" not in caplog.text

    def test_for_a_number_that_is_none_changes_no_answer(
        self, server: OutsideServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        event = kinesis_event([b"fail", BEAT])
        event["Records"][1]["kinesis"]["sequenceNumber"] = "none"

        answer = lambda_handler(Orders())(event, None)

        assert len(answer["batchItemFailures"]) == 1
        assert "a heartbeat could not be told of" in caplog.text


class TestMetrics:
    @pytest.fixture(autouse=True)
    def on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("STREAMKIT_METRICS", "emf")

    def test_have_its_age_and_do_not_count_it_as_a_record(
        self, server: OutsideServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        event = kinesis_event([b"a", BEAT])
        for raw in event["Records"]:
            raw["kinesis"]["approximateArrivalTimestamp"] = time.time() - 3

        lambda_handler(Orders())(event, None)

        of = json.loads(capsys.readouterr().out)
        assert 3000 <= of["HeartbeatAge"] < 60_000
        assert of["Records"] == 1
        assert (of["Failed"], of["Unsettled"], of["DuplicatesSkipped"]) == (0, 0, 0)
        assert "HeartbeatFailures" not in of

    def test_have_none_of_one_that_has_not_come_through(
        self, server: OutsideServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        invoke(Orders(), [b"fail", BEAT])

        assert "HeartbeatAge" not in json.loads(capsys.readouterr().out)

    @pytest.mark.parametrize("source", [Orders, lambda: FanOut(Orders(name="a"), Orders(name="b"))])
    def test_count_the_pings_that_fail(
        self, source: Any, server: OutsideServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        server.answer = 500

        lambda_handler(source)(kinesis_event([b"a", BEAT]), None)

        of = json.loads(capsys.readouterr().out)
        assert of["HeartbeatFailures"] == 1
        assert of["HeartbeatAge"] > 0


class Letters(WindowProcessor):
    name = "letters"

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails
        self.sink = MemorySink()

    def aggregate(self, record: Record, state: Any) -> None:
        state["seen"] = state.get("seen", "") + record.data.decode()

    def finish(self, window: Window, state: Any) -> Iterator[Write]:
        if self.fails:
            raise ValueError("no")
        yield self.sink.item(state.get("seen", ""))


class TestAWindow:
    @pytest.mark.parametrize("payloads", [[BEAT, b"a", b"b"], [b"a", BEAT, b"b"], [b"a", b"b", BEAT], [b"a", b"b"]])
    def test_has_no_heartbeat_in_its_state(self, payloads: list[bytes], server: OutsideServer) -> None:
        letters = Letters()

        answer = lambda_handler(letters)(window_event(kinesis_event(payloads), is_final=True), None)

        assert answer["batchItemFailures"] == []
        assert letters.sink.items == ["ab"]
        assert len(server.requests) == payloads.count(BEAT)

    def test_that_can_not_end_has_no_ping(self, server: OutsideServer) -> None:
        with pytest.raises(Exception, match="the end of window"):
            lambda_handler(Letters(fails=True))(window_event(kinesis_event([b"a", BEAT]), is_final=True), None)

        assert server.requests == []

    def test_of_heartbeats_alone_ends(self, server: OutsideServer) -> None:
        letters = Letters()

        lambda_handler(letters)(window_event(kinesis_event([BEAT]), is_final=True), None)

        assert letters.sink.items == [""]

    def test_leaves_its_last_record_to_a_call_with_time_though_a_heartbeat_follows(self) -> None:
        left = [10.0]

        class Slow(Letters):
            def aggregate(self, record: Record, state: Any) -> None:
                super().aggregate(record, state)
                if record.data == b"b":
                    left[0] = 0.5

        class Context:
            def get_remaining_time_in_millis(self) -> float:
                return left[0] * 1000

        for payloads in ([b"a", b"b"], [b"a", b"b", BEAT], [BEAT, b"a", b"b", BEAT, BEAT]):
            left[0] = 10.0
            slow = Slow()

            answer = lambda_handler(slow)(window_event(kinesis_event(payloads, start=START), is_final=True), Context())

            assert named(answer) == [payloads.index(b"b")]
            assert slow.sink.items == []


POLICIES: dict[str, Callable[[], Policy]] = {
    "block": Block,
    "divert": lambda: Divert(MemoryQueue()),
    "park": lambda: Park(MemoryQueue(fifo=True), MemoryLedger()),
}


@settings(max_examples=150, deadline=None)
@given(
    records=st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.booleans()), max_size=12),
    beats=st.lists(st.integers(min_value=0, max_value=12), max_size=4),
    batch_size=st.integers(min_value=1, max_value=6),
    policy=st.sampled_from(sorted(POLICIES)),
    with_progress=st.booleans(),
    fanned_out=st.booleans(),
)
def test_heartbeats_change_neither_the_order_nor_what_is_done(
    records: list[tuple[str, bool]],
    beats: list[int],
    batch_size: int,
    policy: str,
    with_progress: bool,
    fanned_out: bool,
) -> None:
    """The same records with and without heartbeats between them, each failing once where it is said to."""

    def run(positions: list[int]) -> tuple[dict[str, list[bytes]], list[bytes], EventSourceMapping]:
        failed: set[bytes] = set()

        class FailsOnce(Orders):
            def process(self, record: Record) -> Iterator[Write]:
                data = record.data
                if data.endswith(b"!") and data not in failed:
                    failed.add(data)
                    self.given.append(data)
                    raise ValueError("once")
                return super().process(record)

        processor = FailsOnce(POLICIES[policy](), progress=MemoryProgress() if with_progress else None)
        source: RecordProcessor = FanOut(processor) if fanned_out else processor
        mapping = EventSourceMapping(
            lambda_handler(source), batch_size=batch_size, function_response_types=["ReportBatchItemFailures"]
        )
        for n, (key, fails) in enumerate(records):
            for _ in range(positions.count(n)):
                mapping.put(BEAT, "streamkit-heartbeat")
            mapping.put(b"%s%d%s" % (key.encode(), n, b"!" if fails else b""), key)
        for _ in range(sum(position >= len(records) for position in positions)):
            mapping.put(BEAT, "streamkit-heartbeat")
        mapping.run_until_idle()
        by_key: dict[str, list[bytes]] = {}
        for data in processor.sink.items:
            by_key.setdefault(data[:1].decode(), [])
            if data not in by_key[data[:1].decode()]:
                by_key[data[:1].decode()].append(data)
        assert BEAT not in processor.given
        return by_key, sorted(set(processor.given)), mapping

    with_beats, given_with, mapping = run(beats)
    without, given_without, _ = run([])

    # What a batch is made of may change what is repeated, and never the order of first deliveries within a key.
    assert with_beats == without
    assert given_with == given_without
    numbers = [int(raw["kinesis"]["sequenceNumber"]) for event, _ in mapping.invocations for raw in event["Records"]]
    assert [int(number) for number in mapping.checkpoints.values()] == ([max(numbers)] if numbers else [])
    assert mapping.discarded == []

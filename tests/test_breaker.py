"""A service that does not answer is left alone for a while, and nothing else changes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Literal

import pytest

from streamkit import Block, Divert, Record, RecordProcessor, Refusal, Reject, Unavailable, Write, lambda_handler
from streamkit.breaker import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, LONGEST_PROBE, PROBE_TIME, Breaker, CircuitOpen
from streamkit.fanout import FanOut
from streamkit.policy import Policy
from streamkit.sinks.base import NotAsked
from streamkit.testing import EventSourceMapping, MemoryQueue, MemorySink, kinesis_event

PARTIAL: dict[str, Any] = {"function_response_types": ["ReportBatchItemFailures"]}
HOUR = 3600.0


class Service(MemorySink):
    """As the sinks to real services are."""

    has_breaker = True

    def __init__(self) -> None:
        super().__init__()
        self.deadlines: list[float] = []

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        self.deadlines.append(deadline)
        return super().write(writes, deadline=deadline)


class Waiting(Service):
    """What waits is written when all others are taken, as metrics are by ``LogSink``."""

    def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
        waiting = [write for write in writes if write.payload.startswith("waits")]
        refusals = super().write([write for write in writes if write not in waiting], deadline=deadline)
        if refusals:
            return [*refusals, *(Refusal(write, NotAsked("it waits"), "unavailable") for write in waiting)]
        return super().write(waiting, deadline=deadline)


class Unwatched(Service):
    has_breaker = False


class Clock:
    """Lambda's context, on a clock of the test's own."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


class Orders(RecordProcessor):
    """Writes each record's text, and those that begin with ``both`` to the other sink too."""

    name = "orders"

    def __init__(self, policy: Policy | None = None, sink: MemorySink | None = None) -> None:
        self.on_failure = policy or Block()
        self.sink = sink or Service()
        self.other = Service()
        self.started: list[str] = []

    def process(self, record: Record) -> Any:
        text = record.data.decode()
        self.started.append(text)
        if text == "poison":
            raise Reject("poison")
        yield self.sink.item(text)
        if text.startswith("both"):
            yield self.other.item(text)


def breaker(chance: float = 0.0) -> Breaker:
    return Breaker("orders: Orders.sink", lambda: chance)


def opened(at: float = 0.0) -> Breaker:
    made = breaker()
    for _ in range(FAILURES):
        made.failed("OSError: refused", at)
    return made


def failing(processor: Orders, clock: Clock, texts: Sequence[str] = "a", times: int = FAILURES) -> Callable[[], Any]:
    """Invoke a handler that often while its sink is down; the handler, to be called again."""
    handler = lambda_handler(processor)
    event = kinesis_event([text.encode() for text in texts])
    processor.sink.fail(OSError("connection refused"))
    for _ in range(times):
        handler(event, clock)
    return lambda: handler(event, clock)


class TestBreaker:
    def test_asks_until_several_requests_in_a_row_have_had_no_answer(self) -> None:
        made = breaker()
        for n in range(FAILURES):
            assert made.refusal(float(n)) is None
            assert not made.is_open
            made.failed("OSError: refused", float(n))

        assert made.is_open
        assert isinstance(made.refusal(float(FAILURES - 1)), CircuitOpen)

    def test_an_answer_between_them_begins_the_count_anew(self) -> None:
        made = breaker()
        for _ in range(3):
            for _ in range(FAILURES - 1):
                made.failed("OSError: refused", 0.0)
            made.answered()

        assert not made.is_open

    def test_asks_again_after_a_pause_that_doubles_up_to_a_limit(self) -> None:
        made, now, pauses = opened(), 0.0, []
        for _ in range(12):
            began = now
            while made.refusal(now) is not None:
                now += 0.25
                assert now - began <= LONGEST_PAUSE
            pauses.append(now - began)
            made.failed("OSError: refused", now)

        assert pauses[:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE, 8 * FIRST_PAUSE]
        assert set(pauses[-4:]) == {LONGEST_PAUSE}

    def test_containers_do_not_ask_in_one_moment(self) -> None:
        made = Breaker("a", lambda: 1.0)
        for _ in range(FAILURES):
            made.failed("OSError", 0.0)

        assert made.refusal(FIRST_PAUSE * 1.2) is not None
        assert made.refusal(FIRST_PAUSE * 1.25) is None

    def test_chance_is_between_0_and_1_and_not_always_the_same(self) -> None:
        chances = {Breaker("a")._chance() for _ in range(100)}

        assert len(chances) > 10
        assert 0 <= min(chances) <= max(chances) <= 1

    def test_an_answer_to_the_probe_closes_it(self) -> None:
        made = opened()
        made.answered()

        assert not made.is_open
        assert made.refusal(0.0) is None

    def test_gives_each_probe_more_time_than_the_last_up_to_a_limit(self) -> None:
        made, times = opened(), []
        for _ in range(5):
            times.append(made.probe_time)
            made.failed("OSError: refused", 0.0)

        assert times == [PROBE_TIME, 2 * PROBE_TIME, 4 * PROBE_TIME, LONGEST_PROBE, LONGEST_PROBE]

    def test_says_why_nothing_was_asked_and_for_how_long(self) -> None:
        assert str(opened(at=10.0).refusal(10.0)) == (
            "not asked, after 3 requests in a row without an answer, for 1 s more; the last: OSError: refused"
        )

    def test_logs_that_it_opens_and_that_it_closes_once_each(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "streamkit")
        made = opened()
        made.failed("OSError: refused", 1.0)
        made.answered()
        made.answered()

        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            (
                "ERROR",
                "orders: Orders.sink has not answered 3 requests in a row, and is asked again in 1 s, then less and less often: "
                "OSError: refused",
            ),
            ("WARNING", "orders: Orders.sink answers again, after 4 requests in a row without an answer"),
        ]


class TestASinkThatDoesNotAnswer:
    @pytest.mark.parametrize("how", ["raises", "refuses"])
    def test_is_not_asked_any_more_for_a_while(self, how: str) -> None:
        orders, clock = Orders(), Clock()
        again = failing(orders, clock, "ab")
        if how == "refuses":
            orders, clock = Orders(), Clock()
            handler = lambda_handler(orders)
            orders.sink.refuse("unavailable")
            for _ in range(FAILURES):
                handler(kinesis_event([b"a", b"b"]), clock)
            again = lambda: handler(kinesis_event([b"a", b"b"]), clock)  # noqa: E731  # The same as the other's.

        assert again()["batchItemFailures"], "the records stay where they are"
        assert len(orders.sink.requests) == FAILURES

    def test_stops_a_batch_at_its_first_write(self) -> None:
        orders, clock = Orders(), Clock()
        again = failing(orders, clock, "abc")
        orders.started.clear()
        again()

        assert orders.started == ["a"], "what follows would run in vain"

    def test_is_probed_with_one_write_and_a_time_limit_of_its_own_and_then_gets_the_rest(self) -> None:
        orders, clock = Orders(), Clock()
        again = failing(orders, clock, "abc")
        orders.sink.fail(None)
        clock.now += FIRST_PAUSE * 1.25

        assert again() == {"batchItemFailures": []}
        assert orders.sink.items == ["a", "b", "c"]
        assert orders.sink.requests[-2:] == [1, 2]
        assert isinstance(orders.sink, Service)
        assert orders.sink.deadlines[-1] - orders.sink.deadlines[-2] > 30, (
            "the probe had 10 s, what follows the invocation's time"
        )
        assert PROBE_TIME == 10

    def test_a_probe_without_an_answer_ends_the_batch(self) -> None:
        orders, clock = Orders(), Clock()
        again = failing(orders, clock, "abc")
        clock.now += FIRST_PAUSE * 1.25
        again()
        again()

        assert orders.sink.requests[FAILURES:] == [1], "and the next pause has begun"

    def test_leaves_records_alone_that_write_to_others(self) -> None:
        orders, clock = Orders(), Clock()
        handler = lambda_handler(orders)
        orders.other.fail(OSError("connection refused"))
        for _ in range(FAILURES):
            handler(kinesis_event([b"a", b"both", b"c"]), clock)
        orders.started.clear()
        handler(kinesis_event([b"a", b"both", b"c"]), clock)

        assert orders.started == ["a", "both"]
        assert len(orders.sink.requests) == FAILURES + 1, "what comes before it is delivered"
        assert len(orders.other.requests) == FAILURES

    @pytest.mark.parametrize("kind", ["invalid", "failed"])
    def test_is_told_from_one_that_refuses_which_is_an_answer(self, kind: Literal["invalid", "failed"]) -> None:
        orders, clock = Orders(), Clock()
        orders.sink.refuse(kind)
        handler = lambda_handler(orders)
        for _ in range(3 * FAILURES):
            handler(kinesis_event([b"a"]), clock)

        assert len(orders.sink.requests) == 3 * FAILURES

    def test_is_told_from_one_that_takes_a_part(self) -> None:
        orders, clock = Orders(), Clock()
        orders.sink.refuse(lambda item: "unavailable" if item == "b" else None)
        handler = lambda_handler(orders)
        for _ in range(3 * FAILURES):
            handler(kinesis_event([b"a", b"b"]), clock)

        assert len(orders.sink.requests) == 3 * FAILURES

    def test_is_not_taken_for_back_by_what_it_was_not_asked(self) -> None:
        class Choosy(Service):
            def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
                misfits = [
                    Refusal(write, NotAsked("misfit"), "invalid") for write in writes if write.payload == "misfit"
                ]
                return misfits + super().write(
                    [write for write in writes if write.payload != "misfit"], deadline=deadline
                )

        orders, clock = Orders(sink=Choosy()), Clock()
        again = failing(orders, clock, ["a", "misfit"], times=FAILURES)
        again()

        assert len(orders.sink.requests) == FAILURES

    def test_is_told_from_one_that_takes_a_part_while_more_wait_for_the_rest(self) -> None:
        orders, clock = Orders(sink=Waiting()), Clock()
        orders.sink.refuse(lambda item: "unavailable" if item == "b" else None)
        handler = lambda_handler(orders)
        for _ in range(3 * FAILURES):
            handler(kinesis_event([b"a", b"b", b"waits 1", b"waits 2", b"waits 3"]), clock)

        assert len(orders.sink.requests) == 3 * FAILURES

    def test_is_seen_behind_what_waits_and_its_reason_told(self, caplog: pytest.LogCaptureFixture) -> None:
        orders, clock = Orders(sink=Waiting()), Clock()
        orders.sink.refuse("unavailable")
        handler = lambda_handler(orders)
        for _ in range(3 * FAILURES):
            handler(kinesis_event([b"a", b"b", b"waits 1", b"waits 2", b"waits 3"]), clock)

        assert len(orders.sink.requests) == FAILURES
        (said,) = [one for one in caplog.messages if "has not answered" in one]
        assert said.endswith("the sink was told to refuse: unavailable")

    def test_has_no_breaker_where_it_wants_none(self) -> None:
        orders, clock = Orders(sink=Unwatched()), Clock()
        failing(orders, clock, times=3 * FAILURES)

        assert len(orders.sink.requests) == 3 * FAILURES

    def test_does_not_stop_its_neighbours_in_a_fan_out(self) -> None:
        class Search(Orders):
            name = "search"

        class Table(Orders):
            name = "table"

        search, table, clock = Search(), Table(), Clock()
        handler = lambda_handler(FanOut(search, table))
        search.sink.fail(OSError("connection refused"))
        for _ in range(FAILURES + 2):
            handler(kinesis_event([b"a"]), clock)

        assert len(search.sink.requests) == FAILURES
        assert len(table.sink.requests) == FAILURES + 2

    def test_no_payload_is_in_its_log(self, caplog: pytest.LogCaptureFixture) -> None:
        payload = "4111 1111 1111 1111 of a customer"
        orders, clock = Orders(), Clock()
        orders.sink.fail(OSError(f"can't send {payload}"))
        handler = lambda_handler(orders)
        for _ in range(FAILURES + 1):
            handler(kinesis_event([payload.encode()]), clock)

        assert "has not answered" in caplog.text
        assert payload not in caplog.text


class TestAnHoursOutage:
    """Guarantee 5 with a breaker: it costs few requests, and a minute after it all is delivered."""

    def outage(self, sink: MemorySink) -> tuple[Orders, MemoryQueue, MemoryQueue, EventSourceMapping, int]:
        queue, dead_letters = MemoryQueue(), MemoryQueue()
        orders = Orders(Divert(queue, dead_letters), sink)
        # How long Lambda waits between tries is nowhere said: here it has little patience.
        mapping = EventSourceMapping(lambda_handler(orders), shards=2, maximum_backoff_in_seconds=2, **PARTIAL)
        for minute in range(10):
            mapping.put(f"before-{minute}".encode(), "key")
            mapping.advance(60)
        mapping.put(b"poison", "other")
        sink.fail(OSError("connection refused"))
        asked = len(sink.requests)
        for second in range(0, int(HOUR), 60):
            mapping.put(f"{second}".encode(), f"key-{second // 60 % 6}", shard=second // 60 % 2)
            mapping.advance(60)
            assert len(queue) == 0
            assert [letter.data for letter in dead_letters] in ([], [b"poison"])
        asked = len(sink.requests) - asked
        sink.fail(None)
        return orders, queue, dead_letters, mapping, asked

    def test_leaves_both_queues_empty_and_everything_is_delivered_after_it(self) -> None:
        sink = Service()
        _, queue, dead_letters, mapping, asked = self.outage(sink)
        mapping.advance(5 * 60)

        assert asked <= 70, "one probe a minute, for all shards of the container"
        assert len(queue) == 0
        assert [letter.data for letter in dead_letters] == [b"poison"], "what can never succeed, and nothing else"
        assert mapping.discarded == []
        assert sorted(sink.items) == sorted(
            [f"before-{n}" for n in range(10)] + [str(second) for second in range(0, 3600, 60)]
        )
        for key in range(6):
            of_key = [int(item) for item in sink.items if item.isdigit() and int(item) // 60 % 6 == key]
            assert of_key == sorted(of_key)

    def test_would_cost_more_requests_without_a_breaker(self) -> None:
        asked = [self.outage(sink)[-1] for sink in (Unwatched(), Service())]

        print(f"requests in an hour's outage: {asked[0]:,} without a breaker, {asked[1]} with one")
        assert asked[0] > 20 * asked[1]

    def test_takes_no_attempt_from_what_waits_in_the_retry_queue(self) -> None:
        queue, dead_letters = MemoryQueue(visibility_timeout=360.0, most_receives=1000), MemoryQueue()
        orders, clock = Orders(Divert(queue, dead_letters, attempts=3)), Clock()
        handler = lambda_handler(orders)
        orders.sink.refuse("failed")
        handler(kinesis_event([b"a"]), clock)
        assert len(queue) == 1

        orders.sink.fail(Unavailable("down"))
        received = 0
        for _ in range(int(HOUR) // 10):
            queue.advance(10)
            clock.now += 10
            received += queue.deliver(handler, clock) is not None
        assert [envelope.attempts for envelope in queue] == [0]
        assert len(dead_letters) == 0
        assert received <= 10, "a message that stays comes again after its visibility time-out"

        orders.sink.fail(None)
        orders.sink.refuse(None)
        queue.advance(900)
        clock.now += 900
        queue.deliver(handler, clock)
        assert orders.sink.items == ["a"]
        assert len(queue) == len(dead_letters) == 0

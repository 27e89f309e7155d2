from __future__ import annotations

import copy
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from streamkit import Block, Divert, Record, RecordProcessor, StreamkitError, Write, kpl, lambda_handler
from streamkit.errors import BatchFailed
from streamkit.event import Batch
from streamkit.outcome import DONE, Outcome
from streamkit.progress.memory import MemoryProgress
from streamkit.testing import MemoryQueue, MemorySink, kinesis_event

SUCCESS: dict[str, list[Any]] = {"batchItemFailures": []}


class Orders(RecordProcessor):
    name = "orders"
    made = 0

    def __init__(self) -> None:
        type(self).made += 1
        self.sink = MemorySink()

    def process(self, record: Record) -> Write:
        return self.sink.item(record.data)


@pytest.fixture(autouse=True)
def none_made() -> None:
    Orders.made = 0


class TestTheSource:
    def test_may_be_a_class(self) -> None:
        handler = lambda_handler(Orders)

        assert handler(kinesis_event([b"a"]), None) == SUCCESS
        assert isinstance(handler.processor, Orders)

    def test_may_be_an_instance(self) -> None:
        orders = Orders()

        assert lambda_handler(orders)(kinesis_event([b"a"]), None) == SUCCESS
        assert orders.sink.items == [b"a"]

    def test_may_be_a_factory(self) -> None:
        orders = Orders()

        handler = lambda_handler(lambda: orders)

        assert handler(kinesis_event([b"a"]), None) == SUCCESS
        assert handler.processor is orders

    @pytest.mark.parametrize("source", [None, 7, "orders", MemorySink()])
    def test_may_be_nothing_else(self, source: Any) -> None:
        with pytest.raises(TypeError, match="takes a RecordProcessor's class, an instance or a factory"):
            lambda_handler(source)

    @pytest.mark.parametrize("source", [MemorySink, dict, lambda: None, lambda: Orders])
    def test_may_be_no_factory_of_anything_else(self, source: Any) -> None:
        handler = lambda_handler(source)

        with pytest.raises(TypeError, match="not a RecordProcessor"):
            handler(kinesis_event([b"a"]), None)

    def test_is_built_at_the_first_invocation_and_once(self) -> None:
        handler = lambda_handler(Orders)
        assert Orders.made == 0

        handler(kinesis_event([b"a"]), None)
        handler(kinesis_event([b"b"]), None)

        assert Orders.made == 1

    def test_that_could_not_be_built_is_built_at_the_next_invocation(self) -> None:
        down = [ConnectionError("the registry is down")]

        def make() -> Orders:
            if down:
                raise down.pop()
            return Orders()

        handler = lambda_handler(make)

        with pytest.raises(ConnectionError):
            handler(kinesis_event([b"a"]), None)
        assert handler(kinesis_event([b"a"]), None) == SUCCESS


class TestAnInvocation:
    @pytest.mark.parametrize("ping", [None, {}, {"source": "aws.events"}, {"warmer": True}])
    def test_by_a_warm_up_ping_succeeds_and_builds_nothing(self, ping: Any) -> None:
        handler = lambda_handler(Orders)

        assert handler(ping, None) == SUCCESS

        assert Orders.made == 0

    def test_with_an_empty_batch_succeeds_and_asks_nobody(self) -> None:
        class Prepared(Orders):
            def prepare(self, records: Sequence[Record]) -> None:
                raise AssertionError

        orders = Prepared()

        assert lambda_handler(orders)({"Records": []}, None) == SUCCESS
        assert orders.sink.requests == []

    @pytest.mark.parametrize("event", [{"detail": {}}, [], "text", {"Records": [{"eventSource": "aws:dynamodb"}]}])
    def test_by_an_unknown_event_is_an_error(self, event: Any) -> None:
        with pytest.raises(StreamkitError, match="trigger the function by"):
            lambda_handler(Orders)(event, None)

    def test_needs_no_context(self) -> None:
        assert lambda_handler(Orders)(kinesis_event([b"a"])) == SUCCESS

    def test_leaves_nothing_behind_for_the_next(self) -> None:
        class Failing(Orders):
            on_failure = Divert(MemoryQueue())

            def process(self, record: Record) -> Write:
                if record.data == b"bad":
                    raise ValueError
                return super().process(record)

        orders = Failing()
        handler = lambda_handler(orders)
        before = dict(vars(orders))

        for _ in range(3):
            handler(kinesis_event([b"good", b"bad"]), None)

        assert vars(orders) == before
        assert orders.sink.requests == [1, 1, 1]

    def test_does_not_change_the_event(self) -> None:
        event = kinesis_event([b"a", kpl.aggregate([kpl.UserRecord(b"b", "k")])])
        before = copy.deepcopy(event)

        lambda_handler(Orders)(event, None)

        assert event == before

    def test_of_a_ten_mebibyte_record_runs_it(self) -> None:
        orders = Orders()
        payload = bytes(10 * 1024 * 1024)

        assert lambda_handler(orders)(kinesis_event([payload]), None) == SUCCESS
        assert orders.sink.items == [payload]

    def test_opens_aggregates_as_the_processor_says(self) -> None:
        broken = kpl.aggregate([kpl.UserRecord(b"b", "k")])[:-1] + b"?"

        class Lenient(Orders):
            aggregates = "lenient"

        strict, lenient = Orders(), Lenient()

        assert lambda_handler(strict)(kinesis_event([broken]), None) != SUCCESS
        assert lambda_handler(lenient)(kinesis_event([broken]), None) == SUCCESS
        assert (strict.sink.items, lenient.sink.items) == ([], [broken])

    def test_by_a_topic_raises_where_its_record_failed(self) -> None:
        class Failing(Orders):
            def process(self, record: Record) -> Write:
                raise ValueError

        event = {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "n-1", "Message": "hello"}}]}

        assert lambda_handler(Orders)(event, None) == SUCCESS
        with pytest.raises(BatchFailed, match="n-1"):
            lambda_handler(Failing)(event, None)

    def test_says_where_an_aggregate_is_too_slow_for_one(self, caplog: pytest.LogCaptureFixture) -> None:
        class Context:
            left = 2.0

            def get_remaining_time_in_millis(self) -> float:
                return self.left * 1000

        context = Context()

        class Slow(Orders):
            def process(self, record: Record) -> Write:
                context.left -= 1
                return super().process(record)

        event = kinesis_event([kpl.aggregate(kpl.UserRecord(b"x", "k") for _ in range(5)), b"after"])

        answer = lambda_handler(Slow)(event, context)

        assert answer == {"batchItemFailures": [{"itemIdentifier": event["Records"][0]["kinesis"]["sequenceNumber"]}]}
        assert "set `progress`" in caplog.text

    def test_does_not_say_so_where_a_progress_store_lets_it_go_on(self, caplog: pytest.LogCaptureFixture) -> None:
        class Context:
            def get_remaining_time_in_millis(self) -> float:
                return 0.0

        class Slow(Orders):
            progress = MemoryProgress()

        event = kinesis_event([kpl.aggregate(kpl.UserRecord(b"x", "k") for _ in range(3))])
        handler = lambda_handler(Slow)

        answers = [handler(event, Context()) for _ in range(3)]

        assert [answer == SUCCESS for answer in answers] == [False, False, True]
        assert caplog.messages == []


class TestTheObserver:
    def test_sees_each_batch_with_its_final_outcomes(self) -> None:
        seen: list[tuple[str, list[Outcome]]] = []
        handler = lambda_handler(Orders)
        handler.observer = lambda batch: seen.append((batch.source, list(batch.outcomes)))

        handler(kinesis_event([b"a", b"b"]))
        handler({})  # A ping is no batch.

        assert seen == [("kinesis", [DONE, DONE])]

    def test_changes_no_answer_when_it_fails(self, caplog: pytest.LogCaptureFixture) -> None:
        def broken(batch: Batch) -> None:
            raise RuntimeError("broken")

        handler = lambda_handler(Orders)
        handler.observer = broken

        assert handler(kinesis_event([b"a"])) == SUCCESS
        assert "the observer of the handler has failed: RuntimeError: broken" in caplog.text


class Closing(MemorySink):
    def __init__(self) -> None:
        super().__init__()
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class ClosingQueue(MemoryQueue):
    closed = 0

    def close(self) -> None:
        self.closed += 1


class ClosingProgress(MemoryProgress):
    closed = 0

    def close(self) -> None:
        self.closed += 1


class TestClose:
    def test_closes_the_processor_and_its_sinks_queues_and_progress_store_once(self) -> None:
        queue, dead_letters = ClosingQueue(), ClosingQueue()

        class Shop(RecordProcessor):
            search = Closing()
            on_failure = Divert(queue, dead_letters)
            progress = ClosingProgress()
            closed = 0

            def __init__(self) -> None:
                self.warehouse = Closing()
                self.same = self.warehouse

            def process(self, record: Record) -> Iterator[Write]:
                yield self.search.item(1)

            def close(self) -> None:
                self.closed += 1

        shop = Shop()
        handler = lambda_handler(shop)
        handler(kinesis_event([b"a"]), None)

        handler.close()
        handler.close()

        assert shop.closed == 1
        assert (shop.search.closed, shop.warehouse.closed) == (1, 1)
        assert (queue.closed, dead_letters.closed) == (1, 1)
        assert shop.progress.closed == 1

    def test_before_the_first_invocation_builds_nothing(self) -> None:
        lambda_handler(Orders).close()

        assert Orders.made == 0

    def test_asks_no_property_of_the_processor(self) -> None:
        class Lazy(Orders):
            on_failure = Block(ClosingQueue())

            @property
            def registry(self) -> Any:
                raise ConnectionError("connects when asked for")

        handler = lambda_handler(Lazy)
        handler({"streamkit": "warm", "build": True}, None)

        handler.close()

        dead_letters = Lazy.on_failure.dead_letters
        assert isinstance(dead_letters, ClosingQueue)
        assert dead_letters.closed == 1

    def test_can_be_followed_by_another_invocation(self) -> None:
        handler = lambda_handler(Orders)
        handler(kinesis_event([b"a"]), None)
        handler.close()

        assert handler(kinesis_event([b"a"]), None) == SUCCESS
        assert Orders.made == 2


def test_invocations_of_two_handlers_in_two_threads_do_not_meet() -> None:
    together = threading.Barrier(2, timeout=60)

    class Waiting(Orders):
        def process(self, record: Record) -> Write:
            together.wait()
            return super().process(record)

    sinks: dict[str, list[Any]] = {}

    def run(name: str) -> None:
        orders = Waiting()
        lambda_handler(orders)(kinesis_event([name.encode()] * 5), None)
        sinks[name] = orders.sink.items

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sinks == {"one": [b"one"] * 5, "two": [b"two"] * 5}

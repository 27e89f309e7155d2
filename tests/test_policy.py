from __future__ import annotations

from typing import Any

import pytest

from streamkit import Block, Divert, Park, RecordProcessor
from streamkit.errors import ConfigurationError
from streamkit.ledgers.dynamodb import DynamoDbLedger
from streamkit.ledgers.memory import MemoryLedger
from streamkit.queues.sqs import SqsQueue
from streamkit.testing import MemoryQueue


class TestBlock:
    def test_needs_nothing(self) -> None:
        policy = Block()

        assert (policy.queue, policy.dead_letters) == (None, None)

    def test_takes_dead_letters(self) -> None:
        dead_letters = MemoryQueue()

        assert Block(dead_letters).dead_letters is dead_letters
        assert Block(dead_letters=dead_letters).queue is None


class TestDivert:
    def test_tries_three_times_unless_told_otherwise(self) -> None:
        queue, dead_letters = MemoryQueue(), MemoryQueue()

        policy = Divert(queue, dead_letters=dead_letters)

        assert (policy.queue, policy.dead_letters, policy.attempts) == (queue, dead_letters, 3)
        assert Divert(queue, attempts=1).attempts == 1

    def test_an_empty_queue_is_a_queue(self) -> None:
        queue = MemoryQueue()

        assert len(queue) == 0
        assert Divert(MemoryQueue(), queue).dead_letters is queue

    @pytest.mark.parametrize("attempts", [0, -1, 1.5, True, "3", None])
    def test_refuses_attempts_that_are_no_count(self, attempts: Any) -> None:
        with pytest.raises(ConfigurationError, match="whole number"):
            Divert(MemoryQueue(), attempts=attempts)

    def test_waits_for_15_seconds_at_most_before_its_first_retry_unless_told_otherwise(self) -> None:
        assert (Divert(MemoryQueue()).backoff, Divert(MemoryQueue()).max_backoff) == (15.0, 900.0)
        policy = Divert(MemoryQueue(), backoff=1, max_backoff=2.5)
        assert (policy.backoff, policy.max_backoff) == (1, 2.5)

    @pytest.mark.parametrize("option", ["backoff", "max_backoff"])
    @pytest.mark.parametrize("seconds", [-1, True, "3", None, float("nan"), float("inf")])
    def test_refuses_a_backoff_that_is_no_time(self, option: str, seconds: Any) -> None:
        with pytest.raises(ConfigurationError, match=rf"Divert\({option}\) takes seconds"):
            Divert(MemoryQueue(), **{option: seconds})

    def test_refuses_to_be_without_a_queue(self) -> None:
        with pytest.raises(ConfigurationError, match=r"Divert\(SqsQueue"):
            Divert(None)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            Divert()  # type: ignore[call-arg]


class TestPark:
    def test_tries_three_times_unless_told_otherwise(self) -> None:
        queue, ledger, dead_letters = MemoryQueue(fifo=True), MemoryLedger(), MemoryQueue()

        policy = Park(queue, ledger, dead_letters)

        assert (policy.queue, policy.ledger, policy.dead_letters) == (queue, ledger, dead_letters)
        assert policy.attempts == 3
        assert Park(queue, ledger, attempts=1).attempts == 1

    def test_refuses_what_it_can_not_work_with(self) -> None:
        queue, ledger = MemoryQueue(fifo=True), MemoryLedger()

        refused: list[tuple[str, Any, Any, dict[str, Any]]] = [
            (r"Park\(queue, ledger\) needs a FIFO queue", None, ledger, {}),
            (r"Park\(ledger\) takes a ledger, such as DynamoDbLedger", queue, "table", {}),
            (r"Park\(ledger\) takes a ledger", queue, None, {}),
            ("Park's queue and dead_letters are the same queue", queue, ledger, {"dead_letters": queue}),
            ("whole number", queue, ledger, {"attempts": 0}),
        ]
        for reason, a_queue, a_ledger, others in refused:
            with pytest.raises(ConfigurationError, match=reason):
                Park(a_queue, a_ledger, **others)

    def test_its_ledger_knows_who_holds_it(self) -> None:
        ledger = DynamoDbLedger.from_env("PARKED")

        class Orders(RecordProcessor):
            on_failure = Park(SqsQueue.from_env("RETRIES"), ledger)

        assert ledger.owner == "Orders.on_failure's ledger"

    def test_keeps_the_order_of_a_key_and_of_nothing_else(self) -> None:
        with pytest.raises(ConfigurationError, match="Park keeps the order of a key"):

            class Orders(RecordProcessor):
                ordering = "shard"
                on_failure = Park(SqsQueue.from_env("RETRIES"), MemoryLedger())


class TestQueues:
    @pytest.mark.parametrize("queue", ["https://sqs/q", MemoryQueue, object()])
    def test_that_are_none_are_refused(self, queue: Any) -> None:
        for make in (lambda: Block(queue), lambda: Divert(queue), lambda: Divert(MemoryQueue(), queue)):
            with pytest.raises(ConfigurationError, match="takes a queue"):
                make()

    def test_given_up_records_can_not_go_back_to_the_queue_they_come_from(self) -> None:
        queue = MemoryQueue()

        with pytest.raises(ConfigurationError, match="same queue"):
            Divert(queue, queue)

    def test_know_who_holds_them(self) -> None:
        retries, dead_letters = SqsQueue.from_env("RETRIES"), SqsQueue.from_env("DEAD_LETTERS")

        class Orders(RecordProcessor):
            on_failure = Divert(retries, dead_letters)

        assert retries.owner == "Orders.on_failure's queue"
        assert dead_letters.owner == "Orders.on_failure's dead_letters"

    def test_are_not_in_what_a_policy_prints(self) -> None:
        assert repr(Divert(SqsQueue("https://sqs/secret"))) == "Divert()"

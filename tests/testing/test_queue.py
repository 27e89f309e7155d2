"""A FIFO ``MemoryQueue`` has SQS's manners."""

from __future__ import annotations

from typing import Any

from streamkit.testing import MemoryQueue


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def queue_of(*texts: str, **options: Any) -> tuple[MemoryQueue, Clock]:
    """A queue of texts, each in the group of its first letter."""
    clock = Clock()
    queue = MemoryQueue(fifo=True, clock=clock, **options)
    for text in texts:
        queue.put(text, group=text[0])
    return queue, clock


def bodies(records: list[dict[str, Any]]) -> list[str]:
    return [record["body"] for record in records]


def test_nothing_of_a_group_is_received_while_a_message_of_it_is_in_flight() -> None:
    queue, clock = queue_of("a1", "a2", "b1", "a3", visibility_timeout=30)

    first = queue.receive(2)

    assert bodies(first) == ["a1", "a2"]
    assert bodies(queue.receive()) == ["b1"]
    queue.delete([first[0]["receiptHandle"]])
    assert queue.receive() == []
    clock.now += 30
    assert bodies(queue.receive()) == ["a2", "b1", "a3"]


def test_a_group_is_free_when_all_that_was_in_flight_is_deleted() -> None:
    queue, _ = queue_of("a1", "a2", visibility_timeout=30)
    (first,) = queue.receive(1)

    queue.delete([first["receiptHandle"]])

    assert bodies(queue.receive()) == ["a2"]


def test_a_receipt_that_another_receive_has_followed_deletes_nothing() -> None:
    queue, clock = queue_of("a1", visibility_timeout=30)
    (first,) = queue.receive()
    clock.now += 30
    (second,) = queue.receive()

    queue.delete([first["receiptHandle"]])
    assert len(queue) == 1
    queue.delete([second["receiptHandle"]])
    assert len(queue) == 0


def test_after_its_receives_a_message_goes_where_the_redrive_policy_says_and_its_group_goes_on() -> None:
    dead_letters = MemoryQueue(fifo=True)
    queue, _ = queue_of("a1", "a2", most_receives=2, redrive_to=dead_letters)
    for _ in range(2):
        assert bodies(queue.receive(1)) == ["a1"]

    assert bodies(queue.receive(1)) == ["a2"]

    assert [message.body for message in dead_letters.messages] == ["a1"]


def test_the_time_of_a_message_is_that_of_its_sending() -> None:
    queue, clock = queue_of("a1")
    clock.now += 500

    (record,) = queue.receive()

    assert record["attributes"]["SentTimestamp"] == "1000000"
    assert record["attributes"]["ApproximateReceiveCount"] == "1"

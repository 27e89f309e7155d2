"""What a run has come to, in rows."""

from __future__ import annotations

from streamkit import Divert, RecordProcessor, Reject, lambda_handler
from streamkit.cli.board import RETRY_QUEUE, Board, Tally, total
from streamkit.local.queue_runner import QueueCounts
from streamkit.local.status import ShardStatus
from streamkit.record import Record
from streamkit.testing import MemoryQueue, kinesis_event


class Orders(RecordProcessor):
    on_failure = Divert(MemoryQueue(), dead_letters=MemoryQueue())

    def process(self, record: Record) -> None:
        if record.data == b"reject":
            raise Reject("no")
        if record.data == b"fail":
            raise ValueError("no")


def test_the_tally_counts_what_was_sent_aside_by_shard() -> None:
    tally = Tally()
    handler = lambda_handler(Orders)
    handler.observer = tally

    handler(kinesis_event([b"good", b"reject", b"fail", b"fail"], shard_id="shardId-000000000007"))
    handler(kinesis_event([b"good", b"good"], shard_id="shardId-000000000008"))

    assert (tally.diverted("shardId-000000000007"), tally.dead_letters("shardId-000000000007")) == (2, 1)
    assert (tally.diverted("shardId-000000000008"), tally.dead_letters("shardId-000000000008")) == (0, 0)


def test_a_shard_that_was_lost_and_taken_again_is_one_row() -> None:
    board = Board()
    board.statuses = lambda: [
        ShardStatus("a", "lost", records=5, failures=1, checkpoint=10, behind=3.0),
        ShardStatus("b", "reading", records=1),
        ShardStatus("a", "reading", records=7, checkpoint=20, behind=1.0),
    ]

    first, second = board.rows()

    assert (first.shard_id, first.state, first.records, first.failures) == ("a", "reading", 12, 1)
    assert (first.checkpoint, first.age) == (20, 1.0)
    assert second.shard_id == "b"


def test_what_is_not_known_is_none_and_not_nought() -> None:
    board = Board()
    board.statuses = lambda: [ShardStatus("a", "reading")]
    board.queue = QueueCounts(received=3, invocations=2)

    shard, queue = board.rows()

    assert (shard.diverted, shard.dead_letters) == (None, None)
    assert (queue.shard_id, queue.records, queue.age) == (RETRY_QUEUE, 3, None)
    assert total([shard, queue]).diverted is None


def test_the_total_has_the_oldest_age_and_every_sum() -> None:
    board = Board()
    board.tally = Tally()
    board.statuses = lambda: [
        ShardStatus("a", records=2, behind=4.0, discarded=1, throttles=2),
        ShardStatus("b", records=3, behind=9, throttles=1, read_errors=1),
    ]

    whole = total(board.rows())

    assert (whole.records, whole.age, whole.discarded, whole.diverted, whole.dead_letters) == (5, 9.0, 1, 0, 0)
    assert (whole.throttles, whole.read_errors) == (3, 1)


def test_the_age_is_that_of_the_oldest_record_that_is_not_settled() -> None:
    waiting = ShardStatus("a", behind=5.0, oldest_arrival=100.0)

    assert waiting.age(170.0) == 70.0
    assert waiting.age(101.0) == 5.0
    assert ShardStatus("a").age(1000.0) == 0.0

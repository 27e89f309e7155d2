from __future__ import annotations

from typing import Any

import pytest

from streamkit import RecordProcessor
from streamkit.deadline import Deadline
from streamkit.errors import StreamkitError
from streamkit.event import decode
from streamkit.outcome import DONE, NOT_STARTED, Failed, Held, Outcome, Settled, Unavailable
from streamkit.positions import decode_entry, encode_entry
from streamkit.progress.base import ProgressStore
from streamkit.progress.memory import MemoryProgress
from streamkit.redelivery import Redelivery
from streamkit.testing import kinesis_event

SHARD = "stream/shardId-000000000000"
START = 100


class Orders(RecordProcessor):
    name = "orders"


def redelivery(store: ProgressStore | None, event: Any) -> Redelivery:
    orders = Orders()
    orders.progress = store
    return Redelivery(orders, decode(event), Deadline(None, 1.0))


def event(count: int = 4, start: int = START) -> dict[str, Any]:
    return kinesis_event([b"x"] * count, start=start)


def saved(store: MemoryProgress, number: int = START) -> Any:
    (data, *_) = store.entries("orders", SHARD, number, deadline=0.0)
    return decode_entry(data)


def keep(store: ProgressStore, number: int, *numbers: int, alone: bool = False) -> None:
    entry = encode_entry([(n, 0) for n in numbers], alone=alone)
    store.save("orders", SHARD, number, entry, deadline=0.0)


def outcomes_after(store: ProgressStore, start: int = START, count: int = 4) -> list[int]:
    """The places of the records that are still to be run."""
    one = redelivery(store, event(count, start))
    one.leave_out_what_is_done()
    return [index for index, outcome in enumerate(one._batch.outcomes) if outcome is NOT_STARTED]


class TestWhatIsLeftOut:
    def test_is_what_entries_under_lower_numbers_list(self) -> None:
        store = MemoryProgress()
        keep(store, 90, 101, 95)
        keep(store, 99, 103, 300)

        assert outcomes_after(store) == [0, 2]

    def test_is_what_entries_within_the_batch_list_too_as_a_crash_can_have_left_them(self) -> None:
        store = MemoryProgress()
        keep(store, 102, 102)

        assert outcomes_after(store) == [0, 1, 3]

    def test_is_nothing_of_an_entry_behind_the_batch_or_of_another_shard_or_processor(self) -> None:
        store = MemoryProgress()
        keep(store, 104, 101)
        for processor, shard in (("others", SHARD), ("orders", "stream/shardId-000000000001"), ("orders", "other/x")):
            store.save(processor, shard, 90, encode_entry([(101, 0)]), deadline=0.0)

        assert outcomes_after(store) == [0, 1, 2, 3]

    def test_is_nothing_of_what_stands_before_an_entry_that_stands_alone(self) -> None:
        store = MemoryProgress()
        keep(store, 90, 101)
        keep(store, 95, 102, alone=True)
        keep(store, 99, 103)

        assert outcomes_after(store) == [0, 1]

    def test_is_settled_whatever_decoding_said_of_it(self) -> None:
        store = MemoryProgress()
        keep(store, START, 100)
        spoilt = event(1)
        spoilt["Records"][0]["kinesis"]["data"] = None
        one = redelivery(store, spoilt)
        assert isinstance(one._batch.outcomes[0], Failed)

        one.leave_out_what_is_done()

        assert one._batch.outcomes == [Settled("an earlier delivery")]

    @pytest.mark.parametrize("data", [b"\x02\x00 of a newer version", b"\x01\x00 damaged", b""])
    def test_is_nothing_of_an_entry_that_can_not_be_read_and_the_log_says_so_without_its_data(
        self, data: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        store = MemoryProgress()
        keep(store, 90, 101)
        store.save("orders", SHARD, 95, data, deadline=0.0)

        assert outcomes_after(store) == [0, 2, 3]

        (line,) = caplog.messages
        assert SHARD in line
        assert "newer version" not in line


class TestWhatIsSaved:
    def test_is_what_is_done_or_settled_and_what_was_known_from_its_first_record_on(self) -> None:
        store = MemoryProgress()
        keep(store, 90, 99, 103, 500)
        one = redelivery(store, event())
        one.leave_out_what_is_done()
        one._batch.outcomes[:3] = [DONE, Failed(ValueError()), Settled("dead letters")]

        one.save()

        entry = saved(store)
        assert entry.positions == {(100, 0), (102, 0), (103, 0), (500, 0)}
        assert not entry.alone

    @pytest.mark.parametrize("outcome", [Failed(ValueError()), Held("a"), NOT_STARTED, Unavailable(ValueError())])
    def test_is_nothing_that_is_not_settled(self, outcome: Outcome) -> None:
        store = MemoryProgress()
        one = redelivery(store, event(2))
        one._batch.outcomes[:] = [DONE, outcome]

        one.save()

        assert saved(store).positions == {(100, 0)}

    @pytest.mark.parametrize("outcomes", [[DONE, DONE], [DONE, Settled("dead letters")], [NOT_STARTED, NOT_STARTED]])
    def test_is_nothing_where_nothing_comes_again_or_nothing_is_done(self, outcomes: list[Outcome]) -> None:
        store = MemoryProgress()
        one = redelivery(store, event(2))
        one.leave_out_what_is_done()
        one._batch.outcomes[:] = outcomes

        one.save()

        assert store.entries("orders", SHARD, 10**20, deadline=0.0) == []

    @pytest.mark.parametrize("outcomes", [[DONE, DONE], [DONE, NOT_STARTED]])
    def test_stands_alone_where_the_look_up_had_failed(self, outcomes: list[Outcome]) -> None:
        store = MemoryProgress()
        one = redelivery(store, event(2))
        shards, store._shards = store._shards, None  # type: ignore[assignment]  # Out of reach.
        one.leave_out_what_is_done()
        store._shards = shards
        one._batch.outcomes[:] = outcomes

        one.save()

        assert saved(store).alone

    def test_keeps_older_entries_out_as_the_one_did_whose_place_it_takes(self) -> None:
        store = MemoryProgress()
        keep(store, 90, 101)
        keep(store, 100, 102, alone=True)
        one = redelivery(store, event())
        one.leave_out_what_is_done()
        one._batch.outcomes[0] = DONE

        one.save()

        entry = saved(store)
        assert entry.alone
        assert entry.positions == {(100, 0), (102, 0)}


class TestABatch:
    @pytest.mark.parametrize(
        "other",
        [
            {"Records": []},
            {"Records": [{"eventSource": "aws:sqs", "messageId": "m", "body": "x"}]},
            {"Records": [{"EventSource": "aws:sns", "Sns": {"MessageId": "m", "Message": "x"}}]},
        ],
    )
    def test_of_anything_but_a_stream_never_asks_the_store(self, other: Any) -> None:
        class Untouched(MemoryProgress):
            def entries(self, *arguments: Any, **options: Any) -> list[bytes]:
                raise AssertionError

            save = entries  # type: ignore[assignment]  # Neither is called.

        one = redelivery(Untouched(), other)
        one.leave_out_what_is_done()
        one.save()

        assert not one._could_not_look_up

    def test_with_a_sequence_number_that_is_none_runs_all(self, caplog: pytest.LogCaptureFixture) -> None:
        odd = event(2)
        odd["Records"][1]["kinesis"]["sequenceNumber"] = "latest"
        one = redelivery(MemoryProgress(), odd)

        one.leave_out_what_is_done()
        one._batch.outcomes[0] = DONE
        one.save()

        assert one._batch.outcomes == [DONE, NOT_STARTED]
        assert len(caplog.messages) == 1

    def test_gives_the_store_the_deadline_and_reckons_with_what_it_took(self) -> None:
        class Slow(MemoryProgress):
            def entries(self, processor: str, shard: str, up_to: int, *, deadline: float) -> list[bytes]:
                left[0] -= 3.0
                raise StreamkitError("slow")

        left = [10.0]

        class Context:
            def get_remaining_time_in_millis(self) -> float:
                return left[0] * 1000

        orders = Orders()
        orders.progress = Slow()
        deadline = Deadline(Context(), 1.0)

        Redelivery(orders, decode(event()), deadline).leave_out_what_is_done()

        assert deadline.reserve == 4.0

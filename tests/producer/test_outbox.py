"""What a producer sends next: the rules one by one. The simulation plays them together."""

from __future__ import annotations

import random
from typing import Any

import pytest
from limits_buckets import WriteLimit

from streamkit.kpl import deaggregate
from streamkit.producer.future import Entry, PutFuture, Settlement, settle
from streamkit.producer.outbox import Outbox, Request, Settings
from streamkit.producer.shards import HASH_KEYS, Shard, ShardMap, hash_of, spread_hash_keys

MIB = 1024 * 1024
THROTTLED = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow down"}


def shards(*firsts: int, start: int = 0) -> ShardMap:
    ends = [*firsts[1:], HASH_KEYS]
    return ShardMap(
        Shard(f"shard-{start + n}", first, end - 1) for n, (first, end) in enumerate(zip(firsts, ends, strict=True))
    )


ONE, TWO = shards(0), shards(0, HASH_KEYS // 2, start=1)
LOW, HIGH = str(0), str(HASH_KEYS - 1)


def outbox(known: ShardMap | None = ONE, **settings: Any) -> Outbox:
    made = Outbox(Settings(**{"linger": 0.0, **settings}), jitter=lambda: 1.0)
    if known is not None:
        made.ask_map(0.0)
        made.take_map(known, 0.0)
    return made


def add(box: Outbox, *records: tuple[str, str], at: float = 0.0, hash_key: str | None = None) -> list[PutFuture]:
    """Records of a key and a text."""
    entries = [Entry(text.encode(), key, hash_key, PutFuture(), at) for key, text in records]
    box.add(entries)
    return [entry.future for entry in entries]


def texts(request: Request | None) -> list[list[str]]:
    """The user records of each Kinesis record."""
    assert request is not None
    contents = [bytes(parcel.content()[0]) for parcel in request.parcels]
    users = [deaggregate(data) for data in contents]
    return [
        [data.decode()] if one is None else [user.data.decode() for user in one]
        for data, one in zip(contents, users, strict=True)
    ]


def taken(request: Request, shard_id: str | None = None) -> list[dict[str, Any]]:
    return [
        {"ShardId": shard_id or outlet.shard.shard_id, "SequenceNumber": str(n)}
        for n, outlet in enumerate(request.outlets)
    ]


def next_of(box: Outbox, now: float = 0.0) -> Request:
    request = box.take(now)
    assert request is not None
    return request


def tell(settled: list[Settlement]) -> None:
    for settlement in settled:
        settle(settlement)


def test_an_aggregate_holds_what_one_shard_takes_and_lies_where_its_first_record_belongs() -> None:
    box = outbox(TWO)
    add(box, ("a", "1"), ("a", "2"), hash_key=LOW)
    add(box, ("b", "3"), hash_key=HIGH)

    request = next_of(box)

    assert texts(request) == [["1", "2"], ["3"]]
    assert [parcel.content()[1:] for parcel in request.parcels] == [("a", LOW), ("a", HIGH)]


def test_one_request_is_under_way_for_a_shard_and_others_go_on() -> None:
    box = outbox(TWO)
    add(box, ("a", "1"), hash_key=LOW)
    first = next_of(box)
    add(box, ("a", "2"), hash_key=LOW)
    add(box, ("b", "3"), hash_key=HIGH)

    second = next_of(box)

    assert texts(second) == [["3"]]
    assert box.take(0.0) is None
    box.answered(first, taken(first), 0.0)
    assert texts(box.take(0.0)) == [["2"]]


def test_plain_records_of_a_request_have_different_keys() -> None:
    box = outbox(is_aggregating=False)
    add(box, ("a", "1"), ("a", "2"), ("b", "3"))

    request = next_of(box)
    assert texts(request) == [["1"], ["3"]]
    box.answered(request, taken(request), 0.0)

    assert texts(box.take(0.0)) == [["2"]]


def test_what_was_refused_goes_before_anything_newer_though_a_later_record_was_taken() -> None:
    box = outbox(is_aggregating=False)
    add(box, ("a", "1"), ("b", "2"))
    request = next_of(box)
    add(box, ("a", "3"))
    tell(box.answered(request, [THROTTLED, taken(request)[1]], 0.0))

    assert box.take(0.05) is None  # It waits a little.
    second = next_of(box, 0.1)

    assert texts(second) == [["1"]]
    box.answered(second, taken(second), 0.1)
    assert texts(box.take(0.1)) == [["3"]]


def test_a_lost_answer_means_again_and_the_error_says_perhaps() -> None:
    box = outbox(record_ttl=10.0)
    futures = add(box, ("a", "1"))
    request = next_of(box)
    add(box, ("a", "2"), at=9.0)
    box.lost(request, "no answer", 0.0)

    again = next_of(box, 1.0)
    assert texts(again) == [["1", "2"]]
    box.lost(again, "refused", 1.0, perhaps=False)
    tell(box.expire(11.0))

    error = futures[0].exception(0)
    assert "not put in 10 s: refused" in str(error)
    assert getattr(error, "perhaps", None) is True


def test_after_a_new_map_nothing_is_sent_until_the_old_requests_are_back_and_then_all_is_sorted_anew() -> None:
    box = outbox()
    add(box, ("a", "1"), hash_key=LOW)
    add(box, ("b", "2"), hash_key=HIGH)
    request = next_of(box)
    add(box, ("a", "3"), hash_key=LOW)
    box.take_map(TWO, 1.0)

    assert box.take(1.0) is None
    box.answered(request, [THROTTLED], 1.0)

    assert texts(box.take(2.0)) == [["1", "3"], ["2"]]


def test_strangers_of_an_aggregate_go_again_and_the_others_are_where_the_answer_says() -> None:
    box = outbox()
    mine = add(box, ("a", "1"), hash_key=LOW)
    strangers = add(box, ("b", "2"), hash_key=HIGH)
    more = add(box, ("a", "3"), hash_key=LOW)
    request = next_of(box)

    # It split meanwhile: the answer names a shard that nobody knows yet.
    assert box.answered(request, taken(request, "shard-1"), 0.0) == []
    assert box.wants_map(1.0)
    box.ask_map(1.0)
    tell(box.take_map(TWO, 1.0))

    assert (mine[0].result(0).sub_sequence_number, more[0].result(0).sub_sequence_number) == (0, 2)
    assert not strangers[0].done()
    again = next_of(box, 1.0)
    assert texts(again) == [["2"]]
    assert again.outlets[0].shard.shard_id == "shard-2"


def test_a_list_that_does_not_cover_all_hash_keys_is_asked_for_again() -> None:
    box = outbox(None)
    add(box, ("a", "1"))
    assert box.wants_map(0.0)
    box.ask_map(0.0)
    box.take_map(ShardMap(TWO.open[:1]), 0.0)

    assert not box.wants_map(0.05)
    assert box.take(0.05) is None
    assert box.wants_map(0.1)


def test_a_full_aggregate_goes_at_once_and_is_full_to_99_percent() -> None:
    box = outbox(linger=60.0, bytes_per_second=float("inf"))
    add(box, *((f"key {n % 50}", "x" * 190) for n in range(6000)))

    (parcel,) = next_of(box).parcels

    assert 0.99 * MIB <= parcel.size <= MIB


def test_less_than_a_full_one_waits_for_others_until_its_time_or_a_flush() -> None:
    box = outbox(linger=0.1, record_ttl=None)
    add(box, ("a", "1"), at=5.0)
    assert box.take(5.05) is None
    assert box.next_at(5.05) == pytest.approx(5.1)
    assert box.take(5.11) is not None

    box = outbox(linger=60.0)
    add(box, ("a", "1"), at=5.0)
    box.flush(5.0)
    assert box.take(5.0) is not None


@pytest.mark.parametrize("size", [20, 1_000, 300_000])
@pytest.mark.parametrize("is_aggregating", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_a_shard_that_takes_a_request_at_any_time_before_its_answer_has_room_for_all_of_it(
    is_aggregating: bool, size: int, seed: int
) -> None:
    random_ = random.Random(seed)
    shard = WriteLimit()
    box = outbox(is_aggregating=is_aggregating)
    add(box, *((f"{n}", "x" * size) for n in range(30 if size > 10_000 else 10_000)))
    now = 0.0
    while box.count:
        request = box.take(now)
        if request is None:
            now = max(now + 0.001, box.next_at(now))
            continue
        under_way = random_.choice((0.001, 0.02, 0.4, 1.5)) * random_.random()
        arrives = now + under_way * random_.random()
        assert all(shard.take(arrives, parcel.size) for parcel in request.parcels)
        now += under_way
        box.answered(request, taken(request), now)


@pytest.mark.parametrize(("is_aggregating", "size"), [(True, 1_000), (False, 1_000), (False, 100)])
def test_what_a_shard_takes_is_made_use_of(is_aggregating: bool, size: int) -> None:
    box = outbox(is_aggregating=is_aggregating)
    add(box, *((f"{n}", "x" * size) for n in range(20_000)))
    now = 0.0
    while box.count:
        request = box.take(now)
        if request is None:
            now = max(now + 0.001, box.next_at(now))
            continue
        now += 0.02
        box.answered(request, taken(request), now)

    at_best = 20_000 * max(size / MIB, 0.001)
    assert now < 1.1 * at_best


def test_a_shard_that_an_old_list_leaves_out_comes_back_with_what_was_put_into_it() -> None:
    box = outbox(TWO, is_aggregating=False, bytes_per_second=1000.0)
    add(box, ("a", "x" * 999), ("a", "y"), hash_key=LOW)
    request = next_of(box)
    box.answered(request, taken(request), 0.0)
    for known in ONE, TWO:
        box.ask_map(1e-6)
        box.take_map(known, 1e-6)

    assert box.take(1e-6) is None
    assert texts(next_of(box, 1.0)) == [["y"]]


@pytest.mark.parametrize("records_per_second", [5.0, 1e6])
def test_what_a_plain_request_holds_has_room_however_low_the_limits_are_set(records_per_second: float) -> None:
    box = outbox(is_aggregating=False, bytes_per_second=1000.0, records_per_second=records_per_second)
    add(box, *((f"{n:03}", "x" * 97) for n in range(100)))

    request = next_of(box)

    assert len(request.parcels) == min(10, records_per_second)


def test_a_shard_that_refuses_gets_smaller_aggregates() -> None:
    box = outbox(bytes_per_second=float("inf"))
    add(box, *(("a", "x" * 1000) for _ in range(1000)))
    request = next_of(box)
    whole = request.parcels[0].size
    box.answered(request, [THROTTLED], 0.0)

    assert next_of(box, 1.0).parcels[0].size <= whole // 2


def test_a_record_that_no_aggregate_holds_goes_plain_and_in_its_turn() -> None:
    box = outbox(aggregate_bytes=100, bytes_per_second=float("inf"))
    add(box, ("a", "1"), ("a", "x" * 99), ("a", "3"))
    seen = []
    for _ in range(3):
        request = next_of(box)
        seen += [
            (parcel.aggregation is not None, text) for parcel, text in zip(request.parcels, texts(request), strict=True)
        ]
        box.answered(request, taken(request), 0.0)

    assert seen == [(True, ["1"]), (False, ["x" * 99]), (True, ["3"])]


def test_a_request_that_is_wrong_is_halved_until_the_wrong_record_is_alone_and_fails() -> None:
    box = outbox(is_aggregating=False, bytes_per_second=float("inf"), records_per_second=float("inf"))
    futures = add(box, *((f"{n}", f"{n}") for n in range(9)))
    error = ValueError("too large")
    for _ in range(30):
        request = box.take(0.0)
        if request is None:
            break
        if ["5"] in texts(request):
            tell(box.rejected(request, error, "too large", 0.0))
        else:
            tell(box.answered(request, taken(request), 0.0))

    assert [future.exception(0) is None for future in futures] == [n != 5 for n in range(9)]
    assert futures[5].exception(0).__cause__ is error  # type: ignore[union-attr]  # It has failed.


def test_what_waits_behind_a_record_that_failed_fails_with_it_and_other_keys_go_on() -> None:
    box = outbox(record_ttl=10.0, linger=60.0)
    old = add(box, ("a", "1"))
    new = add(box, ("a", "2"), ("b", "3"), at=9.0)

    tell(box.expire(11.0))

    assert "not put in 10 s" in str(old[0].exception(0))
    assert "an earlier record of its key was not put" in str(new[0].exception(0))
    assert not new[1].done()
    assert box.count == 1


def test_given_up_all_fails_and_a_late_answer_changes_nothing() -> None:
    box = outbox()
    futures = add(box, ("a", "1"))
    request = next_of(box)
    futures += add(box, ("a", "2"))

    tell(box.give_up("closed"))

    assert [getattr(future.exception(0), "perhaps", None) for future in futures] == [True, False]
    assert box.answered(request, taken(request), 0.0) == []
    assert (box.count, box.take(0.0)) == (0, None)


def test_an_answer_of_another_length_is_no_answer() -> None:
    box = outbox()
    add(box, ("a", "1"))
    request = next_of(box)

    assert box.answered(request, [], 0.0) == []
    assert texts(box.take(1.0)) == [["1"]]


def test_spread_hash_keys_are_even_round_the_ring_the_first_being_the_keys_own() -> None:
    hash_keys = [int(hash_key) for hash_key in spread_hash_keys("c-17", 4)]

    assert hash_keys[0] == hash_of("c-17")
    assert sorted((one - hash_keys[0]) % HASH_KEYS for one in hash_keys) == [n * HASH_KEYS // 4 for n in range(4)]

"""A key over several shards, and in order again."""

from __future__ import annotations

import pytest

from streamkit.errors import ConfigurationError
from streamkit.producer.spread import HEADER_BYTES, InOrder, Spreader, spread_of


def spread(*texts: str, key: str = "hot", spreader: Spreader | None = None) -> list[bytes]:
    spreader = spreader or Spreader()
    return [spreader.spread(text.encode(), key, 3)[0] for text in texts]


def test_the_header_goes_round_and_other_data_has_none() -> None:
    one, two = spread("one", "two")

    first, second = spread_of(one), spread_of(two)

    assert first is not None
    assert second is not None
    assert (first.data, first.number, second.data, second.number) == (b"one", 0, b"two", 1)
    assert first.run == second.run
    assert spread_of(b"plain") is None
    assert spread_of(one[: HEADER_BYTES - 1]) is None


def test_each_way_takes_its_turn() -> None:
    spreader = Spreader()

    hash_keys = [spreader.spread(b"", "hot", 3)[1] for _ in range(6)]

    assert hash_keys[:3] == hash_keys[3:]
    assert len(set(hash_keys)) == 3


def test_records_are_given_out_once_all_before_them_were() -> None:
    in_order: InOrder[str] = InOrder()
    data = spread(*"abcd")

    given = [in_order.add("hot", data[n], "abcd"[n]) for n in (0, 2, 3, 1)]

    assert given == [["a"], [], [], ["b", "c", "d"]]
    assert in_order.held == 0


def test_a_repeat_is_dropped_and_plain_data_passes() -> None:
    in_order: InOrder[str] = InOrder()
    data = spread(*"ab")

    assert in_order.add("hot", data[0], "a") == ["a"]
    assert in_order.add("hot", data[0], "a") == []
    assert in_order.add("hot", b"plain", "plain") == ["plain"]
    assert in_order.repeated == 1


def test_a_gap_is_passed_over_after_the_patience_and_what_comes_late_is_not_lost() -> None:
    now = [0.0]
    in_order: InOrder[str] = InOrder(patience=10.0, clock=lambda: now[0])
    data = spread(*"abcd")
    assert in_order.add("hot", data[1], "b") == []
    now[0] = 5.0
    assert in_order.add("hot", data[3], "d") == []
    assert in_order.due() == []

    now[0] = 10.0
    assert in_order.due() == ["b"]
    now[0] = 15.0
    assert in_order.due() == ["d"]

    assert in_order.add("hot", data[0], "a") == ["a"]
    assert in_order.add("hot", data[0], "a") == []
    assert (in_order.skipped, in_order.late, in_order.repeated, in_order.held) == (2, 1, 1, 0)


def test_what_is_held_is_bounded_and_so_are_the_runs() -> None:
    in_order: InOrder[str] = InOrder(most_held=2, most_runs=2)
    data = spread(*"abcd")

    assert [in_order.add("hot", data[n], "abcd"[n]) for n in (1, 2, 3)] == [[], [], ["b", "c", "d"]]

    for key in ("x", "y", "z"):
        in_order.add(key, spread("1", key=key)[0], key)
    assert len(in_order._runs) == 2


def test_keys_and_producers_are_ordered_each_for_itself() -> None:
    in_order: InOrder[str] = InOrder()

    assert in_order.add("hot", spread("a")[0], "a") == ["a"]
    assert in_order.add("hot", spread("b")[0], "b") == ["b"]
    assert in_order.add("other", spread("c", key="other")[0], "c") == ["c"]


def test_bounds_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        InOrder(most_held=0)

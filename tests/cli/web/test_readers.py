"""Whether somebody holds a shard's lease, as looks at it tell."""

from __future__ import annotations

from typing import Any

import msgspec

from streamkit.checkpoints.base import Lease
from streamkit.cli.web.readers import _Place

LEASE = Lease("orders", "shop", "shardId-0", owner="a", checkpoint=7)


def looked(*looks: tuple[float, dict[str, Any]]) -> _Place:
    """After looks at these times, each of which found a lease with these fields."""
    place = _Place()
    for at, fields in looks:
        place.take(msgspec.structs.replace(LEASE, **fields), at)
    return place


def test_one_look_tells_nothing_and_the_next_one_that_finds_it_renewed_does() -> None:
    assert _Place().is_held(100.0) is None
    assert looked((100.0, {"beat": 3})).is_held(100.0) is None
    assert looked((100.0, {"beat": 3}), (104.0, {"beat": 3})).is_held(104.0) is None
    assert looked((100.0, {"beat": 3}), (104.0, {"beat": 4})).is_held(104.0) is True


def test_what_is_not_renewed_for_thirty_seconds_is_held_by_nobody() -> None:
    for seen in ((), ((96.0, {"beat": 2}),)):
        place = looked(*seen, *((at, {"beat": 3}) for at in (100.0, 104.0, 128.0)))
        assert place.is_held(129.0) is not False

        place.take(msgspec.structs.replace(LEASE, beat=3), 130.0)

        assert place.is_held(130.0) is False


def test_what_was_given_up_is_held_by_nobody_at_once_and_who_takes_it_holds_it() -> None:
    assert looked((100.0, {"owner": ""})).is_held(100.0) is False
    assert looked((100.0, {}), (104.0, {"owner": ""})).is_held(104.0) is False
    assert looked((100.0, {"owner": ""}), (104.0, {"owner": "b", "term": 2})).is_held(104.0) is True


def test_after_a_time_without_looks_it_is_not_known_until_the_next_one() -> None:
    place = looked((100.0, {"beat": 3}), (104.0, {"beat": 4}))
    assert place.is_held(700.0) is None

    place.take(msgspec.structs.replace(LEASE, beat=90), 700.0)

    assert place.is_held(700.0) is True

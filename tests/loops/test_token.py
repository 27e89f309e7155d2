from __future__ import annotations

from typing import Any

import msgspec
import pytest

from streamkit.errors import StreamkitError
from streamkit.loops.token import MARK, SLACK, Ticket, Token

NOW = 1000.0
FREE = Token(4)
HANDED = Token(5, until=NOW + 60)
HELD = Token(5, "a", NOW + 60)


def test_a_token_that_is_free_or_whose_time_is_over_is_handed_out_in_a_new_generation() -> None:
    assert FREE.handed(NOW, NOW + 120) == Token(5, until=NOW + 120)
    for over in (Token(5, "a", NOW - SLACK), Token(5, until=NOW - SLACK)):
        assert over.handed(NOW, NOW + 120) == Token(6, until=NOW + 120)
    for not_yet in (HANDED, HELD, Token(5, "a", NOW - SLACK + 0.1)):
        assert not_yet.handed(NOW, NOW + 120) is None


def test_one_invocation_claims_a_generation() -> None:
    held = HANDED.claimed(5, "a", NOW + 120)

    assert held == Token(5, "a", NOW + 120)
    assert held is not None
    assert held.claimed(5, "b", NOW + 120) is None
    assert held.claimed(5, "a", NOW + 130) == Token(5, "a", NOW + 130), "whose first answer was lost"
    assert HANDED.claimed(4, "b", NOW + 120) is None
    assert FREE.claimed(4, "b", NOW + 120) is None


def test_only_its_owner_changes_a_token_that_is_held() -> None:
    assert HELD.renewed(5, "a", NOW + 90, 3.0) == Token(5, "a", NOW + 90, age=3.0)
    assert HELD.passed_on(5, "a", NOW + 90) == Token(6, until=NOW + 90)
    assert HELD.given_back(5, "a") == Token(6)
    for generation, owner in ((5, "b"), (4, "a"), (6, "a"), (5, "")):
        assert HELD.renewed(generation, owner, NOW + 90, 0) is None
        assert HELD.passed_on(generation, owner, NOW + 90) is None
        assert HELD.given_back(generation, owner) is None


def test_a_loop_is_told_to_end_and_to_go_on_after_all_and_hears_it_when_it_renews() -> None:
    told = HELD.wanted(False)
    assert told is not None
    assert told.wanted(False) is None
    renewed = told.renewed(5, "a", NOW + 90, 0)
    assert renewed is not None
    assert not renewed.is_wanted
    assert renewed.wanted(True) == Token(5, "a", NOW + 90)
    assert FREE.wanted(False) is None


def test_the_token_of_a_dead_loop_that_is_not_wanted_is_cleared() -> None:
    assert HELD.cleared(NOW) is None
    assert HELD.cleared(NOW + 60 + SLACK) == Token(6)


def test_a_token_comes_back_as_it_was_kept() -> None:
    assert Token.of(HELD.value()) == HELD
    assert Token.of(None) is None
    with pytest.raises(StreamkitError, match="delete that item"):
        Token.of({"generation": "five"})


def test_a_ticket_comes_back_as_it_was_sent() -> None:
    ticket = Ticket("orders", 3, 7)

    assert Ticket.of(msgspec.json.decode(ticket.encode()), "orders") == ticket


@pytest.mark.parametrize(
    "event",
    [
        *(None, 7, [], {}, {"Records": []}, {MARK: 2, "loop": "orders", "token": 1, "generation": 1}),
        *({MARK: 1, "loop": "orders", "token": token, "generation": 1} for token in ("1", None, 1.5)),
        *({MARK: 1, "loop": "orders", "token": 1}, {MARK: 1, "loop": "others", "token": 1, "generation": 1}),
    ],
)
def test_what_is_no_ticket_is_refused(event: Any) -> None:
    with pytest.raises(StreamkitError, match="ticket of"):
        Ticket.of(event, "orders")

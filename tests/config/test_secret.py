"""A secret shows itself to whoever asks for it, and to nobody else."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback

import msgspec
import pytest

from streamkit.config import Found, Secret

HIDDEN = "hunter2-and-more"


@pytest.mark.parametrize(
    "shown",
    [
        *(
            repr(Secret(HIDDEN)),
            str(Secret(HIDDEN)),
            f"{Secret(HIDDEN)}",
            f"{Secret(HIDDEN)!r:>40}",
            "%s" % Secret(HIDDEN),  # noqa: UP031  # It is what is tested.
        ),
        *(
            repr([Secret(HIDDEN)]),
            repr({"password": Secret(HIDDEN)}),
            repr(Found(HIDDEN, is_secret=True)),
            repr(Found(HIDDEN)),
        ),
    ],
)
def test_it_is_not_in_what_is_printed(shown: str) -> None:
    assert HIDDEN not in shown


def test_whoever_asks_gets_it() -> None:
    assert Secret(HIDDEN).reveal() == HIDDEN


def test_it_has_no_attributes_to_list() -> None:
    with pytest.raises(TypeError):
        vars(Secret(HIDDEN))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_can_not_be_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="can't be pickled") as raised:
        pickle.dumps({"password": Secret(HIDDEN)}, protocol)

    assert HIDDEN not in "".join(traceback.format_exception(raised.value))


def test_no_encoder_of_json_takes_it() -> None:
    for encode in (json.dumps, msgspec.json.encode, msgspec.msgpack.encode):
        with pytest.raises(TypeError) as raised:
            encode({"password": Secret(HIDDEN)})
        assert HIDDEN not in str(raised.value)


def test_a_copy_is_the_same() -> None:
    secret = Secret(HIDDEN)

    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_two_are_equal_where_what_they_hide_is() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    with pytest.raises(TypeError, match="unhashable"):
        {Secret("a")}


def test_a_log_of_it_has_none_of_it(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("orders").warning("the password is %s, %r", Secret(HIDDEN), {"all": Secret(HIDDEN)})

    assert HIDDEN not in caplog.text

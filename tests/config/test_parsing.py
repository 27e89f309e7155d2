"""From texts to values, and what is said of those that are none."""

from __future__ import annotations

import builtins
import datetime
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import pytest

from streamkit.config import parsing
from streamkit.config.parsing import Unparsed
from streamkit.errors import ConfigurationError


class Limits(msgspec.Struct, forbid_unknown_fields=True):
    most: int
    mode: Literal["fast", "slow"] = "fast"


class Picky(msgspec.Struct):
    """Its own check raises the error of that name, with what it was given in the message."""

    error: str

    def __post_init__(self) -> None:
        raise getattr(builtins, self.error, msgspec.ValidationError)(f"hunter2 {self.error}")


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        *((parsing.integer(None, None), text, value) for text, value in [("7", 7), (" -7\n", -7), ("+0012", 12)]),
        *((parsing.number(None, None), text, value) for text, value in [("7", 7.0), ("1e3", 1000.0), (" .5 ", 0.5)]),
        *((parsing.boolean, text, True) for text in ("true", "True", "YES", "on", "1 ")),
        *((parsing.boolean, text, False) for text in ("false", "No", "off", "0")),
        *((parsing.texts, text, value) for text, value in [("a,b", ("a", "b")), ("", ()), (" a , b", ("a", "b"))]),
        (parsing.texts, '["a,b", "c"]', ("a,b", "c")),
        (parsing.of_type(Limits), '{"most": 3}', Limits(3)),
        (parsing.of_type(dict[str, int]), '{"a": 1}', {"a": 1}),
        (parsing.of_type(Literal["fast", "slow"]), "slow", "slow"),
        (parsing.of_type(datetime.date), "2026-11-30", datetime.date(2026, 11, 30)),
        (parsing.of_type(int | None), "null", None),
        (parsing.then(parsing.integer(None, None), lambda number: number * 2), "4", 8),
    ],
)
def test_what_a_text_is(parse: Callable[[str], Any], text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "why"),
    [
        *(
            (parsing.integer(None, None), text, "it is no whole number")
            for text in ("", "1_000", "1.0", "٣", "9" * 5000, "1e3")
        ),
        (parsing.integer(1, None), "0", "it is less than 1"),
        (parsing.integer(None, 9), "10", "it is more than 9"),
        *((parsing.number(None, None), text, "it is no number") for text in ("", "nan", "-inf", "1_0", "1e999", "٣")),
        (parsing.boolean, "perhaps", "it is none of true"),
        (parsing.of_type(Limits), '{"most": "3"}', r"it is no Limits: Expected `int`, got `str` - at `\$.most`"),
        (parsing.of_type(Limits), '{"most": 3, "mode": "hunter2"}', "it is no Limits: Invalid enum value …"),
        (parsing.of_type(Limits), "hunter2", "it is no JSON, and no Limits either"),
        (parsing.of_type(Literal["fast"]), "hunter2", "it is no JSON, and no"),
        (parsing.of_type(list[int]), "[" * 100_000, "it is no list: Expected `int`"),
        (parsing.of_type(int), "\ud800", "it is no JSON"),
        *(
            (parsing.of_type(Picky), f'{{"error": "{error}"}}', f"it is no Picky: its type raised {error}$")
            for error in (
                *("KeyError", "ValueError", "TypeError", "RuntimeError", "AssertionError", "ArithmeticError"),
                "ValidationError",
            )
        ),
        (parsing.hidden(parsing.of_type(Picky)), '{"error": "KeyError"}', "it is not of its type; what it is instead"),
        (parsing.texts, '["hunter2", 3]', "it is no tuple"),
        (parsing.then(parsing.text, lambda text: {}[text]), "hunter2", "what is made of it raised KeyError"),
        (
            parsing.hidden(parsing.of_type(Limits)),
            '{"hunter2": 1}',
            "it is not of its type; what it is instead is not told",
        ),
    ],
)
def test_what_is_none_is_told_without_a_word_of_it(parse: Callable[[str], Any], text: str, why: str) -> None:
    with pytest.raises(Unparsed, match=why) as raised:
        parse(text)

    assert "hunter2" not in str(raised.value)
    # Nor in what a reporter of errors would follow.
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None


def test_a_type_that_nothing_can_be_decoded_to_is_told_where_it_is_declared() -> None:
    with pytest.raises(ConfigurationError, match="none that msgspec can decode"):
        parsing.of_type(dict[list[int], int] | list[int] | tuple[int])

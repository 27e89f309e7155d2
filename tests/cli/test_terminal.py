"""What a person reads."""

from __future__ import annotations

import pytest

from streamkit.cli.terminal import duration, printable, shortened


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0, "0 s"), (0.04, "0 s"), (1.25, "1.2 s"), (59.99, "59.9 s"), (60, "1 min"), (184, "3 min 4 s")),
        *((3600, "1 h"), (7530, "2 h 5 min"), (86_399, "23 h 59 min"), (273_600, "3 d 4 h")),
    ],
)
def test_a_duration_is_short_and_never_says_more_than_it_is(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_position_is_shortened_in_its_middle() -> None:
    assert shortened(49590338271490256608559692538361571095921575989136588898) == "4959…6588898"
    assert (shortened(123456789012), shortened(None)) == ("123456789012", "–")


def test_every_character_that_does_not_print_is_escaped() -> None:
    assert printable("a b ü 字 🙂") == "a b ü 字 🙂"
    assert printable("\x00\x1b\x7f\x9b\u2028\u202e\ud800") == r"\x00\x1b\x7f\x9b\u2028\u202e\ud800"

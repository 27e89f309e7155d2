"""Base64, decoded by whichever way is cheaper: both ways are to accept the same texts, and make the same bytes of them."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamkit import b64

# The alphabet with what is nearly of it, so that padding, length and strangers are all met.
near_misses = st.text("ABCDwxyz01+/==\n -_\x00é\ud800", max_size=14)


@pytest.fixture(scope="module", autouse=True)
def _alone_again() -> Iterator[None]:
    before = b64._keeps_lock
    yield
    b64._keeps_lock = before


def decoded(text: str, *, keeps_lock: bool) -> bytes | str:
    b64._keeps_lock = keeps_lock
    try:
        return b64.decode(text)
    except ValueError as error:
        return str(error)


@given(st.binary(max_size=400))
@example(b"x" * 10_000)
@pytest.mark.parametrize("keeps_lock", [False, True])
def test_what_was_encoded_comes_back(keeps_lock: bool, data: bytes) -> None:
    assert decoded(base64.b64encode(data).decode(), keeps_lock=keeps_lock) == data


@given(near_misses)
@example("AB==CD==")
@example("AR==")
@example("A===")
@example("")
def test_both_ways_say_the_same_of_any_text(text: str) -> None:
    assert decoded(text, keeps_lock=True) == decoded(text, keeps_lock=False)


@given(near_misses)
@pytest.mark.parametrize("keeps_lock", [False, True])
def test_what_is_accepted_the_standard_library_accepts_too(keeps_lock: bool, text: str) -> None:
    accepted = decoded(text, keeps_lock=keeps_lock)
    assert isinstance(accepted, str) or accepted == base64.b64decode(text, validate=True)


def test_when_the_lock_is_kept_pybase64_is_asked_about_long_texts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    decode = b64._b64decode
    monkeypatch.setattr(b64, "_b64decode", lambda text, *rest: asked.append(len(text)) or decode(text, *rest))  # type: ignore[func-returns-value]  # For its side effect.
    b64.keep_lock()
    assert b64.decode("QUJD") == b"ABC"
    b64.decode("QUJD" * 5000)
    assert asked == [20_000]

"""Unpacking with a limit."""

from __future__ import annotations

import gzip
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.gunzip import DamagedGzip, TooMuchInGzip, gunzip


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=6), st.integers(0, 600))
def test_all_members_are_unpacked_and_zeros_behind_them_are_padding(contents: list[bytes], zeros: int) -> None:
    packed = b"".join(map(gzip.compress, contents))
    assert gunzip(packed + b"\0" * zeros, 20_000) == b"".join(contents)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 1_000_000])
def test_the_limit_is_exact(size: int) -> None:
    packed = gzip.compress(b"x" * size)
    assert len(gunzip(packed, size)) == size
    with pytest.raises(TooMuchInGzip, match=f"more than {size - 1:,} bytes"):
        gunzip(packed, size - 1)


def test_the_limit_is_of_all_members_together() -> None:
    with pytest.raises(TooMuchInGzip):
        gunzip(gzip.compress(b"x" * 60) * 2, 100)


@given(st.binary(min_size=1, max_size=3000), st.data())
def test_what_is_cut_off_anywhere_ends_early(content: bytes, data: st.DataObject) -> None:
    packed = gzip.compress(content)
    cut = data.draw(st.integers(1, len(packed) - 1))
    with pytest.raises(DamagedGzip, match="ends early"):
        gunzip(packed[:cut], 10_000)


def test_what_is_no_gzip_is_damaged() -> None:
    for content in (b"plain", gzip.compress(b"a") + b"tail", gzip.compress(b"a" * 100)[:-4] + b"abcd"):
        with pytest.raises(DamagedGzip, match="damaged"):
            gunzip(content, 1000)


def test_nothing_is_nothing() -> None:
    assert gunzip(b"", 10) == b""


def test_a_megabyte_of_members_without_anything_in_them_is_no_work_to_speak_of() -> None:
    content = gzip.compress(b"") * 52_000
    begun = time.process_time()
    assert gunzip(content, 10) == b""
    assert time.process_time() - begun < 2

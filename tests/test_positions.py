from __future__ import annotations

import contextlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.positions import MOST_BYTES, Entry, Position, decode_entry, encode_entry

FIRST = 49590338271490256608559692538361571095921575989136588898
#: How far apart Kinesis's sequence numbers are.
STEP = 2**80

positions = st.frozensets(st.tuples(st.integers(0, 10**128 - 1), st.integers(0, 300)), max_size=60)


class TestAnEntry:
    @given(positions, st.booleans())
    def test_comes_back_as_it_was(self, listed: frozenset[Position], alone: bool) -> None:
        assert decode_entry(encode_entry(listed, alone=alone)) == Entry(listed, alone)

    @given(st.sets(st.integers(0, 5000)), st.integers(0, 10**128 - 1))
    def test_keeps_any_sub_sequence_numbers_of_an_aggregate(self, subs: set[int], number: int) -> None:
        listed = frozenset((number, sub) for sub in subs)

        assert decode_entry(encode_entry(listed)).positions == listed

    @given(positions, st.integers(0, 300))
    def test_that_is_over_the_limit_keeps_the_lowest(self, listed: frozenset[Position], most: int) -> None:
        data = encode_entry(listed, most_bytes=most)

        kept = decode_entry(data).positions
        assert sorted(kept) == sorted(listed)[: len(kept)]
        assert len(data) <= most + 30

    def test_never_lists_what_lies_between_two_positions(self) -> None:
        listed = {(FIRST, 0), (FIRST + 2, 0), (FIRST + 2, 4), (FIRST + 2, 6)}

        assert decode_entry(encode_entry(listed)).positions == listed

    def test_of_the_largest_batch_is_whole_and_within_what_a_store_takes(self) -> None:
        listed = {(FIRST + n * STEP + n % 7, 0) for n in range(10_000)}

        data = encode_entry(listed)

        assert decode_entry(data).positions == listed
        assert len(data) <= MOST_BYTES

    def test_of_a_large_aggregate_takes_a_few_bytes(self) -> None:
        assert len(encode_entry((FIRST, sub) for sub in range(100_000))) < 60

    def test_of_one_aggregate_that_is_over_the_limit_keeps_its_first(self) -> None:
        listed = [(FIRST, sub) for sub in range(0, 1000, 2)]

        kept = decode_entry(encode_entry(listed, most_bytes=200)).positions

        assert kept
        assert sorted(kept) == listed[: len(kept)]

    def test_stays_within_the_limit_where_nothing_can_be_compressed(self) -> None:
        import random

        chance = random.Random(1)
        listed = {(chance.randrange(10**128), 0) for _ in range(5000)}

        assert len(encode_entry(listed)) <= 132_000


class TestWhatIsNoEntry:
    @pytest.mark.parametrize("data", [b"", b"\x01", b"\x02\x00", b"{}", b"\x01\x02" + zlib.compress(b"")])
    def test_is_of_an_unknown_version(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="version"):
            decode_entry(data)

    @pytest.mark.parametrize(
        "data",
        [
            b"\x01\x00",
            b"\x01\x00text",
            b"\x01\x00" + zlib.compress(b"\x80"),
            b"\x01\x00" + zlib.compress(b"\x01"),
            b"\x01\x00" + zlib.compress(b"\x01\x02\x00\x00"),
            b"\x01\x00" + zlib.compress(b"\x01\x00") + b"more",
            b"\x01\x00" + zlib.compress(bytes(MOST_BYTES + 1)),
        ],
    )
    def test_is_damaged(self, data: bytes) -> None:
        with pytest.raises(ValueError, match="damaged"):
            decode_entry(data)

    @pytest.mark.parametrize(
        "claimed",
        [
            b"\x01\x01\x00" + b"\xff" * 8 + b"\x7f",  # A run of 2^63.
            b"\x01\x01\x00\xc0\x84\x3d",  # A million and one.
            b"\x01\x01\x00\xff\x7f" + b"\x00\x01\x00\xff\x7f" * 1000,  # The same ones again and again.
            b"\x01\xff\x7f" + b"\x00\xff\x7f" * 1000,
        ],
    )
    def test_claims_more_than_is_ever_written(self, claimed: bytes) -> None:
        with pytest.raises(ValueError, match="claims more"):
            decode_entry(b"\x01\x00" + zlib.compress(claimed))

    def test_has_a_number_longer_than_any_sequence_number(self) -> None:
        with pytest.raises(ValueError, match="damaged"):
            decode_entry(b"\x01\x00" + zlib.compress(b"\xff" * 100_000 + b"\x01\x00"))

    @given(st.binary(max_size=200), st.booleans())
    def test_is_any_bytes_that_are_none(self, body: bytes, alone: bool) -> None:
        try:
            entry = decode_entry(bytes([1, alone]) + zlib.compress(body))
        except ValueError:
            return

        assert decode_entry(encode_entry(entry.positions, alone=entry.alone)) == entry

    @given(positions.filter(bool), st.data())
    def test_is_an_entry_that_lost_its_end(self, listed: frozenset[Position], data: st.DataObject) -> None:
        whole = encode_entry(listed)

        with pytest.raises(ValueError, match=r"damaged|version"):
            decode_entry(whole[: data.draw(st.integers(0, len(whole) - 1))])

    @given(positions, st.data())
    def test_is_an_entry_with_a_byte_changed(self, listed: frozenset[Position], data: st.DataObject) -> None:
        whole = bytearray(encode_entry(listed))
        at = data.draw(st.integers(4, len(whole) - 1))
        whole[at] ^= data.draw(st.integers(1, 255))

        # Deflate has bits that mean nothing; what is read in spite of a change is what was written.
        with contextlib.suppress(ValueError):
            assert decode_entry(bytes(whole)).positions == listed

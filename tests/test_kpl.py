"""The KPL format. aws-kinesis-agg and its generated class are the oracle, but for the differences listed last."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from typing import Any

import pytest
from aws_kinesis_agg import aggregator, deaggregator
from aws_kinesis_agg.messages_pb2 import AggregatedRecord
from hypothesis import example, given
from hypothesis import strategies as st

from streamkit.errors import DecodeError
from streamkit.kpl import BASE64_PREFIX, MAGIC, UserRecord, aggregate, deaggregate

SECRET = b"TOPSECRET"

partition_keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256)
few_keys = st.sampled_from(["a", "b", "ключ", "k" * 200])
hash_keys = st.integers(0, 2**128 - 1).map(str)
tags = st.lists(st.tuples(st.text(max_size=5), st.none() | st.text(max_size=5)), max_size=3).map(tuple)
user_records = st.builds(
    UserRecord,
    data=st.binary(max_size=300),
    partition_key=partition_keys | few_keys,
    explicit_hash_key=st.none() | hash_keys,
    tags=st.just(()) | tags,
)


def envelope(message: bytes) -> bytes:
    return MAGIC + message + hashlib.md5(message).digest()


def varint(value: int, width: int = 1) -> bytes:
    """``value`` in its shortest form, or padded to ``width`` bytes."""
    out: list[int] = []
    while value > 127 or len(out) < width - 1:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def sized(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def record(data: bytes, index: int = 0, *more: bytes) -> bytes:
    return sized(3, number(1, index) + sized(3, data) + b"".join(more))


KEY = sized(1, b"key")


def read(message: bytes) -> list[UserRecord]:
    records = deaggregate(envelope(message))
    assert records is not None
    return records


def lambda_record(data: bytes) -> dict[str, Any]:
    fields = {"kinesisSchemaVersion": "1.0", "sequenceNumber": "1", "partitionKey": "outer"}
    return {
        "eventSource": "aws:kinesis",
        "kinesis": {**fields, "approximateArrivalTimestamp": 1.5, "data": base64.b64encode(data).decode()},
    }


def read_by_peer(data: bytes) -> list[tuple[Any, ...]] | None:
    """What aws-kinesis-agg makes of ``data``; None where it takes it for plain data."""
    found = [record["kinesis"] for record in deaggregator.deaggregate_records([lambda_record(data)])]
    if any("aggregated" not in fields for fields in found):
        return None
    return [
        (base64.b64decode(f["data"]), f["partitionKey"], f["explicitHashKey"], f["subSequenceNumber"]) for f in found
    ]


def as_peer(records: list[UserRecord] | None) -> list[tuple[bytes, str | None, str | None, int]] | None:
    if records is None:
        return None
    return [(r.data, r.partition_key, r.explicit_hash_key, r.sub_sequence_number) for r in records]


def as_protobuf_has_it(message: bytes) -> list[tuple[Any, ...]] | None:
    """The records of ``message`` by the generated class, damaged ones marked, those with a key that is longer than Kinesis takes
    among them; None where it refuses the message."""
    try:
        parsed = AggregatedRecord.FromString(message)
    except Exception:
        return None

    def text(value: Any) -> bool:
        return isinstance(value, str)  # the generated class hands out bytes where they are not UTF-8

    def looked_up(table: Any, index: int, most: int) -> Any:
        return table[index] if index < len(table) and text(table[index]) and len(table[index]) <= most else None

    expected = []
    for place, r in enumerate(parsed.records):
        key = (
            looked_up(parsed.partition_key_table, r.partition_key_index, 256)
            if r.HasField("partition_key_index")
            else None
        )
        hash_key = None
        damaged = key is None or not r.HasField("data")
        if r.HasField("explicit_hash_key_index"):
            hash_key = looked_up(parsed.explicit_hash_key_table, r.explicit_hash_key_index, 39)
            damaged = damaged or hash_key is None
        found = []
        for tag in r.tags:
            if tag.HasField("key") and text(tag.key) and text(tag.value):
                found.append((tag.key, tag.value if tag.HasField("value") else None))
            else:
                damaged = True
        expected.append((r.data, key, hash_key, tuple(found), place, damaged))
    return expected


def as_protobuf(records: list[UserRecord]) -> list[tuple[Any, ...]]:
    return [
        (r.data, r.partition_key, r.explicit_hash_key, r.tags, r.sub_sequence_number, r.error is not None)
        for r in records
    ]


# Round trip and agreement


@given(st.lists(user_records, min_size=1, max_size=20))
def test_what_was_aggregated_comes_back_in_order_with_sub_sequence_numbers(given_records: list[UserRecord]) -> None:
    found = deaggregate(aggregate(given_records))

    assert found == [
        UserRecord(r.data, r.partition_key, r.explicit_hash_key, r.tags, place) for place, r in enumerate(given_records)
    ]


@given(st.lists(user_records, min_size=1, max_size=20))
def test_an_aggregate_is_what_the_generated_class_reads_too(given_records: list[UserRecord]) -> None:
    message = aggregate(given_records)[4:-16]

    assert as_protobuf_has_it(message) == as_protobuf(read(message))


@given(st.lists(st.tuples(st.binary(max_size=300), partition_keys | few_keys, hash_keys), min_size=1, max_size=20))
@pytest.mark.parametrize("with_hash_keys", [False, True])
def test_aws_kinesis_agg_reads_our_aggregates(
    with_hash_keys: bool, given_records: list[tuple[bytes, str, str]]
) -> None:
    records = [UserRecord(data, key, hash_key if with_hash_keys else None) for data, key, hash_key in given_records]

    data = aggregate(records)

    assert read_by_peer(data) == as_peer(deaggregate(data))
    assert [found[:3] for found in read_by_peer(data) or []] == [
        (r.data, r.partition_key, r.explicit_hash_key) for r in records
    ]


@given(st.lists(st.tuples(st.binary(max_size=300), partition_keys | few_keys, st.none() | hash_keys), min_size=1))
def test_aggregates_of_aws_kinesis_agg_are_read(given_records: list[tuple[bytes, str, str | None]]) -> None:
    peer = aggregator.RecordAggregator()
    for data, key, hash_key in given_records:
        peer.add_user_record(key, data, hash_key)
    _, _, contents = peer.clear_and_get().get_contents()

    found = as_peer(deaggregate(contents))

    assert found == [(*given_record, place) for place, given_record in enumerate(given_records)]


def test_both_write_the_same_bytes() -> None:
    peer = aggregator.RecordAggregator()
    records = [UserRecord(b"%d" % n * n, f"key-{n % 7}", str(n % 3)) for n in range(400)]
    for r in records:
        peer.add_user_record(r.partition_key, r.data, r.explicit_hash_key)

    assert aggregate(records) == peer.clear_and_get().get_contents()[2]


@pytest.mark.parametrize("size", [0, 1, 117, 127, 128, 129, 16_380, 16_384, 70_000, 2_100_000])
@pytest.mark.parametrize("key_size", [1, 127, 128, 256])
def test_sizes_around_the_lengths_of_varints_are_kept(size: int, key_size: int) -> None:
    given_record = UserRecord(b"x" * size, "k" * key_size, "7")

    data = aggregate([given_record, given_record])

    assert (
        read_by_peer(data)
        == as_peer(deaggregate(data))
        == [
            (b"x" * size, "k" * key_size, "7", 0),
            (b"x" * size, "k" * key_size, "7", 1),
        ]
    )


def test_thousands_of_records_with_keys_of_their_own_are_kept() -> None:
    given_records = [UserRecord(b"%d" % n, f"key-{n}", str(n)) for n in range(20_000)]

    found = deaggregate(aggregate(given_records))

    assert as_peer(found) == [(b"%d" % n, f"key-{n}", str(n), n) for n in range(20_000)]


def test_each_key_is_stored_once() -> None:
    records = [UserRecord(b"", f"key-{n % 3}", str(n % 2)) for n in range(60)]

    parsed = AggregatedRecord.FromString(aggregate(records)[4:-16])

    assert list(parsed.partition_key_table) == ["key-0", "key-1", "key-2"]
    assert list(parsed.explicit_hash_key_table) == ["0", "1"]


def test_a_record_costs_what_the_documentation_says() -> None:
    keys = [UserRecord(b"", f"key-{n}", str(n)) for n in range(16_383)]
    last = UserRecord(b"x" * 16_383, "key-16382", "16382")

    assert len(aggregate([*keys, last])) - len(aggregate(keys)) - len(last.data) <= 13


# What aggregate refuses


@pytest.mark.parametrize("key", [None, "", "k" * 257, "\ud800"])
def test_a_partition_key_that_kinesis_refuses_is_refused(key: str | None) -> None:
    with pytest.raises(ValueError, match=r"partition key|surrogates"):
        aggregate([UserRecord(b"", "key"), UserRecord(b"", key)])


@pytest.mark.parametrize("key", ["", "-1", "01", "1.0", "x", "٣", "²", " 1", str(2**128), "9" * 5000])
def test_an_explicit_hash_key_that_kinesis_refuses_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="explicit hash key"):
        aggregate([UserRecord(b"", "key", key)])


def test_the_lowest_and_highest_hash_keys_are_taken() -> None:
    found = deaggregate(aggregate([UserRecord(b"", "key", "0"), UserRecord(b"", "key", str(2**128 - 1))]))

    assert [r.explicit_hash_key for r in found or []] == ["0", str(2**128 - 1)]


def test_no_records_are_no_aggregate() -> None:
    with pytest.raises(ValueError, match="at least one"):
        aggregate([])


def test_a_damaged_record_is_not_aggregated_again() -> None:
    damaged = UserRecord(b"data", "key", error=DecodeError("damaged"))

    with pytest.raises(ValueError, match="damaged"):
        aggregate([UserRecord(b"data", "key"), damaged])


# Plain data


@given(st.binary(max_size=100))
@example(b"")
@example(MAGIC[:3])
@example(b"{}" + MAGIC)
def test_data_without_the_magic_bytes_is_plain(data: bytes) -> None:
    if not data.startswith(MAGIC):
        assert deaggregate(data) is None
        assert deaggregate(data, lenient=True) is None


@given(st.binary(max_size=10))
def test_the_base64_of_whatever_starts_with_the_magic_starts_with_the_prefix(rest: bytes) -> None:
    text = base64.b64encode(MAGIC + rest).decode()

    assert text.startswith(BASE64_PREFIX)
    assert "g" <= text[5] <= "v"


# The freedoms of protobuf

UNKNOWN = {
    "varint": number(9, 2**63),
    "eight bytes, which would be no varint": varint(9 << 3 | 1) + b"\xff" * 8,
    "four bytes": varint(9 << 3 | 5) + b"\xff" * 4,
    "sized": sized(9, b"\xff" * 200),
    "header of five bytes": varint((2**29 - 1) << 3) + b"\x00",
    "group": varint(9 << 3 | 3) + number(1, 7) + sized(3, b"") + varint(9 << 3 | 4),
    "group of a field zero, as the generated class has it": b"\x4b\x00\x07\x4c",
    "group in a group": b"\x4b\x53\x4b\x4c\x54\x4c",
    "known number, other kind": varint(3 << 3 | 5) + b"\x01\x02\x03\x04",
}


@pytest.mark.parametrize("unknown", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_unknown_fields_are_passed_over(unknown: bytes) -> None:
    inside = sized(3, unknown + number(1, 0) + unknown + sized(3, b"two") + unknown)
    tagged = record(b"three", 0, sized(4, unknown + sized(1, b"t") + unknown + sized(2, b"v") + unknown))
    message = unknown + KEY + unknown + record(b"one") + unknown + inside + tagged + unknown

    found = read(message)

    assert [r.data for r in found] == [b"one", b"two", b"three"]
    assert found[2].tags == (("t", "v"),)
    assert as_protobuf(found) == as_protobuf_has_it(message)


message_parts = st.lists(
    st.one_of(
        st.text(max_size=4).map(lambda key: sized(1, key.encode())),
        hash_keys.map(lambda key: sized(2, key.encode())),
        st.sampled_from([*UNKNOWN.values(), sized(1, b"\xff"), sized(2, b"\xc3")]),
        st.permutations(
            [number(1, 0), number(1, 1), number(2, 0), number(2, 2), sized(3, b"data"), sized(3, b""), sized(4, b"")]
        ).flatmap(lambda fields: st.integers(0, 7).map(lambda n: sized(3, b"".join(fields[:n])))),
        st.builds(record, st.binary(max_size=200), st.integers(0, 3)),
    ),
    min_size=1,
    max_size=12,
)


@given(message_parts)
def test_fields_in_any_order_and_number_are_read_as_the_generated_class_reads_them(parts: list[bytes]) -> None:
    message = b"".join(parts)

    assert as_protobuf(read(message)) == as_protobuf_has_it(message)


def test_tables_may_come_after_the_records_that_point_into_them() -> None:
    found = read(record(b"one", 1) + sized(1, b"a") + record(b"two", 0, number(2, 0)) + sized(1, b"b") + sized(2, b"5"))

    assert as_peer(found) == [(b"one", "b", None, 0), (b"two", "a", "5", 1)]
    assert all(r.error is None for r in found)


def test_the_last_of_a_repeated_scalar_counts() -> None:
    twice = number(1, 5) + sized(3, b"first") + number(2, 9) + number(1, 0) + sized(3, b"last") + number(2, 0)

    assert as_peer(read(KEY + sized(2, b"5") + sized(3, twice))) == [(b"last", "key", "5", 0)]


@pytest.mark.parametrize("width", range(1, 11))
def test_varints_of_up_to_ten_bytes_are_read(width: int) -> None:
    fields = b"\x08" + varint(0, width) + b"\x10" + varint(0, width) + b"\x1a" + varint(4, width) + b"data"
    message = KEY + sized(2, b"5") + b"\x1a" + varint(len(fields), width) + fields

    assert as_peer(read(message)) == [(b"data", "key", "5", 0)]


def test_an_index_has_64_bits_whatever_more_its_ten_bytes_hold() -> None:
    message = KEY + sized(3, b"\x08" + b"\x80" * 9 + b"\x7e" + sized(3, b"data"))

    assert as_protobuf(read(message)) == as_protobuf_has_it(message) == [(b"data", "key", None, (), 0, False)]


def test_a_varint_of_three_bytes_that_looks_like_two_fields_is_one() -> None:
    # Read as two bytes and a field, 80 80 08 would make this a sound record with index 26 and 25 bytes of data.
    fields = b"\x08\x80\x80\x08" + sized(3, bytes([25]) + b"x" * 25)
    message = KEY * 27 + sized(3, fields)

    assert as_protobuf(read(message)) == as_protobuf_has_it(message)
    assert "index 131072 is outside" in str(read(message)[0].error)


@pytest.mark.parametrize("width", range(1, 6))
def test_headers_may_be_padded(width: int) -> None:
    fields = varint(1 << 3, width) + b"\x00" + varint(3 << 3 | 2, width) + b"\x04data"
    message = varint(1 << 3 | 2, width) + b"\x03key" + varint(3 << 3 | 2, width) + varint(len(fields)) + fields

    assert as_peer(read(message)) == [(b"data", "key", None, 0)]


def test_a_deep_nest_of_groups_is_read_without_recursion() -> None:
    depth = 100_000

    assert as_peer(read(KEY + b"\x4b" * depth + b"\x4c" * depth + record(b"data"))) == [(b"data", "key", None, 0)]


def test_tags_are_read_with_and_without_values() -> None:
    with_tags = record(b"data", 0, sized(4, sized(1, b"a") + sized(2, b"1")), sized(4, sized(1, b"b")))

    assert read(KEY + with_tags)[0].tags == (("a", "1"), ("b", None))


# Damage to the whole

ENVELOPES = {
    "magic bytes only": (MAGIC, "4 bytes are too few"),
    "shorter than a checksum": (MAGIC + b"x" * 15, "19 bytes are too few"),
    "no message": (envelope(b""), "20 bytes are too few"),
    "a message without checksum": (MAGIC + KEY + record(SECRET), "not the MD5"),
    "altered": (aggregate([UserRecord(SECRET, "key")]).replace(b"SECRET", b"PUBLIC"), "not the MD5"),
    "truncated": (aggregate([UserRecord(SECRET, "key")])[:-1], "not the MD5"),
    "with something after it": (aggregate([UserRecord(SECRET, "key")]) + b"\n", "not the MD5"),
}
MESSAGES = {
    "a table entry that runs past the end": (b"\x0a\x10" + SECRET, "past the end of the message, at byte 6"),
    "a record that runs past the end": (KEY + b"\x1a\x7f" + SECRET, "past the end of the message, at byte 11"),
    "a huge record": (KEY + b"\x1a" + varint(2**64 - 1) + SECRET, "past the end of the message"),
    "data that runs past its record": (
        KEY + sized(3, b"\x08\x00\x1a\x20" + SECRET) + KEY * 9,
        "past the end of what holds it",
    ),
    "data that runs past the message": (
        KEY + sized(3, b"\x08\x00\x1a\xff\x7f" + SECRET),
        "past the end of what holds it",
    ),
    "an index that runs past its record": (
        KEY + sized(3, b"\x1a\x09" + SECRET + b"\x08"),
        "past the end of what holds it",
    ),
    "an index that is cut off": (KEY + sized(3, b"\x1a\x09" + SECRET + b"\x08\x80"), "past the end of what holds it"),
    "a tag that runs past its record": (KEY + record(SECRET, 0, b"\x22\x05\x0a"), "past the end of what holds it"),
    "a tag's key that runs past its tag": (
        KEY + record(SECRET, 0, b"\x22\x02\x0a\x01"),
        "past the end of what holds it",
    ),
    "a header without a value": (KEY + record(SECRET) + b"\x1a", "past the end"),
    "a header that is cut off": (KEY + record(SECRET) + b"\xff", "field header"),
    "a header that is too big": (KEY + record(SECRET) + varint(2**32) + b"\x00", "field header"),
    "a number of eleven bytes": (KEY + record(SECRET) + b"\x48" + b"\x80" * 10 + b"\x00", "more than ten bytes"),
    "a record's index of eleven bytes": (KEY + sized(3, b"\x08" + b"\x80" * 10 + b"\x00"), "more than ten bytes"),
    "field number zero": (KEY + record(SECRET) + b"\x00\x00", "number zero"),
    "field number zero in a record": (KEY + record(SECRET, 0, b"\x02\x00"), "number zero"),
    "a kind that is not there": (KEY + record(SECRET) + b"\x4e", "no known kind"),
    "a group without end": (KEY + record(SECRET) + b"\x4b\x08\x00", "past the end"),
    "a group with another's end": (KEY + record(SECRET) + b"\x4b\x54", "without having begun"),
    "a group's end alone": (KEY + record(SECRET) + b"\x4c", "without having begun"),
    "text": (b'{"id": 1, "total": 7}', "not protobuf"),
}
WHOLE = ENVELOPES | {name: (envelope(message), says) for name, (message, says) in MESSAGES.items()}


@pytest.mark.parametrize(("data", "says"), WHOLE.values(), ids=WHOLE.keys())
def test_a_damaged_aggregate_is_an_error_that_says_what_is_damaged_and_shows_no_payload(data: bytes, says: str) -> None:
    with pytest.raises(DecodeError, match=says) as caught:
        deaggregate(data)

    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("data", [data for data, _ in WHOLE.values()], ids=WHOLE.keys())
def test_a_damaged_aggregate_is_plain_data_when_lenient(data: bytes) -> None:
    assert deaggregate(data, lenient=True) is None


@pytest.mark.parametrize("message", [message for message, _ in MESSAGES.values()], ids=MESSAGES.keys())
def test_what_is_called_malformed_is_malformed_to_the_generated_class(message: bytes) -> None:
    assert as_protobuf_has_it(message) is None


# Damage to one user record

MISSING = {
    "an empty record": (b"", b"", "no partition key index, no data"),
    "no partition key index": (sized(3, SECRET), SECRET, "no partition key index"),
    "no data": (number(1, 0), b"", "no data"),
    "a tag without key": (number(1, 0) + sized(3, SECRET) + sized(4, sized(2, b"v")), SECRET, "tag without a key"),
    "an empty tag": (number(1, 0) + sized(3, SECRET) + b"\x22\x00", SECRET, "tag without a key"),
}
WRONG = {
    "partition key index after the table": (
        number(1, 2) + sized(3, SECRET),
        SECRET,
        "key index 2 is outside its table of 2",
    ),
    "partition key index of 64 bits": (number(1, 2**64 - 1) + sized(3, SECRET), SECRET, "outside its table"),
    "partition key index that 32 bits would make 0": (number(1, 2**32) + sized(3, SECRET), SECRET, "outside its table"),
    "hash key index after the table": (
        number(1, 0) + number(2, 1) + sized(3, SECRET),
        SECRET,
        "hash key index 1 is outside",
    ),
    "partition key not UTF-8": (number(1, 1) + sized(3, SECRET), SECRET, "partition key 1 is not UTF-8"),
    "hash key not UTF-8": (number(1, 0) + number(2, 0) + sized(3, SECRET), SECRET, "explicit hash key 0 is not UTF-8"),
    "tag not UTF-8": (number(1, 0) + sized(3, SECRET) + sized(4, sized(1, b"\xff")), SECRET, "tag that is not UTF-8"),
    "tag's value not UTF-8": (
        number(1, 0) + sized(3, SECRET) + sized(4, sized(1, b"t") + sized(2, b"\xff")),
        SECRET,
        "tag that is not UTF-8",
    ),
}
ONE = MISSING | WRONG

# Keys that no producer can have put, since Kinesis takes none so long: the record has none.
LONG = {
    "partition key": (sized(1, b"k" * 257), number(1, 1), "partition key 1 is not UTF-8, or longer than Kinesis takes"),
    "partition key of four-byte characters": (sized(1, "🗝".encode() * 257), number(1, 1), "partition key 1 is not"),
    "hash key": (sized(2, b"9" * 40), number(1, 0) + number(2, 0), "explicit hash key 0 is not UTF-8, or longer"),
}


def around(fields: bytes, tables_last: bool) -> bytes:
    """A message with the damaged record between two sound ones."""
    tables = KEY + sized(1, b"\xff" + SECRET) + sized(2, b"\xfe")
    records = record(b"before") + sized(3, fields) + record(b"after")
    return records + tables if tables_last else tables + records


@pytest.mark.parametrize("tables_last", [False, True], ids=["tables first", "tables last"])
@pytest.mark.parametrize(("fields", "data", "says"), ONE.values(), ids=ONE.keys())
def test_a_damaged_record_carries_its_error_and_its_neighbours_are_kept(
    fields: bytes, data: bytes, says: str, tables_last: bool
) -> None:
    before, damaged, after = read(around(fields, tables_last))

    assert isinstance(damaged.error, DecodeError)
    assert str(damaged.error).startswith("damaged user record 1 of")
    assert says in str(damaged.error)
    assert "SECRET" not in str(damaged.error) + repr(damaged)
    assert damaged.data == data
    assert [r.sub_sequence_number for r in (before, damaged, after)] == [0, 1, 2]
    assert before == UserRecord(b"before", "key")
    assert after == UserRecord(b"after", "key", sub_sequence_number=2)


@pytest.mark.parametrize(("table", "index", "says"), LONG.values(), ids=LONG.keys())
def test_a_key_longer_than_kinesis_takes_is_an_error_of_its_record(table: bytes, index: bytes, says: str) -> None:
    for lenient in (False, True):
        records = deaggregate(
            envelope(KEY + table + record(b"x") + sized(3, index + sized(3, b"data"))), lenient=lenient
        )

        assert records is not None
        sound, damaged = records
        assert sound == UserRecord(b"x", "key")
        assert says in str(damaged.error)
        assert "k" * 257 not in {damaged.partition_key, damaged.explicit_hash_key}
        assert len(damaged.partition_key or "") <= 256
        assert damaged.explicit_hash_key is None


def test_a_key_of_the_longest_that_kinesis_takes_is_read() -> None:
    (one,) = read(
        sized(1, "🗝".encode() * 256) + sized(2, b"9" * 39) + sized(3, number(1, 0) + number(2, 0) + sized(3, b""))
    )

    assert (one.partition_key, one.explicit_hash_key, one.error) == ("🗝" * 256, "9" * 39, None)


@pytest.mark.parametrize(
    "damaged", [b"\x1a\x00", sized(3, number(1, 7) + sized(3, SECRET))], ids=["empty", "bad index"]
)
def test_more_than_a_hundred_damaged_records_are_an_error_for_the_whole(damaged: bytes) -> None:
    records = read(KEY + record(b"x") + damaged * 100)
    assert sum(each.error is not None for each in records) == 100
    assert records[0] == UserRecord(b"x", "key")

    with pytest.raises(DecodeError, match="more than 100 of its user records are damaged") as caught:
        read(KEY + record(b"x") + damaged * 101)

    assert "SECRET" not in str(caught.value)
    assert deaggregate(envelope(KEY + record(b"x") + damaged * 101), lenient=True) is None


def test_what_is_wrong_with_a_thousand_tags_is_said_once() -> None:
    (one,) = read(KEY + sized(3, number(1, 0) + sized(3, b"x") + b"\x22\x00" * 1000))

    assert str(one.error) == "damaged user record 0 of a KPL aggregate: a tag without a key"


@pytest.mark.parametrize(("fields", "data", "says"), WRONG.values(), ids=WRONG.keys())
def test_a_key_that_cannot_be_read_stays_an_error_of_its_record_when_lenient(
    fields: bytes, data: bytes, says: str
) -> None:
    found = deaggregate(envelope(around(fields, tables_last=False)), lenient=True)

    assert found is not None
    assert [(r.data, r.error is None) for r in found] == [(b"before", True), (data, False), (b"after", True)]


@pytest.mark.parametrize("fields", [fields for fields, _, _ in MISSING.values()], ids=MISSING.keys())
def test_a_missing_required_field_makes_plain_data_when_lenient_as_for_kcl(fields: bytes) -> None:
    assert deaggregate(envelope(around(fields, tables_last=False)), lenient=True) is None


def test_a_key_that_can_be_read_is_kept_beside_one_that_cannot() -> None:
    found = read(KEY + sized(2, b"5") + record(b"a", 7, number(2, 0)) + record(b"b", 0, number(2, 7)))

    assert as_peer(found) == [(b"a", None, "5", 0), (b"b", "key", None, 1)]
    assert all(r.error is not None for r in found)


def test_text_that_no_record_points_to_harms_none() -> None:
    assert as_peer(read(sized(1, b"\xff") + sized(1, b"key") + record(b"data", 1))) == [(b"data", "key", None, 0)]


@pytest.mark.parametrize("lenient", [False, True])
def test_a_message_without_records_has_none(lenient: bool) -> None:
    assert deaggregate(envelope(KEY), lenient=lenient) == []


def test_a_record_shows_neither_data_nor_keys_nor_tags() -> None:
    secret = SECRET.decode()
    shown = repr(UserRecord(SECRET, secret, secret, ((secret, secret),), 3, DecodeError("no data")))

    assert secret not in shown
    assert shown == "UserRecord(9 bytes, sub_sequence_number=3, error='no data')"


# Fuzzing

sound = st.lists(
    st.builds(
        UserRecord,
        # Seven-bit data: no mutation makes a length of more than five bytes, which only the generated class refuses.
        data=st.text(st.characters(max_codepoint=127), max_size=140).map(str.encode),
        partition_key=st.sampled_from(["a", "bb", "ключ"]),
        explicit_hash_key=st.sampled_from([None, "0", "17"]),
        tags=st.sampled_from([(), (), (("t", None), ("u", "v"))]),
    ),
    min_size=1,
    max_size=4,
)


@given(sound, st.data())
def test_a_flipped_byte_is_never_silent(given_records: list[UserRecord], data: st.DataObject) -> None:
    whole = aggregate(given_records)
    place = data.draw(st.integers(0, len(whole) - 1))
    flip = data.draw(st.integers(1, 255))
    damaged = whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :]

    assert deaggregate(damaged, lenient=True) is None
    if place < len(MAGIC):
        assert deaggregate(damaged) is None
    else:
        with pytest.raises(DecodeError):
            deaggregate(damaged)


def test_every_truncation_and_every_flipped_bit_is_never_silent() -> None:
    whole = aggregate([UserRecord(b"one", "a", "5"), UserRecord(b"two", "b", tags=(("t", "v"),)), UserRecord(b"", "a")])
    truncated = [whole[:size] for size in range(len(whole))]
    flipped = [
        whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
        for place in range(len(whole))
        for bit in range(8)
    ]
    for damaged in truncated + flipped:
        assert deaggregate(damaged, lenient=True) is None
        if damaged.startswith(MAGIC):
            with pytest.raises(DecodeError):
                deaggregate(damaged)
        else:
            assert deaggregate(damaged) is None


def assert_read_as_protobuf_reads(message: bytes) -> None:
    expected = as_protobuf_has_it(message)
    if expected is None:
        with pytest.raises(DecodeError):
            deaggregate(envelope(message))
    else:
        assert as_protobuf(read(message)) == expected


def test_every_flip_and_truncation_under_a_right_checksum_is_read_as_the_generated_class_reads_it() -> None:
    records = [UserRecord(b"one", "a", "5"), UserRecord(b"two" * 50, "b", tags=(("t", "v"),)), UserRecord(b"", "a")]
    message = aggregate(records)[4:-16]
    for place in range(len(message)):
        if place:
            assert_read_as_protobuf_reads(message[:place])
        for byte in range(256):
            assert_read_as_protobuf_reads(message[:place] + bytes([byte]) + message[place + 1 :])


def test_damage_that_makes_a_hash_key_of_the_records_behind_it_is_read_as_the_generated_class_reads_it() -> None:
    records = [UserRecord(b"one", "a"), UserRecord(b"0" * 60, "b", "0"), UserRecord(b"", "a", "0")]
    message = aggregate(records)[4:-16]
    length = message.index(b"\x12\x010") + 1
    for size in range(len(message) - length):
        assert_read_as_protobuf_reads(message[:length] + bytes([size]) + message[length + 1 :])


@given(sound, st.data())
def test_damage_under_a_right_checksum_is_read_as_the_generated_class_reads_it(
    given_records: list[UserRecord], data: st.DataObject
) -> None:
    message = aggregate(given_records)[4:-16]
    start = data.draw(st.integers(0, len(message)))
    stop = data.draw(st.integers(start, min(start + 4, len(message))))
    damaged = message[:start] + data.draw(st.binary(max_size=3)) + message[stop:]

    if damaged:
        assert_read_as_protobuf_reads(damaged)


@given(st.binary(min_size=1, max_size=60))
@example(b"\xff" * 10)
@example(b"\x1a" + b"\xff" * 20)
@example(b"\xfa" + b"\xff" * 8 + b"\x01" + b"\xff" * 9 + b"\x7f")
def test_any_bytes_under_a_right_checksum_are_read_or_are_an_error(message: bytes) -> None:
    expected = as_protobuf_has_it(message)
    try:
        found = deaggregate(envelope(message))
    except DecodeError:
        assert expected is None
    else:
        assert found is not None
        assert expected is None or as_protobuf(found) == expected


@given(st.binary(max_size=60), st.booleans())
def test_any_bytes_after_the_magic_are_an_error_or_plain_data(rest: bytes, lenient: bool) -> None:
    try:
        assert deaggregate(MAGIC + rest, lenient=lenient) is None
    except DecodeError:
        assert not lenient


# Known differences from aws-kinesis-agg 1.2.3. Each is a choice; where they agree is tested above.


def test_differs_a_record_without_a_hash_key_is_not_given_the_first_of_the_table() -> None:
    data = aggregate([UserRecord(b"one", "key", "5"), UserRecord(b"two", "key")])

    assert as_peer(deaggregate(data)) == [(b"one", "key", "5", 0), (b"two", "key", None, 1)]
    assert read_by_peer(data) == [(b"one", "key", "5", 0), (b"two", "key", "5", 1)]


def test_differs_a_bad_index_does_not_drop_the_rest(capsys: pytest.CaptureFixture[str]) -> None:
    data = envelope(KEY + record(b"one") + record(b"two", 1) + record(b"three"))

    assert [r.data for r in deaggregate(data) or []] == [b"one", b"two", b"three"]
    assert read_by_peer(data) == [(b"one", "key", None, 0)]
    assert "index out of range" in capsys.readouterr().err


def test_differs_a_missing_partition_key_index_is_not_taken_for_the_first_key() -> None:
    data = envelope(KEY + sized(3, sized(3, b"data")))

    assert as_peer(deaggregate(data)) == [(b"data", None, None, 0)]
    assert read_by_peer(data) == [(b"data", "key", None, 0)]


def test_differs_missing_data_is_not_taken_for_empty_data() -> None:
    data = envelope(KEY + sized(3, number(1, 0)))

    assert [r.error is not None for r in deaggregate(data) or []] == [True]
    assert read_by_peer(data) == [(b"", "key", None, 0)]


def test_differs_a_key_that_is_not_utf_8_is_not_handed_out_as_bytes() -> None:
    data = envelope(sized(1, b"\xff") + record(b"data"))

    assert as_peer(deaggregate(data)) == [(b"data", None, None, 0)]
    assert read_by_peer(data) == [(b"data", b"\xff", None, 0)]


@pytest.mark.parametrize("data", [data for data, _ in WHOLE.values()], ids=WHOLE.keys())
def test_differs_a_damaged_aggregate_is_not_plain_data_unless_lenient(data: bytes) -> None:
    assert read_by_peer(data) is None
    assert deaggregate(data, lenient=True) is None
    with pytest.raises(DecodeError):
        deaggregate(data)


@pytest.mark.parametrize("width", range(6, 11))
def test_differs_a_length_padded_beyond_five_bytes_is_read(width: int) -> None:
    data = envelope(b"\x0a" + varint(3, width) + b"key" + record(b"data"))

    assert as_peer(deaggregate(data)) == [(b"data", "key", None, 0)]
    assert read_by_peer(data) is None


def test_differs_tags_are_handed_out() -> None:
    data = aggregate([UserRecord(b"data", "key", tags=(("t", "v"),))])

    assert [r.tags for r in deaggregate(data) or []] == [(("t", "v"),)]
    assert read_by_peer(data) == [(b"data", "key", None, 0)]


def test_the_module_needs_no_protobuf() -> None:
    code = "import streamkit.kpl, sys; print([m for m in sys.modules if m.startswith(('google', 'aws_kinesis_agg'))])"

    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert ran.stdout.strip() == "[]"

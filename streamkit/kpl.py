"""The aggregated-record format of the Kinesis Producer Library: many user records in the data of one Kinesis record.

    F3 89 9A C2 │ protobuf AggregatedRecord │ MD5 of the protobuf, 16 bytes

    AggregatedRecord   1 partition_key_table      repeated string
                       2 explicit_hash_key_table  repeated string
                       3 records                  repeated Record
    Record             1 partition_key_index      required uint64   into table 1, from 0
                       2 explicit_hash_key_index  optional uint64   into table 2, from 0
                       3 data                     required bytes
                       4 tags                     repeated Tag
    Tag                1 key                      required string
                       2 value                    optional string

Source: ``aggregation-format.md`` of awslabs/amazon-kinesis-producer. Everything here is pure: bytes in, values out.

The Kinesis Client Library also leaves out aggregates with a user record whose hash key lies outside the shard's range.
That takes the range, which a Lambda event does not carry, so it is not done here: no record is left out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import msgspec

from streamkit.errors import DecodeError

__all__ = ["BASE64_PREFIX", "MAGIC", "Aggregation", "UserRecord", "aggregate", "deaggregate"]

MAGIC = b"\xf3\x89\x9a\xc2"
"""The four bytes that every aggregate starts with."""

BASE64_PREFIX = "84maw"
"""What the base64 of every aggregate starts with (the magic's last four bits make the sixth character ``g`` to ``v``).

``text.startswith(BASE64_PREFIX)`` rules plain data out before it is decoded; what passes is for ``deaggregate`` to say.
"""

_DIGEST_SIZE = 16
_MAX_PARTITION_KEY = 256
_MAX_HASH_KEY = 2**128 - 1
_MAX_HASH_KEY_DIGITS = len(str(_MAX_HASH_KEY))
# Two bytes make a damaged user record, and each becomes a dead letter of its own: a record that is nothing but these must cost
# little more than one that is damaged whole.
_MOST_DAMAGED = 100

# Headers of fields as they stand on the wire: the field's number, and in the low three bits how its value is written.
_VARINT, _EIGHT_BYTES, _SIZED, _GROUP, _GROUP_END, _FOUR_BYTES = range(6)
_PARTITION_KEY_TABLE = 1 << 3 | _SIZED
_HASH_KEY_TABLE = 2 << 3 | _SIZED
_RECORD = 3 << 3 | _SIZED
_PARTITION_KEY_INDEX = 1 << 3 | _VARINT
_HASH_KEY_INDEX = 2 << 3 | _VARINT
_DATA = 3 << 3 | _SIZED
_TAG = 4 << 3 | _SIZED
_TAG_KEY = 1 << 3 | _SIZED
_TAG_VALUE = 2 << 3 | _SIZED

# No uint64 and no place in a list: looking up an index that was not given fails as looking up a bad one does.
_ABSENT = 1 << 64
_NO_LIMIT = 1 << 64


class UserRecord(msgspec.Struct, frozen=True):
    """One user record: what a producer was given before it aggregated.

    ``sub_sequence_number`` is its place in the aggregate, from 0; ``aggregate`` does not read it. ``explicit_hash_key``
    is None where the record has none. ``tags`` are pairs of a key and a value or None; neither KPL nor KCL offers them
    to users, so expect none.

    ``error`` is None, or says what is damaged in this record alone. Then ``data``, the keys and ``tags`` are what could
    be read of them: a key that could not be is None, data that is missing ``b""``.
    """

    data: bytes
    partition_key: str | None
    explicit_hash_key: str | None = None
    tags: tuple[tuple[str, str | None], ...] = ()
    sub_sequence_number: int = 0
    error: DecodeError | None = None

    def __repr__(self) -> str:
        damage = f", error={str(self.error)!r}" if self.error is not None else ""
        return f"UserRecord({len(self.data)} bytes, sub_sequence_number={self.sub_sequence_number}{damage})"


def aggregate(records: Iterable[UserRecord]) -> bytes:
    """The aggregate of ``records``, in their order: the data of one Kinesis record.

    Each distinct partition key and explicit hash key is stored once. Put the result with the partition key and explicit
    hash key of one of its records, and aggregate only what one shard takes: KCL discards any other aggregate whole.

    Raises ``ValueError`` for

      * no records at all (KCL would hand the empty aggregate to its user as data), or one that carries an ``error``;
      * a partition key that is not 1 to 256 characters, or an explicit hash key that is not a decimal number below
        2^128 without leading zeros: the limits of Kinesis (PutRecords). Where it is no number, KCL drops the rest.

    The size is the caller's to watch: Kinesis takes 1 MiB of data and partition key in a record, up to 10 MiB where the
    stream is configured so (PutRecords); KPL stops at 50 KiB (its ``AggregationMaxSize``). A user record of less than
    16 KiB costs at most 13 bytes beside its data while a table has less than 16,384 keys, and its keys where new.
    """
    aggregation = Aggregation()
    records = [*records]
    if not any([record.tags or record.error for record in records]):  # noqa: C419  # Twice as fast as a generator.
        aggregation.fill(records)
        return aggregation.data()
    for record in records:
        if record.error is not None:
            raise ValueError("a damaged user record can't be aggregated again: its keys or data are not what was put")
        aggregation.add(record.data, record.partition_key, record.explicit_hash_key, record.tags)
    return aggregation.data()


class _Keyed(Protocol):
    @property
    def data(self) -> bytes: ...
    @property
    def partition_key(self) -> str | None: ...
    @property
    def explicit_hash_key(self) -> str | None: ...


class Aggregation:
    """An aggregate in the making: user records are added, and its size is known to the byte.

    ``size`` is what ``data()`` has in bytes, 20 while it is empty. ``len()`` counts its user records.
    """

    __slots__ = (
        "_count",
        "_hash_key_table",
        "_hash_keys",
        "_indexes",
        "_partition_key_table",
        "_partition_keys",
        "_parts",
        "size",
    )

    def __init__(self) -> None:
        # The index field of records without an explicit hash key.
        self._indexes: dict[str | None, bytes] = {}
        self._partition_keys: dict[str, int] = {}
        self._hash_keys: dict[str, int] = {}
        self._partition_key_table: list[bytes] = []
        self._hash_key_table: list[bytes] = []
        self._parts: list[bytes] = []
        self._count = 0
        self.size = len(MAGIC) + _DIGEST_SIZE

    def __len__(self) -> int:
        return self._count

    def add(
        self,
        data: bytes,
        partition_key: str | None,
        explicit_hash_key: str | None = None,
        tags: tuple[tuple[str, str | None], ...] = (),
        most: int = _NO_LIMIT,
    ) -> bool:
        """Add a user record behind the others. False, and nothing is added, where ``size`` would be over ``most`` bytes.

        Raises ``ValueError`` for keys that Kinesis does not take, as ``aggregate`` says.
        """
        entry, indexes, index = self._entry(partition_key)
        hash_key = explicit_hash_key
        hash_key_entry, hash_key_index = b"", 0
        if hash_key is not None:
            if not _is_hash_key(hash_key):
                raise ValueError("an explicit hash key is a decimal number from 0 to 2^128 - 1, without leading zeros")
            hash_key_index = self._hash_keys.get(hash_key, len(self._hash_keys))
            if hash_key not in self._hash_keys:
                hash_key_entry = _sized_field(_HASH_KEY_TABLE, hash_key.encode())
            indexes += b"\x10" + _varint_bytes(hash_key_index)
        after = b"".join(map(_tag_field, tags))
        second = b"\x1a" + _varint_bytes(len(data))
        first = b"\x1a" + _varint_bytes(len(indexes) + len(second) + len(data) + len(after))
        parts = (first, indexes, second, data, after)
        size = self.size + len(entry) + len(hash_key_entry) + sum(map(len, parts))
        if size > most:
            return False
        if entry:
            assert partition_key is not None
            self._partition_keys[partition_key] = index
            self._partition_key_table.append(entry)
        if hash_key_entry:
            assert hash_key is not None
            self._hash_keys[hash_key] = hash_key_index
            self._hash_key_table.append(hash_key_entry)
        self._parts += parts
        self._count += 1
        self.size = size
        return True

    def fill(self, records: Iterable[_Keyed], most: int = _NO_LIMIT) -> int:
        """Add the first of ``records``, as many as ``size`` has room for; how many.

        As ``add`` of each, but without tags and several times faster. They have ``data``, ``partition_key`` and
        ``explicit_hash_key``.
        """
        known, append, around_of = self._indexes.get, self._parts.extend, _AROUND.get
        size, count = self.size, 0
        for record in records:
            key, data = record.partition_key, record.data
            if record.explicit_hash_key is not None:
                self.size = size
                if not self.add(data, key, record.explicit_hash_key, (), most):
                    break
                size, count = self.size, count + 1
                self._count -= 1
                continue
            length = len(data)
            indexes = known(key)
            if indexes is not None:
                place = length << 4 | len(indexes)
                first, second, more = around_of(place) or _around(place)
                after = size + more + length
                if after > most:
                    break
            else:
                entry, indexes, index = self._entry(key)
                place = length << 4 | len(indexes)
                first, second, more = around_of(place) or _around(place)
                after = size + more + length + len(entry)
                if after > most:
                    break
                self._indexes[key] = indexes
                if entry:
                    self._partition_keys[key] = index  # type: ignore[index]  # None has no entry.
                    self._partition_key_table.append(entry)
            append((first, indexes, second, data))
            size, count = after, count + 1
        self.size = size
        self._count += count
        return count

    def data(self) -> bytes:
        """The aggregate. ``ValueError`` where nothing was added: KCL would hand it to its user as data."""
        if not self._parts:
            raise ValueError("an aggregate holds at least one user record")
        message = b"".join((MAGIC, *self._partition_key_table, *self._hash_key_table, *self._parts))
        return message + _digest(memoryview(message)[len(MAGIC) :])

    def _entry(self, partition_key: str | None) -> tuple[bytes, bytes, int]:
        """The key's entry in the table (nothing where it has one), its index field, and its index."""
        if partition_key is None or not 1 <= len(partition_key) <= _MAX_PARTITION_KEY:
            raise ValueError(f"a partition key has 1 to {_MAX_PARTITION_KEY} characters")
        index = self._partition_keys.get(partition_key)
        if index is not None:
            return b"", b"\x08" + _varint_bytes(index), index
        index = len(self._partition_keys)
        key = partition_key.encode()
        head = _KEY_HEADS[len(key)] if len(key) < 128 else b"\n" + _varint_bytes(len(key))
        return head + key, _INDEX_FIELDS[index] if index < 128 else b"\x08" + _varint_bytes(index), index


def deaggregate(data: bytes, *, lenient: bool = False) -> list[UserRecord] | None:
    """The user records of an aggregate, in their order, or None where ``data`` is not an aggregate but plain data.

    Data without the magic bytes at its start is plain. With them it is an aggregate, and has to be sound:

      * too short, no message, a wrong checksum, or a message that is not protobuf: ``DecodeError`` for the whole, since
        what its records are can't be known;
      * a record without its partition key index or data, with an index outside its table, with a key or tag that is not
        UTF-8, with a key longer than Kinesis takes (256 characters, 39 digits), or a tag without its key: that record, at
        its place and with its number, carries an ``error``. Its neighbours are unharmed;
      * more than 100 such records: ``DecodeError`` for the whole. Two bytes make one, and a megabyte of them would fill the
        memory, and the dead letters.

    ``lenient`` raises nothing: as for KCL's ``AggregatorUtil``, everything above that is an error for the whole means
    plain data instead, and so does a required field that is missing anywhere (KCL's parser then refuses the message).
    An index outside its table stays an error of its record, where KCL logs and drops that record and all after it.

    A message without records, its tables alone, is an empty list: there is no record to lose. Unknown fields are passed
    over, fields come in any order, and of a scalar that occurs twice the last counts, as protobuf has it. There is no
    limit on sizes, nor on how many sound records there are; a varint has at most ten bytes. What is opened takes at most 64
    bytes of memory for each byte of ``data``. No error's message holds a byte of keys or data.
    """
    if not data.startswith(MAGIC):
        return None
    try:
        return _user_records(data, _message_end(data), required_missing_is_fatal=lenient)
    except DecodeError:
        if lenient:
            return None
        raise


def _message_end(data: bytes) -> int:
    """Where the checksum starts, once it is known to be right."""
    end = len(data) - _DIGEST_SIZE
    if end <= len(MAGIC):
        raise DecodeError(
            f"damaged KPL aggregate: {len(data)} bytes are too few for magic bytes, message and checksum (truncated?)"
        )
    if _digest(memoryview(data)[len(MAGIC) : end]) != data[end:]:
        raise DecodeError(
            f"damaged KPL aggregate: its last {_DIGEST_SIZE} bytes are not the MD5 of the message before them, "
            f"{end - len(MAGIC)} bytes (altered or truncated)"
        )
    return end


class _Fields(msgspec.Struct):
    """One Record message as it was written, before its indexes are looked up and its text is decoded."""

    partition_key_index: int = _ABSENT
    hash_key_index: int | None = None
    data: bytes | None = None
    tags: list[tuple[bytes | None, bytes | None]] = []


def _user_records(data: bytes, end: int, *, required_missing_is_fatal: bool) -> list[UserRecord]:
    """One pass over the message, which the 16 bytes of its checksum follow.

    What every known producer writes is read in place, with varints of one and two bytes. A record in any other form
    goes to ``_fields``, and one whose indexes are not in the tables waits: tables may come after records. They only
    grow, so an index found in them is final.

    A varint has at most ten bytes, so one that the end of the message cuts off ends within the checksum: reading needs
    no test for the end of the data, only one afterwards that the position has not passed the end of the message.
    """
    partition_keys: list[str | None] = []
    hash_keys: list[str | None] = []
    records: list[UserRecord] = []
    waiting: dict[int, _Fields] = {}
    append = records.append
    user_record = UserRecord
    unresolved = UserRecord(b"", None)
    number = incomplete = 0
    position = len(MAGIC)
    while position < end:
        header = data[position]
        position += 1
        if header > 127:
            header, position = _header(data, position - 1, end)
        if header != _RECORD and header != _PARTITION_KEY_TABLE and header != _HASH_KEY_TABLE:
            position = _field_end(data, header, position, end)
            continue
        size = data[position]
        position += 1
        if size > 127:
            high = data[position]
            if high < 128:
                size += (high << 7) - 128
                position += 1
            else:
                size, position = _varint(data, position - 1)
        start = position
        stop = start + size
        if stop > end:
            raise _malformed("a field runs past the end of the message", start)
        if header != _RECORD:
            # One key serves any number of records, each of which carries it whole into an envelope.
            if header == _PARTITION_KEY_TABLE:
                partition_keys.append(_key(data[start:stop], _MAX_PARTITION_KEY))
            else:
                hash_keys.append(_key(data[start:stop], _MAX_HASH_KEY_DIGITS))
            position = stop
            continue

        index = _ABSENT
        hash_key_index: int | None = None
        content: bytes | None = None
        while position < stop:
            header = data[position]
            value = data[position + 1]
            position += 2
            if value > 127:
                high = data[position]
                if high > 127:
                    break
                value += (high << 7) - 128
                position += 1
            if header == _PARTITION_KEY_INDEX:
                index = value
            elif header == _DATA:
                content = data[position : position + value]
                position += value
            elif header == _HASH_KEY_INDEX:
                hash_key_index = value
            else:
                break
        else:  # nothing unusual was met
            if position == stop and content is not None:
                try:
                    partition_key = partition_keys[index]
                    hash_key = None if hash_key_index is None else hash_keys[hash_key_index]
                except IndexError:
                    pass
                else:
                    if partition_key is not None and (hash_key_index is None or hash_key is not None):
                        append(user_record(content, partition_key, hash_key, (), number))
                        number += 1
                        continue
        fields = waiting[number] = _fields(data, start, stop)
        if fields.data is None or fields.partition_key_index == _ABSENT:
            incomplete += 1
            if incomplete > _MOST_DAMAGED:
                raise _too_damaged()
        append(unresolved)
        number += 1
        position = stop

    damaged = 0
    for number, fields in waiting.items():
        record = records[number] = _resolved(fields, number, partition_keys, hash_keys, required_missing_is_fatal)
        damaged += record.error is not None
        if damaged > _MOST_DAMAGED:
            raise _too_damaged()
    return records


def _fields(data: bytes, position: int, stop: int) -> _Fields:
    """A Record message in whatever form protobuf allows."""
    fields = _Fields()
    while position < stop:
        header, start = _header(data, position, stop)
        position = _field_end(data, header, start, stop)
        if header == _PARTITION_KEY_INDEX:
            fields.partition_key_index = _varint(data, start)[0]
        elif header == _HASH_KEY_INDEX:
            fields.hash_key_index = _varint(data, start)[0]
        elif header == _DATA:
            fields.data = _content(data, start, position)
        elif header == _TAG:
            fields.tags.append(_tag(data, _varint(data, start)[1], position))
    return fields


def _tag(data: bytes, position: int, stop: int) -> tuple[bytes | None, bytes | None]:
    key = value = None
    while position < stop:
        header, start = _header(data, position, stop)
        position = _field_end(data, header, start, stop)
        if header == _TAG_KEY:
            key = _content(data, start, position)
        elif header == _TAG_VALUE:
            value = _content(data, start, position)
    return key, value


def _resolved(
    fields: _Fields,
    number: int,
    partition_keys: list[str | None],
    hash_keys: list[str | None],
    required_missing_is_fatal: bool,
) -> UserRecord:
    """The user record, with its keys looked up and everything that is wrong with it in its ``error``."""
    # As keys of a dict: what is wrong with each of a million tags is said once.
    missing: dict[str, None] = {}
    wrong: dict[str, None] = {}
    partition_key = hash_key = None
    if fields.partition_key_index == _ABSENT:
        missing["no partition key index"] = None
    else:
        partition_key = _looked_up("partition key", fields.partition_key_index, partition_keys, wrong)
    if fields.hash_key_index is not None:
        hash_key = _looked_up("explicit hash key", fields.hash_key_index, hash_keys, wrong)
    if fields.data is None:
        missing["no data"] = None
    tags: list[tuple[str, str | None]] = []
    for raw_key, raw_value in fields.tags:
        key = None if raw_key is None else _text(raw_key)
        value = None if raw_value is None else _text(raw_value)
        if raw_key is None:
            missing["a tag without a key"] = None
        elif key is None or (value is None and raw_value is not None):
            wrong["a tag that is not UTF-8"] = None
        else:
            tags.append((key, value))
    error = None
    if missing or wrong:
        error = DecodeError(f"damaged user record {number} of a KPL aggregate: {', '.join((*missing, *wrong))}")
        if missing and required_missing_is_fatal:
            raise error
    return UserRecord(fields.data or b"", partition_key, hash_key, tuple(tags), number, error)


def _looked_up(noun: str, index: int, table: list[str | None], wrong: dict[str, None]) -> str | None:
    if index >= len(table):
        wrong[f"{noun} index {index} is outside its table of {len(table)}"] = None
        return None
    if table[index] is None:
        wrong[f"{noun} {index} is not UTF-8, or longer than Kinesis takes"] = None
    return table[index]


def _key(content: bytes, most_characters: int) -> str | None:
    """None where it is not UTF-8, or longer: an error only of the records that refer to it."""
    key = _text(content)
    return key if key is not None and len(key) <= most_characters else None


def _text(content: bytes) -> str | None:
    """None where it is not UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _content(data: bytes, start: int, stop: int) -> bytes:
    """The content of the sized field whose size is at ``start`` and which ends at ``stop``."""
    return data[_varint(data, start)[1] : stop]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """The number at ``position`` (of which 64 bits count, as for protobuf's own parsers) and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
    raise _malformed("a number of more than ten bytes", position)


def _header(data: bytes, position: int, stop: int) -> tuple[int, int]:
    header, after = _varint(data, position)
    if after > stop or header > 0xFFFF_FFFF:
        raise _malformed("a field header that is cut off or too big", position)
    return header, after


def _field_end(data: bytes, header: int, position: int, stop: int) -> int:
    """Where the field ends whose ``header`` ends at ``position``. Groups, long out of use but legal, hold fields."""
    if header >> 3 == 0:
        raise _malformed("a field with the number zero", position)
    open_groups: list[int] = []
    while True:
        number, kind = header >> 3, header & 7
        start = position
        if kind == _VARINT:
            position = _varint(data, position)[1]
        elif kind == _SIZED:
            size, position = _varint(data, position)
            position += size
        elif kind == _EIGHT_BYTES:
            position += 8
        elif kind == _FOUR_BYTES:
            position += 4
        elif kind == _GROUP:
            open_groups.append(number)
        elif kind != _GROUP_END or not open_groups or open_groups.pop() != number:
            raise _malformed("a field header of no known kind, or a group that ends without having begun", start)
        if position > stop or (open_groups and position == stop):
            raise _malformed("a field runs past the end of what holds it", start)
        if not open_groups:
            return position
        header, position = _header(data, position, stop)


def _too_damaged() -> DecodeError:
    return DecodeError(f"damaged KPL aggregate: more than {_MOST_DAMAGED} of its user records are damaged")


def _malformed(what: str, position: int) -> DecodeError:
    return DecodeError(f"damaged KPL aggregate: its message is not protobuf: {what}, at byte {position}")


def _around(place: int) -> tuple[bytes, bytes, int]:
    """What stands before the index fields of a record and before its data, and the bytes of all but the data.

    ``place`` is the length of the data, and in its last four bits that of the index fields.
    """
    if len(_AROUND) >= _MOST_AROUND:
        _AROUND.clear()
    length, of_indexes = place >> 4, place & 15
    second = b"\x1a" + _varint_bytes(length)
    first = b"\x1a" + _varint_bytes(of_indexes + len(second) + length)
    around = _AROUND[place] = (first, second, len(first) + of_indexes + len(second))
    return around


def _is_hash_key(text: str) -> bool:
    is_number = text.isdecimal() and len(text) <= len(str(_MAX_HASH_KEY))
    return is_number and str(int(text)) == text and int(text) <= _MAX_HASH_KEY


def _tag_field(tag: tuple[str, str | None]) -> bytes:
    key, value = tag
    content = _sized_field(_TAG_KEY, key.encode())
    if value is not None:
        content += _sized_field(_TAG_VALUE, value.encode())
    return _sized_field(_TAG, content)


def _sized_field(header: int, content: bytes) -> bytes:
    return _varint_bytes(header) + _varint_bytes(len(content)) + content


def _varint_bytes(value: int) -> bytes:
    if value < 128:
        return _ONE_BYTE[value]
    if value < 16384:
        return bytes((value & 127 | 128, value >> 7))
    return bytes((value & 127 | 128,)) + _varint_bytes(value >> 7)


_ONE_BYTE = [bytes((value,)) for value in range(128)]
_KEY_HEADS = [b"\n" + one for one in _ONE_BYTE]
_INDEX_FIELDS = [b"\x08" + one for one in _ONE_BYTE]
# Records of the same length have the same around them: by that length and the one of their index fields (at most 4 + 6 bytes).
_AROUND: dict[int, tuple[bytes, bytes, int]] = {}
_MOST_AROUND = 4096


def _digest(message: bytes | memoryview) -> bytes:
    # Imported here, as it loads OpenSSL (4 ms): a function whose stream has no aggregates never needs it.
    from hashlib import md5

    return md5(message, usedforsecurity=False).digest()

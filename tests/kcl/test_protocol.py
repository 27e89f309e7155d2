"""The protocol's lines, without a process."""

from __future__ import annotations

import json

import pytest

from streamkit.kcl.protocol import (
    Checkpointed,
    Initialize,
    LeaseLost,
    Position,
    ProcessRecords,
    ProtocolError,
    ShardEnded,
    ShutdownRequested,
    checkpoint,
    message,
    status,
)

from .daemon import record

SECRET = "attack-at-dawn"


def line(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def test_what_the_daemon_says_is_read() -> None:
    first = message(line(action="initialize", shardId="s", sequenceNumber="TRIM_HORIZON", subSequenceNumber=0), 1)
    records = message(line(action="processRecords", records=[record(12, "a", sub=3)], millisBehindLatest=None), 2)
    refused = message(line(action="checkpoint", sequenceNumber="12", subSequenceNumber=3, error="ShutdownException"), 3)

    assert isinstance(first, Initialize)
    assert first.shard_id == "s"
    assert isinstance(records, ProcessRecords)
    assert records.records[0].position == Position(12, 3)
    assert isinstance(refused, Checkpointed)
    assert refused.error == "ShutdownException"
    for action, kind in [
        ("leaseLost", LeaseLost),
        ("shardEnded", ShardEnded),
        ("shutdownRequested", ShutdownRequested),
    ]:
        assert isinstance(message(line(action=action), 4), kind)


def test_fields_of_a_newer_daemon_are_left_alone() -> None:
    assert isinstance(message(line(action="leaseLost", reason="perhaps"), 1), LeaseLost)


def test_each_answer_is_a_line_that_begins_with_an_end_of_line() -> None:
    # Whatever a C library wrote before without one must not spoil it.
    for one in (status(LeaseLost()), checkpoint(None), checkpoint(Position(7, 1))):
        assert one.startswith(b"\n")
        assert one.endswith(b"\n")
        assert one.count(b"\n") == 2

    assert json.loads(status(ProcessRecords([]))) == {"action": "status", "responseFor": "processRecords"}
    assert json.loads(checkpoint(Position(7, 1))) == {
        "action": "checkpoint",
        "sequenceNumber": "7",
        "subSequenceNumber": 1,
    }
    assert json.loads(checkpoint(None))["sequenceNumber"] is None


def test_positions_compare_as_numbers() -> None:
    assert Position(9, 0) < Position(10, 0) < Position(10, 2) < Position(10, 10)


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (b"", "truncated"),
        (SECRET.encode(), "JSON"),
        (f'{{"action": "{SECRET}"}}'.encode(), "none of the actions"),
        (f'{{"{SECRET}": 1}}'.encode(), "none of the actions"),
        (line(action=7, data=SECRET), "none of the actions"),
        (f'["{SECRET}"]'.encode(), "none of the actions"),
        (b"[" * 100_000, "none of the actions"),
        (b'{"action": "processRecords", "records": ' + b"[" * 100_000, "$.records[0]"),
        (b'{"action": "leaseLost", "newer": ' + b"[" * 100_000, "nested too deeply"),
        (f'{{"action": "processRecords", "records": [{{"data": "{SECRET}'.encode(), "truncated"),
        (line(action="processRecords", records=SECRET), "$.records"),
        (line(action="processRecords"), "records"),
        (line(action="processRecords", records=[{"data": SECRET}]), "sequenceNumber"),
        (line(action="processRecords", records=[{**record(1), "data": [SECRET]}]), "$.records[0].data"),
        (line(action="processRecords", records=[{**record(1), "sequenceNumber": SECRET}]), "sequenceNumber"),
        (line(action="processRecords", records=[{**record(1), "sequenceNumber": "9" * 129}]), "sequenceNumber"),
        (line(action="processRecords", records=[{**record(1), "sequenceNumber": "1\n"}]), "sequenceNumber"),
        (line(action="processRecords", records=[{**record(1), "subSequenceNumber": -1}]), "subSequenceNumber"),
        (line(action="initialize", shardId=""), "$.shardId"),
        (b'{"action": "initialize", "shardId": "\xff' + SECRET.encode() + b'"}', "-Dfile.encoding=UTF-8"),
    ],
)
def test_a_line_that_is_no_message_is_an_error_that_says_why_and_never_what_is_in_it(said: bytes, problem: str) -> None:
    with pytest.raises(ProtocolError) as raised:
        message(said, 17)

    text = str(raised.value)
    assert text.startswith(f"line 17 of the daemon ({len(said):,} bytes) is no message: ")
    assert problem in text
    assert SECRET not in text
    assert len(text) < 400


def test_a_record_shows_its_position_and_neither_data_nor_key() -> None:
    read = message(line(action="processRecords", records=[record(12, SECRET, key=SECRET)]), 1)

    assert "12:0" in repr(read)
    assert SECRET not in repr(read)

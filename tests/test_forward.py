from __future__ import annotations

import logging
from typing import Any

import pytest

from streamkit import Block, Record, Write, lambda_handler
from streamkit.errors import ConfigurationError
from streamkit.fanout import FanOut
from streamkit.forward import Forward, Rule
from streamkit.sinks.base import OnwardSink
from streamkit.testing import MemoryQueue, MemorySink, kinesis_event

SUCCESS: dict[str, list[Any]] = {"batchItemFailures": []}


class Onward(MemorySink, OnwardSink):
    def onward(self, record: Record) -> Write:
        return self.item(record.data)


def forwarded(pattern: Any, *payloads: Any, keys: list[str | None] | None = None) -> list[bytes]:
    sink = Onward()
    handler = lambda_handler(Forward(Rule(sink, pattern), name="forward"))
    assert handler(kinesis_event(payloads, partition_keys=keys)) == SUCCESS
    return sink.items


class TestARule:
    def test_without_a_pattern_is_for_every_record(self) -> None:
        assert forwarded(None, b"\xff", "text", {"a": 1}) == [b"\xff", b"text", b'{"a":1}']

    @pytest.mark.parametrize(
        ("pattern", "places"),
        [
            ({"data": {"type": ["order"]}}, [0]),
            ('{"data": {"type": ["order"]}}', [0]),
            ({"data": {"total": [{"numeric": [">", 5]}]}}, [1]),
            ({"partitionKey": [{"prefix": "b"}]}, [1, 2]),
            ({"stream": ["stream"]}, [0, 1, 2]),
            ({"stream": ["other"]}, []),
            ({"shardId": ["shardId-000000000000"], "partitionKey": ["a"]}, [0]),
            ({"approximateArrivalTimestamp": [{"numeric": ["<", 0]}]}, []),
            ({"data": [{"exists": False}]}, [0, 1, 2]),
        ],
    )
    def test_is_for_what_its_pattern_matches(self, pattern: Any, places: list[int]) -> None:
        payloads = [b'{"type":"order","total":1}', b'{"type":"refund","total":9}', b"no json"]

        assert forwarded(pattern, *payloads, keys=["a", "b", "bc"]) == [payloads[place] for place in places]

    def test_knows_no_key_of_a_record_without_one(self) -> None:
        assert forwarded({"partitionKey": [{"exists": False}]}, "a", "b", keys=["k", None]) == [b"b"]

    def test_may_make_other_writes_of_a_record(self) -> None:
        sink = MemorySink()
        one = Rule(sink, make=lambda record: sink.item(record.json()["id"]))
        many = Rule(sink, make=lambda record: (sink.item(n) for n in record.json()["items"]))

        assert lambda_handler(Forward(one, many, name="f"))(kinesis_event([{"id": "a", "items": [1, 2]}])) == SUCCESS
        assert sink.items == ["a", 1, 2]

    def test_with_a_pattern_that_is_none_is_an_error(self) -> None:
        with pytest.raises(ConfigurationError, match="pattern"):
            Rule(Onward(), {"data": "order"})

    def test_needs_a_sink_that_knows_what_to_make_of_a_record_or_to_be_told(self) -> None:
        with pytest.raises(ConfigurationError, match="takes a sink to hand on to"):
            Rule({"data": []})  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=r"MemorySink does not know what to make of a record.*make="):
            Rule(MemorySink())


class TestForward:
    def test_hands_a_record_to_every_rule_that_matches(self) -> None:
        first, second = Onward(), Onward()
        handler = lambda_handler(Forward(Rule(first), Rule(second, {"data": {"a": [1]}}), name="f"))

        assert handler(kinesis_event([{"a": 1}, {"a": 2}])) == SUCCESS

        assert (len(first), len(second)) == (2, 1)

    def test_is_done_with_what_no_rule_matches_and_says_so_at_debug(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG, "streamkit")

        assert forwarded({"data": {"a": [1]}}, {"a": 2}) == []

        assert [record.levelname for record in caplog.records] == ["DEBUG"]
        assert "no rule is for record stream/" in caplog.text

    def test_fails_what_can_not_be_decoded_at_all(self) -> None:
        event, letters = kinesis_event(["a"]), MemoryQueue()
        event["Records"][0]["kinesis"]["data"] = "?"
        forward = Forward(Rule(Onward(), {"data": {"a": [1]}}), name="f")
        forward.on_failure = Block(letters)

        assert lambda_handler(forward)(event) == SUCCESS
        assert [letter.failures[0].type for letter in letters] == ["DecodeError"]

    def test_waits_with_all_its_sinks_for_one_that_is_down(self) -> None:
        down, up = Onward(), Onward()
        down.refuse("unavailable")
        handler = lambda_handler(Forward(Rule(up), Rule(down), name="f"))

        assert handler(kinesis_event(["a"])) != SUCCESS

    def test_in_branches_of_its_own_lets_the_others_go_on(self) -> None:
        down, up = Onward(), Onward()
        down.refuse("unavailable")

        lambda_handler(FanOut(Forward(Rule(down), name="down"), Forward(Rule(up), name="up")))(kinesis_event(["a"]))

        assert up.items == [b"a"]

    def test_closes_the_sinks_of_its_rules(self) -> None:
        closed = []

        class Closing(Onward):
            def close(self) -> None:
                closed.append(self)

        sink = Closing()
        handler = lambda_handler(Forward(Rule(sink), name="f"))
        handler(kinesis_event(["a"]))
        handler.close()

        assert closed == [sink]

    def test_needs_rules_and_a_name(self) -> None:
        with pytest.raises(ConfigurationError, match="takes rules"):
            Forward(name="f")
        with pytest.raises(ConfigurationError, match="give it one"):
            Forward(Rule(Onward()), name="")

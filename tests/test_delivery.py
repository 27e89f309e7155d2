from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit import Record, Refusal, Reject, Retry, Sink, SinkError, StreamkitError, Write, kpl
from streamkit.deadline import Deadline
from streamkit.delivery import Delivery, Failure
from streamkit.event import OPENED, decode
from streamkit.outcome import Failed, Unavailable
from streamkit.sinks.base import write_ids
from streamkit.testing import MemorySink, kinesis_event


class ThreeAtOnce(MemorySink):
    request_writes = 3


class TenBytes(MemorySink):
    """Takes ten bytes a request; an item is a text, and its length its size."""

    request_writes = 1000
    request_bytes = 10

    def item(self, value: str) -> Write:
        return Write(self, value, len(value))


class Scripted(Sink):
    """Answers whatever the test says."""

    request_writes: ClassVar[int] = 100

    def __init__(self, answer: Callable[[Sequence[Write]], Any] = lambda writes: ()) -> None:
        self.answer = answer
        self.deadlines: list[float] = []
        self.given: list[list[Any]] = []

    def item(self, value: Any) -> Write:
        return Write(self, value)

    def write(self, writes: Sequence[Write], *, deadline: float) -> Iterable[Refusal]:
        self.deadlines.append(deadline)
        self.given.append([write.payload for write in writes])
        return self.answer(writes)  # type: ignore[no-any-return]


def records(count: int) -> list[Record]:
    return decode(kinesis_event([b"x"] * count)).records


def delivery(context: Any = None) -> Delivery:
    return Delivery("orders", Deadline(context, 1.0))


def add(to: Delivery, *writes: list[Write]) -> list[list[Failure] | None]:
    """One record for each list of writes; what each ``add`` returned."""
    return [to.add(index, record, writes[index]) for index, record in enumerate(records(len(writes)))]


def delivered(*writes: list[Write]) -> list[Failure]:
    to = delivery()
    assert set(map(str, add(to, *writes))) == {"None"}
    return to.flush()


def errors(failures: Iterable[Failure]) -> list[tuple[int, str]]:
    """Each failure's record and how it failed."""
    return [
        (index, f"{type(outcome).__name__} {type(outcome.error).__name__}")
        for index, outcome in failures
        if isinstance(outcome, Failed | Unavailable)
    ]


class TestHandingOver:
    def test_waits_for_one_full_request(self) -> None:
        sink = ThreeAtOnce()

        answers = add(delivery(), *([sink.item(n)] for n in range(5)))

        assert sink.requests == [3]
        assert sink.items == [0, 1, 2]
        assert answers == [None, None, [], None, None]

    def test_the_rest_follows_with_the_flush(self) -> None:
        sink = ThreeAtOnce()
        to = delivery()

        add(to, *([sink.item(n)] for n in range(5)))

        assert to.flush() == []
        assert sink.items == [0, 1, 2, 3, 4]
        assert sink.requests == [3, 2]

    def test_a_flush_of_nothing_asks_no_sink(self) -> None:
        sink = ThreeAtOnce()
        to = delivery()
        add(to, [sink.item(1)])
        to.flush()

        assert to.flush() == []
        assert sink.requests == [1]

    def test_many_writes_of_one_record_fill_several_requests(self) -> None:
        sink = ThreeAtOnce()

        add(delivery(), [sink.item(n) for n in range(7)])

        assert sink.requests == [3, 3]

    def test_each_sink_has_a_request_of_its_own(self) -> None:
        few, many = ThreeAtOnce(), MemorySink()
        to = delivery()

        add(to, *([few.item(n), many.item(n)] for n in range(4)))
        assert (few.requests, many.requests) == ([3], [])

        to.flush()
        assert (few.items, many.items) == ([0, 1, 2, 3], [0, 1, 2, 3])

    def test_bytes_fill_a_request_too(self) -> None:
        sink = TenBytes()
        to = delivery()

        add(to, [sink.item("four")], [sink.item("four")], [sink.item("abc")])

        assert sink.items == ["four", "four"]
        to.flush()
        assert sink.items == ["four", "four", "abc"]

    def test_a_request_that_is_full_to_the_byte_goes_at_once(self) -> None:
        sink = TenBytes()

        add(delivery(), [sink.item("12345")], [sink.item("67890")])

        assert sink.requests == [2]

    def test_a_write_that_is_larger_than_a_request_goes_alone(self) -> None:
        sink = TenBytes()

        add(delivery(), [sink.item("small")], [sink.item("much larger")], [sink.item("tiny")])

        assert sink.requests == [1, 1]
        assert sink.items == ["small", "much larger"]

    @given(st.lists(st.lists(st.text("x", max_size=14), max_size=5), max_size=20))
    def test_any_writes_arrive_once_in_order_and_within_the_limit(self, texts: list[list[str]]) -> None:
        taken: list[list[str]] = []

        class Watched(TenBytes):
            def write(self, writes: Sequence[Write], *, deadline: float) -> list[Refusal]:
                taken.append([write.payload for write in writes])
                return super().write(writes, deadline=deadline)

        sink = Watched()
        to = delivery()

        add(to, *([sink.item(text) for text in of_one] for of_one in texts))
        to.flush()

        assert [text for request in taken for text in request] == [text for of_one in texts for text in of_one]
        assert all(len(request) == 1 or sum(map(len, request)) <= 10 for request in taken)
        assert all(taken)

    def test_a_sink_is_told_its_deadline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Context:
            def get_remaining_time_in_millis(self) -> int:
                return 20_000

        monkeypatch.setattr("streamkit.deadline.time.monotonic", lambda: 1000.0)
        sink = Scripted()
        to = delivery(Context())

        add(to, [sink.item(1)])
        to.flush()

        assert sink.deadlines == [1019.5]

    def test_without_a_context_the_deadline_is_never(self) -> None:
        sink = Scripted()

        delivered([sink.item(1)])

        assert sink.deadlines == [math.inf]


class TestWriteIds:
    def test_count_the_writes_of_a_record_over_all_its_sinks(self) -> None:
        one, other = MemorySink(), MemorySink()
        first, second = records(2)
        to = delivery()

        to.add(0, first, [one.item("a"), other.item("b"), one.item("c")])
        to.add(1, second, [other.item("d")])
        to.flush()

        assert one.write_ids == [f"{first.event_id}/orders/0", f"{first.event_id}/orders/2"]
        assert other.write_ids == [f"{first.event_id}/orders/1", f"{second.event_id}/orders/0"]

    def test_two_equal_writes_of_one_record_are_two(self) -> None:
        sink = MemorySink()

        delivered([sink.item("same"), sink.item("same")])

        assert sink.items == ["same", "same"]

    @pytest.mark.parametrize("kind", ["stream", "aggregates", "opened", "streams", "no stream", "queue", "both"])
    def test_of_many_are_those_of_each(self, kind: str) -> None:
        sink = MemorySink()
        data = [b"a", kpl.aggregate(kpl.UserRecord(text, "key") for text in (b"b", b"c")), b"d"]
        event = kinesis_event([b"a", b"b"] if kind == "streams" else data)
        if kind == "opened":
            event = kinesis_event([b"a", b"b"])
            for place, raw in enumerate(event["Records"]):
                raw["kinesis"][OPENED] = place
        if kind == "streams":
            event["Records"][1]["eventSourceARN"] = "arn:aws:kinesis:us-east-1:000000000000:stream/others"
        if kind == "no stream":
            event["Records"][0]["eventSourceARN"] = ["none"]
            del event["Records"][2]["eventSourceARN"]
        message = {"messageId": "m-1", "body": "a", "eventSource": "aws:sqs", "attributes": {}}
        queued = decode({"Records": [message, {**message, "messageId": "m-2"}]}).records
        found = {"queue": queued, "both": [*decode(event).records, *queued]}.get(kind, decode(event).records)
        writes = [sink.item(record) for record in found]
        for n, (write, record) in enumerate(zip(writes, found, strict=True)):
            write._record, write._processor, write._n = record, "orders", n

        ids = write_ids(writes)

        assert ids == [f"{record.event_id}/orders/{n}" for n, record in enumerate(found)]
        assert len(set(ids)) == len(found) > 1

    def test_of_many_say_which_record_has_none(self) -> None:
        event = kinesis_event([b"a", b"b"])
        writes = [MemorySink().item("a"), MemorySink().item("b")]
        for write, record in zip(writes, decode(event).records, strict=True):
            write._record = record
        del event["Records"][1]["eventID"]

        with pytest.raises(StreamkitError, match="no event id"):
            write_ids(writes)
        writes[1]._record = None
        with pytest.raises(StreamkitError, match="before it is yielded"):
            write_ids(writes)

    def test_there_are_none_before_a_write_is_yielded(self) -> None:
        write = MemorySink().item("4111-1111")

        with pytest.raises(StreamkitError, match="before it is yielded"):
            _ = write.write_id
        with pytest.raises(StreamkitError, match="before it is yielded"):
            _ = write.event_id
        assert repr(write) == "<Write not yielded to MemorySink>"

    def test_a_write_prints_its_id_and_not_its_payload(self) -> None:
        sink = Scripted()
        write = sink.item("4111-1111")

        delivered([write])

        assert write.write_id in repr(write)
        assert "4111" not in repr(write)


class TestARefusal:
    def test_is_mapped_back_to_its_record(self) -> None:
        sink = MemorySink()
        sink.refuse(lambda item: "failed" if item == "b" else None)

        failures = delivered([sink.item("a")], [sink.item("a"), sink.item("b")], [sink.item("c")])

        assert errors(failures) == [(1, "Failed SinkError")]
        assert sink.items == ["a", "a", "c"]

    def test_is_told_as_soon_as_its_request_was_made(self) -> None:
        sink = ThreeAtOnce()
        sink.refuse(lambda item: "failed" if item in (0, 4) else None)
        to = delivery()

        answers = add(to, *([sink.item(n)] for n in range(5)))

        assert answers[2] is not None
        assert errors(answers[2]) == [(0, "Failed SinkError")]
        assert errors(to.flush()) == [(4, "Failed SinkError")]

    def test_records_are_told_in_their_order(self) -> None:
        sink = Scripted(lambda writes: [Refusal(write, SinkError("no")) for write in reversed(writes)])

        assert [index for index, _ in delivered(*([sink.item(n)] for n in range(4)))] == [0, 1, 2, 3]

    @pytest.mark.parametrize(
        ("kind", "outcome"),
        [("failed", "Failed SinkError"), ("invalid", "Failed Reject"), ("unavailable", "Unavailable SinkError")],
    )
    def test_becomes_an_outcome_by_its_kind(self, kind: Any, outcome: str) -> None:
        sink = MemorySink()
        sink.refuse(kind)

        assert errors(delivered([sink.item("a")])) == [(0, outcome)]

    def test_that_is_invalid_keeps_its_cause_and_names_the_sink(self) -> None:
        sink = MemorySink()
        sink.owner = "Orders.search"
        sink.refuse("invalid")

        ((_, outcome),) = delivered([sink.item("a")])

        assert isinstance(outcome, Failed)
        assert isinstance(outcome.error, Reject)
        assert str(outcome.error).startswith("Orders.search can't take it: ")
        assert isinstance(outcome.error.__cause__, SinkError)

    def test_keeps_its_own_error(self) -> None:
        error = Retry(30)
        sink = Scripted(lambda writes: [Refusal(writes[0], error)])

        ((_, outcome),) = delivered([sink.item("a")])

        assert isinstance(outcome, Failed)
        assert outcome.error is error

    def test_whose_error_is_no_exception_is_a_sink_error_all_the_same(self) -> None:
        sink = Scripted(lambda writes: [Refusal(writes[0], "no room")])  # type: ignore[arg-type]

        ((_, outcome),) = delivered([sink.item("a")])

        assert isinstance(outcome, Failed)
        assert (type(outcome.error), str(outcome.error)) == (SinkError, "no room")

    @pytest.mark.parametrize(
        ("kinds", "gravest"),
        [
            (["invalid", "failed"], "Failed SinkError"),
            (["failed", "invalid"], "Failed SinkError"),
            (["failed", "unavailable"], "Unavailable SinkError"),
            (["unavailable", "invalid"], "Unavailable SinkError"),
            (["invalid", "unavailable", "failed"], "Unavailable SinkError"),
            (["invalid", "invalid"], "Failed Reject"),
        ],
    )
    def test_of_several_of_one_record_the_gravest_counts(self, kinds: list[str], gravest: str) -> None:
        sink = MemorySink()
        sink.refuse(lambda item: item)

        assert errors(delivered([sink.item(kind) for kind in kinds])) == [(0, gravest)]

    def test_of_the_same_write_twice_the_gravest_counts(self) -> None:
        sink = Scripted(lambda writes: [Refusal(writes[0], SinkError(), kind) for kind in ("invalid", "unavailable")])

        assert errors(delivered([sink.item("a")])) == [(0, "Unavailable SinkError")]

    def test_of_one_sink_does_not_touch_the_writes_to_another(self) -> None:
        good, bad = MemorySink(), MemorySink()
        bad.refuse("failed")

        failures = delivered([good.item("a"), bad.item("a")], [good.item("b")])

        assert errors(failures) == [(0, "Failed SinkError")]
        assert good.items == ["a", "b"]

    def test_of_two_sinks_is_told_twice(self) -> None:
        one, other = MemorySink(), MemorySink()
        one.refuse("failed")
        other.refuse("unavailable")

        failures = delivered([one.item("a"), other.item("a")])

        assert errors(failures) == [(0, "Failed SinkError"), (0, "Unavailable SinkError")]


def half_way(writes: Sequence[Write]) -> Iterator[Refusal]:
    yield Refusal(writes[0], SinkError("no"), "invalid")
    raise ConnectionError("reset")


def raising(error: BaseException) -> Callable[[Sequence[Write]], Any]:
    def answer(writes: Sequence[Write]) -> Any:
        raise error

    return answer


class TestASinkThat:
    @pytest.mark.parametrize("answer", [None, (), [], iter(()), {}])
    def test_answers_nothing_has_taken_all(self, answer: Any) -> None:
        sink = Scripted(lambda writes: answer)

        assert delivered([sink.item("a")], [sink.item("b")]) == []
        assert sink.given == [["a", "b"]]

    def test_is_a_generator_is_read_to_its_end(self) -> None:
        taken: list[Any] = []

        def generate(writes: Sequence[Write]) -> Iterator[Refusal]:
            for write in writes:
                if write.payload == "b":
                    yield Refusal(write, SinkError("no"))
                else:
                    taken.append(write.payload)

        sink = Scripted(generate)

        failures = delivered([sink.item("a")], [sink.item("b")], [sink.item("c")])

        assert errors(failures) == [(1, "Failed SinkError")]
        assert taken == ["a", "c"]

    def test_raises_makes_all_its_writes_unavailable(self) -> None:
        sink = Scripted(raising(TimeoutError("no answer")))

        failures = delivered([sink.item("a"), sink.item("b")], [], [sink.item("c")])

        assert errors(failures) == [(0, "Unavailable TimeoutError"), (2, "Unavailable TimeoutError")]

    def test_raises_half_way_makes_all_its_writes_unavailable(self) -> None:
        sink = Scripted(half_way)

        failures = delivered([sink.item("a")], [sink.item("b")])

        assert errors(failures) == [(0, "Unavailable ConnectionError"), (1, "Unavailable ConnectionError")]

    def test_raises_is_asked_again_for_the_next_request(self) -> None:
        sink = ThreeAtOnce()
        sink.fail(ConnectionError("down"))
        to = delivery()

        answers = add(to, *([sink.item(n)] for n in range(4)))
        sink.fail(None)

        assert answers[2] is not None
        assert errors(answers[2]) == [(n, "Unavailable ConnectionError") for n in range(3)]
        assert to.flush() == []
        assert sink.items == [3]

    @pytest.mark.parametrize(
        "answer",
        [
            lambda writes: 7,
            lambda writes: True,
            lambda writes: "refused",
            lambda writes: [None],
            lambda writes: [writes[0]],
            lambda writes: [Refusal(MemorySink().item("another's"), SinkError("no"))],
            lambda writes: [Refusal(None, SinkError("no"))],  # type: ignore[arg-type]
            lambda writes: [Refusal(writes[0], SinkError("no"), "throttled")],  # type: ignore[arg-type]
        ],
        ids=["number", "bool", "text", "none", "write", "stranger", "no write", "unknown kind"],
    )
    def test_answers_nonsense_has_not_answered(self, answer: Callable[[Sequence[Write]], Any]) -> None:
        sink = Scripted(answer)

        failures = delivered([sink.item("a")], [sink.item("b")])

        assert [index for index, _ in failures] == [0, 1]
        assert all(isinstance(outcome, Unavailable) for _, outcome in failures)

    def test_stops_the_process_stops_it(self) -> None:
        sink = Scripted(raising(KeyboardInterrupt()))

        with pytest.raises(KeyboardInterrupt):
            delivered([sink.item("a")])

"""``WindowProcessor`` behind the engine: whatever fails, the rows of a window add up to its records, each once."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streamkit import Block, Record, Reject, Write, kpl, lambda_handler
from streamkit.testing import Crash, EventSourceMapping, MemoryQueue, MemorySink
from streamkit.window import Window, WindowProcessor

REPORTS = ["ReportBatchItemFailures"]


class Counting(WindowProcessor):
    """Counts texts; each end of a window, or of a part of one, is a row."""

    name = "counting"

    def __init__(self, choices: Any) -> None:
        self.choices = choices
        self.rows = MemorySink()
        self.dead_letters = MemoryQueue()
        self.on_failure = Block(dead_letters=self.dead_letters)

    def aggregate(self, record: Record, state: Any) -> None:
        text = record.data.decode()
        state[text] = state.get(text, 0) + 1
        self.may_fail()
        if text == "poison":
            raise Reject("poison")

    def finish(self, window: Window, state: Any) -> Iterator[Write]:
        self.may_fail()
        yield self.rows.item((window.start.timestamp(), state))
        self.may_fail()

    def may_fail(self) -> None:
        likely = self.choices.random()
        if likely < 0.1:
            raise ValueError("not now")
        if likely < 0.13:
            raise Crash("the process was killed")


@given(
    steps=st.lists(st.sampled_from(["put", "put", "aggregate", "poison", "advance", "split"]), max_size=25),
    most_state=st.sampled_from([1_000_000, 120]),
    lanes=st.integers(1, 2),
    batch_size=st.integers(1, 5),
    choices=st.builds(random.Random, st.integers(0, 2**32)),
)
@settings(max_examples=150)
def test_the_rows_of_a_window_add_up_to_its_records(
    steps: list[str], most_state: int, lanes: int, batch_size: int, choices: Any
) -> None:
    processor = Counting(choices)
    mapping = EventSourceMapping(
        lambda_handler(processor),
        batch_size=batch_size,
        parallelization_factor=lanes,
        tumbling_window_in_seconds=30,
        maximum_state_in_bytes=most_state,
        function_response_types=REPORTS,
    )
    expected: Counter[tuple[float, str]] = Counter()
    poisoned = 0
    shard = 0
    for n, step in enumerate(steps):
        window = mapping.now // 30 * 30
        if step == "aggregate":
            mapping.put(kpl.aggregate(kpl.UserRecord(f"{n}-{i}".encode(), "k") for i in range(3)), "k", shard=shard)
            expected.update((window, f"{n}-{i}") for i in range(3))
        elif step == "poison":
            mapping.put(b"poison", choices.choice("abc"), shard=shard)
            poisoned += 1
        elif step == "put":
            mapping.put(f"{n}".encode(), choices.choice("abc"), shard=shard)
            expected[window, f"{n}"] += 1
        elif step == "split" and shard < 6:
            shard = mapping.split_shard(shard)[choices.randrange(2)]
        else:
            mapping.advance(choices.choice([1.0, 7.0, 31.0]))
    mapping.run_until_idle()

    counted: Counter[tuple[float, str]] = Counter()
    for start, state in processor.rows.items:
        counted.update({(start, text): count for text, count in state.items()})
    assert counted == expected
    assert len({letter.event_id for letter in processor.dead_letters}) == poisoned
    assert mapping.discarded == []

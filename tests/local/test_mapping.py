"""The event source mapping of one shard, driven by hand: what it does next, after what has happened."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamkit.local.mapping import Action, Discard, Idle, Invoke, Item, ShardMapping, Wait, read_answer
from streamkit.local.settings import Settings

AROUND = len('{"Records":[]}')


def shard(*, reports: bool = True, **settings: Any) -> ShardMapping:
    types = ["ReportBatchItemFailures"] if reports else []
    return ShardMapping(Settings(function_response_types=types, **settings))


def items(*numbers: int, at: float = 0.0, size: int = 100) -> list[Item]:
    return [Item(number, at, size) for number in numbers]


def filled(*numbers: int, **settings: Any) -> ShardMapping:
    mapping = shard(**settings)
    mapping.add(items(*numbers), 0)
    return mapping


def numbers_of(action: Action) -> list[int]:
    assert isinstance(action, Invoke | Discard), action
    return [item.sequence_number for item in action.items]


def invoked(mapping: ShardMapping, now: float) -> list[int]:
    action = mapping.next(now)
    assert isinstance(action, Invoke), action
    return numbers_of(action)


def discarded(mapping: ShardMapping, now: float) -> Discard:
    action = mapping.next(now)
    assert isinstance(action, Discard), action
    return action


def named(*numbers: int) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": str(number)} for number in numbers]}


class TestBatching:
    def test_without_a_window_it_fires_with_whatever_is_there(self) -> None:
        mapping = filled(1, 2)

        assert invoked(mapping, 0) == [1, 2]

    def test_it_fires_when_the_size_is_met_though_the_window_is_open(self) -> None:
        mapping = filled(1, 2, 3, batch_size=2, maximum_batching_window_in_seconds=300)

        assert invoked(mapping, 0) == [1, 2]

    def test_it_fires_when_the_window_that_the_first_record_opened_is_over(self) -> None:
        mapping = shard(maximum_batching_window_in_seconds=10)
        mapping.add(items(1), 5)
        mapping.add(items(2), 14)

        assert mapping.next(14.9) == Wait(15)
        assert invoked(mapping, 15) == [1, 2]

    def test_the_next_window_starts_when_the_last_invocation_ends_though_nothing_waits_yet(self) -> None:
        mapping = filled(1, maximum_batching_window_in_seconds=10)
        invoked(mapping, 10)
        mapping.answered(None, 12)
        mapping.add(items(2), 19)

        assert mapping.next(21.9) == Wait(22)
        assert invoked(mapping, 22) == [2]

    def test_a_window_that_went_by_empty_is_followed_by_one_that_the_next_record_opens(self) -> None:
        mapping = filled(1, maximum_batching_window_in_seconds=10)
        invoked(mapping, 10)
        mapping.answered(None, 12)
        mapping.add(items(2), 40)

        assert mapping.next(40) == Wait(50)
        assert invoked(mapping, 50) == [2]

    def test_one_batch_is_in_flight(self) -> None:
        mapping = filled(1, 2, batch_size=1)
        invoked(mapping, 0)

        assert mapping.next(0) == Idle()
        mapping.answered(None, 1)
        assert invoked(mapping, 1) == [2]

    def test_a_batch_holds_what_fits_into_the_payload_to_the_byte(self) -> None:
        # Each size has a comma, of which the first record needs none.
        for room, fits in ((0, 3), (-1, 2)):
            mapping = shard(maximum_payload_in_bytes=AROUND + 300 - 1 + room)
            mapping.add(items(1, 2, 3), 0)

            assert len(invoked(mapping, 0)) == fits

    def test_it_fires_when_the_payload_is_met_though_the_window_is_open(self) -> None:
        mapping = shard(maximum_batching_window_in_seconds=300)
        mapping.add(items(1, 2, 3, 4, size=2_000_000), 0)

        assert invoked(mapping, 0) == [1, 2]

    def test_a_record_over_the_payload_by_itself_is_delivered_alone_and_at_once(self) -> None:
        mapping = shard(maximum_batching_window_in_seconds=300)
        mapping.add([*items(1, size=13_981_014), *items(2, 3)], 0)

        assert invoked(mapping, 0) == [1]

    def test_a_record_over_the_payload_by_itself_can_be_given_up_for_no_function_of_lambdas_can_have_it(self) -> None:
        mapping = shard(record_over_payload="discard")
        mapping.add([*items(1), *items(2, size=13_981_014), *items(3)], 0)

        assert invoked(mapping, 0) == [1]
        mapping.answered(None, 0)
        discard = mapping.next(0)
        assert isinstance(discard, Discard)
        assert [item.sequence_number for item in discard.items] == [2]
        assert (discard.condition, discard.invocations) == ("RetryAttemptsExhausted", 0)
        assert mapping.checkpoint == 2
        assert invoked(mapping, 0) == [3]

    def test_nothing_to_do_without_records(self) -> None:
        assert shard().next(0) == Idle()


class TestAnswers:
    NUMBERS = [8, 9, 10, 11]

    @pytest.mark.parametrize(
        "answer",
        ["", None, [], {}, {"batchItemFailures": []}, {"batchItemFailures": None}, {"statusCode": 200}],
    )
    def test_success(self, answer: Any) -> None:
        assert read_answer(answer, self.NUMBERS) == 4

    @pytest.mark.parametrize(
        "answer",
        [
            {"batchItemFailures": [{"itemIdentifier": ""}]},
            {"batchItemFailures": [{"itemIdentifier": None}]},
            {"batchItemFailures": [{}]},
            {"batchItemFailures": [{"identifier": "9"}]},
            {"batchItemFailures": [{"itemIdentifier": 9}]},
            {"batchItemFailures": [{"itemIdentifier": "12"}]},
            {"batchItemFailures": [{"itemIdentifier": "09"}]},
            {"batchItemFailures": [{"itemIdentifier": "10"}, {"itemIdentifier": "12"}]},
            {"batchItemFailures": [{"itemIdentifier": "10"}, {"itemIdentifier": ""}]},
            {"batchItemFailures": ["10"]},
            {"batchItemFailures": {"itemIdentifier": "10"}},
            "done",
            7,
            True,
            [{"itemIdentifier": "10"}],
        ],
    )
    def test_the_whole_batch_failed(self, answer: Any) -> None:
        assert read_answer(answer, self.NUMBERS) is None

    def test_of_several_the_lowest_counts_compared_as_numbers(self) -> None:
        assert read_answer(named(10, 9), self.NUMBERS) == 1
        assert read_answer(named(9, 10), self.NUMBERS) == 1
        assert read_answer(named(11, 10), self.NUMBERS) == 2

    def test_an_unknown_identifier_can_be_told_not_to_count_beside_a_known_one(self) -> None:
        assert read_answer(named(12, 10), self.NUMBERS, "ignored") == 2
        assert read_answer(named(12), self.NUMBERS, "ignored") is None
        empty_and_known = {"batchItemFailures": [{"itemIdentifier": ""}, {"itemIdentifier": "10"}]}
        assert read_answer(empty_and_known, self.NUMBERS, "ignored") is None

    def test_without_reporting_the_answer_is_ignored(self) -> None:
        mapping = filled(1, 2, reports=False)
        invoked(mapping, 0)
        mapping.answered(named(1), 0)

        assert mapping.checkpoint == 2
        assert mapping.next(0) == Idle()

    def test_a_partial_answer_moves_the_checkpoint_to_just_before_the_lowest_and_delivers_the_rest_again(self) -> None:
        mapping = filled(8, 9, 10, 11)
        invoked(mapping, 0)
        mapping.answered(named(11, 10), 0)

        assert mapping.checkpoint == 9
        assert invoked(mapping, 1) == [10, 11]

    def test_a_redelivered_batch_takes_up_no_new_records(self) -> None:
        mapping = filled(1, 2, 3)
        invoked(mapping, 0)
        mapping.add(items(4), 0)
        mapping.answered(named(2), 0)

        assert invoked(mapping, 1) == [2, 3]
        mapping.answered(None, 1)
        assert invoked(mapping, 1) == [4]

    def test_the_first_record_named_leaves_the_checkpoint_where_it_was(self) -> None:
        mapping = filled(1, 2)
        invoked(mapping, 0)
        mapping.answered(named(1), 0)

        assert mapping.checkpoint is None
        assert invoked(mapping, 1) == [1, 2]


class TestRetries:
    @pytest.mark.parametrize("retries", [0, 1, 3])
    def test_n_retries_give_n_plus_one_invocations(self, retries: int) -> None:
        mapping = filled(1, 2, maximum_retry_attempts=retries)
        now = 0.0
        for _ in range(retries + 1):
            assert invoked(mapping, now) == [1, 2]
            mapping.failed(now)
            now += 1000

        discard = discarded(mapping, now)
        assert numbers_of(discard) == [1, 2]
        assert (discard.condition, discard.invocations) == ("RetryAttemptsExhausted", retries + 1)
        assert mapping.checkpoint == 2
        assert mapping.next(now) == Idle()

    def test_a_batch_out_of_attempts_is_discarded_without_another_wait(self) -> None:
        mapping = filled(1, maximum_retry_attempts=0)
        invoked(mapping, 7)
        mapping.failed(7)

        assert discarded(mapping, 7).condition == "RetryAttemptsExhausted"

    def test_the_shard_waits_out_an_exponential_backoff(self) -> None:
        mapping = filled(1, backoff_in_seconds=1, maximum_backoff_in_seconds=5)
        now = 0.0
        for wait in (1, 2, 4, 5, 5):
            invoked(mapping, now)
            mapping.failed(now)
            mapping.add(items(2), now)
            assert mapping.next(now) == Wait(now + wait)
            now += wait

    def test_the_budget_starts_afresh_when_the_checkpoint_moves(self) -> None:
        mapping = filled(1, 2, 3, maximum_retry_attempts=1)
        invoked(mapping, 0)
        mapping.failed(0)
        invoked(mapping, 10)
        mapping.answered(named(2), 10)

        for now in (20, 30):
            assert invoked(mapping, now) == [2, 3]
            mapping.answered(named(2), now)
        assert numbers_of(discarded(mapping, 40)) == [2, 3]

    def test_throttled_invocations_use_up_no_attempts_and_wait_longer_and_longer(self) -> None:
        mapping = filled(1, maximum_retry_attempts=0)
        now = 0.0
        for wait in (1, 2, 4, 8):
            invoked(mapping, now)
            mapping.throttled(now)
            assert mapping.next(now) == Wait(now + wait)
            now += wait
        invoked(mapping, now)
        mapping.failed(now)

        assert discarded(mapping, now).invocations == 1

    def test_a_discard_says_whether_the_function_raised_or_answered(self) -> None:
        raising, answering = (filled(1, maximum_retry_attempts=0) for _ in range(2))
        invoked(raising, 0)
        raising.failed(0)
        invoked(answering, 0)
        answering.answered(named(1), 0)

        assert discarded(raising, 0).has_raised
        assert not discarded(answering, 0).has_raised

    def test_of_several_attempts_the_last_says_whether_the_function_raised(self) -> None:
        mapping = filled(1, maximum_retry_attempts=1)
        invoked(mapping, 0)
        mapping.failed(0)
        invoked(mapping, 1)
        mapping.answered(named(1), 1)

        assert not discarded(mapping, 1).has_raised

    def test_an_end_without_an_invocation_is_an_error_of_the_driver(self) -> None:
        with pytest.raises(RuntimeError):
            filled(1).answered(None, 0)


class TestBisect:
    SETTINGS: dict[str, Any] = {"bisect_batch_on_function_error": True}

    def play(self, mapping: ShardMapping, poison: set[int]) -> list[list[int]]:
        """Every batch that was delivered, with a function that raises for poison; until nothing is left."""
        batches: list[list[int]] = []
        now = 0.0
        while not isinstance(action := mapping.next(now), Idle):
            if isinstance(action, Wait):
                now = action.until
            elif isinstance(action, Invoke):
                batches.append(numbers_of(action))
                if poison & set(batches[-1]):
                    mapping.failed(now)
                else:
                    mapping.answered(None, now)
        return batches

    def test_the_halves_run_in_order_until_the_bad_record_is_alone(self) -> None:
        mapping = filled(1, 2, 3, 4, maximum_retry_attempts=1, **self.SETTINGS)

        assert self.play(mapping, {3}) == [[1, 2, 3, 4], [1, 2], [3, 4], [3], [3], [4]]
        assert mapping.checkpoint == 4

    def test_splitting_uses_up_no_attempts(self) -> None:
        mapping = filled(1, 2, 3, 4, maximum_retry_attempts=0, **self.SETTINGS)

        assert self.play(mapping, {1}) == [[1, 2, 3, 4], [1, 2], [1], [2], [3, 4]]

    def test_with_a_partial_answer_too_the_split_is_at_the_returned_number(self) -> None:
        mapping = filled(1, 2, 3, 4, **self.SETTINGS)
        invoked(mapping, 0)
        mapping.answered(named(2), 0)

        assert mapping.checkpoint == 1
        assert invoked(mapping, 10) == [2, 3, 4]

    def test_an_answer_that_names_the_first_record_is_tried_again_as_it_is_or_halved_as_set(self) -> None:
        for setting, expected in (("retry", [1, 2]), ("halve", [1])):
            mapping = filled(1, 2, bisect_at_first_record=setting, **self.SETTINGS)
            invoked(mapping, 0)
            mapping.answered(named(1), 0)

            assert invoked(mapping, 10) == expected

    @pytest.mark.parametrize(("setting", "tries"), [("afresh", 3), ("carried", 2)])
    def test_each_half_has_its_attempts_afresh_or_goes_on_counting_as_set(self, setting: str, tries: int) -> None:
        mapping = filled(1, 2, maximum_retry_attempts=2, bisected_attempts=setting, **self.SETTINGS)
        invoked(mapping, 0)
        mapping.answered(named(1), 0)
        invoked(mapping, 10)
        mapping.failed(10)

        assert self.play(mapping, {1}) == [[1]] * tries + [[2]]

    def test_a_malformed_answer_halves_like_an_exception(self) -> None:
        mapping = filled(1, 2, **self.SETTINGS)
        invoked(mapping, 0)
        mapping.answered({"batchItemFailures": [{"itemIdentifier": None}]}, 0)

        assert invoked(mapping, 10) == [1]


class TestAge:
    def test_records_too_old_are_cut_from_the_head_before_invoking_and_the_rest_is_delivered(self) -> None:
        mapping = shard(maximum_record_age_in_seconds=60)
        mapping.add([*items(1, 2, at=0), *items(3, at=50)], 50)

        discard = discarded(mapping, 61)
        assert numbers_of(discard) == [1, 2]
        assert (discard.condition, discard.invocations) == ("RecordAgeExceeded", 0)
        assert mapping.checkpoint == 2
        assert invoked(mapping, 61) == [3]

    def test_a_record_exactly_as_old_as_allowed_is_delivered(self) -> None:
        mapping = filled(1, maximum_record_age_in_seconds=60)

        assert invoked(mapping, 60) == [1]

    def test_age_is_checked_again_before_each_retry(self) -> None:
        mapping = shard(maximum_record_age_in_seconds=60)
        mapping.add([*items(1, at=0), *items(2, at=40)], 40)
        assert invoked(mapping, 59) == [1, 2]
        mapping.failed(59)

        assert mapping.next(59) == Wait(60)
        invoked(mapping, 60)
        mapping.failed(60)
        discard = discarded(mapping, 62)
        assert numbers_of(discard) == [1]
        assert discard.invocations == 2
        assert invoked(mapping, 62) == [2]

    def test_the_budget_starts_afresh_when_records_too_old_were_cut(self) -> None:
        mapping = shard(maximum_record_age_in_seconds=60, maximum_retry_attempts=1, backoff_in_seconds=10)
        mapping.add(items(1, at=0) + items(2, at=30), 30)
        assert invoked(mapping, 55) == [1, 2]
        mapping.failed(55)

        assert numbers_of(discarded(mapping, 65)) == [1]
        for now in (65, 75):
            assert invoked(mapping, now) == [2]
            mapping.failed(now)
        assert discarded(mapping, 75).invocations == 2

    def test_a_record_older_than_the_retention_is_discarded_though_no_age_is_set(self) -> None:
        mapping = filled(1, retention_in_seconds=100)

        assert discarded(mapping, 100.5).condition == "RecordAgeExceeded"
        assert mapping.checkpoint == 1

    def test_a_failure_document_never_covers_more_than_a_batch(self) -> None:
        mapping = filled(*range(1, 8), batch_size=3, maximum_record_age_in_seconds=60)

        assert [len(discarded(mapping, 1000).items) for _ in range(3)] == [3, 3, 1]
        assert mapping.next(1000) == Idle()


class TestBacklog:
    def test_it_is_what_waits_for_its_first_delivery_in_records_and_in_bytes(self) -> None:
        mapping = shard(batch_size=2, maximum_record_age_in_seconds=60)
        mapping.add(items(1, at=0) + items(2, 3, 4, 5, at=30), 30)
        assert (mapping.backlog, mapping.backlog_bytes) == (5, 500)

        assert numbers_of(discarded(mapping, 70)) == [1]
        assert (mapping.backlog, mapping.backlog_bytes) == (4, 400)

        assert invoked(mapping, 70) == [2, 3]
        mapping.failed(70)
        assert (mapping.backlog, mapping.backlog_bytes) == (2, 200)


class TestCheckpoint:
    def test_it_starts_where_it_is_told(self) -> None:
        assert ShardMapping(Settings(), 41).checkpoint == 41

    def test_it_passes_a_batch_when_that_succeeds(self) -> None:
        mapping = filled(1, 2)
        invoked(mapping, 0)

        assert mapping.checkpoint is None
        mapping.answered(None, 0)
        assert mapping.checkpoint == 2


WHAT_HAPPENS = st.one_of(
    st.sampled_from(["success", "raise", "throttle", "malformed", "unknown"]),
    st.tuples(st.just("named"), st.lists(st.integers(0, 40), min_size=1, max_size=3)),
)
STEPS = st.one_of(
    st.tuples(st.just("add"), st.lists(st.sampled_from([100, 900, 2_900_000, 7_000_000]), max_size=8)),
    st.tuples(st.just("time"), st.floats(0, 100)),
    st.tuples(st.just("act"), WHAT_HAPPENS),
)
ANY_SETTINGS = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 6),
        "maximum_batching_window_in_seconds": st.sampled_from([0, 1, 30]),
        "bisect_batch_on_function_error": st.booleans(),
        "maximum_retry_attempts": st.sampled_from([-1, 0, 1, 3]),
        "maximum_record_age_in_seconds": st.sampled_from([-1, 60, 200]),
        "function_response_types": st.sampled_from([[], ["ReportBatchItemFailures"]]),
        "unknown_identifier": st.sampled_from(["batch_failed", "ignored"]),
        "bisected_attempts": st.sampled_from(["afresh", "carried"]),
        "bisect_at_first_record": st.sampled_from(["retry", "halve"]),
        "retention_in_seconds": st.sampled_from([300, 86_400]),
    }
)


class Observer:
    """Drives a mapping through what hypothesis makes up, and checks after each step what must always hold."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = Settings(**settings)
        self.mapping = ShardMapping(self.settings)
        self.now = 0.0
        self.added: list[Item] = []
        #: Settled by an answer, or discarded: what the checkpoint may pass.
        self.released: set[int] = set()
        self.checkpoint = 0
        #: Failed invocations in a row that began with the same record, the checkpoint not moving in between.
        self.tries: dict[tuple[int, ...], int] = {}

    def add(self, sizes: Iterable[int]) -> None:
        new = [Item(9 + len(self.added) + n, self.now, size) for n, size in enumerate(sizes)]
        self.added += new
        self.mapping.add(new, self.now)

    def act(self, happens: Any) -> Action:
        action = self.mapping.next(self.now)
        if isinstance(action, Wait):
            assert action.until > self.now
        elif isinstance(action, Discard):
            self.check_discard(action)
            self.released.update(numbers_of(action))
        elif isinstance(action, Invoke):
            self.check_invoke(action)
            self.end(numbers_of(action), happens)
        self.check_checkpoint()
        return action

    def end(self, numbers: list[int], happens: Any) -> None:
        batch = tuple(numbers)
        if happens == "throttle":
            self.mapping.throttled(self.now)
            return
        self.tries[batch] = self.tries.get(batch, 0) + 1
        answer: Any = None
        if happens == "raise":
            self.mapping.failed(self.now)
            return
        if happens == "malformed":
            answer = {"batchItemFailures": [{"itemIdentifier": ""}]}
        elif happens == "unknown":
            answer = named(7)
        elif happens != "success":
            answer = named(*(numbers[place % len(numbers)] for place in happens[1]))
        settled = read_answer(answer, numbers, self.settings.unknown_identifier)
        if not self.settings.reports_batch_item_failures:
            settled = len(numbers)
        self.released.update(numbers[: settled or 0])
        self.mapping.answered(answer, self.now)

    def check_invoke(self, action: Invoke) -> None:
        numbers = numbers_of(action)
        unreleased = [item.sequence_number for item in self.added if item.sequence_number not in self.released]
        assert numbers == unreleased[: len(numbers)], "the oldest records that are left, in order, none left out"
        assert 1 <= len(numbers) <= self.settings.batch_size
        size = AROUND + sum(item.size for item in action.items) - 1
        assert size <= self.settings.maximum_payload_in_bytes or len(numbers) == 1
        assert all(self.now - item.arrived_at <= self.settings.lifetime for item in action.items[:1])
        if self.settings.maximum_retry_attempts >= 0 and self.settings.bisected_attempts == "afresh":
            assert self.tries.get(tuple(numbers), 0) <= self.settings.maximum_retry_attempts

    def check_discard(self, action: Discard) -> None:
        if action.condition == "RecordAgeExceeded":
            assert all(self.now - item.arrived_at > self.settings.lifetime for item in action.items)
        else:
            assert action.invocations == self.settings.maximum_retry_attempts + 1
        assert not self.released & set(numbers_of(action)), "a record is given up once, and not after its success"

    def check_checkpoint(self) -> None:
        checkpoint = self.mapping.checkpoint or 0
        assert checkpoint >= self.checkpoint, "the checkpoint never goes back"
        passed = {item.sequence_number for item in self.added if item.sequence_number <= checkpoint}
        assert passed == self.released, "it has passed what was settled or discarded, and nothing else"
        self.checkpoint = checkpoint


@given(settings=ANY_SETTINGS, steps=st.lists(STEPS, max_size=60))
def test_whatever_happens_order_size_budget_and_checkpoint_hold(settings: dict[str, Any], steps: list[Any]) -> None:
    observer = Observer(settings)
    for kind, value in steps:
        if kind == "add":
            observer.add(value)
        elif kind == "time":
            observer.now += value
        else:
            observer.act(value)

    # And when all goes well from here, everything ends.
    while not isinstance(action := observer.act("success"), Idle):
        if isinstance(action, Wait):
            observer.now = action.until
    assert observer.released == {item.sequence_number for item in observer.added}


@given(settings=ANY_SETTINGS, count=st.integers(1, 12))
def test_a_function_that_always_fails_ends_by_its_attempts_or_by_expiry(settings: dict[str, Any], count: int) -> None:
    observer = Observer(settings)
    observer.add([100] * count)

    while not isinstance(action := observer.act("raise"), Idle):
        if isinstance(action, Wait):
            observer.now = action.until
    assert observer.mapping.checkpoint == 8 + count

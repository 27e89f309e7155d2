"""The settings of an event source mapping: AWS's defaults and ranges, and what is refused by name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from streamkit.errors import ConfigurationError
from streamkit.local.settings import Settings


def test_the_defaults_are_those_of_aws() -> None:
    settings = Settings()

    assert settings.batch_size == 100
    assert settings.maximum_batching_window_in_seconds == 0
    assert settings.parallelization_factor == 1
    assert settings.bisect_batch_on_function_error is False
    assert settings.maximum_retry_attempts == -1
    assert settings.maximum_record_age_in_seconds == -1
    assert settings.tumbling_window_in_seconds == 0
    assert list(settings.function_response_types) == []
    assert settings.filter_criteria is None
    assert settings.enabled is True


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("batch_size", 1, 10_000),
        ("maximum_batching_window_in_seconds", 0, 300),
        ("maximum_retry_attempts", -1, 10_000),
        ("maximum_record_age_in_seconds", 60, 604_800),
        ("function_timeout_in_seconds", 1, 900),
        # With no wait at all, a record that always fails would be tried for ever at one instant of a virtual clock.
        ("backoff_in_seconds", 0.001, 3600),
        ("maximum_backoff_in_seconds", 0.001, 3600),
    ],
)
def test_the_ends_of_a_range_are_in_it_and_what_is_beyond_them_is_refused_by_name(
    name: str, lowest: float, highest: int
) -> None:
    for value in (lowest, highest):
        given: dict[str, Any] = {name: value}
        assert getattr(Settings(**given), name) == value

    for value in (lowest - 1, highest + 1):
        given = {name: value}
        if name != "maximum_record_age_in_seconds" or value != -1:
            with pytest.raises(ConfigurationError, match=rf"^{name} .*{highest:,}"):
                Settings(**given)


@pytest.mark.parametrize("age", [0, 1, 59, 59.9, -2])
def test_an_age_under_a_minute_is_refused_but_for_no_limit(age: float) -> None:
    with pytest.raises(ConfigurationError, match="maximum_record_age_in_seconds"):
        Settings(maximum_record_age_in_seconds=age)
    assert Settings(maximum_record_age_in_seconds=-1).maximum_record_age_in_seconds == -1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 1.5),
        ("batch_size", "100"),
        ("batch_size", True),
        ("batch_size", None),
        ("maximum_batching_window_in_seconds", float("nan")),
        ("bisect_batch_on_function_error", "yes"),
        ("bisect_batch_on_function_error", 1),
        ("enabled", None),
        ("function_response_types", "ReportBatchItemFailures"),
        ("function_response_types", ["reportBatchItemFailures"]),
        ("function_response_types", None),
        ("starting_position", "trim_horizon"),
        ("unknown_identifier", "success"),
        ("maximum_payload_in_bytes", 6 * 1024 * 1024 + 1),
        ("backoff_in_seconds", 0),
        ("maximum_backoff_in_seconds", 0),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} "):
        Settings(**{name: value})


def test_an_unknown_setting_is_a_type_error_that_names_it() -> None:
    with pytest.raises(TypeError, match="batchsize"):
        Settings(batchsize=10)  # type: ignore[call-arg]  # What the test is about.


@pytest.mark.parametrize("given", [1_767_225_600, 1_767_225_600.0, datetime(2026, 1, 1, tzinfo=UTC)])
def test_a_starting_time_is_seconds_or_a_datetime(given: Any) -> None:
    settings = Settings(starting_position="AT_TIMESTAMP", starting_position_timestamp=given)

    assert settings.starting_time == 1_767_225_600


@pytest.mark.parametrize(
    "given",
    [
        {"starting_position": "AT_TIMESTAMP"},
        {"starting_position_timestamp": 1_767_225_600},
        {"starting_position": "AT_TIMESTAMP", "starting_position_timestamp": datetime(2026, 1, 1)},
        {"starting_position": "AT_TIMESTAMP", "starting_position_timestamp": float("nan")},
        {"starting_position": "AT_TIMESTAMP", "starting_position_timestamp": "2026-01-01"},
    ],
)
def test_a_starting_time_that_says_no_time_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="starting_position_timestamp"):
        Settings(**given)


def test_the_backoff_doubles_up_to_its_limit_whatever_the_number_of_failures() -> None:
    settings = Settings(backoff_in_seconds=1, maximum_backoff_in_seconds=60)

    assert [settings.backoff(failures) for failures in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert settings.backoff(10_001) == 60


def test_a_record_lives_as_long_as_its_maximum_age_and_the_retention_both_allow() -> None:
    assert Settings().lifetime == 86_400
    assert Settings(maximum_record_age_in_seconds=60).lifetime == 60
    assert Settings(maximum_record_age_in_seconds=604_800).lifetime == 86_400

"""The settings of an event source mapping: AWS's names in snake case, AWS's defaults and ranges."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ..errors import ConfigurationError

__all__ = ["Settings"]

StartingPosition = Literal["LATEST", "TRIM_HORIZON", "AT_TIMESTAMP"]

# From the API reference of CreateEventSourceMapping; -1 stands for "no limit" where AWS has it so.
_RANGES: dict[str, tuple[float, float]] = {
    "batch_size": (1, 10_000),
    "maximum_batching_window_in_seconds": (0, 300),
    "parallelization_factor": (1, 10),
    "maximum_retry_attempts": (-1, 10_000),
    "maximum_record_age_in_seconds": (-1, 604_800),
    "tumbling_window_in_seconds": (0, 900),
    "function_timeout_in_seconds": (1, 900),
    "retention_in_seconds": (1, 31_536_000),
    "shards": (1, 10_000),
    "backoff_in_seconds": (0, 3600),
    "maximum_backoff_in_seconds": (0, 3600),
}
_NOT_BUILT = {"parallelization_factor": 1, "tumbling_window_in_seconds": 0, "filter_criteria": None}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event source mapping, its function and its stream. ConfigurationError names a setting that is wrong or not built yet."""

    batch_size: int = 100
    maximum_batching_window_in_seconds: float = 0
    parallelization_factor: int = 1
    bisect_batch_on_function_error: bool = False
    maximum_retry_attempts: int = -1
    maximum_record_age_in_seconds: int = -1
    tumbling_window_in_seconds: int = 0
    function_response_types: tuple[str, ...] = ()
    filter_criteria: Any = None
    # AWS has no default and asks for it; from the oldest is what tests and a first run mean.
    starting_position: StartingPosition = "TRIM_HORIZON"
    starting_position_timestamp: float | None = None
    enabled: bool = True

    function_timeout_in_seconds: float = 60
    retention_in_seconds: int = 86_400
    shards: int = 1

    # What AWS leaves open: its exponential backoff between tries, here doubled from the first to the second.
    backoff_in_seconds: float = 1
    maximum_backoff_in_seconds: float = 60

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _RANGES.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
                raise ConfigurationError(f"{name} = {value!r}: a number from {lowest:,} to {highest:,}")
        if -1 < self.maximum_record_age_in_seconds < 60:
            raise ConfigurationError(
                f"maximum_record_age_in_seconds = {self.maximum_record_age_in_seconds}: -1 for no limit, or 60 to 604,800"
            )
        for name, only in _NOT_BUILT.items():
            if getattr(self, name) != only:
                raise ConfigurationError(f"{name} is not built yet: leave it {only!r}")
        if list(self.function_response_types) not in ([], ["ReportBatchItemFailures"]):
            raise ConfigurationError(
                f'function_response_types = {self.function_response_types!r}: [] or ["ReportBatchItemFailures"]'
            )
        if self.starting_position not in ("LATEST", "TRIM_HORIZON", "AT_TIMESTAMP"):
            raise ConfigurationError(
                f'starting_position = {self.starting_position!r}: "LATEST", "TRIM_HORIZON" or "AT_TIMESTAMP"'
            )
        if (self.starting_position == "AT_TIMESTAMP") != (self.starting_position_timestamp is not None):
            raise ConfigurationError(
                'starting_position = "AT_TIMESTAMP" and starting_position_timestamp (seconds since the epoch) go together'
            )

    @property
    def reports_batch_item_failures(self) -> bool:
        return "ReportBatchItemFailures" in self.function_response_types

    def backoff(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return min(self.maximum_backoff_in_seconds, self.backoff_in_seconds * 2.0 ** min(failures - 1, 60))

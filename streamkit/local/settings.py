"""The settings of an event source mapping: AWS's names in snake case, AWS's defaults and ranges."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec

from ..errors import ConfigurationError
from .filters import Filters

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
    # Without any wait a record that always fails would be tried for ever at one instant of a virtual clock.
    "backoff_in_seconds": (0.001, 3600),
    "maximum_backoff_in_seconds": (0.001, 3600),
    "maximum_payload_in_bytes": (1, 6 * 1024 * 1024),
    "window_wait_in_seconds": (0, 900),
    "maximum_state_in_bytes": (1, 6 * 1024 * 1024),
}
_WHOLE = {
    "batch_size",
    "parallelization_factor",
    "maximum_retry_attempts",
    "shards",
    "maximum_payload_in_bytes",
    "tumbling_window_in_seconds",
}
_CHOICES: dict[str, tuple[object, ...]] = {
    "bisect_batch_on_function_error": (True, False),
    "enabled": (True, False),
    "starting_position": ("LATEST", "TRIM_HORIZON", "AT_TIMESTAMP"),
    "unknown_identifier": ("batch_failed", "ignored"),
    "bisected_attempts": ("afresh", "carried"),
    "bisect_at_first_record": ("retry", "halve"),
    "record_over_payload": ("deliver", "discard"),
}


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event source mapping, its function and its stream.

    ConfigurationError names a setting that is wrong, a TypeError one that there is not.
    """

    batch_size: int = 100
    maximum_batching_window_in_seconds: float = 0
    parallelization_factor: int = 1
    bisect_batch_on_function_error: bool = False
    #: N gives N + 1 invocations; -1: until the record expires.
    maximum_retry_attempts: int = -1
    #: -1, or 60 to 604,800.
    maximum_record_age_in_seconds: float = -1
    tumbling_window_in_seconds: int = 0
    #: ``["ReportBatchItemFailures"]`` for the answer to count; AWS's default is none, and the answer is ignored.
    function_response_types: Sequence[str] = ()
    #: ``{"Filters": [{"Pattern": "<JSON>"}, …]}``, or a list of the patterns: see ``streamkit.local.filters``.
    filter_criteria: Any = None
    #: AWS has no default and asks for it; from the oldest is what tests and a first run mean.
    starting_position: StartingPosition = "TRIM_HORIZON"
    #: Seconds since the epoch or an aware datetime; goes with ``AT_TIMESTAMP``, and with nothing else.
    starting_position_timestamp: float | datetime | None = None
    enabled: bool = True

    function_timeout_in_seconds: float = 60
    retention_in_seconds: float = 86_400
    shards: int = 1

    # What AWS leaves open.
    #: Its exponential backoff: the wait after the first failure without progress, doubled with each further one,
    backoff_in_seconds: float = 1
    #: up to this.
    maximum_backoff_in_seconds: float = 60
    #: "6 MB" of JSON: the smaller of the two things that it can mean, so that no batch is over either.
    maximum_payload_in_bytes: int = 6_000_000
    #: A record whose event is over that by itself, as one of 10 MiB is: delivered alone, which a container can take, or given
    #: up at once with a failure document, since no function of Lambda's can be called with it.
    record_over_payload: Literal["deliver", "discard"] = "deliver"
    #: An answer that names what is not in the batch: all of it failed, or that name does not count. Where it names nothing
    #: else, all of it failed all the same: it says that something did.
    unknown_identifier: Literal["batch_failed", "ignored"] = "batch_failed"
    #: The attempts of each half of a split batch: counted from none, or from those of the batch before the one that split it.
    bisected_attempts: Literal["afresh", "carried"] = "afresh"
    #: An answer that names the first record, with bisect on. AWS splits at the returned number: nothing is before it, so
    #: that the batch is tried again as it is. Or it is halved, as after an exception.
    bisect_at_first_record: Literal["retry", "halve"] = "retry"
    #: How long after its end, in seconds, a tumbling window is kept open where no later record has come. AWS says "up to two
    #: minutes"; a reader that has caught up knows at the end.
    window_wait_in_seconds: float = 0
    #: "1 MB" of state, as JSON: over it, a tumbling window ends early.
    maximum_state_in_bytes: int = 1_000_000

    def __post_init__(self) -> None:
        for name, (lowest, highest) in _RANGES.items():
            value, kind = getattr(self, name), int if name in _WHOLE else int | float
            if isinstance(value, bool) or not isinstance(value, kind) or not lowest <= value <= highest:
                number = "a whole number" if name in _WHOLE else "a number"
                raise ConfigurationError(f"{name} = {value!r}: {number} from {lowest:,} to {highest:,}")
        if -1 < self.maximum_record_age_in_seconds < 60:
            raise ConfigurationError(
                f"maximum_record_age_in_seconds = {self.maximum_record_age_in_seconds}: -1 for no limit, or 60 to 604,800"
            )
        for name, choices in _CHOICES.items():
            # By type as well: 1 == True.
            if not any(
                type(choice) is type(getattr(self, name)) and choice == getattr(self, name) for choice in choices
            ):
                raise ConfigurationError(f"{name} = {getattr(self, name)!r}: one of {', '.join(map(repr, choices))}")
        types = self.function_response_types
        if not isinstance(types, list | tuple) or list(types) not in ([], ["ReportBatchItemFailures"]):
            raise ConfigurationError(f'function_response_types = {types!r}: [] or ["ReportBatchItemFailures"]')
        self._check_timestamp()
        self.filters()

    def _check_timestamp(self) -> None:
        given = self.starting_position_timestamp
        if (self.starting_position == "AT_TIMESTAMP") != (given is not None):
            raise ConfigurationError('starting_position = "AT_TIMESTAMP" and starting_position_timestamp go together')
        if given is None:
            return
        if isinstance(given, datetime):
            is_time = given.tzinfo is not None
        else:
            is_time = isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < float("inf")
        if not is_time:
            raise ConfigurationError(
                f"starting_position_timestamp = {given!r}: seconds since the epoch, or a datetime with a time zone"
            )

    @property
    def reports_batch_item_failures(self) -> bool:
        return "ReportBatchItemFailures" in self.function_response_types

    @property
    def starting_time(self) -> float | None:
        """``starting_position_timestamp`` in seconds since the epoch."""
        given = self.starting_position_timestamp
        return given.timestamp() if isinstance(given, datetime) else given

    @property
    def lifetime(self) -> float:
        """How many seconds after its arrival a record can still be delivered: its maximum age, or the stream's retention."""
        age = self.maximum_record_age_in_seconds
        return self.retention_in_seconds if age == -1 else min(age, self.retention_in_seconds)

    def filters(self) -> Filters:
        """``filter_criteria``, ready to be asked about records."""
        return Filters(self.filter_criteria)

    def backoff(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row."""
        return min(self.maximum_backoff_in_seconds, self.backoff_in_seconds * 2.0 ** min(failures - 1, 60))

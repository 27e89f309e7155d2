"""The settings of the event source mapping as options of ``streamkit run``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError
from .usage import UsageError, moment

if TYPE_CHECKING:
    from ..local.settings import Settings

__all__ = ["add_settings", "settings_of"]

# Ranges, and what goes together, are `Settings`' own to check; importing it for a `--help` would cost more than all else.
_AWS: dict[str, tuple[Callable[[str], Any] | tuple[str, ...], str]] = {
    "batch_size": (int, "the most records of a batch (100)"),
    "maximum_batching_window_in_seconds": (float, "how long a batch waits to be full (0)"),
    "parallelization_factor": (int, "lanes of a shard, each with a batch in flight (1)"),
    "maximum_retry_attempts": (int, "given up after so many retries; -1: never (-1)"),
    "maximum_record_age_in_seconds": (int, "given up when older; -1: with the stream's retention (-1)"),
    "tumbling_window_in_seconds": (int, "for a WindowProcessor: the length of its windows (0: none)"),
    "function_timeout_in_seconds": (float, "what the context tells the function that it has (60)"),
    "starting_position": (("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"), "where there is no checkpoint (TRIM_HORIZON)"),
    "starting_position_timestamp": (
        moment,
        "for AT_TIMESTAMP: 2026-05-01T12:00Z, or seconds since the epoch; without a zone by this machine's clock",
    ),
}
_OPEN: dict[str, tuple[Callable[[str], Any] | tuple[str, ...], str]] = {
    "unknown_identifier": (
        ("batch_failed", "ignored"),
        "an answer names a record that is not in the batch: all of it failed, or that name does not count (batch_failed)",
    ),
    "bisected_attempts": (
        ("afresh", "carried"),
        "the attempts of each half of a split batch: counted anew, or on from those before the split (afresh)",
    ),
    "bisect_at_first_record": (
        ("retry", "halve"),
        "an answer names the first record, and bisecting is on: the batch again as it is, or halved (retry)",
    ),
    "backoff_in_seconds": (float, "the wait after a first failure, doubled with each further one (1)"),
    "maximum_backoff_in_seconds": (float, "the longest such wait (60)"),
    "maximum_payload_in_bytes": (int, "what a batch takes as JSON (6000000)"),
    "record_over_payload": (
        ("deliver", "discard"),
        "a record that is over that by itself: delivered alone, or given up at once (deliver)",
    ),
    "window_wait_in_seconds": (float, "how long after its end a tumbling window waits for late records (0)"),
    "maximum_state_in_bytes": (int, "a window's state as JSON, over which the window ends early (1000000)"),
}
_OPTIONS = {name: "--" + name.replace("_", "-") for name in ("bisect_batch_on_function_error", *_AWS, *_OPEN)} | {
    "filter_criteria": "--filter",
    "function_response_types": "--report-batch-item-failures",
}


def add_settings(run: argparse.ArgumentParser) -> None:
    """Options without defaults of their own: those that were not given are left to ``Settings``."""
    mapping = run.add_argument_group("event source mapping", "the names and defaults are AWS's")
    _add(mapping, _AWS)
    mapping.add_argument(
        "--bisect-batch-on-function-error",
        action="store_true",
        default=argparse.SUPPRESS,
        help="split a batch that has failed",
    )
    mapping.add_argument(
        "--filter",
        dest="filter_criteria",
        metavar="PATTERN",
        action="append",
        default=argparse.SUPPRESS,
        help="""deliver what matches, such as '{"data": {"type": ["order"]}}'; given several times, what matches one of them""",
    )
    mapping.add_argument(
        "--report-batch-item-failures",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the function answers what has failed, as streamkit's do",
    )
    _add(run.add_argument_group("what AWS leaves open", "its pages don't say, or say two things"), _OPEN)


def settings_of(options: argparse.Namespace) -> Settings:
    """UsageError, with the option's name, for what a mapping would not take."""
    from ..local.settings import Settings

    given = {name: getattr(options, name) for name in Settings.__struct_fields__ if hasattr(options, name)}
    if options.report_batch_item_failures:
        given["function_response_types"] = ("ReportBatchItemFailures",)
    try:
        return Settings(**given)
    except ConfigurationError as error:
        # Before the colon it names settings; behind it can be what the user has typed.
        names, colon, what = str(error).partition(":")
        named = re.sub(r"\w+", lambda word: _OPTIONS.get(word[0], word[0]), names)
        raise UsageError(f"{named}{colon}{what}") from None


def _add(
    group: argparse._ArgumentGroup, settings: dict[str, tuple[Callable[[str], Any] | tuple[str, ...], str]]
) -> None:
    for name, (kind, text) in settings.items():
        if isinstance(kind, tuple):
            group.add_argument(_OPTIONS[name], choices=kind, default=argparse.SUPPRESS, help=text)
        else:
            metavar = "TIME" if kind is moment else "N"
            group.add_argument(_OPTIONS[name], type=kind, metavar=metavar, default=argparse.SUPPRESS, help=text)

"""Where the event source mapping of a stream does not fit its processor."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..errors import ConfigurationError
from ..heartbeat import payload
from ..local.filters import Filters
from ..local.settings import Settings
from ..policy import Block
from ..processor import RecordProcessor, attributes_of
from ..sinks.base import ShardSink
from .deployment import SourceMapping
from .report import Subject
from .unknown import is_known, is_same

__all__ = ["check_streams"]

#: The fields of a record's event beside its data, in bytes, at least; and Lambda's limit of an event.
_EVENT_OF_A_RECORD = 500
_LARGEST_EVENT = 6_000_000
_REPORTS = "ReportBatchItemFailures"
_STARTS = ("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP")
#: An hour less than the shortest retention of a stream, in seconds.
_ABOUT_RETENTION = 82_800
#: Kinesis's default; and the longest age that Lambda takes, in seconds.
_RETENTION_HOURS, _LONGEST_AGE = 24, 604_800
#: What AWS's names are in ``Settings``.
_SETTINGS = {
    "BatchSize": "batch_size",
    "MaximumBatchingWindowInSeconds": "maximum_batching_window_in_seconds",
    "ParallelizationFactor": "parallelization_factor",
    "MaximumRetryAttempts": "maximum_retry_attempts",
    "MaximumRecordAgeInSeconds": "maximum_record_age_in_seconds",
    "TumblingWindowInSeconds": "tumbling_window_in_seconds",
}


def check_streams(subject: Subject) -> None:
    """Every rule about the function's mappings of Kinesis streams."""
    mappings = subject.deployment.own_mappings("kinesis")
    for mapping in mappings:
        for rule in (
            _partial_answers,
            _values,
            _limits,
            _bisect,
            _windows,
            _lanes,
            _batches,
            _start,
            _filters,
            _heartbeats,
            _destination,
            _switched_off,
        ):
            rule(mapping, subject)
    _several(mappings, subject)
    _nothing(subject)


def _partial_answers(mapping: SourceMapping, subject: Subject) -> None:
    types = mapping.setting("FunctionResponseTypes")
    if mapping.reports is False:
        subject.report.error(
            types.where,
            "partial answers are off, so Lambda does not read what the function answers: a record that failed is "
            "passed as if "
            f"it were done, and lost. Write FunctionResponseTypes: [{_REPORTS}]",
        )
    elif mapping.reports is None:
        subject.report.is_known(types, "FunctionResponseTypes")


def _values(mapping: SourceMapping, subject: Subject) -> None:
    """What AWS would refuse, by the ranges that the local engine has."""
    for name, option in _SETTINGS.items():
        setting = mapping.setting(name)
        number = subject.report.number(setting, name, 0)
        if not setting.is_set or number is None:
            continue
        try:
            Settings(**{option: number})  # type: ignore[arg-type]  # All of _SETTINGS are numbers.
        except ConfigurationError as error:
            rule = str(error).partition(": ")[2]
            subject.report.error(setting.where, f"{name} is {number}, which AWS does not take: write {rule}")


def _limits(mapping: SourceMapping, subject: Subject) -> None:
    report = subject.report
    retries, age = mapping.setting("MaximumRetryAttempts"), mapping.setting("MaximumRecordAgeInSeconds")
    destination = mapping.on_failure
    kept = _kept(mapping, subject)
    counts = [
        (retries, "MaximumRetryAttempts", retries.number(-1), "after {} retries"),
        (age, "MaximumRecordAgeInSeconds", age.number(-1), "when they are {} s old"),
    ]
    for setting, name, number, when in counts:
        if number is None or number == -1:
            continue
        end = when.format(number)
        if not destination.is_set:
            report.error(
                setting.where,
                f"{end} Lambda discards what is left of a batch, and nothing keeps it: these records are lost "
                "without a word. Write "
                f"{name}: -1, or add DestinationConfig: {{OnFailure: {{Destination: <ARN of a queue>}}}}",
            )
        elif setting is age and kept is not None and number >= kept:
            report.warning(
                setting.where,
                f"{end} Lambda would give up records and tell OnFailure, and the stream keeps them for {kept // 3600} hours: "
                f"they are gone before, and nobody is told. Write MaximumRecordAgeInSeconds: {kept - 3600}, or keep them for "
                "longer by RetentionPeriodHours",
            )
        elif setting is age and number >= _late_enough(kept):
            report.note(
                setting.where,
                f"{end} Lambda gives up records and tells OnFailure where they are: right where that is a little under the "
                "stream's retention, which would end them in silence, and too early where the retention is much longer",
            )
        else:
            report.warning(
                setting.where,
                f"{end} Lambda gives up records, {_contradiction(subject.processors)} An outage of what the function "
                "writes to "
                f"counts as well, so records that nothing is wrong with end at OnFailure. Write {name}: -1",
            )
    if destination.is_set and all(number == -1 for _, _, number, _ in counts):
        report.warning(
            destination.where,
            "OnFailure never gets anything: without MaximumRetryAttempts and MaximumRecordAgeInSeconds Lambda tries "
            "until the stream "
            "has dropped the records, and says nothing then. Rely on an alarm on IteratorAge, or write "
            "MaximumRecordAgeInSeconds a little under the stream's retention, as 82800 for a day's",
        )


def _kept(mapping: SourceMapping, subject: Subject) -> int | None:
    """For how many seconds the stream keeps a record; None where that is not known."""
    stream = subject.deployment.place(mapping.stream)
    hours = None if stream is None else stream.retention.number(_RETENTION_HOURS)
    return None if hours is None else hours * 3600


def _late_enough(kept: int | None) -> int:
    """An hour under the retention, or as near as Lambda comes to it."""
    return _ABOUT_RETENTION if kept is None else min(kept - 3600, _LONGEST_AGE)


def _contradiction(processors: list[RecordProcessor]) -> str:
    if any(isinstance(processor.on_failure, Block) for processor in processors):
        return "while Block is to hold them until they succeed, and all behind them in the batch goes with them."
    return "though Divert and Park put aside by themselves what fails."


def _bisect(mapping: SourceMapping, subject: Subject) -> None:
    setting = mapping.setting("BisectBatchOnFunctionError")
    bisects = subject.report.flag(setting, "BisectBatchOnFunctionError", default=False)
    retries = mapping.setting("MaximumRetryAttempts").number(-1)
    if bisects is False and retries is not None and retries > -1:
        subject.report.warning(
            setting.where,
            f"a record that kills the process takes all of its batch with it when the {retries} retries are used up. "
            "Write "
            "BisectBatchOnFunctionError: true, and Lambda halves such a batch until that record is alone",
        )
    if bisects and mapping.reports:
        subject.report.note(
            setting.where,
            "with partial answers Lambda splits a batch at the record that the answer names; it halves only where "
            "the function died "
            "or raised. Nothing is lost by it, and a progress store finds what was done in the halves too",
        )


def _windows(mapping: SourceMapping, subject: Subject) -> None:
    setting = mapping.setting("TumblingWindowInSeconds")
    seconds = setting.number(0)
    folds = subject.processor._window_run is not None
    if seconds is None:
        return
    if folds and seconds == 0:
        subject.report.error(
            setting.where,
            f"{subject.processor.name} is a WindowProcessor and the mapping has no window: it refuses every event, "
            "and its shards "
            "stand still. Write TumblingWindowInSeconds: 60",
        )
    elif seconds > 0 and not folds:
        subject.report.warning(
            setting.where,
            f"{subject.processor.name} folds no windows: batches are cut at the end of each window, and empty calls "
            "end it, for a state "
            "that nobody uses. Leave TumblingWindowInSeconds out, or subclass WindowProcessor",
        )


def _lanes(mapping: SourceMapping, subject: Subject) -> None:
    setting = mapping.setting("ParallelizationFactor")
    lanes = setting.number(1)
    if lanes is None or lanes <= 1:
        return
    for processor in subject.processors:
        if any(isinstance(part, ShardSink) for part in attributes_of(processor)):
            subject.report.error(
                setting.where,
                f"{processor.name} writes exactly once, by the place of records in their shard: with {lanes} lanes "
                "the rows of a lane that "
                "is behind are taken for repeats, and lost. Write ParallelizationFactor: 1",
            )
        elif processor.ordering == "shard":
            subject.report.error(
                setting.where,
                f'{processor.name} has ordering = "shard", and {lanes} lanes of a shard run at once: its order is lost. Write '
                'ParallelizationFactor: 1, or ordering = "key"',
            )
        elif processor.ordering == "key":
            subject.report.note(
                setting.where,
                f"{lanes} lanes keep the order of the partition key that Kinesis knows: of KPL aggregates that is "
                "the aggregate's, "
                f"not its user records'. Where producers of {processor.name} aggregate, write ParallelizationFactor: 1",
            )


def _batches(mapping: SourceMapping, subject: Subject) -> None:
    setting = mapping.setting("BatchSize")
    size = setting.number(100)
    if size is not None and size <= 10_000 and size * _EVENT_OF_A_RECORD > _LARGEST_EVENT // 2:
        most = (_LARGEST_EVENT // size - _EVENT_OF_A_RECORD) * 3 // 4
        subject.report.note(
            setting.where,
            f"a batch ends at 6 MB, so BatchSize: {size} is reached only by records of under {max(most, 0)} bytes on "
            "the average; each has "
            f"some {_EVENT_OF_A_RECORD} bytes of event beside its data",
        )


def _start(mapping: SourceMapping, subject: Subject) -> None:
    setting = mapping.setting("StartingPosition")
    if not setting.is_set:
        subject.report.error(
            setting.where, "AWS makes no mapping of a stream without a start. Write StartingPosition: TRIM_HORIZON"
        )
    elif not subject.report.is_known(setting, "StartingPosition"):
        return
    elif setting.text() not in _STARTS:
        subject.report.error(
            setting.where,
            f"StartingPosition is {setting.value!r}, which AWS does not take: write one of {', '.join(_STARTS)}",
        )
    elif setting.text() == "AT_TIMESTAMP":
        _start_time(mapping, subject)
    elif setting.text() == "LATEST":
        subject.report.warning(
            setting.where,
            "what is put before the mapping begins to poll is never read: that takes minutes when it is made, and "
            "AWS says so of "
            "updates too. Write StartingPosition: TRIM_HORIZON (or AT_TIMESTAMP)",
        )


def _start_time(mapping: SourceMapping, subject: Subject) -> None:
    time = mapping.setting("StartingPositionTimestamp")
    advice = (
        "write StartingPositionTimestamp: 1764432000, in seconds since the epoch, or StartingPosition: TRIM_HORIZON"
    )
    if not time.is_set:
        where = mapping.setting("StartingPosition").where
        subject.report.error(where, f"AWS makes no mapping AT_TIMESTAMP without a time: {advice}")
    # AWS's own answer is a time; a template has a text.
    elif (
        isinstance(time.value, str)
        and subject.report.is_known(time, "StartingPositionTimestamp")
        and re.fullmatch(r"[0-9]+(\.[0-9]+)?", time.value) is None
    ):
        subject.report.error(
            time.where, f"StartingPositionTimestamp is {time.value!r}, which AWS does not take: {advice}"
        )


def _filters(mapping: SourceMapping, subject: Subject) -> None:
    setting = mapping.setting("FilterCriteria")
    if not setting.is_set or not subject.report.is_known(setting, "FilterCriteria"):
        return
    try:
        Settings(filter_criteria=_with_texts(setting.value))
    except (ConfigurationError, ValueError) as error:
        subject.report.error(setting.where, f"FilterCriteria is none that AWS takes: {error}")
        return
    subject.report.note(
        setting.where,
        "a filter drops what is no JSON, and a KPL aggregate is none: where producers aggregate, none of their records arrives. "
        "Filter in the function then, by rules (docs/fanout.md#rules)",
    )


def _heartbeats(mapping: SourceMapping, subject: Subject) -> None:
    """Whether they come through to whom HEARTBEAT_URL calls, each shard's to its own."""
    function, report = subject.deployment.function, subject.report
    url = function.environment.get("HEARTBEAT_URL", "")
    if not url:
        return
    setting = mapping.setting("FilterCriteria")
    if setting.is_set and setting.is_known and not _lets_through(setting.value, payload(0.0)):
        report.warning(
            setting.where,
            "the filter drops heartbeats, so HEARTBEAT_URL is never called, and whoever waits for it is alarmed for ever. Add "
            '{Pattern: \'{"data": {"streamkit_heartbeat": [1]}}\'} to the Filters',
        )
    stream = subject.deployment.place(mapping.stream)
    shards = 1 if stream is None else stream.shards or 1
    if shards > 1 and is_known(url) and "{shard}" not in url:
        report.warning(
            function.environment_where,
            f"HEARTBEAT_URL has no {{shard}}, and the stream has {shards} shards: those that flow call it for one that "
            "stands still, and nobody is told. Write {shard} into it, so that each shard has a switch of its own",
        )


def _lets_through(criteria: Any, data: bytes) -> bool:
    """Whether a record with this data is delivered; of a filter that AWS does not take, which is told elsewhere, yes."""
    try:
        return Filters(_with_texts(criteria)).wants(data)
    except (ConfigurationError, ValueError):
        return True


def _with_texts(criteria: Any) -> Any:
    """AWS has patterns as texts of JSON; templates may have them as mappings."""
    if not isinstance(criteria, Mapping):
        return criteria
    filters = criteria.get("Filters")
    if not isinstance(filters, list):
        return criteria
    return {"Filters": [_with_text(one) for one in filters]}


def _with_text(one: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(one.get("Pattern"), Mapping):
        return {**one, "Pattern": json.dumps(one["Pattern"])}
    return one


def _destination(mapping: SourceMapping, subject: Subject) -> None:
    destination = mapping.on_failure
    if destination.is_set and subject.is_retry_queue(destination.text()):
        subject.report.error(
            destination.where,
            "OnFailure is the retry queue: Lambda's failure documents would be run as if they were records. Name a "
            "queue of its own "
            "for them, or that of the dead letters (docs/dead-letters.md)",
        )


def _switched_off(mapping: SourceMapping, subject: Subject) -> None:
    setting = mapping.setting("Enabled")
    if setting.flag(default=True) is False:
        subject.report.warning(
            setting.where,
            "the mapping is switched off: nothing is read, and the stream's retention runs. Write Enabled: true",
        )


def _several(mappings: list[SourceMapping], subject: Subject) -> None:
    for n, mapping in enumerate(mappings):
        if any(is_same(mapping.stream, other.stream) for other in mappings[:n]):
            subject.report.error(
                mapping.where,
                "a second mapping of the same stream to the same function: each record runs twice, and two readers "
                "have one progress, "
                "one ledger and one account of what is written. Leave one of them out",
            )


def _nothing(subject: Subject) -> None:
    deployment = subject.deployment
    is_subscribed = any(one.is_to(deployment.function.name) for one in deployment.subscriptions)
    own = [one for one in deployment.mappings if one.function == deployment.function.name]
    if not own and not is_subscribed:
        subject.report.warning(
            deployment.function.where,
            f"nothing triggers {deployment.function.label} here, so no event source mapping was looked at",
        )
    for mapping in own:
        if mapping.service not in ("kinesis", "sqs", ""):
            subject.report.error(
                mapping.where,
                f"streamkit's handler does not know the events of {mapping.service}: it raises for each of them",
            )
        elif not mapping.service:
            subject.report.not_checked(mapping.where, f"the mapping of {mapping.source or 'an unknown source'}")

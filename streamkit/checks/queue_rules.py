"""Where retry queues, dead letters, topics and tables don't fit the policy that uses them."""

from __future__ import annotations

from ..policy import Divert, Park
from .deployment import QueueFacts, SourceMapping, Subscription, name_of_function
from .parts import Part
from .report import Subject
from .unknown import is_known, is_same

__all__ = ["check_queues"]

#: SQS's defaults, in seconds, and its limits.
_VISIBILITY, _RETENTION = 30, 345_600
_LONGEST_VISIBILITY, _SHORTEST_RETENTION, _LONGEST_RETENTION, _MOST_RECEIVES = 43_200, 60, 1_209_600, 1_000
_DEFAULT_TIMEOUT = 3
_REPORTS = "FunctionResponseTypes: [ReportBatchItemFailures]"
_TABLES = {
    "ledger": ((("processor", "HASH"), ("group", "RANGE")), "", "DynamoDbLedger"),
    "progress": ((("shard", "HASH"), ("number", "RANGE")), "expires_at", "DynamoDbProgress"),
    "plans": ((("shard", "HASH"),), "", "DynamoDbPlans"),
    "marks": ((("key", "HASH"),), "expires_at", "DynamoDbMarks"),
}


def check_queues(subject: Subject) -> None:
    """Every rule about queues, topics and tables."""
    for queue in subject.deployment.queues:
        _values(queue, subject)
    for part in subject.parts_in("retry queue"):
        if part.arn.split(":")[2:3] == ["sns"]:
            _topic(part, subject)
        elif part.arn:
            _retry_queue(part, subject)
    for part in subject.parts_in("dead letters"):
        _dead_letters(part, subject)
    for mapping in subject.deployment.own_mappings("sqs"):
        _mapping(mapping, subject)
    for part in subject.parts_in(*_TABLES):
        _table(part, subject)


def _values(queue: QueueFacts, subject: Subject) -> None:
    """What SQS would refuse."""
    within = subject.report.within
    within(queue.visibility, "VisibilityTimeout", 0, _LONGEST_VISIBILITY)
    within(queue.retention, "MessageRetentionPeriod", _SHORTEST_RETENTION, _LONGEST_RETENTION)
    within(queue.max_receive_count, "maxReceiveCount", 1, _MOST_RECEIVES)


def _retry_queue(part: Part, subject: Subject) -> None:
    policy, deployment, report = part.processor.on_failure, subject.deployment, subject.report
    queue = deployment.queue(part.arn)
    is_read = _is_read(part, part.arn, queue, subject)
    if isinstance(policy, Park) and not _is_fifo(part, queue):
        report.error(
            part.name if queue is None else queue.where,
            f"{part.name} is no FIFO queue: messages of a key would run in any order, and Park refuses to send. Make "
            "it a queue whose name "
            "ends in .fifo, with FifoQueue: true",
        )
    if isinstance(policy, Divert) and _is_fifo(part, queue):
        report.warning(
            part.name if queue is None else queue.where,
            f"{part.name} is a FIFO queue: Divert counts no attempts there and knows no delay, so a record that "
            "fails stays at the head of its "
            "group until the queue's redrive policy moves it. Name a standard queue, or use Park",
        )
    if queue is None:
        if not is_read:
            report.not_checked(part.name, f"the queue {part.place or part.arn}: nothing here describes it")
        return
    _receives(part, part.name, queue, subject)
    _retention(queue, subject)


def _is_fifo(part: Part, queue: QueueFacts | None) -> bool:
    return queue.fifo if queue is not None else bool(part.value.fifo)


def _is_read(part: Part, arn: str, queue: QueueFacts | None, subject: Subject) -> bool:
    """Whether a function of this code reads what is sent there; with a finding where none does."""
    deployment, report = subject.deployment, subject.report
    readers = deployment.readers_of(arn)
    if not readers:
        if queue is not None or deployment.is_complete:
            report.error(
                part.name if queue is None else queue.where,
                f"nothing reads {part.name}: what fails lies there until its retention is over, and is deleted. Add "
                "an event source mapping "
                f"of this queue to {deployment.function.label}, with {_REPORTS}",
            )
        return False
    for reader in readers:
        function = deployment.function_named(reader.function)
        if reader.function == deployment.function.name:
            return True
        if function is not None and function.handler and function.handler == deployment.function.handler:
            _mapping(reader, subject)
            return True
    reader = readers[0]
    function = deployment.function_named(reader.function)
    if function is None:
        report.not_checked(
            reader.where, f"whether {reader.function}, which reads {part.name}, runs {part.processor.name}"
        )
    else:
        report.error(
            reader.where,
            f"{part.name} triggers {function.label}, which does not run {part.processor.name}: what fails is not tried "
            f"again. Map it to {deployment.function.label}",
        )
    return True


def _receives(part: Part, name: str, queue: QueueFacts, subject: Subject) -> None:
    policy, report = part.processor.on_failure, subject.report
    least = min(5 * policy.attempts, _MOST_RECEIVES)
    if not queue.dead_letters.is_set and not queue.max_receive_count.is_set:
        if policy.dead_letters is None:
            report.error(
                queue.where,
                f"{part.processor.name} has no dead letters and {name} no redrive policy: a record that always "
                "fails is tried until its "
                "retention is over, and deleted. Add RedrivePolicy: {deadLetterTargetArn: …, maxReceiveCount: "
                f"{least}}}, or dead_letters",
            )
        else:
            report.warning(
                queue.where,
                f"{name} has no redrive policy: a record that kills its process comes back until its retention "
                "is over, and is "
                f"deleted. Add RedrivePolicy: {{deadLetterTargetArn: …, maxReceiveCount: {least}}}",
            )
        return
    count = report.number(queue.max_receive_count, "maxReceiveCount", 0)
    if count is not None and count < least:
        report.warning(
            queue.max_receive_count.where,
            f"maxReceiveCount is {count}, under five times the {policy.attempts} attempts of {part.processor.name}: "
            "SQS counts throttles, "
            "time-outs and outages as receives, and moves records that were hardly tried. Write "
            f"maxReceiveCount: {least} or more",
        )


def _retention(queue: QueueFacts, subject: Subject) -> None:
    """Of a queue, and of the one that its redrive policy moves messages to."""
    report, deployment = subject.report, subject.deployment
    seconds = report.number(queue.retention, "MessageRetentionPeriod", _RETENTION)
    _short_retention(queue, seconds, subject)
    if not queue.dead_letters.is_set:
        return
    target = deployment.queue(queue.dead_letters.text())
    if is_same(queue.dead_letters.text(), queue.arn):
        report.error(
            queue.dead_letters.where, f"the redrive policy of {queue.label} names the queue itself, which SQS refuses"
        )
        return
    if target is None:
        report.not_checked(
            queue.dead_letters.where, f"{queue.dead_letters.text()}, where {queue.label} moves messages to"
        )
        return
    if target.fifo != queue.fifo:
        report.error(
            queue.dead_letters.where,
            f"{queue.label} is {_form(queue.fifo)} and {target.label}, its dead-letter queue, {_form(target.fifo)}: "
            "SQS moves nothing "
            f"between them. Make {target.label} {_form(queue.fifo)}",
        )
    kept = report.number(target.retention, "MessageRetentionPeriod", _RETENTION)
    if kept is not None and seconds is not None and kept < seconds and not queue.fifo:
        report.error(
            target.retention.where,
            f"{target.label} keeps messages for {kept:,} s and {queue.label}, from which they are moved, for "
            f"{seconds:,} s. SQS counts from "
            "when they were first sent, so one that waited can be deleted as it is moved. Write "
            f"MessageRetentionPeriod: {_LONGEST_RETENTION}",
        )
    else:
        _short_retention(target, kept, subject)


def _short_retention(queue: QueueFacts, seconds: int | None, subject: Subject) -> None:
    setting = queue.retention
    if seconds is not None and seconds < _LONGEST_RETENTION:
        default = "" if setting.is_set else ", SQS's default,"
        subject.report.note(
            setting.where,
            f"what waits in {queue.label} for more than {seconds / 86_400:g} days{default} is deleted without a word. Write "
            f"MessageRetentionPeriod: {_LONGEST_RETENTION}, SQS's longest",
        )


def _form(fifo: bool) -> str:
    return "FIFO" if fifo else "a standard queue"


def _dead_letters(part: Part, subject: Subject) -> None:
    deployment, report = subject.deployment, subject.report
    for reader in deployment.readers_of(part.arn) if part.arn else ():
        if reader.function == deployment.function.name:
            report.error(
                reader.where,
                f"{part.name} trigger this function: what is given up would come back and fail for ever. Leave this "
                "mapping out; "
                "`streamkit redrive` puts letters back",
            )
    queue = deployment.queue(part.arn) if part.arn else None
    if queue is None:
        return
    _short_retention(queue, report.number(queue.retention, "MessageRetentionPeriod", _RETENTION), subject)
    if queue.dead_letters.is_set:
        report.warning(
            queue.dead_letters.where,
            f"{part.name} have a redrive policy of their own: a few looks at a letter, which are receives, move it "
            "on. Leave "
            "RedrivePolicy out there",
        )


def _mapping(mapping: SourceMapping, subject: Subject) -> None:
    """A mapping of a queue to a function of this code."""
    deployment, report = subject.deployment, subject.report
    if mapping.reports is False:
        report.error(
            mapping.setting("FunctionResponseTypes").where,
            "partial answers are off for this queue: when the function answers, Lambda deletes every message of the "
            "batch, those that "
            f"failed too, and they are lost. Write {_REPORTS}",
        )
    elif mapping.reports is None:
        report.is_known(mapping.setting("FunctionResponseTypes"), "FunctionResponseTypes")
    if mapping.setting("Enabled").flag(default=True) is False:
        report.warning(
            mapping.setting("Enabled").where,
            "the mapping is switched off: what is in the queue waits, and its retention runs. Write Enabled: true",
        )
    if mapping.setting("FilterCriteria").is_set:
        report.warning(
            mapping.setting("FilterCriteria").where,
            "Lambda deletes the messages of a queue that its filter does not want: records that wait for another try are lost. "
            "Leave FilterCriteria out here, and filter the stream",
        )
    queue = deployment.queue(mapping.source)
    _batch_of_messages(mapping, queue, subject)
    if queue is None:
        if not subject.is_retry_queue(mapping.source):
            report.not_checked(mapping.where, f"the queue {mapping.source}: nothing here describes it")
        return
    _visibility(mapping, queue, subject)


def _visibility(mapping: SourceMapping, queue: QueueFacts, subject: Subject) -> None:
    report = subject.report
    function = subject.deployment.function_named(mapping.function)
    timeout = None if function is None else function.timeout.number(_DEFAULT_TIMEOUT)
    window = mapping.setting("MaximumBatchingWindowInSeconds").number(0)
    seconds = report.number(queue.visibility, "VisibilityTimeout", _VISIBILITY)
    if timeout is None or window is None or seconds is None:
        return
    here = f"{queue.label} has a visibility time-out of {seconds} s" + (
        "" if queue.visibility.is_set else ", SQS's default"
    )
    advice = f"Write VisibilityTimeout: {6 * timeout + window}"
    if seconds < timeout:
        report.error(
            queue.visibility.where,
            f"{here}, less than the {timeout} s that the function may run: AWS refuses the mapping, and where it was "
            "there before, messages "
            f"run a second time while they still run. {advice}",
        )
    elif seconds < 6 * timeout + window:
        report.warning(
            queue.visibility.where,
            f"{here}, under six times the function's {timeout} s{' and its batching window' if window else ''}, as "
            "AWS advises: where "
            f"invocations are throttled, messages come back before they have run, and their receives count. {advice}",
        )


def _batch_of_messages(mapping: SourceMapping, queue: QueueFacts | None, subject: Subject) -> None:
    report = subject.report
    size = report.number(mapping.setting("BatchSize"), "BatchSize", 10)
    window = report.number(mapping.setting("MaximumBatchingWindowInSeconds"), "MaximumBatchingWindowInSeconds", 0)
    report.within(mapping.setting("BatchSize"), "BatchSize", 1, 10_000)
    report.within(mapping.setting("MaximumBatchingWindowInSeconds"), "MaximumBatchingWindowInSeconds", 0, 300)
    fifo = queue.fifo if queue is not None else mapping.source.endswith(".fifo")
    if size is not None and size > 10 and fifo:
        report.error(
            mapping.setting("BatchSize").where, f"BatchSize is {size}, and AWS takes 10 at most of a FIFO queue"
        )
    elif size is not None and size > 10 and window == 0:
        report.error(
            mapping.setting("BatchSize").where,
            f"BatchSize is {size}: over 10 messages AWS asks for a batching window. Write "
            "MaximumBatchingWindowInSeconds: 1",
        )
    if fifo and window:
        report.error(
            mapping.setting("MaximumBatchingWindowInSeconds").where,
            "AWS knows no batching window of a FIFO queue: leave it out",
        )


def _topic(part: Part, subject: Subject) -> None:
    """Lambda counts the tries of what a topic brings, and drops what has failed three times."""
    deployment, report = subject.deployment, subject.report
    found = [one for one in deployment.subscriptions if is_same(one.topic, part.arn)]
    if not found:
        if deployment.is_complete:
            report.error(part.name, f"nobody subscribes to {part.place}: what fails is gone as soon as it is published")
        else:
            report.not_checked(part.name, f"who subscribes to {part.place}")
        return
    for one in found:
        if one.protocol == "sqs":
            _subscribed(part, one, subject)
        elif one.protocol == "lambda":
            function = deployment.function_named(name_of_function(one.endpoint))
            if function is None:
                report.not_checked(one.where, f"the dead-letter queue of {one.endpoint}")
            elif not function.on_failure.is_set:
                report.error(
                    function.on_failure.where,
                    f"{function.label} subscribes to {part.name} and has neither a dead-letter queue nor an "
                    "on-failure destination: after "
                    "three invocations Lambda drops the record. Add DeadLetterConfig (of SAM DeadLetterQueue) with a "
                    "TargetArn",
                )


def _subscribed(part: Part, subscription: Subscription, subject: Subject) -> None:
    """A queue that a topic fills is a retry queue as any other."""
    queue = subject.deployment.queue(subscription.endpoint)
    is_read = _is_read(part, subscription.endpoint, queue, subject)
    if queue is None:
        if not is_read:
            subject.report.not_checked(
                subscription.where, f"the queue {subscription.endpoint}: nothing here describes it"
            )
        return
    _receives(part, f"{queue.label}, which subscribes to {part.name},", queue, subject)
    _retention(queue, subject)


def _table(part: Part, subject: Subject) -> None:
    keys, expiry, store = _TABLES[part.role]
    report = subject.report
    table = subject.deployment.table(part.place) if part.place else None
    if table is None:
        return
    if table.keys is not None and sorted(table.keys) != sorted(keys):
        wanted = ", ".join(f"{name} ({kind})" for name, kind in keys)
        report.error(
            table.where,
            f"{part.name} can't use this table: every request to it fails. Its key has to be {wanted}, as "
            f"{store}.create_table() makes it",
        )
    if not expiry and table.expiry.is_set:
        report.error(
            table.expiry.where,
            f"{part.name} has a TTL: an item that ends takes with it what it knows, and records are lost or written "
            "twice. Leave "
            "TimeToLiveSpecification out",
        )
    elif expiry and not table.expiry.is_set:
        report.warning(
            table.expiry.where,
            f"{part.name} has no TTL: its entries stay for ever, and are paid for. Write TimeToLiveSpecification: "
            f"{{AttributeName: {expiry}, "
            "Enabled: true}",
        )
    elif expiry and is_known(table.expiry.text()) and table.expiry.text() != expiry:
        report.error(
            table.expiry.where, f"the TTL of {part.name} is by {table.expiry.text()}: its entries have {expiry}"
        )

"""Where the function's own settings don't fit: its time-out, its environment, loops."""

from __future__ import annotations

from ..forward import Forward
from ..idempotency import Idempotency
from ..policy import Divert
from ..processor import attributes_of
from .environment import LARGEST
from .parts import Part
from .report import Subject
from .unknown import is_known, is_same

__all__ = ["check_function"]

#: Lambda's, in seconds.
_DEFAULT_TIMEOUT, _LONGEST_TIMEOUT = 3, 900
#: One try of a request to AWS may take so long, in seconds (``streamkit.aws``).
_REQUEST = 5
#: Lambda stops a loop after about so many hops.
_HOPS = 16
_LOOPS = "Lambda stops what it sees going round after about 16 times, and the record is gone"


def check_function(subject: Subject) -> None:
    """Every rule about the function itself."""
    _timeout(subject)
    _concurrency(subject)
    _leases(subject)
    _environment(subject)
    _loops(subject)
    _long_retries(subject)


def _timeout(subject: Subject) -> None:
    setting = subject.deployment.function.timeout
    timeout = subject.report.number(setting, "Timeout", _DEFAULT_TIMEOUT)
    if timeout is None or not subject.report.within(setting, "Timeout", 1, _LONGEST_TIMEOUT):
        return
    slowest = max(subject.processors, key=lambda processor: processor.deadline_margin)
    margin = slowest.deadline_margin
    here = f"Timeout is {timeout} s" + ("" if setting.is_set else ", Lambda's default")
    kept = f"{slowest.name} keeps {margin:g} s of it back (deadline_margin)"
    advice = "Write Timeout: 60, or as long as a batch takes"
    if timeout <= margin:
        subject.report.error(
            setting.where,
            f"{here}, and {kept}: only the first record of each batch would run, with no time to flush and answer "
            f"in. {advice}",
        )
    elif timeout < margin + _REQUEST:
        subject.report.warning(
            setting.where,
            f"{here}, and {kept}: what is left is less than one request to AWS may take ({_REQUEST} s), so that a "
            "slow one, or a cold "
            f"start, is the end of the invocation and all of its batch comes again. {advice}",
        )


def _concurrency(subject: Subject) -> None:
    setting = subject.deployment.function.concurrency
    if setting.is_set and subject.report.number(setting, "ReservedConcurrentExecutions", 1) == 0:
        subject.report.error(
            setting.where,
            "ReservedConcurrentExecutions is 0: the function never runs, its shards and its queue wait, and what is in them is "
            "gone when its retention ends. Leave ReservedConcurrentExecutions out, or write as many as shards, lanes and retries "
            "are to run at once. To pause, write Enabled: false in the mapping",
        )


def _leases(subject: Subject) -> None:
    timeout = subject.deployment.function.timeout.number(_DEFAULT_TIMEOUT)
    for processor in subject.processors:
        for guard in attributes_of(processor):
            if isinstance(guard, Idempotency) and timeout is not None and guard.lease < timeout:
                subject.report.warning(
                    processor.name,
                    f"the lease of {guard.name} is {guard.lease:g} s and the function may run for {timeout} s: a "
                    "second invocation could begin "
                    f"the effect while the first is at it. Write lease={timeout}",
                )


def _environment(subject: Subject) -> None:
    function, report = subject.deployment.function, subject.report
    for part in subject.parts:
        if not part.fault:
            continue
        variable = str(getattr(part.value, "_variable", ""))
        value = function.environment.get(variable, "")
        # That an ARN is none of what is wanted can be told of one that is known in part.
        if not is_known(value) and not value.startswith("arn:"):
            report.not_checked(function.environment_where, f"{part.name}: {variable} is {value}")
            continue
        what = (
            "nothing is kept of what is done"
            if part.role == "progress"
            else "what needs it is unavailable, and its records stay where they are"
        )
        report.error(
            function.environment_where, f"{part.fault}: {what}. Set it in the function's Environment.Variables"
        )
    size = sum(len(name.encode()) + len(value.encode()) for name, value in function.environment.items())
    if size > LARGEST:
        report.error(
            function.environment_where,
            f"the variables have {size:,} bytes together, and Lambda takes {LARGEST:,}: the deployment fails",
        )


def _loops(subject: Subject) -> None:
    """What is written to what triggers the function itself."""
    deployment = subject.deployment
    sources = [mapping.stream for mapping in deployment.mappings if mapping.function == deployment.function.name]
    sources += [one.topic for one in deployment.subscriptions if one.is_to(deployment.function.name)]
    sources.append(deployment.home.arn("lambda", f"function:{deployment.function.name}"))
    for part in subject.parts_in("sink", "queue"):
        if part.arn and any(is_same(part.arn, source) for source in sources):
            _loop(part, subject)


def _loop(part: Part, subject: Subject) -> None:
    setting = subject.deployment.function.recursive_loop
    what = f"{part.name} writes to {part.place}, which triggers this function again: "
    advice = "Name another target"
    if part.value.__class__.__name__ == "KinesisSink":
        what += "Lambda does not see such a loop, so each record would go round for ever. "
    elif setting.text() == "Allow":
        what += "RecursiveLoop is Allow, so each record would go round for ever. "
    else:
        what += f"{_LOOPS}. "
    if isinstance(part.processor, Forward):
        subject.report.error(setting.where, what + advice)
    else:
        subject.report.warning(setting.where, what + f"{advice}, or be sure that `process` ends it")


def _long_retries(subject: Subject) -> None:
    """Each try from a standard queue sends the envelope anew, which is a hop of a loop to Lambda."""
    setting = subject.deployment.function.recursive_loop
    for processor in subject.processors:
        policy = processor.on_failure
        if not isinstance(policy, Divert) or policy.queue is None or getattr(policy.queue, "fifo", False):
            continue
        if (
            policy.attempts >= _HOPS - 1
            and setting.text() != "Allow"
            and subject.report.is_known(setting, "RecursiveLoop")
        ):
            subject.report.error(
                setting.where,
                f"{processor.name} tries {policy.attempts} times from its queue, each time by a message that it "
                f"sends to itself: {_LOOPS} "
                "before it is a dead letter. Write RecursiveLoop: Allow, or fewer attempts",
            )

"""Every rule of ``streamkit check``, over a function and how it is deployed."""

from __future__ import annotations

from ..fanout import FanOut
from ..finding import Finding, cost_of_no_name
from ..processor import RecordProcessor
from .alias_rules import check_aliases
from .code_rules import check_code
from .deployment import Deployment, is_handler
from .function_rules import check_function
from .log_rules import check_log
from .parts import Part, parts_of
from .permission_rules import check_permissions
from .queue_rules import check_queues
from .report import Report, Subject
from .stream_rules import check_streams
from .unknown import Unknowns

__all__ = ["findings_of_code", "findings_of_deployment", "parts_of_all"]


def findings_of_code(processor: RecordProcessor) -> list[Finding]:
    """What is to be said of a processor, or of a fan-out's branches, as it is written."""
    report = Report(Unknowns())
    if isinstance(processor, FanOut):
        for finding in processor.findings():
            report.add(finding)
    elif cost := cost_of_no_name(processor):
        report.add(cost)
    for one in _processors(processor):
        _claims(one, report)
    return report.findings


def parts_of_all(processor: RecordProcessor, deployment: Deployment) -> list[Part]:
    """What all of its processors use; called in the function's environment."""
    return [part for one in _processors(processor) for part in parts_of(one, deployment.home)]


def findings_of_deployment(
    processor: RecordProcessor, parts: list[Part], deployment: Deployment, unknowns: Unknowns, *, handler: str = ""
) -> list[Finding]:
    """Where ``deployment`` and the processor, which is that of ``handler``, do not fit. Nothing is asked and nothing is run."""
    report = Report(unknowns)
    subject = Subject(processor, _processors(processor), parts, deployment, report)
    for unread in deployment.unread:
        report.not_checked(unread.where, unread.what)
    function = deployment.function
    if handler and function.handler and not is_handler(function.handler, handler):
        report.warning(
            function.where,
            f"the Handler of {function.label} is {function.handler}, and what was looked at is {handler}",
        )
    for missing in deployment.missing:
        report.error(
            missing.where,
            f"there is no such thing as {missing.what}: what needs it is unavailable, and its records stay where "
            "they are",
        )
    for unresolved in deployment.unresolved:
        report.error(unresolved.where, unresolved.what)
    check_streams(subject)
    check_function(subject)
    check_aliases(subject)
    check_log(subject)
    check_code(subject)
    check_queues(subject)
    check_permissions(subject)
    return report.findings


def _processors(processor: RecordProcessor) -> list[RecordProcessor]:
    return processor.processors() if isinstance(processor, FanOut) else [processor]


def _claims(processor: RecordProcessor, report: Report) -> None:
    policy = processor.on_failure
    has_claims, wants_claims = (getattr(one, "claims", None) is not None for one in (policy.queue, policy.dead_letters))
    if has_claims and policy.dead_letters is not None and not wants_claims:
        report.warning(
            processor.name,
            "its retry queue has claims and its dead letters have none: what is too large for the one is too "
            "large for the other, and "
            "would never leave the retry queue. Give the dead letters claims= too",
        )

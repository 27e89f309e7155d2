"""Where what triggers the function passes its alias by."""

from __future__ import annotations

from .deployment import qualifier_of_function
from .report import Subject

__all__ = ["check_aliases"]


def check_aliases(subject: Subject) -> None:
    """Whoever makes an alias has it roll out a new version, and back; $LATEST is what was uploaded last."""
    deployment, report = subject.deployment, subject.report
    function = deployment.function
    if not function.aliases:
        return
    names = " or ".join(alias.name for alias in function.aliases)
    reference = function.aliases[0].reference
    what = (
        f"{function.label} itself, which is $LATEST, and not its alias {names}: what is uploaded runs at once, and a gradual "
        "deployment, a canary and a roll-back pass it by"
    )
    for mapping in deployment.mappings:
        if mapping.function != function.name or mapping.qualifier:
            continue
        setting = mapping.setting("FunctionName")
        advice = f"Write FunctionName: {reference}"
        if not setting.is_set:
            # An event of SAM's is of its function, or of the alias that SAM makes.
            name = function.aliases[0].name
            advice = f"Write AutoPublishAlias: {name} in {function.label}, in place of the alias that is there"
        report.error(setting.where, f"{mapping.label} triggers {what}. {advice}")
    for one in deployment.subscriptions:
        if one.is_to(function.name) and not qualifier_of_function(one.endpoint):
            report.error(one.where, f"the subscription to {one.topic} triggers {what}. Write Endpoint: {reference}")

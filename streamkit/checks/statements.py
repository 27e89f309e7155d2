"""IAM's policy documents as statements, and whether statements allow an action."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from .deployment import Statement
from .unknown import may_be

__all__ = ["Verdict", "decided", "is_action_of", "statement_of", "statements_of"]


class Verdict(msgspec.Struct, frozen=True):
    """``maybe``: it hangs on a condition, or on what is not known. ``statement`` is the one that decides."""

    kind: Literal["allowed", "denied", "maybe", "missing"]
    statement: Statement | None = None
    why: str = ""


def statements_of(document: Any, where: str) -> tuple[Statement, ...]:
    """The statements of a policy document; none of what is no document."""
    listed = _listed(document.get("Statement") if isinstance(document, Mapping) else None)
    made = (statement_of(one, where) for one in listed)
    return tuple(one for one in made if one is not None)


def statement_of(written: Any, where: str) -> Statement | None:
    """None for what is no statement."""
    if not isinstance(written, Mapping) or written.get("Effect") not in ("Allow", "Deny"):
        return None
    return Statement(
        effect=written["Effect"],
        actions=_texts(written.get("Action")),
        not_actions=_texts(written.get("NotAction")),
        resources=_texts(written.get("Resource")),
        not_resources=_texts(written.get("NotResource")),
        has_condition=bool(written.get("Condition")),
        where=where,
    )


def decided(statements: Sequence[Statement], action: str, resource: str) -> Verdict:
    """What a role's statements say of one action on one resource. A Deny that holds for certain ends it, as with IAM."""
    doubt: Verdict | None = None
    allowed: Statement | None = None
    for statement in statements:
        is_of_it = _covers(statement, action, resource)
        if is_of_it is False:
            continue
        is_certain = is_of_it is True and not statement.has_condition
        if statement.effect == "Deny":
            if is_certain:
                return Verdict("denied", statement)
            why = "a Deny has a condition" if statement.has_condition else "a Deny may be of this resource"
            doubt = Verdict("maybe", statement, why)
        elif is_certain:
            allowed = statement
        elif doubt is None:
            why = "the statement has a condition" if statement.has_condition else "its resource is not known"
            doubt = Verdict("maybe", statement, why)
    if allowed is not None and (doubt is None or doubt.statement is None or doubt.statement.effect == "Allow"):
        return Verdict("allowed", allowed)
    return doubt or Verdict("missing")


def is_action_of(pattern: str, action: str) -> bool:
    """IAM's actions know no case, and ``*`` and ``?``."""
    form = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(form, action, re.IGNORECASE) is not None


def _covers(statement: Statement, action: str, resource: str) -> bool | None:
    if statement.not_actions:
        if any(is_action_of(pattern, action) for pattern in statement.not_actions):
            return False
    elif not any(is_action_of(pattern, action) for pattern in statement.actions):
        return False
    if statement.not_resources:
        found = _any(may_be(pattern, resource) for pattern in statement.not_resources)
        return None if found is None else not found
    return _any(may_be(pattern, resource) for pattern in statement.resources)


def _any(answers: Any) -> bool | None:
    found = list(answers)
    return True if True in found else None if None in found else False


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in _listed(value) if isinstance(one, str))

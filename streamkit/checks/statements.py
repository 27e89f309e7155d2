"""IAM's policy documents as statements, and whether statements allow an action."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from .deployment import OwnPolicy, Statement
from .unknown import ACCOUNT, is_known, is_same, is_same_home, may_be

__all__ = [
    "Verdict",
    "decided",
    "denied_by",
    "is_action_of",
    "leaves_it_to_roles",
    "may_allow",
    "own_policy",
    "statement_of",
    "statements_of",
]

_ACCOUNT = re.compile(r"arn:[^:]*:iam::[^:]*:root|[0-9]{12}")


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


def own_policy(document: Any, where: str) -> OwnPolicy:
    """The policy of a resource, of its document; None and one without statements allow nothing."""
    listed = _listed(document.get("Statement") if isinstance(document, Mapping) else document)
    made = [statement_of(one, where) for one in listed]
    statements = tuple(_of_its_resource(one) for one in made if one is not None)
    return OwnPolicy(statements, is_whole=None not in made)


def _of_its_resource(statement: Statement) -> Statement:
    """A policy that hangs on a resource is of that one, where it names none."""
    if statement.resources or statement.not_resources:
        return statement
    return msgspec.structs.replace(statement, resources=("*",))


def may_allow(policy: OwnPolicy, action: str, resource: str) -> bool:
    """Whether a resource's own policy may allow it to the function's role, whatever the role's policies say.

    One that names a whole account leaves it to the policies of the role; one that names a service is not for the role.
    """
    return not policy.is_whole or any(
        statement.effect == "Allow"
        and not all(map(_is_account, statement.principals))
        and _covers(statement, action, resource) is not False
        for statement in policy.statements
    )


def denied_by(policy: OwnPolicy, action: str, resource: str, role: str, account: str) -> Verdict | None:
    """What a resource's own policy denies the function's role, which no other policy can allow; None for nothing.

    ``role`` is its ARN; empty where it is not known. boto3 speaks TLS alone, so a Deny of what comes without it is none.
    """
    doubt: Verdict | None = None
    for statement in policy.statements:
        covers = _covers(statement, action, resource)
        hits = _is_for(statement, role, account)
        if statement.effect != "Deny" or statement.is_of_plain_http or False in (covers, hits):
            continue
        if covers and hits and not statement.has_condition:
            return Verdict("denied", statement)
        why = "its Deny has a condition" if statement.has_condition else "it is not known whom or what its Deny is for"
        doubt = doubt or Verdict("maybe", statement, why)
    return doubt


def _is_for(statement: Statement, role: str, account: str) -> bool | None:
    """Whether the role is among those that a statement of a resource's policy names; None where that is not known."""
    if statement.is_for_others:
        return None
    return _any(_is_role(one, role, account) for one in statement.principals)


def _is_role(principal: str, role: str, account: str) -> bool | None:
    if principal == "*":
        return True
    if _is_account(principal):
        named = _account_of(principal)
        return named == account or (None if is_same_home(account, named) else False)
    if role and (principal == role or is_same(principal, role)):
        return True
    return may_be(principal, role) if role else None


def leaves_it_to_roles(policy: OwnPolicy, action: str, resource: str, account: str) -> bool:
    """Whether a key's policy, as most do, names the whole account: then the role's policies decide, and else they don't."""
    return any(
        statement.effect == "Allow"
        and not statement.has_condition
        and any(_is_account(one) and is_same_home(account, _account_of(one)) for one in statement.principals)
        and _covers(statement, action, resource) is True
        for statement in policy.statements
    )


def _account_of(principal: str) -> str:
    return principal.removesuffix(":root").rpartition(":")[2]


def _is_account(principal: str) -> bool:
    return principal == ACCOUNT or _ACCOUNT.fullmatch(principal) is not None


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
        principals=_principals(written),
        is_for_others="NotPrincipal" in written,
        is_of_plain_http=_is_of_plain_http(written.get("Condition")),
    )


def _is_of_plain_http(condition: Any) -> bool:
    """Whether it is the one condition of a Deny that most resources have: a request that came without TLS."""
    if not isinstance(condition, Mapping) or list(condition) != ["Bool"] or not isinstance(condition["Bool"], Mapping):
        return False
    tested = {str(key).lower(): str(value).lower() for key, value in condition["Bool"].items()}
    return tested == {"aws:securetransport": "false"}


def _principals(written: Mapping[str, Any]) -> tuple[str, ...]:
    if "Principal" not in written:
        return ("*",)
    principal = written["Principal"]
    return _texts(principal.get("AWS") if isinstance(principal, Mapping) else principal)


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
            why = "its resource is not known" if _has_known_actions(statement) else "its actions are not known"
            why = "the statement has a condition" if statement.has_condition else why
            doubt = Verdict("maybe", statement, why)
    if allowed is not None and (doubt is None or doubt.statement is None or doubt.statement.effect == "Allow"):
        return Verdict("allowed", allowed)
    return doubt or Verdict("missing")


def is_action_of(pattern: str, action: str) -> bool:
    """IAM's actions know no case, and ``*`` and ``?``."""
    form = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(form, action, re.IGNORECASE) is not None


def _covers(statement: Statement, action: str, resource: str) -> bool | None:
    of_action = _but_for(statement.not_actions, statement.actions, lambda pattern: _is_of(pattern, action))
    of_resource = _but_for(statement.not_resources, statement.resources, lambda pattern: may_be(pattern, resource))
    if False in (of_action, of_resource):
        return False
    return None if None in (of_action, of_resource) else True


def _but_for(excluded: Sequence[str], named: Sequence[str], is_of: Callable[[str], bool | None]) -> bool | None:
    found = _any(map(is_of, excluded or named))
    return not found if excluded and found is not None else found


def _is_of(pattern: str, action: str) -> bool | None:
    return None if not is_known(pattern) else is_action_of(pattern, action)


def _has_known_actions(statement: Statement) -> bool:
    return all(map(is_known, (*statement.actions, *statement.not_actions)))


def _any(answers: Any) -> bool | None:
    found = list(answers)
    return True if True in found else None if None in found else False


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in _listed(value) if isinstance(one, str))

"""What a function's role allows, by IAM's own answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import unquote

from ..aws import code_of
from .deployment import Role, Statement, Unread
from .statements import statements_of

__all__ = ["DENIED", "NOT_THERE", "read_role"]

T = TypeVar("T")

#: AWS's codes for what this user may not ask, and for what there is not.
DENIED = ("AccessDenied", "AccessDeniedException", "AuthorizationError", "UnauthorizedOperation", "403")
NOT_THERE = ("ResourceNotFoundException", "NoSuchEntity", "NotFound", "NotFoundException", "NoSuchBucket", "404")


def read_role(iam: Any, arn: str) -> Role:
    """The role's inline and attached policies. ``iam`` is boto3's client; what it may not look at is among the ``unread``."""
    return _Reader(iam, arn.rpartition("/")[2]).role()


class _Reader:
    def __init__(self, iam: Any, name: str) -> None:
        self._iam = iam
        self._name = name
        self._where = f"aws iam put-role-policy --role-name {name}"
        self._unread: list[Unread] = []

    def role(self) -> Role:
        name, statements = self._name, list[Statement]()
        described = self._asked(f"the role {name}", lambda: self._iam.get_role(RoleName=name)["Role"])
        if described is not None and described.get("PermissionsBoundary"):
            self._unread.append(Unread(f"the permissions boundary of {name}", self._where))
        for policy in self._all("its inline policies", "list_role_policies", "PolicyNames"):
            statements += self._inline(policy)
        for policy in self._all("its managed policies", "list_attached_role_policies", "AttachedPolicies"):
            statements += self._managed(policy["PolicyName"], policy["PolicyArn"])
        return Role(where=self._where, statements=tuple(statements), unread=tuple(self._unread))

    def _all(self, what: str, operation: str, key: str) -> list[Any]:
        def ask() -> list[Any]:
            pages = self._iam.get_paginator(operation).paginate(RoleName=self._name)
            return [one for page in pages for one in page[key]]

        return self._asked(what, ask) or []

    def _inline(self, policy: str) -> tuple[Statement, ...]:
        found = self._asked(
            f"the policy {policy}", lambda: self._iam.get_role_policy(RoleName=self._name, PolicyName=policy)
        )
        return (
            ()
            if found is None
            else statements_of(_document(found["PolicyDocument"]), f"the policy {policy} of {self._name}")
        )

    def _managed(self, name: str, arn: str) -> tuple[Statement, ...]:
        def ask() -> Any:
            version = self._iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
            return self._iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]

        document = self._asked(f"the policy {name}", ask)
        return () if document is None else statements_of(_document(document), f"the managed policy {name}")

    def _asked(self, what: str, ask: Callable[[], T]) -> T | None:
        from botocore.exceptions import ClientError

        try:
            return ask()
        except ClientError as error:
            code = code_of(error)
            if code not in DENIED and code not in NOT_THERE:
                raise
            self._unread.append(Unread(f"{what} ({code})", self._where))
            return None


def _document(document: Any) -> Any:
    """boto3 gives a mapping; a stand-in may give its text, in the URL's form too."""
    if not isinstance(document, str):
        return document
    text = unquote(document) if re.match(r"\s*%7B", document, re.IGNORECASE) else document
    return json.loads(text)

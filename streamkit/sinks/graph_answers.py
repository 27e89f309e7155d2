"""What an error of Neo4j's driver means for a request: the table of docs/graph.md.

The server's messages quote values and statements. Of them only the code is shown, and never a password. Errors are known by what
they carry and by their classes' names, so that the driver need not be imported here.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

from ..errors import SinkError
from .base import RefusalKind

__all__ = ["Answered", "of_error"]

_CODE = re.compile(r"Neo\.[A-Za-z]{1,40}\.[A-Za-z]{1,40}\.[A-Za-z]{1,80}")
# The status of GQL that servers since 5.26 tell; in others the message begins or goes on so.
_NOT_UNIQUE_STATUS = "22N79"
_NOT_UNIQUE = ("already exists with", "Duplicated key")
# What is wrong with the values alone, whatever else there is in the database.
_CONTENT = frozenset(
    f"Neo.ClientError.Statement.{what}"
    for what in (
        "TypeError",
        "ArgumentError",
        "ArithmeticError",
        "SemanticError",
        "PropertyNotFound",
        "ConstraintVerificationFailed",
    )
)
# The database's own fault, it says: and yet this is its answer to a value that is too large for an index.
_DATABASE_STATEMENT = "Neo.DatabaseError.Statement."
# The request took longer than a transaction may, or more memory than there was left for all of them.
_TOO_MUCH = frozenset(
    {
        *("TransactionTimedOut", "TransactionTimedOutClientConfiguration"),
        *("OutOfMemoryError", "MemoryPoolOutOfMemoryError"),
    }
)
# It took more memory than one transaction may. That does not pass: of a single write it is the write's own fault.
_TOO_LARGE = "TransactionOutOfMemoryError"
# Somebody else was quicker, or the database is busy with itself.
_PASSING = (
    "Neo.TransientError.",
    "Neo.DatabaseError.",
    "Neo.ClientError.Cluster.",
    "Neo.ClientError.Transaction.",
    "Neo.ClientError.Statement.EntityNotFound",
    "Neo.ClientError.General.ForbiddenOnReadOnlyDatabase",
    "Neo.ClientError.Security.AuthenticationRateLimit",
    "Neo.ClientError.Security.AuthorizationExpired",
)
_ABSENT = ("Neo.ClientError.Database.DatabaseNotFound", "Neo.TransientError.Database.DatabaseNotFound")
_AWAY = frozenset(
    {
        *(
            "ServiceUnavailable",
            "SessionExpired",
            "IncompleteCommit",
            "RoutingServiceUnavailable",
            "WriteServiceUnavailable",
        ),
        *("ReadServiceUnavailable", "ConnectionPoolError", "ConnectionAcquisitionTimeoutError", "BrokenRecordError"),
    }
)


class Answered(msgspec.Struct, frozen=True):
    """Why a request was not taken, and what is to be done about it.

    ``next``: ``"again"``, the same request may be taken a moment later; ``"less"``, rather a smaller one, and of a single write
    the same again where ``kind`` is ``"unavailable"``; ``"apart"``, one of its writes may be at fault, and by itself it is
    refused as ``kind`` says; ``"race"``, either of both, again or apart; ``"no"``, asking again is in vain.
    """

    error: SinkError
    kind: RefusalKind
    next: Literal["again", "less", "apart", "race", "no"]


def of_error(error: BaseException, place: str) -> Answered | None:
    """What an error out of the driver means; None where it is no error of its. ``place`` names the settings of who asked."""
    code = getattr(error, "code", None)
    if isinstance(code, str):
        return _of_code(code if _CODE.fullmatch(code) else "an error without a code", error, place)
    if not type(error).__module__.startswith("neo4j."):
        return None
    name = type(error).__name__
    if name in _AWAY:
        return Answered(SinkError(f"the graph database did not answer ({name})"), "unavailable", "again")
    return _no(f"look at {place}: the graph database can't be asked ({name})")


def _of_code(code: str, error: Any, place: str) -> Answered:
    if code in _ABSENT:
        return _no(f"look at `database` of {place}: there is no such graph database ({code})")
    what = code.rpartition(".")[2]
    if what == _TOO_LARGE:
        text = f"the graph database allows no transaction so much memory ({code})"
        return Answered(SinkError(text), "failed", "less")
    if what in _TOO_MUCH:
        return Answered(SinkError(f"the request was too much for the graph database ({code})"), "unavailable", "less")
    if code.startswith(_DATABASE_STATEMENT):
        return Answered(SinkError(f"the graph database failed at the write ({code})"), "failed", "race")
    if code.startswith(_PASSING):
        return Answered(SinkError(f"the graph database did not take the request ({code})"), "unavailable", "again")
    if code.startswith("Neo.ClientError.Security."):
        return _no(f"look at {place}: the graph database refuses its user, its password or its rights ({code})")
    if code == "Neo.ClientError.Schema.ConstraintValidationFailed":
        if _is_not_unique(error):
            text = f"another node or relationship has a value that has to be unique ({code})"
            return Answered(SinkError(text), "failed", "race")
        return Answered(
            SinkError(f"the write is against a constraint of the graph database ({code})"), "invalid", "race"
        )
    if code in _CONTENT:
        return Answered(SinkError(f"the graph database refused the write's values ({code})"), "invalid", "apart")
    if code == "Neo.ClientError.Statement.SyntaxError":
        return _no(
            f"the graph database does not understand streamkit's Cypher ({code}): is it of a version that has it?"
        )
    return Answered(SinkError(f"the graph database refused the write ({code})"), "failed", "apart")


def _no(text: str) -> Answered:
    """Asking again is in vain. Where settings are at fault, the text begins with them: a log has its first 200 characters."""
    return Answered(SinkError(text), "unavailable", "no")


def _is_not_unique(error: Any) -> bool:
    if getattr(error, "gql_status", None) == _NOT_UNIQUE_STATUS:
        return True
    find = getattr(error, "find_by_gql_status", None)
    if find is not None and find(_NOT_UNIQUE_STATUS) is not None:
        return True
    message = str(getattr(error, "message", ""))
    return any(words in message for words in _NOT_UNIQUE)

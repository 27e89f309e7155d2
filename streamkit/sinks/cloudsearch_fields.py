"""A CloudSearch domain's index fields, and whether a document fits them: asked for once, not for each batch that fails."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from ..aws import Clients, code_of
from ..errors import ConfigurationError
from .cloudsearch_domain import domain_of, region_of

__all__ = ["DomainFields"]

log = logging.getLogger("streamkit")

# Seconds. The configuration service throttles who asks often ("Uploading Data to an Amazon CloudSearch Domain").
_AGAIN = 120.0
# What a question needs; with less time left a batch goes out unchecked.
_SHORTEST = 1.0

# "Configuring Index Fields" and "Using Dynamic Fields", in the developer guide.
_LITERAL_CHARACTERS = 4096
_WHOLE = re.compile(r"[-+]?\d{1,19}")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?Z")


class _Field(msgspec.Struct, frozen=True):
    """``is_settled``: its last change is deployed, so that its type is what documents are held against."""

    kind: str
    is_settled: bool


class DomainFields:
    """What the configuration service says of a domain's fields; it is asked when a document is first checked.

    ``url`` gives the document endpoint, whose name tells the domain where ``domain`` is None, and the region. ``client`` is
    a boto3 ``cloudsearch`` client to use instead of own ones.

    It is asked again where a document is refused, by what is known here or by the service, and at most every two minutes.
    When it can't be asked that is one warning, and nothing is checked until it can.
    """

    def __init__(self, url: Callable[[], str], domain: str | None, client: Any = None) -> None:
        self._url = url
        self._domain = domain
        self._clients = Clients("cloudsearch", "CloudSearchSink", client)
        self._fields: dict[str, _Field] | None = None
        self._asked = float("-inf")
        self._has_warned = False

    def problem(self, document: Mapping[str, Any], deadline: float) -> str | None:
        """Why the domain can't take a document's fields, as they are sent; None where it can, or that is not known.

        The message names the field and never holds what is in it.
        """
        fields = self._fields or self._ask(deadline)
        problem = _problem(document, fields) if fields else None
        if problem is None:
            return None
        # The domain may have changed.
        newer = self._ask(deadline)
        return _problem(document, newer) if newer else (problem if self._fields else None)

    def doubt(self) -> None:
        """The service has refused a document that was right by what is known here: ask anew, if that was not just done."""
        if self._may_ask():
            self._fields = None

    def close(self) -> None:
        self._clients.close()

    def _may_ask(self) -> bool:
        return time.monotonic() - self._asked >= _AGAIN

    def _ask(self, deadline: float) -> dict[str, _Field] | None:
        """The fields as they are now. None where it is too early to ask again, too late in this invocation, or in vain.

        In vain: what was known is given up too, since it may be what is wrong.
        """
        now = time.monotonic()
        if not self._may_ask() or deadline - now < _SHORTEST:
            return None
        domain = self._domain or domain_of(self._url())
        if domain is None:
            raise ConfigurationError("check_fields needs domain=: the document endpoint's name does not tell it")
        self._asked = now
        self._fields = None
        try:
            # Half of what is left: it is the time-out to connect, and again to be answered.
            client = self._clients.until(now + (deadline - now) / 2, region_of(self._url()))
            described = client.describe_index_fields(DomainName=domain)["IndexFields"]
        except Exception as error:  # noqa: BLE001  # Whatever is wrong with the check, documents don't wait for it.
            if not self._has_warned:
                log.warning(
                    "fields are not checked: the configuration of the CloudSearch domain can't be read, which needs "
                    "cloudsearch:DescribeIndexFields (%s)",
                    code_of(error) or error,
                )
            self._has_warned = True
            return None
        self._has_warned = False
        self._fields = {
            one["Options"]["IndexFieldName"]: _Field(
                one["Options"]["IndexFieldType"], one["Status"]["State"] == "Active"
            )
            for one in described
        }
        return self._fields


def _problem(document: Mapping[str, Any], fields: Mapping[str, _Field]) -> str | None:
    for name, value in document.items():
        field = fields.get(name) or _dynamic(name, fields)
        if field is None:
            return f"the CloudSearch domain has no field {name!r}"
        if not field.is_settled:
            continue
        values = value if isinstance(value, list) else [value]
        kind = field.kind.removesuffix("-array")
        if len(values) > 1 and kind == field.kind:
            return (
                f"the field {name!r} has {len(values):,} values; the CloudSearch domain has it as {kind}, of one value"
            )
        if not all(_fits(kind, one) for one in values):
            return f"the field {name!r} has a value that is no {kind}, which is its type in the CloudSearch domain"
    return None


def _dynamic(name: str, fields: Mapping[str, _Field]) -> _Field | None:
    """The longest pattern that matches; of several of one length the first in the alphabet."""
    best: str | None = None
    for pattern in fields:
        before, star, after = pattern.partition("*")
        # Together, they can't be longer than the name: only one of them is not empty.
        if star and name.startswith(before) and name.endswith(after):
            best = pattern if best is None else min(best, pattern, key=lambda one: (-len(one), one))
    return fields[best] if best is not None else None


def _fits(kind: str, value: Any) -> bool:
    """Whether a value can be of a type. Where the guide leaves it open, it can: then the service decides."""
    text = str(value).strip()
    match kind:
        case "int":
            if not isinstance(value, str):
                return bool(value == int(value)) and -(2**63) <= value < 2**63
            return _WHOLE.fullmatch(text) is not None and -(2**63) <= int(text) < 2**63
        case "double":
            return _NUMBER.fullmatch(text) is not None and math.isfinite(float(text))
        case "date":
            found = _TIME.fullmatch(text)
            return found is not None and _is_time(found[1])
        case "latlon":
            latitude, _, longitude = text.partition(",")
            return _is_within(latitude, 90) and _is_within(longitude, 180)
        case "literal":
            return len(text) <= _LITERAL_CHARACTERS
    return True


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _is_within(degrees: str, limit: float) -> bool:
    return _NUMBER.fullmatch(degrees.strip()) is not None and abs(float(degrees)) <= limit

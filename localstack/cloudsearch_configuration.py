"""What CloudSearch's configuration service says of a domain's fields: DescribeIndexFields, in the XML of AWS's query protocol."""

from __future__ import annotations

from collections.abc import Mapping
from xml.sax.saxutils import escape

from cloudsearch_rules import Refused

__all__ = ["index_fields", "no_such_domain", "problem"]

_NAMESPACE = "http://cloudsearch.amazonaws.com/doc/2013-01-01/"
_METADATA = "<ResponseMetadata><RequestId>stand-in</RequestId></ResponseMetadata>"
_DATES = "<CreationDate>2020-01-01T00:00:00Z</CreationDate><UpdateDate>2020-01-01T00:00:00Z</UpdateDate>"


def index_fields(fields: Mapping[str, str], states: Mapping[str, str]) -> str:
    """The answer for these fields, name → type. ``states``: name → the state of its last change, by default Active."""
    members = "".join(
        f"<member><Options><IndexFieldName>{escape(name)}</IndexFieldName><IndexFieldType>{kind}</IndexFieldType></Options>"
        f"<Status>{_DATES}<UpdateVersion>1</UpdateVersion><State>{states.get(name, 'Active')}</State>"
        "<PendingDeletion>false</PendingDeletion></Status></member>"
        for name, kind in sorted(fields.items())
    )
    result = f"<DescribeIndexFieldsResult><IndexFields>{members}</IndexFields></DescribeIndexFieldsResult>"
    return f'<DescribeIndexFieldsResponse xmlns="{_NAMESPACE}">{result}{_METADATA}</DescribeIndexFieldsResponse>'


def no_such_domain(name: str) -> Refused:
    return Refused(f"Domain not found: {name}", 409, "ResourceNotFound")


def problem(refused: Refused) -> str:
    """An error's answer."""
    error = f"<Code>{escape(refused.error)}</Code><Message>{escape(str(refused))}</Message>"
    return f'<ErrorResponse xmlns="{_NAMESPACE}"><Error><Type>Sender</Type>{error}</Error>{_METADATA}</ErrorResponse>'

"""The format of a table's rows as the table is now, for who writes by the Storage Write API."""

from __future__ import annotations

from ..errors import SinkError
from .bigquery_errors import NoTable, SendAgain, code_of, may_pass
from .bigquery_proto import RowFormat
from .bigquery_table import BigQueryTable, time_out

__all__ = ["read_format"]


def read_format(table: BigQueryTable, *, deadline: float, has_defaults: bool = False) -> tuple[str, RowFormat]:
    """The table's whole name, ``projects/p/datasets/d/tables/t``, and its rows' format. It takes ``bigquery.tables.get``.

    Raises NoTable where there is none, SendAgain where the same question may be answered later, SinkError else.
    """
    client = table.client
    try:
        found = client.get_table(table.name, retry=None, timeout=time_out(deadline))
    except Exception as error:
        told = table.explain(error)
        if may_pass(error):
            raise SendAgain(told) from error
        code = code_of(error)
        if code == 404:
            raise NoTable(told) from error
        if code in (401, 403):
            told = (
                f"BigQuery answered {code} to who reads the schema of table {table.name}: that needs valid credentials with the "
                "permission bigquery.tables.get"
            )
        raise SinkError(told) from error
    name = f"projects/{found.project}/datasets/{found.dataset_id}/tables/{found.table_id}"
    return name, RowFormat(found.schema, has_defaults=has_defaults)

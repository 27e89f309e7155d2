"""A table of BigQuery's: its name, its client, how it is made, and how it gets columns. Every way of writing rows shares it."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ..errors import ConfigurationError, SinkError
from . import google
from .bigquery_columns import MOST_COLUMNS, columns_in, unified, unknown_fields, widened
from .bigquery_errors import SendAgain, code_of, may_pass, reasons_of
from .bigquery_http import BigQueryHttp
from .bigquery_schema import Field, Misfit, RowRules, parse_schema

__all__ = ["BigQueryTable", "TableOptions", "Unknown", "time_out"]

#: What becomes of a row with a field that the table lacks: it is invalid, or is taken without it, or the table gets the column.
Unknown = Literal["strict", "ignore", "add"]

# One request, in seconds; and the least that one is given, past the deadline too.
_REQUEST_TIME = 30.0
_LEAST_REQUEST_TIME = 0.5
# Each of them lost to somebody who has widened the table meanwhile, who is done then.
_MOST_LOST_RACES = 8
_MOST_CLUSTERING = 4
_PARTITIONED_BY = frozenset({"DATE", "TIMESTAMP", "DATETIME"})
_INSTALL = "{} needs google-cloud-bigquery and tenacity: pip install 'kinesis-streamkit[bigquery]'"


def time_out(deadline: float) -> float:
    """The seconds that one request may take."""
    return max(min(deadline - time.monotonic(), _REQUEST_TIME), _LEAST_REQUEST_TIME)


class TableOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a table is made where there is none: ``TableOptions()`` is a plain one.

    ``partition_type`` ("HOUR", "DAY", "MONTH" or "YEAR") and ``partition_field`` (a DATE, TIMESTAMP or DATETIME column; without
    it, the time at which a row arrives) divide it; each implies the other's default. ``partition_expiration_days`` deletes a
    partition at that age. With ``require_partition_filter`` BigQuery refuses queries that would read all partitions.
    ``clustering`` names up to four columns. ``labels`` are for the bill.
    """

    partition_field: str | None = None
    partition_type: str | None = None
    partition_expiration_days: float | None = None
    require_partition_filter: bool = False
    clustering: Sequence[str] = ()
    labels: Mapping[str, str] = {}
    description: str = ""

    @property
    def is_partitioned(self) -> bool:
        return self.partition_field is not None or self.partition_type is not None

    def check(self, fields: Sequence[Field]) -> None:
        """ConfigurationError where a table of these ``fields`` can't be made so."""
        if self.partition_type not in (None, "HOUR", "DAY", "MONTH", "YEAR"):
            raise ConfigurationError(
                f"TableOptions(partition_type) is HOUR, DAY, MONTH or YEAR; got {self.partition_type!r}"
            )
        if not self.is_partitioned and (self.partition_expiration_days is not None or self.require_partition_filter):
            raise ConfigurationError(
                "TableOptions: an expiration or a filter of partitions, and no partition_field or _type"
            )
        if self.partition_expiration_days is not None and not 0 < self.partition_expiration_days < math.inf:
            raise ConfigurationError(
                f"TableOptions(partition_expiration_days) is a number of days; got {self.partition_expiration_days!r}"
            )
        if isinstance(self.clustering, str) or len(self.clustering) > _MOST_CLUSTERING:
            raise ConfigurationError(
                f"TableOptions(clustering) is a list of up to four columns; got {self.clustering!r}"
            )
        types = {field["name"].lower(): field["type"] for field in fields}
        for name in (*filter(None, [self.partition_field]), *self.clustering):
            if name.lower() not in types:
                raise ConfigurationError(f"TableOptions names the column {name}, which the schema lacks")
        if self.partition_field is not None and types[self.partition_field.lower()] not in _PARTITIONED_BY:
            raise ConfigurationError(
                f"TableOptions(partition_field): {self.partition_field} is no DATE, TIMESTAMP or DATETIME"
            )

    def resource(self, fields: Sequence[Field]) -> dict[str, Any]:
        """The table as BigQuery's JSON has it, without its name."""
        made: dict[str, Any] = {"schema": {"fields": list(fields)}}
        if self.is_partitioned:
            partitioning = {"type": self.partition_type or "DAY"}
            if self.partition_field is not None:
                partitioning["field"] = self.partition_field
            if self.partition_expiration_days is not None:
                partitioning["expirationMs"] = str(round(self.partition_expiration_days * 86_400_000))
            made["timePartitioning"] = partitioning
        if self.require_partition_filter:
            made["requirePartitionFilter"] = True
        if self.clustering:
            made["clustering"] = {"fields": list(self.clustering)}
        if self.labels:
            made["labels"] = dict(self.labels)
        if self.description:
            made["description"] = self.description
        return made


class BigQueryTable:
    """A table that rows go to. ``owner`` is who wants it, for errors.

    ``name`` is ``dataset.table`` or ``project.dataset.table``. ``schema`` is what ``parse_schema`` takes, ``create`` how the
    table is made where it is not there, ``client`` a ``google.cloud.bigquery.Client``: made on first use by default.
    """

    def __init__(
        self,
        name: str,
        *,
        schema: Any = None,
        create: TableOptions | None = None,
        unknown: Unknown = "strict",
        client: Any = None,
        owner: str = "a BigQuerySink",
    ) -> None:
        if unknown not in ("strict", "ignore", "add"):
            raise ConfigurationError(f'unknown is "strict", "ignore" or "add"; got {unknown!r}')
        self._name: str | None = _checked(name)
        self._variable = ""
        self._client = client
        self._is_own_client = client is None
        self._http: BigQueryHttp | None = None
        #: The fields of the schema that was given; empty without one.
        self.fields: list[Field] = [] if schema is None else parse_schema(schema)
        #: What the schema asks of a row before it is sent; falsy where that is nothing.
        self.rules = RowRules(self.fields)
        self.create_options = create
        self.unknown = unknown
        self.owner = owner
        if create is not None:
            if not isinstance(create, TableOptions):
                raise ConfigurationError(f"create takes TableOptions(); got {create!r}")
            if not self.fields:
                raise ConfigurationError("create=TableOptions() makes the table of a schema: give schema=… too")
            create.check(self.fields)

    @property
    def name(self) -> str:
        """The table's name; ConfigurationError where the environment variable that should hold it does not."""
        if self._name is None:
            try:
                self._name = _checked(os.environ[self._variable])
            except (KeyError, ConfigurationError) as error:
                wrong = "is not set" if isinstance(error, KeyError) else "holds something else"
                raise ConfigurationError(
                    f"{self.owner} needs the name of a BigQuery table, dataset.table, in the environment "
                    f"variable {self._variable}, which {wrong}"
                ) from None
        return self._name

    def read_name_from(self, variable: str) -> None:
        """Have the name from an environment variable, which is read when it is first asked for."""
        self._name, self._variable = None, variable

    @property
    def project(self) -> str:
        return self._parts()[0] or str(self.client.project)

    @property
    def path(self) -> str:
        """``/projects/<project>/datasets/<dataset>/tables/<table>``."""
        return f"{self._tables_path()}/{self._parts()[2]}"

    @property
    def client(self) -> Any:
        """The ``google.cloud.bigquery.Client``; see ``connect``."""
        self.connect()
        return self._client

    def connect(self) -> None:
        """Make the client, where there is none. ImportError saying what to install; ConfigurationError without credentials."""
        if self._client is None:
            self._client = self._make_client()

    def close(self) -> None:
        """Close the client, where it was made here."""
        if self._is_own_client and self._client is not None:
            self._client.close()
            self._client = self._http = None

    def insert(self, body: bytes, *, deadline: float) -> dict[str, Any]:
        """The answer to ``tabledata.insertAll``; raises what the client does."""
        return self._request("POST", f"{self.path}/insertAll", body, deadline=deadline)

    def _request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        deadline: float,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        client = self.client
        if self._http is None or self._http.client is not client:
            self._http = BigQueryHttp(client)
        return self._http.request(method, path, body, timeout=time_out(deadline), headers=headers)

    def create(self, *, deadline: float) -> None:
        """Make the table by its schema and options. Somebody else may have made it meanwhile, which is as good."""
        assert self.create_options is not None
        project, dataset, table = self._parts()
        reference = {"projectId": project or self.client.project, "datasetId": dataset, "tableId": table}
        body = {"tableReference": reference, **self.create_options.resource(self.fields)}
        try:
            self._request("POST", self._tables_path(), msgspec.json.encode(body), deadline=deadline)
        except Exception as error:
            if code_of(error) != 409:
                raise self._told(error, "creates it", "bigquery.tables.create") from error

    def read(self, *, deadline: float) -> tuple[list[Field], str]:
        """The table's fields as they are, and the etag of what was read."""
        try:
            answer = self._request("GET", self.path, deadline=deadline)
        except Exception as error:
            raise self._told(error, "adds columns to it", "bigquery.tables.get") from error
        return (answer.get("schema") or {}).get("fields") or [], answer.get("etag", "")

    def widen(self, rows: Iterable[Mapping[str, Any]], *, deadline: float) -> tuple[list[Field], dict[int, Misfit]]:
        """Give the table a column for each field that the rows have and it lacks: its fields then, and which rows can't be in it.

        Others who do so at the same time lose nothing of theirs, nor do we: whoever finds that the table has changed since it
        was read adds to what it is by then. Rows are named by their place.
        """
        rows = list(rows)
        for race in range(_MOST_LOST_RACES):
            if race and time.monotonic() >= deadline:
                break
            known, etag = self.read(deadline=deadline)
            more: list[Field] = []
            misfits: dict[int, Misfit] = {}
            for n, row in enumerate(rows):
                try:
                    wanted = unified(more, unknown_fields(row, known, self.fields))
                    if len(wanted) and columns_in(widened(known, wanted)) > MOST_COLUMNS:
                        raise Misfit(
                            f"the table would have more than {MOST_COLUMNS:,} columns, which BigQuery lets none have"
                        )
                except Misfit as misfit:
                    misfits[n] = misfit
                else:
                    more = wanted
            if not more:
                return known, misfits
            fields = widened(known, more)
            try:
                changed = msgspec.json.encode({"schema": {"fields": fields}})
                self._request("PATCH", self.path, changed, deadline=deadline, headers={"If-Match": etag})
            except Exception as error:
                if code_of(error) == 412:
                    continue
                raise self._told(error, "adds columns to it", "bigquery.tables.update") from error
            return fields, misfits
        raise SendAgain(f"others add columns to table {self.name} all the time, so that ours did not come in between")

    def explain(self, error: BaseException) -> str:
        """Why a request has no answer. BigQuery's own message may quote the request, and is left out."""
        if isinstance(error, SinkError | ConfigurationError):
            return str(error)
        code, reasons = code_of(error), " ".join(sorted(reasons_of(error)))
        if code is None:
            return f"no answer from BigQuery: {type(error).__name__}: {error}"[:300]
        answer = f"BigQuery answered {code} {reasons}".rstrip() + f" for table {self.name}"
        if code == 404:
            return f"{answer}: create it, or correct its name"
        if code in (401, 403) and not may_pass(error):
            return f"{answer}: its writer needs valid credentials with the permission bigquery.tables.updateData"
        return answer

    def _told(self, error: Exception, does: str, permission: str) -> Exception:
        """The error with what was asked; as it is where the same request may be answered later."""
        code = code_of(error)
        if code is None or may_pass(error):
            return error
        answer = f"BigQuery answered {code} {' '.join(sorted(reasons_of(error)))}".rstrip() + f" to who {does}: "
        if code in (401, 403):
            return SinkError(f"{answer}table {self.name} needs valid credentials with the permission {permission}")
        if code == 404:
            return SinkError(f"{answer}there is no dataset, or no table, for {self.name}")
        return SinkError(f"{answer}it finds something wrong with the schema or the options of table {self.name}")

    def _parts(self) -> tuple[str, str, str]:
        """Project, empty where it is the client's; dataset; table."""
        rest, _, table = self.name.rpartition(".")
        project, _, dataset = rest.rpartition(".")
        return project, dataset, table

    def _tables_path(self) -> str:
        return f"/projects/{self.project}/datasets/{self._parts()[1]}/tables"

    def _make_client(self) -> Any:
        install = _INSTALL.format("BigQuerySink")
        try:
            from google.auth.exceptions import DefaultCredentialsError
            from google.cloud import bigquery
        except ImportError as error:
            raise ImportError(install) from error
        try:
            return bigquery.Client(project=self._parts()[0] or None, credentials=google.credentials())
        except (DefaultCredentialsError, OSError) as error:
            raise ConfigurationError(
                f"{self.owner} finds no Google credentials, or no project in them: set them up as "
                "application default credentials, name the table as project.dataset.table, or give it client=..."
            ) from error


def _checked(table: str) -> str:
    """The name, where it is one of a table: ConfigurationError else."""
    if not re.fullmatch(r"(?:[^\s`]+\.)?\w+\.[^\s.`][^.`]*", table):
        raise ConfigurationError(f"a BigQuery table is named dataset.table or project.dataset.table; got {table!r}")
    return table

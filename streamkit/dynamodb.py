"""What the stores in Amazon DynamoDB have in common: a table by its name or by a variable that holds it, made and asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from .aws import Clients, from_environment
from .errors import ConfigurationError

__all__ = ["ConditionFailed", "Table"]


class ConditionFailed(Exception):
    """DynamoDB did not do it, because its condition does not hold. ``item`` is what stands there, where that was asked for."""

    def __init__(self, item: dict[str, Any] | None) -> None:
        super().__init__("the condition does not hold")
        self.item = item


class Table:
    """One table. ``store`` is the class whose it is, for errors, and ``owner`` says who has that; the rest is as ``Clients``
    has it.
    """

    def __init__(
        self,
        name: str,
        store: str,
        client: Any,
        timeouts: Sequence[tuple[float, float, int]],
        *,
        owner: Callable[[], str] = lambda: "",
    ) -> None:
        self._name: str | None = name
        self._variable = ""
        self._store = store
        self._owner = owner
        self.clients = Clients("dynamodb", store, client, timeouts)

    def read_name_from(self, variable: str) -> None:
        """Have the environment variable name the table, on first use."""
        self._name, self._variable = None, variable

    @property
    def name(self) -> str:
        """The table's name; ConfigurationError where the environment variable that should hold it is not set."""
        if self._name is None:
            owner = self._owner() or f"a {self._store}"
            self._name = from_environment(self._variable, owner, "the name of a DynamoDB table")
        return self._name

    def create(self, *keys: str, ttl: str | None = None) -> None:
        """Create it with on-demand capacity and wait until it can be used. ``keys`` are texts: the partition key, and the sort
        key where there is one. ``ttl`` is the attribute by which items end. It raises what the client raises.
        """
        client = self.clients.until(math.inf)
        client.create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
            KeySchema=[
                {"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, ("HASH", "RANGE"), strict=False)
            ],
        )
        client.get_waiter("table_exists").wait(TableName=self.name, WaiterConfig={"Delay": 2})
        if ttl is not None:
            client.update_time_to_live(
                TableName=self.name, TimeToLiveSpecification={"Enabled": True, "AttributeName": ttl}
            )

    def call(self, operation: str, deadline: float, **arguments: Any) -> Any:
        """One request, by a client whose time-outs fit into what is left. It raises what the client raises,
        ConditionFailed, and ConfigurationError where there is no such table.
        """
        name, client = self.name, self.clients.until(deadline)
        try:
            return getattr(client, operation)(TableName=name, **arguments)
        except client.exceptions.ConditionalCheckFailedException as error:
            raise ConditionFailed(error.response.get("Item")) from error
        except client.exceptions.ResourceNotFoundException as error:
            raise ConfigurationError(
                f"there is no DynamoDB table {name}: make it with {self._store}({name!r}).create_table()"
            ) from error

"""Each event of a stream becomes a row of a BigQuery table, exactly once (docs/exactly-once.md).

Deploy it with the handler ``processors.bigquery_exactly_once.handler``, or subclass ``BigQueryExactlyOnceProcessor`` and override
``row``. It is a function of its own, apart from ``processors.bigquery``, since it brings gRPC with it. Set up by the variables of
that one but RETRY_QUEUE_URL, which has no place here: rows that come by a retry path are at least once. And by

    PLANS_TABLE              required: a DynamoDB table of plans

The event source mapping's ParallelizationFactor has to be 1.
"""

from __future__ import annotations

from streamkit import lambda_handler
from streamkit.plans.dynamodb import DynamoDbPlans
from streamkit.sinks.bigquery_exactly_once import BigQueryExactlyOnceSink

from .bigquery import BigQueryProcessor

__all__ = ["BigQueryExactlyOnceProcessor", "handler"]


class BigQueryExactlyOnceProcessor(BigQueryProcessor):
    """Override ``row``, as that of ``BigQueryProcessor``."""

    ordering = "shard"
    warehouse = BigQueryExactlyOnceSink.from_env("BIGQUERY_TABLE", DynamoDbPlans.from_env("PLANS_TABLE"))


handler = lambda_handler(BigQueryExactlyOnceProcessor)

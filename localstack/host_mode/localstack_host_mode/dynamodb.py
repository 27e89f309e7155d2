"""DynamoDB and its streams by the moto that LocalStack carries. Its own is DynamoDB Local, a Java program to be downloaded.

PROVIDER_OVERRIDE_DYNAMODB=moto PROVIDER_OVERRIDE_DYNAMODBSTREAMS=moto
"""

from __future__ import annotations

from localstack.aws.api.dynamodb import DynamodbApi
from localstack.aws.api.dynamodbstreams import DynamodbstreamsApi
from localstack.services.moto import MotoFallbackDispatcher
from localstack.services.plugins import Service, aws_provider

__all__ = ["dynamodb", "dynamodbstreams"]


# An API of which nothing is implemented: each operation falls through to moto.
@aws_provider(api="dynamodb", name="moto")  # type: ignore[untyped-decorator]  # LocalStack ships no types.
def dynamodb() -> Service:
    return Service.for_provider(DynamodbApi(), dispatch_table_factory=MotoFallbackDispatcher)


@aws_provider(api="dynamodbstreams", name="moto")  # type: ignore[untyped-decorator]  # LocalStack ships no types.
def dynamodbstreams() -> Service:
    return Service.for_provider(DynamodbstreamsApi(), dispatch_table_factory=MotoFallbackDispatcher)

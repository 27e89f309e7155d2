"""The connection to AWS or what stands in for it: its options, its client, its errors in one line that says what to do."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..aws import make_client
from ..errors import ConfigurationError, StreamkitError
from ..reason import reason

__all__ = ["add_connection", "connected", "error_code", "explained", "is_passing", "is_unreachable", "masked", "opened"]

_PASSING_CODES = (
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "KMSThrottlingException",
)
_MOST_CONNECTIONS = 1000
_SIGN_IN = "sign in (`aws sso login`, `aws configure`) or choose a profile with --profile"
_EXPIRED_CODES = ("ExpiredToken", "ExpiredTokenException", "RequestExpired")
_NO_QUEUE_CODES = ("NonExistentQueue", "QueueDoesNotExist")
_CREDENTIALS = re.compile(r"""(?<=://)[^/\s"']*@""")
_BAD_KEYS_CODES = ("UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException")


def add_connection(parser: argparse.ArgumentParser) -> None:
    """``--endpoint-url``, ``--region`` and ``--profile``; without them boto3's own environment variables and files count."""
    group = parser.add_argument_group("connection", "where AWS is; by default as for the aws command")
    group.add_argument(
        "--endpoint-url", metavar="URL", help="another endpoint than AWS's, such as http://localhost:4566"
    )
    group.add_argument("--region", metavar="NAME", help="such as us-east-1")
    group.add_argument("--profile", metavar="NAME", help="a profile of ~/.aws/config")


@contextmanager
def connected(
    options: argparse.Namespace,
    stream: str,
    service: str = "kinesis",
    *,
    region: str = "",
    connect_timeout: float = 5.0,
    read_timeout: float = 30.0,
    tries: int = 4,
    noun: str = "stream",
) -> Iterator[Any]:
    """A client of ``service``, each of whose ``tries`` gives up after ``read_timeout`` seconds without a byte.

    ``region`` is for what is in another region than the options say; ``noun`` is what ``stream`` is, where it is none.

    What goes wrong in the block on the way to AWS is a StreamkitError that says what to do.
    """
    with explained(stream, noun):
        client = opened(
            options, service, region=region, connect_timeout=connect_timeout, read_timeout=read_timeout, tries=tries
        )
        try:
            yield client
        finally:
            client.close()


def opened(
    options: argparse.Namespace,
    service: str,
    *,
    region: str = "",
    connect_timeout: float = 5.0,
    read_timeout: float = 30.0,
    tries: int = 4,
) -> Any:
    """A client as ``connected`` has it, for the caller to close. Call it in a block of ``explained``."""
    import boto3
    from botocore.exceptions import NoRegionError

    try:
        session = boto3.Session(profile_name=options.profile, region_name=options.region)
        if not session.region_name:
            raise NoRegionError
        return make_client(
            service,
            "this command",
            (connect_timeout, read_timeout),
            tries=tries,
            region=region,
            endpoint_url=options.endpoint_url,
            session=session,
            # A run has a thread for each shard; connections are opened when they are needed.
            max_pool_connections=_MOST_CONNECTIONS,
            # A host name of somebody's own has no name for each bucket.
            s3={"addressing_style": "path"} if options.endpoint_url or os.environ.get("AWS_ENDPOINT_URL") else None,
        )
    except ValueError as error:
        raise ConfigurationError(f"{error}: an endpoint is a URL such as http://localhost:4566") from error


@contextmanager
def explained(stream: str, noun: str = "stream") -> Iterator[None]:
    """What goes wrong in the block on the way to AWS is a StreamkitError that says what to do.

    ``noun`` is what ``stream`` is, where it is none. ConfigurationError where boto3 is not installed.
    """
    try:
        import boto3  # noqa: F401  # One can be there without the other.
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        raise ConfigurationError("this command needs boto3: pip install 'kinesis-streamkit[cli]'") from None
    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise StreamkitError(masked(f"{noun} {stream}: {_explained(error)}")) from error


def masked(text: str) -> str:
    """``text`` without the credentials that a URL in it may have."""
    return _CREDENTIALS.sub("…@", text)


def _explained(error: Exception) -> str:
    from botocore import exceptions

    code = error_code(error)
    if isinstance(error, exceptions.NoRegionError):
        return "no region is set: add --region us-east-1, or set AWS_DEFAULT_REGION"
    if isinstance(error, exceptions.ProfileNotFound):
        return f"{error}: `aws configure list-profiles` names those there are"
    if isinstance(error, exceptions.NoCredentialsError | exceptions.PartialCredentialsError):
        return (
            f"there are no AWS credentials: {_SIGN_IN}; a local endpoint takes any, "
            "as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        return f"{error}: is it running and reachable? --endpoint-url names another"
    if code == "ResourceNotFoundException":
        return (
            f"there is no such stream here ({code}): check the name, --region, --profile and --endpoint-url; "
            "`aws kinesis list-streams` names those there are"
        )
    if code.endswith(_NO_QUEUE_CODES):
        return (
            f"there is no such queue here ({code}): check the name, --region, --profile and --endpoint-url; "
            "`aws sqs list-queues` names those there are"
        )
    if code == "NoSuchBucket":
        return f"there is no such bucket ({code}): `aws s3 ls` names those there are"
    if code in _EXPIRED_CODES:
        return f"the credentials have expired ({code}): {_SIGN_IN}"
    if code in _BAD_KEYS_CODES:
        return f"AWS does not know these credentials ({code}): {_SIGN_IN}"
    if "AccessDenied" in code:
        return f"{error}: give this user or role that permission, or choose another with --profile"
    if is_passing(error):
        return f"{error}: try again in a moment"
    return str(error) if code else reason(error)


def error_code(error: BaseException) -> str:
    """AWS's code of an error that is an answer of AWS; ``""`` for any other."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def is_unreachable(error: BaseException) -> bool:
    """Whether nothing was reached at all: no name, no server."""
    from botocore.exceptions import EndpointConnectionError

    return isinstance(error, EndpointConnectionError)


def is_passing(error: BaseException) -> bool:
    """Whether waiting can mend it: a throttle, a time-out, an outage."""
    from botocore.exceptions import ConnectionError as EndpointError
    from botocore.exceptions import HTTPClientError
    from botocore.parsers import ResponseParserError

    code = error_code(error)
    if not code:
        return isinstance(error, HTTPClientError | EndpointError | ResponseParserError)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)  # type: ignore[attr-defined]  # It has a code, so it has a response.
    return status >= 500 or status == 429 or code in _PASSING_CODES or "Throttl" in code

"""LocalStack, the faithful stand-in for Kinesis, SQS, SNS, DynamoDB, S3 and others, in a process or a container of its own.

    with localstack_server() as localstack:
        os.environ["AWS_ENDPOINT_URL"] = localstack.endpoint
        localstack_client.session.Session().client("kinesis")

In a container where a Docker engine answers, else from ``.local/localstack``, where setup_localstack.py has put it. It takes
about five seconds to start, or a minute where it has to be compiled first and the cores are busy. What it does not do as the
services do is listed in the README beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence

from local_environment import LOCAL
from local_process import LOOPBACK, Running, ServerError, running
from setup_localstack import COMPOSE, ENVIRONMENT, LIBRARIES, docker_answers

__all__ = ["SOONER", "localstack_server"]

#: Lambda invokes again after a minute and two, and its mappings look at a quiet queue every ten seconds: with these, given as
#: ``env``, a second and two.
SOONER = {
    "LAMBDA_RETRY_BASE_DELAY": "1",
    "LAMBDA_EVENT_SOURCE_MAPPING_MAX_BACKOFF_ON_EMPTY_POLL_SEC": "1",
}

_SERVICES = ("kinesis", "sqs", "sns", "dynamodb", "s3", "ssm", "kms", "logs", "cloudwatch", "iam", "sts")
_SETTINGS = {
    "OVERRIDE_IN_DOCKER": "0",
    "FILESYSTEM_ROOT": "filesystem",  # In the server's own folder, which is removed with it.
    "SERVICES": ",".join((*_SERVICES, "lambda", "cloudformation", "scheduler")),
    "EAGER_SERVICE_LOADING": "1",
    "KINESIS_LATENCY": "50",
    # Functions are processes of the Python that this is, and find its packages beside their own code.
    "LAMBDA_RUNTIME_EXECUTOR": "local-process",
    "FUNCTION_PYTHON": sys.executable,
    # Those of Lambda's Python here run in AWS's own runtime client, from packages that have all they need (deploy/runtime.py).
    "LAMBDA_RUNTIME": "python3.13",
    "LAMBDA_PYTHON": str(LOCAL / "lambda" / "venv" / "bin" / "python"),
    # Of the templates it makes what it can: there is no CodeDeploy in it.
    "CFN_IGNORE_UNSUPPORTED_RESOURCE_TYPES": "1",
    "PROVIDER_OVERRIDE_DYNAMODB": "moto",
    "PROVIDER_OVERRIDE_DYNAMODBSTREAMS": "moto",
    "SQS_ENDPOINT_STRATEGY": "path",
    "SKIP_SSL_CERT_DOWNLOAD": "1",
    "DISABLE_EVENTS": "1",
    "DNS_ADDRESS": "0",
    # No proxy between this machine and itself.
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
}


@contextlib.contextmanager
def localstack_server(port: int = 0, *, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """Run LocalStack until the block ends; its state ends with it. 0 is any free port.

    ``env`` is added to its settings where it runs without Docker, as KINESIS_ERROR_PROBABILITY. Raises ServerError where it is
    not installed or won't start.
    """
    if docker_answers():
        with _in_docker(port) as server:
            yield server
        return
    if not ENVIRONMENT.installed():
        raise ServerError("LocalStack is not installed: run `python3 localstack/setup_localstack.py`")

    def command(port: int) -> Sequence[str]:
        address = f"{LOOPBACK}:{port}"
        settings = (f"GATEWAY_LISTEN={address}", f"LOCALSTACK_HOST={address}")
        # -P: a folder that is called localstack must not hide LocalStack.
        return [
            "env",
            *settings,
            str(ENVIRONMENT.program("python")),
            "-P",
            "-m",
            "localstack_host_mode",
            str(LIBRARIES),
        ]

    # Its own home: it reads settings there, and keeps an index of its plugins.
    settings = {"HOME": str(ENVIRONMENT.home), **_SETTINGS, **(env or {})}
    # It has nothing to save; told to stop before it is ready it never ends, and afterwards it takes three seconds.
    with running("localstack", command, _ready, ports=[port], env=settings, stop_within=5) as server:
        yield server


@contextlib.contextmanager
def _in_docker(port: int) -> Iterator[Running]:
    projects: list[str] = []

    def command(port: int) -> Sequence[str]:
        projects.append(f"streamkit-localstack-{port}")
        compose = [*COMPOSE, "--project-name", projects[-1]]
        return ["env", f"LOCALSTACK_PORT={port}", *compose, "run", "--rm", "--no-TTY", "--service-ports", "localstack"]

    try:
        with running("localstack", command, _ready, ports=[port], stop_within=20) as server:
            yield server
    finally:
        # A container outlives a `docker` that was killed.
        for project in projects:
            subprocess.run([*COMPOSE, "--project-name", project, "down"], capture_output=True, timeout=60, check=True)


def _ready(server: Running) -> bool:
    """Whether all its services run."""
    connection = http.client.HTTPConnection(LOOPBACK, server.port, timeout=5)
    try:
        connection.request("GET", "/_localstack/health")
        states = json.loads(connection.getresponse().read())["services"]
    except (OSError, http.client.HTTPException, ValueError, LookupError):
        return False
    finally:
        connection.close()
    return all(states.get(service) in ("running", "available") for service in _SERVICES)


def main() -> None:
    parser = argparse.ArgumentParser(description="LocalStack on the loopback interface, until Ctrl-C.")
    parser.add_argument("--port", type=int, default=4566, help="0 takes a free one (%(default)s)")
    options = parser.parse_args()
    stopped = threading.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signal_number, lambda *_: stopped.set())
    with localstack_server(options.port) as server:
        print(server.endpoint, flush=True)
        stopped.wait()


if __name__ == "__main__":
    main()

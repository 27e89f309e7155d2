"""The real command in a process of its own, against moto."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3

import streamkit

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "nobody",
    "AWS_SECRET_ACCESS_KEY": "nothing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
    # The package that is tested, wherever the command runs.
    "PYTHONPATH": str(Path(streamkit.__file__).parent.parent),
}


def connect(service: str, endpoint: str, region: str = "us-east-1") -> Any:
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=region,
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
    )


def put(kinesis: Any, stream: str, *data: str) -> None:
    kinesis.put_records(StreamName=stream, Records=[{"Data": one, "PartitionKey": one} for one in data])


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "streamkit.cli", *arguments]


@contextmanager
def running(folder: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """``streamkit run`` in ``folder``; ended for certain when the block ends."""
    process = subprocess.Popen(
        command("run", *arguments),
        cwd=folder,
        env={**os.environ, **ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def ended(
    folder: Path, *arguments: str, stdin: str | bytes = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env={**os.environ, **ENVIRONMENT, **environment},
        input=stdin if isinstance(stdin, str) else stdin.decode(),
        capture_output=True,
        text=True,
        timeout=120,
    )


def error_of(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """The exit code and the last line of a command that ends by itself."""
    one = ended(folder, *arguments, **environment)
    return one.returncode, one.stderr.splitlines()[-1]

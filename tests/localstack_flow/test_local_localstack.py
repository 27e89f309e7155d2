"""LocalStack, as the local cloud starts it from pinned packages."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from local_localstack import localstack_server
from local_process import Running
from setup_localstack import docker_answers

from .reader import wait_until

pytestmark = pytest.mark.skipif(docker_answers(), reason="in a container: these are its processes without one")

LISTENING = "0A"
LOOPBACK = ("0100007F", "0000000000000000FFFF00000100007F")


def kinesis_of(server: Running) -> Any:
    return boto3.client(
        "kinesis",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
    )


def processes(server: Running) -> dict[int, str]:
    """The server's, its watcher's and their children's, with their programs."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,comm="], capture_output=True, text=True, check=True).stdout
    parents = {
        int(pid): (int(parent), name) for pid, parent, name in (line.split(None, 2) for line in listed.splitlines())
    }
    found = {server.pid}
    while more := {pid for pid, (parent, _) in parents.items() if parent in found} - found:
        found |= more
    return {pid: parents[pid][1] for pid in found}


def listening_addresses(pids: set[int]) -> list[str]:
    """As Linux writes them, in hexadecimal."""
    sockets = {os.readlink(fd) for pid in pids for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and f"socket:[{fields[9]}]" in sockets:
                found.append(fields[1].partition(":")[0])
    return found


def are_gone(pids: set[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux tells who listens where, in /proc")


@needs_linux
def test_every_port_of_it_is_on_the_loopback_address(localstack: Running, kinesis: Any) -> None:
    kinesis.list_streams()

    addresses = listening_addresses(set(processes(localstack)))

    assert len(addresses) >= 3  # LocalStack's, and two of kinesis-mock's.
    assert set(addresses) <= set(LOOPBACK)
    with pytest.raises(OSError, match=r"refused|assign|unreachable|timed out"):
        socket.create_connection(("127.0.0.2", localstack.port), timeout=5)


@needs_linux
def test_nothing_is_left_of_one_whose_process_is_killed() -> None:
    with localstack_server() as server:
        running = of_one_with_a_stream(server)
        (main,) = (pid for pid, name in running.items() if name != "node" and pid != server.pid)
        os.kill(main, signal.SIGKILL)
        wait_until(lambda: are_gone({pid for pid in running if pid != server.pid}))

    wait_until(lambda: are_gone(set(running)))
    assert not server.folder.exists()


@needs_linux
def test_two_at_once_know_nothing_of_each_other_and_nothing_is_left_of_one_that_is_over(kinesis: Any) -> None:
    kinesis.create_stream(StreamName="only-here", ShardCount=1)

    with localstack_server() as other:
        running = of_one_with_a_stream(other)

    assert "only-here" in kinesis.list_streams()["StreamNames"]
    wait_until(lambda: are_gone(set(running)))
    assert not other.folder.exists()


def of_one_with_a_stream(server: Running) -> dict[int, str]:
    """The processes of a LocalStack that has had no stream before."""
    client = kinesis_of(server)
    assert client.list_streams()["StreamNames"] == []
    client.create_stream(StreamName="orders", ShardCount=1)
    client.close()
    running = processes(server)
    assert "node" in running.values()
    return running


def test_its_queues_have_urls_that_can_be_used_as_they_are(localstack: Running, sqs: Any) -> None:
    assert sqs.create_queue(QueueName="addressed")["QueueUrl"].startswith(f"{localstack.endpoint}/")

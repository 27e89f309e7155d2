"""A real MultiLangDaemon in a process group of its own, with streamkit kcl as its children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from setup_kcl import DAEMON, class_path

import streamkit

__all__ = ["Daemon"]

_REPOSITORY = Path(streamkit.__file__).parents[1]
_DEPLOYED = _REPOSITORY / "deploy" / "kcl"
# What the tests need otherwise than deploy/kcl/kcl.properties has it: a server on this machine, and no waiting.
_HERE = {
    "regionName": "us-east-1",
    "metricsLevel": "NONE",
    "AwsCredentialsProvider": "DefaultCredentialsProvider",
    "idleTimeBetweenReadsInMillis": "250",
    "failoverTimeMillis": "3000",
    "leaseAssignmentIntervalMillis": "2000",
    "shardSyncIntervalMillis": "2000",
    "parentShardPollIntervalMillis": "1000",
}


def properties(path: Path) -> dict[str, str]:
    """The properties of a file, without its comments."""
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


class Daemon:
    """A worker of ``application`` on ``stream``: ``handler`` of functions.py, which writes into ``journal``."""

    def __init__(
        self,
        folder: Path,
        *,
        endpoint: str,
        application: str,
        stream_arn: str,
        handler: str,
        worker: str,
        environment: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        options: str = "",
    ) -> None:
        self.worker = worker
        self.log = folder / f"{worker}.log"
        command = (
            f"{sys.executable} -m streamkit.cli kcl tests.kcl_flow.functions:{handler} --stream {stream_arn} {options}"
        )
        chosen = {
            **properties(_DEPLOYED / "kcl.properties"),
            **_HERE,
            "executableName": command.strip(),
            "applicationName": application,
            "streamArn": stream_arn,
            "workerId": worker,
            "kinesisEndpoint": endpoint,
            "dynamoDBEndpoint": endpoint,
            **(settings or {}),
        }
        file = folder / f"{worker}.properties"
        file.write_text("".join(f"{name} = {value}\n" for name, value in chosen.items()))
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *("java", "-Xmx256m", "-Dfile.encoding=UTF-8", "-cp", class_path(), DAEMON),
                    *("--properties-file", str(file), "--log-configuration", str(_DEPLOYED / "logback.xml")),
                ],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(_REPOSITORY), "WORKER": worker, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """SIGKILL to the daemon and all its children: a machine that is gone."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def terminate(self, within: float = 60.0) -> int:
        """SIGTERM to the daemon, as a container gets it, and its exit code."""
        self._process.terminate()
        return self._process.wait(within)

    def close(self) -> None:
        """End what is left of it."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait()

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

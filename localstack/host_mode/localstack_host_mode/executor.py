"""Lambda functions as processes of this machine. LocalStack's own executor needs Docker.

LAMBDA_RUNTIME_EXECUTOR=local-process FUNCTION_PYTHON=/path/to/python

One process for each execution environment, run by FUNCTION_PYTHON (LocalStack's own Python where it is not set), so that a
function finds the packages of that environment beside its own code. It gets an invocation as a line and answers with a line
(``function.py``). Past the function's time-out it is killed, as in Lambda, and the next invocation has a new one. It ends with
LocalStack, whatever ends that: its input is closed then. Neither memory nor the runtime that was asked for count for anything.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

from localstack.services.lambda_.invocation.executor_endpoint import StatusErrorException
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

__all__ = ["LocalProcessExecutor", "LocalProcessPlugin"]

_FUNCTION = Path(__file__).with_name("function.py")
_LOOPBACK = "127.0.0.1"
_KEPT = ("PATH", "HOME", "NO_PROXY", "no_proxy")


class LocalProcessPlugin(RuntimeExecutorPlugin):  # type: ignore[misc]  # LocalStack ships no types.
    name = "local-process"

    def load(self, *args: Any, **kwargs: Any) -> type[LocalProcessExecutor]:
        return LocalProcessExecutor


class LocalProcessExecutor(RuntimeExecutor):  # type: ignore[misc]  # LocalStack ships no types.
    """One execution environment: LocalStack gives it one invocation at a time."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:  # noqa: A002  # Its caller names it.
        super().__init__(id, function_version)
        self._environment: dict[str, str] = {}
        self._process: subprocess.Popen[str] | None = None
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # stop() closes it.

    def start(self, env_vars: dict[str, Any]) -> None:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self._environment = kept | {name: str(value) for name, value in env_vars.items()}
        self._launch()

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        process = self._process or self._launch()
        timeout: int = self.function_version.config.timeout
        invocation = {
            "id": payload["invoke-id"],
            "arn": payload["invoked-function-arn"],
            "payload": payload["payload"],
            "ends_at": time.time() + timeout,
        }
        written = self._log.seek(0, os.SEEK_END)
        killer = threading.Timer(timeout, process.kill)
        killer.start()
        try:
            answer = _asked(process, invocation)
        finally:
            killer.cancel()
        if answer is None:
            code = process.wait()
            self._process = None
            message = f"Task timed out after {timeout}.00 seconds" if code < 0 else f"Runtime exited with status {code}"
            error = {"errorType": "Sandbox.Ended", "errorMessage": f"{invocation['id']} Error: {message}"}
            answer = {"payload": json.dumps(error), "is_error": True}
        self._log.seek(written)
        printed = self._log.read().decode("utf-8", "replace")
        logs = f"START RequestId: {invocation['id']}\n{printed}END RequestId: {invocation['id']}\n"
        return InvocationResult(invocation["id"], answer["payload"].encode(), answer["is_error"], logs)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        self._log.close()

    def get_address(self) -> str:
        return _LOOPBACK

    def get_endpoint_from_executor(self) -> str:
        return _LOOPBACK

    def get_runtime_endpoint(self) -> str:
        return ""  # Of LocalStack's own init, which is not here.

    def get_logs(self) -> str:
        if self._log.closed:
            return ""
        self._log.seek(0)
        return self._log.read().decode("utf-8", "replace")

    @classmethod
    def prepare_version(cls, function_version: FunctionVersion) -> None:
        function_version.config.code.prepare_for_execution()

    @classmethod
    def cleanup_version(cls, function_version: FunctionVersion) -> None:
        return

    def _launch(self) -> subprocess.Popen[str]:
        """A process that has imported the handler; StatusErrorException where it could not."""
        config = self.function_version.config
        code = str(config.code.get_unzipped_code_location())
        process = subprocess.Popen(
            [os.environ.get("FUNCTION_PYTHON") or sys.executable, "-P", str(_FUNCTION), code, config.handler],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.fileno(),
            env=self._environment,
            cwd=code,
            text=True,
        )
        assert process.stdout is not None
        ready = process.stdout.readline()
        if ready != "{}\n":
            process.wait()
            raise StatusErrorException("the function's process has not started", payload=(ready or "{}").encode())
        self._process = process
        return process


def _asked(process: subprocess.Popen[str], invocation: dict[str, Any]) -> dict[str, Any] | None:
    """The answer to an invocation; None where the process ended without one."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(invocation) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return None
    line = process.stdout.readline()
    answer: dict[str, Any] | None = json.loads(line) if line.endswith("\n") else None
    return answer

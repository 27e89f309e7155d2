"""Lambda functions as processes of this machine. LocalStack's own executor needs Docker.

LAMBDA_RUNTIME_EXECUTOR=local-process FUNCTION_PYTHON=/path/to/python LAMBDA_PYTHON=/path/to/another LAMBDA_RUNTIME=python3.13

One process for each execution environment. A function of the runtime LAMBDA_RUNTIME runs as in Lambda: in AWS's own runtime
client, awslambdaric, by LAMBDA_PYTHON, which has that client and boto3 and nothing else. Any other runs in ``function.py``, by
FUNCTION_PYTHON (LocalStack's own Python where it is not set), and finds the packages of that environment beside its own code.

Past the function's time-out its process is killed, as in Lambda, and the next invocation has a new one. It ends with LocalStack,
whatever ends that. Neither memory nor architecture count for anything.
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
from typing import IO, Any, Protocol

from localstack.services.lambda_.invocation.executor_endpoint import StatusErrorException
from localstack.services.lambda_.invocation.lambda_models import FunctionVersion, InvocationResult
from localstack.services.lambda_.invocation.plugins import RuntimeExecutorPlugin
from localstack.services.lambda_.invocation.runtime_executor import RuntimeExecutor

from .runtime_api import Answer, Invocation, RuntimeApi

__all__ = ["LocalProcessExecutor", "LocalProcessPlugin"]

_FUNCTION = Path(__file__).with_name("function.py")
_LOOPBACK = "127.0.0.1"
_KEPT = ("PATH", "HOME", "NO_PROXY", "no_proxy")
#: FUNCTION_ENV_X=y of LocalStack is X=y of every function: where services are that a template can't know of.
_PASSED = "FUNCTION_ENV_"


class LocalProcessPlugin(RuntimeExecutorPlugin):  # type: ignore[misc]  # LocalStack ships no types.
    name = "local-process"

    def load(self, *args: Any, **kwargs: Any) -> type[LocalProcessExecutor]:
        return LocalProcessExecutor


class LocalProcessExecutor(RuntimeExecutor):  # type: ignore[misc]  # LocalStack ships no types.
    """One execution environment: LocalStack gives it one invocation at a time."""

    def __init__(self, id: str, function_version: FunctionVersion) -> None:  # noqa: A002  # Its caller names it.
        super().__init__(id, function_version)
        self._environment: dict[str, str] = {}
        self._process: _Process | None = None
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # stop() closes it.

    def start(self, env_vars: dict[str, Any]) -> None:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        kept |= {name.removeprefix(_PASSED): os.environ[name] for name in os.environ if name.startswith(_PASSED)}
        self._environment = kept | {name: str(value) for name, value in env_vars.items()}
        self._launch()

    def invoke(self, payload: dict[str, str]) -> InvocationResult:
        process = self._process or self._launch()
        timeout: int = self.function_version.config.timeout
        ends_at = time.time() + timeout
        invocation = Invocation(
            payload["invoke-id"], payload["invoked-function-arn"], payload["payload"].encode(), ends_at
        )
        written = self._log.seek(0, os.SEEK_END)
        killer = threading.Timer(timeout, process.kill)
        killer.start()
        try:
            answer = process.answer(invocation)
        finally:
            killer.cancel()
        if answer is None:
            code = process.wait()
            self._process = None
            message = f"Task timed out after {timeout}.00 seconds" if code < 0 else f"Runtime exited with status {code}"
            error = {"errorType": "Sandbox.Ended", "errorMessage": f"{invocation.id} Error: {message}"}
            answer = Answer(json.dumps(error).encode(), is_error=True)
        self._log.seek(written)
        printed = self._log.read().decode("utf-8", "replace")
        logs = f"START RequestId: {invocation.id}\n{printed}END RequestId: {invocation.id}\n"
        return InvocationResult(invocation.id, answer.payload, answer.is_error, logs)

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

    def _launch(self) -> _Process:
        """A process that has imported the handler; StatusErrorException where it could not."""
        config = self.function_version.config
        code = str(config.code.get_unzipped_code_location())
        kind = _RuntimeClient if config.runtime == os.environ.get("LAMBDA_RUNTIME") else _OwnLoop
        process = kind(code, config.handler, self._environment, self._log.fileno())
        error = process.started()
        if error is not None:
            process.kill()
            process.wait()
            raise StatusErrorException("the function's process has not started", payload=error)
        self._process = process
        return process


class _Process(Protocol):
    """A function's process, which is made by starting it."""

    def __init__(self, code: str, handler: str, environment: dict[str, str], log: int) -> None: ...

    def started(self) -> bytes | None:
        """Once it has imported the handler, None; the error where it could not."""

    def answer(self, invocation: Invocation) -> Answer | None:
        """None where the process ended without one."""

    def kill(self) -> None: ...

    def wait(self) -> int:
        """Its exit code, once it has ended; negative where a signal has ended it."""


class _RuntimeClient:
    """In awslambdaric, as in Lambda."""

    def __init__(self, code: str, handler: str, environment: dict[str, str], log: int) -> None:
        self._api = RuntimeApi()
        # It ends with LocalStack: without the API the client has nobody to ask, and gives up. By -m it finds the code.
        self._process = subprocess.Popen(
            [os.environ["LAMBDA_PYTHON"], "-m", "awslambdaric", handler],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment | {"AWS_LAMBDA_RUNTIME_API": self._api.address, "LAMBDA_TASK_ROOT": code},
            cwd=code,
        )

    def started(self) -> bytes | None:
        while self._process.poll() is None:
            if self._api.is_ready.wait(0.005):
                return None
            answer = self._api.answer(0.001)
            if answer is not None:
                return answer.payload
        answer = self._api.answer(0.2)
        return b"{}" if answer is None else answer.payload

    def answer(self, invocation: Invocation) -> Answer | None:
        self._api.invoke(invocation)
        while True:
            answer = self._api.answer(0.2)
            if answer is not None:
                return answer
            if self._process.poll() is not None:
                return self._api.answer(0.2)

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> int:
        code = self._process.wait()
        self._api.close()
        return code


class _OwnLoop:
    """In ``function.py``: an invocation is a line that it is given, an answer a line that it gives."""

    def __init__(self, code: str, handler: str, environment: dict[str, str], log: int) -> None:
        self._process = subprocess.Popen(
            [os.environ.get("FUNCTION_PYTHON") or sys.executable, "-P", str(_FUNCTION), code, handler],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            cwd=code,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout

    def started(self) -> bytes | None:
        ready = self._out.readline()
        return None if ready == "{}\n" else (ready or "{}").encode()

    def answer(self, invocation: Invocation) -> Answer | None:
        line = {
            "id": invocation.id,
            "arn": invocation.arn,
            "payload": invocation.payload.decode(),
            "ends_at": invocation.ends_at,
        }
        try:
            self._in.write(json.dumps(line) + "\n")
            self._in.flush()
        except BrokenPipeError:
            return None
        text = self._out.readline()
        if not text.endswith("\n"):
            return None
        answer = json.loads(text)
        return Answer(answer["payload"].encode(), answer["is_error"])

    def kill(self) -> None:
        self._process.kill()

    def wait(self) -> int:
        return self._process.wait()

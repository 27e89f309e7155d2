"""python function.py CODE HANDLER

What runs in a function's own process, by the standard library only. It imports ``module.name`` from the folder CODE, says "{}",
and then answers each invocation, a line of JSON, by a line of JSON. What the function prints goes to stderr.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import IO, Any

__all__: list[str] = []


class Context:
    """Lambda's context object, as its Python runtime has it."""

    def __init__(self, invocation: dict[str, Any]) -> None:
        self.aws_request_id = invocation["id"]
        self.invoked_function_arn = invocation["arn"]
        self.function_name = os.environ["AWS_LAMBDA_FUNCTION_NAME"]
        self.function_version = os.environ["AWS_LAMBDA_FUNCTION_VERSION"]
        self.memory_limit_in_mb = os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]
        self.log_group_name = os.environ["AWS_LAMBDA_LOG_GROUP_NAME"]
        self.log_stream_name = os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
        self.client_context = None
        self.identity = None
        self._ends_at = invocation["ends_at"]

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._ends_at - time.time()) * 1000))


def main() -> None:
    # The function's own prints must not be taken for answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    code, handler = sys.argv[1:]
    sys.path.insert(0, code)
    try:
        module, _, name = handler.rpartition(".")
        function = getattr(importlib.import_module(module.replace("/", ".")), name)
    except Exception as error:  # noqa: BLE001  # Whatever it is, it is the answer.
        _write(answers, _described(error))
        return
    _write(answers, {})
    for line in sys.stdin:
        _write(answers, _answer(function, json.loads(line)))


def _answer(function: Callable[[Any, Any], Any], invocation: dict[str, Any]) -> dict[str, Any]:
    try:
        return {
            "payload": json.dumps(function(json.loads(invocation["payload"]), Context(invocation))),
            "is_error": False,
        }
    except Exception as error:  # noqa: BLE001  # As Lambda's runtime does.
        traceback.print_exc()
        return {"payload": json.dumps(_described(error)), "is_error": True}


def _described(error: Exception) -> dict[str, Any]:
    trace = traceback.format_exception(error)
    return {"errorMessage": str(error), "errorType": type(error).__name__, "stackTrace": trace}


def _write(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()

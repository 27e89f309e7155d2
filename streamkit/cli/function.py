"""The function that is named on a command line, as ``orders:handler``."""

from __future__ import annotations

import argparse
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import StreamkitError
from ..reason import reason
from .usage import UsageError

__all__ = ["handler_name", "load", "name_of"]


def handler_name(text: str) -> str:
    """For argparse: a name that ``load`` takes."""
    module, colon, attribute = text.partition(":")
    if not (module and colon and attribute):
        raise argparse.ArgumentTypeError(f"write it as MODULE:HANDLER, for instance orders:handler; got {text!r}")
    if module.startswith(".") or "/" in module or module.endswith(".py"):
        raise argparse.ArgumentTypeError(
            f"write the module's dotted name without .py, as orders:handler or app.orders:handler; got {text!r}"
        )
    return text


def load(name: str) -> Callable[[Any, Any], Any]:
    """The function at ``module:attribute``, looked for in the current folder too."""
    sys.path.insert(0, "")
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            # The module is there; what it imports is not.
            raise StreamkitError(f"{module_name} can't be loaded: {reason(error)}") from error
        raise UsageError(f"there is no module {module_name} here or among what is installed") from None
    except StreamkitError:
        raise
    except Exception as error:
        raise StreamkitError(f"{module_name} can't be loaded:\n{_traceback(error)}") from error
    function: Any = getattr(module, attribute, None)
    if not callable(function):
        raise UsageError(f"{module_name} has no function {attribute!r}: `{attribute} = lambda_handler(…)`")
    if isinstance(function, type):
        raise UsageError(
            f"{name} is a class: write `handler = lambda_handler({attribute})` in {module_name}, and run {module_name}:handler"
        )
    if inspect.iscoroutinefunction(function):
        raise UsageError(f"{name} is `async def`, which Lambda's Python runtime does not run: make it a plain function")
    return function  # type: ignore[no-any-return]  # Any callable is taken for a handler, as Lambda does.


def name_of(function: Callable[[Any, Any], Any], handler: str) -> str:
    """What a function is called where nobody names it: as its processor, or as ``handler``, where it was loaded from."""
    name: str = getattr(getattr(function, "processor", None), "name", handler)
    return name


def _traceback(error: Exception) -> str:
    """The frames of the user's code, and the error: what lies between is this command's and importlib's."""
    shown = traceback.TracebackException.from_exception(error)
    ours = str(Path(__file__).parents[1])
    shown.stack = traceback.StackSummary.from_list(
        frame for frame in shown.stack if not frame.filename.startswith((ours, importlib.__path__[0], "<frozen "))
    )
    return "".join(shown.format()).rstrip()

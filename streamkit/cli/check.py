"""``streamkit check``: what is wrong, or has a cost, in how a function is set up, before anything runs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import StreamkitError
from ..finding import Finding, cost_of_no_name
from ..plural import counted
from ..reason import reason
from .function import handler_name, load
from .terminal import say

if TYPE_CHECKING:
    from ..processor import RecordProcessor

__all__ = ["DESCRIPTION", "EPILOG", "NAME", "SUMMARY", "add_options", "command"]

NAME = "check"
SUMMARY = "tell what is wrong, or has a cost, in how a function is set up"
DESCRIPTION = """\
Look at a function as it is written: its processor, or the branches of its fan-out, their names, policies and progress. Nothing is
run and no service is asked, but the processors are made, as on the first invocation."""
EPILOG = """\
examples:
  streamkit check orders:handler
      the `handler = lambda_handler(…)` of orders.py

A line for each finding, on stdout: `error` is what can't be right, `warning` a cost to know of.

exit code: 0 when there is no error, 1 where there is one, or the function can't be loaded."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("handler", metavar="MODULE:HANDLER", type=handler_name, help="as orders:handler for orders.py")


def command(options: argparse.Namespace) -> int:
    from ..handler import Handler

    function = load(options.handler)
    if not isinstance(function, Handler):
        raise StreamkitError(f"{options.handler} was not made by lambda_handler, so nothing is known of it")
    try:
        findings = _findings(function.processor)
    except Exception as error:
        raise StreamkitError(f"{options.handler} can't be made: {reason(error)}") from error
    finally:
        function.close()
    for finding in findings:
        print(f"{finding.severity}: {finding.where}: {finding.message}")
    errors = sum(finding.severity == "error" for finding in findings)
    say(f"{counted(errors, 'error')}, {counted(len(findings) - errors, 'warning')}")
    return 1 if errors else 0


def _findings(processor: RecordProcessor) -> list[Finding]:
    from ..fanout import FanOut

    if isinstance(processor, FanOut):
        return processor.findings()
    cost = cost_of_no_name(processor)
    return [] if cost is None else [cost]

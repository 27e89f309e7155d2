"""``streamkit check``: what is wrong, or has a cost, in how a function is set up and deployed, before anything runs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import StreamkitError
from ..plural import counted
from ..reason import reason
from .connection import add_connection, connected
from .function import handler_name, load
from .terminal import flush, printable, say, write
from .usage import UsageError, named, typed

if TYPE_CHECKING:
    from ..checks.deployed import Account
    from ..checks.deployment import Deployment
    from ..checks.unknown import Unknowns
    from ..finding import Finding
    from ..processor import RecordProcessor

__all__ = ["DESCRIPTION", "EPILOG", "NAME", "SUMMARY", "add_options", "command"]

NAME = "check"
SUMMARY = "tell what is wrong, or has a cost, in how a function is set up and deployed"
DESCRIPTION = """\
Look at a function as it is written: its processor, or the branches of its fan-out, their names, policies and progress. With
--template or --deployed, compare it with how it is to be deployed, or is: event source mappings, time-out, queues, tables and
permissions. Nothing is run, but the processors are made, as on the first invocation, with the function's own environment
variables in place of this shell's. Without --deployed no service is asked."""
EPILOG = """\
examples:
  streamkit check orders:handler
      the `handler = lambda_handler(…)` of orders.py
  streamkit check orders:handler --template template.yaml --parameter Stage=prod
      the function of a SAM or CloudFormation template whose Handler is orders.handler
  streamkit check orders:handler --deployed orders
      the function as it runs in AWS; `orders:live` is its alias live

A line for each finding, on stdout: `error` is what can't be right, `warning` a cost to know of, `note` how it is, or what could
not be looked into. Each names the line to change, or the call.

exit code: 0 when there is no error, 1 where there is one, or the function can't be loaded, 2 for what was typed wrong."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("handler", metavar="MODULE:HANDLER", type=handler_name, help="as orders:handler for orders.py")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--template", type=named, metavar="FILE", help="a SAM or CloudFormation template, YAML or JSON")
    how.add_argument("--deployed", type=named, metavar="FUNCTION[:ALIAS]", help="a function in AWS, read by its API")
    parser.add_argument("--function", type=named, metavar="LOGICAL_ID", help="which of the template's functions it is")
    parser.add_argument(
        "--parameter",
        type=_parameter,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the template, AWS::Region and AWS::AccountId too; by default what it says itself",
    )
    parser.add_argument("--json", action="store_true", help="one object a line: severity, where, message")
    add_connection(parser)


def command(options: argparse.Namespace) -> int:
    if options.template is None and (options.function or options.parameter):
        raise UsageError("--function and --parameter are about a template: add --template FILE")
    with _source(options) as source:
        findings = _findings(options.handler, source)
    for finding in findings:
        if options.json:
            write(msgspec.json.encode(finding).decode() + "\n")
        else:
            write(f"{finding.severity}: {printable(finding.where)}: {printable(finding.message)}\n")
    flush()
    errors, warnings, notes = (
        sum(finding.severity == severity for finding in findings) for severity in ("error", "warning", "note")
    )
    say(
        f"{counted(errors, 'error')}, {counted(warnings, 'warning')}" + (f", {counted(notes, 'note')}" if notes else "")
    )
    return 1 if errors else 0


class _Source:
    """How the function is deployed. ``account`` reads what its processor turns out to use."""

    def __init__(self, deployment: Deployment, unknowns: Unknowns, account: Account | None = None) -> None:
        self.deployment = deployment
        self.unknowns = unknowns
        self.account = account


@contextmanager
def _source(options: argparse.Namespace) -> Iterator[_Source | None]:
    if options.template is not None:
        from ..checks.template import read_template

        parameters = dict(options.parameter)
        if options.region is not None:
            parameters.setdefault("AWS::Region", options.region)
        with typed():
            read = read_template(
                options.template,
                options.handler.replace(":", "."),
                function=options.function or "",
                parameters=parameters,
            )
        yield _Source(*read)
    elif options.deployed is not None:
        from ..checks.deployed import Account
        from ..checks.unknown import Unknowns

        with ExitStack() as stack:
            account = Account(
                lambda service: stack.enter_context(connected(options, options.deployed, service, noun="function")),
                options.deployed,
            )
            yield _Source(account.deployment(), Unknowns(), account)
    else:
        yield None


def _findings(name: str, source: _Source | None) -> list[Finding]:
    from ..checks.rules import findings_of_code, findings_of_deployment, parts_of_all

    if source is None:
        with _made(name) as processor, _told(name):
            return findings_of_code(processor)

    from ..checks.environment import function_environment

    deployment = source.deployment
    with function_environment(deployment.function.environment, deployment.home):
        with _made(name, source) as processor:
            with _told(name, source):
                findings = findings_of_code(processor)
                parts = parts_of_all(processor, deployment)
    if source.account is not None:
        deployment = source.account.completed(deployment, parts)
    findings += findings_of_deployment(processor, parts, deployment, source.unknowns, handler=name.replace(":", "."))
    return sorted(findings, key=lambda finding: ("error", "warning", "note").index(finding.severity))


@contextmanager
def _made(name: str, source: _Source | None = None) -> Iterator[RecordProcessor]:
    """The handler's processor, closed at the end."""
    from ..handler import Handler
    from ..loops.function import LoopFunction

    function: Any = load(name)
    if isinstance(function, LoopFunction):
        if source is not None:
            raise StreamkitError(
                f"{name} is a loop over a queue, and nothing is known of how one has to be deployed: check its code alone, "
                "without --template and --deployed"
            )
        function = function.function
    if not isinstance(function, Handler):
        raise StreamkitError(f"{name} was not made by lambda_handler, so nothing is known of it")
    try:
        with _told(name, source):
            processor = function.processor
        yield processor
    finally:
        function.close()


@contextmanager
def _told(name: str, source: _Source | None = None) -> Iterator[None]:
    """What the user's own constructors raise, with the variables that they may have stumbled over."""
    from ..checks.unknown import is_known

    try:
        yield
    except Exception as error:
        message = f"{name} can't be made: {reason(error)}"
        if source is not None:
            variables = source.deployment.function.environment
            unknown = [f"{name} is {value}" for name, value in variables.items() if not is_known(value)]
            message = source.unknowns.shown(message)
            if unknown:
                told = source.unknowns.shown(", ".join(unknown))
                message += f" (of its variables the template does not tell: {told}; --parameter gives a value)"
        raise StreamkitError(message) from error


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"write it as NAME=VALUE, for instance Stage=prod; got {text!r}")
    return name, value

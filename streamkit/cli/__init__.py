"""The command ``streamkit``: see ``streamkit --help``, and docs/cli.md.

Each command has a module of its own here, which adds itself to the parser and imports what it needs only when it runs. All of
them end with 0, with 1 for what went wrong and 2 for what was typed wrong; ``lag`` and ``parked`` keep 1 for their own answers.
What was asked for goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import StreamkitError
from . import check, console, dead_letters, kcl, lag, new, package, parked, put, redrive, run, tail
from .terminal import say, to_nowhere
from .usage import UsageError

__all__ = ["main"]

_DESCRIPTION = """\
Work with Kinesis streams and the functions that read them."""
_EPILOG = """\
A first session, against a local endpoint or AWS alike:

  export AWS_ENDPOINT_URL=http://localhost:4566          # leave it out for AWS
  streamkit put orders orders.jsonl --json-key customer  # a record for each line
  streamkit tail orders --from TRIM_HORIZON --limit 10   # look at some
  streamkit run orders:handler --stream orders           # your function, from the oldest record on
  streamkit lag orders --name orders --max 60            # is the reader behind?

`streamkit COMMAND --help` tells the rest.
"""
_TYPED_WRONG = 2
_INTERRUPTED = 128 + 2
_PIPE_CLOSED = 128 + 13


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that ``arguments`` name (the process's own by default) and return its exit code."""
    parser = _parser()
    options = _parsed(parser, arguments)
    command: Callable[[argparse.Namespace], int] | None = getattr(options, "command", None)
    if command is None:
        parser.print_help()
        return 0
    try:
        return command(options)
    except UsageError as error:
        say(f"streamkit: {error}")
        return _TYPED_WRONG
    except StreamkitError as error:
        say(f"streamkit: {error}")
        return int(options.error_code)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has enough, as `head` has.
        to_nowhere(sys.stdout)
        return _PIPE_CLOSED


def _parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """``parser.parse_args``, but for files, which may stand after options too: argparse takes them in one place only."""
    options, left = parser.parse_known_args(arguments)
    if left and (not hasattr(options, "files") or any(one.startswith("-") and one != "-" for one in left)):
        # The command's own usage helps, and not that of all commands.
        getattr(options, "parser", parser).error(f"unrecognized arguments: {' '.join(left)}")
    if left:
        options.files = [*options.files, *left]
    return options


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("streamkit", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=form)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and end")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for module in (run, kcl, put, tail, lag, dead_letters, redrive, parked, console, new, check, package):
        command = commands.add_parser(
            module.NAME,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=module.EPILOG,
            formatter_class=form,
        )
        command.set_defaults(command=module.command, parser=command, error_code=1)
        module.add_options(command)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version  # 10 ms, which no other command pays for.

        parser.exit(0, f"streamkit {version('kinesis-streamkit')}\n")

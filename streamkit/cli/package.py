"""``streamkit package``: a function and what it imports, as a zip for Lambda."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from .terminal import say
from .usage import UsageError

__all__ = ["DESCRIPTION", "EPILOG", "NAME", "SUMMARY", "add_options", "command"]

NAME = "package"
SUMMARY = "build a function's zip for Lambda: reproducible, for arm64 or x86-64, without Docker"
DESCRIPTION = """\
Build a zip from a module of this folder: the modules that it imports, streamkit's among them, the packages of a lock file as
wheels for Lambda, and bytecode for all of it. The same sources give the same bytes."""
EPILOG = """\
examples:
  uv pip compile --generate-hashes --python-version 3.13 requirements.in -o requirements.txt
  streamkit package orders --requirements requirements.txt
      dist/orders-arm64.zip, with the handler orders.handler

The lock file has every package that the function needs, but for streamkit, of which the zip gets what is imported, and boto3,
which Lambda's runtime brings. The function has to run on the version of Python that --python is.

exit code: 0 when it is built, 1 when it can't be, 2 for wrong usage."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("module", metavar="MODULE", type=_module, help="as orders for orders.py, or app.orders")
    parser.add_argument("--requirements", metavar="FILE", type=Path, help="the lock file; without it no packages")
    parser.add_argument("--architecture", choices=("arm64", "x86_64"), default="arm64", help="(arm64)")
    parser.add_argument("--out", metavar="FILE", type=Path, help="(dist/MODULE-ARCHITECTURE.zip)")
    parser.add_argument(
        "--python", metavar="PROGRAM", default=sys.executable, help="a Python of the function's version (this one)"
    )
    parser.add_argument(
        "--import",
        dest="also",
        metavar="MODULE",
        action="append",
        default=[],
        help="a module that is imported by a name made at run time",
    )
    parser.add_argument(
        "--bytecode-only",
        action="store_true",
        help="the lock file's packages without sources, docstrings and assertions: smaller; tracebacks show none of their lines",
    )


def command(options: argparse.Namespace) -> int:
    from ..packaging import build

    if options.requirements is not None and not options.requirements.is_file():
        raise UsageError(f"there is no file {options.requirements}")
    out = options.out or Path("dist") / f"{options.module}-{options.architecture}.zip"
    package = build(
        [options.module, *options.also],
        out,
        architecture=options.architecture,
        requirements=options.requirements,
        python=options.python,
        bytecode_only=options.bytecode_only,
    )
    print(package.path)
    say(f"{package.size / 1e6:.2f} MB, {package.unzipped / 1e6:.2f} MB unzipped, sha256 {package.sha256}")
    return 0


def _module(text: str) -> str:
    if re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", text) is None or text.endswith(".py"):
        raise argparse.ArgumentTypeError(
            f"write the module's dotted name without .py, as orders or app.orders; got {text!r}"
        )
    return text

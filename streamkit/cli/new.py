"""``streamkit new``: a small project that is whole: a processor, its tests, a template, and what builds and deploys it."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import StreamkitError
from .terminal import say, write
from .usage import named, typed

__all__ = ["DESCRIPTION", "EPILOG", "NAME", "SUMMARY", "add_options", "command"]

NAME = "new"
SUMMARY = "write a small project: a processor, its tests, a template, a Makefile, a README"
DESCRIPTION = """\
Write a small project for a function on a stream: a processor with a retry queue and dead letters, its tests, a SAM template with
all that production needs, a Makefile, a README and a workflow for CI."""
EPILOG = """\
examples:
  streamkit new orders
      into the folder orders, with orders.py; `make test` there makes the rest
  streamkit new paid-orders --folder services/paid
      paid_orders.py, with the class PaidOrders

NAME begins with a letter from a to z, and has up to 29 more letters, digits, - and _. It is the processor's name too, which keys
stored state, so choose it once. Nothing is written into a folder that has something in it. The function will run on the version
of Python that this command runs on, where Lambda has it.

exit code: 0 when it is written, 1 when it can't be, 2 for what was typed wrong."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="as orders")
    parser.add_argument("--folder", metavar="PATH", type=named, help="where to write it (a folder NAME, here)")


def command(options: argparse.Namespace) -> int:
    from ..new.project import Project

    folder = Path(options.folder or options.name)
    try:
        with typed():
            written = Project(options.name).write(folder)
    except OSError as error:
        raise StreamkitError(f"it can't be written: {error.filename}: {error.strerror}") from error
    write("".join(f"{path}\n" for path in written))
    say(f"next: cd {folder} && make test; README.md has the rest")
    return 0

"""python deploy/sam_validate.py TEMPLATE ...: ``sam validate`` of each, in one process: to start it takes longer than to look.

Runs in the environment of the SAM CLI (validate.py). Ends with 1 where one is wrong.
"""

from __future__ import annotations

import sys

__all__ = ["main"]


def main(templates: list[str]) -> int:
    import click
    from samcli.cli.main import cli

    found = 0
    for template in templates:
        try:
            cli.main(args=["validate", "--template", template], prog_name="sam", standalone_mode=False)
        except click.ClickException as error:
            print(f"{template}: {error.format_message()}", flush=True)
            found = 1
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
